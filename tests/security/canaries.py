"""What notices that something was read that must not be."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doubles.range_server import RangeServer

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_EVENT = struct.Struct("iIII")


class Watch:
    """Tells how often files in ``folder`` were opened or read since it began, by any process (inotify)."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        if (
            self._descriptor < 0
            or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_ACCESS | _IN_OPEN) < 0
        ):
            raise OSError(ctypes.get_errno(), "inotify")

    def read_names(self) -> list[str]:
        """Names of the files; those opened again stand there again."""
        names = []
        try:
            events = os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return names
        at = 0
        while at < len(events):
            *_, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            names.append(events[at - length : at].rstrip(b"\0").decode())
        return [name for name in names if name]

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    """A watch on ``folder``, ended with the block."""
    watch = Watch(folder)
    try:
        yield watch
    finally:
        watch.close()


class CatchAllProxy(RangeServer):
    """Where a process sends whatever it asks of any host, if ``environment`` is its own; answers 403."""

    class handler(RangeServer.handler):  # noqa: N801 - the base class's name
        do_CONNECT = do_POST = RangeServer.handler.do_GET  # noqa: N815 - the base class's names

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.plan = lambda _path, _number: (403, b"", {})

    def environment(self, no_proxy: str = "") -> dict[str, str]:
        """The variables that requests and GDAL's curl read; ``no_proxy`` names what is asked directly."""
        names = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
        both = dict.fromkeys(names, self.url) | {name.upper(): self.url for name in names}
        return {**both, "no_proxy": no_proxy, "NO_PROXY": no_proxy}
