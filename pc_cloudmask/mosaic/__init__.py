"""Cloudless composites of what is published: masks and source bands in, one raster out.

Entry point: ``mosaic.build_mosaic``. ``plan`` says what is asked for, its grid and its blocks; ``read`` how pixels are
read; ``compose`` what is needed of one item, and how many observations of a pixel become one; ``output`` the COG, its
picture and its STAC item.
"""
