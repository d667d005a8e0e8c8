"""``python -m pc_cloudmask``."""

from __future__ import annotations

from pc_cloudmask.cli import main

if __name__ == "__main__":  # Dask's worker processes import this module again
    main()
