"""``python -m tests.golden record|compare [STORY ...]``, ``python -m tests.golden tests FILE``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import tests.golden
from tests.golden.names import collect_names, describe_missing
from tests.golden.recording import (
    STORIES,
    describe_differences,
    read_recording,
    record,
    write_recording,
)


def main() -> int:
    arguments = _parse_arguments()
    if arguments.command == "tests":
        arguments.file.write_text("".join(f"{name}\n" for name in collect_names()), "utf-8")
        return 0
    differences = []
    for story in arguments.stories or STORIES:
        with tempfile.TemporaryDirectory() as folder:
            recording = record(story, Path(folder))
        if arguments.command == "record":
            write_recording(story, recording)
        else:
            found = describe_differences(read_recording(story), recording)
            print(f"{story}: {len(recording['files'])} files, {len(found)} differences")
            differences += found
    if arguments.command == "compare" and arguments.tests:
        missing = describe_missing(arguments.tests.read_text("utf-8").splitlines(), collect_names())
        print(f"tests: {len(missing)} are gone")
        differences += missing
    for difference in differences:
        print(difference)
    return 1 if differences else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden",
        description=tests.golden.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("record", "compare"):
        command = commands.add_parser(name)
        command.add_argument(
            "stories", nargs="*", metavar="STORY", help=f"{', '.join(STORIES)}; default: all"
        )
    command.add_argument("--tests", type=Path, metavar="FILE", help="names of tests that must still be there")
    commands.add_parser("tests").add_argument("file", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
