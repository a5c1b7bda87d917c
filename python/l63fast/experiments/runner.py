"""Runs an experiment: shared data, then its cells on an executor, then the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from l63fast.errors import ConfigurationError, L63Error
from l63fast.experiments.data import open_or_make
from l63fast.experiments.executors import executor
from l63fast.experiments.kind import Cell, CellResult, Experiment, Kind
from l63fast.experiments.result import versions
from l63fast.experiments.settings_file import differences
from l63fast.twin import TwinExperiment

__all__ = ["Outcome", "run_experiment"]

DATA: Final = "data"
SUMMARY: Final = "summary"


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    results : list of CellResult
        The finished cells, in the order of the experiment.
    failures : dict of str
        Reason of each failed cell, by the cell's name.
    summary : Path or None
        Folder of the table and the overview figure, if any cell finished.
    """

    results: list[Any]
    failures: dict[str, str]
    summary: Path | None


def run_experiment(
    experiment: Experiment,
    root: Path,
    *,
    n_workers: int = 1,
    resume: bool = False,
    note: Callable[[str, str], None] = lambda cell, line: None,
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
    resume : bool
        Keep finished cells of the same settings, data and versions, and go on from
        the checkpoints of the others.
    note : callable
        Told the name of a cell and one line about it, when it ends.
    """
    folder, cells, kind = root / experiment.name, experiment.cells(), experiment.kind
    for cell in cells:
        _refuse_another_variant(kind, cell, folder / cell.name)
    for name, data in {cell.data_name: cell.data for cell in cells}.items():
        open_or_make(data, folder / DATA / name)
    ledger = _Ledger(kind, note)
    with executor(n_workers) as pool:
        try:
            wait([ledger.submit(pool, cell, folder, resume) for cell in cells])
        except BaseException:
            ledger.closed = True
            raise
    done = [cell for cell in cells if cell.name not in ledger.failures]
    results = [kind.open(folder / cell.name) for cell in done]
    if results:
        kind.summarise(results, folder / SUMMARY)
    return Outcome(results, ledger.failures, folder / SUMMARY if results else None)


def _refuse_another_variant(kind: Kind, cell: Cell, directory: Path) -> None:
    """Refuse to replace a result that was made with other settings.

    Raises
    ------
    ConfigurationError
        Naming the settings that differ.
    """
    try:
        old = kind.open(directory).settings.to_tables()
    except L63Error:  # none, or none that could be lost
        return
    found = [
        difference
        for section, asked in cell.to_tables().items()
        for difference in differences(old[section], asked, prefix=f"{section}.")
    ]
    if found:
        raise ConfigurationError(
            f"{directory}: holds a result of other settings ({', '.join(found)}): "
            "give this experiment another --name or --results"
        )


class _Ledger:
    """Who was sent to work and who came back how; closed when the run is stopped."""

    def __init__(self, kind: Kind, note: Callable[[str, str], None]) -> None:
        self.kind = kind
        self.note = note
        self.failures: dict[str, str] = {}
        self.closed = False

    def submit(
        self, pool: Executor, cell: Cell, folder: Path, resume: bool
    ) -> Future[str]:
        try:
            future = pool.submit(_task, self.kind, cell, folder, resume)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        future.add_done_callback(partial(self._ended, cell.name))
        return future

    def _ended(self, name: str, future: Future[str]) -> None:
        if self.closed:
            return
        error = future.exception()
        if error is not None:
            self.failures[name] = reason(error)
        self.note(
            name, future.result() if error is None else f"failed: {reason(error)}"
        )


def _task(kind: Kind, cell: Cell, folder: Path, resume: bool) -> str:
    """Run one cell, or keep it if it is finished; return one line about it."""
    data, directory = folder / DATA / cell.data_name, folder / cell.name
    start = perf_counter()
    kept = _kept(kind, cell, data, directory) if resume else None
    if kept is not None:
        return f"{kind.describe(kept)}, kept"
    metrics = kind.run(cell, data, directory, resume=resume)
    return f"{kind.describe(metrics)}, {perf_counter() - start:.0f} s"


def _kept(
    kind: Kind, cell: Cell, data: Path, directory: Path
) -> Mapping[str, Any] | None:
    """Return the metrics of a finished cell that need not be made again."""
    try:
        result: CellResult = kind.open(directory)
    except L63Error:
        return None
    metrics = result.metrics
    hashes = TwinExperiment.load(data).hashes
    same_data = all(hashes[name] == h for name, h in metrics["data"].items())
    same = (result.settings, metrics["versions"]) == (cell, versions())
    return metrics if same and same_data else None


def reason(error: BaseException) -> str:
    """Return why a cell failed, in one line."""
    if isinstance(error, BrokenProcessPool):
        return "its worker process died (killed, or out of memory)"
    text = " ".join(str(error).split())
    return text if isinstance(error, L63Error) else f"{type(error).__name__}: {text}"
