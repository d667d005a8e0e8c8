"""A store whose disk fills up while scenes are published."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pc_cloudmask.catalog.layout import CATALOG_KEY
from pc_cloudmask.storage.local import TEMPORARY_FOLDER
from tests.sample_archive import SAMPLE_COUNTS, SAMPLE_IDS
from tests.security.commands import check_store, run

pytestmark = pytest.mark.slow

WHOLE = f"looked at {SAMPLE_COUNTS}; 0 being published; nothing wrong found"
WHOLE_KB = 4096
"""More than the sample archive's catalog takes, which is some 280 kB."""


class Disk:
    """A file system in memory, mounted at ``root``, whose size may be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mount(self) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={WHOLE_KB}k", "tmpfs", self.root],
            check=True,
            capture_output=True,
        )

    def resize(self, size_kb: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_kb}k", self.root], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.root], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    try:
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount a file system: {error}")
    yield disk
    disk.unmount()


# The disk is full among the files, and among the catalogs.
@pytest.mark.parametrize("size_kb", [60, 260])
def test_a_full_disk_links_nothing_that_is_not_whole_and_the_next_run_ends_it(
    disk: Disk, sample_items: Path, size_kb: int
) -> None:
    store = disk.root / "out"
    disk.resize(size_kb)
    full = run("ingest", "--items", sample_items, "--store", store, cwd=disk.root.parent)
    assert full.returncode == 2
    assert "No space left on device; free some space" in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1
    half = check_store(str(store))
    assert [str(finding) for finding in half.findings] == []
    assert not (store / CATALOG_KEY).exists()
    assert not list((store / TEMPORARY_FOLDER).iterdir())

    disk.resize(WHOLE_KB)
    again = run("ingest", "--items", sample_items, "--store", store, cwd=disk.root.parent)
    assert (again.returncode, again.stderr) == (0, "")
    whole = run("check", "--store", store, cwd=disk.root.parent)
    assert whole.returncode == 0, whole.stdout
    assert WHOLE in whole.stdout


def test_a_file_that_may_not_grow_fails_its_scene_alone(sample_items: Path, tmp_path: Path) -> None:
    """The form of it that any user meets: masks take 16 kB and more, items 11 kB."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, 14_000))"
    limited = run("ingest", "--items", sample_items, "--store", "out", cwd=tmp_path, prelude=limit)
    assert limited.returncode == 1
    assert limited.stderr == ""
    assert limited.stdout.count("File too large; raise this user's limit") == len(SAMPLE_IDS)
    assert check_store(str(tmp_path / "out")).is_whole
    assert not (tmp_path / "out" / CATALOG_KEY).exists()
    assert run("ingest", "--items", sample_items, "--store", "out", cwd=tmp_path).returncode == 0
    assert WHOLE in run("check", "--store", "out", cwd=tmp_path).stdout
