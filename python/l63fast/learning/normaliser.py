"""Scales and coordinates that bring an encoder's inputs and outputs to order one."""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.errors import ArgumentValueError
from l63fast.learning.data import AssimilationDataset
from l63fast.observation import ObservationOperator, as_operator
from l63fast.verification import nearer


def fold(states: Tensor) -> Tensor:
    """Return states (n, 3) with the angle around the z axis doubled.

    With (x, y) = r (cos a, sin a) the coordinates are r cos 2a, r sin 2a and z. They
    are the same for a state and its mirror image (-x, -y, z), and continuous along a
    path from one to the other. Differences grow at most by a factor of two.
    """
    x, y, z = states[:, 0], states[:, 1], states[:, 2]
    radius = (x * x + y * y + 1e-12).sqrt()  # differentiable on the z axis too
    return torch.stack([(x * x - y * y) / radius, 2.0 * x * y / radius, z], 1)


def unfold(folded: Tensor) -> Tensor:
    """Return one of the two states (n, 3) that have these folded coordinates."""
    p, q, z = folded[:, 0], folded[:, 1], folded[:, 2]
    radius = (p * p + q * q + 1e-12).sqrt()
    # Half the angle of (p, q), by the half-angle formula without cancellation:
    # radius + p for p >= 0, radius - p otherwise. Not radius + |p|: torch's derivative
    # of |p| at 0 is 0, and an estimate that starts there would never move.
    is_positive = p >= 0.0
    length = radius + torch.where(is_positive, p, -p)
    x = torch.where(is_positive, length, q)
    y = torch.where(is_positive, q, length)
    scale = (0.5 * radius / length).sqrt()
    return torch.stack([scale * x, scale * y, z], 1)


def nearer_image(states: Tensor, others: Tensor) -> Tensor:
    """Return each state (n, 3), or its mirror image if that is nearer to `others`."""
    agreement = states[:, 0] * others[:, 0] + states[:, 1] * others[:, 1]
    sign = torch.where(agreement < 0.0, -1.0, 1.0).to(states.dtype)
    return torch.stack([sign * states[:, 0], sign * states[:, 1], states[:, 2]], 1)


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Means and scales of a training set.

    Attributes
    ----------
    state_mean, state_std : (3,) float64
        Mean and standard deviation of the truth. These and `increment_std` are in the
        encoder's coordinates: those of `fold` where the operator cannot tell a state
        from its mirror image, otherwise x, y and z.
    obs_mean, obs_std : (obs_dim,) float64
        Mean and standard deviation of the observations in the windows. In data with
        gaps, of the values that are present, followed by the mean time between
        observations, as mean and scale.
    increment_std : (3,) float64
        Robust scale of truth - background, the increment to be learned: half the range
        of the middle 68 %, which is the standard deviation if the errors are normal and
        is not changed by a few lost trajectories.
    innovation_std : (obs_dim,) float64
        Robust scale of y - h(x_b).
    background_std : (3,) float64
        Robust scale of truth - background in x, y and z; where the operator cannot see
        the sign, of the mirror image of the truth that is nearer to the background.
    data_hash : str
        Hash of the training set.
    """

    state_mean: np.ndarray
    state_std: np.ndarray
    obs_mean: np.ndarray
    obs_std: np.ndarray
    increment_std: np.ndarray
    innovation_std: np.ndarray
    background_std: np.ndarray
    data_hash: str

    @classmethod
    def fit(
        cls, data: AssimilationDataset, operator: ObservationOperator | str
    ) -> Self:
        """Return the scales of a training set.

        The scale of a quantity that does not vary (a perfect background) is 1.

        Raises
        ------
        ArgumentValueError
            If the set is empty or was observed by another operator.
        """
        operator = as_operator(operator)
        if data.obs_dim != operator.obs_dim:
            raise ArgumentValueError(
                f"obs_window: expected {operator.obs_dim} values per observation for "
                f"operator {operator.name!r}, got {data.obs_dim}"
            )
        check_agreement("operator", Setup(operator=operator), data.made_for)
        if len(data) == 0:
            raise ArgumentValueError("train_data: expected samples, got none")
        if np.isnan(data.obs_window[:, -1]).all(axis=0).any():
            raise ArgumentValueError(
                "train_data: expected last observations with a value of each "
                "component, got none of some component"
            )
        m = data.obs_dim
        innovation = data.obs_window[:, -1, :m] - operator(data.background)
        seen, times = data.obs_window[..., :m], []
        if data.gaps:
            times = [data.made_for.interval or data.obs_window[..., m].mean()]
        truth, start, target = data.truth, data.background, data.truth
        if operator.is_mirror_blind:
            truth, start = _folded(truth), _folded(start)
            target = nearer(target, data.background)
        return cls(
            state_mean=truth.mean(axis=0),
            state_std=_scale(truth),
            obs_mean=np.append(_present(_mean, seen), times),
            obs_std=np.append(_present(_scale, seen.reshape(-1, m)), times),
            increment_std=_robust_scale(truth - start),
            innovation_std=_present(_robust_scale, innovation),
            background_std=_robust_scale(target - data.background),
            data_hash=data.hash,
        )

    @classmethod
    def identity(
        cls, operator: ObservationOperator | str, *, gaps: bool = False
    ) -> Self:
        """Return means of 0 and scales of 1, to be replaced by those of a file."""
        m = as_operator(operator).obs_dim
        n_seen = m + gaps
        return cls(
            state_mean=np.zeros(3),
            state_std=np.ones(3),
            obs_mean=np.zeros(n_seen),
            obs_std=np.ones(n_seen),
            increment_std=np.ones(3),
            innovation_std=np.ones(m),
            background_std=np.ones(3),
            data_hash="",
        )


def _folded(states: np.ndarray) -> np.ndarray:
    return fold(torch.tensor(states)).numpy()


def _present(
    statistic: Callable[[np.ndarray], np.ndarray], samples: np.ndarray
) -> np.ndarray:
    """Return a statistic of the values of each column that are not missing."""
    missing = np.isnan(samples)
    if not missing.any():
        return statistic(samples)
    columns = (samples[..., i][~missing[..., i]] for i in range(samples.shape[-1]))
    return np.concatenate([statistic(column[:, None]) for column in columns])


def _mean(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples.mean(axis=tuple(range(samples.ndim - 1))))


def _robust_scale(samples: np.ndarray) -> np.ndarray:
    """Return half the range of the middle 68 %, which outliers do not change."""
    low, high = np.quantile(samples, (0.16, 0.84), axis=0)
    return np.where(high > low, 0.5 * (high - low), _scale(samples))


def _scale(samples: np.ndarray) -> np.ndarray:
    std = samples.std(axis=0)
    return np.where(std > 0.0, std, 1.0)
