"""Figures of this package beside those of its peers: `python -m benchmarks.NAME`."""
