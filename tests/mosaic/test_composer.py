"""One block of a mosaic, from arrays in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_cloudmask.mosaic.compose import Composer, Composite, Observation, Reducer, sort_observations
from pc_cloudmask.mosaic.plan import plan_blocks
from pc_cloudmask.scene.grid import Grid
from tests.mosaic.observations import build_observation

CLEAR, CLOUD, SHADOW = 1, 2, 3
BANDS = ("B04", "B8A")


class MemoryStack:
    """A block's pixels by asset; remembers how many observations were read at once."""

    def __init__(self, **assets: list[list[list[int]]]) -> None:
        self.assets = {name: np.array(pixels, np.uint16) for name, pixels in assets.items()}
        self.reads: list[tuple[str, int]] = []

    @property
    def count(self) -> int:
        return len(self.assets["cloudmask"])

    def read(self, asset: str, numbers: Sequence[int]) -> NDArray[np.uint16]:
        if asset in BANDS:
            self.reads.append((asset, len(numbers)))
        return self.assets[asset][list(numbers)]


def observe(count: int, **options: object) -> list[Observation]:
    return [build_observation(number, **options) for number in range(count)]  # type: ignore[arg-type]


def compose(
    stack: MemoryStack,
    reducer: Reducer,
    observations: list[Observation] | None = None,
    truth: str | None = None,
) -> Composite:
    observations = observations or observe(stack.count)
    return Composer(BANDS, reducer, truth).compose(stack.read, observations)


@pytest.fixture
def stack() -> MemoryStack:
    """Three observations of 2 x 3 pixels: clear thrice, twice, once, never; then without data."""
    return MemoryStack(
        cloudmask=[[[1, 1, 2], [3, 0, 1]], [[1, 2, 2], [2, 0, 1]], [[1, 1, 1], [2, 0, 1]]],
        B04=[[[10, 20, 900], [5, 0, 60]], [[12, 900, 900], [900, 0, 0]], [[50, 23, 30], [900, 0, 80]]],
        B8A=[[[11, 21, 901], [6, 0, 61]], [[13, 901, 901], [901, 0, 71]], [[51, 24, 31], [901, 0, 81]]],
    )


def test_the_median_is_of_clear_observations_alone(stack: MemoryStack) -> None:
    composite = compose(stack, Reducer.MEDIAN)
    np.testing.assert_array_equal(composite.values[0], [[12, 22, 30], [0, 0, 70]])
    np.testing.assert_array_equal(composite.values[1], [[13, 23, 31], [0, 0, 71]])
    np.testing.assert_array_equal(composite.count, [[3, 2, 1], [0, 0, 3]])
    assert composite.residual is None


def test_the_first_clear_observation_gives_all_bands(stack: MemoryStack) -> None:
    for reducer in (Reducer.LEAST_CLOUDY, Reducer.MOST_RECENT_CLEAR):
        composite = compose(stack, reducer)
        np.testing.assert_array_equal(composite.values[0], [[10, 20, 30], [0, 0, 60]])
        np.testing.assert_array_equal(composite.values[1], [[11, 21, 31], [0, 0, 61]])
        np.testing.assert_array_equal(composite.count, [[3, 2, 1], [0, 0, 3]])


def test_an_observation_that_lacks_a_band_at_a_pixel_gives_way_there(stack: MemoryStack) -> None:
    reordered = MemoryStack(**{name: pixels[[1, 0, 2]].tolist() for name, pixels in stack.assets.items()})
    composite = compose(reordered, Reducer.LEAST_CLOUDY)
    np.testing.assert_array_equal(composite.values[:, 1, 2], [60, 61])
    np.testing.assert_array_equal(composite.values[:, 0, 0], [12, 13])


def test_bands_are_read_only_of_observations_that_are_chosen(stack: MemoryStack) -> None:
    compose(stack, Reducer.LEAST_CLOUDY)
    assert {count for _, count in stack.reads} == {2}
    stack.reads.clear()
    stack.assets["cloudmask"][1] = CLOUD
    compose(stack, Reducer.MEDIAN)
    assert {count for _, count in stack.reads} == {2}


def test_baselines_are_harmonised_before_they_meet() -> None:
    stack = MemoryStack(
        cloudmask=[[[1, 1]], [[1, 1]]], B04=[[[2000, 1300]], [[1000, 1]]], B8A=[[[3000, 1]], [[2000, 5]]]
    )
    observations = [build_observation(0, baseline="04.00"), build_observation(1, baseline="03.01")]
    composite = compose(stack, Reducer.MEDIAN, observations)
    np.testing.assert_array_equal(composite.values, [[[1000, 151]], [[2000, 3]]])
    composite = compose(stack, Reducer.LEAST_CLOUDY, observations)
    np.testing.assert_array_equal(composite.values, [[[1000, 300]], [[2000, 1]]])


@pytest.mark.parametrize("reducer", list(Reducer))
def test_two_tiles_of_one_pass_are_one_observation(stack: MemoryStack, reducer: Reducer) -> None:
    observations = observe(3, pass_id="one")
    composite = compose(stack, reducer, observations)
    np.testing.assert_array_equal(composite.count, [[1, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(composite.values[0], [[10, 20, 30], [0, 0, 60]])


@pytest.mark.parametrize("reducer", list(Reducer))
def test_where_nothing_is_clear_there_is_no_value(reducer: Reducer) -> None:
    stack = MemoryStack(cloudmask=[[[2, 3, 0]]] * 2, B04=[[[7, 8, 9]]] * 2, B8A=[[[7, 8, 9]]] * 2)
    composite = compose(stack, reducer, truth=None)
    assert not composite.values.any()
    assert not composite.count.any()
    assert stack.reads == []


def test_what_is_left_of_clouds_is_what_truth_says_of_the_observations_used() -> None:
    stack = MemoryStack(
        # The mask misses the cloud of the first observation at the second and third pixel.
        cloudmask=[[[2, 1, 1, 1]], [[1, 1, 2, 1]], [[1, 1, 2, 2]]],
        truth=[[[2, 2, 3, 1]], [[1, 1, 2, 1]], [[1, 1, 1, 1]]],
        B04=[[[900, 900, 800, 40]], [[10, 20, 30, 50]], [[12, 22, 32, 60]]],
        B8A=[[[900, 900, 800, 40]], [[10, 20, 30, 50]], [[12, 22, 32, 60]]],
    )
    median = compose(stack, Reducer.MEDIAN, truth="truth")
    np.testing.assert_array_equal(median.residual, [[False, False, True, False]])
    first = compose(stack, Reducer.LEAST_CLOUDY, truth="truth")
    np.testing.assert_array_equal(first.residual, [[False, True, True, False]])
    plain = Composer(BANDS, Reducer.MEDIAN, "truth").compose_plain(stack.read, observe(3))
    np.testing.assert_array_equal(plain.values[0], [[12, 22, 32, 50]])
    np.testing.assert_array_equal(plain.residual, [[False, False, False, False]])


def test_observations_come_in_the_order_that_the_reducer_likes() -> None:
    cloudy, clear, clearest = (
        build_observation(day, clear_pct=share) for day, share in ((2, 10.0), (0, 90.0), (1, 95.0))
    )
    observations = [cloudy, clear, clearest]
    assert sort_observations(observations, Reducer.MEDIAN) == [clear, clearest, cloudy]
    assert sort_observations(observations, Reducer.MOST_RECENT_CLEAR) == [cloudy, clearest, clear]
    assert sort_observations(observations, Reducer.LEAST_CLOUDY) == [clearest, clear, cloudy]
    same = build_observation(3, clear_pct=95.0)
    assert sort_observations([clearest, same], Reducer.LEAST_CLOUDY) == [same, clearest], "the newer one"


class LargeStack:
    """A block of any size whose first bands' pixels differ from observation to observation."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def read(self, asset: str, numbers: Sequence[int]) -> NDArray[np.unsignedinteger]:
        if asset not in BANDS:
            return np.ones((len(numbers), *self.shape), np.uint8)
        values = np.empty((len(numbers), *self.shape), np.uint16)
        values[:] = np.array(numbers)[:, None, None] + 1
        return values


@pytest.mark.parametrize("reducer", list(Reducer))
@pytest.mark.parametrize("count", [20, 80, 160])
def test_memory_does_not_grow_with_the_time_span(count: int, reducer: Reducer) -> None:
    memory_bytes = 16 << 20
    grid = Grid("EPSG:32722", (10.0, 0.0, 600_000.0, 0.0, -10.0, 7_500_040.0), (1024, 1024))
    observations = [build_observation(number, grid) for number in range(count)]
    block = plan_blocks(grid, observations, memory_bytes)[0]
    composer = Composer(BANDS, reducer)
    tracemalloc.start()
    composite = composer.compose(LargeStack(block.window.shape).read, observations)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert composite.count.max() == count
    # What a pixel takes whatever the number of observations: results, indexes of the sort.
    fixed_bytes = 60 * block.window.height * block.window.width
    assert peak < memory_bytes + fixed_bytes
