"""A small STAC API on loopback that an unmodified pystac-client speaks to.

``with StacApiServer(items) as api: PlanetaryComputerSource(api.url, "sentinel-2-l2a")``
"""

from tests.doubles.stac_api.items import make_item
from tests.doubles.stac_api.server import Fault, StacApiServer

__all__ = ["Fault", "StacApiServer", "make_item"]
