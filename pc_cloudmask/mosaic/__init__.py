"""Cloudless composites of what is published: masks and source bands in, one raster out.

Entry point: ``mosaic.build_mosaic``, which writes the COG, its picture and its STAC item. ``plan`` holds the request,
its grid and its blocks; ``read`` reads pixels; ``compose`` says what is needed of one item, and how several
observations of a pixel become one.
"""
