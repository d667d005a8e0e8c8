"""Which scenes the sample archive holds: tiles, dates, sun, clouds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import reflectance_offset_dn

PIXEL_SIZE_M = 20
#: Edge of the window at 20 m: a fifth of a tile's.
WINDOW_PX = 1098


@dataclass(frozen=True, slots=True)
class SampleDisc:
    """A roughly round thing on the ground: metres east and south of the window's corner."""

    east_m: float
    south_m: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class SampleCloud:
    """A cloud: its centre in metres east and south of the corner, its radius, its height."""

    east_m: float
    south_m: float
    radius_m: float
    height_m: float


@dataclass(frozen=True, slots=True)
class SampleTile:
    """A window in the upper-left corner of a real tile, with an invented landscape.

    ``corner_m`` is the tile's real upper-left corner in its own UTM zone. ``signatures`` names the
    set of ground reflectances in ``sample_terrain``.
    """

    name: str
    epsg: int
    corner_m: tuple[int, int]
    seed: int
    signatures: str
    lakes: tuple[SampleDisc, ...]
    dark_grounds: tuple[SampleDisc, ...]

    def grid(self, pixel_size_m: int = PIXEL_SIZE_M) -> Grid:
        """The window's grid at ``pixel_size_m``."""
        size, (west, north) = float(pixel_size_m), self.corner_m
        edge = WINDOW_PX * PIXEL_SIZE_M // pixel_size_m
        return Grid(f"EPSG:{self.epsg}", (size, 0.0, float(west), 0.0, -size, float(north)), (edge, edge))


@dataclass(frozen=True, slots=True)
class SampleScene:
    """One acquisition of a tile. Angles are those of the place and time, to a tenth of a degree."""

    tile: SampleTile
    platform: str
    datetime: datetime
    relative_orbit: int
    absolute_orbit: int
    processing_baseline: str
    solar_azimuth_deg: float
    solar_zenith_deg: float
    greenness: float
    clouds: tuple[SampleCloud, ...]
    #: Where the swath begins along the window's upper and lower edge, metres east of the corner.
    swath_edge_m: tuple[float, float] | None = None

    @property
    def id(self) -> str:
        """In the form of the Planetary Computer's: the last part is the processing time."""
        orbit = f"R{self.relative_orbit:03d}"
        return f"{self.platform}_MSIL2A_{self.datatake_time}_{orbit}_T{self.tile.name}_{self.processing_time}"

    @property
    def datatake_time(self) -> str:
        return f"{self.datetime:%Y%m%dT%H%M%S}"

    @property
    def processing_time(self) -> str:
        """The last second of the day: a time that tells an invented product from a real one."""
        return f"{self.datetime:%Y%m%d}T235959"

    @property
    def reflectance_offset_dn(self) -> int:
        """What is added to a digital number to get 10000 times the reflectance."""
        return reflectance_offset_dn(self.processing_baseline)

    def shadow_shift_m(self, cloud: SampleCloud) -> tuple[float, float]:
        """How far east and south of ``cloud`` its shadow falls: away from the sun, seen from nadir."""
        length = cloud.height_m * math.tan(math.radians(self.solar_zenith_deg))
        azimuth = math.radians(self.solar_azimuth_deg)
        return (-math.sin(azimuth) * length, math.cos(azimuth) * length)


_BRAZIL = SampleTile(
    name="22KFV",
    epsg=32722,
    corner_m=(600_000, 7_500_040),
    seed=22,
    signatures="cane",
    lakes=(SampleDisc(14_500, 13_000, 1_900), SampleDisc(5_200, 17_500, 700)),
    dark_grounds=(SampleDisc(19_300, 19_300, 900), SampleDisc(10_000, 12_150, 450)),
)
_BAVARIA = SampleTile(
    name="33UUP",
    epsg=32633,
    corner_m=(300_000, 5_400_000),
    seed=33,
    signatures="farmland",
    lakes=(SampleDisc(7_500, 14_000, 1_500), SampleDisc(16_500, 5_000, 600)),
    dark_grounds=(SampleDisc(19_200, 2_600, 1_200), SampleDisc(9_300, 10_350, 420)),
)
SAMPLE_SCENES: tuple[SampleScene, ...] = (
    SampleScene(
        tile=_BRAZIL,
        platform="S2B",
        datetime=datetime(2018, 6, 17, 13, 32, 21, tzinfo=UTC),
        relative_orbit=81,
        absolute_orbit=6685,
        processing_baseline="02.12",
        solar_azimuth_deg=31.6,
        solar_zenith_deg=53.0,
        greenness=0.9,
        clouds=(
            SampleCloud(8_200, 2_500, 1_750, 570),
            SampleCloud(19_300, 2_900, 1_350, 550),
            SampleCloud(4_000, 8_000, 1_050, 600),
            SampleCloud(14_000, 8_000, 1_800, 540),
            SampleCloud(8_700, 13_600, 1_500, 560),
            SampleCloud(19_600, 13_600, 1_000, 590),
            SampleCloud(3_600, 19_300, 1_600, 580),
            SampleCloud(13_400, 18_900, 1_750, 520),
            SampleCloud(10_900, 5_900, 480, 500),
        ),
    ),
    SampleScene(
        tile=_BRAZIL,
        platform="S2B",
        datetime=datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC),
        relative_orbit=81,
        absolute_orbit=9259,
        processing_baseline="02.12",
        solar_azimuth_deg=96.5,
        solar_zenith_deg=23.6,
        greenness=1.0,
        clouds=(
            SampleCloud(3_200, 2_700, 1_900, 1_750),
            SampleCloud(14_000, 3_000, 1_300, 1_900),
            SampleCloud(8_100, 8_700, 1_700, 1_800),
            SampleCloud(19_400, 8_500, 1_700, 1_650),
            SampleCloud(2_900, 14_200, 1_300, 1_950),
            SampleCloud(14_300, 13_400, 1_900, 1_700),
            SampleCloud(8_500, 19_500, 1_450, 1_850),
            SampleCloud(17_000, 16_700, 520, 1_500),
        ),
        swath_edge_m=(3_500, -1_200),
    ),
    SampleScene(
        tile=_BAVARIA,
        platform="S2A",
        datetime=datetime(2021, 9, 10, 10, 10, 31, tzinfo=UTC),
        relative_orbit=22,
        absolute_orbit=32480,
        processing_baseline="03.01",
        solar_azimuth_deg=160.0,
        solar_zenith_deg=45.2,
        greenness=0.95,
        clouds=(
            SampleCloud(2_700, 3_300, 1_500, 760),
            SampleCloud(14_000, 2_600, 1_700, 780),
            SampleCloud(8_200, 8_100, 1_800, 700),
            SampleCloud(19_300, 8_300, 1_350, 800),
            SampleCloud(3_200, 13_500, 1_700, 720),
            SampleCloud(13_700, 14_000, 1_650, 680),
            SampleCloud(8_500, 19_300, 1_100, 690),
            SampleCloud(19_000, 19_200, 1_550, 740),
            SampleCloud(5_600, 6_000, 460, 650),
        ),
    ),
    SampleScene(
        tile=_BAVARIA,
        platform="S2A",
        datetime=datetime(2022, 6, 17, 10, 10, 41, tzinfo=UTC),
        relative_orbit=22,
        absolute_orbit=36484,
        processing_baseline="04.00",
        solar_azimuth_deg=149.5,
        solar_zenith_deg=27.8,
        greenness=1.05,
        clouds=(
            SampleCloud(8_200, 2_700, 1_600, 1_500),
            SampleCloud(2_800, 8_500, 1_350, 1_600),
            SampleCloud(14_000, 8_500, 1_700, 1_400),
            SampleCloud(8_100, 13_900, 1_850, 1_500),
            SampleCloud(19_300, 13_500, 1_500, 1_450),
            SampleCloud(2_900, 19_300, 1_400, 1_550),
            SampleCloud(13_500, 19_500, 1_650, 1_350),
            SampleCloud(17_000, 17_000, 500, 1_300),
        ),
    ),
)
