"""Runs an experiment: shared data, then its cells on an executor, then the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ConfigurationError, L63Error
from l63fast.experiments.data import open_or_make
from l63fast.experiments.executors import Scheduler, executor
from l63fast.experiments.kind import Cell, CellResult, Experiment, Kind
from l63fast.experiments.result import DATA, REPORT, versions
from l63fast.experiments.settings_file import differences
from l63fast.experiments.tasks import Done, Progress, run_tasks
from l63fast.twin import TwinExperiment

__all__ = ["Outcome", "chosen_cells", "run_experiment"]


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    results : list of CellResult
        The finished cells, in the order of the experiment.
    failures : dict of str
        Reason of each failed cell, by the cell's name.
    report : Path or None
        Folder of the tables, if any cell finished.
    """

    results: list[Any]
    failures: dict[str, str]
    report: Path | None


@ieee_arithmetic()
def run_experiment(
    experiment: Experiment,
    root: Path,
    *,
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    force: bool = False,
    only: str = "*",
    note: Callable[[str, str], None] = lambda cell, line: None,
    left: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Run every cell of an experiment and write its table.

    The results do not depend on the number of workers. A cell that fails is named in
    the outcome; the others are kept.

    Parameters
    ----------
    experiment : Experiment
    root : Path
        Folder of results; the experiment takes the folder of its name in it.
        A result of other settings in it is never replaced.
    n_workers : int
        1 runs the cells in this process, more in as many spawned processes.
    scheduler : Scheduler, optional
        Runs them on its workers instead, which see the same file system.
    resume : bool
        Keep finished cells of the same settings, data and versions, and go on from
        the checkpoints of the others.
    force : bool
        Replace results of a newer version of this package.
    only : str
        Run the cells whose names fit this pattern, such as "gru_*_s0.5*"; others that
        are finished and still right are in the table.
    note : callable
        Told the name of a cell and one line about it, when it ends.
    left : callable
        Told the seconds to completion, before the note, when a cell was run.
    """
    folder, kind = root / experiment.name, experiment.kind
    every = experiment.cells()
    cells = chosen_cells(every, only)
    for cell in cells:
        _refuse_another_variant(kind, cell, folder / cell.name, force=force)
    place = folder.absolute()  # a worker's working directory may be another
    tasks = {cell.name: partial(_task, kind, cell, place, resume) for cell in cells}
    with executor(n_workers, scheduler) as pool:
        for name, data in {cell.data_name: cell.data for cell in cells}.items():
            open_or_make(data, folder / DATA / name)
        alike = {cell.name: kind.alike(cell) for cell in cells}
        failures = run_tasks(pool, tasks, Progress(note, left), alike)
    done = set(tasks) - set(failures)
    for cell in every:
        if cell not in cells and _kept(kind, cell, folder):
            done.add(cell.name)
    results = [kind.open(folder / cell.name) for cell in every if cell.name in done]
    if results:
        kind.summarise(results, folder / REPORT)
    return Outcome(results, failures, folder / REPORT if results else None)


def chosen_cells(cells: Sequence[Any], only: str) -> list[Any]:
    """Return the cells whose names fit a pattern.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    chosen = [cell for cell in cells if fnmatchcase(cell.name, only)]
    if not chosen:
        raise ConfigurationError(
            f"only: expected a pattern that fits a cell, such as "
            f"{cells[0].name[:3] + '*'!r}, got {only!r}"
        )
    return chosen


def _refuse_another_variant(
    kind: Kind, cell: Cell, directory: Path, *, force: bool
) -> None:
    """Refuse to replace a result of other settings, or of a newer version.

    Raises
    ------
    ConfigurationError
        Naming the settings that differ.
    """
    try:
        result = kind.open(directory)
    except L63Error:  # none, or none that could be lost
        return
    old, made_by = result.settings.to_tables(), result.metrics["versions"]["l63fast"]
    if not force and _numbers(made_by) > _numbers(versions()["l63fast"]):
        raise ConfigurationError(
            f"{directory}: holds a result of the newer l63fast {made_by}: --force "
            "replaces it"
        )
    found = [
        difference
        for section, asked in cell.to_tables().items()
        for difference in differences(old.get(section, {}), asked, prefix=f"{section}.")
    ]
    if found:
        raise ConfigurationError(
            f"{directory}: holds a result of other settings ({', '.join(found)}): "
            "give this experiment another --name or --results"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@ieee_arithmetic()
def _task(kind: Kind, cell: Cell, folder: Path, resume: bool) -> Done:
    """Run one cell, or keep it if it is finished; return one line about it."""
    data, directory = folder / DATA / cell.data_name, folder / cell.name
    start = perf_counter()
    kept = _kept(kind, cell, folder) if resume else None
    if kept is not None:
        return Done(f"{kind.describe(kept)}, kept", None)
    metrics = kind.run(cell, data, directory, resume=resume)
    seconds = perf_counter() - start
    return Done(f"{kind.describe(metrics)}, {seconds:.0f} s", seconds)


def _kept(kind: Kind, cell: Cell, folder: Path) -> Mapping[str, Any] | None:
    """Return the metrics of a finished cell that need not be made again."""
    try:
        result: CellResult = kind.open(folder / cell.name)
        hashes = TwinExperiment.load(folder / DATA / cell.data_name).hashes
    except L63Error:
        return None
    metrics = result.metrics
    same_data = all(hashes[name] == h for name, h in metrics["data"].items())
    same = (result.settings, metrics["versions"]) == (cell, versions())
    return metrics if same and same_data else None
