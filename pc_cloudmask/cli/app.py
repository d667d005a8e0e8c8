"""The `cloudmask` application: its global options, and how commands print and end."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from pc_cloudmask.runs.report import configure_logs
from pc_cloudmask.text import encode_for_terminal, make_printable
from pc_cloudmask.version import __version__

if TYPE_CHECKING:
    from pc_cloudmask.settings import Settings
    from pc_cloudmask.storage.store import ObjectReader

EXIT_FAILED, EXIT_USAGE = 1, 2
#: The number of failed and waiting scenes that the terminal names; the JSON report has all of them.
SHOWN_SCENES = 20


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Make an error that repeats an argument as given printable."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = make_printable(message)  # type: ignore[attr-defined]
        raise


#: In the order in which people need them.
_COMMANDS = [
    *("demo", "ingest", "watch", "status", "gaps", "retry", "check", "index", "export"),
    *("ls", "clear", "follow", "mosaic", "view", "stats", "evaluate", "serve", "doctor", "prove"),
]


class _Group(TyperGroup):
    """Lists commands in the order of ``_COMMANDS``; its messages about wrong arguments are printable.

    Each command also takes the global options, which its own help does not repeat.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for command in self.commands.values():
            command.params += [_repeat_option(each) for each in self.params if each.name in Globals.__slots__]

    def make_context(self, *args: Any, **named: Any) -> Any:
        with _printable_usage():
            return super().make_context(*args, **named)

    def invoke(self, ctx: Any) -> Any:
        with _printable_usage():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_COMMANDS.index)


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
        """The lowest level of the log's records."""
        return max(logging.WARNING - 10 * self.verbose, logging.DEBUG)


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


def open_catalog(store: str | None) -> ObjectReader:
    """Return the catalog at ``store``, by default that of the settings, to be read."""
    from pc_cloudmask.storage.stores import open_reader

    return open_reader(store or load_settings().store)


def _print(text: str, stream: TextIO) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def say(line: str) -> None:
    """Print a line for people on stdout, without anything that a terminal would obey."""
    _print(make_printable(line), sys.stdout)


def complain(text: str) -> None:
    """Print a line for people on stderr."""
    _print(f"cloudmask: {make_printable(text)}", sys.stderr)


def print_json(document: Any, indent: int | None = 2) -> None:
    """Print one JSON object on stdout; without an ``indent`` on one line."""
    _print(encode_for_terminal(document, indent), sys.stdout)


def count(number: int, noun: str) -> str:
    """Return ``1 item`` or ``2 items``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def say_first(
    lines: Iterable[str], indent: str = "  ", kind: str = "", tell: Callable[[str], None] = say
) -> None:
    """Print the first lines, and how many others there are."""
    shown = [f"{indent}{line}" for line in lines]
    if (more := len(shown) - SHOWN_SCENES) > 0:
        shown[SHOWN_SCENES:] = [f"{indent}… and {more} more{kind}; --json names them all"]
    for line in shown:
        tell(line)


def name_left_out(errors: Mapping[str, Exception], what: str = "left out") -> None:
    """Name on stderr the items that could not be used; exit with status 1 if there are any."""
    for item_id, error in sorted(errors.items()):
        complain(f"{what}: {item_id}: {str(error).removeprefix(f'item {item_id}: ')}")
    exit_unless(not errors)


def exit_unless(is_well: bool) -> None:
    """End the command with exit status 1 unless all is well."""
    if not is_well:
        raise typer.Exit(EXIT_FAILED)
