"""Bands of single images."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.coercion import to_image
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.functions.arithmetic import BINARY
from tests.doubles.earth_engine.images import Band, Image


def select(image: Image, selectors: list[Any], new_names: list[str] | None) -> Image:
    """The bands that names, patterns or indices pick, in that order."""
    bands = [band for selector in selectors for band in _matching(image, selector)]
    return image.with_bands(bands if new_names is None else _named(bands, new_names))


def _matching(image: Image, selector: Any) -> list[Band]:
    if isinstance(selector, list):
        return [band for part in selector for band in _matching(image, part)]
    if isinstance(selector, int):
        if not -len(image.bands) <= selector < len(image.bands):
            raise EarthEngineError(f"Band index {selector} is out of range [0, {len(image.bands)}).")
        return [image.bands[selector]]
    found = [band for band in image.bands if re.fullmatch(selector, band.name)]
    if not found:
        available = ", ".join(image.band_names)
        raise EarthEngineError(
            f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: [{available}]"
        )
    return found


def _named(bands: list[Band], names: list[str]) -> list[Band]:
    if len(bands) != len(names):
        raise EarthEngineError(f"The number of names ({len(names)}) must match the bands ({len(bands)}).")
    return [band.renamed(name) for band, name in zip(bands, names, strict=True)]


def rename(image: Image, names: list[str]) -> Image:
    return image.with_bands(_named(list(image.bands), names))


def add_bands(image: Image, source: Image, names: list[str] | None, overwrite: bool) -> Image:
    """The source's bands after the image's; a name that is taken replaces, or gets a number."""
    added = source.bands if names is None else select(source, list(names), None).bands
    bands = {band.name: band for band in image.bands}
    for band in added:
        name, number = band.name, 0
        while name in bands and not overwrite:
            number += 1
            name = f"{band.name}_{number}"
        bands[name] = band if name == band.name else band.renamed(name)
    return image.with_bands(bands.values())


def concatenate(images: list[Any]) -> Image:
    first, *rest = (to_image(image) for image in images)
    for image in rest:
        first = add_bands(first, image, None, False)
    return first


def normalized_difference(image: Image, names: list[str] | None) -> Image:
    pair = image.bands[:2] if names is None else select(image, list(names), None).bands
    first, second = (image.bare([band]) for band in pair)
    difference = BINARY["subtract"].on_images(first, second)
    result = BINARY["divide"].on_images(difference, BINARY["add"].on_images(first, second))
    return rename(result, ["nd"])


def constant(value: Any) -> Image:
    return to_image(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.addBands": add_bands,
    "Image.bandNames": lambda image: image.band_names,
    "Image.cat": concatenate,
    "Image.constant": constant,
    "Image.normalizedDifference": normalized_difference,
    "Image.rename": rename,
    "Image.select": select,
}
