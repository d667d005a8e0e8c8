"""The Cloudmask extension as pystac sees it: how a cloud mask was made, how much it masks.

.. code-block:: python

    >>> item.ext.has("cloudmask")
    True
    >>> CloudmaskExtension.ext(item).percentages.cloud
    12.5

The module is the target of the ``pystac.extensions`` entry point, so pystac imports it when it first
reads a document; from then on ``item.ext.has``, ``add`` and ``remove`` know the name ``cloudmask``.
Where items are made rather than read, import it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar, Literal, cast

import pystac
from pystac.extensions.base import ExtensionManagementMixin, PropertiesExtension, SummariesExtension
from pystac.extensions.ext import EXTENSION_NAME_MAPPING
from pystac.extensions.hooks import ExtensionHooks

SCHEMA_URI: str = "https://pc-cloudmask.github.io/cloudmask/v1.0.0/schema.json"
SCHEMA_URIS: list[str] = [SCHEMA_URI]
PREFIX: str = "cloudmask:"

METHOD_PROP: str = PREFIX + "method"  # required
PROVISIONAL_PROP: str = PREFIX + "provisional"
PARAMETERS_PROP: str = PREFIX + "parameters"
GRANULE_PROP: str = PREFIX + "granule"
GRANULES_PROP: str = PREFIX + "granules"
CLOUD_PERCENTAGE_PROP: str = PREFIX + "cloud_percentage"
SHADOW_PERCENTAGE_PROP: str = PREFIX + "shadow_percentage"
CLEAR_PERCENTAGE_PROP: str = PREFIX + "clear_percentage"
NODATA_PERCENTAGE_PROP: str = PREFIX + "nodata_percentage"
FINGERPRINT_PROP: str = PREFIX + "fingerprint"

METHOD_PATTERN: re.Pattern[str] = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def read_schema() -> dict[str, Any]:
    """Return the JSON schema behind ``SCHEMA_URI``, from the package: validation needs no network."""
    text = files("stac_ext").joinpath("json-schema", "schema.json").read_text("utf-8")
    return cast(dict[str, Any], json.loads(text))


def validated_method(v: str) -> str:
    """Return ``v`` if it has the form of a method's name.

    Raises:
        ValueError: it has another form.
    """
    if not METHOD_PATTERN.fullmatch(v):
        raise ValueError(f"cloudmask:method {v!r}: use lower-case letters and digits, in words joined by '-'")
    return v


@dataclass(frozen=True, slots=True)
class Percentages:
    """Shares of a mask, 0..100.

    ``cloud``, ``shadow`` and ``clear`` are of the valid pixels: they sum to 100. ``nodata`` is of all
    pixels. Where no pixel is valid, the three are None.
    """

    cloud: float | None
    shadow: float | None
    clear: float | None
    nodata: float


class CloudmaskExtension(PropertiesExtension, ExtensionManagementMixin[pystac.Item | pystac.Collection]):
    """Properties of an item that carries a cloud mask.

    Call :meth:`ext` on a :class:`pystac.Item` rather than the constructor.
    """

    name: Literal["cloudmask"] = "cloudmask"

    item: pystac.Item
    """The item being extended."""

    properties: dict[str, Any]
    """The item's properties, those of the extension among them."""

    def __init__(self, item: pystac.Item) -> None:
        self.item = item
        self.properties = item.properties

    def __repr__(self) -> str:
        return f"<CloudmaskExtension Item id={self.item.id}>"

    def apply(
        self,
        method: str,
        percentages: Percentages | None = None,
        parameters: Mapping[str, Any] | None = None,
        granules: Sequence[str] = (),
        fingerprint: str | None = None,
        *,
        provisional: bool = False,
    ) -> None:
        """Set every property of the extension; what is not given is removed.

        Args:
            method: how the mask was derived, such as ``s2cloudless``.
            percentages: what the mask covers.
            parameters: the thresholds that the method used, by name.
            granules: Earth Engine image ids in mosaic order, where there are any.
            fingerprint: SHA-256 of everything the mask follows from, in hex.
            provisional: a better mask is to take its place.

        Raises:
            ValueError: the method's name has another form than the schema allows.
        """
        self.method = method
        self.provisional = provisional
        self.parameters = parameters
        self.granules = granules
        self.percentages = percentages
        self.fingerprint = fingerprint

    @property
    def method(self) -> str | None:
        """How the mask was derived."""
        return self._get_property(METHOD_PROP, str)

    @method.setter
    def method(self, v: str) -> None:
        self._set_property(METHOD_PROP, validated_method(v), pop_if_none=False)

    @property
    def provisional(self) -> bool:
        """True if a better mask is to take the place of this one; an item that does not say so is final."""
        return bool(self._get_property(PROVISIONAL_PROP, bool))

    @provisional.setter
    def provisional(self, v: bool) -> None:
        self._set_property(PROVISIONAL_PROP, v or None)

    @property
    def percentages(self) -> Percentages | None:
        """What the mask covers; None where the item does not say."""
        nodata = self._get_property(NODATA_PERCENTAGE_PROP, float)
        if nodata is None:
            return None
        return Percentages(
            cloud=self._get_property(CLOUD_PERCENTAGE_PROP, float),
            shadow=self._get_property(SHADOW_PERCENTAGE_PROP, float),
            clear=self._get_property(CLEAR_PERCENTAGE_PROP, float),
            nodata=nodata,
        )

    @percentages.setter
    def percentages(self, v: Percentages | None) -> None:
        self._set_property(CLOUD_PERCENTAGE_PROP, v.cloud if v else None)
        self._set_property(SHADOW_PERCENTAGE_PROP, v.shadow if v else None)
        self._set_property(CLEAR_PERCENTAGE_PROP, v.clear if v else None)
        self._set_property(NODATA_PERCENTAGE_PROP, v.nodata if v else None)

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The thresholds that the method used."""
        return self._get_property(PARAMETERS_PROP, dict)

    @parameters.setter
    def parameters(self, v: Mapping[str, Any] | None) -> None:
        self._set_property(PARAMETERS_PROP, None if v is None else dict(v))

    @property
    def granules(self) -> Sequence[str]:
        """Earth Engine image ids in mosaic order: one, two of a split datatake, or none."""
        granules = self._get_property(GRANULES_PROP, list)
        if granules is not None:
            return tuple(granules)
        granule = self._get_property(GRANULE_PROP, str)
        return () if granule is None else (granule,)

    @granules.setter
    def granules(self, v: Sequence[str]) -> None:
        self._set_property(GRANULE_PROP, v[0] if v else None)
        self._set_property(GRANULES_PROP, list(v) if len(v) > 1 else None)

    @property
    def fingerprint(self) -> str | None:
        """SHA-256, in hex, of everything the mask follows from."""
        return self._get_property(FINGERPRINT_PROP, str)

    @fingerprint.setter
    def fingerprint(self, v: str | None) -> None:
        self._set_property(FINGERPRINT_PROP, v)

    @classmethod
    def get_schema_uri(cls) -> str:
        """Return the identifier of the version that this module writes."""
        return SCHEMA_URI

    @classmethod
    def ext(cls, obj: pystac.Item, add_if_missing: bool = False) -> CloudmaskExtension:
        """Return the extension's view of ``obj``.

        Raises:
            pystac.ExtensionTypeError: ``obj`` is not an item.
            pystac.ExtensionNotImplemented: ``obj`` does not list the extension.
        """
        if isinstance(obj, pystac.Item):
            cls.ensure_has_extension(obj, add_if_missing)
            return cls(obj)
        raise pystac.ExtensionTypeError(cls._ext_error_message(obj))

    @classmethod
    def summaries(cls, obj: pystac.Collection, add_if_missing: bool = False) -> SummariesCloudmaskExtension:
        """Return the extension's view of a collection's summaries.

        Raises:
            pystac.ExtensionNotImplemented: ``obj`` does not list the extension.
        """
        cls.ensure_has_extension(obj, add_if_missing)
        return SummariesCloudmaskExtension(obj)


def _build_range(prop: str, doc: str) -> Any:
    """Return the property of a summaries extension that reads and sets the range of ``prop``."""
    return property(
        lambda self: self.summaries.get_range(prop), lambda self, v: self._set_summary(prop, v), doc=doc
    )


class SummariesCloudmaskExtension(SummariesExtension):
    """What a collection's summaries say of its masks."""

    @property
    def method(self) -> list[str] | None:
        """Every method that an item of the collection was derived with."""
        return self.summaries.get_list(METHOD_PROP)

    @method.setter
    def method(self, v: list[str] | None) -> None:
        self._set_summary(METHOD_PROP, v)

    cloud_percentage: pystac.RangeSummary[float] | None = _build_range(
        CLOUD_PERCENTAGE_PROP, "The least and the most cloudy item."
    )
    shadow_percentage: pystac.RangeSummary[float] | None = _build_range(
        SHADOW_PERCENTAGE_PROP, "The least and the most shadowed item."
    )
    clear_percentage: pystac.RangeSummary[float] | None = _build_range(
        CLEAR_PERCENTAGE_PROP, "The least and the most clear item."
    )
    nodata_percentage: pystac.RangeSummary[float] | None = _build_range(
        NODATA_PERCENTAGE_PROP, "The fullest and the emptiest item."
    )


class CloudmaskExtensionHooks(ExtensionHooks):
    """How pystac brings older documents up to date: there is no older version yet."""

    schema_uri: ClassVar[str] = SCHEMA_URI
    prev_extension_ids: ClassVar[set[str]] = {uri for uri in SCHEMA_URIS if uri != SCHEMA_URI}
    stac_object_types: ClassVar[set[pystac.STACObjectType]] = {
        pystac.STACObjectType.ITEM,
        pystac.STACObjectType.COLLECTION,
    }


CLOUDMASK_EXTENSION_HOOKS: ExtensionHooks = CloudmaskExtensionHooks()

# pystac's `.ext` accessors look names up here; the names it knows are a Literal of its own extensions.
cast(dict[str, Any], EXTENSION_NAME_MAPPING)[CloudmaskExtension.name] = CloudmaskExtension
