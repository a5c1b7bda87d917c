"""A model of the user's own: its name, its source and its constructor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from l63fast import _user_code
from l63fast._user_code import is_own
from l63fast.errors import ArgumentTypeError, ArgumentValueError


def model_name(model: Any) -> str:
    """Return the importable name of a class or function; a name is returned unchanged.

    Raises
    ------
    ArgumentTypeError
        If it is neither a name nor a class or function that can be imported by one.
    """
    if isinstance(model, str):
        return model
    module = getattr(model, "__module__", None)
    qualified = getattr(model, "__qualname__", None)
    name = f"{module}:{qualified}"
    if not is_own(name) or not callable(model) or qualified is None:
        got = name if callable(model) else repr(model)
        if callable(model) and qualified is None:
            got = f"an instance of {type(model).__name__}"
        raise ArgumentTypeError(
            "model: expected a name, or a class or function at the top level of a "
            f"module, got {got}"
        )
    return name


@dataclass(frozen=True)
class OwnModel:
    """A class or function that makes a torch module, with its name and source hash.

    Attributes
    ----------
    name : str
        Such as "package.module:Net".
    source_sha256 : str
        Hash of the source of the class or function.
    make : callable
        The class or function itself.
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
            If it is not a class or function, or has no importable name or no source.
        """
        name = model_name(make)
        if _user_code.source_text(make) is None:
            raise ArgumentValueError(
                "model: expected a class or function whose source can be read, as in a "
                f"file or a notebook, got {name}"
            )
        return cls(name, _user_code.source_hash(make), make)

    @classmethod
    def imported(cls, name: str) -> OwnModel | None:
        """Return the user's model of this name, None for a model of the package.

        Importing runs the user's module.

        Raises
        ------
        ArgumentValueError
            If it cannot be imported.
        """
        if not is_own(name):
            return None
        return replace(cls.of(_user_code.imported("model", name)), name=name)
