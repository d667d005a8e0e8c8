"""The findings of a proof, in a form that can be pasted into an issue."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pc_cloudmask.version import __version__


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    DIFFERS = "differs"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its finding in a line, and its figures as plain JSON values."""

    name: str
    verdict: Verdict
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "check": self.name,
            "verdict": str(self.verdict),
            "detail": self.detail,
            "figures": dict(self.figures),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """The checks of a scene, the versions and servers used, and what was exchanged.

    ``fault`` is the fault of the setup that ended it, if any.
    """

    item_id: str
    checks: tuple[Check, ...]
    versions: Mapping[str, str] = field(hash=False)
    servers: tuple[str, ...]
    transfer: Mapping[str, Any] = field(hash=False)
    seconds: float
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """Return True if every check passed."""
        return all(check.verdict is Verdict.PASSED for check in self.checks)

    @property
    def summary(self) -> str:
        """Return the outcome in a few words."""
        if self.holds:
            return f"all of {len(self.checks)} checks passed"
        counts = {verdict: sum(check.verdict is verdict for check in self.checks) for verdict in Verdict}
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "item": self.item_id,
            "holds": self.holds,
            "checks": [check.as_json() for check in self.checks],
            "versions": dict(self.versions),
            "servers": list(self.servers),
            "transfer": dict(self.transfer),
            "seconds": round(self.seconds, 1),
            "fault": self.fault,
        }

    def list_lines(self) -> Iterator[str]:
        """Yield the report as lines for people."""
        yield f"cloudmask prove {self.item_id}: {self.summary}"
        for check in self.checks:
            yield f"  {check.verdict:<9}  {check.name:<9}  {check.detail}{_describe_cost(check)}"
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield f"against {', '.join(self.servers)}"
        transfer, eecu_s = self.transfer, self.transfer["eecu_seconds"]
        told = "not told" if eecu_s is None else f"{eecu_s:.1f} EECU-seconds"
        yield (
            f"{transfer['requests']} requests to Earth Engine, {transfer['retries']} of them again, "
            f"{transfer['splits']} windows split; {transfer['bytes'] / 1e6:.1f} MB of pixels; {self.seconds:.1f} s; "
            f"computing there: {told}"
        )


def _describe_cost(check: Check) -> str:
    """Return what Earth Engine was asked for, if anything."""
    requests, size = check.figures.get("requests", 0), check.figures.get("bytes", 0)
    noun = "request" if requests == 1 else "requests"
    return f" [{requests} {noun}, {size / 1e6:.1f} MB, {check.seconds:.1f} s]" if requests else ""


def read_versions(software: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of everything used, including ``software``."""
    import numpy  # noqa: PLC0415 - heavy, and needed for its version alone
    import rasterio  # noqa: PLC0415

    return {
        "pc-cloudmask": __version__,
        **software,
        "rasterio": rasterio.__version__,
        "GDAL": rasterio.__gdal_version__,
        "numpy": numpy.__version__,
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}",
    }


def anonymise(text: str, secrets: Mapping[str, str]) -> str:
    """Return ``text`` without the user's home folder, and with each of ``secrets`` replaced by its placeholder."""
    for secret, name in {**secrets, str(Path.home()): "~"}.items():
        if len(secret) > 1:
            text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", name, text)
    return text
