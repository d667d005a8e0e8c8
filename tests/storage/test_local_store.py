"""What is true of directories alone: links, temporary files, killed writers, torn reads."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import shutil
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pc_cloudmask.errors import SettingsError, StoreError, StoreRefused, StoreUnavailable, WriteConflict
from pc_cloudmask.storage import local as local_store
from pc_cloudmask.storage.local import STALE_AFTER_S, TEMPORARY_FOLDER, LocalStore
from pc_cloudmask.storage.store import PROBE_PREFIX
from pc_cloudmask.storage.stores import open_store

SPAWN = multiprocessing.get_context("spawn")


def write_for_ever(root: Path, letters: str) -> None:
    """Until killed, write objects of one letter each."""
    store = LocalStore(root)
    while True:
        for letter in letters:
            store.write_object("a/b", letter.encode() * 100_000, "text/plain")


def add_lines(root: Path, name: str, count: int) -> None:
    """Add lines of one's own by compare-and-swap."""
    store = LocalStore(root)
    for number in range(count):
        while True:
            current = store.read_object("list")
            assert current is not None
            try:
                body = current.body + f"{name}{number}\n".encode()
                store.replace_object("list", body, "text/plain", current.etag)
            except WriteConflict:
                continue
            break


def test_opening_writes_nothing(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path / 'new' / 'deep'}")
    assert store.url == str(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []
    store.write_object("a", b"1", "text/plain")
    assert (tmp_path / "new" / "deep" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}", "file://localhost{}", "FILE://{}"])
@pytest.mark.parametrize("name", ["masks", "mes masques", "a#b?c=d;e", "100%"])
def test_a_directory_is_spelled_as_a_path_or_as_a_file_uri(tmp_path: Path, form: str, name: str) -> None:
    path = str(tmp_path / name)
    assert open_store(form.format(quote(path) if ":" in form else path)).url == path


@pytest.mark.parametrize("url", ["file://elsewhere/masks", "file://localhost", "file:///a%00b"])
def test_a_file_uri_of_another_machine_or_of_nothing_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="file:///"):
        open_store(url)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused, match="is a file: name a directory"):
        open_store(f"{tmp_path / 'file' / 'out'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreRefused, match="cannot be written"):
            open_store(str(tmp_path / "out"))
    finally:
        tmp_path.chmod(0o700)


def test_a_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store = LocalStore(tmp_path / "store")
    store.write_object("a/b", b"1", "text/plain")
    (store.root / "away").symlink_to(outside)
    (store.root / "a" / "alias").symlink_to(outside / "secret")
    (store.root / "circle").symlink_to(store.root / "circle")

    for key in ("away/secret", "a/alias", "circle", "circle/x"):
        with pytest.raises(StoreRefused, match="symbolic link"):
            store.read_object(key)
        with pytest.raises(StoreRefused, match="symbolic link"):
            store.write_object(key, b"", "text/plain")
        with pytest.raises(StoreRefused, match="symbolic link"):
            store.delete_object(key)
    with pytest.raises(StoreRefused, match="symbolic link"):
        list(store.list_objects("away/"))
    assert [info.key for info in store.list_objects("")] == ["a/b"]
    assert (outside / "secret").read_text() == "secret"


def test_the_store_itself_may_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "out")
    store.write_object("a/b", b"1", "text/plain")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


def test_a_key_below_a_file_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write_object("a", b"1", "text/plain")
    with pytest.raises(StoreRefused, match="a file stands where a folder must be"):
        store.write_object("a/b", b"2", "text/plain")
    assert store.read_object("a/b") is None
    store.write_object("c/d", b"1", "text/plain")
    with pytest.raises(StoreRefused, match="a file stands where a folder must be"):
        store.write_object("c", b"2", "text/plain")


@pytest.mark.slow
def test_writers_of_a_folder_that_others_empty_meet_no_error(tmp_path: Path) -> None:
    """The folder goes with its last object while others make it again."""
    store = LocalStore(tmp_path)

    def write_and_delete(writer: int) -> None:
        for number in range(60):
            key = f"folder/{writer}-{number}"
            store.create_object(key, b"body", "text/plain")
            store.delete_object(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_delete, range(8)))
    assert list(store.list_objects("")) == []


def test_only_stale_temporary_files_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / TEMPORARY_FOLDER
    folder.mkdir()
    (folder / "dead").write_bytes(b"half")
    (folder / "alive").write_bytes(b"half")
    long_ago = time.time() - STALE_AFTER_S - 60
    os.utime(folder / "dead", (long_ago, long_ago))
    store = LocalStore(tmp_path)
    store.write_object("a", b"1", "text/plain")
    assert [path.name for path in folder.iterdir()] == ["alive"]
    assert [info.key for info in store.list_objects("")] == ["a"]


def test_a_failed_write_leaves_the_old_object_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write_object("a", b"1", "text/plain")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_store.os, "fsync", fail)
    with pytest.raises(StoreRefused, match="free some space"):
        store.write_object("a", b"22", "text/plain")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"1"
    assert list((tmp_path / TEMPORARY_FOLDER).iterdir()) == []


@pytest.mark.parametrize(
    ("module", "name", "number", "means"),
    [
        *((os, "link", number, "hard links") for number in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)),
        *(
            (fcntl, "flock", number, "locks")
            for number in (errno.ENOLCK, errno.EBADF, errno.ENOSYS, errno.EINVAL)
        ),
    ],
)
def test_a_file_system_without_links_or_locks_is_refused_by_name_and_left_as_it_was(
    module: Any,
    name: str,
    number: int,
    means: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, fail)
    store = LocalStore(tmp_path / "new" / "deep")
    refused = f"the file system .* cannot .* choose a store on one with {means}"
    for write in (store.probe_capabilities, partial(store.create_object, "a/b/c", b"1", "text/plain")):
        with pytest.raises(StoreRefused, match=refused):
            write()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_syncs_no_folder_takes_objects(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    store = LocalStore(tmp_path)
    store.create_object("a/b", b"1", "text/plain")
    assert [info.key for info in store.list_objects("")] == ["a/b"]


def test_trying_a_store_leaves_nothing_behind_and_spoils_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "new" / "deep")
    assert store.probe_capabilities().create_only
    assert list(tmp_path.iterdir()) == []
    store.create_object("a/b", b"1", "text/plain")
    LocalStore(store.root).probe_capabilities()
    assert [info.key for info in store.list_objects("")] == ["a/b"]
    assert not (store.root / "_probe").exists()


def test_an_error_of_the_device_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_store.os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="a: Input/output error"):
        LocalStore(tmp_path).write_object("a", b"1", "text/plain")


@pytest.mark.parametrize(
    ("number", "error", "remedy"), [(13, StoreRefused, "the right to it"), (5, StoreUnavailable, "try again")]
)
def test_a_read_that_fails_says_nothing_of_writing(
    number: int, error: type[StoreError], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write_object("a", b"1", "text/plain")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local_store.os, "open", fail)
    with pytest.raises(error, match=remedy) as raised:
        store.read_object("a")
    assert not re.search("write|change", str(raised.value))


@pytest.mark.slow
def test_readers_see_whole_objects_while_writers_are_killed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write_object("a/b", b"x" * 100_000, "text/plain")
    for _ in range(3):
        writers = [SPAWN.Process(target=write_for_ever, args=(tmp_path, letters)) for letters in ("ab", "cd")]
        for writer in writers:
            writer.start()
        seen = set()
        while len(seen) < 4:
            stored = store.read_object("a/b")
            assert stored is not None
            assert stored.body == stored.body[:1] * 100_000
            seen.add(stored.body[:1])
        for writer in writers:
            writer.kill()
            writer.join()
            writer.close()
    store.write_object("a/b", b"after the killed", "text/plain")


@pytest.mark.slow
def test_processes_lose_no_update(tmp_path: Path) -> None:
    LocalStore(tmp_path).create_object("list", b"", "text/plain")
    writers = [SPAWN.Process(target=add_lines, args=(tmp_path, name, 25)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
        writer.close()
    lines = (tmp_path / "list").read_text().split()
    assert sorted(lines) == sorted(f"{name}{number}" for name in "abc" for number in range(25))


class TestRootsThatVanish:
    """A disk that is unmounted leaves no folder, or an empty one, where the store was."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        store = LocalStore(tmp_path / "disk")
        for key in ("a/b", "c/d", "e"):
            store.write_object(key, b"1", "text/plain")
        return store

    @pytest.mark.parametrize("left", ["nothing", "an empty folder"])
    def test_nothing_is_absent_from_it_and_nothing_written(self, store: LocalStore, left: str) -> None:
        store.root.rename(store.root.with_name("elsewhere"))
        if left == "an empty folder":
            store.root.mkdir()
        for call in (
            lambda: list(store.list_objects("")),
            lambda: list(store.list_objects("a/")),
            lambda: list(store.list_folders("")),
            lambda: store.read_object("a/b"),
            lambda: store.find_object("a/b"),
            lambda: store.write_object("a/b", b"2", "text/plain"),
            lambda: store.create_object("x", b"2", "text/plain"),
        ):
            with pytest.raises(StoreUnavailable, match="mount it again"):
                call()
        assert not store.root.exists() or list(store.root.iterdir()) == []

    def test_a_listing_under_way_does_not_end_as_if_it_were_complete(self, store: LocalStore) -> None:
        listing = store.list_objects("")
        assert next(listing).key == "a/b"
        store.root.rename(store.root.with_name("elsewhere"))
        store.root.mkdir()
        with pytest.raises(StoreUnavailable, match="mount it again"):
            list(listing)

    def test_a_disk_that_is_mounted_again_is_the_store(self, store: LocalStore) -> None:
        store.root.rename(store.root.with_name("elsewhere"))
        with pytest.raises(StoreUnavailable):
            store.read_object("e")
        shutil.copytree(store.root.with_name("elsewhere"), store.root)
        assert [info.key for info in store.list_objects("")] == ["a/b", "c/d", "e"]

    def test_a_root_that_another_writer_makes_to_probe_and_removes_is_absent(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "disk")
        for name in (TEMPORARY_FOLDER, PROBE_PREFIX):
            folder = store.root / name
            folder.mkdir(parents=True)
            listing = store.list_objects("")
            assert store.find_object("catalog.json") is None
            shutil.rmtree(store.root)
            assert store.find_object("catalog.json") is None
            assert list(listing) == list(store.list_folders("")) == []

    def test_a_folder_that_a_writer_prunes_meanwhile_is_empty(self, store: LocalStore) -> None:
        listing = store.list_objects("")
        assert next(listing).key == "a/b"
        LocalStore(store.root).delete_object("c/d")
        assert [info.key for info in listing] == ["e"]

    def test_a_store_that_never_was_is_empty(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "new")
        assert list(store.list_objects("")) == []
        assert store.read_object("a") is None
        store.write_object("a", b"1", "text/plain")
        assert [info.key for info in store.list_objects("")] == ["a"]


def test_a_fifo_in_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """Reading one waits for a writer, for ever."""
    os.mkfifo(tmp_path / "a")
    store = LocalStore(tmp_path)
    assert [info.key for info in store.list_objects("")] == ["a"]
    for ask in (store.read_object, lambda key: store.create_object(key, b"x", "text/plain")):
        with pytest.raises(StoreRefused, match="neither a file nor a folder"):
            ask("a")

    def test_threads_that_make_it_together_do_not_take_it_for_an_unmounted_one(self, tmp_path: Path) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for number in range(100):
                store = LocalStore(tmp_path / f"{number}")
                with ThreadPoolExecutor(8) as pool:
                    keys = [f"{key}/key" for key in range(8)]
                    list(pool.map(store.write_object, keys, repeat(b"1"), repeat("text/plain")))
                assert [info.key for info in store.list_objects("")] == keys
        finally:
            sys.setswitchinterval(interval)
