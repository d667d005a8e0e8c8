"""Masks read back: as arrays, as pictures, over HTTP, in STAC Browser.

Entry points: ``library.find_items``, ``library.list_items`` and ``library.count_observations``; ``clear.measure_area``;
``cube.read_mask`` and ``cube.load_cube``; ``pictures`` draws a scene, a calendar, a chart; ``follow`` reads the change
feed; ``server`` serves a catalog, ``stac_browser`` serves STAC Browser on it.
"""
