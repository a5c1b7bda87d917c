"""Cells of the study an hour, beside a DataLoader loop as a student writes it."""

from __future__ import annotations

from time import process_time
from typing import Final

import pytest

from benchmarks.peers.dataloader_training import train_by_dataloader
from benchmarks.rows import Goal
from l63fast.experiments.data import open_or_make
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.run_cell import problem_of, run_cell
from l63fast.learning.pinned import pinned

MODELS: Final = ("mlp", "gru", "lstm")
FASTER: Final = 1.4


@pytest.fixture(scope="module")
def cells():
    study = Experiment.preset("seed-forecast").vary(operator="xy", sigma=1.0)
    return {cell.key: cell for cell in study.only(*MODELS).cells()}


@pytest.mark.peer
@pytest.mark.parametrize("model", MODELS)
def test_cells_an_hour(benchmark, record, cells, model, tmp_path):
    """Time a whole cell with its files, and the loop alone, in turns."""
    cell, data = cells[model], tmp_path / "data"
    twin = open_or_make(cell.data, data)
    problem = problem_of(cell, twin)
    splits = [problem.samples(name) for name in ("train", "val", "test")]
    with pinned():

        def both() -> tuple[float, float, float, float]:
            start = process_time()
            metrics = run_cell(cell, data, tmp_path / "cell")
            middle = process_time()
            error = train_by_dataloader(
                model, *splits, epochs=cell.method.training.epochs
            )
            end = process_time()
            pooled = metrics["scores"]["rmse_pooled_a"]
            return middle - start, end - middle, pooled, error

        ours, loop, pooled, error = benchmark.pedantic(both)
    assert pooled < 1.02 * error
    what = f"cells of the study, {model.upper()}"
    record(Goal(what, 3600.0 / ours, "1/h", 3600.0 / loop, "a DataLoader loop", FASTER))
