"""Masks read back: as arrays, as pictures, over HTTP, in STAC Browser.

Entry points: ``library.find_items``, ``listing.list_items``, ``clear.measure_area``, ``cube.read_mask`` and
``cube.load_cube``; ``view.draw_view``; ``observations`` counts clear scenes; ``server`` serves a catalog,
``stac_browser`` the browser on it.
"""
