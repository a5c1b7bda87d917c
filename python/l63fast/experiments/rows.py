"""The rows of an experiment's table: every method of every case, over its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from l63fast.errors import ResultError
from l63fast.experiments.config import CellSettings
from l63fast.experiments.evaluation import headline
from l63fast.experiments.optimum import OptimumResult
from l63fast.experiments.result import Result
from l63fast.experiments.row_values import (
    OPTIMUM,
    Case,
    Row,
    optimum_row,
    over_optimum,
    ranked,
    row_of,
)
from l63fast.twin import TwinSettings

__all__ = ["OPTIMUM", "Block", "Row", "blocks_of", "method_names", "table_rows"]

REFERENCES: Final = ("climatology", "background", "3D-Var")


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
        References (4D-Var where an encoder analyses the start of its window), then
        encoders, then the optimum.
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
        """The rows of encoders: those that are compared with 3D-Var."""
        return [row for row in self.rows if row.difference is not None]

    @property
    def costs(self) -> dict[str, float]:
        """Mean cost over that of 3D-Var, of those encoders that were to minimise it."""
        return {
            row.method: row.cost_ratio
            for row in self.rows
            if row.cost_ratio is not None
        }

    @property
    def verdict(self) -> str:
        """Which encoder is the best, and which cannot be told from it."""
        ranked = [row for row in self.encoders if row.rank is not None]
        order = sorted(ranked, key=lambda row: (row.rank or 0, row.pool))
        if len(order) < 2:
            return ""
        best = order[0].method
        if not order[0].equals:
            return best
        if len(order[0].equals.split("; ")) == len(order) - 1:
            return "not distinguishable"
        return f"{best}; not distinguishable: {order[0].equals}"


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
        cases: dict[Any, Case] = {}
        of_operator = [r for r in encoders if r.settings.data.operator == operator]
        names = method_names([result.settings for result in of_operator])
        for result, name in zip(of_operator, names, strict=True):
            case = cases.setdefault(_key(result.settings), Case())
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


def _place(optimum: OptimumResult, cases: Mapping[Any, Case]) -> None:
    """Put an optimum where encoders saw its windows, the longest if there are more."""
    for case in cases.values():
        for seeds in case.methods.values():
            found = seeds.get(optimum.settings.data.seed)
            if found is None:
                continue
            theirs = optimum.settings
            if theirs.is_of(found.settings):
                seed = theirs.data.seed
                old = case.optima.get(seed)
                if old is None or old.settings.optimum.window < theirs.optimum.window:
                    case.optima[seed] = optimum


def method_names(cells: Sequence[CellSettings], *, without: str = "") -> list[str]:
    """Return what encoders are called in tables and figures, such as "GRU, K=3".

    The window and the loss are told where there are several; "window" or
    "n_iterations" can be left out.
    """
    several_windows = len({cell.model.window for cell in cells}) > 1
    by_case: dict[Any, set[str]] = {}
    for cell in cells:
        by_case.setdefault(_key(cell), set()).add(cell.training.loss)
    several_losses = any(len(losses) > 1 for losses in by_case.values())
    names = []
    for cell in cells:
        parts = [cell.model.model.upper()]
        if without != "n_iterations":
            parts.append(f"K={cell.model.n_iterations}")
        if several_windows and without != "window":
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


def _refuse_different_data(case: Case) -> None:
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


def _block(case: Case, *, mirror_aware: bool) -> Block:
    some = next(iter(case.methods.values()))
    results = list(some.values())
    first = results[0]
    common = _common_seeds(case)
    ranks = ranked(case, common, mirror_aware)
    rows = [
        row_of(results, "climatology", "climatology", mirror_aware),
        *(row_of(results, name, name, mirror_aware) for name in REFERENCES[1:]),
        *_window_row(case, mirror_aware),
    ]
    for method, seeds in case.methods.items():
        rows.append(row_of(list(seeds.values()), "analysis", method, mirror_aware))
    if case.optima:
        rows.append(optimum_row(case, first, mirror_aware))
    over = over_optimum(case, mirror_aware)
    rows = [
        dataclasses.replace(
            row, **ranks.get(row.method, {}), **over.get(row.method, {})
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


def _window_row(case: Case, mirror_aware: bool) -> list[Row]:
    """Return the row of 4D-Var, which those have that analyse the window's start."""
    for seeds in case.methods.values():
        results = list(seeds.values())
        if all("4D-Var" in result.metrics["scores"] for result in results):
            return [row_of(results, "4D-Var", "4D-Var", mirror_aware)]
    return []


def _common_seeds(case: Case) -> list[int]:
    """Return the seeds that every method of a case has."""
    first, *others = case.methods.values()
    return [seed for seed in first if all(seed in seeds for seeds in others)]
