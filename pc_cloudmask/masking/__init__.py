"""How a mask is made: the algorithm, the table of methods, one module per method, and Earth Engine.

Entry points: ``methods`` is the table; ``s2cloudless``, ``cloud_score_plus``, ``csmask`` and ``omnicloudmask``
are the methods; ``clouds_and_shadows`` applies thresholds and the sun's azimuth, and makes the classes of every
mask; ``classes`` defines them and counts their pixels, ``files`` reads an item's bands and writes a mask as COG and
preview. The arithmetic (``clouds_and_shadows``, ``classes``) does no I/O. ``earth_engine`` communicates with Earth
Engine.
"""
