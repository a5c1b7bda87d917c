"""One entry per method and case, the same for every kind of experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from l63fast.experiments.describe import observed
from l63fast.experiments.ranking import Candidate
from l63fast.experiments.seeds import Blocks, repetitions
from l63fast.verification import Comparison

__all__ = [
    "NAN",
    "SOURCES",
    "Case",
    "Entry",
    "contenders",
    "optimum_of",
    "three_d_var_of",
]

NAN: Final = math.nan
SOURCES: Final = ("file", "rerun", "paper")  # of published scores


@dataclass(frozen=True)
class Case:
    """What the methods of one comparison were given.

    Attributes
    ----------
    operator : str
    sigma, interval : float
    more : str
        What else varies between cases, in words; usually empty.
    """

    operator: str
    sigma: float
    interval: float
    more: str = ""

    @property
    def title(self) -> str:
        """The case in words."""
        more = f", {self.more}" if self.more else ""
        return (
            f"{observed(self.operator)} observed with σ = {self.sigma:.3g} every "
            f"{self.interval:g} time units{more}"
        )


@dataclass(frozen=True, eq=False)
class Entry:
    """One method on one case.

    Attributes
    ----------
    case : Case
    method : str
    role : {"method", "baseline", "optimum", "not settled"}
        As the method states it. Only methods compete; an optimum that a method beats
        is not settled.
    scheme : str
        "3dvar", "encoder", ...
    measure : str
        The score that decides, in words: "rms", "mirror-aware pool", "dB".
    score, low, high : float
        With its 95 % interval.
    rms, pool : float
        Mirror-aware where the measure is.
    blocks : dict of (n_trainings, n_trajectories, 2)
        Time means of the instantaneous rms and of its square, by the hash of the test
        trajectories: a method that was tried on fewer of them has the first ones.
    numbers : dict
        More numbers of this method: "diverged", "sign_flips", "p95" (shares and a
        quantile), "per_cycle", "per_analysis", "training" (seconds), "spread",
        "innovation", "file", "rerun", "paper"; left out where unknown.
    verdict : str
        Beside what was published.
    results : tuple
        The results that it was made of, one per seed.
    shown_in : str
        Which states of those results are meant: "analysis", or a baseline's name.
    n_trainings : int or None
        Of a network.
    """

    case: Case
    method: str
    role: str
    scheme: str
    measure: str
    score: float
    low: float
    high: float
    rms: float
    pool: float
    blocks: Blocks
    numbers: dict[str, float] = field(default_factory=dict)
    verdict: str = ""
    results: tuple[Any, ...] = ()
    shown_in: str = "analysis"
    n_trainings: int | None = None

    @property
    def in_decibel(self) -> bool:
        """Whether scores are differences already, of which no ratio makes sense."""
        return self.measure.endswith("dB")

    @property
    def is_finite(self) -> bool:
        """Whether there is a score."""
        return math.isfinite(self.score)

    @property
    def n_trajectories(self) -> int:
        """How many test trajectories there are, in all."""
        return sum(block.shape[1] for block in self.blocks.values())

    @property
    def comparing(self) -> str:
        """The measure by which it is compared: "rms", or "pool", also for dB."""
        return "rms" if self.measure.endswith("rms") else "pool"

    @property
    def candidate(self) -> Candidate:
        """The entry as it is ranked."""
        return Candidate(self.method, self.role, self.blocks, self.n_trainings)

    @cached_property
    def scoring(self) -> dict[str, int]:
        """How its intervals are made: n_bootstrap and seed of its results."""
        return self.results[0].settings.scores.bootstrap if self.results else {}

    def against(self, other: Entry, *, pool: bool = False) -> Comparison:
        """Return this score beside another of the same case, paired.

        By the measure that decides, or by `pool`; dB compare by pool. Trajectories that
        only one of them was tried on are left out.
        """
        measure = "pool" if pool else self.comparing
        both = {"a": self.blocks, "b": other.blocks}
        found = repetitions(both, measure, **self.scoring)
        if found is None:
            nothing = (NAN, NAN)
            return Comparison(NAN, nothing, NAN, nothing)
        return found.compare("a", "b")


def contenders(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that compete and did not diverge, best first."""
    ours = [entry for entry in entries if entry.role == "method" and entry.is_finite]
    return sorted(ours, key=lambda entry: entry.score)


def optimum_of(entries: Sequence[Entry]) -> Entry | None:
    """Return the optimum of a case, if it has one."""
    found = [e for e in entries if e.role == "optimum" and e.is_finite]
    return found[0] if found else None


def three_d_var_of(entries: Sequence[Entry]) -> Entry | None:
    """Return the best 3D-Var of a case."""
    found = [e for e in entries if e.scheme == "3dvar" and e.is_finite]
    return min(found, key=lambda entry: entry.score, default=None)
