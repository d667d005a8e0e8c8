"""The published catalog: layout, documents, publishing, check and repair, search, mirror.

Entry points: ``publisher.Publisher`` publishes, links, withdraws and recovers; ``check.check_catalog`` proves the
catalog sound or repairs it; ``search`` finds what is published; ``mirror`` keeps it as geoparquet; ``states``
remembers scenes that wait or failed; ``walk`` leads through the tree; ``layout`` says which key holds what.
"""
