"""The catalog over HTTP: files with CORS and byte ranges, STAC Browser on the same port."""
