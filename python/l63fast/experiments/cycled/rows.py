"""One row per method and case: everything that tables and figures are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from l63fast.experiments.cycled.groups import Group, grouped, reference_of
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.row_numbers import (
    NAN,
    beside,
    claimed,
    mean,
    scored,
    standings,
)
from l63fast.experiments.result import csv_text

__all__ = ["CycledRow", "cycled_rows", "group_rows", "rows_csv"]


@dataclass(frozen=True)
class CycledRow:
    """One method on one case, over all of its seeds.

    What is no score is the mean over seeds.

    Attributes
    ----------
    case, key, method : str
    n_seeds : int
        Of data, or of trainings on the same data.
    operator : str
    sigma, interval : float
    measure : str
        The one that decides: "rms", "pool", "dB", or "mirror-aware" and one of them.
    score, low, high : float
        By that measure, with its 95 % interval over seeds and trajectories.
    seed_low, seed_high : float
        Lowest and highest score of a single seed.
    rank : int
        As in `verification.Rank`; 0 without one, and if there are no data in common.
    equals : str
        The methods that it is not distinguishable from.
    rms, pool, decibel : float
        Mirror-aware where the measure is; decibel is 20 log10 of pool.
    parameter : str
    value : float
        Of the number that was tuned or given; NaN without one.
    tuned : bool
    published_low, published_high : float
    verdict : str
        "within", "lower", "higher", "diverged", or empty.
    over_optimum, over_optimum_low, over_optimum_high : float
        Ratio of `pool` to that of the best reference of the case, paired.
    spread : float
        Claimed spread over the error made; 1 if it can be trusted.
    innovation, innovation_low, innovation_high : float
        Mean of d^T S^-1 d / m, 1 if innovations d have the covariance S claimed.
    crps : float
        Of the ensemble, where it was kept.
    effective_size : float
    sign_flips, diverged : float
        Shares of analyses, of trajectories.
    training_seconds : float
        Of an encoder; of one that was stopped, since it went on.
    training_resumed : bool
    seconds_per_cycle, seconds_per_analysis : float
    """

    case: str
    key: str
    method: str
    n_seeds: int
    operator: str
    sigma: float
    interval: float
    measure: str
    score: float
    low: float
    high: float
    seed_low: float
    seed_high: float
    rank: int
    equals: str
    rms: float
    pool: float
    decibel: float
    parameter: str
    value: float
    tuned: bool
    published_low: float
    published_high: float
    verdict: str
    over_optimum: float
    over_optimum_low: float
    over_optimum_high: float
    spread: float
    innovation: float
    innovation_low: float
    innovation_high: float
    crps: float
    effective_size: float
    sign_flips: float
    diverged: float
    training_seconds: float
    training_resumed: bool
    seconds_per_cycle: float
    seconds_per_analysis: float


def cycled_rows(results: Sequence[CycledResult]) -> list[CycledRow]:
    """Return one row per method and case, case by case."""
    return [row for groups in grouped(results) for row in group_rows(groups)]


def group_rows(groups: Sequence[Group]) -> list[CycledRow]:
    """Return the rows of one case.

    Methods of one label are told apart by what the experiment calls them.
    """
    reference = reference_of(groups)
    labels = Counter(group.first.metrics["label"] for group in groups)
    names = [
        group.first.metrics["label"]
        + (f" [{group.key}]" if labels[group.first.metrics["label"]] > 1 else "")
        for group in groups
    ]
    places = standings(groups, names)
    return [
        _row(group, name, reference, places.get(name, {"rank": 0, "equals": ""}))
        for group, name in zip(groups, names, strict=True)
    ]


def _row(
    group: Group, name: str, reference: Group | None, standing: dict[str, Any]
) -> CycledRow:
    cell, metrics = group.first.settings, group.first.metrics
    parameter = metrics.get("parameter", {"name": ""})["name"]
    trained = "training" in metrics
    return CycledRow(
        case=group.case,
        key=group.key,
        method=name,
        n_seeds=len(group.results),
        operator=cell.data.operator,
        sigma=cell.data.sigma,
        interval=cell.data.steps_per_cycle * cell.data.dt,
        parameter=parameter,
        tuned="tuning" in metrics or "convergence" in metrics,
        training_seconds=mean(group, "timing", "seconds.tuning") if trained else NAN,
        training_resumed=any(
            result.timing["seconds"].get("tuning_resumed", False)
            for result in group.results
        ),
        seconds_per_cycle=mean(group, "timing", "seconds.per_cycle"),
        seconds_per_analysis=mean(group, "timing", "seconds.per_analysis"),
        **standing,
        **scored(group),
        **beside(group, reference),
        **claimed(group),
    )


def rows_csv(rows: Sequence[CycledRow]) -> str:
    """Return the rows as CSV text."""
    return csv_text([asdict(row) for row in rows])
