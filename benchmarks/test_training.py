"""Cells of the study an hour, beside a DataLoader loop as a student writes it."""

from __future__ import annotations

import dataclasses
from time import process_time
from typing import Final

import pytest

from benchmarks.peers.dataloader_training import train_by_dataloader
from benchmarks.rows import Goal
from l63fast.experiments.cell import run_cell
from l63fast.experiments.data import open_or_make
from l63fast.experiments.presets import PRESETS, experiment_from_tables
from l63fast.experiments.problem import Problem
from l63fast.learning.loop import torch_threads

EPOCHS: Final = 3  # of 30; what a cell costs besides weighs ten times as much here
MODELS: Final = ("mlp", "gru", "lstm")
FASTER: Final = 1.4


@pytest.fixture(scope="module")
def cells():
    study = experiment_from_tables(
        "seed-forecast", PRESETS["seed-forecast"], source="the preset"
    )
    chosen = {
        cell.model.model: dataclasses.replace(
            cell, training=dataclasses.replace(cell.training, epochs=EPOCHS)
        )
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
    seconds = {"ours": [], "loop": []}
    scores = {}
    with torch_threads(1):

        def both():
            for i in range(3):
                start = process_time()
                metrics = run_cell(cell, data, tmp_path / f"cell{i}")
                middle = process_time()
                scores["loop"] = train_by_dataloader(model, *splits, epochs=EPOCHS)
                seconds["loop"].append(process_time() - middle)
                seconds["ours"].append(middle - start)
                scores["ours"] = metrics["scores"]["analysis"]["pool"]

        benchmark.pedantic(both)
    ours, loop = min(seconds["ours"]), min(seconds["loop"])
    assert scores["ours"] < 1.05 * scores["loop"]
    what = f"cells of the study, {model.upper()}, {EPOCHS} epochs"
    record(Goal(what, 3600.0 / ours, "1/h", 3600.0 / loop, "a DataLoader loop", FASTER))
