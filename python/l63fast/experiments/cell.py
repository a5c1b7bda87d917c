"""A cell: one encoder trained, exported and scored; a pure function of its settings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from l63fast.experiments.config import CellSettings, cell_to_toml
from l63fast.experiments.describe import describe_cell, describe_data, describe_epoch
from l63fast.experiments.evaluation import evaluate, metrics_csv
from l63fast.experiments.fresh import simulation
from l63fast.experiments.problem import Problem
from l63fast.experiments.result import (
    CONFIG,
    HISTORY,
    LOG,
    METRICS,
    METRICS_TABLE,
    TIMING,
    csv_text,
    timing,
    versions,
    write_estimates,
    write_text,
)
from l63fast.experiments.variational import cost_beside_three_d_var
from l63fast.learning.checkpoint import CHECKPOINT
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.fixed_point import fixed_point_report
from l63fast.learning.pinned import pinned
from l63fast.learning.training import TrainResult, train
from l63fast.storage import partial_directory, result_directory, write_json
from l63fast.twin import TwinExperiment

__all__ = ["Listener", "Log", "run_cell", "train_cell"]


class Listener(Protocol):
    """Who is told how a cell gets on."""

    def say(self, line: str) -> None:
        """Take a line about what was done."""

    def epoch(self, row: Mapping[str, Any], n_epochs: int) -> None:
        """Take the record of an epoch."""


@dataclass
class Log:
    """Keeps what is said for train.log, and passes it on."""

    listener: Listener | None = None
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Keep a line and pass it on."""
        self.lines.append(line)
        if self.listener is not None:
            self.listener.say(line)

    def record(self, history: Sequence[Mapping[str, Any]], n_epochs: int) -> None:
        """Keep all epochs, those before a resume among them."""
        self.lines += [describe_epoch(row, n_epochs) for row in history]

    def epoch(self, row: Mapping[str, Any], n_epochs: int) -> None:
        """Pass an epoch on."""
        if self.listener is not None:
            self.listener.epoch(row, n_epochs)


@dataclass
class _Clock:
    """Wall time of each stage, in seconds."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def run_cell(
    settings: CellSettings,
    data: Path,
    directory: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Train, export and score an encoder; return the metrics of its result folder.

    The folder at `directory` appears, or is replaced, as a whole at the end.

    Parameters
    ----------
    settings : CellSettings
    data : Path
        Folder of the twin experiment.
    directory : Path
        The result folder.
    resume : bool
        Go on from the checkpoint of a run that was stopped.
    listener : Listener, optional

    Raises
    ------
    ResultError, LockedError
        If the folder may not be replaced, or another run is writing it.
    DataFileError, ModelFileError, TrainingDiverged
    """
    log, clock = Log(listener), _Clock()
    as_by_default = pinned(settings.training.threads)
    with result_directory(directory) as folder, as_by_default:
        working = partial_directory(directory, resume=resume)
        if resume and listener is not None:
            found = (working / CHECKPOINT).exists()
            listener.say(
                "resume      from the last epoch of the run that was stopped"
                if found
                else "resume      there is no stopped run: starting anew"
            )
        twin = TwinExperiment.load(data)
        problem = _prepared(twin, settings, log)
        clock.lap("preparation")
        trained = train_cell(settings, problem, folder, log, working, resume)
        clock.lap("training and export")
        metrics = _scored(settings, problem, trained, folder, log)
        clock.lap("evaluation")
        write_text(folder, LOG, "\n".join(log.lines) + "\n")
        write_json(
            folder / TIMING,
            {
                **timing(clock.started, clock.seconds),
                "data": str(data.resolve()),
            },
        )
    return metrics


def _prepared(twin: TwinExperiment, settings: CellSettings, log: Log) -> Problem:
    log.say(f"data        {describe_data(twin.settings)}")
    for line in describe_cell(settings):
        log.say(line)
    problem = Problem.prepare(twin, settings)
    spread = np.sqrt(np.diagonal(problem.backgrounds.B))
    tuned = settings.background.b_scale is None
    errors = ", ".join(f"{component:.2f}" for component in spread)
    log.say(
        f"fitted      background error {errors} in x, y, z; "
        f"3D-Var {'tuned to' if tuned else 'with'} {problem.b_scale:.3g} B"
    )
    if tuned and not problem.tuning.is_bracketed:
        log.say(
            "caution     the best scale of B is at the end of its grid: 3D-Var does "
            "not profit from this background, or not from these observations"
        )
    return problem


def train_cell(
    settings: CellSettings,
    problem: Problem,
    folder: Path,
    log: Log,
    working: Path,
    resume: bool = False,
) -> TrainResult:
    """Train and export an encoder into a folder; the test split is not opened."""
    seed, fresh = settings.training.seed, settings.samples.fresh
    result = train(
        settings.model,
        settings.training,
        simulation(problem, fresh, seed) if fresh else problem.samples("train"),
        problem.samples("val"),
        B=problem.covariance,
        R=problem.twin.R,
        model=problem.model if settings.training.loss == "var3d_window" else None,
        directory=working,
        resume=resume,
        report=lambda row: log.epoch(row, settings.training.epochs),
    )
    log.record(result.history, settings.training.epochs)
    log.say(
        f"trained     {len(result.history)} epochs, the best was {result.best_epoch}"
    )
    write_text(folder, CONFIG, cell_to_toml(settings))
    write_text(folder, HISTORY, csv_text(result.history))
    save_model(result.encoder, folder, _made_for(settings, problem))
    return result


def _made_for(settings: CellSettings, problem: Problem) -> dict[str, Any]:
    """Return what a user of the model must know: it is good for these inputs only."""
    data = settings.data
    return {
        "data": {name: problem.twin.hashes[name] for name in ("train", "val")},
        "sigma": data.sigma,
        "background": settings.background.kind,
        "background_covariance": problem.backgrounds.B.tolist(),
        "loss": settings.training.loss,
        "seed": settings.training.seed,
    }


def _scored(
    settings: CellSettings,
    problem: Problem,
    trained: TrainResult,
    folder: Path,
    log: Log,
) -> dict[str, Any]:
    """Score the exported model, as a user would load it, on the test split."""
    samples = problem.samples("test")
    analysis = load_encoder(folder)(samples.background, samples.obs_window)
    estimates = problem.estimates("test", samples, analysis)
    metrics = {
        "cell": settings.name,
        "operator": settings.data.operator,
        "split": "test",
        **evaluate(estimates, settings.data.operator, settings.scores),
        "tuning": {
            **asdict(problem.tuning),
            "is_bracketed": problem.tuning.is_bracketed,
        },
        "fixed_point": asdict(fixed_point_report(trained.encoder, samples)),
        **_cost(settings, problem, estimates),
        "best_epoch": trained.best_epoch,
        "data": dict(problem.twin.hashes),
        "versions": versions(),
    }
    write_json(folder / METRICS, metrics)
    write_text(folder, METRICS_TABLE, metrics_csv(metrics))
    write_estimates(folder, estimates, problem.times, settings)
    return metrics


def _cost(
    settings: CellSettings, problem: Problem, estimates: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return the cost that was to be minimised, where it is that of 3D-Var."""
    if settings.training.loss != "var3d":
        return {}
    twin = problem.twin
    found = cost_beside_three_d_var(
        estimates, twin.operator, settings.scores, B=problem.covariance, R=twin.R
    )
    return {"cost": found}
