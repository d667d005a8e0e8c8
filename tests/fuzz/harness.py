"""The process that fuzzes one target: ``python -m tests.fuzz.harness TARGET [libFuzzer's options]``."""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["pc_cloudmask", "pystac_client"]):
    from tests.fuzz.targets import run_target


def main() -> None:
    """Fuzz as long as libFuzzer's options say, or until something else than our own errors comes out."""
    logging.disable(logging.CRITICAL)
    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: run_target(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
