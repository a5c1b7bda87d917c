"""The rows of an experiment's table: every method of every case, over its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from l63fast.errors import ResultError
from l63fast.experiments.config import CellSettings
from l63fast.experiments.evaluation import headline
from l63fast.experiments.optimum import OptimumResult, known_background
from l63fast.experiments.result import Result
from l63fast.twin import TwinSettings
from l63fast.verification import Repetitions

__all__ = ["Block", "Row", "blocks_of", "table_rows"]

REFERENCES: Final = ("climatology", "background", "3D-Var")
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
        Among the encoders of the case by pool, as in `verification.Standing`.
    equals : str
        Encoders that it is not distinguishable from.
    over_optimum, over_optimum_low, over_optimum_high : float or None
        Pool over that of the optimum, paired on its trajectories.
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
    settled: bool = True


@dataclass(frozen=True)
class Block:
    """The methods of one case: the same data, errors and backgrounds.

    Attributes
    ----------
    data : TwinSettings
        Of the first seed.
    background : str
    mirror_aware : bool
    rows : list of Row
        References, then encoders, then the optimum.
    losses : tuple of str
        That its encoders were trained with.
    """

    data: TwinSettings
    background: str
    mirror_aware: bool
    rows: list[Row]
    losses: tuple[str, ...] = ()

    def of(self, method: str) -> Row | None:
        """Return the row of a method, None if there is none."""
        return next((row for row in self.rows if row.method == method), None)

    @property
    def encoders(self) -> list[Row]:
        """The rows that have a rank."""
        return [row for row in self.rows if row.rank is not None]

    @property
    def verdict(self) -> str:
        """Which encoder is the best, and which cannot be told from it."""
        ranked = sorted(self.encoders, key=lambda row: (row.rank or 0, row.pool))
        if len(ranked) < 2:
            return ""
        best = ranked[0].method
        if not ranked[0].equals:
            return best
        if len(ranked[0].equals.split("; ")) == len(ranked) - 1:
            return "not distinguishable"
        return f"{best}; not distinguishable: {ranked[0].equals}"


@dataclass
class _Case:
    """The results of one case: by method, then by seed."""

    methods: dict[str, dict[int, Result]] = field(default_factory=dict)
    optima: dict[int, OptimumResult] = field(default_factory=dict)


def table_rows(results: Sequence[Result | OptimumResult]) -> list[Row]:
    """Return the rows of all blocks, one after the other."""
    return [row for block in blocks_of(results) for row in block.rows]


def blocks_of(results: Sequence[Result | OptimumResult]) -> list[Block]:
    """Return the table, case by case.

    Mirror-blind operators come twice: mirror-aware, which decides, then plain.

    Raises
    ------
    ResultError
        If results of one case and seed come from different data.
    """
    encoders = [result for result in results if isinstance(result, Result)]
    blocks = []
    for operator in dict.fromkeys(r.settings.data.operator for r in encoders):
        cases: dict[Any, _Case] = {}
        of_operator = [r for r in encoders if r.settings.data.operator == operator]
        names = method_names([result.settings for result in of_operator])
        for result, name in zip(of_operator, names, strict=True):
            case = cases.setdefault(_key(result.settings), _Case())
            seeds = case.methods.setdefault(name, {})
            _refuse_twice(seeds.setdefault(result.settings.data.seed, result), result)
        for optimum in results:
            if isinstance(optimum, OptimumResult):
                _place(optimum, cases)
        blind = headline(operator) == "mirror_pool"
        for case in cases.values():
            _refuse_different_data(case)
            for mirror_aware in (True, False) if blind else (False,):
                blocks.append(_block(case, mirror_aware=mirror_aware))
    return blocks


def _key(settings: CellSettings) -> tuple[Any, ...]:
    data = settings.data
    return (data.operator, data.sigma, data.steps_per_cycle, settings.background)


def _place(optimum: OptimumResult, cases: Mapping[Any, _Case]) -> None:
    """Put an optimum where encoders saw its windows, the longest if there are more."""
    for case in cases.values():
        for seeds in case.methods.values():
            found = seeds.get(optimum.settings.data.seed)
            if found is None or found.settings.data != optimum.settings.data:
                continue
            ours, theirs = found.settings, optimum.settings
            kind = known_background(ours.background.kind)
            same = (kind, ours.model.window) == (
                theirs.background.kind,
                theirs.optimum.window,
            )
            if same:
                seed = theirs.data.seed
                old = case.optima.get(seed)
                if old is None or old.settings.optimum.window < theirs.optimum.window:
                    case.optima[seed] = optimum


def method_names(cells: Sequence[CellSettings]) -> list[str]:
    """Return what encoders are called in tables and figures, such as "GRU, K=3".

    The window and the loss are told where there are several.
    """
    several_windows = len({cell.model.window for cell in cells}) > 1
    by_case: dict[Any, set[str]] = {}
    for cell in cells:
        by_case.setdefault(_key(cell), set()).add(cell.training.loss)
    several_losses = any(len(losses) > 1 for losses in by_case.values())
    names = []
    for cell in cells:
        parts = [cell.model.model.upper(), f"K={cell.model.n_iterations}"]
        if several_windows:
            parts.append(f"L={cell.model.window}")
        if several_losses:
            parts.append(cell.training.loss)
        names.append(", ".join(parts))
    return names


def _refuse_twice(first: Result, second: Result) -> None:
    if second is not first:
        different = second.metrics["data"] != first.metrics["data"]
        what = "come from different data" if different else "are the same"
        raise ResultError(
            f"{first.directory} and {second.directory}: {what} and cannot be compared"
        )


def _refuse_different_data(case: _Case) -> None:
    results = [r for seeds in case.methods.values() for r in seeds.values()]
    first = results[0]
    by_seed: dict[int, Result] = {}
    for result in results:
        same = by_seed.setdefault(result.settings.data.seed, result)
        ours, theirs = (
            dataclasses.replace(r.settings.data, seed=0) for r in (first, result)
        )
        if result.metrics["data"] != same.metrics["data"] or ours != theirs:
            raise ResultError(
                f"{first.directory} and {result.directory}: come from different data "
                "and cannot be compared"
            )


def _block(case: _Case, *, mirror_aware: bool) -> Block:
    some = next(iter(case.methods.values()))
    results = list(some.values())
    first = results[0]
    common = _common_seeds(case)
    ranked = _ranked(case, common, mirror_aware)
    rows = [
        _row(results, "climatology", "climatology", mirror_aware),
        *(_row(results, name, name, mirror_aware) for name in REFERENCES[1:]),
    ]
    for method, seeds in case.methods.items():
        rows.append(_row(list(seeds.values()), "analysis", method, mirror_aware))
    if case.optima:
        rows.append(_optimum_row(case, first, mirror_aware))
    over = _over_optimum(case, mirror_aware)
    rows = [
        dataclasses.replace(
            row, **ranked.get(row.method, {}), **over.get(row.method, {})
        )
        for row in rows
    ]
    losses = dict.fromkeys(
        r.settings.training.loss
        for seeds in case.methods.values()
        for r in seeds.values()
    )
    kind = first.settings.background.kind
    return Block(first.settings.data, kind, mirror_aware, rows, tuple(losses))


def _common_seeds(case: _Case) -> list[int]:
    """Return the seeds that every method of a case has."""
    first, *others = case.methods.values()
    return [seed for seed in first if all(seed in seeds for seeds in others)]


def _how(result: Result) -> dict[str, int]:
    scores = result.settings.scores
    return {"n_bootstrap": scores.n_bootstrap, "seed": scores.seed}


def _stacked(
    results: Sequence[Result], method: str, measure: str, mirror_aware: bool
) -> np.ndarray:
    """Return time means (n_seeds, n_trajectories) of a method."""
    column = _COLUMNS[measure][mirror_aware]
    return np.stack([r.trajectory_means[method][:, column] for r in results])


def _ranked(
    case: _Case, seeds: Sequence[int], mirror_aware: bool
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
        method: {"rank": standing.rank, "equals": "; ".join(standing.equals)}
        for method, standing in together.standings(tuple(means)).items()
    }


def _over_optimum(case: _Case, mirror_aware: bool) -> dict[str, dict[str, Any]]:
    """Return how far encoders and 3D-Var are from the optimum, on its trajectories."""
    found = {}
    seen = {
        "3D-Var": (next(iter(case.methods.values())), "3D-Var"),
        **{method: (seeds, "analysis") for method, seeds in case.methods.items()},
    }
    for name, (seeds, method) in seen.items():
        common = [seed for seed in seeds if seed in case.optima]
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


def _row(results: Sequence[Result], method: str, name: str, mirror_aware: bool) -> Row:
    """Return the row of a method over its seeds."""
    case = _case_of(results[0].settings)
    if len(results) == 1:
        values = _of_metrics(results[0], method, mirror_aware)
    else:
        values = _of_seeds(results, method, mirror_aware)
    how = {"method": name, "mirror_aware": mirror_aware, "n_seeds": len(results)}
    return Row(**case, **how, **values)


def _of_metrics(result: Result, method: str, mirror_aware: bool) -> dict[str, float]:
    prefix = "mirror_" if mirror_aware else ""
    scores = result.metrics["scores"][method]
    values: dict[str, float] = {}
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
) -> dict[str, float]:
    values: dict[str, float] = {}
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


def _three(name: str, value: Any, low: Any, high: Any) -> dict[str, float]:
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _optimum_row(case: _Case, first: Result, mirror_aware: bool) -> Row:
    optima = list(case.optima.values())
    values: dict[str, float] = {}
    for measure, columns in _COLUMNS.items():
        means = np.stack([o.trajectories[:, columns[mirror_aware]] for o in optima])
        found = Repetitions.of({OPTIMUM: means}, measure=measure, **_how(first))
        score, (low, high) = found.score(OPTIMUM)
        values |= _three(measure, score, low, high)
    how = {"method": OPTIMUM, "mirror_aware": mirror_aware, "n_seeds": len(optima)}
    how["settled"] = all(optimum.settled for optimum in optima)
    return Row(**_case_of(first.settings), **how, **values)
