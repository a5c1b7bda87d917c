"""Which method wins where, by how much, and how far from the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l63fast.experiments.ranking import Place, ranking
from l63fast.experiments.reporting.entries import (
    Case,
    Entry,
    contenders,
    optimum_of,
    three_d_var_of,
)
from l63fast.verification import Comparison

__all__ = ["Finding", "Margin", "finding_of", "findings", "margin"]


@dataclass(frozen=True)
class Margin:
    """How an entry scores beside another, paired; a ratio, or a difference in dB.

    Attributes
    ----------
    other : str
    value, low, high : float
    in_decibel : bool
    """

    other: str
    value: float
    low: float
    high: float
    in_decibel: bool = False

    @property
    def neutral(self) -> float:
        """The value of two that score alike."""
        return 0.0 if self.in_decibel else 1.0

    @property
    def is_known(self) -> bool:
        """Whether there is an interval; a single trajectory has none."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out that both score alike."""
        return self.is_known and not self.low <= self.neutral <= self.high


@dataclass(frozen=True)
class Finding:
    """What the methods of one case show.

    Attributes
    ----------
    case : Case
    entries : tuple of Entry
    places : dict of Place
        By method.
    best : Entry or None
        Of the lowest score; None where every method diverged.
    tied : tuple of Margin
        Methods that cannot be told from it, beside it: then none of them wins.
    next : Margin or None
        The next method that can.
    three_d_var, optimum : Margin or None
        The best beside those.
    optimum_settled : bool
        Whether the optimum settled as its size grew, as far as is known.
    beaten : bool
        Whether a method beats what was to be the optimum, so that there is none.
    diverged : tuple of Entry
        Methods of which at least one trajectory diverged.
    """

    case: Case
    entries: tuple[Entry, ...]
    places: Mapping[str, Place]
    best: Entry | None
    tied: tuple[Margin, ...] = ()
    next: Margin | None = None
    three_d_var: Margin | None = None
    optimum: Margin | None = None
    optimum_settled: bool = True
    beaten: bool = False
    diverged: tuple[Entry, ...] = ()


def findings(entries: Sequence[Entry]) -> list[Finding]:
    """Return the finding of each case, in the order of the entries."""
    cases = dict.fromkeys(entry.case for entry in entries)
    return [finding_of([e for e in entries if e.case == case]) for case in cases]


def finding_of(entries: Sequence[Entry]) -> Finding:
    """Return what the entries of one case show."""
    case, first = entries[0].case, entries[0]
    ranked = contenders(entries)
    candidates = [entry.candidate for entry in entries]
    places = ranking(candidates, first.comparing, **first.scoring)
    beaten = any(entry.role == "not settled" for entry in entries)
    lost = tuple(
        e for e in entries if e.role == "method" and e.numbers.get("diverged", 0.0) > 0
    )
    if not ranked:
        return Finding(case, tuple(entries), places, None, diverged=lost)
    best, optimum, base = ranked[0], optimum_of(entries), three_d_var_of(entries)
    place = places[best.method]
    known = place.rank is not None  # else they have no data in common
    tied = [e for e in ranked[1:] if e.method in place.ties or not known]
    rest = [e for e in ranked[1:] if e not in tied]
    return Finding(
        case,
        tuple(entries),
        places,
        best,
        tied=tuple(margin(other, best, other.method) for other in tied),
        next=margin(rest[0], best, rest[0].method) if rest else None,
        three_d_var=_beside(best, base),
        optimum=_beside(best, optimum, pool=True),
        optimum_settled=optimum is None or _settled(optimum),
        diverged=lost,
        beaten=beaten,
    )


def _beside(best: Entry, other: Entry | None, *, pool: bool = False) -> Margin | None:
    if other is None or other is best:
        return None
    found = margin(best, other, other.method, pool=pool)
    return found if math.isfinite(found.value) else None


def margin(entry: Entry, other: Entry, name: str, *, pool: bool = False) -> Margin:
    """Return how an entry scores beside another; dB as their difference."""
    found: Comparison = entry.against(other, pool=pool)
    values = [found.ratio, *found.ratio_ci95]
    if entry.in_decibel:
        values = [20.0 * math.log10(v) if v > 0.0 else math.nan for v in values]
    value, low, high = values
    return Margin(name, value, low, high, in_decibel=entry.in_decibel)


def _settled(optimum: Entry) -> bool:
    metrics = optimum.results[0].metrics if optimum.results else {}
    if "convergence" in metrics:
        return bool(metrics["convergence"]["settled"])
    return bool(optimum.numbers.get("settled", 1.0))
