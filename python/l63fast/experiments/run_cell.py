"""Running of a cell: fits, runs and scores one method; depends on settings only."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from l63fast import storage, verification
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.tuning import Tuning
from l63fast.experiments import results
from l63fast.experiments.data import open_data
from l63fast.experiments.diagnostics import DIAGNOSTICS, diagnose
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.protocols import (
    Cycles,
    Estimates,
    Fitted,
    Problem,
    Windows,
    Work,
)
from l63fast.experiments.settings import MEASURES, Cell
from l63fast.experiments.settings_file import dump_tables
from l63fast.twin import TwinExperiment

_BINS: Final = 10  # bins of the spread; fewer if there are fewer analyses


def run_cell(
    cell: Cell,
    data: Path,
    directory: Path,
    *,
    resume: bool = False,
    keep_states: bool = False,
    say: Callable[[str], None] = lambda line: None,
    epoch: Callable[[dict[str, Any], int], None] = lambda row, n_epochs: None,
) -> dict[str, Any]:
    """Fit, run and score a method; return the metrics of its result folder.

    The folder `directory` is written or replaced as a whole, at the end.

    Parameters
    ----------
    cell : Cell
    data : Path
        Folder of the twin experiment.
    directory : Path
        The result folder.
    resume : bool
        Continue from the checkpoints of a stopped run.
    keep_states : bool
        Write the states of the test split too, as `estimates.nc`.
    say, epoch : callable
        As in `Work`.

    Raises
    ------
    ResultError, LockedError
        If the folder may not be replaced, or another run is writing it.
    DataFileError, ModelFileError
        If the data or a checkpoint are missing or damaged.
    TrainingDiverged
        If the training of an encoder diverged.
    """
    started, begin = datetime.now(UTC), perf_counter()
    cell = cell.imported()
    kind = "tuning" if cell.tune_only else "result"
    with storage.result_directory(directory, kind=kind) as folder, threads_of(cell):
        working = storage.partial_directory(directory, resume=resume)
        resumed = len(list(working.iterdir())) > 1  # one file marks the folder
        work = Work(working, resume, say, epoch)
        problem = problem_of(cell, open_data(data, cell.data), work)
        fitted = cell.method.fit(problem)
        fit = perf_counter() - begin
        seconds: dict[str, Any] = {"fit": fit, "fit_resumed": resumed}
        metrics = _fit_metrics(cell, problem, fitted)
        results.write_text(folder, results.CONFIG, dump_tables(cell.to_tables()))
        if not cell.tune_only:
            begin = perf_counter()
            estimates = problem.run(fitted, "test", judged=True)
            seconds |= {
                "run": perf_counter() - begin,
                "per_cycle": estimates.seconds_per_cycle,
                "per_analysis": estimates.seconds_per_analysis,
            }
            begin = perf_counter()
            metrics |= scored(
                estimates, problem.twin, fitted.scheme, **asdict(cell.scores)
            )
            if fitted.judge:
                metrics |= fitted.judge(problem, estimates, metrics["scores"])
            if fitted.export is not None:
                fitted.export(folder)
            table = results.trajectory_table(cell, estimates)
            text = table.to_csv(index=False, na_rep="nan", lineterminator="\n")
            results.write_text(folder, results.RESULTS, text)
            settings = problem.twin.settings
            cycled = isinstance(cell.protocol, Cycles)
            diagnostics = diagnose(estimates, settings, cycled=cycled)
            storage.write_dataset(diagnostics, folder / DIAGNOSTICS)
            if keep_states:
                title = f"Analyses of the test split by {fitted.label}"
                storage.write_dataset(
                    estimates.to_xarray(settings, title), folder / results.ESTIMATES
                )
            seconds["score"] = perf_counter() - begin
        storage.write_json(folder / results.METRICS, metrics)
        storage.write_json(folder / results.TIMING, _timing(started, seconds, data))
    return metrics


def threads_of(cell: Cell) -> AbstractContextManager[None]:
    """Return the context of a cell: torch uses the threads that its training sets."""
    if not isinstance(cell.method, TrainedEncoder):
        return nullcontext()
    from l63fast.learning.pinned import pinned

    return pinned(cell.method.training.threads)


def problem_of(cell: Cell, twin: TwinExperiment, work: Work | None = None) -> Problem:
    """Return the problem that the method of a cell is fitted to."""
    kind = MEASURES[cell.measure].kind
    twin = twin.with_model(cell.model)
    return Problem(twin, cell.protocol, kind, work or Work())


def _fit_metrics(cell: Cell, problem: Problem, fitted: Fitted) -> dict[str, Any]:
    """Return the metrics of the fit, None where there is none."""
    twin, tuning = problem.twin, fitted.tuning
    parameter = {"name": fitted.parameter, "value": fitted.value}
    hashes = dict(twin.hashes)
    if cell.tune_only:
        del hashes["test"]
    return {
        "cell": cell.name,
        "label": fitted.label,
        "role": cell.method.role,
        "measure": cell.measure,
        "start": fitted.start if isinstance(cell.protocol, Windows) else "",
        "mirror_aware": twin.operator.is_mirror_blind,
        "parameter": parameter if fitted.parameter else None,
        "tuning": _tuned(tuning),
        "three_d_var": _three_d_var(problem),
        **dict.fromkeys(("convergence", "training", "fixed_point", "cost")),
        **fitted.facts,
        **({} if cell.model.is_perfect else {"model": cell.model.to_dict()}),
        "data": hashes,
        "versions": results.versions(),
    }


def _tuned(tuning: Tuning | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    more = {"score": tuning.score, "is_bracketed": tuning.is_bracketed}
    return {**asdict(tuning), **more}


def _three_d_var(problem: Problem) -> dict[str, Any] | None:
    """Return B and tuning of 3D-Var in windows, which other methods use too."""
    if not isinstance(problem.protocol, Windows):
        return None
    tuning = _tuned(problem.window_tuning)
    return {"B": problem.window_covariance, "tuning": tuning}


def scored(
    estimates: Estimates, twin: TwinExperiment, scheme: Any, **options: Any
) -> dict[str, Any]:
    """Return scores, and comparisons of claimed errors with the actual ones.

    Claims are spread, innovation covariance and distribution. If the scores are
    mirror-aware the errors are too; there are then no ranks, because the members have
    both signs.

    Parameters
    ----------
    estimates : Estimates
    twin : TwinExperiment
    scheme : Scheme or None
        The scheme that made the estimates.
    **options
        `n_bootstrap` and `seed` of the intervals.
    """
    blind, truth = twin.operator.is_mirror_blind, estimates.truth
    n_bins = min(_BINS, estimates.status.size)
    scores = asdict(
        verification.score(estimates.analysis, truth, mirror_aware=blind, **options)
    )
    claims: dict[str, Any] = dict.fromkeys(
        (
            *("spread", "innovation", "ranks", "pit", "distribution"),
            *("effective_size", "rescued", "parameters"),
        )
    )
    if estimates.spread is not None:
        judged = (
            verification.nearer(estimates.analysis, truth)
            if blind
            else estimates.analysis
        )
        claims["spread"] = asdict(
            verification.spread_skill(
                judged, estimates.spread, truth, n_bins=n_bins, **options
            )
        )
    d, S = estimates.innovation, estimates.innovation_covariance
    if d is not None and S is not None:
        claims["innovation"] = asdict(
            verification.innovation_statistics(d, S, **options)
        )
    if estimates.members is not None and not blind:
        claims["ranks"] = asdict(
            verification.rank_histogram(estimates.members, truth, **options)
        )
    points = estimates.distribution_scores(blind=blind)
    if points is not None:
        claims["pit"] = asdict(verification.pit_histogram(points, **options))
        claims["distribution"] = _with_intervals(points.columns(), **options)
    if (sizes := estimates.effective_size) is not None:
        quantiles = np.quantile(sizes, (0.05, 0.5, 0.95))
        claims["effective_size"] = {"mean": float(sizes.mean()), "quantiles": quantiles}
    if isinstance(scheme, ParticleFilter) and scheme.rescue:
        claims["rescued"] = float((estimates.status == Status.DIVERGED).mean())
    if estimates.parameters is not None:
        claims["parameters"] = _parameters(estimates)
    ended = {one.name.lower(): int((estimates.status == one).sum()) for one in Status}
    size: dict[str, Any] = {"n_trajectories": truth.shape[0], "n_times": truth.shape[1]}
    if twin.settings.missing:
        n_missing = int(np.isnan(estimates.observations).sum())
        n_given = estimates.observations.size - n_missing
        size["observed_values"] = {"given": n_given, "missing": n_missing}
    return {**size, "scores": scores, "status": ended, **claims}


def _parameters(estimates: Estimates) -> dict[str, Any]:
    """Return root mean squares of the errors of parameters, and what was claimed."""
    columns = estimates.trajectory_columns(blind=True)
    scores = {}
    for name in ("sigma", "rho", "beta"):
        last, half = columns[f"last_{name}"], columns[f"half_width_{name}"]
        scores[name] = {
            "rmse": float(np.sqrt((columns[f"rmse_{name}"] ** 2).mean())),
            "last_rmse": float(np.sqrt((last**2).mean())),
            "coverage_90": float((np.abs(last) <= half).mean()),
            "median_width_90": float(np.median(2.0 * half)),
        }
    return scores


def _with_intervals(
    columns: Mapping[str, np.ndarray], **options: Any
) -> dict[str, dict[str, Any]]:
    """Return the mean of each column (n_trajectories,), with its 95 % interval."""
    means = verification.resample(np.stack([*columns.values()], axis=1), **options)
    return {
        name: {"value": float(means.measured[i]), "ci95": means.interval(i)}
        for i, name in enumerate(columns)
    }


def _timing(started: datetime, seconds: Mapping[str, Any], data: Path) -> Any:
    """Return when, where and how long a cell ran, the only part that differs by run."""
    from l63fast._kernels import backend_info

    backend = backend_info()
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "data": str(data.resolve()),
        "machine": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "backend": f"{backend.name} ({backend.instruction_set})",
    }
