"""The summary of an experiment: its tables in three formats and its overview figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from l63fast import plotting
from l63fast.experiments.evaluation import headline
from l63fast.experiments.matrix_table import matrix_markdown
from l63fast.experiments.optimum import OptimumResult
from l63fast.experiments.result import Result, write_text
from l63fast.experiments.rows import blocks_of
from l63fast.experiments.setting_figures import setting_figures
from l63fast.experiments.table import Row, caption, markdown, several_cases, table_csv
from l63fast.storage import result_directory, write_json

__all__ = ["write_summary"]


def write_summary(results: Sequence[Result | OptimumResult], directory: Path) -> None:
    """Write the tables of finished results into a folder, and their overview figure.

    An experiment with several cases of one operator has the matrix of all of them in
    place of that figure; one with several windows or numbers of iterations has a figure
    against these.
    """
    if not any(isinstance(result, Result) for result in results):
        return
    blocks = blocks_of(results)
    rows = [row for block in blocks for row in block.rows]
    with result_directory(directory, kind="summary") as folder:
        write_text(folder, "summary.csv", table_csv(rows))
        write_json(folder / "summary.json", _summary(results, rows))
        write_text(folder, "table.md", markdown(results))
        for name, figure in setting_figures(results):
            plotting.save_figure(figure, folder, name)
        if several_cases(blocks):
            write_text(folder, "matrix.md", matrix_markdown(blocks))
            return
        figure = plotting.overview(_scores(rows), labels=_labels(rows))
        plotting.save_figure(figure, folder, "overview")


def _summary(
    results: Sequence[Result | OptimumResult], rows: Sequence[Row]
) -> dict[str, Any]:
    return {
        "caption": caption(results),
        "rows": [asdict(row) for row in rows],
        "data": {
            Path(r.timing["data"]).name: r.metrics["data"]
            for r in results
            if isinstance(r, Result)
        },
        "cells": [result.metrics["cell"] for result in results],
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
        row.operator: f"{'mirror-aware ' if row.mirror_aware else ''}rmse (pool)"
        for row in _deciding(rows)
    }


def _deciding(rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if r.mirror_aware == (headline(r.operator) != "pool")]
