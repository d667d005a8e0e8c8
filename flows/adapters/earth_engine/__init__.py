"""Masks from Earth Engine, and the inputs to make them here.

    session.py          open_session: project, credentials, requests that are tried again
    credentials.py      who we are to Earth Engine
    transport.py        one HTTP exchange of the ``ee`` client
    failures.py         what an error means and what helps
    pacing.py           how many requests at a time, how fast, how they back off
    statistics.py       TransferStatistics: requests, retries, splits, bytes, seconds by phase
    granules.py         GranuleFinder: which images belong to many scenes
    graphs.py           the expressions that Earth Engine computes
    windows.py          blocks of pixels that fit a request
    raster.py           Raster, PixelDownloader: what is downloaded
    download.py         ComputePixels: a raster on a scene's grid, window by window
    gees2downloader.py  the same through the package GEES2Downloader
    inputs.py           EarthEngineInputs: s2cloudless, computed here
    engine.py           ServerMaskEngine, CloudScorePlusEngine
    cost.py             estimate_cost, without Earth Engine

Only this package imports ``ee``; ``statistics``, ``windows``, ``pacing`` and ``cost`` do without it.
"""
