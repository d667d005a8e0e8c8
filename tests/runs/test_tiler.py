"""Items that link their mask as map tiles: the setting, the link, and what reads the item again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pystac
import pytest

from pc_cloudmask.catalog.check import CheckOptions, check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.item import WEB_MAP_LINKS_URI
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.settings import read_settings
from pc_cloudmask.viewing.library import find_items
from tests.catalog.items import derive
from tests.direct_runs import run_directly
from tests.offline_validator import OfflineValidator

PUBLIC_URL = "https://masks.example.com/s2"
TILES = "https://titiler.example.com/cog/tiles/WebMercatorQuad/{z}/{x}/{y}"
TILER_URL = f"{TILES}.png?url={{url}}&resampling=nearest"


@pytest.mark.parametrize(
    "template",
    [TILER_URL, f"{TILES}@2x.webp?bidx=1&url={{url}}", "http://localhost:8000/{url}/{z}/{x}/{y}.png"],
)
def test_a_template_is_taken_as_it_is(template: str) -> None:
    assert read_settings(tiler_url=template, public_url=PUBLIC_URL).tiler_url == template


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        (f"{TILES}.png", r"\{z\}, \{x\}, \{y\} and \{url\}"),
        ("https://titiler.example.com/{z}/{x}?url={url}", r"\{y\}"),
        (f"{TILES}{{s}}?url={{url}}", "no other braces"),
        (f"{TILES}?url={{url}}&url={{url}}", "once"),
        (f"{TILES}?url={{url}}&rescale={{", "no other braces"),
        ("ftp://titiler.example.com/{z}/{x}/{y}?url={url}", "https://"),
        ("https://{url}/{z}/{x}/{y}", "host"),
        ("https:///{z}/{x}/{y}?url={url}", "host"),
        ("https://user:secret@host/{z}/{x}/{y}?url={url}", "user"),  # pragma: allowlist secret
        (f"{TILES}?url={{url}}&access_token=secret", "token"),
        (f"{TILES}?token=secret={{url}}", "token"),
        (f"{TILES}?url={{url}}&sig=secret", "signature"),
        (f"{TILES}?url={{url}}#secret", "fragment"),
        (f"{TILES}?url={{url}}\n", "blank"),
        ("", "hold"),
    ],
)
def test_a_template_that_cannot_be_published_is_refused_in_one_line(template: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"^tiler_url: .*must .*{hint}") as caught:
        read_settings(tiler_url=template, public_url=PUBLIC_URL)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_a_tiler_needs_a_public_url() -> None:
    with pytest.raises(SettingsError, match=r"CLOUDMASK_TILER_URL.* needs CLOUDMASK_PUBLIC_URL") as caught:
        read_settings(tiler_url=TILER_URL)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("end", "media_type"), [(".png", "image/png"), ("@2x.JPG", "image/jpeg"), ("", None), (".pbf", None)]
)
def test_the_link_leads_to_tiles_of_the_mask(
    end: str, media_type: str | None, stac_validator: OfflineValidator
) -> None:
    context = CatalogContext(PUBLIC_URL)
    plain, item = derive(context=context), derive(context=context, tiler_url=f"{TILES}{end}?url={{url}}")
    *links, link = item["links"]
    assert item == {
        **plain,
        "links": [*links, link],
        "stac_extensions": [*plain["stac_extensions"], WEB_MAP_LINKS_URI],
    }
    assert links == plain["links"]
    assert (link["rel"], link.get("type")) == ("xyz", media_type)
    assert link["title"]
    assert link["href"].startswith(f"{TILES}{end}?url=https%3A%2F%2Fmasks.example.com%2Fs2%2F")
    assert parse_qs(urlsplit(link["href"]).query) == {"url": [plain["assets"]["cloudmask"]["href"]]}
    pystac.validation.validate_dict(item, validator=stac_validator)


@pytest.mark.usefixtures("fixed_clock")
def test_a_tiler_below_the_public_url_is_no_part_of_the_catalog(
    served_items: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiler_url = f"{PUBLIC_URL}/tiles/{{z}}/{{x}}/{{y}}.png?url={{url}}"
    monkeypatch.setenv("CLOUDMASK_PUBLIC_URL", PUBLIC_URL)
    monkeypatch.setenv("CLOUDMASK_TILER_URL", tiler_url)
    request = IngestRequest(items=served_items, store=str(tmp_path), limit=1)
    assert run_directly(request).published
    monkeypatch.delenv("CLOUDMASK_TILER_URL")
    assert not run_directly(request).published
    store = RunContext.of(request).store
    for repair in (False, True):
        report = check_catalog(
            store,
            CatalogContext(PUBLIC_URL),
            repair=repair,
            now=RunContext.of(request).now,
            options=CheckOptions(),
        )
        assert not report.findings
    (item,) = find_items(store=str(tmp_path))
    (link,) = item.get_links("xyz")
    assert link.href.startswith(tiler_url.partition("{")[0])
    assert item.assets["cloudmask"].href.startswith(str(tmp_path))
