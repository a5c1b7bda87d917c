"""How long an experiment with encoders will take: a few steps of each, timed."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from l63fast.experiments.cell import run_cell
from l63fast.experiments.config import CellSettings
from l63fast.experiments.data import make_data
from l63fast.experiments.fresh import WINDOWS
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.training import train
from l63fast.observation import ObservationOperator

__all__ = ["expected_seconds"]

_BATCHES: Final = 12
_TRAJECTORIES: Final = 8


def expected_seconds(cells: Sequence[CellSettings]) -> float:
    """Return the time that cells would take one after the other in this process.

    Some steps of each kind of training are timed on random numbers, and what a cell
    takes besides on a tiny one. Early stopping is not foreseen.
    """
    if not cells:
        return 0.0
    _seconds_besides(cells[0])  # the first one imports what it needs
    besides = _seconds_besides(cells[0])
    per_sample: dict[Any, float] = {}
    total = 0.0
    for cell in cells:
        training = dataclasses.replace(cell.training, seed=0)
        kind = (cell.model, training)
        if kind not in per_sample:
            per_sample[kind] = _seconds_of_a_sample(cell)
        total += besides + per_sample[kind] * _samples(cell) * cell.training.epochs
    return total


def _samples(cell: CellSettings) -> int:
    """Return how many windows an epoch learns from."""
    if cell.samples.fresh:
        return cell.samples.fresh * WINDOWS
    first = max(cell.model.window, cell.samples.start)
    n_windows = len(range(first, cell.data.n_obs + 1, cell.samples.stride))
    return cell.data.n_train * n_windows


def _seconds_of_a_sample(cell: CellSettings) -> float:
    """Return the time per training sample and epoch, its share of validation in it."""
    n = _BATCHES * cell.training.batch_size
    n_val = max(n * cell.data.n_val // cell.data.n_train, 1)
    splits = [_random_samples(cell, size) for size in (n, n_val)]
    m = ObservationOperator(cell.data.operator).obs_dim
    data = cell.data
    model = DifferentiableForecast(
        data.steps_per_cycle, data.dt, data.parameters, on_divergence="nan"
    )
    seconds = []
    for epochs in (1, 2, 3):
        recipe = dataclasses.replace(cell.training, epochs=epochs, patience=epochs)
        start = perf_counter()
        train(cell.model, recipe, *splits, B=np.eye(3), R=np.eye(m), model=model)
        seconds.append(perf_counter() - start)
    # What is the same for any number of epochs falls out of the differences.
    return max(min(np.diff(seconds)), seconds[-1] / 6.0) / n


def _random_samples(cell: CellSettings, n: int) -> AssimilationDataset:
    rng = np.random.default_rng(0)  # the numbers do not matter, their count does
    m = ObservationOperator(cell.data.operator).obs_dim
    return AssimilationDataset(
        background=rng.normal(size=(n, 3)),
        obs_window=rng.normal(size=(n, cell.model.window, m)),
        truth=rng.normal(size=(n, 3)),
        trajectory=np.arange(n),
        time_index=np.zeros(n, dtype=np.int64),
    )


def _seconds_besides(cell: CellSettings) -> float:
    """Return the time of a cell that has next to nothing to learn from."""
    sizes: dict[str, Any] = dict.fromkeys(("n_train", "n_val", "n_test"), _TRAJECTORIES)
    tiny = dataclasses.replace(
        cell,
        data=dataclasses.replace(cell.data, **sizes),
        training=dataclasses.replace(cell.training, epochs=1, patience=1),
        samples=dataclasses.replace(
            cell.samples, fresh=min(cell.samples.fresh, _TRAJECTORIES)
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_data(tiny.data, data)
        start = perf_counter()
        run_cell(tiny, data, Path(folder) / "cell")
        return perf_counter() - start
