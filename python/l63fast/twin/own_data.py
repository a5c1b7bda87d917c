"""Splits from truth and observations that somebody brings along."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator
from l63fast.twin.alignment import misalignment
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.split import Split, make_split

__all__ = ["SLACK", "given_splits", "given_truth", "observation_covariance"]

SLACK: Final = 2.0  # factor on the variance: the R of own data is an estimate


def given_truth(truth: Any) -> np.ndarray:
    """Return a finite float64 copy (n, n_saved, 3)."""
    array = _checks.array("truth", truth, shape=(None, None, 3))
    _checks.finite("truth", array)
    return array


def observation_covariance(R: Any, settings: TwinSettings) -> np.ndarray:
    """Return R (m, m) in float64; that of the settings where none is given."""
    default = settings.observation_covariance
    size = len(default)
    if R is None or np.array_equal(R, default):  # sigma = 0 is no covariance, yet meant
        return default
    return _checks.covariance("R", R, size=size, dtype=np.dtype(np.float64), shape=())


def given_splits(
    truth: np.ndarray,
    observations: Any,
    settings: TwinSettings,
    R: np.ndarray,
    *,
    check: bool,
) -> dict[str, Split]:
    """Return train, val and test, cut in this order, each checked if so wished."""
    operator = ObservationOperator(settings.operator)
    shape = (len(truth), settings.n_obs, operator.obs_dim)
    array = _checks.array("observations", observations, shape=shape)
    _checks.finite("observations", array)
    sizes = [settings.n_trajectories(name) for name in SPLIT_NAMES]
    if sum(sizes) != len(truth):
        raise ArgumentValueError(
            f"n_train + n_val + n_test: expected the {len(truth)} trajectories of "
            f"truth, got {' + '.join(map(str, sizes))} = {sum(sizes)}"
        )
    splits = {}
    for name, size, end in zip(SPLIT_NAMES, sizes, np.cumsum(sizes), strict=True):
        part = slice(end - size, end)
        split = make_split(name, truth[part], array[part], settings, R)
        problem = misalignment(split, operator, R, slack=SLACK) if check else None
        if problem is not None:
            raise ArgumentValueError(
                f"observations: do not belong to the truth ({name} split): {problem}; "
                "if they do, give the R that they have, or check=False"
            )
        splits[name] = split
    return splits
