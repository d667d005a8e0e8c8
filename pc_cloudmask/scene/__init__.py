"""What a Sentinel-2 scene is: its ids, grid, geometry, query, and the Earth Engine image that belongs to it.

Entry points: ``scene.Scene``; ``query.build_query``; ``grid.Grid``; ``image.ImageKey``, the name that an Earth Engine
image must have to belong to a scene. No I/O, no clock.
"""
