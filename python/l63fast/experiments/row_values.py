"""What stands in the rows of a table: scores over seeds, ranks, ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from l63fast.experiments.config import CellSettings
from l63fast.experiments.optimum import OptimumResult, optimum_of
from l63fast.experiments.ranking import Candidate
from l63fast.experiments.result import Result
from l63fast.experiments.seeds import blocks_of
from l63fast.verification import Repetitions

__all__ = [
    "BASELINES",
    "OPTIMUM",
    "Case",
    "Row",
    "candidates",
    "optimum_row",
    "over_optimum",
    "row_of",
]

OPTIMUM: Final = "optimum"
BASELINES: Final = ("climatology", "background")
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
    role : {"method", "baseline", "optimum", "not settled"}
        Only methods compete; an optimum that a method beats is not settled.
    n_trainings : int or None
        Of a network.
    rank : int or None
    ties : str
        Its `ranking.Place` among the methods of the case, by pool.
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
    role: str = "method"
    n_trainings: int | None = None
    rank: int | None = None
    ties: str = ""
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


def candidates(case: Case, rows: Sequence[Row], mirror_aware: bool) -> list[Candidate]:
    """Return methods and optimum of a case as they are ranked, by their rows."""
    columns = [columns[mirror_aware] for columns in _COLUMNS.values()]
    some = list(next(iter(case.methods.values())).values())
    found = []
    for row in rows:
        if row.role == "optimum":
            optima = list(case.optima.values())
            means = [o.trajectories[:, columns] for o in optima]
            blocks = blocks_of(optima, means)
        elif row.role == "method":
            results = (
                list(case.methods[row.method].values()) if row.n_trainings else some
            )
            states = "analysis" if row.n_trainings else row.method
            means = [r.trajectory_means[states][:, columns] for r in results]
            blocks = blocks_of(results, means)
        else:
            continue
        found.append(Candidate(row.method, row.role, blocks, row.n_trainings))
    return found


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
    if method == "analysis":
        how["n_trainings"] = len(results)
    elif method in BASELINES:
        how["role"] = "baseline"
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
        score, (low, high) = together.score(method)
        values |= _three(measure, score, low, high)
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
        score, (low, high) = found.score(OPTIMUM)
        values |= _three(measure, score, low, high)
    how: dict[str, Any] = {
        "method": OPTIMUM,
        "mirror_aware": mirror_aware,
        "n_seeds": len(optima),
    }
    how["settled"] = all(optimum.settled for optimum in optima)
    how["role"] = "optimum"
    return Row(**_case_of(first.settings), **how, **values)
