"""Masks from Earth Engine, and the inputs to make them here.

Entry points: ``session.EarthEngineSession``; ``images.ImageFinder`` pairs scenes with images; ``graphs`` builds the
expressions; ``download.ComputePixels`` downloads a raster on a scene's grid window by window, and ``Gees2Downloader``
does the same through the package GEES2Downloader; ``windows`` estimates its cost. ``transport`` classifies a 429 or
another error, ``session`` retries, ``pacing`` limits the rate and the requests in flight. Only this folder imports
``ee``.
"""
