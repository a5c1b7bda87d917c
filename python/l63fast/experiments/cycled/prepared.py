"""What a method is: settings that make a scheme for a case, tuned where left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from l63fast import _checks
from l63fast.assimilation.scheme import Scheme
from l63fast.assimilation.tuning import Tuning
from l63fast.experiments.cycled.optimum import Convergence
from l63fast.experiments.cycled.problem import CycledProblem

__all__ = ["Method", "Prepared", "optional_real", "tuning_options"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scheme ready to be cycled, and how it was tuned on the validation split.

    Attributes
    ----------
    scheme : Scheme
    label : str
        What tables call it.
    parameter : str
        Name of the number that can be tuned; empty if there is none.
    value : float
        Of that number; NaN if there is none.
    tuning : Tuning or None
        None where the number was given.
    convergence : Convergence or None
        How the score of a particle filter settled as its size was doubled.
    training : dict or None
        How an encoder was trained, as plain values.
    export : callable or None
        Writes what should be kept of the scheme into a folder.
    """

    scheme: Scheme[Any]
    label: str
    parameter: str = ""
    value: float = float("nan")
    tuning: Tuning | None = None
    convergence: Convergence | None = None
    training: dict[str, int] | None = None
    export: Callable[[Path], None] | None = None


class Method(Protocol):
    """Settings of a method: a frozen dataclass that makes a scheme for a case.

    Attributes
    ----------
    scheme : str
        Its name in a settings file.
    role : {"method", "baseline", "optimum"}
        Only methods compete; the optimum is what the others are measured against.
    """

    scheme: ClassVar[str]
    role: ClassVar[str]

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the scheme; numbers left open are tuned on the validation split."""


def optional_real(name: str, value: float | None, **limits: float) -> None:
    """Check a number that may be left open."""
    if value is not None:
        _checks.real(name, value, **limits)


def tuning_options(problem: CycledProblem, measure: str) -> dict[str, Any]:
    """Return how a cycled scheme is tuned, as the tuning functions take it."""
    return {**problem.start("val"), "measure": "rms" if measure == "rms" else "pool"}
