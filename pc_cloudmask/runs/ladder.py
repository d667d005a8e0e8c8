"""Which methods may make a scene's mask now: the ladder of methods, the best first.

How the ladder decides
----------------------
A method is a rung. Its input exists, or is late: Earth Engine lacks an image, a cloud layer is masked, the item lacks
a band. Whoever publishes asks for the inputs of the rungs that ``list_rungs`` gives, from the first on, and the first
whose input is there makes the mask; a rung below it is not asked for. What ``list_rungs`` gives depends on the mask
that is published:

    none                            the first rung alone until the scene was taken ``patience`` ago, then every rung
    one that is as it should be     the rungs above its own: none for the first one's, which is final
    one made of another item or     its own rung and those above it
    with other parameters

Invariants:

1. A mask never takes the place of a better one. Where a changed item's better input is late, the scene waits for it,
   and the mask of the item as it was stays. Writers that do not see each other keep this too: what is put says whose
   masks it may not replace (``Publication.better``), and the swap looks at the item that is there.
2. A mask that is not the first rung's is provisional, and its item says so. The scene is tried again at the rungs
   above, less and less often (``StateKind.PROVISIONAL``), until one of them takes its place.
3. A scene for which no rung that may be used has its input waits, and patience delays nothing else: an upgrade comes
   at once.
4. The answer depends on nothing but what is published and the time. Losing what is noted of a scene costs one try.
   What is noted carries a digest of the rungs that were tried, so that a scene is tried at once when its item, the
   ladder, or the end of its patience changes what may be tried.
5. With one method the ladder is that method: it makes every mask, or the scene waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PublishedMask:
    """The mask that the catalog has of a scene.

    ``is_current`` tells that ``method`` would make the same mask and item of the source's item as it is now.
    """

    method: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """Names of methods, the best first, and how long after sensing a scene waits for the first one's input."""

    methods: tuple[str, ...]
    patience: timedelta = timedelta()

    def list_rungs(
        self, taken: datetime, now: datetime, published: PublishedMask | None = None
    ) -> tuple[str, ...]:
        """Return the methods that may make the mask of a scene now, the best first; none where it is final.

        Args:
            taken: when the scene was sensed.
            now: the time.
            published: its mask in the catalog; None where there is none. One by a method that is no rung may be
                replaced like none.
        """
        if published is None or published.method not in self.methods:
            return self.methods if now - taken >= self.patience else self.methods[:1]
        better = self.list_better(published.method)
        return better if published.is_current else (*better, published.method)

    def list_better(self, method: str) -> tuple[str, ...]:
        """Return the rungs above that of ``method``."""
        return self.methods[: self.methods.index(method)]

    def is_provisional(self, method: str) -> bool:
        """Return True if a mask by ``method`` is to be replaced once a better input is there."""
        return method != self.methods[0]
