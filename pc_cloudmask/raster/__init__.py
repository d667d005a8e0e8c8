"""Pixels in files: read onto a grid, written as a cloud-optimized GeoTIFF, drawn as a picture.

Entry points: ``read.read_raster``, ``cog.build_cog``, ``picture.encode_picture``; ``gdal.gdal_environment`` is
entered wherever GDAL is used.
"""
