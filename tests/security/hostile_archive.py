"""A folder of hostile items, and the command that reads them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import orjson
import rasterio

from tests.security.canaries import watching
from tests.security.commands import run
from tests.security.hostile_items import CASES, VRT, Item, build_documents, build_odd_items

PEAK_FILE = "peak"
REPORT_PEAK = f"""
import multiprocessing.util, pathlib, re
def report():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("{PEAK_FILE}").write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
multiprocessing.util.Finalize(None, report, exitpriority=0)
"""
"""``getrusage`` would tell the peak of this process too, whose copy the other one was at first.

A finaliser is called as a fork ends too, which ``atexit`` does not hear of.
"""


class Archive:
    """A folder of hostile items, what lies beside it, and the servers that must not be asked."""

    def __init__(self, folder: Path, sample: Path) -> None:
        self.outer = folder
        self.root = folder / "archive"
        self.canary = folder / "canary"
        self.good = json.loads(sample.read_bytes())["features"][0]
        self.root.mkdir()
        self.canary.mkdir()
        self._write_rasters(sample.parent)

    def _write_rasters(self, sample: Path) -> None:
        (self.root / "rasters").mkdir()
        for asset in self.good["assets"].values():
            name = Path(asset["href"]).name
            shutil.copy(sample / asset["href"], self.root / "rasters" / name)
            asset["href"] = name
        good = self.root / "rasters" / self.good["assets"]["B08"]["href"]
        shutil.copy(good, self.canary / "secret.tif")
        (self.canary / "secret.json").write_bytes(orjson.dumps({**self.good, "id": "SECRET"}))
        rasters = self.root / "rasters"
        (rasters / "cut.tif").write_bytes(good.read_bytes()[:5000])
        (rasters / "disguised.tif").write_text(VRT.replace("{secret}", str(self.canary / "secret.tif")))
        with rasterio.open(good) as source:
            profile = {**source.profile, "driver": "GTiff"}
        moved = profile["transform"] @ rasterio.Affine.translation(0.3, 0.3)
        for name, changes in {
            "huge.tif": {"width": 200_000, "height": 200_000},
            "shifted.tif": {"transform": moved},
        }.items():
            with rasterio.open(rasters / name, "w", **{**profile, **changes, "sparse_ok": True}):
                pass

    def build_items(self, assets: str, canary: str, kind: str) -> list[Item]:
        """The good item, odd ones, and one for each case; hrefs begin with ``assets``."""
        places = {
            "root": str(self.root),
            "secret": str(self.canary / "secret.tif"),
            "canary": canary,
            "assets": assets,
        }
        good = json.loads(json.dumps(self.good))
        for asset in good["assets"].values():
            asset["href"] = f"{assets}/{asset['href']}"
        good["links"] = [link for link in good["links"] if "://" in link["href"]]
        cases = [case.build_item(good, places) for case in CASES if case.only in {"", kind}]
        return [good, *build_odd_items(good), *cases]

    def write_items(self, items: list[Item]) -> None:
        """The items, documents that are none, and things that are no files."""
        for number, item in enumerate(items):
            (self.root / f"{number:03}.json").write_bytes(json.dumps(item).encode())
        for name, body in build_documents(items[0]).items():
            (self.root / f"DOCUMENT_{name}.json").write_bytes(body)
        with (self.root / "DOCUMENT_huge.json").open("wb") as file:
            file.truncate(2 << 30)
        os.mkfifo(self.root / "DOCUMENT_pipe.json")
        os.mkfifo(self.root / "pipe.tif")
        (self.root / "DOCUMENT_link.json").symlink_to(self.canary / "secret.json")
        (self.root / "link.tif").symlink_to(self.canary / "secret.tif")

    def list_files(self) -> dict[str, tuple[int, int]]:
        """Size and time of everything in and beside the archive, but for what the command may write."""
        return {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in self.outer.rglob("*")
            if path.relative_to(self.outer).parts[0] not in {"store", "prefect", PEAK_FILE}
        }


class Outcome:
    """How the command fared, and what it touched that it must not."""

    def __init__(
        self, archive: Archive, *arguments: str | Path, environment: dict[str, str], alone: bool = True
    ) -> None:
        before = archive.list_files()
        with watching(archive.canary) as watch:
            self.done = run(
                "--json",
                "ingest",
                *arguments,
                *("--store", "store"),
                cwd=archive.outer,
                environment=environment,
                prelude=REPORT_PEAK,
                alone=alone,
            )
            self.canaries_read = watch.read_names()
        self.files_changed = sorted(dict(before.items() ^ archive.list_files().items()))
        self.peak_mb = int((archive.outer / PEAK_FILE).read_text()) // 1024
