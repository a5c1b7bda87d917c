"""Cycled experiments with several seeds: scores over all of them, and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.describe import observed, shown_measure
from l63fast.experiments.result import csv_text
from l63fast.verification import Repetitions, decibel

__all__ = [
    "RepeatedRow",
    "has_seeds",
    "repeated_csv",
    "repeated_lines",
    "repeated_rows",
]

_COLUMN = {
    "rms": ("rms", "rms"),
    "pool": ("square", "pool"),
    "mirror_rms": ("mirror_rms", "rms"),
    "mirror_pool": ("mirror_square", "pool"),
}


@dataclass(frozen=True)
class RepeatedRow:
    """One method over the seeds of a case.

    Attributes
    ----------
    operator : str
    sigma, interval, Q : float
        Of the case; Q is the first variance of the model error.
    method, measure : str
    n_seeds : int
    score, low, high : float
        With its 95 % interval over seeds and trajectories.
    rank : int
    equals : str
        Methods that it is not distinguishable from.
    """

    operator: str
    sigma: float
    interval: float
    Q: float
    method: str
    measure: str
    n_seeds: int
    score: float
    low: float
    high: float
    rank: int
    equals: str


def has_seeds(results: Sequence[CycledResult]) -> bool:
    """Return whether results have more than one seed."""
    return len({result.settings.data.seed for result in results}) > 1


def repeated_rows(results: Sequence[CycledResult]) -> list[RepeatedRow]:
    """Return one row per case and method, over the seeds that all its methods have."""
    cases: dict[Any, dict[str, dict[int, CycledResult]]] = {}
    for result in results:
        data = result.settings.data
        key = (data.operator, data.sigma, data.steps_per_cycle, data.Q)
        methods = cases.setdefault(key, {})
        methods.setdefault(result.settings.key, {})[data.seed] = result
    return [row for methods in cases.values() for row in _case(methods)]


def _case(methods: Mapping[str, Mapping[int, CycledResult]]) -> list[RepeatedRow]:
    first, *others = methods.values()
    seeds = [seed for seed in first if all(seed in by for by in others)]
    if not seeds:
        return []
    cell = first[seeds[0]].settings
    name = first[seeds[0]].metrics["measure"]
    column, measure = _COLUMN[name]
    means = {
        key: np.stack([by[seed].trajectories[column] for seed in seeds])
        for key, by in methods.items()
    }
    together = Repetitions.of(
        means,
        measure=measure,
        n_bootstrap=cell.scores.n_bootstrap,
        seed=cell.scores.seed,
    )
    standings = together.standings(tuple(means))
    rows = []
    for key in means:
        score, (low, high) = together.score(key)
        values, shown = (score, low, high), shown_measure(name)
        if cell.measure == "decibel":
            values = (decibel(score), decibel(low), decibel(high))
            shown = shown.replace("pool", "dB")
        rows.append(
            RepeatedRow(
                cell.data.operator,
                cell.data.sigma,
                cell.data.steps_per_cycle * cell.data.dt,
                float(cell.data.model_error_covariance[0, 0]),
                key,
                shown,
                len(seeds),
                *values,
                standings[key].rank,
                "; ".join(standings[key].equals),
            )
        )
    return rows


def repeated_csv(rows: Sequence[RepeatedRow]) -> str:
    """Return the rows as CSV text."""
    return csv_text([asdict(row) for row in rows])


def repeated_lines(rows: Sequence[RepeatedRow]) -> list[tuple[str, ...]]:
    """Return the rows as text: method, score, interval, rank, not distinguishable."""
    return [
        (
            f"{observed(row.operator)}, sigma {row.sigma:.3g}, every {row.interval:g}",
            row.method,
            f"{row.score:.4g}",
            f"{row.low:.4g}–{row.high:.4g}",
            f"{row.rank}",
            row.equals,
        )
        for row in rows
    ]
