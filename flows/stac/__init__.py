"""STAC documents as pure values: in from the source, out to the catalog. No I/O, no clock."""
