"""Cloudless composites of what is published: masks and source bands in, one raster out.

plan          what is asked for, and what that comes to
observation   what the mosaic needs of one item, hrefs checked
target        the mosaic's grid
blocks        the grid in pieces that fit into memory
readable      what may be read, and by which rules
driver        how odc-stac reads our assets
stack         one band of many items on a grid, through odc-stac and Dask
reducers      many observations of a pixel become one: pure numpy
composer      one block: masks, bands, reducer
raster        the COG
picture       its preview
document      its STAC item
mosaic        the job
"""
