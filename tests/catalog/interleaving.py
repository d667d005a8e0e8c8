"""Every order of the steps of several writers, each state of store and writers looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from inspect import isgenerator
from typing import Any

from pc_cloudmask.catalog.layout import YearKeys
from pc_cloudmask.catalog.states import Step, StepName, Steps
from tests.doubles.memory_store import MemoryStore

#: Steps after which nothing is there that another writer looks at and that was not there before.
_LONELY = {StepName.FILE, StepName.ITEM}
_ABOVE = YearKeys("22KFV", 2018).chain[1:]
Write = Callable[[MemoryStore], Steps]


@dataclass
class State:
    """A store and its writers after some turns; ``ended`` are the numbers of those that are at their end.

    ``stored`` tells what the store holds from anything else.
    """

    store: MemoryStore
    writers: list[Steps]
    turns: tuple[int, ...] = ()
    steps: list[Step] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    stored: bytes = b""
    _changes: int = -1
    _places: dict[int, bytes] = field(default_factory=dict)

    def advance(self, number: int) -> None:
        """Let one writer go on to its next step that another may meet, or to its end.

        The catalogs above a year are there, and an item's files concern nobody before their item is there.
        """
        self.turns += (number,)
        self._places.pop(number, None)
        for step in self.writers[number]:
            self.steps.append(step)
            if step.name not in _LONELY and step.key not in _ABOVE:
                return
        self.ended.add(number)

    @property
    def running(self) -> list[int]:
        return [number for number in range(len(self.writers)) if number not in self.ended]

    def look(self) -> bytes:
        """What tells this state from any other, whichever way it was come by."""
        changes = self.store.requests.get("write", 0) + self.store.requests.get("delete", 0)
        if changes != self._changes:
            self._changes, self.stored = changes, _digest(*sorted(self.store.objects.items()))
        for number, writer in enumerate(self.writers):
            if number not in self._places:
                self._places[number] = _digest(*_describe(writer))
        return _digest(self.stored, *sorted(self._places.items()))


def _digest(*parts: object) -> bytes:
    return sha256(repr(parts).encode()).digest()


def _describe(steps: Any) -> list[object]:
    """Where a generator stands, with what it has in hand; so for those that it yields from."""
    if not isgenerator(steps):
        return []
    if steps.gi_frame is None:
        return ["ended"]
    in_hand = sorted((name, repr(value)) for name, value in steps.gi_frame.f_locals.items())
    # A store, a function and steps yet to be taken have nothing but an address to show.
    told = [each for each in in_hand if " at 0x" not in each[1]]
    return [steps.__qualname__, steps.gi_frame.f_lasti, told, *_describe(steps.gi_yieldfrom)]


def visit_states(objects: dict[str, bytes], writes: Sequence[Write]) -> Iterator[State]:
    """Yield each state that the writers can come to from a store of ``objects``; look, change nothing."""
    seen: set[bytes] = set()
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        state = _replay(objects, writes, waiting.pop())
        while (look := state.look()) not in seen:
            seen.add(look)
            yield state
            running = state.running
            if not running:
                break
            waiting += [(*state.turns, number) for number in running[1:]]
            state.advance(running[0])


def _replay(objects: dict[str, bytes], writes: Sequence[Write], turns: tuple[int, ...]) -> State:
    store = MemoryStore()
    store.objects = dict(objects)
    state = State(store, [write(store) for write in writes])
    for number in turns:
        state.advance(number)
    return state
