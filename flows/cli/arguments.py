"""The command line before typer sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence

GLOBAL_FLAGS = frozenset({"--json", "-v", "--verbose", "--prefect", "--no-prefect"})
GLOBAL_OPTIONS = frozenset({"--config"})
_VERBOSE = re.compile("-v+")
REPEATED_OPTIONS = frozenset({"--tile", "--ids", "--area", "--ring"})


def normalise_arguments(arguments: Sequence[str]) -> list[str]:
    """Global options moved to the front, and ``--tile A B`` spelled ``--tile A --tile B``.

    Both forms are promised to users; click knows neither.
    """
    front: list[str] = []
    rest: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        if word == "--":
            rest += [word, *pending]
            break
        if (
            word in GLOBAL_FLAGS
            or _VERBOSE.fullmatch(word)
            or (word.split("=", 1)[0] in GLOBAL_OPTIONS and "=" in word)
        ):
            front.append(word)
        elif word in GLOBAL_OPTIONS and pending:
            front += [word, pending.pop(0)]
        elif word in REPEATED_OPTIONS and pending:
            rest += [word, pending.pop(0)]
            while pending and not pending[0].startswith("-"):
                rest += [word, pending.pop(0)]
        else:
            rest.append(word)
    return front + rest
