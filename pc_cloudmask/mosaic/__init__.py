"""Cloudless composites of what is published: masks and source bands in, one raster out.

Entry point: ``mosaic.build_mosaic``. ``plan`` says what is asked for, its grid and its blocks; ``observation`` what is
needed of one item; ``read`` how its pixels are read; ``reducers`` how many observations of a pixel become one;
``compose`` one block; ``output`` the COG, its picture and its STAC item.
"""
