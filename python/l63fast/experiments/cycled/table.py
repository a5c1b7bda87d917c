"""The tables of a cycled experiment: measured beside published, and what is claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from l63fast.experiments.cycled.groups import Group, grouped
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.rows import CycledRow, cycled_rows
from l63fast.experiments.describe import decimals, microseconds, observed
from l63fast.experiments.ranking import TRAINED_ONCE
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

    @property
    def words(self) -> list[int]:
        """The columns that hold words and not numbers."""
        return [i for i, name in enumerate(self.header) if name in _WORDS]


_SHORT: Final = {"inflation": "infl.", "regularisation": "reg."}
_WORDS: Final = ("method", "observed", "verdict")
_SOURCES: Final = ("file", "rerun", "paper")
_MOST_SAID: Final = 8  # cases of which a sentence can be read


def blocks(rows: Sequence[CycledRow]) -> list[Block]:
    """Return the tables: of one case in detail, of several as method against case."""
    cases = dict.fromkeys(row.case for row in rows)
    if len(cases) > 1:
        known = any(math.isfinite(row.over_optimum) for row in rows)
        return [_matrix(rows), *([_ratios(rows)] if known else [])]
    best_first = sorted(
        rows, key=lambda row: row.score if math.isfinite(row.score) else math.inf
    )
    return [_scores(best_first), _claims(best_first)]


def _scores(rows: Sequence[CycledRow]) -> Block:
    columns: dict[str, list[str]] = {
        "rank": [_rank(row) for row in rows],
        "method": [row.method + single_training(row.n_trainings) for row in rows],
        rows[0].measure: [_score(row) for row in rows],
        "95 %": [_range(row.low, row.high, _style(row)) for row in rows],
        **{name: [_number(getattr(r, name), "g") for r in rows] for name in _SOURCES},
        "verdict": [row.verdict for row in rows],
        "pool": [_number(row.pool, f".{decimals(row.pool)}f") for row in rows],
        "/ optimum": [_number(row.over_optimum, ".2f") for row in rows],
    }
    known = {name: cells for name, cells in columns.items() if any(cells)}
    return Block(
        case_title(rows[0]), tuple(known), list(zip(*known.values(), strict=True))
    )


def _rank(row: CycledRow) -> str:
    if row.rank is None:
        return ""
    return f"{row.rank}{'=' if row.ties else ''}"


def single_training(n_trainings: int | None) -> str:
    """Return the mark of a network that was trained once; nothing for all else."""
    return " ¹" if n_trainings == 1 else ""


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
                _share(row.diverged),
                microseconds(row.seconds_per_cycle),
                _fitted(row),
            )
            for row in rows
        ],
    )


def _share(share: float) -> str:
    return "" if math.isnan(share) else f"{100.0 * share:.0f} %"


def _fitted(row: CycledRow) -> str:
    if math.isfinite(row.training_seconds):
        more = "> " if row.training_resumed else ""
        return f"{more}{row.training_seconds:.0f} s"
    if not row.tuned:
        return ""
    return f"{_SHORT.get(row.parameter, row.parameter)} {row.value:.3g}"


def _matrix(rows: Sequence[CycledRow]) -> Block:
    keys = list(dict.fromkeys(row.key for row in rows))
    published = any(row.verdict for row in rows)
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
            f"{key} {_sources(row)} {row.verdict}"
            for key, row in found.items()
            if row.verdict
        ]
        lines.append(
            (*_where(first), *cells, *((", ".join(beside),) if published else ()))
        )
    return Block(rows[0].measure, header, lines)


def _sources(row: CycledRow) -> str:
    values = {name: getattr(row, name) for name in _SOURCES}
    return ", ".join(f"{n} {v:g}" for n, v in values.items() if not math.isnan(v))


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
    if row.measure.endswith("dB"):
        return ".2f"
    return f".{decimals(row.score)}f"


def _score(row: CycledRow) -> str:
    return format(row.score, _style(row)) if math.isfinite(row.score) else "diverged"


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
    return _caption(results, cycled_rows(results))


def _caption(results: Sequence[CycledResult], rows: Sequence[CycledRow]) -> str:
    cell, metrics = results[0].settings, results[0].metrics
    seeds = _seeds([group for groups in grouped(results) for group in groups])
    over = f"{'seeds and ' if seeds else ''}trajectories"
    said = [
        f"{metrics['n_trajectories']} test trajectories, {metrics['n_cycles']} cycles "
        f"each after {cell.cycle.burn_in:g} time units{seeds}. rms: time mean of the "
        "instantaneous root mean square; pool: root of the mean square over everything",
        "/ optimum: pool over that of the optimum, paired",
        f"Intervals: 95 %, bootstrap over {over}. First column: rank, = where another "
        "method cannot be told from it (paired, 95 %); baselines and the optimum have "
        "none",
        TRAINED_ONCE,
        "not settled: a particle filter that another method beats, and no optimum",
        "file, rerun, paper: what a settings file of DAPPER gives, what DAPPER 1.7.1 "
        "gives when it is run, what the paper gives, each for the same settings. "
        "within: inside these, widened by the half-width of the interval and by their "
        "Monte-Carlo error",
        "spread: the claimed over the error made. innov.: mean of d' S^-1 d / m, 1 "
        "where the innovations d have the covariance S that is claimed. Numbers were "
        "published or tuned, and encoders trained (for so long), without the test "
        "split.",
    ]
    left_out = {
        1: all(math.isnan(row.over_optimum) for row in rows),
        3: all(row.n_trainings != 1 for row in rows),
        4: all(row.role != "not settled" for row in rows),
        5: not any(row.verdict for row in rows),
    }
    return ". ".join(text for i, text in enumerate(said) if not left_out.get(i))


def _seeds(groups: Sequence[Group]) -> str:
    """Return how often methods were repeated, in words; nothing if they were not."""
    said = []
    for what, several in (
        ("trainings", [len(g.results) for g in groups if len(g.blocks) == 1]),
        ("seeds of data and training", [len(g.blocks) for g in groups]),
    ):
        numbers = sorted({number for number in several if number > 1})
        if numbers:
            ends = dict.fromkeys((numbers[0], numbers[-1]))
            said.append(f"; means over {'–'.join(map(str, ends))} {what}")
    return "".join(said)


def _indistinct(rows: Sequence[CycledRow]) -> str:
    """Return which methods cannot be told apart, in a sentence per case."""
    cases = dict.fromkeys(row.case for row in rows)
    if len(cases) > _MOST_SAID:
        return ""
    sentences = []
    for case in cases:
        those = [row for row in rows if row.case == case]
        pairs = [
            f"{row.method} and {other}"
            for i, row in enumerate(those)
            for other in row.ties.split("; ")
            if other in {later.method for later in those[i + 1 :]}
        ]
        if pairs:
            where = f" ({case_title(those[0])})" if len(cases) > 1 else ""
            sentences.append(f"Not distinguishable{where}: {'; '.join(pairs)}.")
    return " ".join(sentences)


def _notes(results: Sequence[CycledResult], rows: Sequence[CycledRow]) -> str:
    return " ".join(filter(None, [_indistinct(rows), _caption(results, rows)]))


def rich_blocks(results: Sequence[CycledResult]) -> Any:
    """Return the tables for a terminal, 80 columns wide or more."""
    from rich.console import Group as Together

    rows = cycled_rows(results)
    tables = [
        terminal_table(block.header, block.rows, title=block.title, words=block.words)
        for block in blocks(rows)
    ]
    return Together(*tables, _notes(results, rows))


def markdown_blocks(results: Sequence[CycledResult]) -> str:
    """Return the tables as Markdown."""
    rows = cycled_rows(results)
    lines: list[str] = []
    for block in blocks(rows):
        table = markdown_table(block.header, block.rows, words=block.words)
        lines += [f"**{block.title}**", "", table, ""]
    return "\n".join([*lines, _notes(results, rows), ""])
