"""Where on Earth an MGRS tile may have pixels."""

from __future__ import annotations

import numpy as np
from rasterio.warp import transform

from pc_cloudmask.scene.query import BBox

#: Letters of the 100 km columns, west to east, by the zone's number modulo 3; the first is at 100 km.
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
#: Letters of the 100 km rows, south to north, over and over; in even zones they begin with F.
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SQUARE_M, _ROW_CYCLE_M = 100_000, 2_000_000
#: Edge of a Sentinel-2 tile, which reaches south and east beyond its square.
_TILE_M = 109_800
_MARGIN_M = 1_000
_DEGREE_M = 111_000
_EDGE_POINTS = 12


def build_zone_box(band: str) -> BBox:
    """Return a box that holds every tile of a zone and band such as ``22K``, in degrees.

    West and east run on beyond 180. Tiles reach over their band's edges by one of their own; between
    56 N and 64 N, and from 72 N on, zones are wider than six degrees.
    """
    zone, letter = int(band[:2]), band[2]
    south = -80 + 8 * _LATITUDE_BANDS.index(letter)
    north = 84 if letter == "X" else south + 8
    margin = 1 + _TILE_M / (_DEGREE_M * np.cos(np.radians(max(-south, north))))
    margin += 6 if letter in "VX" else 0
    west = 6 * zone - 186
    return (west - margin, south - 1.5, west + 6 + margin, north + 1.5)


def build_tile_box(tile: str) -> BBox:
    """Return a box that holds a tile such as ``22KFV``, in degrees; west and east run on beyond 180."""
    zone, letter = int(tile[:2]), tile[2]
    west_m = _SQUARE_M * (1 + _COLUMNS[zone % 3].index(tile[3]))
    north_m = _find_square(zone, letter, tile[4]) + _SQUARE_M + _MARGIN_M
    steps = np.linspace(0, 1, _EDGE_POINTS)
    along, across = np.meshgrid(steps, steps)
    edge_m = _TILE_M + 2 * _MARGIN_M
    eastings = west_m - _MARGIN_M + along.ravel() * edge_m
    northings = north_m - across.ravel() * edge_m
    epsg = (32600 if letter >= "N" else 32700) + zone
    lons, lats = map(np.array, transform(f"EPSG:{epsg}", "EPSG:4326", eastings, northings))
    middle = 6 * zone - 183
    lons = middle + (lons - middle + 180) % 360 - 180
    return (float(lons.min()), float(lats.min()), float(lons.max()), float(lats.max()))


def boxes_meet(one: BBox, other: BBox) -> bool:
    """Return True if two boxes share a point; west may exceed east, and both may run on beyond 180."""
    if one[1] > other[3] or other[1] > one[3]:
        return False
    width, other_width = (east - west + 360 * (west > east) for west, _, east, _ in (one, other))
    return (other[0] - one[0]) % 360 <= width or (one[0] - other[0]) % 360 <= other_width


def _find_square(zone: int, band: str, row: str) -> int:
    """Return the northing of the lower edge of the square of letter ``row``: the repeat that lies in ``band``."""
    first = (_ROWS.index(row) - (5 if zone % 2 == 0 else 0)) % len(_ROWS) * _SQUARE_M
    middle_deg = -76 + 8 * _LATITUDE_BANDS.index(band)
    middle_m = middle_deg * _DEGREE_M + (10_000_000 if band < "N" else 0)
    repeats = round((middle_m - first - _SQUARE_M / 2) / _ROW_CYCLE_M)
    return first + repeats * _ROW_CYCLE_M
