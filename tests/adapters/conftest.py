"""Fixtures of the adapters' tests."""

from __future__ import annotations

from tests.sample_archive import sample_items

__all__ = ["sample_items"]
