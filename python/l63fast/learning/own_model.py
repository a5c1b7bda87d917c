"""A model of the user's own: the name it goes by, its source, and what makes it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from l63fast.errors import ArgumentTypeError, ArgumentValueError

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_own(model: Any) -> bool:
    """Return whether a model is named like one of the user's own, "module:Class"."""
    return isinstance(model, str) and _NAME.fullmatch(model) is not None


def short_name(model: str) -> str:
    """Return the name of a model without its module."""
    return model.rpartition(":")[2]


def model_name(model: Any) -> str:
    """Return the name of a class or function; a name comes back as it is.

    Raises
    ------
    ArgumentTypeError
        If it is none of these, or has no name by which it could be imported.
    """
    if isinstance(model, str):
        return model
    module = getattr(model, "__module__", None)
    name = f"{module}:{getattr(model, '__qualname__', None)}"
    if not is_own(name) or not callable(model):
        raise ArgumentTypeError(
            "model: expected a name, or a class or function at the top level of a "
            f"module, got {name if callable(model) else repr(model)}"
        )
    return name


@dataclass(frozen=True)
class OwnModel:
    """A class or function that makes a torch module, and what tells it from others.

    Attributes
    ----------
    name : str
        Such as "package.module:Net".
    source_sha256 : str
        Of the source of the class or function.
    make : callable
    """

    name: str
    source_sha256: str
    make: Callable[..., Any]

    @classmethod
    def of(cls, make: Callable[..., Any]) -> OwnModel:
        """Return a class or function with its name and the hash of its source.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If it is none, or its name or source cannot be found.
        """
        name = model_name(make)
        try:
            source = textwrap.dedent(inspect.getsource(make))
        except (OSError, TypeError):
            raise ArgumentValueError(
                "model: expected a class or function whose source can be read, as in a "
                f"file or a notebook, got {name}"
            ) from None
        return cls(name, hashlib.sha256(source.encode()).hexdigest(), make)

    @classmethod
    def imported(cls, name: str) -> OwnModel | None:
        """Return the model of this name, None for a model of the package.

        The module is looked for in the current folder first, as `python` does. This
        runs the module: call it where the user has asked for a training, and never
        with a name that a result or a checkpoint holds.

        Raises
        ------
        ArgumentValueError
            If it cannot be imported.
        """
        if not is_own(name):
            return None
        module, _, attribute = name.partition(":")
        before = list(sys.path)
        sys.path.insert(0, str(Path.cwd()))
        importlib.invalidate_caches()
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever the module raises
            raise ArgumentValueError(
                f"model: expected one that can be imported, got {name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            sys.path[:] = before
        return replace(cls.of(found), name=name)
