"""``python -m pc_cloudmask``."""

from __future__ import annotations

from pc_cloudmask.cli.main import main

if __name__ == "__main__":  # a worker process that Dask starts imports this module again
    main()
