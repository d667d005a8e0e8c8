"""Which errors of a scene Prefect tries again."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Failed

from flows.errors import AssetRefused, EngineUnavailable
from flows.prefect_runs.runner import publish_scene


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (Failed(data=EngineUnavailable("quota")), True),
        (Failed(data=AssetRefused("too large")), False),
        (Failed(data=ZeroDivisionError("ours")), False),
    ],
)
def test_only_what_may_pass_is_tried_again(state: Any, again: bool) -> None:
    assert publish_scene.retry_condition_fn is not None
    assert publish_scene.retry_condition_fn(publish_scene, None, state) is again
