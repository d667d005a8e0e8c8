<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">
      <colorPalette>
        <paletteEntry value="0" label="No data" color="#000000" alpha="0" />
        <paletteEntry value="1" label="Clear" color="#e8f0e2" alpha="0" />
        <paletteEntry value="2" label="Cloud" color="#ff40a0" alpha="255" />
        <paletteEntry value="3" label="Cloud shadow" color="#503cdc" alpha="255" />
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
