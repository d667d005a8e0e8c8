"""The published catalog: layout, documents, publishing, check and repair, search, mirror.

Entry points: ``publisher.Publisher`` publishes, links, withdraws and recovers items; ``check.check_catalog`` verifies
the catalog and repairs it; ``search`` finds published items; ``mirror`` maintains a geoparquet copy; ``export`` writes
what GDAL, QGIS and pgstac read; ``states`` holds what writers share, and the scenes that are waiting or failed;
``walk`` traverses the tree; ``layout`` names the keys.
"""
