"""Where networks run, and which weights: what the settings say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: What the settings may name; ``auto`` is the first of ``DEVICES`` that is there.
Device = Literal["auto", "cpu", "cuda", "mps"]
#: Those that there are, a GPU before the processor.
DEVICES: tuple[str, ...] = ("cuda", "mps", "cpu")


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a network runs.

    ``batch_size`` patches are computed at a time. ``model_version`` names a release of the model, ``weights`` the
    folder of its files, None the one that its package keeps them in. All but ``device`` are OmniCloudMask's.
    """

    device: Device = "auto"
    batch_size: int = 1
    model_version: float = 4.0
    weights: Path | None = None
