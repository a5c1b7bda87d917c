"""What the user names "module:attribute": its name, its source, and its import."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
import textwrap
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, Final

from l63fast.errors import ArgumentValueError

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_own(name: Any) -> bool:
    """Return whether something is named like the user's own, "module:attribute"."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def short_name(name: str) -> str:
    """Return a name without its module."""
    return name.rpartition(":")[2]


def file_name(name: str) -> str:
    """Return a name as it stands in those of files and folders."""
    return name.replace(":", "-")


def imported(what: str, name: str) -> Any:
    """Return what goes by this name; `what` is the setting that gives it.

    The module is looked for in the current folder first, as `python` does. This runs
    the module: call it where the user has asked for a run, and never with a name that
    a result or a checkpoint holds.

    Raises
    ------
    ArgumentValueError
        If it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module raises
        raise ArgumentValueError(
            f"{what}: expected one that can be imported, got {name!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path[:] = before


def source_text(made: Any) -> str | None:
    """Return the source of a class or function, None where it cannot be read."""
    try:
        return textwrap.dedent(inspect.getsource(made))
    except (OSError, TypeError):
        return None


def source_hash(function: Any) -> str:
    """Return the sha256 of a function's source, or of its code where there is none."""
    text = ""
    if isinstance(function, partial):
        text, function = repr((function.args, function.keywords)), function.func
    is_named = inspect.isroutine(function) or inspect.isclass(function)
    source = function if is_named else type(function)
    found = source_text(source)
    if found is None:
        name = getattr(function, "__name__", "")
        code = getattr(function, "__code__", None)
        found = f"{source} {name}" if code is None else _code_text(code)
    return hashlib.sha256((text + found).encode()).hexdigest()


def _code_text(code: CodeType) -> str:
    # The representation of a code object in the constants would hold its address.
    constants = (
        _code_text(value) if isinstance(value, CodeType) else repr(value)
        for value in code.co_consts
    )
    return "\n".join((code.co_code.hex(), repr(code.co_names), *constants))
