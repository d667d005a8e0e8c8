"""The Cloudmask STAC extension: ``cloudmask`` is its pystac class, ``json-schema`` what it specifies."""
