
// Appended to STAC Browser's fields.config.js: what our extension's fields are called, and their units.
Registry.addExtension('cloudmask', 'Cloud mask');
for (const [name, label] of Object.entries({
  cloud: 'Cloud', shadow: 'Cloud shadow', clear: 'Clear', nodata: 'No data'
})) {
  Registry.addMetadataField(`cloudmask:${name}_percentage`, { label, unit: '%' });
}
Registry.addMetadataField('cloudmask:method', { label: 'Method' });
Registry.addMetadataField('cloudmask:provisional', { label: 'To be replaced by a better one' });
Registry.addMetadataField('cloudmask:granule', { label: 'Earth Engine image' });
Registry.addMetadataField('cloudmask:granules', { label: 'Earth Engine images' });
// Whether a mask is made again depends on it; people need it to compare two at most.
Registry.addMetadataField('cloudmask:fingerprint', {
  label: 'Fingerprint of the inputs',
  formatter: value => String(value).slice(0, 8) + '…'
});
