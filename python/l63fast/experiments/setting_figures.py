"""Scores against what the encoders of an experiment differ in: window, iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from l63fast import plotting
from l63fast.experiments.describe import observed
from l63fast.experiments.evaluation import headline
from l63fast.experiments.optimum import OptimumResult
from l63fast.experiments.result import Result
from l63fast.experiments.rows import Block, Row, blocks_of, method_names

__all__ = ["setting_figures"]

_AXES: Final = ("window", "n_iterations")
Points = dict[str, dict[float, plotting.MethodScore]]


def setting_figures(
    results: Sequence[Result | OptimumResult],
) -> Iterator[tuple[str, Any]]:
    """Yield name and figure for each setting of which there are several values.

    3D-Var, and 4D-Var where it is, know nothing of iterations and are level lines.
    """
    encoders = [result for result in results if isinstance(result, Result)]
    blocks = [block for block in blocks_of(results) if _decides(block)]
    for axis in _AXES:
        values = sorted({getattr(r.settings.model, axis) for r in encoders})
        if len(values) > 1:
            panels = {
                _place(block, blocks): _points(block, encoders, axis, values)
                for block in blocks
            }
            yield f"by_{axis}", plotting.scores_across(panels, axis, label="pool")


def _decides(block: Block) -> bool:
    return block.mirror_aware == (headline(block.data.operator) != "pool")


def _place(block: Block, blocks: Sequence[Block]) -> tuple[str, str]:
    data = block.data
    what = f"{observed(data.operator)} observed"
    same = [other for other in blocks if other.data.operator == data.operator]
    if len(same) == 1:
        return what, ""
    interval = data.steps_per_cycle * data.dt
    return what, f"σ = {data.sigma:g} every {interval:g}, {block.background}"


def _points(
    block: Block, encoders: Sequence[Result], axis: str, values: Sequence[int]
) -> Points:
    cells = [
        result.settings
        for result in encoders
        if result.settings.data.operator == block.data.operator
    ]
    known = {
        name: (line, getattr(cell.model, axis))
        for cell, name, line in zip(
            cells, method_names(cells), method_names(cells, without=axis), strict=True
        )
    }
    points: Points = {}
    for row in block.rows:
        if row.method in ("3D-Var", "4D-Var"):
            points[row.method] = dict.fromkeys(values, _score(row))
        elif row.method in known:
            line, value = known[row.method]
            points.setdefault(line, {})[value] = _score(row)
    return points


def _score(row: Row) -> plotting.MethodScore:
    return plotting.MethodScore(row.pool, (row.pool_low, row.pool_high))
