"""The table of an experiment: one row per method, for terminal, README and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from l63fast.errors import ResultError
from l63fast.experiments.describe import observed
from l63fast.experiments.evaluation import headline
from l63fast.experiments.result import Result, csv_text

__all__ = ["Row", "caption", "markdown", "rich_table", "table_csv", "table_rows"]

REFERENCES: Final = ("climatology", "background", "3D-Var")
COLUMNS: Final = ("method", "pool", "95 %", "rms", "− 3D-Var", "95 %", "")


@dataclass(frozen=True)
class Row:
    """One method on one operator, by one pair of measures.

    Attributes
    ----------
    operator, method : str
    mirror_aware : bool
        Whether errors are the smaller of those against the truth and its mirror.
    pool, pool_low, pool_high : float
        Root of the mean square over trajectories, times and components.
    rms, rms_low, rms_high : float
        Time mean of the instantaneous root mean square (DAPPER).
    difference, difference_low, difference_high : float or None
        Pool minus that of tuned 3D-Var, paired over trajectories; None for references.
    rms_difference, rms_difference_low, rms_difference_high : float or None
    """

    operator: str
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


def table_rows(results: Sequence[Result]) -> list[Row]:
    """Return the rows of the table, operator by operator, references first.

    Mirror-blind operators come twice: mirror-aware, which decides, then plain.

    Raises
    ------
    ResultError
        If results of one operator come from different data.
    """
    rows = []
    for operator in dict.fromkeys(result.metrics["operator"] for result in results):
        those = [r for r in results if r.metrics["operator"] == operator]
        _refuse_different_data(those)
        blind = headline(operator) == "mirror_pool"
        for mirror_aware in (True, False) if blind else (False,):
            rows += [
                _row(those[0], name, name, mirror_aware=mirror_aware)
                for name in REFERENCES
            ]
            rows += [
                _row(r, "analysis", method_name(r), mirror_aware=mirror_aware)
                for r in those
            ]
    return rows


def method_name(result: Result) -> str:
    """Return what an encoder is called in tables and figures, such as "GRU, K=3"."""
    model = result.settings.model
    return f"{model.model.upper()}, K={model.n_iterations}"


def _refuse_different_data(results: Sequence[Result]) -> None:
    first = results[0]
    for result in results[1:]:
        if result.metrics["data"] != first.metrics["data"]:
            raise ResultError(
                f"{first.directory} and {result.directory}: come from different data "
                "and cannot be compared"
            )


def _row(result: Result, method: str, name: str, *, mirror_aware: bool) -> Row:
    prefix = "mirror_" if mirror_aware else ""
    scores = result.metrics["scores"][method]
    values: dict[str, Any] = {}
    for measure in ("pool", "rms"):
        low, high = scores["ci95"][prefix + measure]
        values[measure] = float(scores[prefix + measure])
        values[f"{measure}_low"], values[f"{measure}_high"] = float(low), float(high)
        if method == "analysis":
            difference = result.metrics["paired_difference"][prefix + measure]
            key = "difference" if measure == "pool" else "rms_difference"
            values[key] = float(difference["difference"])
            values[f"{key}_low"] = float(difference["low"])
            values[f"{key}_high"] = float(difference["high"])
    return Row(result.metrics["operator"], name, mirror_aware, **values)


def _blocks(rows: Sequence[Row]) -> dict[str, list[tuple[str, ...]]]:
    """Return the rows as text, in the order of `COLUMNS`, under their headings."""
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        blocks.setdefault(_heading(row), []).append(row)
    text = {}
    for heading, block in blocks.items():
        base = next(row.pool for row in block if row.method == "3D-Var")
        text[heading] = [_text(row, base) for row in block]
    return text


def _heading(row: Row) -> str:
    what = f"observed: {observed(row.operator)}"
    if headline(row.operator) == "mirror_pool":
        what += ", mirror-aware" if row.mirror_aware else ", plain"
    return what


def _text(row: Row, base: float) -> tuple[str, ...]:
    interval = f"{row.pool_low:.3f}–{row.pool_high:.3f}"
    known = (row.method, f"{row.pool:.3f}", interval, f"{row.rms:.3f}")
    if row.difference is None:
        return (*known, "", "", "")
    difference = (
        f"{row.difference:+.3f}",
        f"{row.difference_low:+.3f} to {row.difference_high:+.3f}",
        f"{100.0 * row.difference / base:+.0f} %",
    )
    return (*known, *(text.replace("-", "−") for text in difference))


def caption(results: Sequence[Result]) -> str:
    """Return what the table shows and on how many samples."""
    metrics, data = results[0].metrics, results[0].settings.data
    return (
        f"Test split: {metrics['n_trajectories']} trajectories, {metrics['n_times']} "
        f"analyses each; sigma {data.sigma:g}, an observation every "
        f"{data.steps_per_cycle * data.dt:g} time units, background "
        f"{results[0].settings.background.kind!r}. pool: root of the mean square over "
        "everything; rms: time mean of the instantaneous root mean square; − 3D-Var: "
        "pool minus that of 3D-Var, which is tuned on the validation split. Intervals: "
        "95 %, bootstrap over trajectories; differences are paired."
    )


def rich_table(results: Sequence[Result]) -> Any:
    """Return the table for a terminal, 80 columns wide or more."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    tables = []
    for heading, block in _blocks(table_rows(results)).items():
        table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD)
        table.padding = (0, 1, 0, 0)
        for name in COLUMNS:
            justify: Any = "left" if name == "method" else "right"
            table.add_column(name, justify=justify, no_wrap=True)
        for row in block:
            table.add_row(*row)
        tables.append(table)
    return Group(*tables, caption(results))


def markdown(results: Sequence[Result]) -> str:
    """Return the table as Markdown, for a README."""
    names = ("", *COLUMNS)
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'--:|' * (len(names) - 2)}"]
    for heading, block in _blocks(table_rows(results)).items():
        for i, row in enumerate(block):
            lines.append(f"| {heading if i == 0 else ''} | {' | '.join(row)} |")
    return "\n".join([*lines, "", caption(results), ""])


def table_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV text."""
    return csv_text([asdict(row) for row in rows])
