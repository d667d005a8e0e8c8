"""Objects under keys: a folder, an S3 bucket, or a web server to read from.

Entry points: ``stores.open_store`` and ``stores.open_reader`` open what a URL names; ``store.ObjectStore`` is
what every store promises.
"""
