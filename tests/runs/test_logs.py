"""The log's lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from pc_cloudmask.runs.report import Phase, PhaseClock, configure_logs, run_id

SIGNED = "https://account.blob.core.windows.net/x.tif?sv=2024&se=2026-01-01&sig=abc%2Fdef"
SECRETS = (
    SIGNED,
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101, Signature=0123abcd",
    "{'Authorization': 'Bearer ya29.token-of-google'}",
    "Ocp-Apim-Subscription-Key: 0123456789abcdef",
    "the key is planted-secret-value",
)
MUST_NOT_SHOW = ("abc%2Fdef", "0123abcd", "ya29.token-of-google", "0123456789abcdef", "planted-secret-value")
logger = logging.getLogger("flows.test")


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is written to stderr in the format that the test names."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    with redirect_stderr(stream):
        configure_logs(logging.DEBUG, lambda: ["planted-secret-value", ""], request.param)
        yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_a_line_says_which_run_item_and_phase(written: io.StringIO) -> None:
    run_id.set("run-1")
    clock = PhaseClock("scene-1")
    with clock.measure(Phase.ENCODE):
        logger.info("writing %d files", 3)
    logger.warning("done")
    inside, outside = map(json.loads, written.getvalue().splitlines())
    assert (inside["run"], inside["item"], inside["phase"]) == ("run-1", "scene-1", "encode")
    assert (inside["level"], inside["message"]) == ("info", "writing 3 files")
    assert "item" not in outside
    assert clock.seconds.keys() == {Phase.ENCODE}
    run_id.set("")


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_text_names_item_and_phase(written: io.StringIO) -> None:
    with PhaseClock("scene-1").measure(Phase.DERIVE):
        logger.info("asking")
    assert written.getvalue() == "INFO flows.test [scene-1 derive]: asking\n"


@pytest.mark.parametrize("written", ["text", "json"], indirect=True)
def test_no_secret_is_shown_not_even_in_a_traceback(written: io.StringIO) -> None:
    for text in SECRETS:
        logger.info("heard %s", text)
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception("failed")
    for secret in MUST_NOT_SHOW:
        assert secret not in written.getvalue()
    assert "account.blob.core.windows.net/x.tif" in written.getvalue()


@pytest.mark.parametrize("written", ["json"], indirect=True)
def test_each_record_is_one_line_of_json(written: io.StringIO) -> None:
    logger.info("two\nlines")
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert len(lines) == 2
    assert "ValueError: x" in lines[1]["error"]
