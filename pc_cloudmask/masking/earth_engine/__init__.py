"""Masks from Earth Engine, and the inputs to make them here.

Entry points: ``session.open_session``; ``images.ImageFinder`` pairs scenes with images; ``graphs`` builds the
expressions; ``download.ComputePixels`` downloads a raster on a scene's grid window by window, and
``gees2downloader`` the same through the package GEES2Downloader; ``windows.estimate_raster`` says what that takes.
Only this folder, and the methods that use it, import ``ee``.
"""
