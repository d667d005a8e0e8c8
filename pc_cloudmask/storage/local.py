"""An object store in a local directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from pc_cloudmask.errors import KeyExists, StoreObstructed, StoreRefused, StoreUnavailable, WriteConflict
from pc_cloudmask.storage.store import (
    PROBE_PREFIX,
    ObjectInfo,
    ObjectPart,
    StoreCapabilities,
    StoredObject,
    check_key,
    check_prefix,
)

T = TypeVar("T")
TEMPORARY_FOLDER = ".tmp"
_LOCK_ATTEMPTS = 1000
#: A temporary file older than this belongs to a dead writer: writing one takes far less.
STALE_AFTER_S = 3600


class LocalStore:
    """Keys are paths below ``root``, which is created at the first write.

    Every write goes to a temporary file that is synced and then renamed or linked into place, so a reader sees only
    complete objects. Writers of one folder take turns with a ``flock`` on the folder itself: no lock files are left
    over, and a killed writer's lock dies with it. The ETag is the SHA-256 of the content. Symbolic links below the root
    are refused, because they could lead out of it.

    If the root has existed and is now gone, or is a different, empty folder, a disk was unmounted: nothing is then
    reported absent, and nothing is written in its place.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = str(self.root)
        #: A flag, never released: whoever takes it, at the first write, removes what dead writers left.
        self._sweep_lock = threading.Lock()
        self._probed = False
        self._probe_lock = threading.Lock()
        #: Device and inode of the root, once it held anything.
        self._seen: tuple[int, int] | None = None
        self._seen_lock = threading.Lock()

    def probe_capabilities(self) -> StoreCapabilities:
        """Return both capabilities, after proving that the file system can link and rename."""
        with self._probe_lock:
            if not self._probed:
                key = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
                with self._traceless():
                    self.create_object(key, b"probe", "text/plain")
                    try:
                        self.replace_object(key, b"proved", "text/plain", _etag(b"probe"))
                    finally:
                        self.delete_object(key)
                self._probed = True
        return StoreCapabilities(create_only=True, compare_and_swap=True)

    def read_object(self, key: str) -> StoredObject | None:
        """See ``ObjectStore``."""
        return self._read(key, lambda file: StoredObject(key, body := file.read(), _etag(body)))

    def find_object(self, key: str) -> ObjectInfo | None:
        """See ``ObjectStore``."""
        path = self._path(key)
        with _translated(key):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = path.stat()
                if not stat.S_ISDIR(status.st_mode):
                    return _info(key, status)
            self._check_root()
            return None

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """See ``ObjectStore``."""

        def read(file: BinaryIO) -> ObjectPart:
            body = os.pread(file.fileno(), length, offset)
            return ObjectPart(body, os.fstat(file.fileno()).st_size)

        return self._read(key, read)

    def _read(self, key: str, read: Callable[[BinaryIO], T]) -> T | None:
        path = self._path(key)
        with _translated(key):
            try:
                with _open_file(path) as file:
                    return read(file)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                return None

    def create_object(self, key: str, body: bytes, media_type: str) -> None:  # noqa: ARG002 - files have none
        """See ``ObjectStore``."""

        def link(temporary: Path, path: Path) -> None:
            try:
                with _provided("create a key exclusively", "hard links", _NO_LINK):
                    os.link(temporary, path)
            except FileExistsError:
                with _open_file(path) as file:
                    if file.read() != body:
                        raise KeyExists(f"{key} exists in {self.url} with other content") from None

        self._place(key, body, link)

    def write_object(self, key: str, body: bytes, media_type: str) -> None:  # noqa: ARG002 - files have none
        """See ``ObjectStore``."""
        self._place(key, body, os.replace)

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:  # noqa: ARG002 - files have none
        """See ``ObjectStore``."""

        def swap(temporary: Path, path: Path) -> None:
            current = path.read_bytes() if path.is_file() else None
            if current == body:
                return
            if current is None or _etag(current) != etag:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")
            temporary.replace(path)

        self._place(key, body, swap)

    def delete_object(self, key: str) -> None:
        """See ``ObjectStore``."""
        path = self._path(key)
        with _translated(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with _locked(path.parent):
                path.unlink()
            self._prune(path.parent)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ``ObjectStore``."""
        folder, slash, _ = check_prefix(prefix).rpartition("/")
        with _translated(prefix), self._steady_root():
            yield from _walk(self._folder(folder), folder + slash, prefix)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """See ``ObjectStore``."""
        folder = self._folder(check_prefix(prefix).rstrip("/"))
        with _translated(prefix), self._steady_root():
            for name, path in _list_entries(folder):
                if name.endswith("/") and any(True for _ in _walk(path, "", "")):
                    yield name[:-1]

    @contextlib.contextmanager
    def _steady_root(self) -> Iterator[None]:
        """Check that a listing begins and ends with the same root: folders of an unmounted disk look empty."""
        self._check_root()
        seen = self._seen
        yield
        if self._check_root() != seen and seen is not None:
            raise self._explain_root()

    def _check_root(self) -> tuple[int, int] | None:
        """Return the root's device and inode, or None if it has never existed.

        Raises:
            StoreUnavailable: it existed, and is now gone or a different, empty folder.
        """
        # Under a lock, since changes by another thread in between would contradict what this one has seen.
        with self._seen_lock:
            try:
                status = self.root.stat()
            except FileNotFoundError:
                if self._seen is not None:
                    raise self._explain_root() from None
                return None
            found = (status.st_dev, status.st_ino)
            if self._seen == found:
                return found
            if any(name != PROBE_PREFIX for name, _ in _list_entries(str(self.root))):
                self._seen = found
            elif self._seen is not None:
                raise self._explain_root()
            # An empty root that never held anything proves nothing: a writer creates it to probe, and may remove it.
            return found

    def _explain_root(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.root} is not the folder that it was a moment ago: mount it again, and try again"
        )

    def _folder(self, key: str) -> str:
        return str(self._path(key) if key else self.root)

    def _path(self, key: str) -> Path:
        path = self.root / check_key(key)
        with contextlib.suppress(RuntimeError):  # from circular links
            if path.resolve() == path:
                return path
        raise StoreObstructed(f"{key} in {self.url} leads over a symbolic link: put the file itself there")

    def _place(self, key: str, body: bytes, put: Callable[[Path, Path], None]) -> None:
        """Write ``body`` to a temporary file, then let ``put`` move it into place under the lock."""
        path = self._path(key)
        with _translated(key):
            is_new = self._check_root() is None
        with self._traceless() if is_new else contextlib.nullcontext():
            try:
                with (
                    _translated(key),
                    self._temporary(body) as temporary,
                    _locked(path.parent, create=True) as folder,
                ):
                    put(temporary, path)
                    _sync_folder(folder)
            except StoreRefused:
                self._prune(path.parent)
                raise

    @contextlib.contextmanager
    def _traceless(self) -> Iterator[None]:
        """Remove the folders created inside that are still empty at the end."""
        folders = (self.root / TEMPORARY_FOLDER, self.root, *self.root.parents)
        made = [folder for folder in folders if not folder.exists()]
        try:
            yield
        finally:
            for folder in made:
                with contextlib.suppress(OSError), self._seen_lock:
                    folder.rmdir()
                    self._seen = None if folder == self.root else self._seen

    @contextlib.contextmanager
    def _temporary(self, body: bytes) -> Iterator[Path]:
        """Yield a synced file containing ``body``; it is removed at the end if it has not been moved."""
        self._sweep_once(self.root / TEMPORARY_FOLDER)
        file = _open_new(self.root / TEMPORARY_FOLDER)
        temporary = Path(file.name)
        try:
            with file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep_once(self, folder: Path) -> None:
        """Remove what dead writers left behind; once for each store object."""
        if not self._sweep_lock.acquire(blocking=False):
            return
        oldest = time.time() - STALE_AFTER_S
        with contextlib.suppress(FileNotFoundError):
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    def _prune(self, folder: Path) -> None:
        """Remove folders that became empty, so that a listing of folders shows what a bucket's would."""
        with contextlib.suppress(OSError):
            while folder != self.root:
                try:
                    with _locked(folder):
                        folder.rmdir()
                except StoreRefused:  # no locks are supported, so nobody writes here
                    folder.rmdir()
                folder = folder.parent


def _walk(folder: str, key: str, prefix: str) -> Iterator[ObjectInfo]:
    """Yield the objects in ``folder``, whose key is ``key``, in order; at each level, one folder's names are in memory.

    A catalog's year is listed for every item published there, so paths are text: ``Path`` would cost more than listing.
    """
    for name, path in _list_entries(folder):
        if not f"{key}{name}".startswith(prefix):
            continue
        if name.endswith("/"):
            yield from _walk(path, f"{key}{name}", prefix)
        else:
            with contextlib.suppress(FileNotFoundError):
                yield _info(f"{key}{name}", os.stat(path))  # noqa: PTH116 - see above


def _list_entries(folder: str) -> list[tuple[str, str]]:
    """Return names and paths in ``folder``; names of folders end with a slash, so that they sort as keys do."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (f"{entry.name}/" if entry.is_dir() else entry.name, entry.path)
                for entry in entries
                if entry.name[0] != "." and not entry.is_symlink()
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def _locked(folder: Path, create: bool = False) -> Iterator[int]:
    """Lock a folder and yield its descriptor; try again if another writer has removed the folder in between."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            if create:
                _make_folder(folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if create:
                continue
            raise
        try:
            with _provided("lock a folder", "locks", _NO_LOCK):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _still_at(folder, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)
    raise _explain_vanishing(folder)


def _open_new(folder: Path) -> BinaryIO:
    """Create a file with an unused name in ``folder``; try again if another writer removed the empty folder."""
    for _ in range(_LOCK_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            _make_folder(folder)
            return (folder / uuid.uuid4().hex).open("xb")
    raise _explain_vanishing(folder)


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents; raise ``FileNotFoundError`` if another writer removes one at the same time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        # mkdir also raises this if the folder existed at first and has been removed since.
        if os.path.lexists(folder) and not folder.is_dir():
            raise
        raise FileNotFoundError from None


def _explain_vanishing(folder: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"{folder} vanishes as fast as it is made: try again where no other program cleans up"
    )


@contextlib.contextmanager
def _provided(deed: str, means: str, lacking: frozenset[int]) -> Iterator[None]:
    """Raise ``StoreRefused`` for an error number in ``lacking``, by which file systems say that they lack ``means``."""
    try:
        yield
    except OSError as error:
        if error.errno not in lacking:
            raise
        raise StoreRefused(
            f"the file system of this store cannot {deed} ({error.strerror}): choose a store on one with "
            f"{means}, such as a local disk, or a bucket"
        ) from error


def _sync_folder(descriptor: int) -> None:
    """Sync a folder's entries to disk, if the file system supports it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _still_at(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file, without blocking on a FIFO."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StoreObstructed(f"{path}: is neither a file nor a folder: move it away")
        yield file


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Raise errors of the file system as ours."""
    try:
        yield
    except OSError as error:
        where = f"{key}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise StoreUnavailable(f"{where}; try again") from error
        refusal = StoreObstructed if error.errno in _OF_ONE_KEY else StoreRefused
        raise refusal(f"{where}; {remedy}") from error


#: How file systems report that they have no hard links (FAT, FUSE, CIFS), no locks (NFS, FUSE), or cannot sync a folder
#: (CIFS, FUSE).
_NO_LINK = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
_NO_LOCK = frozenset({*_NO_LINK, errno.ENOLCK, errno.EBADF})
_NO_SYNC = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "give this user the right to it, or choose another store"
    ),
    **dict.fromkeys(_NO_FOLDER, "a file stands where a folder must be, or the other way round: move it away"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or choose another store"),
    errno.EXDEV: "its folders are on several file systems: choose a store that is on one",
    errno.EFBIG: "raise this user's limit on file sizes (ulimit -f), or choose another store",
}
#: Problems that concern one key only, so that the store's other keys remain usable.
_OF_ONE_KEY = frozenset({*_NO_FOLDER, errno.EFBIG})
