"""Small datasets and settings for the tests of learning."""

from __future__ import annotations

import dataclasses

import numpy as np

from l63fast.learning.data import AssimilationDataset
from l63fast.learning.settings import ChainSettings, EncoderSettings
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

B = np.array([[0.5, 0.3, 0.0], [0.3, 0.9, 0.0], [0.0, 0.0, 0.7]])
R_SIGMA = 1.0

TWIN = TwinSettings(
    "xy", n_train=1, n_val=20, n_test=1, n_steps=400, spin_up_time=2.0, save_every=10
)
GRU = EncoderSettings("gru", "xy", window=1, hidden=8, n_iterations=1, memory="carried")
LSTM = dataclasses.replace(GRU, model="lstm")
MLP = EncoderSettings("mlp", "xy", window=2, hidden=8, n_iterations=1)
CYCLES = ChainSettings(updates=5, unroll=4, first_unroll=2, through_model=0.4)


def samples(
    operator: str, n: int, *, seed: int = 0, window: int = 2
) -> AssimilationDataset:
    """Gaussian states, backgrounds with error B, unit observation errors."""
    h = ObservationOperator(operator)
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 3)) * [8.0, 9.0, 8.6] + [0.0, 0.0, 23.5]
    seen = np.repeat(h(truth)[:, None], window, axis=1)
    return AssimilationDataset(
        background=truth + rng.multivariate_normal(np.zeros(3), B, size=n),
        obs_window=seen + R_SIGMA * rng.normal(size=seen.shape),
        truth=truth,
        trajectory=np.arange(n),
        time_index=np.zeros(n, dtype=np.int64),
    )
