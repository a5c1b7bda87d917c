"""Running of cells: first the shared data, then the cells, then the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ClusterError, ConfigurationError, L63Error
from l63fast.experiments.data import SavedSettings, open_data, open_or_make
from l63fast.experiments.describe import describe_outcome
from l63fast.experiments.results import (
    ESTIMATES,
    Result,
    Source,
    earlier_version,
    versions,
)
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
    """Results and failures of an experiment.

    Attributes
    ----------
    results : list of Result
        The finished cells, in the order of the experiment.
    failures : dict of str
        Reason of each failure, by the name of the cell.
    summary : Summary or None
        Summary of the results, whose tables are in `report`; None without results.
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

    The results do not depend on the number of workers. If a cell fails, the others go
    on, and the outcome names it. The user's own models and operators are imported.

    Parameters
    ----------
    every : sequence of Cell
    folder : Path
        Folder of the experiment.
    n_workers : int
        1 runs the cells in this process, a larger number in so many new processes.
    scheduler : Scheduler, optional
        Runs the cells on the workers of a dask cluster, which need the same file
        system.
    resume : bool
        Keep finished cells that have the same settings, data and versions; continue
        the others from their checkpoints.
    overwrite : bool
        Replace results and data of other settings.
    force : bool
        Replace results of a newer version of this package.
    keep_states : bool
        Write the states of the test split too.
    only : str
        Run only the cells whose names match this pattern, such as "x_s0.5*"; the tables
        contain the other finished cells too, if they are up to date.
    progress : Progress, optional
        Receives a message when a cell ends.

    Raises
    ------
    ConfigurationError
        If no cell matches `only`, or results of other settings would be replaced.
    ClusterError
        If the scheduler cannot be reached, or a worker does not see the folder.
    DataFileError
        If saved data are damaged.
    """
    switches = {"resume": resume, "overwrite": overwrite, "force": force}
    for name, switch in {**switches, "keep_states": keep_states}.items():
        _checks.boolean(name, switch)
    every = [cell.imported() for cell in every]
    cells = chosen_cells(every, only)
    for cell in cells:
        _refuse_another_variant(cell, folder / cell.name, overwrite, force)
    place = folder.absolute()  # workers may have another working directory
    progress = progress or Progress()
    options = {"resume": resume, "keep_states": keep_states}
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
                _task, cell, place, say=partial(pool.tell, cell.name), **options
            )
            for cell in cells
        }
        kinds = {cell.name: cell.key for cell in cells}
        failures = run_tasks(pool, tasks, progress, kinds)
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
    """Return the cells whose names match a pattern.

    Raises
    ------
    ConfigurationError
        If no cell matches.
    ArgumentTypeError
        If it is no text.
    """
    _checks.instance("only", only, str)
    chosen = [cell for cell in cells if fnmatchcase(cell.name, only)]
    if not chosen:
        raise ConfigurationError(
            f"only: expected a pattern that matches a cell, such as "
            f"{cells[0].name[:3] + '*'!r}, got {only!r}"
        )
    return chosen


def _refuse_another_variant(
    cell: Cell, directory: Path, overwrite: bool, force: bool
) -> None:
    """Raise an error if a result of other settings or a newer version would be lost.

    Raises
    ------
    ConfigurationError
        The message names the settings that differ.
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
        return  # there is no result, or it is damaged
    old, made_by = result.settings.to_tables(), result.metrics["versions"]["l63fast"]
    if not force and _numbers(made_by) > _numbers(versions()["l63fast"]):
        raise ConfigurationError(
            f"{directory}: holds a result of l63fast {made_by}, which is newer: "
            "--force replaces it"
        )
    asked = cell.to_tables()
    # Tables leave out what the data do not have: a hash, gaps.
    asked["data"] = dict.fromkeys(old["data"]) | asked["data"]
    differing = differences(old, asked)
    if differing and not overwrite:
        raise ConfigurationError(
            f"{directory}: holds a result of other settings ({', '.join(differing)}): "
            "give this experiment another --name or --results, or replace the result "
            "with --overwrite"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@ieee_arithmetic()
def _make_data(cell: Cell, folder: Path, overwrite: bool) -> None:
    """Simulate the data of a cell, unless they exist."""
    path = folder / DATA / cell.data_name
    require_seen(path.parent)
    open_or_make(cell.data, path, overwrite=overwrite)


@ieee_arithmetic()
def _task(
    cell: Cell, folder: Path, *, resume: bool, keep_states: bool, **options: Any
) -> Done:
    """Run one cell, or keep its finished result; return one line about it."""
    data, directory = folder / DATA / cell.data_name, folder / cell.name
    require_seen(data.parent)
    start = perf_counter()
    kept = _kept(cell, folder, with_states=keep_states) if resume else None
    if kept is not None:
        return Done(f"{describe_outcome(kept)}, kept", None)
    metrics = run_cell(
        cell, data, directory, resume=resume, keep_states=keep_states, **options
    )
    seconds = perf_counter() - start
    return Done(f"{describe_outcome(metrics)}, {seconds:.0f} s", seconds)


def _kept(
    cell: Cell, folder: Path, *, with_states: bool = False
) -> Mapping[str, Any] | None:
    """Return the metrics of a finished result that is up to date, otherwise None.

    `with_states`: only if it has the states of the test split.
    """
    try:
        result = Result.open(folder / cell.name)
        hashes = open_data(folder / DATA / cell.data_name, cell.data).hashes
    except L63Error:
        return None
    if with_states and not cell.tune_only and ESTIMATES not in result.manifest.files:
        return None
    metrics = result.metrics
    same_data = all(hashes.get(name) == h for name, h in metrics["data"].items())
    same = (result.settings, metrics["versions"]) == (cell, versions())
    return metrics if same and same_data else None
