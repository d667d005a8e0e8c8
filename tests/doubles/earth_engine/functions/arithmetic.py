"""Per-pixel arithmetic of images, and the same of numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.grids import Window
from tests.doubles.earth_engine.images import FLAG, Band, Image, PixelType
from tests.doubles.earth_engine.pyramid import Pixels

Array = NDArray[np.float64]
TypeRule = Callable[[PixelType, PixelType], PixelType]


def _flag(_left: PixelType, _right: PixelType) -> PixelType:
    return FLAG


def _real(left: PixelType, right: PixelType) -> PixelType:
    """Float, as division gives it even for integers."""
    return PixelType("double" if "double" in (left.precision, right.precision) else "float")


def _interval(operation: Callable[[Any, Any], Any]) -> TypeRule:
    """Integers stay integers, within the range that the operation's extremes span."""

    def rule(left: PixelType, right: PixelType) -> PixelType:
        union = left.union(right)
        bounds = (left.min, left.max, right.min, right.max)
        if not union.is_integer or None in bounds:
            return union
        extremes = [
            operation(one, other)
            for one, other in itertools.product((left.min, left.max), (right.min, right.max))
        ]
        return PixelType("int", int(min(extremes)), int(max(extremes)))

    return rule


def _bits(left: PixelType, right: PixelType) -> PixelType:
    return PixelType("int", *_span(left.union(right)))


def _span(pixel_type: PixelType) -> tuple[float | None, float | None]:
    """The range of the bits that a type has."""
    limits = np.iinfo(pixel_type.dtype) if pixel_type.is_integer else np.iinfo(np.int64)
    return int(limits.min), int(limits.max)


@dataclass(frozen=True, slots=True)
class Binary:
    """An operation on two numbers or arrays, and the type of its result."""

    operate: Callable[[Any, Any], Any]
    type_rule: TypeRule

    def on_images(self, left: Image, right: Image) -> Image:
        """Band by band in order; a single band serves every band of the other image.

        The result has the names of the image with more bands, else of the first.
        """
        pairs = pair_bands(left, right)
        names = (right if len(right.bands) > len(left.bands) else left).band_names
        bands = [self._band(name, one, other) for name, (one, other) in zip(names, pairs, strict=True)]
        return Image(tuple(bands), {}, left.footprint or right.footprint)

    def _band(self, name: str, left: Band, right: Band) -> Band:
        def compute(window: Window) -> Pixels:
            one, other = left.read(window), right.read(window)
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.asarray(self.operate(one.values, other.values), np.float64)
            mask = np.minimum(one.mask, other.mask)
            finite = np.isfinite(values)
            return Pixels(np.where(finite, values, 0), np.where(finite, mask, 0))

        return Band(name, self.type_rule(left.pixel_type, right.pixel_type), left.projection, compute)

    def on_numbers(self, left: float, right: float) -> int | float:
        value = self.operate(left, right)
        return value.item() if isinstance(value, np.generic) else value


def pair_bands(left: Image, right: Image) -> list[tuple[Band, Band]]:
    """The bands of two images that belong together.

    Raises:
        EarthEngineError: both have several, and not as many.
    """
    one, other = left.bands, right.bands
    if len(one) == 1:
        one = one * len(other)
    elif len(other) == 1:
        other = other * len(one)
    if len(one) != len(other):
        raise EarthEngineError(
            "Images must contain the same number of bands or a single band. "
            f"Got {len(left.bands)} and {len(right.bands)}."
        )
    return list(zip(one, other, strict=True))


def _integers(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: operation(
        np.asarray(left).astype(np.int64), np.asarray(right).astype(np.int64)
    )


BINARY: dict[str, Binary] = {
    "add": Binary(lambda left, right: left + right, _interval(lambda a, b: a + b)),
    "subtract": Binary(lambda left, right: left - right, _interval(lambda a, b: a - b)),
    "multiply": Binary(lambda left, right: left * right, _interval(lambda a, b: a * b)),
    "divide": Binary(np.true_divide, _real),
    "mod": Binary(np.fmod, PixelType.union),
    "pow": Binary(np.float_power, _real),
    "min": Binary(np.minimum, _interval(min)),
    "max": Binary(np.maximum, _interval(max)),
    "gt": Binary(lambda left, right: (left > right) * 1, _flag),
    "gte": Binary(lambda left, right: (left >= right) * 1, _flag),
    "lt": Binary(lambda left, right: (left < right) * 1, _flag),
    "lte": Binary(lambda left, right: (left <= right) * 1, _flag),
    "eq": Binary(lambda left, right: (left == right) * 1, _flag),
    "neq": Binary(lambda left, right: (left != right) * 1, _flag),
    "and": Binary(lambda left, right: np.logical_and(left, right) * 1, _flag),
    "or": Binary(lambda left, right: np.logical_or(left, right) * 1, _flag),
    "bitwiseAnd": Binary(_integers(np.bitwise_and), _bits),
    "bitwiseOr": Binary(_integers(np.bitwise_or), _bits),
    "bitwiseXor": Binary(_integers(np.bitwise_xor), _bits),
    "leftShift": Binary(_integers(np.left_shift), lambda *_: PixelType("int")),
    "rightShift": Binary(_integers(np.right_shift), _bits),
}


def _unary(
    operation: Callable[[Array], Array], type_rule: Callable[[PixelType], PixelType]
) -> Callable[[Image], Image]:
    def apply(image: Image) -> Image:
        return image.bare(_unary_band(band, operation, type_rule(band.pixel_type)) for band in image.bands)

    return apply


def _unary_band(band: Band, operation: Callable[[Array], Array], pixel_type: PixelType) -> Band:
    def compute(window: Window) -> Pixels:
        pixels = band.read(window)
        return Pixels(np.asarray(operation(pixels.values), np.float64), pixels.mask)

    return band.derive(compute, pixel_type)


def _whole(pixel_type: PixelType) -> PixelType:
    return pixel_type if pixel_type.is_integer else PixelType("double")


def _negated(pixel_type: PixelType) -> PixelType:
    if not pixel_type.is_integer or pixel_type.min is None or pixel_type.max is None:
        return pixel_type
    return PixelType("int", -pixel_type.max, -pixel_type.min)


def _absolute(pixel_type: PixelType) -> PixelType:
    if not pixel_type.is_integer or pixel_type.min is None or pixel_type.max is None:
        return pixel_type
    return PixelType("int", 0, max(abs(pixel_type.min), abs(pixel_type.max)))


UNARY: dict[str, Callable[[Image], Image]] = {
    "not": _unary(lambda values: (values == 0) * 1.0, lambda _: FLAG),
    "abs": _unary(np.abs, _absolute),
    # Java's Math.round, which the service runs on: halves go up.
    "round": _unary(lambda values: np.floor(values + 0.5), _whole),
    "floor": _unary(np.floor, _whole),
    "ceil": _unary(np.ceil, _whole),
    "sqrt": _unary(np.sqrt, lambda _: PixelType("double")),
    "unaryMinus": _unary(np.negative, _negated),
}


def _cast(dtype: str) -> Callable[[Image], Image]:
    """A cast: integers cut the fraction off, then keep to the type's range."""
    target = np.dtype(dtype)

    def convert(values: Array) -> Array:
        if target.kind == "f":
            return values.astype(target).astype(np.float64)
        limits = np.iinfo(target)
        return np.clip(np.trunc(values), limits.min, limits.max)

    def apply(image: Image) -> Image:
        return image.with_bands(_unary_band(band, convert, PixelType.of(target)) for band in image.bands)

    return apply


_CASTS = {
    "u1": ("toByte", "byte", "toUint8", "uint8"),
    "i1": ("toInt8", "int8"),
    "u2": ("toUint16", "uint16"),
    "i2": ("toShort", "short", "toInt16", "int16"),
    "u4": ("toUint32", "uint32"),
    "i4": ("toInt", "int", "toInt32", "int32"),
    "f4": ("toFloat", "float"),
    "f8": ("toDouble", "double"),
}


def _spellings(name: str) -> set[str]:
    """The service knows ``bitwiseAnd`` as ``bitwise_and`` too."""
    return {name, re.sub("([A-Z])", lambda match: "_" + match[0].lower(), name)}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"Image.{each}": binary.on_images for name, binary in BINARY.items() for each in _spellings(name)},
    **{f"Number.{each}": binary.on_numbers for name, binary in BINARY.items() for each in _spellings(name)},
    **{f"Image.{name}": function for name, function in UNARY.items()},
    **{f"Image.{name}": _cast(dtype) for dtype, names in _CASTS.items() for name in names},
}
