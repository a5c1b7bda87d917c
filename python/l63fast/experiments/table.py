"""The table of an experiment: one row per method, for terminal, README and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from l63fast.experiments.cycled.table import single_training
from l63fast.experiments.describe import counted, decimals, observed, shown_change
from l63fast.experiments.evaluation import headline
from l63fast.experiments.matrix_table import matrix_table
from l63fast.experiments.optimum import OptimumResult
from l63fast.experiments.ranking import TRAINED_ONCE
from l63fast.experiments.result import Result, csv_text
from l63fast.experiments.rows import Block, Row, blocks_of, table_rows
from l63fast.experiments.text_table import markdown_table, terminal_table

__all__ = [
    "Row",
    "caption",
    "heading",
    "markdown",
    "rich_table",
    "table_csv",
    "table_rows",
]

COLUMNS: Final = ("method", "pool", "95 %", "rms", "− 3D-Var", "95 %", "")

Results = Sequence[Result | OptimumResult]


def heading(block: Block) -> str:
    """Return what a block's methods were given."""
    data = block.data
    what = [f"observed: {observed(data.operator)}"]
    if headline(data.operator) == "mirror_pool":
        what[0] += ", mirror-aware" if block.mirror_aware else ", plain"
    return "; ".join(what)


def case_of(block: Block) -> str:
    """Return the rest of the case of a block, for experiments with several."""
    data = block.data
    interval = data.steps_per_cycle * data.dt
    loss = f", loss {block.losses[0]}" if len(block.losses) == 1 else ""
    return (
        f"sigma {data.sigma:g} every {interval:g}, background {block.background}{loss}"
    )


def several_cases(blocks: Sequence[Block]) -> bool:
    """Return whether an operator has more than one case."""
    keys = {(heading(block), case_of(block)) for block in blocks}
    return len(keys) > len({title for title, _ in keys})


def _text(row: Row, base: float) -> tuple[str, ...]:
    n = decimals(row.pool)
    interval = f"{row.pool_low:.{n}f}–{row.pool_high:.{n}f}"
    method = row.method + single_training(row.n_trainings)
    known = (method, f"{row.pool:.{n}f}", interval, f"{row.rms:.{n}f}")
    if row.difference is None:
        return (*known, "", "", "")
    difference = (
        f"{row.difference:+.{n}f}",
        f"{row.difference_low:+.{n}f} to {row.difference_high:+.{n}f}",
        shown_change(100.0 * row.difference / base),
    )
    return (*known, *(text.replace("-", "−") for text in difference))


def _lines(block: Block) -> list[tuple[str, ...]]:
    """Return the rows of a block as text, in the order of `COLUMNS`."""
    base = next(row.pool for row in block.rows if row.method == "3D-Var")
    return [_text(row, base) for row in block.rows]


def _best(block: Block) -> str:
    """Return a sentence on the ranks of a block, if there is anything to rank."""
    ranked = [row for row in block.rows if row.rank is not None]
    if len(ranked) < 2:
        return ""
    groups: dict[int, list[str]] = {}
    for row in sorted(ranked, key=lambda row: (row.rank or 0, row.pool)):
        groups.setdefault(row.rank or 0, []).append(row.method)
    told = [" = ".join(methods) for methods in groups.values()]
    if len(told) == 1:
        return f"not distinguishable: {told[0]}"
    return f"best first, = not distinguishable: {' < '.join(told)}"


def _cost(block: Block) -> str:
    """Return how near encoders come to the cost that they were to minimise."""
    costs = [f"{name} {ratio:.4f}" for name, ratio in block.costs.items()]
    if not costs or block.mirror_aware:
        return ""
    return f"mean cost J (loss var3d) over that of 3D-Var: {', '.join(costs)}"


def caption(results: Results) -> str:
    """Return what the table shows and on how many samples."""
    first = next(result for result in results if isinstance(result, Result))
    metrics, data, blocks = first.metrics, first.settings.data, blocks_of(results)
    seeds = max(row.n_seeds for block in blocks for row in block.rows)
    case = (
        ""
        if several_cases(blocks)
        else f"; sigma {data.sigma:g}, an observation every "
        f"{data.steps_per_cycle * data.dt:g} time units, background "
        f"{first.settings.background.kind!r}"
    )
    over = "trajectories" if seeds == 1 else f"{seeds} seeds and their trajectories"
    scale = first.settings.background.b_scale
    tuned = "which is tuned on the validation split"
    if scale is not None:
        times = "" if scale == 1.0 else f"{scale:g} times "
        tuned = f"with {times}the error covariance of the backgrounds"
    window = any(block.of("4D-Var") for block in blocks)
    start = (
        " 4D-Var and the encoders that learn its cost (var3d_window) are given the "
        "background at the start of the window."
        if window
        else ""
    )
    each = counted(metrics["n_times"], "analysis", "analyses")
    return (
        f"Test split: {metrics['n_trajectories']} trajectories, {each} "
        f"each{case}. pool: root of the mean square over "
        "everything; rms: time mean of the instantaneous root mean square; − 3D-Var: "
        f"pool minus that of 3D-Var, {tuned}. Intervals: "
        f"95 %, bootstrap over {over}; differences are paired. Not distinguishable: "
        f"the interval of the difference holds 0.{start} {TRAINED_ONCE}."
    )


def rich_table(results: Results) -> Any:
    """Return the table for a terminal, 80 columns wide or more.

    Of several cases of one operator, a line each.
    """
    from rich.console import Group

    blocks = blocks_of(results)
    parts: list[Any] = []
    if several_cases(blocks):
        return Group(matrix_table(blocks), caption(results))
    for block in blocks:
        table = terminal_table(COLUMNS, _lines(block), title=heading(block))
        parts += [table, *filter(None, [_best(block), _cost(block)])]
    return Group(*parts, caption(results))


def markdown(results: Results) -> str:
    """Return the table as Markdown, for a README."""
    blocks, lines, sentences = blocks_of(results), [], []
    several = several_cases(blocks)
    for block in blocks:
        title = heading(block)
        case = f"{title}; {case_of(block)}" if several else title
        for i, row in enumerate(_lines(block)):
            lines.append((case if i == 0 else "", *row))
        sentences += [
            f"* {case}: {told}" for told in (_best(block), _cost(block)) if told
        ]
    ranks = ["", *sentences] if sentences else []
    table = markdown_table(("", *COLUMNS), lines, words=(0, 1))
    return "\n".join([table, *ranks, "", caption(results), ""])


def table_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV text."""
    return csv_text([asdict(row) for row in rows])
