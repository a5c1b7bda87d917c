"""What training minimises, per sample: one class per loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.learning.own_operator import observing
from l63fast.observation import ObservationOperator

Model = Callable[[Tensor], Tensor]

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

    def to(self, device: torch.device) -> Batch:
        """Return the samples on a device."""
        return Batch(*(values.to(device) for values in self))


class Loss:
    """A cost per sample: called with analyses (n, 3) and their batch, gives (n,).

    Parameters
    ----------
    operator : ObservationOperator
    B, R : (3, 3) and (obs_dim, obs_dim), optional
        Error covariances.
    model : callable, optional
        Carries states (n, 3) from one observation to the next; gradients pass.
    """

    name = ""

    def __init__(
        self,
        operator: ObservationOperator,
        B: np.ndarray | None = None,
        R: np.ndarray | None = None,
        model: Model | None = None,
    ):
        self.operator = operator

    def to(self, device: torch.device) -> Loss:
        """Return the cost of analyses on a device."""
        return self

    def at(self, share: float) -> Loss:
        """Return what is minimised when a share of the window's growth is done."""
        return self

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
        model: Model | None = None,
    ):
        super().__init__(operator)
        self._observe = observing(operator)
        self._whiten_background = _whitening("B", B, 3)
        self._whiten_observation = _whitening("R", R, operator.obs_dim)

    def to(self, device: torch.device) -> Loss:
        """Return the cost of analyses on a device."""
        there = copy.copy(self)
        there._whiten_background = self._whiten_background.to(device)
        there._whiten_observation = self._whiten_observation.to(device)
        return there

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the variational cost of each analysis."""
        return self._departure(analysis, batch) + self._misfit(
            analysis, batch.obs_window[:, -1]
        )

    def _departure(self, analysis: Tensor, batch: Batch) -> Tensor:
        increment = (analysis - batch.background) @ self._whiten_background
        half: Tensor = 0.5 * increment.square().sum(1)
        return half

    def _misfit(self, state: Tensor, observation: Tensor) -> Tensor:
        residual = (observation - self._observe(state)) @ self._whiten_observation
        half: Tensor = 0.5 * residual.square().sum(1)
        return half


class Var3DWindow(Var3D):
    """The cost of `Var3D`, the misfits of all the window's observations in it.

    The analysis x_a is at the time of the window's first observation y_0, and the model
    M_l carries it to observation l: |x_a - x_b|^2 / 2 in B^-1 plus the sum over l of
    |y_l - h(M_l(x_a))|^2 / 2 in R^-1, which is strong-constraint 4D-Var's. With
    `at` the window can grow in training, the minimum for a short one leading to that
    for a longer one (quasi-static: Pires, Vautard & Talagrand 1996).
    """

    name = "var3d_window"

    def __init__(
        self,
        operator: ObservationOperator,
        B: np.ndarray | None = None,
        R: np.ndarray | None = None,
        model: Model | None = None,
    ):
        super().__init__(operator, B, R)
        if model is None:
            raise ArgumentValueError(
                f"model: expected the model between observations for loss {self.name!r}"
            )
        self._model = model
        self._share = 1.0

    def at(self, share: float) -> Loss:
        """Return the cost of the first observations only, at first of one of them."""
        shorter = copy.copy(self)
        shorter._share = min(share, 1.0)
        return shorter

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the variational cost of each analysis over its window."""
        in_order = batch.obs_window.flip(1).unbind(1)
        length = 1 + round(self._share * (len(in_order) - 1))
        cost = self._departure(analysis, batch) + self._misfit(analysis, in_order[0])
        state = analysis
        for observation in in_order[1:length]:
            state = self._model(state)
            cost = cost + self._misfit(state, observation)
        return cost


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
        raise ArgumentValueError(
            f"{name}: expected a covariance for a variational loss"
        )
    checked = _checks.covariance(
        name, covariance, size=size, dtype=np.dtype(np.float64), shape=()
    )
    factor = np.linalg.cholesky(checked)
    inverse = solve_triangular(factor, np.eye(size), lower=True)
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(inverse.T, dtype=np.float32)
    if not (np.isfinite(cast).all() and cast.diagonal().all()):
        raise ArgumentValueError(
            f"{name}: expected standard deviations whose inverses are within float32, "
            f"got {1 / inverse.diagonal().max():.3g}"
        )
    return torch.from_numpy(cast)


LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (MeanSquaredError, Distance, Var3D, Var3DWindow)
}


def build_loss(
    name: str,
    operator: ObservationOperator,
    *,
    B: np.ndarray | None = None,
    R: np.ndarray | None = None,
    model: Model | None = None,
) -> Loss:
    """Return the loss of that name.

    Raises
    ------
    ArgumentValueError
        If the name is unknown, or it needs B, R or the model and they are not given.
    """
    return LOSSES[_checks.choice("loss", name, LOSSES)](operator, B, R, model)
