from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.fields import PUBLISHED_URIS, merge_extensions
from stac_ext.cloudmask import SCHEMA_URI

BASE = "https://stac-extensions.github.io"
FILE_2_0 = f"{BASE}/file/v2.0.0/schema.json"
FILE_2_1 = f"{BASE}/file/v2.1.0/schema.json"
FILE_2_10 = f"{BASE}/file/v2.10.0/schema.json"
EO = f"{BASE}/eo/v1.0.0/schema.json"


@pytest.mark.parametrize(
    ("source", "ours", "merged"),
    [
        ([], [FILE_2_1], [FILE_2_1]),
        ([EO], [FILE_2_1], [EO, FILE_2_1]),
        ([FILE_2_0, EO], [FILE_2_1], [EO, FILE_2_1]),
        ([FILE_2_10, EO], [FILE_2_1], [FILE_2_10, EO]),
        ([FILE_2_1, EO], [FILE_2_1], [FILE_2_1, EO]),
        ([EO, EO], [], [EO]),
        (
            ["eo", "file", "https://example.com/x"],
            [FILE_2_1],
            ["eo", "file", "https://example.com/x", FILE_2_1],
        ),
        (["https://example.com/file/v9.0.0/schema.json"], [FILE_2_1], None),
    ],
)
def test_of_each_extension_the_newest_version_is_listed(
    source: list[str], ours: list[str], merged: list[str] | None
) -> None:
    assert merge_extensions(source, ours) == (source + ours if merged is None else merged)


uris = st.lists(
    st.builds(
        f"{BASE}/{{}}/v{{}}.{{}}.0/schema.json".format,
        st.sampled_from(["eo", "file", "projection"]),
        st.integers(0, 3),
        st.integers(0, 12),
    )
    | st.text(max_size=5)
)


@pytest.mark.slow
@given(uris)
def test_every_extension_is_listed_once(source: list[str]) -> None:
    merged = merge_extensions(source, PUBLISHED_URIS)
    names = [uri.split("/v")[0] for uri in merged if uri.startswith("https://")]
    assert len(names) == len(set(names))
    assert set(merged) <= {*source, *PUBLISHED_URIS}
    assert SCHEMA_URI in merged
    assert merge_extensions(merged, PUBLISHED_URIS) == merged


def test_what_is_published_is_listed_with_its_version() -> None:
    assert all(re.fullmatch(r"https://\S+/v\d+\.\d+\.\d+/schema\.json", uri) for uri in PUBLISHED_URIS)
