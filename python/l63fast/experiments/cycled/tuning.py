"""Tuning alone: the curve of every method's number on the validation split."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from l63fast import plotting
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.cell import measure_name, problem_of
from l63fast.experiments.cycled.experiment import CycledExperiment
from l63fast.experiments.cycled.kind import announced
from l63fast.experiments.cycled.settings import CycledCell, cell_from_tables
from l63fast.experiments.describe import shown_measure
from l63fast.experiments.kind import Kind
from l63fast.experiments.report.fitting import tuning_figure
from l63fast.experiments.result import (
    CONFIG,
    METRICS,
    TIMING,
    opened,
    timing,
    versions,
    write_text,
)
from l63fast.experiments.settings_file import dump_tables
from l63fast.experiments.text_table import markdown_table, terminal_table
from l63fast.storage import (
    result_directory,
    write_json,
)
from l63fast.twin import TwinExperiment

__all__ = ["TUNABLE", "TunedResult", "TuningExperiment", "tuning_of"]

TUNABLE: Final = ("b_scale", "inflation", "regularisation")
CURVE: Final = "tuning.csv"


@dataclass(frozen=True)
class TuningExperiment(CycledExperiment):
    """The methods of a cycled experiment that have a number to tune, all of it open."""

    @property
    def kind(self) -> Kind:
        """How its cells are run and read."""
        return TUNING


def tuning_of(experiment: CycledExperiment) -> TuningExperiment:
    """Return an experiment that tunes every method that can be, given number or not.

    Raises
    ------
    ConfigurationError
        If no method has a number to tune.
    """
    opened = {}
    for key, method in experiment.methods.items():
        open_fields = {
            field.name: None
            for field in dataclasses.fields(method)  # type: ignore[arg-type]
            if field.name in TUNABLE and field.default is None
        }
        if open_fields:
            opened[key] = dataclasses.replace(method, **open_fields)  # type: ignore[type-var]
    if not opened:
        raise ConfigurationError(
            f"methods: expected one with a number to tune ({', '.join(TUNABLE)}), got "
            f"{', '.join(experiment.methods)}"
        )
    parts = {
        field.name: getattr(experiment, field.name)
        for field in dataclasses.fields(experiment)
    }
    name = f"{experiment.name}-tuning"
    return TuningExperiment(**{**parts, "methods": opened, "name": name})


@dataclass(frozen=True)
class TunedResult:
    """A finished tuning, verified against its manifest when it is opened."""

    settings: CycledCell
    metrics: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> TunedResult:
        """Return the tuning in a folder.

        Raises
        ------
        DataFileError
            If it is missing or damaged, or is no tuning.
        """
        found = opened(path, "a tuning", CURVE)
        return cls(cell_from_tables(found.tables, source=found.source), found.metrics)


def tune_cell(
    cell: CycledCell, data: Path, directory: Path, *, resume: bool = False
) -> dict[str, Any]:
    """Tune a method on the validation split; return what was found.

    The test split is not opened. There is no half-done state to `resume` from.
    """
    started, start = datetime.now(UTC), perf_counter()
    with result_directory(directory, kind="tuning") as folder:
        problem = problem_of(cell, TwinExperiment.load(data))
        prepared = cell.method.prepare(problem, measure=cell.measure)
        assert prepared.tuning is not None  # every tunable number was left open
        metrics: dict[str, Any] = {
            "cell": cell.name,
            "label": prepared.label,
            "measure": measure_name(
                cell.measure, blind=problem.twin.operator.is_mirror_blind
            ),
            "parameter": {"name": prepared.parameter, "value": prepared.value},
            "tuning": {
                **asdict(prepared.tuning),
                "score": prepared.tuning.score,
                "is_bracketed": prepared.tuning.is_bracketed,
            },
            "data": {name: problem.twin.hashes[name] for name in ("train", "val")},
            "versions": versions(),
        }
        write_text(folder, CONFIG, dump_tables(cell.to_tables()))
        write_json(folder / METRICS, metrics)
        write_text(folder, CURVE, _csv(metrics["tuning"]))
        figure = tuning_figure(metrics, cell.measure)
        plotting.save_figure(figure, folder, "tuning")
        seconds = {"tuning": perf_counter() - start}
        write_json(folder / TIMING, timing(started, seconds))
    return metrics


def _csv(tuning: Mapping[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("value", "score"))
    rows = zip(tuning["scales"], tuning["scores"], strict=True)
    writer.writerows((repr(float(v)), repr(float(s))) for v, s in rows)
    return out.getvalue()


def _described(metrics: Mapping[str, Any]) -> str:
    tuning, parameter = metrics["tuning"], metrics["parameter"]
    end = "" if tuning["is_bracketed"] else " (at the end of what was tried)"
    return (
        f"{metrics['label']}: {parameter['name']} {float(parameter['value']):.4g}{end}"
        f", {shown_measure(metrics['measure'])} "
        f"{float(tuning['score']):.4g}"
    )


_HEADER: Final = ("case", "method", "number", "best", "score", "tried", "")


def _rows(results: Sequence[TunedResult]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in results:
        metrics = result.metrics
        tuning, parameter = metrics["tuning"], metrics["parameter"]
        scales = [float(scale) for scale in tuning["scales"]]
        lost = sum(math.isnan(float(score)) for score in tuning["scores"])
        notes = [] if tuning["is_bracketed"] else ["at the end"]
        notes += [f"{lost} diverged"] if lost else []
        rows.append(
            (
                result.settings.case or result.settings.data.operator,
                metrics["label"],
                parameter["name"],
                f"{float(parameter['value']):.4g}",
                f"{float(tuning['score']):.4g}",
                f"{min(scales):.3g}–{max(scales):.3g}",
                ", ".join(notes),
            )
        )
    return rows


def _caption(results: Sequence[TunedResult]) -> str:
    data = results[0].settings.data
    measure = shown_measure(results[0].metrics["measure"])
    return (
        f"Score: {measure} on {data.n_val} validation trajectories; the test split was "
        "not opened."
    )


def _table(results: Sequence[TunedResult]) -> Any:
    from rich.console import Group

    table = terminal_table(_HEADER, _rows(results), words=(0, 1, 2))
    return Group(table, _caption(results))


def _summarised(results: Sequence[TunedResult], directory: Path) -> None:
    rows = _rows(results)
    table = markdown_table(_HEADER, rows, words=(0, 1, 2))
    with result_directory(directory, kind="report") as folder:
        write_text(folder, "table.md", f"{table}\n\n{_caption(results)}\n")
        summary = {"rows": rows, "cells": [r.settings.name for r in results]}
        write_json(folder / "summary.json", summary)


TUNING: Final = Kind(
    run=tune_cell,
    open=TunedResult.open,
    describe=_described,
    alike=attrgetter("method_key"),
    announce=announced,
    summarise=_summarised,
    table=_table,
)
