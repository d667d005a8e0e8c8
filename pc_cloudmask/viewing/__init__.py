"""Masks read back: as arrays, as pictures, over HTTP, in STAC Browser.

Entry points: ``library.find_items`` and ``cube.read_mask``; ``view.draw_view``; ``observations`` counts clear
scenes; ``server`` serves a catalog, ``stac_browser`` the browser on it.
"""
