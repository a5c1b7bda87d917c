"""The summary of a cycled experiment: tables in three formats, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from l63fast import plotting
from l63fast.experiments.cycled.groups import Group, grouped
from l63fast.experiments.cycled.published import range_of
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.rows import CycledRow, group_rows, rows_csv
from l63fast.experiments.cycled.setting_figures import setting_figures
from l63fast.experiments.cycled.table import caption, case_title, markdown_blocks
from l63fast.experiments.describe import observed
from l63fast.experiments.result import write_text
from l63fast.plotting import MethodScore
from l63fast.storage import result_directory, write_json

__all__ = ["write_cycled_summary"]


def write_cycled_summary(results: Sequence[CycledResult], directory: Path) -> None:
    """Write tables and figures of finished results into a folder."""
    cases = grouped(results)
    groups = [group for case in cases for group in case]
    rows = [row for case in cases for row in group_rows(case)]
    with result_directory(directory, kind="summary") as folder:
        write_text(folder, "summary.csv", rows_csv(rows))
        write_text(folder, "table.md", markdown_blocks(results))
        summary = {
            "caption": caption(results),
            "rows": [asdict(row) for row in rows],
            "data": {r.settings.data_name: r.metrics["data"] for r in results},
            "cells": [result.settings.name for result in results],
        }
        write_json(folder / "summary.json", summary)
        for name, figure in _figures(groups, rows).items():
            plotting.save_figure(figure, folder, name)


def _figures(groups: Sequence[Group], rows: Sequence[CycledRow]) -> dict[str, Any]:
    one_case = len({row.case for row in rows}) == 1
    figures = _of_one_case(groups, rows) if one_case else _of_cases(rows)
    curves: dict[str, list[list[tuple[int, float, float]]]] = {}
    for result in (result for group in groups for result in group.results):
        if "convergence" in result.metrics:
            name = f"observed: {observed(result.settings.data.operator)}"
            curves.setdefault(name, []).append(_curve(result))
    if curves:
        figures["convergence"] = plotting.convergence(curves)
    for group in groups if one_case else ():
        metrics = group.first.metrics
        if "tuning" in metrics:
            figures[f"tuning_{group.key}"] = tuning_figure(
                metrics, group.first.settings.measure
            )
    return figures


def _of_one_case(groups: Sequence[Group], rows: Sequence[CycledRow]) -> dict[str, Any]:
    title = case_title(rows[0])
    scores = {
        row.method: MethodScore(
            row.score, (row.low, row.high), range_of(row.file, row.rerun, row.paper)
        )
        for row in rows
    }
    label = rows[0].measure
    figures = {"scores": plotting.method_scores(scores, label=label, title=title)}
    claims = {
        row.method: MethodScore(
            row.innovation, (row.innovation_low, row.innovation_high)
        )
        for row in rows
        if np.isfinite(row.innovation)
    }
    if claims:
        figures["claims"] = plotting.method_claims(claims, title=title)
    ranks = {
        row.method: np.asarray(group.first.metrics["ranks"]["shares"], dtype=float)
        for group, row in zip(groups, rows, strict=True)
        if "ranks" in group.first.metrics
    }
    if ranks:
        figures["ranks"] = plotting.rank_histograms(ranks)
    return figures | dict(setting_figures(groups, rows))


def _of_cases(rows: Sequence[CycledRow]) -> dict[str, Any]:
    panels: dict[tuple[str, str], dict[str, dict[float, MethodScore]]] = {}
    for row in rows:
        place = (f"observed: {observed(row.operator)}", f"every {row.interval:g}")
        of_method = panels.setdefault(place, {}).setdefault(_family(row), {})
        of_method[row.sigma] = MethodScore(row.score, (row.low, row.high))
    return {"scores": plotting.scores_across(panels, "sigma", label=rows[0].measure)}


def _family(row: CycledRow) -> str:
    """Return what a method is called whatever its size in this case."""
    return "optimum" if row.key == "optimum" else row.method


def _curve(result: CycledResult) -> list[tuple[int, float, float]]:
    stages = result.metrics["convergence"]["stages"]
    return [
        (s["n_particles"], float(s["score"]), float(s["effective_size"]))
        for s in stages
    ]


def tuning_figure(metrics: Mapping[str, Any], measure: str) -> Any:
    """Return the curve by which a method was tuned on the validation split."""
    tuning, name = metrics["tuning"], metrics["parameter"]["name"]
    blind = metrics["measure"].startswith("mirror_")
    return plotting.tuning_curve(
        np.asarray(tuning["scales"], dtype=float),
        np.asarray(tuning["scores"], dtype=float),
        float(tuning["scale"]),
        parameter={"b": "scale of B"}.get(name, name),
        label=f"{'mirror-aware ' if blind else ''}"
        f"{'rms' if measure == 'rms' else 'pool'}, validation",
    )
