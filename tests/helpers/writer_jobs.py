"""Everything that writes a folder, as jobs to be killed and to be refused the disk.

A job takes a generation, 0 or 1, so that old and new content differ where they can.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from experiment_samples import contents, tiny_cell, tiny_cycled, weights_only
from l63fast.errors import L63Error, ResultError
from l63fast.storage import result_directory, verify_directory, write_bytes
from l63fast.twin import TwinExperiment

SIBLINGS: Final = ("writing", "old", "partial", "l63fast-lock", "tmp")
Work = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What writes, the folder that must stay whole, and what must be there before."""

    work: Work
    target: Path
    prepare: Callable[[], None] = lambda: None
    dated: tuple[str, ...] = ()  # files that say when they were made

    def known(self) -> list[dict[str, str]]:
        """Write both generations; return their content, but for files of times.

        Here and not in a child, which then has everything imported and warm.
        """
        self.prepare()
        runs = []
        for generation in (0, 0, 1):
            self.work(generation)
            runs.append(contents(self.target))
            for name in self.dated:
                del runs[-1][name]
        assert runs[0] == runs[1], "nothing could be compared"
        return runs[1:]


def done(pid: int) -> int:
    """Return how a child ended: its exit code, -n after a signal."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def leftovers(root: Path) -> list[str]:
    """Return what unfinished runs have left anywhere below a folder."""
    return [
        str(path.relative_to(root))
        for path in root.rglob(".*")
        if path.name.endswith(tuple(f".{kind}" for kind in SIBLINGS))
    ]


def what_is_wrong(job: Job, known: list[dict[str, str]]) -> str:
    """Return why its folder is neither whole old nor whole new; nothing if it is."""
    try:
        verify_directory(job.target)
    except L63Error as error:
        return str(error)
    found = contents(job.target)
    for expected in known:
        if all(found.get(name, "") == content for name, content in expected.items()):
            return ""
    return "is of no generation"


def light_jobs(root: Path) -> dict[str, Job]:
    """Return the jobs that need neither torch nor matplotlib."""

    def bytes_(generation: int) -> None:
        with result_directory(root / "bytes") as directory:
            for number in range(3):
                write_bytes(directory / f"{number}", bytes([generation]) * 1000)

    def dataset(generation: int) -> None:
        settings = tiny_cell(data={"seed": generation}).data
        TwinExperiment.generate(settings).save(root / "dataset")

    def shards(generation: int) -> None:
        from l63fast.experiments.data import make_shards
        from l63fast.twin import ShardSettings

        settings = ShardSettings(tiny_cell(data={"seed": generation}).data, 3)
        make_shards(settings, root / "shards")

    def torn(generation: int) -> None:  # planted: what the kills must find
        shutil.rmtree(root / "torn", ignore_errors=True)
        with result_directory(root / "torn.new") as directory:
            for number in range(100):
                (directory / f"{number}").write_bytes(bytes([generation]))
        os.rename(root / "torn.new", root / "torn")

    return {
        "torn": Job(torn, root / "torn"),
        "bytes": Job(bytes_, root / "bytes"),
        "dataset": Job(dataset, root / "dataset"),
        "shards": Job(shards, root / "shards"),
    }


def heavy_jobs(root: Path) -> dict[str, Job]:
    """Return the jobs that train, export and draw; importing them takes seconds."""
    from l63fast.experiments.figures import draw_figures
    from l63fast.experiments.report import write_report
    from l63fast.experiments.run_cell import run_cell
    from l63fast.experiments.runner import run_cells
    from l63fast.learning.export import load_weights, save_model

    def train(generation: int, folder: str = "trained", **how: bool) -> None:
        if not (root / "data").exists():
            TwinExperiment.generate(tiny_cell().data).save(root / "data")
        settings = tiny_cell(method={"training": {"seed": generation, "epochs": 4}})
        with weights_only():  # the programs are what `export` writes
            run_cell(settings, root / "data", root / folder, **how)

    def resumed(generation: int) -> None:
        note = root / "generation"
        same = note.exists() and note.read_text() == str(generation)
        note.write_text(str(generation))
        train(generation, "resumed", resume=same)

    def drawn() -> None:
        train(0, "drawn", keep_states=True)

    def figures(generation: int) -> None:
        draw_figures(root / "drawn")

    def export(generation: int) -> None:
        encoder, card = load_weights(root / f"model{generation}")
        with result_directory(root / "export", kind="model") as directory:
            formats = ("torchscript", "pt2")
            save_model(encoder, directory, card["training"], formats=formats)

    def both_models() -> None:
        train(0, "model0")
        train(1, "model1")

    def experiment(generation: int) -> None:
        cells = tiny_cycled("oi", "pf").cells()
        failures = run_cells(cells, root / "tiny").failures
        if failures:  # which is how a cell says what went wrong
            raise ResultError("; ".join(failures.values()))

    def report(generation: int) -> None:
        write_report(root / "tiny")

    return {
        "train": Job(train, root / "trained"),
        "resumed": Job(resumed, root / "resumed"),
        "figures": Job(figures, root / "drawn", drawn),
        "export": Job(export, root / "export", both_models),
        "experiment": Job(experiment, root / "tiny" / "enkf"),
        "report": Job(
            report, root / "tiny" / "report", lambda: experiment(0), ("report.html",)
        ),
    }


def job(name: str, root: Path) -> Job:
    """Return a job by its name; its files are below `root`."""
    light = light_jobs(root)
    return light[name] if name in light else heavy_jobs(root)[name]
