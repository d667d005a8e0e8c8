"""``python -m benchmarks``: measure everything side by side, or parts of it with ``--only``."""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Row, format_rows, run_apart

BENCHMARKS = (
    "mask_core",
    "cog",
    "scene",
    "csmask",
    "publish",
    "startup",
    "workers",
    "runners",
    "throughput",
    "wire",
)
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
INTRODUCTION = """\
# Benchmarks

Written by `make bench`, which measures all of it in one run; `python -m benchmarks --only NAME` measures
one part and prints it. A figure is the median of some runs, in brackets the least and the greatest of them.
*Ratio* says how many times better ours is. CPU times count all threads of the process, but not those of
servers, which have processes of their own. Ratios carry over to other machines, seconds do not.
"""
LIBRARIES = (
    "numpy",
    "scipy",
    "opencv-python-headless",
    "rasterio",
    "rio-cogeo",
    "pystac",
    "boto3",
    "prefect",
)


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark's figures under its module's own words."""

    title: str
    text: str
    rows: list[Row]

    def as_markdown(self) -> str:
        """Return the section of the document."""
        return "\n\n".join(filter(None, (f"## {self.title}", self.text, format_rows(self.rows))))


def main() -> None:
    """Measure, print each part as it is done, and write the document unless only parts were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=BENCHMARKS, help=", ".join(BENCHMARKS)
    )
    only = parser.parse_args().only
    sections = []
    for name in only or BENCHMARKS:
        start = time.monotonic()
        section = measure(name)
        sections.append(section)
        sys.stdout.write(f"{section.as_markdown()}\n\n")
        sys.stdout.flush()
        sys.stderr.write(f"{name}: {time.monotonic() - start:.0f} s\n")
    if not only:
        DOCUMENT.write_text(build_document(sections), "utf-8")
        sys.stderr.write(f"written: {DOCUMENT}\n")


def measure(name: str) -> Section:
    """Return the section of the benchmark ``name``, measured in a process of its own."""
    module = import_module(f"benchmarks.{name}")
    title, _, text = (inspect.getdoc(module) or name).replace("``", "`").partition("\n\n")
    return Section(title.replace("\n", " ").removesuffix("."), text, run_apart(module.measure))


def build_document(sections: list[Section]) -> str:
    """Return the document."""
    promised = [row for section in sections for row in section.rows if row.target is not None]
    met = sum(row.met for row in promised)
    verdict = f"{met} of {len(promised)} targets are met."
    return "\n".join([INTRODUCTION, f"{describe_machine()} {verdict}", ""]) + "".join(
        f"\n{section.as_markdown()}\n" for section in sections
    )


def describe_machine() -> str:
    """Return what was measured on, in one paragraph."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"Measured on {os.cpu_count()} cores ({platform.machine()}) with {memory_gib:.0f} GiB,"
        f" {platform.system()}, load {os.getloadavg()[0]:.1f} at the end, Python {platform.python_version()},"
        f" {libraries}."
    )


if __name__ == "__main__":
    main()
