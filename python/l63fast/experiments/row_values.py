"""What stands in the rows of a table: scores over seeds, ranks, ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from l63fast.experiments.config import CellSettings
from l63fast.experiments.optimum import OptimumResult, optimum_of
from l63fast.experiments.result import Result
from l63fast.verification import Repetitions

__all__ = ["OPTIMUM", "Case", "Row", "optimum_row", "over_optimum", "ranked", "row_of"]

OPTIMUM: Final = "optimum"
_COLUMNS: Final = {"rms": (0, 2), "pool": (1, 3)}  # of `trajectory_means`


@dataclass(frozen=True)
class Row:
    """One method in one case, by one pair of measures.

    Attributes
    ----------
    operator, sigma, steps_per_cycle, background
        The case.
    method : str
    mirror_aware : bool
        Whether errors are the smaller of those against the truth and its mirror.
    pool, pool_low, pool_high : float
        Root of the mean square over seeds, trajectories, times and components.
    rms, rms_low, rms_high : float
        Time mean of the instantaneous root mean square (DAPPER).
    difference, difference_low, difference_high : float or None
        Pool minus that of 3D-Var, paired; None for references.
    rms_difference, rms_difference_low, rms_difference_high : float or None
    n_seeds : int
        Repetitions; intervals are over these and over trajectories.
    rank : int or None
        Among the encoders of the case by pool, as in `verification.Rank`.
    equals : str
        Encoders that it is not distinguishable from.
    over_optimum, over_optimum_low, over_optimum_high : float or None
        Pool over that of the optimum, paired on its trajectories.
    cost_ratio : float or None
        Of an encoder trained with the loss `var3d`: mean cost J over that of 3D-Var's
        analyses, the mean over seeds.
    settled : bool
        False for an optimum that is an upper bound, its library being too small.
    """

    operator: str
    sigma: float
    steps_per_cycle: int
    background: str
    method: str
    mirror_aware: bool
    pool: float
    pool_low: float
    pool_high: float
    rms: float
    rms_low: float
    rms_high: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    rms_difference: float | None = None
    rms_difference_low: float | None = None
    rms_difference_high: float | None = None
    n_seeds: int = 1
    rank: int | None = None
    equals: str = ""
    over_optimum: float | None = None
    over_optimum_low: float | None = None
    over_optimum_high: float | None = None
    cost_ratio: float | None = None
    settled: bool = True


@dataclass
class Case:
    """The results of one case: by method, then by seed."""

    methods: dict[str, dict[int, Result]] = field(default_factory=dict)
    optima: dict[int, OptimumResult] = field(default_factory=dict)


def _how(result: Result) -> dict[str, Any]:
    return result.settings.scores.bootstrap


def _stacked(
    results: Sequence[Result], method: str, measure: str, mirror_aware: bool
) -> np.ndarray:
    """Return time means (n_seeds, n_trajectories) of a method."""
    column = _COLUMNS[measure][mirror_aware]
    return np.stack([r.trajectory_means[method][:, column] for r in results])


def ranked(
    case: Case, seeds: Sequence[int], mirror_aware: bool
) -> dict[str, dict[str, Any]]:
    """Return rank and equals of each encoder of a case."""
    if not seeds:
        return {}
    means = {
        method: _stacked([by[s] for s in seeds], "analysis", "pool", mirror_aware)
        for method, by in case.methods.items()
    }
    some = next(iter(case.methods.values()))[seeds[0]]
    together = Repetitions.of(means, measure="pool", **_how(some))
    return {
        method: {"rank": found.rank, "equals": "; ".join(found.ties)}
        for method, found in together.standings(tuple(means)).items()
    }


def over_optimum(case: Case, mirror_aware: bool) -> dict[str, dict[str, Any]]:
    """Return how far encoders and 3D-Var are from the optimum, on its trajectories."""
    found = {}
    seen = {
        "3D-Var": (next(iter(case.methods.values())), "3D-Var"),
        **{method: (seeds, "analysis") for method, seeds in case.methods.items()},
    }
    for name, (seeds, method) in seen.items():
        common = [
            seed
            for seed, result in seeds.items()
            if seed in case.optima
            and (name == "3D-Var" or optimum_of(result.settings, 1, 1) is not None)
        ]
        if not common:
            continue
        column = _COLUMNS["pool"][mirror_aware]
        best = np.stack([case.optima[s].trajectories[:, column] for s in common])
        theirs = _stacked([seeds[s] for s in common], method, "pool", mirror_aware)
        both = {"a": theirs[:, : best.shape[1]], "b": best}
        ratio = Repetitions.of(both, **_how(seeds[common[0]])).compare("a", "b")
        low, high = ratio.ratio_ci95
        found[name] = {
            "over_optimum": ratio.ratio,
            "over_optimum_low": low,
            "over_optimum_high": high,
        }
    return found


def _case_of(settings: CellSettings) -> dict[str, Any]:
    data = settings.data
    return {
        "operator": data.operator,
        "sigma": data.sigma,
        "steps_per_cycle": data.steps_per_cycle,
        "background": settings.background.kind,
    }


def row_of(
    results: Sequence[Result], method: str, name: str, mirror_aware: bool
) -> Row:
    """Return the row of a method over its seeds."""
    case = _case_of(results[0].settings)
    if len(results) == 1:
        values = _of_metrics(results[0], method, mirror_aware)
    else:
        values = _of_seeds(results, method, mirror_aware)
    how: dict[str, Any] = {
        "method": name,
        "mirror_aware": mirror_aware,
        "n_seeds": len(results),
    }
    if method == "analysis" and all("cost" in r.metrics for r in results):
        costs = [float(r.metrics["cost"]["ratio"]) for r in results]
        how["cost_ratio"] = float(np.mean(costs))
    return Row(**case, **how, **values)


def _of_metrics(result: Result, method: str, mirror_aware: bool) -> dict[str, Any]:
    prefix = "mirror_" if mirror_aware else ""
    scores = result.metrics["scores"][method]
    values: dict[str, Any] = {}
    for measure in _COLUMNS:
        low, high = scores["ci95"][prefix + measure]
        values |= _three(measure, float(scores[prefix + measure]), low, high)
        if method == "analysis":
            found = result.metrics["paired_difference"][prefix + measure]
            key = "difference" if measure == "pool" else "rms_difference"
            values |= _three(key, found["difference"], found["low"], found["high"])
    return values


def _of_seeds(
    results: Sequence[Result], method: str, mirror_aware: bool
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for measure in _COLUMNS:
        means = {
            name: _stacked(results, name, measure, mirror_aware)
            for name in dict.fromkeys((method, "3D-Var"))
        }
        together = Repetitions.of(means, measure=measure, **_how(results[0]))
        score = together.score(method)
        values |= _three(measure, score.value, *score.ci95)
        if method == "analysis":
            found = together.compare(method, "3D-Var")
            key = "difference" if measure == "pool" else "rms_difference"
            values |= _three(key, found.difference, *found.difference_ci95)
    return values


def _three(name: str, value: Any, low: Any, high: Any) -> dict[str, Any]:
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def optimum_row(case: Case, first: Result, mirror_aware: bool) -> Row:
    """Return the row of the optimum of a case."""
    optima = list(case.optima.values())
    values: dict[str, Any] = {}
    for measure, columns in _COLUMNS.items():
        means = np.stack([o.trajectories[:, columns[mirror_aware]] for o in optima])
        found = Repetitions.of({OPTIMUM: means}, measure=measure, **_how(first))
        score = found.score(OPTIMUM)
        values |= _three(measure, score.value, *score.ci95)
    how: dict[str, Any] = {
        "method": OPTIMUM,
        "mirror_aware": mirror_aware,
        "n_seeds": len(optima),
    }
    how["settled"] = all(optimum.settled for optimum in optima)
    return Row(**_case_of(first.settings), **how, **values)
