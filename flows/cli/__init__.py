"""The `cloudmask` command; each command imports what it needs when it runs, so `--help` is instant."""

from __future__ import annotations

from flows.cli.app import main

__all__ = ["main"]
