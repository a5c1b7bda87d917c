"""Batches from cycles: the backgrounds are forecasts of the encoder's own analyses.

An encoder that was trained with backgrounds of another scheme meets other background
errors when it is cycled. Here n trajectories are cycled side by side during training,
each with its own truth. One update of the weights takes a few cycles of all of them:
forecast, analysis, forecast, ... The gradient of the loss passes through these cycles
in two ways, through the carried memory and, after the first part of the training,
through the forecasts (`DifferentiableForecast`), so that the encoder also learns what
an error of an analysis costs in later cycles. The next update continues from the last
estimates, without their gradients (truncated backpropagation through time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from l63fast import _random
from l63fast.errors import ArgumentValueError, DivergenceError
from l63fast.learning.chain import MAX_GRADIENT, Chain
from l63fast.learning.data import windows
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.encoders import Encoder, EncoderOfOwnOperator, UncertainEncoder
from l63fast.learning.losses import Batch
from l63fast.learning.network import compiled
from l63fast.learning.settings import ChainSettings
from l63fast.lorenz63 import forecast, model_errors, simulate, spin_up
from l63fast.observation import as_operator
from l63fast.twin import ForecastModel, TwinSettings
from l63fast.twin.gaps import with_times

Analyse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class TruthSegment(NamedTuple):
    """Truth and observations of n trajectories over some cycles, time first.

    Attributes
    ----------
    truth : (n_cycles, n, 3)
    observations : (n_cycles, n, obs_dim)
        With gaps (n_cycles, n, obs_dim + 1), as encoders read them.
    steps : (n_cycles,) int64
        Model steps of each cycle.
    """

    truth: np.ndarray
    observations: np.ndarray
    steps: np.ndarray


class TruthChains:
    """Trajectories of the true model that continue on demand, with observations.

    They start from the states of the training split of a twin experiment with the same
    settings and seed. Validation and test splits have other random streams.

    Parameters
    ----------
    settings : TwinSettings
        Of the model, the cycle and the observations.
    n : int
        Trajectories.
    seed : int
    n_threads : int
    gaps : bool
        Whether the observations are those that encoders with gaps read.
    """

    def __init__(
        self,
        settings: TwinSettings,
        n: int,
        *,
        seed: int,
        n_threads: int,
        gaps: bool = False,
    ):
        self._settings, self._gaps = settings, gaps
        self._operator = as_operator(settings.operator)
        self.obs_dim = self._operator.obs_dim
        self._seed = seed
        self._model: dict[str, Any] = {
            "dt": settings.dt,
            "parameters": settings.parameters,
            "n_threads": n_threads,
        }
        if settings.parameters_spread:
            draws = _random.uniforms(seed, "parameters", "train", n, (3,))
            self._model["parameters"] = settings.drawn_parameters(draws)
        self.truth = spin_up(
            n, seed=seed, split="train", time=settings.spin_up_time, **self._model
        )

    @property
    def parameters(self) -> np.ndarray | None:
        """sigma, rho and beta (n, 3) where each trajectory has its own."""
        own = self._model["parameters"]
        return own if isinstance(own, np.ndarray) else None

    @parameters.setter
    def parameters(self, own: np.ndarray) -> None:
        self._model["parameters"] = own

    def redraw_parameters(self, chosen: np.ndarray, draw: int) -> None:
        """Draw new parameters for chosen trajectories (n,) bool, if they have own."""
        if self.parameters is not None:
            draws = _random.uniforms(
                self._seed, "parameters", "train", len(chosen), (3,), draw=draw
            )
            new = self._settings.drawn_parameters(draws)
            self.parameters = np.where(chosen[:, None], new, self.parameters)

    def advance(self, n_cycles: int, draw: int) -> TruthSegment:
        """Return the next `n_cycles` cycles; `draw` is the key of the random errors."""
        n, m = len(self.truth), self.obs_dim
        steps = self._settings.drawn_cycle_steps(n_cycles, seed=self._seed, draw=draw)
        n_errors = int(steps.max()) if self._settings.Q_per_step else 1
        n_drawn = m if self._settings.Q == 0.0 else m + 3 * n_errors
        normals = _random.standard_normals(
            self._seed, "training", "train", n, (n_cycles, n_drawn), draw=draw
        ).swapaxes(0, 1)
        settings = self._settings
        truth = self._simulated(steps, normals[..., m:])
        self.truth = truth[-1]
        noise = settings.observation_errors(normals[..., :m])
        observations = self._operator(truth) + noise
        if settings.missing:
            draws = _random.uniforms(
                self._seed, "missing", "train", n, (n_cycles, m), draw=draw
            )
            observations[draws.swapaxes(0, 1) < settings.missing] = np.nan
        if self._gaps:
            by_trajectory = observations.swapaxes(0, 1)
            observations = with_times(by_trajectory, steps * settings.dt).swapaxes(0, 1)
        return TruthSegment(truth, observations, steps)

    def _simulated(self, steps: np.ndarray, normals: np.ndarray) -> np.ndarray:
        n_cycles, cycle, n = len(steps), int(steps[0]), len(self.truth)
        truth = np.empty((n_cycles + 1, n, 3))
        settings = self._settings
        if settings.Q == 0.0 and not settings.is_irregular:
            simulate(
                self.truth,
                n_cycles * cycle,
                save_every=cycle,
                out=truth.swapaxes(0, 1),
                **self._model,
            )
            return truth[1:]
        errors: Any = np.zeros((n_cycles, 1, 1, 1))
        if settings.Q != 0.0:
            errors = model_errors(
                normals.reshape(n_cycles, n, -1, 3), settings.model_error_covariance
            )
            errors = errors.swapaxes(1, 2)
        truth[0] = self.truth
        for k in range(n_cycles):
            later, n_errors = truth[k], int(steps[k]) if settings.Q_per_step else 1
            for i in range(n_errors):
                n_steps = int(steps[k]) // n_errors
                later = forecast(later, n_steps, **self._model) + errors[k, i]
            truth[k + 1] = later
        return truth[1:]


# Beyond it an estimate is lost, in climatological standard deviations from the mean;
# the attractor reaches 3.3.
_FAR: Final = 6.0


class CycledBatches:
    """Trajectories that are cycled without end while the encoder learns.

    A batch holds the next few cycles of all of them. Between batches estimates and
    memories are kept, without their gradients; a few trajectories restart from an
    estimate near the truth and an empty memory.

    Parameters
    ----------
    encoder : Encoder
        Only its window, coordinates, device and size of the memory are used.
    cycles : ChainSettings
    twin : TwinSettings
        Of the truth, the cycle and the observations.
    n : int
        Trajectories, side by side.
    n_epochs : int
    seed : int
    n_threads : int
    model : ForecastModel, optional
        The model of the forecasts, by default that of the truth.
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
        model: ForecastModel | None = None,
    ):
        self._window, self._lag = encoder.settings.window, encoder.settings.lag
        self._cycles = cycles
        self.n_batches = cycles.updates  # per epoch
        self._n_updates = n_epochs * cycles.updates
        self._seed = seed
        self._chains = TruthChains(
            twin, n, seed=seed, n_threads=n_threads, gaps=encoder.gaps
        )
        model = model or ForecastModel()
        self._forecast = DifferentiableForecast(
            model.steps(twin, twin.steps_per_cycle),
            **model.arguments(twin),
            n_threads=n_threads,
        )
        self._model_steps = partial(model.steps, twin)
        if encoder.settings.estimates_parameters and self._chains.parameters is None:
            raise ArgumentValueError(
                "estimates_parameters: expected data with a parameters_spread above 0, "
                "got 0"
            )
        self._coordinates = encoder.coordinates
        self._centre = encoder.state_mean.double()
        self._reach = _FAR * encoder.state_std.double()
        # Keys of the random draws: 0 for the scales, 1 for the observations before the
        # first cycle, 2 u + 2 and 2 u + 3 for restarts and errors of update u.
        self._seen = self._chains.advance(self._window, 1).observations[1:]
        self._device = encoder.state_mean.device
        self._estimate = torch.full(
            (n, 3), torch.nan, dtype=torch.float64, device=self._device
        )
        self._hidden = encoder.initial_hidden(n)

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the estimates of some cycles of all trajectories, and their batch."""
        for step in range(self.n_batches):
            update = epoch * self.n_batches + step
            self._restart(update)
            segment = self._chains.advance(self._unroll(update), 2 * update + 3)
            share = update / self._n_updates
            through = share >= self._cycles.through_model
            yield self._analysed(segment, encoder, through=through)

    def _unroll(self, update: int) -> int:
        """Return the number of cycles of an update, which grows with the training."""
        last, first = self._cycles.unroll, self._cycles.first_unroll
        growing = self._cycles.growth * self._n_updates
        share = min(1.0, update / growing) if growing else 1.0
        return round(first + share * (last - first))

    def _restart(self, update: int) -> None:
        """Set truth + noise where there is no estimate yet, and in a few others."""
        n = len(self._estimate)
        draws = _random.standard_normals(
            self._seed, "training", "train", n, (4,), draw=2 * update + 2
        )
        restarts = ~torch.isfinite(self._estimate).all(1)
        drawn = draws[:, 3] < _quantile(self._cycles.restarts)
        restarts |= torch.from_numpy(drawn).to(self._device)
        start = self._chains.truth + self._cycles.start_sigma * draws[:, :3]
        self._estimate = torch.where(
            restarts[:, None], torch.from_numpy(start).to(self._device), self._estimate
        )
        self._hidden = torch.where(restarts[:, None], 0.0, self._hidden)
        self._chains.redraw_parameters(restarts.cpu().numpy(), 2 * update + 2)

    def _analysed(
        self, segment: TruthSegment, encoder: Encoder, *, through: bool
    ) -> tuple[Tensor, Batch]:
        """Return the analyses of a segment, or their mixtures, and the batch.

        `through`: whether gradients pass through the forecasts.
        """
        obs_windows, truth, steps = self._read(segment)
        n_cycles, n = truth.shape[:2]
        fast = compiled(encoder, n, n_cycles)
        unknown = isinstance(encoder, EncoderOfOwnOperator)
        unknown |= self._forecast.parameters.taylor is not None
        if fast is not None and not (unknown or encoder.settings.estimates_parameters):
            limits: Any = {"centre": self._centre, "reach": self._reach}
            model = self._forecast
            chain = Chain(
                fast, model, steps, obs_windows, truth, through=through, **limits
            )
            *ran, outputs = chain.run(self._estimate, self._hidden)
            estimates = ran[1].flatten(0, 1)
            if isinstance(encoder, UncertainEncoder):
                estimates = encoder.mixture(estimates, outputs.flatten(0, 1))
        else:
            *ran, estimates = self._looped(
                fast or encoder,
                steps.tolist(),
                obs_windows,
                truth,
                through=through,
                by=encoder if encoder.settings.estimates_parameters else None,
            )
        backgrounds, _, self._estimate, self._hidden = ran
        batch = Batch(
            background=backgrounds.flatten(0, 1),
            obs_window=obs_windows.flatten(0, 1),
            truth=truth.float().flatten(0, 1),
        )
        return estimates, batch

    def _read(self, segment: TruthSegment) -> tuple[Tensor, Tensor, np.ndarray]:
        """Return windows, truth and model steps of each cycle of a segment."""
        seen = np.concatenate([self._seen, segment.observations])
        self._seen = seen[len(segment.truth) :]
        obs_windows = _float32(_time_first(seen, self._window)).to(self._device)
        truth = torch.from_numpy(segment.truth).to(self._device)
        return obs_windows, truth, self._model_steps(segment.steps)

    def _looped(
        self,
        analyse: Analyse,
        steps: list[int],
        obs_windows: Tensor,
        truth: Tensor,
        *,
        through: bool,
        by: Encoder | None = None,
    ) -> tuple[Tensor, ...]:
        """Return what `Chain.run` does, by torch's graph, and the mixtures.

        Without an uncertainty the last are the analyses, with what `WithParameters`
        needs where an encoder (`by`) estimates parameters.
        """
        state, hidden = self._estimate, self._hidden
        backgrounds, analyses, mixtures = [], [], []
        for n_steps, obs_window, latest in zip(steps, obs_windows, truth, strict=True):
            model = replace(self._forecast, n_steps=n_steps)
            background = model(state if through else state.detach()).float()
            # Gradients are limited on both paths from one cycle to the one before.
            analysis, hidden, *more = analyse(
                background, obs_window, limit_gradient(hidden)
            )
            if by is not None:
                logs = *by.log_parameters(hidden), self._true_logs()
                more = [torch.cat([analysis, *logs], 1)]
            state = limit_gradient(analysis.double())
            lost = self._lost(state.detach())
            if lost is not None:
                state = torch.where(lost[:, None], latest, state)
                hidden = torch.where(lost[:, None], 0.0, hidden)
            backgrounds.append(background)
            analyses.append(analysis)
            mixtures.append(more[0] if more else analysis)
        found = torch.stack(backgrounds), torch.stack(analyses)
        return *found, state.detach(), hidden.detach(), torch.cat(mixtures)

    def _true_logs(self) -> Tensor:
        """Return log(p / p_0) (n, 3) of the parameters p of each trajectory."""
        nominal = np.array(self._forecast.parameters.as_tuple())
        assert self._chains.parameters is not None
        return _float32(np.log(self._chains.parameters / nominal)).to(self._device)

    def _lost(self, states: Tensor) -> Tensor | None:
        """Return which states are far from the attractor; None if there are none.

        Their forecasts would overflow, and make the gradients of all others non-finite.

        Raises
        ------
        DivergenceError
            If more than half of all estimates are lost.
        """
        away = self._coordinates(states) - self._centre
        near = away.abs() <= self._reach
        if bool(near.all()):
            return None
        lost = ~near.all(1)
        n_lost, n = int(lost.sum()), len(lost)
        if n_lost > n / 2:
            members = lost.nonzero()[:, 0].cpu().numpy()
            raise DivergenceError(
                f"{n_lost} of {n} estimates are far from the attractor", members, 0, 0.0
            )
        return lost

    def progress(self) -> dict[str, Any]:
        """Return the states of all trajectories, for `restore`."""
        own = self._chains.parameters
        return {
            **({} if own is None else {"parameters": torch.from_numpy(own)}),
            "truth": torch.from_numpy(self._chains.truth),
            "seen": torch.from_numpy(self._seen),
            "estimate": self._estimate,
            "hidden": self._hidden,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Continue from what `progress` returned."""
        self._chains.truth = progress["truth"].numpy()
        if "parameters" in progress:
            self._chains.parameters = progress["parameters"].numpy()
        self._seen = progress["seen"].numpy()
        self._estimate = progress["estimate"].to(self._device)
        self._hidden = progress["hidden"].to(self._device)


class SmoothedBatches(CycledBatches):
    """Cycles of a trained encoder without end, while its smoother learns.

    The cycles of a batch are cut into pieces of `lag` + 1, and each piece is smoothed
    given its own observations. So the first state of a piece is given `lag` later
    observations and the others fewer; all of them count in the loss.
    """

    def _unroll(self, update: int) -> int:
        """Return the number of cycles of an update, that of all pieces."""
        size = self._lag + 1
        return size * max(1, self._cycles.unroll // size)

    def _analysed(
        self, segment: TruthSegment, encoder: Encoder, *, through: bool
    ) -> tuple[Tensor, Batch]:
        """Return the smoothed states of a segment, and the batch, piece by piece."""
        memories: list[Tensor] = []

        def analyse(*given: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = encoder(*given)
            memories.append(found[1])
            return found

        obs_windows, truth, steps = self._read(segment)
        with torch.no_grad():
            backgrounds, analyses, self._estimate, self._hidden, _ = self._looped(
                analyse, steps.tolist(), obs_windows, truth, through=False
            )
        whole = backgrounds, obs_windows, torch.stack(memories), analyses, truth.float()
        shape = len(truth) // (self._lag + 1), self._lag + 1
        # (n_cycles, n, ...) as (lag + 1, pieces * n, ...)
        pieces = [
            part.reshape(*shape, *part.shape[1:]).transpose(0, 1).flatten(1, 2)
            for part in whole
        ]
        smoothed = encoder.smooth(*pieces[:4]).flatten(0, 1)
        return smoothed, Batch(*(pieces[i].flatten(0, 1) for i in (0, 1, 4)))


def _limited(gradients: Tensor) -> Tensor:
    """Return gradients (n, k), each at most `MAX_GRADIENT` times the median one.

    If a trajectory is nearly lost, errors grow from cycle to cycle, and its gradient
    can be larger than those of all others together. Updates that follow it make the
    encoder lose the other trajectories as well.
    """
    norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    most = MAX_GRADIENT * norm.nanmedian()
    is_large = (norm > most) & (most > 0.0)
    return torch.where(is_large, gradients * (most / norm), gradients)


class _LimitedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _limited(gradient)


def limit_gradient(values: Tensor) -> Tensor:
    """Return values (n, k) unchanged, whose gradients are limited."""
    same: Tensor = _LimitedGradient.apply(values)  # type: ignore[no-untyped-call]
    return same


def _time_first(observations: np.ndarray, length: int) -> np.ndarray:
    """Return the windows (n_cycles, n, L, obs_dim) of observations, both time first."""
    return windows(observations.swapaxes(0, 1), length).swapaxes(0, 1)


def _float32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _quantile(probability: float) -> float:
    from scipy.special import ndtri  # imported here, as in _random

    return float(ndtri(probability))
