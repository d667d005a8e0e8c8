"""Objects under keys: a folder, an S3 bucket, or a read-only web server.

Entry points: ``stores.open_store`` and ``stores.open_reader`` open the store at a URL; ``store.ObjectStore`` is the
protocol that every store implements.
"""
