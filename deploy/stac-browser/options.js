
// Appended to STAC Browser's config.js; `cloudmask serve` sets the same at run time.
Object.assign(module.exports, {
  // On a bucket no server leads every path to index.html.
  historyMode: "hash",
  // Between two classes there is no third: blurred, a cloud next to its shadow would have a gap.
  getMapSourceOptions: (type, options, asset) =>
    asset && asset["classification:classes"] ? Object.assign({}, options, {interpolate: false}) : options,
});
