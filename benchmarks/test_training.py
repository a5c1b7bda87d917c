"""Cells of the study an hour, beside a DataLoader loop as a student writes it."""

from __future__ import annotations

from time import process_time
from typing import Final

import pytest

from benchmarks.peers.dataloader_training import train_by_dataloader
from benchmarks.rows import Goal
from l63fast.experiments.cell import run_cell
from l63fast.experiments.data import open_or_make
from l63fast.experiments.presets import PRESETS, experiment_from_tables
from l63fast.experiments.problem import Problem
from l63fast.learning.pinned import pinned

MODELS: Final = ("mlp", "gru", "lstm")
FASTER: Final = 1.4


@pytest.fixture(scope="module")
def cells():
    study = experiment_from_tables(
        "seed-forecast", PRESETS["seed-forecast"], source="the preset"
    )
    chosen = {
        cell.model.model: cell
        for cell in study.encoders()
        if (cell.data.operator, cell.data.sigma) == ("xy", 1.0)
    }
    assert set(chosen) == set(MODELS)
    return chosen


@pytest.mark.peer
@pytest.mark.parametrize("model", MODELS)
def test_cells_an_hour(benchmark, record, cells, model, tmp_path):
    """Time a whole cell, its files and tables, and the loop alone, in turns."""
    cell, data = cells[model], tmp_path / "data"
    twin = open_or_make(cell.data, data)
    problem = Problem.prepare(twin, cell)
    splits = [problem.samples(name) for name in ("train", "val", "test")]
    with pinned():

        def both() -> tuple[float, float, float, float]:
            start = process_time()
            metrics = run_cell(cell, data, tmp_path / "cell")
            middle = process_time()
            error = train_by_dataloader(model, *splits, epochs=cell.training.epochs)
            end = process_time()
            pool = metrics["scores"]["analysis"]["pool"]
            return middle - start, end - middle, pool, error

        ours, loop, pool, error = benchmark.pedantic(both)
    assert pool < 1.02 * error
    what = f"cells of the study, {model.upper()}"
    record(Goal(what, 3600.0 / ours, "1/h", 3600.0 / loop, "a DataLoader loop", FASTER))
