"""What requests cost Earth Engine, where it tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import ee

from pc_cloudmask.errors import EngineError
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.web import Deadline

#: Scenes whose profiles are read in one request.
SCENES_AT_ONCE = 50
#: How a profile's table begins; the column holds a figure, or a dash where there is none.
_FIRST_COLUMN = "EECU·s"


@contextmanager
def profiling(session: EarthEngineSession) -> Iterator[list[str]]:
    """Ask Earth Engine to profile the requests of the block; the list is of their profiles' ids."""
    ids: list[str] = []
    session.profile_hook = ids.append
    try:
        yield ids
    finally:
        session.profile_hook = None


def read_eecu_seconds(session: EarthEngineSession, ids: list[str]) -> float | None:
    """Return the EECU-seconds of profiles, in one request; None where Earth Engine does not tell them."""
    if not ids:
        return None
    profiles = ee.ApiFunction.call_("Profile.getProfiles", ids)
    deadline = Deadline(session.limits.pairing_deadline_s)
    try:
        text = session.call("reading profiles", partial(ee.data.computeValue, profiles), deadline)
    except EngineError:  # no figure is no reason to lose the others
        return None
    return sum_eecu_seconds(str(text))


def read_scene_eecu(
    session: EarthEngineSession, profiles: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    """Return the EECU-seconds of each scene by its profiles' ids, some scenes in one request; None where untold."""
    told: dict[str, float | None] = dict.fromkeys(profiles)
    known = [scene_id for scene_id, ids in profiles.items() if ids]
    for first in range(0, len(known), SCENES_AT_ONCE):
        scene_ids = known[first : first + SCENES_AT_ONCE]
        asked = ee.List(
            [ee.ApiFunction.call_("Profile.getProfiles", list(profiles[each])) for each in scene_ids]
        )
        deadline = Deadline(session.limits.pairing_deadline_s)
        try:
            texts = session.call("reading profiles", partial(ee.data.computeValue, asked), deadline)
        except EngineError:  # no figure is no reason to lose the others
            continue
        if isinstance(texts, list) and len(texts) == len(scene_ids):
            told |= {
                scene_id: sum_eecu_seconds(str(text)) for scene_id, text in zip(scene_ids, texts, strict=True)
            }
    return told


def sum_eecu_seconds(text: str) -> float | None:
    """Return the sum of a profile's first column, or None if it is not the one that it should be."""
    header, *rows = text.splitlines() or [""]
    if header.split()[:1] != [_FIRST_COLUMN]:
        return None
    return sum(float(row.split()[0]) for row in rows if _is_figure(row.split()[:1]))


def _is_figure(cells: list[str]) -> bool:
    return bool(cells) and cells[0].replace(".", "", 1).isdecimal()
