"""The scenes of the sample archive: tiles, dates, sun, weather."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from pc_cloudmask.scene.grid import Grid

PIXEL_SIZE_M = 20
#: Edge of the window at 20 m: 18 km of a tile's 110.
WINDOW_PX = 900


@dataclass(frozen=True, slots=True)
class SampleTile:
    """A window in the upper-left corner of a real tile, with an invented landscape.

    ``corner_m``  the tile's upper-left corner in its own UTM zone.
    ``soil``      reflectance of its bare soil in the order of ``rasters.BANDS``.
    ``field_m``   width and length of its smallest fields.
    ``lake_m``    where its river widens into a lake: metres east and south of the corner.
    """

    name: str
    epsg: int
    corner_m: tuple[int, int]
    seed: int
    soil: tuple[float, ...]
    field_m: tuple[float, float]
    lake_m: tuple[float, float]

    def grid(self, pixel_size_m: int = PIXEL_SIZE_M) -> Grid:
        """Return the window's grid at ``pixel_size_m``."""
        size, (west, north) = float(pixel_size_m), self.corner_m
        edge = WINDOW_PX * PIXEL_SIZE_M // pixel_size_m
        return Grid(f"EPSG:{self.epsg}", (size, 0.0, float(west), 0.0, -size, float(north)), (edge, edge))


@dataclass(frozen=True, slots=True)
class SampleScene:
    """One acquisition of a tile.

    The sun's angles are those of the place and time, to a tenth of a degree; clouds are so high that their
    shadows fall some 750 m away, within the 1000 m in which the mask's method looks for them.

    ``greenness``     how much greener than their average the crops are, -1..1.
    ``cloudiness``    about 1: added to noise about -1 to make clouds of it; ``haze`` likewise.
    ``clear_third``   which third of the window, 0 to 2 from the north-west on, has no clouds. Scenes of a tile
                      have different ones, so that every place is clear on one date.
    ``swath_edge_m``  where the swath begins on the window's upper and lower edge, metres east of the corner.
    """

    tile: SampleTile
    platform: str
    datetime: datetime
    relative_orbit: int
    absolute_orbit: int
    processing_baseline: str
    solar_azimuth_deg: float
    solar_zenith_deg: float
    greenness: float
    cloud_height_m: float
    cloudiness: float
    haze: float
    clear_third: int
    swath_edge_m: tuple[float, float] | None = None

    @property
    def id(self) -> str:
        """Return an id in the Planetary Computer's form: the last part is the processing time."""
        orbit = f"R{self.relative_orbit:03d}"
        return f"{self.platform}_MSIL2A_{self.datatake_time}_{orbit}_T{self.tile.name}_{self.processing_time}"

    @property
    def datatake_time(self) -> str:
        """Return the time of the acquisition as in ids."""
        return f"{self.datetime:%Y%m%dT%H%M%S}"

    @property
    def processing_time(self) -> str:
        """Return the last second of the day: a time that distinguishes an invented product from a real one."""
        return f"{self.datetime:%Y%m%d}T235959"

    def shadow_shift_px(self) -> tuple[int, int]:
        """Return how many rows and columns from a cloud its shadow falls: away from the sun, seen from the nadir."""
        length_px = self.cloud_height_m * math.tan(math.radians(self.solar_zenith_deg)) / PIXEL_SIZE_M
        azimuth = math.radians(self.solar_azimuth_deg)
        return round(math.cos(azimuth) * length_px), round(-math.sin(azimuth) * length_px)


_BRAZIL = SampleTile(
    name="22KFV",
    epsg=32722,
    corner_m=(600_000, 7_500_040),
    seed=22,
    soil=(0.050, 0.078, 0.135, 0.235, 0.290, 0.250),
    field_m=(420.0, 760.0),
    lake_m=(7_500, 11_000),
)
_BAVARIA = SampleTile(
    name="33UUP",
    epsg=32633,
    corner_m=(300_000, 5_400_000),
    seed=33,
    soil=(0.078, 0.104, 0.126, 0.230, 0.285, 0.245),
    field_m=(170.0, 380.0),
    lake_m=(11_500, 7_500),
)


# fmt: off
SAMPLE_SCENES = (
    SampleScene(
        _BRAZIL, "S2B", datetime(2018, 6, 17, 13, 32, 21, tzinfo=UTC), 81, 6685, "02.12",
        solar_azimuth_deg=31.6, solar_zenith_deg=53.0,
        greenness=-0.5, cloud_height_m=570, cloudiness=1.05, haze=0, clear_third=0,
    ),
    SampleScene(
        _BRAZIL, "S2B", datetime(2018, 9, 15, 13, 32, 19, tzinfo=UTC), 81, 7972, "02.12",
        solar_azimuth_deg=47.6, solar_zenith_deg=35.8,
        greenness=-1, cloud_height_m=1050, cloudiness=1.2, haze=0, clear_third=1,
    ),
    SampleScene(
        _BRAZIL, "S2B", datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC), 81, 9259, "02.12",
        solar_azimuth_deg=96.5, solar_zenith_deg=23.6,
        greenness=1, cloud_height_m=1750, cloudiness=1.0, haze=0, clear_third=2,
        swath_edge_m=(3_500, -1_200),
    ),
    SampleScene(
        _BAVARIA, "S2A", datetime(2021, 9, 10, 10, 10, 31, tzinfo=UTC), 22, 32480, "03.01",
        solar_azimuth_deg=160.0, solar_zenith_deg=45.2,
        greenness=-1, cloud_height_m=750, cloudiness=1.0, haze=0, clear_third=0,
    ),
    SampleScene(
        _BAVARIA, "S2A", datetime(2022, 4, 18, 10, 10, 31, tzinfo=UTC), 22, 35626, "04.00",
        solar_azimuth_deg=157.0, solar_zenith_deg=39.6,
        greenness=0, cloud_height_m=910, cloudiness=1.15, haze=0.55, clear_third=1,
    ),
    SampleScene(
        _BAVARIA, "S2A", datetime(2022, 6, 17, 10, 10, 41, tzinfo=UTC), 22, 36484, "04.00",
        solar_azimuth_deg=149.5, solar_zenith_deg=27.8,
        greenness=1, cloud_height_m=1430, cloudiness=1.05, haze=0, clear_third=2,
    ),
)
# fmt: on
