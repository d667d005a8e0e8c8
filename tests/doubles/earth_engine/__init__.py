"""A local Earth Engine: the server that an unmodified ``ee`` client talks to in tests.

    server.py      LocalEarthEngine: starts, logs requests, stops
    routes.py      the REST paths of the client's discovery document
    faults.py      what may go wrong, and when
    requests.py    the log of what was asked
    world.py       the image collections and their pixels
    sentinel2.py   a product as one image in each of four collections
    scenes.py      ragged synthetic Sentinel-2 scenes of known sun
    graph.py       evaluates a serialised expression
    signatures.py  argument names, types and defaults, read from the client's own algorithms.json
    functions/     what each algorithm does
    coercion.py    values as the declared types
    images.py      lazy images: bands that compute their pixels for a window when asked
    values.py      dates, filters, reducers, kernels, joins
    geometries.py  geometries with their CRS
    grids.py       projections and windows on their lattices
    pyramid.py     stored rasters with their overview levels
    downloads.py   pixels as NPY, GeoTIFF or ZIP
    results.py     values as the JSON of ``getInfo``

Semantics are those of Earth Engine's documentation. Where it says nothing, the rule taken stands in
the docstring of the module that needs it.
"""
