"""Objects of the user named "module:attribute": name, source and import."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import linecache
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
    """Return whether a name has the form "module:attribute"."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def short_name(name: str) -> str:
    """Return a name without its module."""
    return name.rpartition(":")[2]


def file_name(name: str) -> str:
    """Return a name in the form for files and folders, without a colon."""
    return name.replace(":", "-")


def imported(what: str, name: str) -> Any:
    """Return the object with this name, after the import of its module.

    The current folder is searched first, as `python` does. The import runs the module.
    Call this only for a name that the user has given for a run, never for a name from a
    result or a checkpoint, which may come from someone else.

    Parameters
    ----------
    what : str
        The setting with the name, for messages.
    name : str
        "module:attribute".

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
            f"{what}: expected a name that can be imported, got {name!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path[:] = before


def source_text(made: Any) -> str | None:
    """Return the source of a class or function, None if it cannot be read."""
    try:
        return textwrap.dedent(inspect.getsource(made))
    except (OSError, TypeError):
        return _source_in_cell(made) if inspect.isclass(made) else None


def _source_in_cell(made: type) -> str | None:
    """Return the source of a class by where its methods are.

    A class itself knows its module and no file, and that of a notebook has none.
    """
    for method in vars(made).values():
        code = getattr(inspect.unwrap(method), "__code__", None)
        lines = linecache.getlines(code.co_filename) if code else []
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == made.__name__:
                above = [decorator.lineno for decorator in node.decorator_list]
                first = min([node.lineno, *above])
                last = node.end_lineno or first
                if code and first <= code.co_firstlineno <= last:
                    return textwrap.dedent("".join(lines[first - 1 : last]))
    return None


def source_hash(function: Any) -> str:
    """Return the sha256 of a function's source, or of its bytecode without a source."""
    text = ""
    if isinstance(function, partial):
        text, function = repr((function.args, function.keywords)), function.func
    is_named = inspect.isroutine(function) or inspect.isclass(function)
    source = function if is_named else type(function)
    source_code = source_text(source)
    if source_code is None:
        name = getattr(function, "__name__", "")
        code = getattr(function, "__code__", None)
        source_code = f"{source} {name}" if code is None else _code_text(code)
    return hashlib.sha256((text + source_code).encode()).hexdigest()


def _code_text(code: CodeType) -> str:
    # repr of a code object contains its address, which differs from run to run.
    constants = (
        _code_text(value) if isinstance(value, CodeType) else repr(value)
        for value in code.co_consts
    )
    return "\n".join((code.co_code.hex(), repr(code.co_names), *constants))
