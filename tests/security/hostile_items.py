"""Items that want to be read, written or trusted where they must not be."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tests.catalog.items import delete_at, set_at

Item = dict[str, Any]
Path_ = tuple[str | int, ...]

NIR: Path_ = ("assets", "B08", "href")
"""An asset that every mask of the sample archive needs."""
GRID: Path_ = ("assets", "SCL")
RING: Path_ = ("geometry", "coordinates", 0)


@dataclass(frozen=True)
class Case:
    """One value of the good item replaced; ``refusal`` is found, as a pattern, in the error that comes of it.

    ``only`` says where a case applies: to items in ``files``, to those of an ``api``; else to both.

    ``{root}``, ``{secret}``, ``{canary}`` and ``{assets}`` stand in a text value for the archive's folder,
    a raster beside it, a server that must not be asked, and where the archive's rasters are.
    """

    name: str
    path: Path_
    value: Any
    refusal: str
    only: str = ""

    def build_item(self, good: Item, places: dict[str, str]) -> Item:
        """The good item with the hostile value, under an id of its own."""
        value = self.value
        if isinstance(value, str):
            for name, place in places.items():
                value = value.replace(f"{{{name}}}", place)
        item = deepcopy(good)
        item["id"] = f"HOSTILE_{self.name}"
        return set_at(item, self.path, value)


def nest(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VRT = (
    '<VRTDataset rasterXSize="2196" rasterYSize="2196"><VRTRasterBand dataType="UInt16" band="1">'
    "<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)

_NO_PATH = "not an absolute path of a file|local files are read only for items that come from local files"
_OUTSIDE = "leads out of|local files are read only for items that come from local files"
_SCHEME = "and not with a path or one of"
IDS = [
    Case("id_traversal", ("id",), "../../escaped", "id is not 1 to 128"),
    Case("id_absolute", ("id",), "{root}/escaped", "id is not 1 to 128"),
    Case("id_key", ("id",), "a/b", "id is not 1 to 128"),
    Case("id_dots", ("id",), "..", "id is not 1 to 128"),
    Case("id_zero_byte", ("id",), "a\0b", "id is not 1 to 128"),
    Case("id_long", ("id",), "x" * 5000, "id is not 1 to 128"),
    Case("id_reserved", ("id",), "withdrawn", "a name that the catalog keeps for itself"),
    Case("id_number", ("id",), 7, "id is not 1 to 128"),
    Case("tile_traversal", ("properties", "s2:mgrs_tile"), "../..", "is not an MGRS tile"),
    Case("tile_digits", ("properties", "s2:mgrs_tile"), "٢٢KFV", "is not an MGRS tile"),
]
HREFS = [
    Case("href_file", NIR, "file://{secret}", rf"{_SCHEME}|leads out of"),
    Case("href_javascript", NIR, "javascript:alert(1)", _SCHEME),
    Case("href_vrt", NIR, "vrt://{secret}", _SCHEME),
    Case("href_gtiff_dir", NIR, "GTIFF_DIR:1:{secret}", _NO_PATH),
    Case("href_ftp", NIR, "ftp://127.0.0.1/a.tif", _SCHEME),
    Case("href_protocol_relative", NIR, "//evil.example/a.tif", "begins with // or a backslash"),
    Case("href_share", NIR, "\\\\evil.example\\a.tif", "begins with // or a backslash"),
    Case(
        "href_password",
        NIR,
        "https://me:word@evil.example/a.tif",  # pragma: allowlist secret
        "https://evil.example/a.tif: host evil.example is not one that assets",
    ),
    Case("href_line_break", NIR, "{root}/a.tif\nX: y", "is no printable text"),
    Case("href_inline_xml", NIR, VRT, _NO_PATH),
    Case("href_vsicurl", NIR, "/vsicurl/{canary}/secret.tif", r"not a plain http\(s\) URL"),
    Case("href_vsizip", NIR, "/vsizip/{secret}", _NO_PATH),
    Case("href_vsisubfile", NIR, "/vsisubfile/0_9999999,{secret}", _NO_PATH),
    Case("href_outside", NIR, "{secret}", _OUTSIDE),
    Case("href_upwards", NIR, "{root}/../canary/secret.tif", _OUTSIDE),
    Case("href_link", NIR, "{root}/link.tif", _OUTSIDE),
    Case("href_device", NIR, "/dev/zero", _OUTSIDE),
    Case("href_pipe", NIR, "{root}/pipe.tif", "not a regular file|local files are read only"),
    Case(
        "href_metadata_service", NIR, "http://169.254.169.254/latest/meta-data.tif", "is not one that assets"
    ),
    Case("href_decimal_address", NIR, "http://2130706433/secret.tif", "is not one that assets"),
    Case("href_mapped_address", NIR, "https://[::ffff:127.0.0.1]/secret.tif", "is not one that assets"),
    Case("href_rebinding_name", NIR, "http://127.0.0.1.nip.io/secret.tif", "is not one that assets"),
    Case("href_other_host", NIR, "https://evil.blob.core.windows.net/a.tif", "is not one that assets"),
    Case(
        "href_other_port", NIR, "https://planetarycomputer.microsoft.com:8443/a.tif", "on its own port only"
    ),
    Case("href_plain_http", NIR, "http://planetarycomputer.microsoft.com/a.tif", "through https"),
    Case("href_bucket", NIR, "s3://bucket/a.tif", r"not a plain http\(s\) URL"),
]
RASTERS = [
    Case("raster_vrt_in_disguise", NIR, "{assets}/disguised.tif", "not a GeoTIFF|not a TIFF"),
    Case("raster_forty_gigapixels", NIR, "{assets}/huge.tif", "claims 200000 x 200000 pixels"),
    Case("raster_cut_short", NIR, "{assets}/cut.tif", "not a GeoTIFF that can be read", "files"),
    Case("raster_other_grid", NIR, "{assets}/shifted.tif", "is off the item's grid"),
    Case("raster_redirect", NIR, "{assets}/redirect.tif", "redirects to", "api"),
    Case("raster_absent", NIR, "{assets}/absent.tif", "cannot be read: No such file|not there"),
]
PLACES = [
    Case("position_off_earth", (*RING, 0), [999.0, 0.0], "has positions beyond 360 degrees of longitude"),
    Case("position_text", (*RING, 0), ["NaN", "NaN"], "coordinates.*should be a valid number"),
    Case("ring_deep", RING, nest(400), "geometry has wrong coordinates"),
    Case("ring_long", RING, [[0.0, 0.0]] * 200_000, "geometry has more than"),
    Case("geometry_null", ("geometry",), None, "geometry is missing"),
    Case("bbox_upside_down", ("bbox",), [-50.0, 10.0, -49.0, -10.0], "bbox has its south above its north"),
    Case("grid_polar", ("properties", "proj:epsg"), 32661, "is no UTM zone"),
    Case("grid_huge", (*GRID, "proj:shape"), [10**9, 10**9], "should be less than or equal to 20000"),
    Case("grid_negative", (*GRID, "proj:shape"), [-1, -1], "should be greater than or equal to 1"),
    Case("grid_rotated", (*GRID, "proj:transform"), [20.0, 1.0, 0.0, 1.0, -20.0, 0.0], "is no north-up grid"),
    Case("grid_far_away", (*GRID, "proj:transform"), [20.0, 0.0, 1e300, 0.0, -20.0, 0.0], "off the Earth"),
]
TYPES = [
    Case("assets_list", ("assets",), [], "assets should be a valid dictionary"),
    Case(
        "assets_many",
        ("assets",),
        {f"a{n}": {"href": "a.tif"} for n in range(2000)},
        "assets are more than 1000",
    ),
    Case("asset_text", ("assets", "B08"), "a.tif", "assets.B08 should be a valid dictionary"),
    Case("properties_null", ("properties",), None, "properties is missing"),
    Case("links_object", ("links",), {"rel": "self"}, "links should be a valid list"),
    Case("sun_text", ("properties", "s2:mean_solar_azimuth"), "31.6", "should be a valid number"),
    Case("sun_bool", ("properties", "s2:mean_solar_azimuth"), True, "should be a valid number"),
    Case(
        "sun_endless", ("properties", "s2:mean_solar_zenith"), 10**40, "should be less than or equal to 180"
    ),
    Case("datetime_word", ("properties", "datetime"), "yesterday", "is no RFC 3339 instant"),
    Case("datetime_last", ("properties", "datetime"), "9999-12-31T23:59:59-23:59", "is no RFC 3339 instant"),
    Case("datatake_list", ("properties", "s2:datatake_id"), ["x"], "should be a valid string"),
    Case(
        "extensions_text", ("stac_extensions",), "https://evil.example/schema.json", "should be a valid list"
    ),
    Case("large", ("properties", "padding"), "x" * (2 << 20), "takes more than"),
]
CASES = [*IDS, *HREFS, *RASTERS, *PLACES, *TYPES]


def build_odd_items(good: Item) -> list[Item]:
    """Items at places that trip many a program, across the antimeridian and at a pole, which the grid is not at."""
    odd = []
    for name, tile, ring in (
        ("antimeridian", "01KAB", [[179.5, -18.0], [-179.5, -18.0], [-179.5, -17.0], [179.5, -17.0]]),
        ("pole", "31XEA", [[0.0, 84.0], [90.0, 84.0], [180.0, 90.0], [-90.0, 84.0]]),
    ):
        item = set_at(good, ("geometry", "coordinates"), [[*ring, ring[0]]])
        item = set_at(item, ("properties", "s2:mgrs_tile"), tile)
        odd.append(delete_at(set_at(item, ("id",), f"ODD_{name}"), ("bbox",)))
    return odd


def build_documents(good: Item) -> dict[str, bytes]:
    """Files whose text is no JSON object of a sound form, by their stem."""
    item = json.dumps(good).encode()
    return {
        "deep": b'{"type": "Feature", "id": "x", "geometry": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "latin_1": item.replace(b"Synthetic", "Synthétique".encode("latin-1"), 1),
        "nan": item.replace(b"31.6", b"NaN", 1)[:-1] + b', "id": "NAN"}',
        "infinite": item.replace(b"31.6", b"-Infinity", 1)[:-1] + b', "id": "INFINITE"}',
        "two_ids": item[:-1] + b', "id": "../../twice"}',
        "two_assets": item[:-1] + b', "id": "TWICE", "assets": {"B08": {"href": "file:///etc/passwd"}}}',
        "cut": item[:500],
        "empty": b"",
        "list": b"[1, 2]",
        "web_page": b"<!doctype html><html><body>Sign in</body></html>",
        "zip": b"PK\x03\x04" + bytes(200),
    }
