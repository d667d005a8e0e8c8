"""The version of pc-cloudmask."""

__version__ = "0.1.0"
