"""Batches from cycles: the encoder meets the forecasts of its own analyses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from l63fast import _random
from l63fast.errors import DivergenceError
from l63fast.learning.data import windows
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.encoders import Encoder
from l63fast.learning.losses import Batch
from l63fast.learning.settings import ChainSettings
from l63fast.lorenz63 import forecast, model_errors, simulate, spin_up
from l63fast.observation import as_operator
from l63fast.twin import TwinSettings


class Course(NamedTuple):
    """What happened to n truths in some cycles, time first.

    Attributes
    ----------
    truth : (n_cycles, n, 3)
    observations : (n_cycles, n, obs_dim)
    """

    truth: np.ndarray
    observations: np.ndarray


class TruthChains:
    """Trajectories of the true model, and fresh observations of them.

    They start where the training split of a twin experiment of the same settings and
    seed does; its validation and test splits have random streams of their own.

    Parameters
    ----------
    settings : TwinSettings
        Of the model, the cycle and the observations.
    n : int
        Trajectories.
    seed : int
    n_threads : int
    """

    def __init__(self, settings: TwinSettings, n: int, *, seed: int, n_threads: int):
        self._settings = settings
        self._operator = as_operator(settings.operator)
        self._seed = seed
        self._model: dict[str, Any] = {
            "dt": settings.dt,
            "parameters": settings.parameters,
            "n_threads": n_threads,
        }
        self.truth = spin_up(
            n, seed=seed, split="train", time=settings.spin_up_time, **self._model
        )

    def advance(self, n_cycles: int, draw: int) -> Course:
        """Let all go on, `draw` being the key of the noise, and return their course."""
        n, m = len(self.truth), self._operator.obs_dim
        normals = _random.standard_normals(
            self._seed, "training", "train", n, (n_cycles, m + 3), draw=draw
        ).swapaxes(0, 1)
        truth = self._simulated(n_cycles, normals[..., m:])
        self.truth = truth[-1]
        noise = self._settings.observation_errors(normals[..., :m])
        return Course(truth, self._operator(truth) + noise)

    def _simulated(self, n_cycles: int, normals: np.ndarray) -> np.ndarray:
        cycle, n = self._settings.steps_per_cycle, len(self.truth)
        truth = np.empty((n_cycles + 1, n, 3))
        if self._settings.Q == 0.0:
            simulate(
                self.truth,
                n_cycles * cycle,
                save_every=cycle,
                out=truth.swapaxes(0, 1),
                **self._model,
            )
            return truth[1:]
        errors = model_errors(normals, self._settings.model_error_covariance)
        truth[0] = self.truth
        for k in range(n_cycles):
            truth[k + 1] = forecast(truth[k], cycle, **self._model) + errors[k]
        return truth[1:]


_LOUDEST: Final = 8.0  # gradient of a trajectory in units of the median one
_FAR: Final = 6.0  # climatological standard deviations; the attractor ends at 3.3


class CycledBatches:
    """Trajectories that are forecast and analysed on and on while the encoder learns.

    An epoch's batch is what they all meet in the next few cycles. Between batches
    estimates and memories are kept, without their gradients; a few trajectories begin
    anew, from an estimate near the truth and no memory.

    Parameters
    ----------
    encoder : Encoder
        For its window, its coordinates, its device and the size of its memory only.
    cycles : ChainSettings
    twin : TwinSettings
        Of the model, the cycle and the observations.
    n : int
        Trajectories, side by side.
    n_epochs : int
    seed : int
    n_threads : int
    """

    def __init__(
        self,
        encoder: Encoder,
        cycles: ChainSettings,
        twin: TwinSettings,
        *,
        n: int,
        n_epochs: int,
        seed: int,
        n_threads: int,
    ):
        self._window = encoder.settings.window
        self._cycles = cycles
        self.n_batches = cycles.updates  # of an epoch
        self._n_updates = n_epochs * cycles.updates
        self._seed = seed
        self._chains = TruthChains(twin, n, seed=seed, n_threads=n_threads)
        self._forecast = DifferentiableForecast(
            twin.steps_per_cycle, twin.dt, twin.parameters, n_threads
        )
        self._coordinates = encoder.coordinates
        self._centre = encoder.state_mean.double()
        self._reach = _FAR * encoder.state_std.double()
        # Keys of draws: 0 the scales', 1 what was seen before, 2 u + 2 and 2 u + 3.
        self._seen = self._chains.advance(self._window, 1).observations[1:]
        self._device = encoder.state_mean.device
        self._estimate = torch.full(
            (n, 3), torch.nan, dtype=torch.float64, device=self._device
        )
        self._hidden = encoder.initial_hidden(n)

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the analyses of some cycles of all trajectories, and their batch."""
        for step in range(self.n_batches):
            update = epoch * self.n_batches + step
            self._begin_anew(update)
            course = self._chains.advance(self._unroll(update), 2 * update + 3)
            share = update / self._n_updates
            through = share >= self._cycles.through_model
            yield self._analysed(course, encoder, through=through)

    def _unroll(self, update: int) -> int:
        last, first = self._cycles.unroll, self._cycles.first_unroll
        growing = self._cycles.growth * self._n_updates
        share = min(1.0, update / growing) if growing else 1.0
        return round(first + share * (last - first))

    def _begin_anew(self, update: int) -> None:
        """Put truth + noise where no estimate is yet, and in a few other ones."""
        n = len(self._estimate)
        draws = _random.standard_normals(
            self._seed, "training", "train", n, (4,), draw=2 * update + 2
        )
        begins = ~torch.isfinite(self._estimate).all(1)
        anew = draws[:, 3] < _quantile(self._cycles.restarts)
        begins |= torch.from_numpy(anew).to(self._device)
        start = self._chains.truth + self._cycles.start_sigma * draws[:, :3]
        self._estimate = torch.where(
            begins[:, None], torch.from_numpy(start).to(self._device), self._estimate
        )
        self._hidden = torch.where(begins[:, None], 0.0, self._hidden)

    def _analysed(
        self, course: Course, encoder: Encoder, *, through: bool
    ) -> tuple[Tensor, Batch]:
        seen = np.concatenate([self._seen, course.observations])
        self._seen = seen[len(course.truth) :]
        obs_windows = _float32(_time_first(seen, self._window)).to(self._device)
        truth = torch.from_numpy(course.truth).to(self._device)
        state, hidden = self._estimate, self._hidden
        backgrounds, analyses = [], []
        for obs_window, latest in zip(obs_windows, truth, strict=True):
            background = self._forecast(state if through else state.detach()).float()
            analysis, hidden = encoder(background, obs_window, moderated(hidden))
            state, hidden = self._found(moderated(analysis.double()), hidden, latest)
            backgrounds.append(background)
            analyses.append(analysis)
        self._estimate, self._hidden = state.detach(), hidden.detach()
        batch = Batch(
            background=torch.cat(backgrounds),
            obs_window=obs_windows.flatten(0, 1),
            truth=truth.float().flatten(0, 1),
        )
        return torch.cat(analyses), batch

    def _found(
        self, state: Tensor, hidden: Tensor, truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put those that have left the attractor far behind back to their truth.

        Their forecasts would leave the floating-point range, and the gradients of all.

        Raises
        ------
        DivergenceError
            If these are more than half of all.
        """
        away = self._coordinates(state.detach()) - self._centre
        lost = ~(away.abs() <= self._reach).all(1)
        n_lost, n = int(lost.sum()), len(lost)
        if not n_lost:
            return state, hidden
        if n_lost > n / 2:
            members = lost.nonzero()[:, 0].cpu().numpy()
            raise DivergenceError(
                f"{n_lost} of {n} estimates are far from the attractor", members, 0, 0.0
            )
        anew = lost[:, None]
        return torch.where(anew, truth, state), torch.where(anew, 0.0, hidden)

    def progress(self) -> dict[str, Any]:
        """Return where all trajectories are."""
        return {
            "truth": torch.from_numpy(self._chains.truth),
            "seen": torch.from_numpy(self._seen),
            "estimate": self._estimate,
            "hidden": self._hidden,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Go back to where `progress` was taken."""
        self._chains.truth = progress["truth"].numpy()
        self._seen = progress["seen"].numpy()
        self._estimate = progress["estimate"].to(self._device)
        self._hidden = progress["hidden"].to(self._device)


class _Moderated(torch.autograd.Function):
    """Changes nothing on the way forward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        norm = gradient.norm(dim=1, keepdim=True)
        most = _LOUDEST * norm.nanmedian()
        loud = (norm > most) & (most > 0.0)
        return torch.where(loud, gradient * (most / norm), gradient)


def moderated(values: Tensor) -> Tensor:
    """Return values (n, k) whose gradients are at most some times the median one.

    Where a state is nearly lost, later errors grow with every earlier one, and the
    gradient of one trajectory can outweigh those of all others together; what is
    learned from it makes them lose theirs.
    """
    moderate: Tensor = _Moderated.apply(values)  # type: ignore[no-untyped-call]
    return moderate


def _time_first(observations: np.ndarray, length: int) -> np.ndarray:
    """Return the windows (n_cycles, n, L, obs_dim) of observations, both time first."""
    return windows(observations.swapaxes(0, 1), length).swapaxes(0, 1)


def _float32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _quantile(probability: float) -> float:
    from scipy.special import ndtri  # imported here, as in _random

    return float(ndtri(probability))
