"""The reference of commands, from the application's own help."""

from __future__ import annotations

from typing import Any

import typer

from pc_cloudmask.cli.app import app


def describe_commands() -> str:
    """Return the help of the application and of each command as Markdown."""
    group: Any = typer.main.get_command(app)
    root = group.context_class(group, info_name="cloudmask")
    parts = ["## Options of every command", group.epilog, *_describe_parameters(group, root)]
    for name in group.list_commands(root):
        command = group.commands[name]
        if not command.hidden:
            context = group.context_class(command, info_name=name, parent=root)
            parts += [f"## {name}", command.help, *_describe_usage(command, context)]
            parts += _describe_parameters(command, context)
    return "\n\n".join(parts)


def _describe_usage(command: Any, context: Any) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return [f"```\n{usage}\n```", *([command.epilog] if command.epilog else [])]


def _describe_parameters(command: Any, context: Any) -> list[str]:
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [
        f"| `{_cell(names)}` | {_cell(text, prose=True)} |"
        for names, text in filter(None, records)
        if "--help" not in names
    ]
    return ["\n".join(["| option or argument | |", "| --- | --- |", *rows])] if rows else []


def _cell(text: str, *, prose: bool = False) -> str:
    r"""Return ``text`` as a table's cell; pipes in code stand as they are, but in prose must be escaped.

    In prose ``<`` and brackets would be markup.
    """
    for character in "\\|[]<*_" if prose else "":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return " ".join(text.split())
