"""The `cloudmask` application: global options, errors, exit status."""

from __future__ import annotations

import logging
import re
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.logs import configure_logs
from pc_cloudmask.text import make_lines_printable, make_printable
from pc_cloudmask.version import __version__

if TYPE_CHECKING:
    from pc_cloudmask.settings import Settings


GLOBAL_FLAGS = frozenset({"--json", "-v", "--verbose", "--prefect", "--no-prefect"})
GLOBAL_OPTIONS = frozenset({"--config"})
_VERBOSE = re.compile("-v+")
REPEATED_OPTIONS = frozenset({"--tile", "--ids", "--area", "--look-back"})


def normalise_arguments(arguments: Sequence[str]) -> list[str]:
    """Global options moved to the front, and ``--tile A B`` spelled ``--tile A --tile B``.

    Both forms are promised to users; click knows neither.
    """
    front: list[str] = []
    rest: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        if word == "--":
            rest += [word, *pending]
            break
        if (
            word in GLOBAL_FLAGS
            or _VERBOSE.fullmatch(word)
            or (word.split("=", 1)[0] in GLOBAL_OPTIONS and "=" in word)
        ):
            front.append(word)
        elif word in GLOBAL_OPTIONS and pending:
            front += [word, pending.pop(0)]
        elif word in REPEATED_OPTIONS and pending:
            rest += [word, pending.pop(0)]
            while pending and not pending[0].startswith("-"):
                rest += [word, pending.pop(0)]
        else:
            rest.append(word)
    return front + rest


EXIT_FAILED, EXIT_USAGE = 1, 2
#: 128 and the signal's number, as shells have it.
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Make an error printable that repeats an argument as it was given."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = make_printable(message)  # type: ignore[attr-defined]
        raise


#: In the order in which people meet them.
COMMANDS = [
    *("demo", "ingest", "watch", "status", "retry", "check", "index"),
    *("mosaic", "view", "stats", "serve", "doctor"),
]


class _OrderedGroup(TyperGroup):
    """Lists commands in the order of ``COMMANDS``; what it says of wrong arguments is printable."""

    def make_context(self, *args: Any, **named: Any) -> Any:
        with _printable_usage():
            return super().make_context(*args, **named)

    def invoke(self, ctx: Any) -> Any:
        with _printable_usage():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


app = typer.Typer(
    name="cloudmask",
    cls=_OrderedGroup,
    help="Cloud and cloud-shadow masks for the Planetary Computer's Sentinel-2, as a static STAC catalog.",
    epilog="Global options may stand before or behind the command. Settings: docs/settings.md.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@dataclass(slots=True)
class Globals:
    """The global options of this call."""

    config: Path | None = None
    json: bool = False
    prefect: bool | None = None
    log_level: int = logging.WARNING


options = Globals()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cloudmask {__version__}")
        raise typer.Exit


@app.callback()
def set_globals(
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML); ./cloudmask.toml if present.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; all else on stderr.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more; twice: everything.")
    ] = 0,
    prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--no-prefect",
            help="As a Prefect flow run; default: where a Prefect API is configured.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    """Remember the global options for the command that follows."""
    options.config, options.json, options.prefect = config, json, prefect
    options.log_level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    configure_logs(options.log_level, _read_secrets)


def _read_secrets() -> list[str]:
    from pc_cloudmask.settings import read_secrets

    return read_secrets()


def load_settings(**overrides: Any) -> Settings:
    """The settings of this call."""
    from pc_cloudmask.settings import read_settings

    return read_settings(options.config, **overrides)


class Terminated(BaseException):
    """SIGTERM asks this process to end; no ``except Exception`` may keep it from doing so."""


def terminate(_signal: int, _frame: Any) -> NoReturn:
    """End as after Ctrl-C: what is under way ends whole, nothing further is begun. The next SIGTERM kills."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def interrupt(_signal: int, _frame: Any) -> NoReturn:
    """Ctrl-C; the next one kills: what is under way may wait for a server that is silent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def complain(text: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(f"cloudmask: {make_printable(text)}", err=True)


def report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nobody expected, which may repeat anything, as Python does but printable."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    typer.echo(make_lines_printable(lines), err=True)


def report_stop(how: str) -> None:
    """Say in one line that a signal ended the run, and what to do."""
    complain(f"{how}; run the same command again to go on")


def report_error(error: Exception) -> int:
    """Print what ended the run in one line; return the exit status."""
    from pc_cloudmask.errors import EngineRefused, SettingsError, StoreRefused

    complain(str(error))
    return EXIT_USAGE if isinstance(error, SettingsError | StoreRefused | EngineRefused) else EXIT_FAILED


BboxOption = Annotated[str | None, typer.Option(metavar="W,S,E,N", help="Degrees; W > E crosses 180°.")]
TileOption = Annotated[list[str] | None, typer.Option(metavar="TILE…", help="MGRS tiles such as 22KFV.")]
DatetimeOption = Annotated[
    str | None, typer.Option(metavar="INTERVAL", help="2018-12, 2018-12-14/2019-01-31, 2018-12-14/..")
]
StoreOption = Annotated[str | None, typer.Option(metavar="URL", help="Directory or s3://bucket/prefix.")]


def _complete_method() -> list[str]:
    """Name the methods for the shell; the table is read only then, as it takes numpy to import."""
    from pc_cloudmask.masking.methods import METHODS

    return list(METHODS)


MethodOption = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        autocompletion=_complete_method,
        help="How masks are made: a method of docs/methods.",
    ),
]
#: A store that is only read.
CatalogOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Directory, s3://bucket/prefix or a catalog's https URL.")
]
FilesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where local source files may be, beside the store.")
]


_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=31)


def parse_duration(text: str) -> timedelta:
    """The length that ``90s``, ``30m``, ``1h`` or ``1.5d`` names.

    Raises:
        SettingsError: it names none, or one that is shorter than a second or longer than a month.
    """
    match = _FORM.fullmatch(text.strip().lower())
    try:
        length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
    except OverflowError:
        length = None
    if length is None or not SHORTEST <= length <= LONGEST:
        raise SettingsError(f"--every {text!r:.40}: write 30m, 1h or 1d; at least 1s, at most 31d")
    return length
