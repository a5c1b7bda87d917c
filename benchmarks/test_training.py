"""Training: cells of the study beside a DataLoader loop, updates in cycles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from time import process_time
from typing import Final

import pytest
import torch

from benchmarks.peers.dataloader_training import train_by_dataloader
from benchmarks.rows import Goal
from l63fast._timing import in_turns
from l63fast.experiments.data import open_or_make
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.run_cell import problem_of, run_cell
from l63fast.learning import cycled_training, cycles
from l63fast.learning.encoders import n_parameters
from l63fast.learning.pinned import pinned
from l63fast.twin import TwinExperiment

MODELS: Final = ("mlp", "gru", "lstm")
FASTER: Final = 3.0
# Sample-cycles a second of the cycled GRU over those of torch's graph, and the share of
# the same core's matrix product.
CYCLED: Final = 3.0
OF_SGEMM: Final = 0.27


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


@pytest.fixture(scope="module")
def update():
    """Return a call that makes the next update of a cycled GRU by its recipe."""
    cell = next(iter(Experiment.preset("encoders").only("gru").cells()))
    method, few = cell.method, {"n_train": 1, "n_val": 1, "n_test": 1}
    twin = TwinExperiment.generate(dataclasses.replace(cell.data, **few))
    settings = method.settings("xyz", cell.protocol)
    chosen = settings, method.training, method.cycles, twin, None, None, None
    with pinned():
        run = cycled_training._begin(*chosen)
        run._trained.train()
        batches = run._batches.epoch(8, run._trained)
        yield run, lambda: run._step(8, 0, *next(batches))


def by_graph(update: Callable[[], object]) -> None:
    """Make an update by torch's graph alone, as other encoders do."""
    found, cycles.compiled = cycles.compiled, lambda *given: None
    try:
        update()
    finally:
        cycles.compiled = found


@pytest.mark.peer
def test_updates_in_cycles(benchmark, record, update):
    """Time updates by the kernels, by torch's graph, and a matrix product, in turns."""
    run, step = update
    a = torch.ones(1024, 1024)
    calls = {
        "ours": step,
        "graph": partial(by_graph, step),
        "product": lambda: a @ a,
    }
    seconds = benchmark.pedantic(in_turns, args=(calls,), kwargs={"seconds": 12.0})
    n = run._settings.batch_size * run._batches._cycles.unroll
    rates = {name: n / seconds[name] for name in ("ours", "graph")}
    flops = 6 * n_parameters(run.encoder) * rates["ours"]
    product = 2 * 1024**3 / seconds["product"]
    what = "sample-cycles of the cycled GRU, batch 192"
    record(Goal(what, rates["ours"], "1/s", rates["graph"], "torch's graph", CYCLED))
    share = flops / 1e9, "GFLOP/s", product / 1e9, "a matrix product", OF_SGEMM
    record(Goal("training of the cycled GRU", *share))
