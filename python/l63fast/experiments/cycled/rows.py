"""One row per method and case: everything that tables and figures are made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from l63fast.experiments.cycled.published import published_for, verdict
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.describe import shown_measure
from l63fast.experiments.result import csv_text
from l63fast.verification import compare, decibel

__all__ = ["CycledRow", "cycled_rows", "reference_of", "rows_csv"]

NAN: Final = math.nan
_NO_INNOVATION: Final = {"ratio": NAN, "ci95": {"ratio": (NAN, NAN)}}
_COLUMN: Final = {
    "rms": "rms",
    "pool": "square",
    "mirror_rms": "mirror_rms",
    "mirror_pool": "mirror_square",
}


@dataclass(frozen=True)
class CycledRow:
    """One method on one case.

    Attributes
    ----------
    case, key, method : str
    operator : str
    sigma, interval : float
    measure : str
        The one that decides: "rms", "pool", "dB", or "mirror-aware" and one of them.
    score, low, high : float
        By that measure, with its 95 % interval.
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
    operator: str
    sigma: float
    interval: float
    measure: str
    score: float
    low: float
    high: float
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


def reference_of(results: Sequence[CycledResult]) -> CycledResult | None:
    """Return the result that others are measured against: the optimum of their case.

    Without one it is the particle filter with most particles, if there is any.
    """
    best, size = None, 0.0
    for result in results:
        method = result.settings.method
        if method.scheme == "optimum":
            return result
        particles = getattr(method, "n_particles", 0)
        if particles > size:
            best, size = result, particles
    return best


def cycled_rows(results: Sequence[CycledResult]) -> list[CycledRow]:
    """Return one row per result, case by case.

    Methods of one label are told apart by what the experiment calls them.
    """
    rows = []
    for case in dict.fromkeys(result.settings.case for result in results):
        those = [result for result in results if result.settings.case == case]
        reference = reference_of(those)
        labels = Counter(result.metrics["label"] for result in those)
        for result in those:
            label = result.metrics["label"]
            if labels[label] > 1:
                label = f"{label} [{result.settings.key}]"
            rows.append(_row(result, label, reference))
    return rows


def _row(result: CycledResult, label: str, reference: CycledResult | None) -> CycledRow:
    cell, metrics = result.settings, result.metrics
    parameter = metrics.get("parameter", {"name": "", "value": NAN})
    seconds = result.timing["seconds"]
    return CycledRow(
        case=cell.case,
        key=cell.key,
        method=label,
        operator=cell.data.operator,
        sigma=cell.data.sigma,
        interval=cell.data.steps_per_cycle * cell.data.dt,
        parameter=parameter["name"],
        value=float(parameter["value"]),
        tuned="tuning" in metrics or "convergence" in metrics,
        training_seconds=float(seconds["tuning"]) if "training" in metrics else NAN,
        training_resumed=bool(seconds.get("tuning_resumed", False)),
        seconds_per_cycle=float(seconds["per_cycle"]),
        seconds_per_analysis=float(seconds["per_analysis"] or NAN),
        **_scored(result),
        **_beside(result, reference),
        **_claimed(metrics),
    )


def _scored(result: CycledResult) -> dict[str, Any]:
    """Return the scores of a result, and what was published of the same."""
    cell, metrics = result.settings, result.metrics
    scores, measure = metrics["scores"], metrics["measure"]
    prefix = _prefix(measure)
    score = float(scores[measure])
    low, high = map(float, scores["ci95"][measure])
    pool = float(scores[f"{prefix}pool"])
    shown = shown_measure(measure)
    if cell.measure == "decibel":
        score, low, high = (decibel(value) for value in (score, low, high))
        shown = shown.replace("pool", "dB")
    published = published_for(cell)
    return {
        "measure": shown,
        "score": score,
        "low": low,
        "high": high,
        "rms": float(scores[f"{prefix}rms"]),
        "pool": pool,
        "decibel": decibel(pool),
        "published_low": NAN if published is None else published.low,
        "published_high": NAN if published is None else published.high,
        "verdict": "" if published is None else verdict(published, score, low, high),
        "sign_flips": float(scores["sign_flip_rate"]),
        "diverged": float(scores["divergence_rate"]),
    }


def _beside(result: CycledResult, reference: CycledResult | None) -> dict[str, Any]:
    """Return the ratio of `pool` to that of the reference."""
    ratio, low, high = NAN, NAN, NAN
    if reference is not None:
        column = _COLUMN[f"{_prefix(result.metrics['measure'])}pool"]
        found = compare(
            result.trajectories[column],
            reference.trajectories[column],
            n_bootstrap=result.settings.scores.n_bootstrap,
            seed=result.settings.scores.seed,
        )
        ratio, (low, high) = found.ratio, found.ratio_ci95
    return {
        "over_optimum": ratio,
        "over_optimum_low": low,
        "over_optimum_high": high,
    }


def _claimed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the scheme says of its own errors."""
    innovation = metrics.get("innovation", _NO_INNOVATION)
    low, high = innovation["ci95"]["ratio"]
    return {
        "spread": float(metrics.get("spread", {"ratio": NAN})["ratio"]),
        "innovation": float(innovation["ratio"]),
        "innovation_low": float(low),
        "innovation_high": float(high),
        "crps": float(metrics.get("crps", {"crps": NAN})["crps"]),
        "effective_size": float(metrics.get("effective_size", NAN)),
    }


def _prefix(measure: str) -> str:
    return "mirror_" if measure.startswith("mirror_") else ""


def rows_csv(rows: Sequence[CycledRow]) -> str:
    """Return the rows as CSV text."""
    return csv_text([asdict(row) for row in rows])
