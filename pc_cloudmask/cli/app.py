"""The `cloudmask` application: global options, errors, exit status."""

from __future__ import annotations

import copy
import logging
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pc_cloudmask.runs.report import configure_logs
from pc_cloudmask.text import make_lines_printable, make_printable
from pc_cloudmask.version import __version__

if TYPE_CHECKING:
    from pc_cloudmask.settings import Settings


EXIT_FAILED, EXIT_USAGE = 1, 2
#: 128 plus the signal's number, as in shells.
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Make an error that repeats an argument as given printable."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = make_printable(message)  # type: ignore[attr-defined]
        raise


GLOBALS = frozenset({"config", "json", "verbose", "prefect"})
#: In the order in which people need them.
COMMANDS = [
    *("demo", "ingest", "watch", "status", "gaps", "retry", "check", "index", "export"),
    *("ls", "clear", "follow", "mosaic", "view", "stats", "evaluate", "serve", "doctor", "prove"),
]


class _Group(TyperGroup):
    """Lists commands in the order of ``COMMANDS``; its messages about wrong arguments are printable.

    Each command also takes the global options, which its own help does not repeat.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for command in self.commands.values():
            command.params += [_repeat_option(each) for each in self.params if each.name in GLOBALS]

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
    cls=_Group,
    help="Cloud and cloud-shadow masks for the Planetary Computer's Sentinel-2, as a static STAC catalog.",
    epilog="Global options may stand before or behind the command. An option whose value is a list, TILE,… for one, "
    "may be repeated too. Every setting may stand in cloudmask.toml, or in a variable such as CLOUDMASK_STORE.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@dataclass(slots=True)
class Globals:
    """The global options of this call."""

    config: Path | None = None
    json: bool = False
    verbose: int = 0
    prefect: bool | None = None

    @property
    def log_level(self) -> int:
        """Return the lowest level of the log's records."""
        return {0: logging.WARNING, 1: logging.INFO}.get(self.verbose, logging.DEBUG)


options = Globals()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cloudmask {__version__}")
        raise typer.Exit


@app.callback()
def set_globals(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML); default: ./cloudmask.toml, if it is there.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more; twice: everything.")
    ] = 0,
    prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--no-prefect",
            help="Run as a Prefect flow run; default: only if a Prefect API is configured.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Remember the global options for the command that follows, which somebody waits for."""
    from pc_cloudmask.contact import be_patient, hurry

    hurry()
    context.call_on_close(be_patient)
    options.config, options.json, options.verbose, options.prefect = config, json, verbose, prefect
    configure_logs(options.log_level, _read_secrets)


def _repeat_option(option: Any) -> Any:
    """Return a global option as one of a command, which sets what is given after the command."""
    repeated = copy.copy(option)
    repeated.hidden, repeated.expose_value, repeated.callback = True, False, _set_global
    return repeated


def _set_global(context: Any, option: Any, value: Any) -> None:
    source = context.get_parameter_source(option.name)
    if source is None or source.name != "COMMANDLINE":
        return
    setattr(options, option.name, Path(value) if option.name == "config" else value)
    if option.name == "verbose":
        configure_logs(options.log_level, _read_secrets)


def _read_secrets() -> list[str]:
    from pc_cloudmask.settings import read_secrets

    return read_secrets()


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this call."""
    from pc_cloudmask.settings import read_settings

    return read_settings(options.config, as_options=True, **overrides)


class Terminated(BaseException):
    """SIGTERM asks this process to end; no ``except Exception`` may prevent it."""


def terminate(_signal: int, _frame: Any) -> NoReturn:
    """End as after Ctrl-C: finish what is under way, begin nothing else. The next SIGTERM kills."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def interrupt(_signal: int, _frame: Any) -> NoReturn:
    """Handle Ctrl-C; the next one kills, because what is under way may wait for a silent server."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def complain(text: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(f"cloudmask: {make_printable(text)}", err=True)


def report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error, which may repeat anything, as Python does but printable."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    typer.echo(make_lines_printable(lines), err=True)


def report_stop(how: str) -> None:
    """Say in one line that a signal ended the run, and what to do."""
    complain(f"{how}; run the same command again to go on")


def report_error(error: Exception) -> int:
    """Print in one line what ended the run; return the exit status."""
    from pc_cloudmask.errors import EngineRefused, SourceMistaken, StoreRefused

    complain(str(error))
    refused = isinstance(error, StoreRefused | EngineRefused | SourceMistaken) or getattr(
        error, "ends_run", False
    )
    return EXIT_USAGE if refused else EXIT_FAILED
