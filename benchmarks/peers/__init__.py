"""The same work in other libraries, each in the form that suits it.

Every peer is a function of (n_steps, dt) or of a problem that gives a function to time;
what a library compiles or allocates once is done before the clock starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Peer:
    """A way to do the work elsewhere.

    `make` returns the function to time; `requires` names the libraries it imports;
    slow ones get fewer members; `atol` is how far the answer may be from ours, which is
    rounding where the scheme is the same.
    """

    name: str
    make: Callable[..., Callable[..., Any]]
    requires: tuple[str, ...] = ()
    n_members: int = 2**62
    atol: float = 1e-9

    def made(self, *arguments: Any) -> Callable[..., Any]:
        """Return the function to time, or skip the test with the reason."""
        for library in self.requires:
            try:
                importlib.import_module(library)
            except ImportError as error:
                pytest.skip(f"{library} cannot be imported: {error}")
        return self.make(*arguments)
