"""The leaderboard: every entry in its case, as cells of text for page and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from l63fast.experiments.cycled.table import single_training
from l63fast.experiments.describe import microseconds, observed
from l63fast.experiments.ranking import Place
from l63fast.experiments.reporting.answer import Finding, Margin, margin
from l63fast.experiments.reporting.entries import (
    NAN,
    SOURCES,
    Entry,
    optimum_of,
    three_d_var_of,
)
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.reporting.wording import number, score_of

__all__ = [
    "Cell",
    "Column",
    "Standing",
    "columns_of",
    "standings",
]


@dataclass(frozen=True)
class Standing:
    """An entry in its case, and beside the best, 3D-Var and the optimum of it."""

    entry: Entry
    place: Place
    best: Margin | None
    three_d_var: Margin | None
    optimum: Margin | None

    @property
    def mark(self) -> str:
        """Whether it is "best", "tied" with the best, or else its role."""
        if self.place.rank == 1:
            return "best" if self.place.is_best else "tied"
        return self.entry.role.replace(" ", "-")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it says, and by what it is sorted."""

    text: str
    value: float | str
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes
    ----------
    key, title : str
    is_text : bool
        Left-aligned and sorted as words.
    in_print : bool
        Whether it belongs into the LaTeX table.
    """

    key: str
    title: str
    is_text: bool = False
    in_print: bool = True


def standings(subject: Subject) -> list[Standing]:
    """Return every entry with its place, case by case, best first."""
    return [row for finding in subject.findings for row in _of_case(finding)]


def _of_case(finding: Finding) -> list[Standing]:
    entries, best = finding.entries, finding.best
    base, optimum = three_d_var_of(entries), optimum_of(entries)
    rows = [
        Standing(
            entry,
            finding.places[entry.method],
            best=_beside(entry, best),
            three_d_var=_beside(entry, base),
            optimum=_beside(entry, optimum, pool=True),
        )
        for entry in entries
    ]
    return sorted(rows, key=lambda r: r.entry.score if r.entry.is_finite else math.inf)


def _beside(entry: Entry, other: Entry | None, *, pool: bool = False) -> Margin | None:
    if other is None or other is entry or not entry.is_finite:
        return None
    found = margin(entry, other, other.method, pool=pool)
    return found if math.isfinite(found.value) else None


_WHERE: Final = (
    Column("observed", "observed", is_text=True),
    Column("sigma", "σ"),
    Column("interval", "every"),
    Column("more", "case", is_text=True),
)
_ALWAYS: Final = (
    Column("rank", "rank"),
    Column("method", "method", is_text=True),
    Column("score", "score"),
    Column("ci95", "95 %"),
)
_OPTIONAL: Final = (
    Column("three_d_var", "vs 3D-Var"),
    Column("optimum", "/ optimum"),
    *(Column(source, source) for source in SOURCES),
    Column("verdict", "verdict", is_text=True),
    Column("p95", "95th pct.", in_print=False),
    Column("sign_flips", "flips", in_print=False),
    Column("diverged", "diverged", in_print=False),
    Column("spread", "spread", in_print=False),
    Column("per_cycle", "µs/cycle", in_print=False),
    Column("training", "training", in_print=False),
    Column("seeds", "seeds"),
)


def columns_of(rows: Sequence[Standing]) -> dict[Column, list[Cell]]:
    """Return the columns that say something, with a cell for each row."""
    cases = [row.entry.case for row in rows]
    found: dict[Column, list[Cell]] = {}
    for column in _WHERE:
        cells = [_where(column.key, row) for row in rows]
        if len({getattr(c, _CASE_FIELD[column.key]) for c in cases}) > 1:
            found[column] = cells
    for column in _ALWAYS:
        found[column] = [_always(column.key, row) for row in rows]
    for column in _OPTIONAL:
        cells = [_optional(column.key, row) for row in rows]
        if any(cell.text for cell in cells):
            found[column] = cells
    return found


_CASE_FIELD: Final = {
    "observed": "operator",
    "sigma": "sigma",
    "interval": "interval",
    "more": "more",
}


def _where(key: str, row: Standing) -> Cell:
    case = row.entry.case
    if key == "observed":
        return Cell(observed(case.operator), observed(case.operator))
    if key == "more":
        return Cell(case.more, case.more)
    value = case.sigma if key == "sigma" else case.interval
    return Cell(f"{value:.3g}", value)


def _always(key: str, row: Standing) -> Cell:
    entry = row.entry
    if key == "method":
        text = entry.method + single_training(entry.n_trainings)
        return Cell(text, entry.method, row.mark)
    if key == "rank":
        rank = row.place.rank
        shown = "" if rank is None else f"{rank}{'=' if row.place.ties else ''}"
        return Cell(shown, math.inf if rank is None else rank)
    text = score_of(entry)
    value = entry.score if entry.is_finite else math.inf
    if key == "score":
        return Cell(text.split(" ")[0], value)
    interval = text.partition(" (")[2].removesuffix(")")
    return Cell(interval, entry.low if entry.is_finite else math.inf)


def _optional(key: str, row: Standing) -> Cell:
    if key in ("three_d_var", "optimum"):
        return _margin_cell(getattr(row, key), change=key == "three_d_var")
    numbers = row.entry.numbers
    if key == "verdict":
        return Cell(row.entry.verdict, row.entry.verdict, row.entry.verdict)
    if key == "seeds":
        n = numbers.get("n_seeds", NAN)
        return Cell("" if math.isnan(n) else f"{n:.0f}", n)
    value = numbers.get(key, NAN)
    return Cell("" if math.isnan(value) else _SHOWN[key](value), value)


def _margin_cell(found: Margin | None, *, change: bool) -> Cell:
    if found is None:
        return Cell("", math.inf)
    mark = "" if found.is_clear else "alike"
    if found.in_decibel:
        return Cell(f"{found.value:+.2f} dB".replace("-", "−"), found.value, mark)
    if not change:
        return Cell(f"{found.value:.2f}", found.value, mark)
    return Cell(_change(found.value), found.value, mark)


def _change(ratio: float) -> str:
    if ratio >= 2.0:
        return f"× {ratio:.1f}" if ratio < 1000.0 else f"× {ratio:.1e}"
    return f"{100.0 * (ratio - 1.0):+z.1f} %".replace("-", "−")


def _share(value: float) -> str:
    return "0" if value == 0.0 else f"{100.0 * value:.2g} %"


_SHOWN: Final[dict[str, Any]] = {
    **dict.fromkeys(SOURCES, lambda value: f"{value:g}".replace("-", "−")),
    "p95": number,
    "sign_flips": _share,
    "diverged": _share,
    "spread": lambda value: f"{value:.2f}",
    "per_cycle": microseconds,
    "training": lambda value: f"{value:.0f} s",
}
