"""Losses: the cost per sample that training minimises.

The loss decides which analysis an encoder learns. The mean squared error is smallest
for the posterior mean given the encoder's inputs, the mean distance for their spatial
median; both need the truth. The variational costs need no truth: "var3d" is the cost of
3D-Var and "var3d_window" that of strong-constraint 4D-Var, so an encoder trained with
them becomes that scheme, with the B and R that it was given. Encoders with an
uncertainty are trained by scores of their estimated distributions, "crps" and
"log_score", which are proper: smallest on average for the true posterior.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from l63fast import _checks
from l63fast.assimilation.scheme import present_whitening
from l63fast.errors import ArgumentValueError
from l63fast.learning import uncertainty
from l63fast.learning.normaliser import nearer_image
from l63fast.learning.own_operator import observing
from l63fast.observation import ObservationOperator

Model = Callable[[Tensor], Tensor]

_SMALL = 1e-12  # keeps the derivative of the root finite where the error is zero


class Batch(NamedTuple):
    """A batch of n samples as tensors.

    Attributes
    ----------
    background : (n, 3)
    obs_window : (n, L, obs_dim)
        With gaps (n, L, obs_dim + 1): NaN where a value is missing, and the time.
    truth : (n, 3)
    """

    background: Tensor
    obs_window: Tensor
    truth: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the samples on a device."""
        return Batch(*(values.to(device) for values in self))


class Loss:
    """The cost (n,) of analyses (n, 3), called with them and their batch.

    Parameters
    ----------
    operator : ObservationOperator
    B, R : (3, 3) and (obs_dim, obs_dim), optional
        Covariances of the background and observation errors.
    model : callable, optional
        Forecasts states (n, 3) from one observation to the next, differentiably; for
        data with gaps a `DifferentiableForecast`.
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
        """Return the loss at a stage of the training, from 0 to 1 (the whole loss)."""
        return self

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the cost of each analysis."""
        raise NotImplementedError


class WithParameters(Loss):
    """The sum of a loss of analyses and a weighted score of estimated parameters.

    Its estimates (n, 12) are the analysis, the mean and the standard deviation of
    log(p / p_0), and the true one; the score is the logarithmic one of a normal
    distribution. Of estimates (n, 3) it is the loss of the analyses alone.
    """

    def __init__(self, loss: Loss, weight: float):
        super().__init__(loss.operator)
        self._loss, self._weight = loss, weight

    def to(self, device: torch.device) -> Loss:
        """Return the cost of estimates on a device."""
        return WithParameters(self._loss.to(device), self._weight)

    def at(self, share: float) -> Loss:
        """Return the loss at a stage of the training."""
        return WithParameters(self._loss.at(share), self._weight)

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the cost of each estimate."""
        analysis, *given = analysis.chunk(analysis.shape[1] // 3, 1)
        cost = self._loss(analysis, batch)
        if not given:
            return cost
        mean, spread, truth = given
        score = 0.5 * ((truth - mean) / spread).square() + spread.log()
        return cost + self._weight * score.mean(1)


class MeanSquaredError(Loss):
    """|x_a - x_t|^2, supervised by the truth.

    Where the operator cannot see the sign of (x, y), the smaller of the errors of x_a
    and its mirror image S x_a counts.
    """

    name = "mse"

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the squared error of each analysis."""
        return squared_error(
            analysis, batch.truth, mirror_aware=self.operator.is_mirror_blind
        )


class Distance(Loss):
    """|x_a - x_t|, supervised by the truth; mirror-aware as `MeanSquaredError` is.

    A few large errors dominate the squared error and the noise of its gradient. Here
    they count in proportion to their size, so training in cycles is faster. The
    minimiser is the spatial median of the posterior instead of its mean.
    """

    name = "distance"

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the distance of each analysis."""
        square = squared_error(
            analysis, batch.truth, mirror_aware=self.operator.is_mirror_blind
        )
        return (square + _SMALL).sqrt()


class Var3D(Loss):
    """The cost of 3D-Var; no truth is needed.

    J = (x_a - x_b)^T B^-1 (x_a - x_b) / 2 + (y - h(x_a))^T R^-1 (y - h(x_a)) / 2, with
    y the last observation of the window. With a linear h the minimiser is the Kalman
    update with B and R, for every architecture. A missing value has no row in H and R.
    Source: Keller and Potthast (2024),
    arXiv 2406.00390.
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
        self._R = np.asarray(R, dtype=np.float64)

    def to(self, device: torch.device) -> Loss:
        """Return the cost of analyses on a device."""
        moved = copy.copy(self)
        moved._whiten_background = self._whiten_background.to(device)
        moved._whiten_observation = self._whiten_observation.to(device)
        return moved

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
        m = self.operator.obs_dim
        residual = observation[:, :m] - self._observe(state)
        if observation.shape[1] == m:
            whitened = residual @ self._whiten_observation
        else:
            whitened = self._whitened(residual)
        half: Tensor = 0.5 * whitened.square().sum(1)
        return half

    def _whitened(self, residual: Tensor) -> Tensor:
        """Return whitened residuals (n, obs_dim), of which missing values are NaN."""
        missing = residual.detach().isnan()
        residual = torch.where(missing, 0.0, residual)
        if not (self._R - np.diag(self._R.diagonal())).any():
            return residual @ self._whiten_observation
        W = present_whitening(self._R, ~missing.cpu().numpy())
        each = torch.from_numpy(W).to(residual)
        return (each @ residual[..., None])[..., 0]


class Var3DWindow(Var3D):
    """The cost of strong-constraint 4D-Var; no truth is needed.

    The analysis x_a is at the window's first observation y_0, and M_l is the model up
    to observation y_l: J = (x_a - x_b)^T B^-1 (x_a - x_b) / 2 plus the sum over l of
    (y_l - h(M_l(x_a)))^T R^-1 (y_l - h(M_l(x_a))) / 2. A long window has many local
    minima, so the window can grow during training: the minimum for a short one is a
    good start for a longer one (quasi-static 4D-Var: Pires, Vautard & Talagrand 1996).
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
        self._model: Any = model
        self._share = 1.0

    def at(self, share: float) -> Loss:
        """Return the cost of a shorter window: at 0 of one observation, at 1 of all."""
        shorter = copy.copy(self)
        shorter._share = min(share, 1.0)
        return shorter

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the variational cost of each analysis over its window."""
        # Such windows are stored backwards: the observation at analysis time is last.
        in_order = batch.obs_window.flip(1).unbind(1)
        length = 1 + round(self._share * (len(in_order) - 1))
        cost = self._departure(analysis, batch) + self._misfit(analysis, in_order[0])
        state = analysis
        for observation in in_order[1:length]:
            times = observation[:, self.operator.obs_dim :]
            if times.numel():
                state = self._model.after(state, times[:, 0])
            else:
                state = self._model(state)
            cost = cost + self._misfit(state, observation)
        return cost


class DistributionLoss(Loss):
    """A score of estimated distributions, given as mixtures of normals (n, k, 13).

    Where the operator cannot see the sign of (x, y), one normal is compared with the
    image of the truth that is nearer to its mean. A mixture has a component for each
    image, and is compared with the truth itself.
    """

    def __call__(self, analysis: Tensor, batch: Batch) -> Tensor:
        """Return the score of each mixture; also of states (n, 3)."""
        truth, mixture = batch.truth, analysis
        is_alone = mixture.ndim == 2 or mixture.shape[1] == 1
        if is_alone and self.operator.is_mirror_blind:
            mean = mixture if mixture.ndim == 2 else mixture[:, 0, 1:4]
            truth = nearer_image(truth, mean.detach())
        return self._score(mixture, truth)

    def _score(self, mixture: Tensor, truth: Tensor) -> Tensor:
        raise NotImplementedError


class CRPS(DistributionLoss):
    """Sum over nine directions of the continuous ranked probability score.

    The directions are x, y, z and those half-way between two of them, without which
    correlations would not be learned. Of a state it is the sum of its absolute errors,
    so an error of a lost estimate counts in proportion to its size.
    """

    name = "crps"

    def _score(self, mixture: Tensor, truth: Tensor) -> Tensor:
        if mixture.ndim == 2:
            apart = (mixture - truth) @ uncertainty.directions(truth).t()
            return apart.abs().sum(1)
        return uncertainty.crps(mixture, truth)


class LogScore(DistributionLoss):
    """Minus the logarithm of the density at the truth.

    A state alone has no density. Its score is 0, so that training uses the score itself
    and not its ratio to that of the background.
    """

    name = "log_score"

    def _score(self, mixture: Tensor, truth: Tensor) -> Tensor:
        if mixture.ndim == 2:
            return torch.zeros_like(mixture[:, 0])
        return uncertainty.log_score(mixture, truth)


def squared_error(analysis: Tensor, truth: Tensor, *, mirror_aware: bool) -> Tensor:
    """Return |x_a - x_t|^2 (n,); if mirror-aware, of the nearer mirror image."""
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
    loss.name: loss
    for loss in (MeanSquaredError, Distance, Var3D, Var3DWindow, CRPS, LogScore)
}


def build_loss(
    name: str,
    operator: ObservationOperator,
    *,
    B: np.ndarray | None = None,
    R: np.ndarray | None = None,
    model: Model | None = None,
) -> Loss:
    """Return the loss of this name, one of `LOSSES`.

    Raises
    ------
    ArgumentValueError
        If the name is unknown, or the loss needs B, R or the model and one is missing.
    """
    return LOSSES[_checks.choice("loss", name, LOSSES)](operator, B, R, model)
