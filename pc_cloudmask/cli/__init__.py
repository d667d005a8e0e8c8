"""The ``cloudmask`` command, one module per group of commands.

Each command imports what it needs when it runs, so that ``--help`` is instant. ``main`` is the entry point.
"""

from __future__ import annotations

from pc_cloudmask.cli.main import main

__all__ = ["main"]
