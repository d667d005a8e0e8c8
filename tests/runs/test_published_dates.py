"""A published item that says nothing usable of when it was first published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.runs.candidate import Candidate, read_candidate
from tests.catalog.items import make_source_item


@pytest.mark.parametrize(
    "created",
    [
        None,
        7,
        "garbage",
        "",
        "2020-01-01",
    ],
)
def test_a_date_that_cannot_be_read_counts_as_none(created: Any) -> None:
    candidate: Candidate = read_candidate(make_source_item(), {"csmask": MaskParameters()})
    assert replace(candidate, published={"properties": {"created": created}}).created is None
