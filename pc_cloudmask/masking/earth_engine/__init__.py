"""Masks from Earth Engine, and the inputs to make them here.

Entry points: ``session.open_session``; ``images.ImageFinder`` pairs scenes with images; ``graphs`` builds the
expressions; ``download.ComputePixels`` downloads a raster on a scene's grid window by window, and
``gees2downloader`` the same through the package GEES2Downloader; ``windows`` says what that takes. ``failures``
tells what a 429 or another error means, ``session`` tries again, ``pacing`` says how fast and how often.
Only this folder, and the methods that use it, import ``ee``.
"""
