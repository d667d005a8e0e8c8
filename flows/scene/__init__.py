"""What a scene is: its identity, its grid, its Earth Engine granule. No I/O."""
