"""pc-cloudmask: cloud and cloud-shadow masks for Sentinel-2, published as a static STAC catalog."""
