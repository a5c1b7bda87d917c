"""A command line that cannot be read, answered like any other mistake: in one line."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, Final, get_args

import typer

from l63fast.cli.declare import OPTIONS, Option

__all__ = ["UsageError", "in_one_line"]

# Typer has its own copy of click's errors in newer versions, and neither is public.
UsageError: Final[Any] = typer.BadParameter.__base__
_KINDS: Final = {int: "an integer", float: "a number"}


def in_one_line(error: Any) -> str:
    """Return what was expected and what came, and where more is said."""
    context = error.ctx
    program = "l63fast" if context is None else context.command_path
    option, spaced = _option(error), _spaced(error)
    if spaced is not None:
        text = f"--{spaced[0]}: expected values separated by commas, {spaced[1]}"
    elif option is None:
        text = str(error.format_message()).rstrip(".")
    else:
        flag = option.name.upper() if option.positional else f"--{option.name}"
        text = f"{flag}: expected {_expected(option)}, got {_typed(option)!r}"
    return f"{text} (see {program} --help)"


def _option(error: Any) -> Option | None:
    """Return the option whose value was refused, if it is one of ours."""
    if error.ctx is None or getattr(error, "param", None) is None:
        return None
    options = OPTIONS.get(str(error.ctx.command.name), ())
    return next((o for o in options if o.name == error.param.name), None)


def _spaced(error: Any) -> tuple[str, str] | None:
    """Return the name of a list that was typed with spaces, and how to type it."""
    if error.ctx is None:
        return None
    option, names = _option(error), []
    if option is not None and option.positional:
        names = list(get_args(option.kind))
        if get_close_matches(_typed(option), names):
            return None  # one of those, with a slip
    elif "unexpected extra argument" not in error.format_message():
        return None
    lists = {o.name for o in OPTIONS.get(str(error.ctx.command.name), ()) if o.is_list}
    words = sys.argv[1:]
    for k, word in enumerate(words):
        name = word.replace("-", "_").removeprefix("__")
        rest = words[k + 1 :]
        values = list(takewhile(lambda w: w[:1] != "-" and w not in names, rest))
        if word.startswith("--") and name in lists and len(values) > 1:
            return name, f"{','.join(values)}, got {' '.join(values)!r}"
    return None


def _expected(option: Option) -> str:
    names = get_args(option.kind)
    if names:
        return f"one of {', '.join(str(name) for name in names)}"
    limits = [
        f"{word} {limit:g}"
        for word, limit in (("at least", option.minimum), ("at most", option.maximum))
        if limit is not None
    ]
    kind = _KINDS.get(option.kind, f"a {getattr(option.kind, '__name__', 'value')}")
    return f"{kind} of {' and '.join(limits)}" if limits else kind


def _typed(option: Option) -> str:
    """Return the value that was typed last for an option, as it was typed."""
    words = sys.argv[1:]
    if option.positional:
        return next(iter(_free(words[1:])), "")
    found = ""
    for k, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.replace("-", "_") == f"__{option.name}":
            found = value if equals else "".join(words[k + 1 : k + 2])
    return found


def _free(words: list[str]) -> list[str]:
    """Return the words of a command that are neither flags nor their values."""
    switches = {o.name for some in OPTIONS.values() for o in some if o.kind is bool}
    found, taken = [], False
    for word in words:
        is_flag = word.startswith("-")
        if not (taken or is_flag):
            found.append(word)
        name = word.replace("-", "_").removeprefix("__")
        taken = is_flag and "=" not in word and name not in switches
    return found
