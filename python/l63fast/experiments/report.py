"""The table of an experiment in four formats, and its overview figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from l63fast import plotting
from l63fast.errors import ResultError
from l63fast.experiments.describe import observed
from l63fast.experiments.evaluation import headline
from l63fast.experiments.result import Result, write_text
from l63fast.storage import result_directory, write_json

__all__ = ["Row", "rich_table", "table_rows", "write_summary"]

REFERENCES: Final = ("climatology", "background", "3D-Var")
COLUMNS: Final = ("observed", "method", "pool", "95 % interval", "rms", "pool − 3D-Var")


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


def cells_of(row: Row, base: float) -> tuple[str, ...]:
    """Return a row as text, in the order of `COLUMNS`."""
    what = observed(row.operator)
    if headline(row.operator) == "mirror_pool":
        what += " (mirror-aware)" if row.mirror_aware else " (plain)"
    difference = ""
    if row.difference is not None:
        difference = (
            f"{row.difference:+.3f} [{row.difference_low:+.3f}, "
            f"{row.difference_high:+.3f}] ({100.0 * row.difference / base:+.0f} %)"
        ).replace("-", "−")
    interval = f"{row.pool_low:.3f} to {row.pool_high:.3f}"
    return (
        what,
        row.method,
        f"{row.pool:.3f}",
        interval,
        f"{row.rms:.3f}",
        difference,
    )


def _blocks(rows: Sequence[Row]) -> list[list[tuple[str, ...]]]:
    blocks: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        blocks.setdefault((row.operator, row.mirror_aware), []).append(row)
    base = {
        key: next(r.pool for r in block if r.method == "3D-Var")
        for key, block in blocks.items()
    }
    return [
        [cells_of(row, base[key]) for row in block] for key, block in blocks.items()
    ]


def caption(results: Sequence[Result]) -> str:
    """Return what the table shows and on how many samples."""
    metrics, data = results[0].metrics, results[0].settings.data
    return (
        f"Test split: {metrics['n_trajectories']} trajectories, {metrics['n_times']} "
        f"analyses each; sigma {data.sigma:g}, an observation every "
        f"{data.steps_per_cycle * data.dt:g} time units, background "
        f"{results[0].settings.background.kind!r}. pool: root of the mean square over "
        "everything; rms: time mean of the instantaneous root mean square. Intervals: "
        "95 %, bootstrap over trajectories; differences are paired. 3D-Var is tuned on "
        "the validation split."
    )


def rich_table(results: Sequence[Result]) -> Any:
    """Return the table for a terminal."""
    from rich.table import Table

    table = Table(caption=caption(results), caption_justify="left")
    for name in COLUMNS:
        numeric = name not in ("observed", "method")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for block in _blocks(table_rows(results)):
        for i, row in enumerate(block):
            table.add_row(row[0] if i == 0 else "", *row[1:])
        table.add_section()
    return table


def markdown(results: Sequence[Result]) -> str:
    """Return the table as Markdown, for a README."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|--:|--:|--:|--:|"]
    for block in _blocks(table_rows(results)):
        lines += ["| " + " | ".join(row) + " |" for row in block]
    return "\n".join([*lines, "", caption(results), ""])


def write_summary(results: Sequence[Result], directory: Path) -> None:
    """Write table and overview figure of finished results into a folder."""
    rows = table_rows(results)
    with result_directory(directory, kind="summary") as folder:
        write_text(folder, "summary.csv", _csv(rows))
        write_json(folder / "summary.json", _summary(results, rows))
        write_text(folder, "table.md", markdown(results))
        figure = plotting.overview(_scores(rows), labels=_labels(rows))
        plotting.save_figure(figure, folder, "overview")


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def _summary(results: Sequence[Result], rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "caption": caption(results),
        "rows": [asdict(row) for row in rows],
        "data": {r.metrics["operator"]: r.metrics["data"] for r in results},
        "cells": [result.settings.name for result in results],
    }


def _scores(
    rows: Sequence[Row],
) -> Mapping[str, Mapping[str, tuple[float, float, float]]]:
    scores: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in _deciding(rows):
        interval = (row.pool, row.pool_low, row.pool_high)
        scores.setdefault(row.operator, {})[row.method] = interval
    return scores


def _labels(rows: Sequence[Row]) -> dict[str, str]:
    return {
        row.operator: "mirror-aware pool" if row.mirror_aware else "pool"
        for row in _deciding(rows)
    }


def _deciding(rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if r.mirror_aware == (headline(r.operator) != "pool")]
