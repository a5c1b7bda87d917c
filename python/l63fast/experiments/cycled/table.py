"""The tables of a cycled experiment: measured beside published, and what is claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from l63fast.experiments.cycled.repeated import (
    has_seeds,
    repeated_lines,
    repeated_rows,
)
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.rows import CycledRow, cycled_rows, reference_of
from l63fast.experiments.describe import observed
from l63fast.experiments.text_table import markdown_table, terminal_table

__all__ = [
    "Block",
    "blocks",
    "caption",
    "case_title",
    "markdown_blocks",
    "rich_blocks",
]


@dataclass(frozen=True)
class Block:
    """A table as text: its title, its header, its rows."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


_SHORT: Final = {"inflation": "infl.", "regularisation": "reg."}


def blocks(rows: Sequence[CycledRow]) -> list[Block]:
    """Return the tables: of one case in detail, of several as method against case."""
    cases = dict.fromkeys(row.case for row in rows)
    if len(cases) > 1:
        known = any(math.isfinite(row.over_optimum) for row in rows)
        return [_matrix(rows), *([_ratios(rows)] if known else [])]
    return [_scores(rows), _claims(rows)]


def _over_seeds(results: Sequence[CycledResult]) -> Block:
    rows = repeated_rows(results)
    header = ("case", "method", rows[0].measure, "95 %", "rank", "not distinguishable")
    seeds = max(row.n_seeds for row in rows)
    return Block(
        f"over {seeds} seeds and their trajectories", header, repeated_lines(rows)
    )


def _tables(results: Sequence[CycledResult]) -> list[Block]:
    if has_seeds(results):
        return [_over_seeds(results)]
    return blocks(cycled_rows(results))


def _scores(rows: Sequence[CycledRow]) -> Block:
    measure = rows[0].measure
    header = ("method", measure, "95 %", "published", "", "pool", "/ optimum")
    return Block(
        case_title(rows[0]),
        header,
        [
            (
                row.method,
                _score(row),
                _range(row.low, row.high, _style(row)),
                _range(row.published_low, row.published_high),
                row.verdict,
                _number(row.pool, ".3f"),
                _number(row.over_optimum, ".2f"),
            )
            for row in rows
        ],
    )


def _claims(rows: Sequence[CycledRow]) -> Block:
    header = (*("method", "spread", "innov.", "95 %", "diverged", "µs/cycle", "tuned"),)
    return Block(
        "what they claim, and what they cost",
        header,
        [
            (
                row.method,
                _number(row.spread, ".2f"),
                _number(row.innovation, ".2f"),
                _range(row.innovation_low, row.innovation_high, ".2f"),
                f"{100.0 * row.diverged:.0f} %",
                _micro(row.seconds_per_cycle),
                _fitted(row),
            )
            for row in rows
        ],
    )


def _micro(seconds: float) -> str:
    micro = 1e6 * seconds
    return f"{micro:,.0f}" if micro >= 100.0 else f"{micro:.3g}"


def _fitted(row: CycledRow) -> str:
    if math.isfinite(row.training_seconds):
        more = "> " if row.training_resumed else ""
        return f"{more}{row.training_seconds:.0f} s"
    if not row.tuned:
        return ""
    return f"{_SHORT.get(row.parameter, row.parameter)} {row.value:.3g}"


def _matrix(rows: Sequence[CycledRow]) -> Block:
    keys = list(dict.fromkeys(row.key for row in rows))
    published = any(not math.isnan(row.published_low) for row in rows)
    header = (
        "observed",
        "sigma",
        "every",
        *keys,
        *(("published",) if published else ()),
    )
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        found = {row.key: row for row in rows if row.case == case}
        first = next(iter(found.values()))
        cells = [_score(found[k]) if k in found else "" for k in keys]
        beside = [
            f"{key} {_range(row.published_low, row.published_high)} {row.verdict}"
            for key, row in found.items()
            if row.verdict
        ]
        lines.append(
            (*_where(first), *cells, *((", ".join(beside),) if published else ()))
        )
    return Block(rows[0].measure, header, lines)


def _ratios(rows: Sequence[CycledRow]) -> Block:
    keys = list(dict.fromkeys(row.key for row in rows))
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        found = {row.key: row for row in rows if row.case == case}
        cells = [
            _number(found[k].over_optimum, ".2f") if k in found else "" for k in keys
        ]
        lines.append((*_where(next(iter(found.values()))), *cells))
    return Block(
        "pool over that of the optimum",
        ("observed", "sigma", "every", *keys),
        lines,
    )


def _where(row: CycledRow) -> tuple[str, str, str]:
    blind = row.measure.startswith("mirror")
    what = observed(row.operator) + (" (mirror-aware)" if blind else "")
    return what, f"{row.sigma:.3g}", f"{row.interval:g}"


def case_title(row: CycledRow) -> str:
    """Return what the data of a row are."""
    return (
        f"observed: {observed(row.operator)}, sigma² {row.sigma**2:.3g}, "
        f"every {row.interval:g} time units"
    )


def _style(row: CycledRow) -> str:
    return ".2f" if row.measure.endswith("dB") else ".3f"


def _score(row: CycledRow) -> str:
    if not math.isfinite(row.score):
        return "diverged"
    small = abs(row.score) < 0.1 and not row.measure.endswith("dB")
    return f"{row.score:.3g}" if small else format(row.score, _style(row))


def _number(value: float, style: str) -> str:
    return "" if math.isnan(value) else format(value, style)


def _range(low: float, high: float, style: str = ".4g") -> str:
    if not math.isfinite(low):
        return ""
    if low == high:
        return format(low, style)
    return f"{low:{style}}–{high:{style}}"


def caption(results: Sequence[CycledResult]) -> str:
    """Return what the tables show and on how many samples."""
    cell, metrics = results[0].settings, results[0].metrics
    references = {
        found.metrics["label"]
        for case in dict.fromkeys(r.settings.case for r in results)
        if (found := reference_of([r for r in results if r.settings.case == case]))
    }
    against = " or ".join(sorted(references)) if len(references) < 3 else "the optimum"
    return (
        f"{metrics['n_trajectories']} test trajectories, {metrics['n_cycles']} cycles "
        f"each after {cell.cycle.burn_in:g} time units. rms: time mean of the "
        "instantaneous root mean square; pool: root of the mean square over everything"
        f"{f'; / optimum: pool over that of {against}, paired' if references else ''}. "
        "Intervals: 95 %, bootstrap over trajectories. within: inside the published "
        "range widened by twice the half-width of the interval. spread: the claimed "
        "over the error made. innov.: mean of d' S^-1 d / m, 1 where the innovations d "
        "have the covariance S that is claimed. Numbers were tuned, and "
        "encoders trained (for so long), without the test split."
    )


def rich_blocks(results: Sequence[CycledResult]) -> Any:
    """Return the tables for a terminal, 80 columns wide or more."""
    from rich.console import Group

    tables = [
        terminal_table(block.header, block.rows, title=block.title)
        for block in _tables(results)
    ]
    return Group(*tables, caption(results))


def markdown_blocks(results: Sequence[CycledResult]) -> str:
    """Return the tables as Markdown."""
    lines: list[str] = []
    for block in _tables(results):
        table = markdown_table(block.header, block.rows)
        lines += [f"**{block.title}**", "", table, ""]
    return "\n".join([*lines, caption(results), ""])
