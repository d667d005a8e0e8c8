"""Masks from Earth Engine, and the inputs to make them here.

Entry points: ``session.EarthEngineSession``; ``images.ImageFinder`` pairs scenes with images; ``graphs`` builds the
expressions; ``download.ComputePixels`` downloads a raster on a scene's grid window by window, and ``Gees2Downloader``
does the same through the package GEES2Downloader; ``windows`` says what that takes. ``transport`` classifies a 429 or
another error, ``session`` retries, ``account`` says how fast and how often.
Only this folder, and the methods that use it, import ``ee``.
"""
