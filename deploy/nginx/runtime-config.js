window.STAC_BROWSER_CONFIG = Object.assign({"catalogTitle": "Cloud masks for Sentinel-2 on the Planetary Computer", "historyMode": "hash", "pathPrefix": "/", "socialSharing": []}, {
  catalogUrl: location.origin + "/catalog.json",
  // Between two classes there is no third: blurred, a cloud next to its shadow would have a gap.
  getMapSourceOptions: (type, options, asset) =>
    asset && asset["classification:classes"] ? {...options, interpolate: false} : options,
});
if (!location.hash) location.replace("#/sentinel-2-l2a-cloudmask/collection.json");
