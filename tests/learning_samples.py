"""Small datasets for the tests of learning, without a simulation."""

from __future__ import annotations

import numpy as np

from l63fast.learning.data import AssimilationDataset
from l63fast.observation import ObservationOperator

B = np.array([[0.5, 0.3, 0.0], [0.3, 0.9, 0.0], [0.0, 0.0, 0.7]])
R_SIGMA = 1.0


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
