"""Where items and assets come from, and which parts of them may be trusted.

Entry points: ``stac_api.PlanetaryComputerSource``, ``stac_api.SecondApi`` and ``item_files.ItemFilesSource`` find
items; ``item.read_scene`` turns an item into a scene; ``assets.AssetReader`` reads its pixels; ``hrefs`` removes
signatures, and decides which hrefs may be followed and published.
"""
