"""Where items and assets come from, and what of them may be trusted.

Entry points: ``stac_api.PlanetaryComputerSource`` and ``item_files.ItemFilesSource`` find items;
``item.read_scene`` makes a scene of one; ``assets.AssetReader`` reads its pixels; ``hrefs`` says which hrefs may
be followed and published.
"""
