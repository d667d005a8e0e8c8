"""Figures of this package and of its peers: `python -m benchmarks.NAME`."""
