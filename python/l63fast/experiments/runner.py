"""Runs cells: shared data first, then the cells on an executor, then the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ClusterError, ConfigurationError, L63Error
from l63fast.experiments.data import SavedSettings, open_data, open_or_make
from l63fast.experiments.describe import describe_outcome
from l63fast.experiments.results import Result, Source, earlier_version, versions
from l63fast.experiments.run_cell import run_cell
from l63fast.experiments.scoring import Summary
from l63fast.experiments.settings import DATA, REPORT, Cell
from l63fast.experiments.settings_file import differences, refuse
from l63fast.experiments.tasks import (
    Done,
    Progress,
    Scheduler,
    executor,
    require_seen,
    run_tasks,
)


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    results : list of Result
        The finished cells, in the order of the experiment.
    failures : dict of str
        Reason of each failed cell, by the cell's name.
    summary : Summary or None
        What tables are made from, if any cell finished; written to `report`.
    """

    results: list[Result]
    failures: dict[str, str]
    summary: Summary | None


@ieee_arithmetic()
def run_cells(
    every: Sequence[Cell],
    folder: Path,
    *,
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    keep_states: bool = False,
    only: str = "*",
    progress: Progress | None = None,
) -> Outcome:
    """Run every cell of an experiment and write its tables.

    The results do not depend on the number of workers. A cell that fails is named in
    the outcome; the others are kept. Models of the user's own are imported.

    Parameters
    ----------
    every : sequence of Cell
    folder : Path
        Of the experiment. A result of other settings in it is not replaced.
    n_workers : int
        1 runs the cells in this process, more in as many spawned processes.
    scheduler : Scheduler, optional
        Runs them on its workers instead, which see the same file system.
    resume : bool
        Keep finished cells of the same settings, data and versions, and go on from
        the checkpoints of the others.
    overwrite : bool
        Replace results of other settings, and data of other settings with them.
    force : bool
        Replace results of a newer version of this package.
    keep_states : bool
        Write the states of the test split too.
    only : str
        Run the cells whose names fit this pattern, such as "x_s0.5*"; others that are
        finished and still right are in the table.
    progress : Progress, optional
        Told of each cell that ends.
    """
    every = [cell.imported() for cell in every]
    cells = chosen_cells(every, only)
    for cell in cells:
        _refuse_another_variant(cell, folder / cell.name, overwrite, force)
    place = folder.absolute()  # a worker's working directory may be another
    progress = progress or Progress()
    how = {"resume": resume, "keep_states": keep_states}
    for name in {cell.data_name for cell in cells}:
        inside = folder / DATA / name in (place, *place.parents)
        refuse(inside, str(folder), "a folder outside of the data", name)
    with executor(n_workers, scheduler, progress.say) as pool:
        if not all(isinstance(cell.data, SavedSettings) for cell in cells):
            (place / DATA).mkdir(parents=True, exist_ok=True)
        truths = {
            cell.data_name: partial(_make_data, cell, place, overwrite)
            for cell in cells
        }
        for name, error in pool.run(truths):
            if isinstance(error, ClusterError):
                raise ClusterError(f"data {name}: {error}")
            if error is not None:
                raise error
        tasks = {
            cell.name: partial(
                _task, cell, place, say=partial(pool.tell, cell.name), **how
            )
            for cell in cells
        }
        alike = {cell.name: (cell.case, cell.key) for cell in cells}
        failures = run_tasks(pool, tasks, progress, alike)
    results = [
        Result.open(folder / cell.name)
        for cell in every
        if (cell.name not in failures if cell in cells else _kept(cell, folder))
    ]
    summary = Summary(Source.of(results)) if results else None
    if summary is not None:
        from l63fast.experiments.report import write_summary

        write_summary(summary, folder / REPORT)
    return Outcome(results, failures, summary)


def chosen_cells(cells: Sequence[Cell], only: str) -> list[Cell]:
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
    cell: Cell, directory: Path, overwrite: bool, force: bool
) -> None:
    """Refuse to replace a result of other settings, or of a newer version.

    Raises
    ------
    ConfigurationError
        Naming the settings that differ.
    """
    earlier = ""
    try:
        earlier = earlier_version(directory)
        if earlier and overwrite:
            return
        result = Result.open(directory)
    except L63Error as error:
        if earlier:
            raise ConfigurationError(str(error)) from None
        return  # there is none, or none that could be lost
    old, made_by = result.settings.to_tables(), result.metrics["versions"]["l63fast"]
    if not force and _numbers(made_by) > _numbers(versions()["l63fast"]):
        raise ConfigurationError(
            f"{directory}: holds a result of the newer l63fast {made_by}: --force "
            "replaces it"
        )
    asked = cell.to_tables()
    asked["data"].setdefault("sha256", None)  # generated data are not saved ones
    found = differences(old, asked)
    if found and not overwrite:
        raise ConfigurationError(
            f"{directory}: holds a result of other settings ({', '.join(found)}): "
            "give this experiment another --name or --results, or replace it with "
            "--overwrite"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@ieee_arithmetic()
def _make_data(cell: Cell, folder: Path, overwrite: bool) -> None:
    """Simulate the data of a cell, unless they are there."""
    path = folder / DATA / cell.data_name
    require_seen(path.parent)
    open_or_make(cell.data, path, overwrite=overwrite)


@ieee_arithmetic()
def _task(cell: Cell, folder: Path, *, resume: bool, **how: Any) -> Done:
    """Run one cell, or keep it if it is finished; return one line about it."""
    data, directory = folder / DATA / cell.data_name, folder / cell.name
    require_seen(data.parent)
    start = perf_counter()
    kept = _kept(cell, folder) if resume else None
    if kept is not None:
        return Done(f"{describe_outcome(kept)}, kept", None)
    metrics = run_cell(cell, data, directory, resume=resume, **how)
    seconds = perf_counter() - start
    return Done(f"{describe_outcome(metrics)}, {seconds:.0f} s", seconds)


def _kept(cell: Cell, folder: Path) -> Mapping[str, Any] | None:
    """Return the metrics of a finished cell that need not be made again."""
    try:
        result = Result.open(folder / cell.name)
        hashes = open_data(folder / DATA / cell.data_name, cell.data).hashes
    except L63Error:
        return None
    metrics = result.metrics
    same_data = all(hashes.get(name) == h for name, h in metrics["data"].items())
    same = (result.settings, metrics["versions"]) == (cell, versions())
    return metrics if same and same_data else None
