"""Which methods may make a scene's mask now: the ladder of methods, best first.

How the ladder decides
----------------------
A method is a rung. Its input is available or late: Earth Engine lacks an image, a cloud layer is masked, the item lacks
a band. A run asks for the inputs of the rungs that ``list_rungs`` returns, in order; the first rung with its input
makes the mask, and those below it are not asked for. The rungs depend on the published mask:

    none                            the first rung alone for ``patience`` after sensing, then every rung
    a current mask                  the rungs above its own: for the first rung there are none, the mask is final
    a mask of another item or       its own rung and those above it
    with other parameters

Invariants:

1. A mask never replaces a better one. If the better input of a changed item is late, the scene waits for it, and the
   mask of the old item stays. This holds between writers that do not see each other, too: an item is put with the
   methods whose masks it may not replace (``Publication.better``), and the swap checks the item that is there.
2. A mask of any rung but the first is provisional, and its item says so. The scene is tried again with the rungs above,
   less and less often (``StateKind.PROVISIONAL``), until one of them replaces it.
3. A scene waits if no rung that may be used has its input. Patience delays nothing else: an upgrade comes at once.
4. The answer depends only on what is published and on the time. Losing a scene's state costs one try. The state
   contains a digest of the rungs that were tried, so that a scene is tried at once when its item, the ladder or the end
   of its patience changes what may be tried.
5. With one method, the ladder is that method: it makes every mask, or the scene waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PublishedMask:
    """The mask of a scene in the catalog.

    ``is_current`` says that ``method`` would make the same mask and item from the source's present item.
    """

    method: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """Names of methods, best first, and how long after sensing a scene waits for the first one's input."""

    methods: tuple[str, ...]
    patience: timedelta = timedelta()

    def list_rungs(
        self, taken: datetime, now: datetime, published: PublishedMask | None = None
    ) -> tuple[str, ...]:
        """Return the methods that may make the mask of a scene now, best first; none if it is final.

        Args:
            taken: when the scene was sensed.
            now: the time.
            published: its mask in the catalog; None if there is none. A mask by a method that is not on the ladder may
                be replaced as if there were none.
        """
        if published is None or published.method not in self.methods:
            return self.methods if now - taken >= self.patience else self.methods[:1]
        better = self.list_better(published.method)
        return better if published.is_current else (*better, published.method)

    def list_better(self, method: str) -> tuple[str, ...]:
        """Return the rungs above ``method``."""
        return self.methods[: self.methods.index(method)]

    def is_provisional(self, method: str) -> bool:
        """Return True if a mask by ``method`` will be replaced once a better input is available."""
        return method != self.methods[0]
