"""What training minimises, per sample: one class per loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator

__all__ = [
    "LOSSES",
    "Batch",
    "Distance",
    "Loss",
    "MeanSquaredError",
    "Var3D",
    "build_loss",
]

_SMALL = 1e-12  # keeps the derivative of the root finite


class Batch(NamedTuple):
    """Samples as tensors, n of them.

    Attributes
    ----------
    background : (n, 3)
    obs_window : (n, L, obs_dim)
    truth : (n, 3)
    """

    background: Tensor
    obs_window: Tensor
    truth: Tensor


class Loss:
    """A cost per sample: called with analyses (n, 3) and their batch, gives (n,)."""

    name = ""

    def __init__(
        self,
        operator: ObservationOperator,
        B: np.ndarray | None = None,
        R: np.ndarray | None = None,
    ):
        self.operator = operator

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the cost of each analysis."""
        raise NotImplementedError


class MeanSquaredError(Loss):
    """|x_a - x_t|^2, supervised by the truth.

    Where the operator cannot see the sign of (x, y), an analysis that is right up to
    the mirror S is right: the smaller of the errors of x_a and S x_a counts.
    """

    name = "mse"

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the squared error of each analysis."""
        return squared_error(
            analysis, batch.truth, mirror_aware=self.operator.is_mirror_blind
        )


class Distance(Loss):
    """|x_a - x_t|, supervised by the truth; mirror-aware as `MeanSquaredError` is.

    The few large errors, which make most of the squared error and most of the noise in
    its gradient, count no more here than by their size: training goes faster, at first
    in the squared error as well. The best analysis is the spatial median instead of
    the mean.
    """

    name = "distance"

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the distance of each analysis."""
        square = squared_error(
            analysis, batch.truth, mirror_aware=self.operator.is_mirror_blind
        )
        return (square + _SMALL).sqrt()


class Var3D(Loss):
    """J = |x_a - x_b|^2 / 2 in B^-1 plus |y - h(x_a)|^2 / 2 in R^-1; no truth needed.

    y is the last observation of the window. With a linear h the minimiser is the
    Kalman update with B and R, whatever the encoder. Source: Keller and Potthast
    (2024), arXiv 2406.00390.
    """

    name = "var3d"

    def __init__(
        self,
        operator: ObservationOperator,
        B: np.ndarray | None = None,
        R: np.ndarray | None = None,
    ):
        super().__init__(operator)
        self._whiten_background = _whitening("B", B, 3)
        self._whiten_observation = _whitening("R", R, operator.obs_dim)

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the variational cost of each analysis."""
        increment = (analysis - batch.background) @ self._whiten_background
        residual = batch.obs_window[:, -1] - self.operator(analysis)
        misfit = residual @ self._whiten_observation
        twice: Tensor = increment.square().sum(1) + misfit.square().sum(1)
        return 0.5 * twice


def squared_error(analysis: Tensor, truth: Tensor, *, mirror_aware: bool) -> Tensor:
    """Return |x_a - x_t|^2 per sample, or the smaller of it and |S x_a - x_t|^2."""
    error = (analysis - truth).square().sum(1)
    if not mirror_aware:
        return error
    mirror = analysis.new_tensor([-1.0, -1.0, 1.0])
    return torch.minimum(error, (analysis * mirror - truth).square().sum(1))


def _whitening(name: str, covariance: np.ndarray | None, size: int) -> Tensor:
    """Return W with |v W|^2 = v^T covariance^-1 v, from its Cholesky factor."""
    from scipy.linalg import solve_triangular

    if covariance is None:
        raise ArgumentValueError(f"{name}: expected a covariance for loss 'var3d'")
    checked = _checks.covariance(
        name, covariance, size=size, dtype=np.dtype(np.float64), shape=()
    )
    factor = np.linalg.cholesky(checked)
    inverse = solve_triangular(factor, np.eye(size), lower=True)
    return torch.from_numpy(np.ascontiguousarray(inverse.T, dtype=np.float32))


LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in Loss.__subclasses__()}


def build_loss(
    name: str,
    operator: ObservationOperator,
    *,
    B: np.ndarray | None = None,
    R: np.ndarray | None = None,
) -> Loss:
    """Return the loss of that name.

    Raises
    ------
    ArgumentValueError
        If the name is unknown, or it needs B and R and they are not given.
    """
    return LOSSES[_checks.choice("loss", name, LOSSES)](operator, B, R)
