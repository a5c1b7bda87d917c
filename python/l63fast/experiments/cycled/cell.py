"""A cycled cell: one method tuned, cycled and scored; a function of its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.assimilation.cycling import CycleResult
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Status
from l63fast.experiments.cycled.encoders import TrainedEncoder
from l63fast.experiments.cycled.prepared import Prepared
from l63fast.experiments.cycled.problem import CycledProblem
from l63fast.experiments.cycled.result import TRAJECTORIES, trajectories_csv
from l63fast.experiments.cycled.settings import CycledCell
from l63fast.experiments.diagnostics import DIAGNOSTICS, diagnose
from l63fast.experiments.result import (
    CONFIG,
    METRICS,
    TIMING,
    timing,
    versions,
    write_text,
)
from l63fast.experiments.settings_file import dump_tables
from l63fast.storage import (
    partial_directory,
    result_directory,
    write_dataset,
    write_json,
)
from l63fast.twin import TwinExperiment
from l63fast.verification import (
    crps,
    innovation_statistics,
    nearer,
    rank_histogram,
    score,
    spread_skill,
    trajectory_means,
)

if TYPE_CHECKING:
    import xarray

__all__ = ["measure_name", "problem_of", "run_cycled_cell"]

_LARGEST_ENSEMBLES: Final = 2**28  # bytes of members kept for a rank histogram


def run_cycled_cell(
    cell: CycledCell,
    data: Path,
    directory: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Tune, cycle and score a method; return the metrics of its result folder.

    The folder at `directory` appears, or is replaced, as a whole at the end. Training
    is all that there can be to `resume`; `report` is told each of its epochs.

    Raises
    ------
    ResultError, LockedError
        If the folder may not be replaced, or another run is writing it.
    DataFileError
        If the data are missing or damaged.
    """
    started, start = datetime.now(UTC), perf_counter()
    with result_directory(directory) as folder, _threads(cell):
        working = partial_directory(directory, resume=resume)
        resumed = len(list(working.iterdir())) > 1  # besides the mark that it is ours
        problem = dataclasses.replace(
            problem_of(cell, TwinExperiment.load(data)),
            working=working,
            resume=resume,
            report=report,
        )
        prepared = cell.method.prepare(problem, measure=cell.measure)
        tuned = perf_counter()
        result = problem.run(
            prepared.scheme, "test", keep_members=_keeps_members(cell, prepared)
        )
        cycled = perf_counter()
        truth = problem.twin.split("test").truth_at_observations[:, result.scored]
        metrics = _metrics(cell, problem, prepared, result, truth)
        write_text(folder, CONFIG, dump_tables(cell.to_tables()))
        write_json(folder / METRICS, metrics)
        if prepared.export is not None:
            prepared.export(folder)
        means = trajectory_means(result.analysis, truth)
        write_text(folder, TRAJECTORIES, trajectories_csv(means))
        write_dataset(_diagnosed(problem, result, truth), folder / DIAGNOSTICS)
        seconds = {
            "tuning": tuned - start,
            "tuning_resumed": resumed,
            "cycles": cycled - tuned,
            "scores": perf_counter() - cycled,
            "per_cycle": result.seconds_per_cycle,
            "per_analysis": result.seconds_per_analysis,
        }
        write_json(folder / TIMING, timing(started, seconds))
    return metrics


def _diagnosed(
    problem: CycledProblem, result: CycleResult, truth: np.ndarray
) -> xarray.Dataset:
    split, data = problem.twin.split("test"), problem.twin.settings
    cycles = 1 + np.arange(result.scored.start, result.scored.stop)
    return diagnose(
        truth,
        result.background,
        result.analysis,
        split.observations[:, result.scored],
        cycles * (data.steps_per_cycle * data.dt),
        data,
    )


def _threads(cell: CycledCell) -> AbstractContextManager[None]:
    if isinstance(cell.method, TrainedEncoder):
        return cell.method.threads()
    return nullcontext()


def problem_of(cell: CycledCell, twin: TwinExperiment) -> CycledProblem:
    """Return what the method of a cell is given."""
    return CycledProblem(
        twin,
        burn_in=cell.cycle.burn_in_cycles(cell.data),
        n_cycles=cell.cycle.n_cycles,
        initial_spread=cell.cycle.initial_spread,
    )


def _keeps_members(cell: CycledCell, prepared: Prepared) -> bool:
    if not isinstance(prepared.scheme, EnKF):
        return False
    n_analyses = cell.data.n_test * cell.cycle.n_cycles
    return 24 * n_analyses * prepared.scheme.n_members <= _LARGEST_ENSEMBLES


def _metrics(
    cell: CycledCell,
    problem: CycledProblem,
    prepared: Prepared,
    result: CycleResult,
    truth: np.ndarray,
) -> dict[str, Any]:
    blind = problem.twin.operator.is_mirror_blind
    how = cell.scores.bootstrap
    scores = score(result.analysis, truth, mirror_aware=blind, **how)
    return {
        "cell": cell.name,
        "label": prepared.label,
        "operator": cell.data.operator,
        "measure": measure_name(cell.measure, blind=blind),
        "n_trajectories": truth.shape[0],
        "n_cycles": truth.shape[1],
        "scores": asdict(scores),
        "status": {
            status.name.lower(): int((result.status == status).sum())
            for status in Status
        },
        **_rescued(prepared, result),
        **_claims(result, truth, how, mirror_aware=blind),
        **_tuned(prepared),
        "data": dict(problem.twin.hashes),
        "versions": versions(),
    }


def _rescued(prepared: Prepared, result: CycleResult) -> dict[str, float]:
    """Return the share of analyses after which lost particles were scattered."""
    scheme = prepared.scheme
    if not isinstance(scheme, ParticleFilter) or not scheme.rescue:
        return {}
    return {"rescued": float((result.status == Status.DIVERGED).mean())}


def measure_name(measure: str, *, blind: bool) -> str:
    """Return the name of a measure in the scores, mirror-aware where it must be."""
    name = "pool" if measure == "decibel" else measure
    return f"mirror_{name}" if blind else name


def _claims(
    result: CycleResult, truth: np.ndarray, how: dict[str, int], *, mirror_aware: bool
) -> dict[str, Any]:
    """Return what the scheme says of its own errors, beside what they are.

    Where the scores are mirror-aware, so are the errors here; members are of both
    signs then, and have no place among which the truth could be.
    """
    claims: dict[str, Any] = {}
    if result.spread is not None:
        judged = nearer(result.analysis, truth) if mirror_aware else result.analysis
        skill = spread_skill(judged, result.spread, truth, **how)
        claims["spread"] = asdict(skill)
    if result.innovation is not None and result.innovation_covariance is not None:
        statistics = innovation_statistics(
            result.innovation, result.innovation_covariance, **how
        )
        claims["innovation"] = asdict(statistics)
    if result.members is not None and not mirror_aware:
        claims["ranks"] = asdict(rank_histogram(result.members, truth, **how))
        value, low, high = crps(result.members, truth, **how)
        claims["crps"] = {"crps": value, "ci95": (low, high)}
    if result.effective_size is not None:
        claims["effective_size"] = float(result.effective_size.mean())
    return claims


def _tuned(prepared: Prepared) -> dict[str, Any]:
    if prepared.training is not None:
        return {"training": prepared.training}
    if not prepared.parameter:
        return {}
    found: dict[str, Any] = {
        "parameter": {"name": prepared.parameter, "value": prepared.value}
    }
    if prepared.tuning is not None:
        found["tuning"] = {
            **asdict(prepared.tuning),
            "is_bracketed": prepared.tuning.is_bracketed,
        }
    if prepared.convergence is not None:
        found["convergence"] = asdict(prepared.convergence)
    return found
