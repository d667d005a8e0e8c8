"""Cloudless composites of what is published: masks and source bands in, one raster out.

finder        published items, by walking only the catalogs concerned
observation   what the mosaic needs of one item, hrefs checked
target        the mosaic's grid
blocks        the grid in pieces that fit into memory
stack         one band of many items on a grid, through odc-stac and Dask
reducers      many observations of a pixel become one: pure numpy
composer      one block: masks, bands, reducer
raster        the COG
picture       its preview
document      its STAC item
mosaic        the job
"""
