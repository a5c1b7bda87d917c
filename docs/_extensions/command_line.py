"""Writes the reference of the command line from the options of the commands.

The line `<!-- every command -->` in a page is replaced by a section for each command.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from sphinx.application import Sphinx
from typer.models import OptionInfo

MARK = "<!-- every command -->"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the name and function of each command, in the order of `l63fast --help`."""
    from l63fast.cli.entry import COMMANDS

    for function in COMMANDS:
        yield function.__name__, function


def section(name: str, function: Any) -> str:
    """Return the section of one command as Markdown."""
    arguments, panels = [], dict[str, list[str]]()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "context":
            continue
        kind, info = get_args(parameter.annotation)
        if isinstance(info, OptionInfo):
            shown, panel = f"--{parameter.name}", str(info.rich_help_panel)
        else:
            shown, panel = str(info.metavar), "Arguments"
            arguments.append(shown)
        row = f"`{shown}` {taken(kind)}\n: {described(info, parameter.default)}\n"
        panels.setdefault(panel, []).append(row)
    usage = " ".join(
        ["l63fast", name, *(f"[{word}]" for word in arguments), "[OPTIONS]"]
    )
    text = f"## {name}\n\n```\n{usage}\n```\n\n{inspect.cleandoc(function.__doc__)}\n\n"
    for panel, rows in panels.items():
        text += f"**{panel}**\n\n" + "\n".join(rows) + "\n"
    return text


def taken(kind: Any) -> str:
    """Return the type of an option's value in words."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return " | ".join(f"`{name}`" for name in get_args(kind))
    if kinds:
        return taken(kinds[0])
    return {bool: "", int: "integer", float: "number", str: "text", Path: "path"}[kind]


def described(info: Any, default: Any) -> str:
    """Return the help of an option with its limits and its default."""
    limits = [
        f"{word} {limit:g}"
        for word, limit in (("at least", info.min), ("at most", info.max))
        if limit is not None
    ]
    if default not in (None, False):
        limits.append(f"default `{default}`")
    return info.help + (f" ({', '.join(limits)})" if limits else "")


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Insert the commands in a page that contains the mark."""
    if MARK in source[0]:
        sections = "\n".join(section(*command) for command in commands())
        source[0] = source[0].replace(MARK, sections)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
