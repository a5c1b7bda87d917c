"""The bootstrap particle filter, which in large size is the optimum of all schemes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels import BACKENDS, FilteredParticles, FilterJob, model_kernels
from l63fast.assimilation.scheme import (
    Analysis,
    Draws,
    FilterSettings,
    lost_beyond,
    observed_values,
    present_whitening,
)
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import mirror, model_errors
from l63fast.observation import ObservationOperator, as_operator

_MAX_PARTICLES: Final = 2**31
_SCRATCH_ARRAYS: Final = 4  # arrays of states and weights, before and after


class Particles(NamedTuple):
    """Weighted states, and the position in the random stream.

    Attributes
    ----------
    states : (n, n_particles, 3)
    log_weights : (n, n_particles)
        Up to a constant; -inf for particles that became non-finite, whose states are
        set to the origin.
    draws : Draws
    past : tuple of (n, n_particles, 3)
        With a smoother: the states of each particle's ancestors after the last
        analyses, the latest first.
    """

    states: np.ndarray
    log_weights: np.ndarray
    draws: Draws
    past: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class ParticleFilter(FilterSettings):
    """The regularised bootstrap particle filter (Gordon, Salmond & Smith 1993).

    Particles are weighted by the likelihood of the observation. Where few particles
    have most of the weight, all are resampled systematically by weight, and particles
    drawn more than once get noise N(0, b^2 C). C is the covariance of the particles and
    b = regularisation * n_particles^(-1/7), Scott's rule (Doucet et al. 2001, 12.2).

    Parameters
    ----------
    operator, B, R, Q, smoother_lag, dt, parameters, n_threads, backend
        As in `FilterSettings`. The first particles are drawn from N(background, B). A
        smoothed state is the mean of the particles' ancestors (Kitagawa 1996). An
        operator of your own needs the backend "numba".
    n_particles : int
    regularisation : float
        Should be larger for fewer particles; 0 adds no noise to copies.
    threshold : float
        Resample where the effective size is at most this share of n_particles.
    rescue : bool
        Where the filter has lost the truth (status DIVERGED: even the best particle is
        as far from the observation as the truth is once in 1e9 times), add noise to all
        particles. Its covariance is that of the forecast, scaled to explain the misfit.
        If that needs a factor above 9, a scaled B is used instead, at most 100 B.
    n_members : int
        Number of equally weighted members drawn for each analysis, for example for rank
        histograms; 0: none.
    folded : bool, optional
        Replace each particle by that one of itself and its mirror image on the positive
        side before mean and covariance are taken, for the mirror-aware score. By
        default where h cannot tell a state from its mirror image.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    _takes_own: ClassVar[bool] = True
    n_particles: int = 1000
    regularisation: float = 1.0
    threshold: float = 0.2
    rescue: bool = True
    n_members: int = 0
    folded: bool | None = None

    def _checked(self) -> dict[str, Any]:
        checked = super()._checked()
        folded = self.folded
        if folded is None:
            folded = checked["operator"].is_mirror_blind
        count, real = _checks.count, _checks.real
        return {
            **checked,
            "n_particles": count(
                "n_particles", self.n_particles, minimum=2, maximum=_MAX_PARTICLES
            ),
            "regularisation": real("regularisation", self.regularisation, minimum=0.0),
            "threshold": real("threshold", self.threshold, minimum=0.0, maximum=1.0),
            "n_members": count("n_members", self.n_members),
            "rescue": _checks.boolean("rescue", self.rescue),
            "folded": _checks.boolean("folded", folded),
            "backend": self._checked_backend(checked["operator"]),
        }

    def _checked_backend(self, operator: ObservationOperator) -> str:
        """Return the backend, Numba where the operator is the user's own."""
        if not operator.is_own:
            return self.backend
        _checks.choice("backend", self.backend, BACKENDS)
        if self.backend == "cpp":
            raise ArgumentValueError(
                "backend: expected 'auto' or 'numba' for the operator "
                f"{operator.name!r}, which is your own and not known to C++, got 'cpp'"
            )
        return "numba"

    @ieee_arithmetic()
    def initial(self, background: np.ndarray, rng: np.random.Generator) -> Particles:
        """Return particles drawn from N(background, B)."""
        shape = (len(background), self.n_particles)
        n_arrays = _SCRATCH_ARRAYS + 2 * self.smoother_lag
        n_bytes = 8 * 4 * n_arrays * shape[0] * shape[1]
        _checks.memory("n_particles", n_bytes)
        states = np.repeat(background[:, None], self.n_particles, axis=1)
        state = Particles(states, np.zeros(shape), Draws.keyed_by(rng))
        root = np.linalg.cholesky(self.B)
        # A forecast of no steps: the kernel only adds the noise N(0, B).
        return self._done(state, n_steps=0, noise_root=root)[0]

    @ieee_arithmetic()
    def forecast(self, state: Particles, n_steps: int) -> Particles:
        """Return the particles `n_steps` model steps later, with model errors added."""
        n_steps = _checks.count("n_steps", n_steps)
        return self._done(state, n_steps=n_steps, noise_root=self._model_noise)[0]

    @ieee_arithmetic()
    def analyse(
        self, state: Particles, obs_window: np.ndarray
    ) -> tuple[Particles, Analysis]:
        """Return the particles after the latest observation, and the analysis.

        The status is DIVERGED where the filter has lost the truth, rescued or not, or
        where no particle has a likelihood above zero and the weights stay as they were.
        It is NON_FINITE where no particle is finite.
        """
        observation = self._observation(state, obs_window[:, -1:])
        state, done = self._done(state, observation=observation)
        first = FilteredParticles(*done[:2], *(values[:, 0] for values in done[2:]))
        analysis = self._described(first, observation[:, 0])
        if self.smoother_lag:
            parents = first.ancestors[..., None]
            past = [np.take_along_axis(one, parents, axis=1) for one in state.past]
            kept = (state.states, *past)[: self.smoother_lag + 1]
            state = state._replace(past=kept)
            smoothed = np.full_like(analysis.state, np.nan)
            if len(kept) > self.smoother_lag:
                smoothed = self._mean(kept[-1], state.log_weights)
            analysis = replace(analysis, smoothed=smoothed)
        if self.n_members:
            analysis = replace(analysis, members=_drawn(state, self.n_members))
        return state, analysis

    @ieee_arithmetic()
    def run(
        self, state: Particles, observations: np.ndarray, n_steps: int
    ) -> tuple[Particles, Analysis]:
        """Return the results of `forecast` and `analyse` in turn, by one kernel call.

        Parameters
        ----------
        state : Particles
        observations : (n, n_cycles, obs_dim)
            One after each forecast.
        n_steps : int
            Model steps of each forecast.

        Returns
        -------
        Particles
            After the last observation.
        Analysis
            With leading axes (n, n_cycles), without members.
        """
        n_steps = _checks.count("n_steps", n_steps)
        observations = self._observation(state, observations)
        state, done = self._done(
            state,
            n_steps=n_steps,
            noise_root=self._model_noise,
            observation=observations,
        )
        return state, self._described(done, observations)

    def weighted(
        self, state: Particles, obs_window: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the particles (n, n_particles, 3) and their weights in an analysis.

        They are the estimated distribution of the analysis before resampling. If
        `folded`, each particle is that one of itself and its mirror image on the
        positive side of the weighted principal axis of (x, y). The weights have the
        sum 1; they are NaN where no particle is finite.

        Parameters
        ----------
        state : Particles
            Before the analysis.
        obs_window : (n, L, obs_dim)
        """
        y = self._observation(state, obs_window[:, -1:])[:, 0]
        x, log_weights = state.states, state.log_weights
        misfit = y[:, None] - as_operator(self.operator)(x)
        present = ~np.isnan(y)
        misfit = np.where(present[:, None], misfit, 0.0)
        number = (present * 2 ** np.arange(y.shape[1])).sum(axis=1)
        scaled = misfit @ self._whitening[number].swapaxes(1, 2)
        after = log_weights - 0.5 * (scaled**2).sum(axis=2)
        with np.errstate(over="ignore", invalid="ignore"):
            # Without any likelihood above zero the weights stay as they were.
            best = after.max(axis=1, keepdims=True)
            after = np.where(np.isfinite(best), after, log_weights)
            weights = np.exp(after - after.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
        return (_on_one_side(x, weights) if self.folded else x), weights

    def _observation(self, state: Particles, observation: np.ndarray) -> np.ndarray:
        observation = _checks.vectors(
            "observations", observation, size=len(self.R), dtype=np.dtype(np.float64),
            only_finite=False,
        )  # fmt: skip
        observation = observed_values(observation)
        shape = (len(state.states), observation.shape[1])
        _checks.batch("observations", observation, shape, "the particles")
        return observation

    @np.errstate(all="ignore")
    def _mean(self, states: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
        """Return the mean (n, 3) of weighted states, folded as that of the analysis."""
        weights = np.exp(log_weights)
        share = weights / weights.sum(axis=1, keepdims=True)
        if self.folded:
            states = _on_one_side(states, share)
        return np.asarray((share[:, None] @ states)[:, 0])

    @property
    def _model_noise(self) -> np.ndarray | None:
        # Errors made from unit vectors are the rows of the (symmetric) root of Q.
        return None if self.Q is None else model_errors(np.eye(3), self.Q)

    @property
    def _presences(self) -> np.ndarray:
        """All sets of present values (2^m, m) bool, numbered by their bits."""
        m = len(self.R)
        return (np.arange(2**m)[:, None] >> np.arange(m) & 1).astype(np.bool_)

    @cached_property
    def _whitening(self) -> np.ndarray:
        return present_whitening(self.R, self._presences)

    def _done(
        self,
        state: Particles,
        *,
        n_steps: int | None = None,
        noise_root: np.ndarray | None = None,
        observation: np.ndarray | None = None,
    ) -> tuple[Particles, FilteredParticles]:
        """Return the particles after a forecast, an analysis, or cycles of both."""
        operator, draws = as_operator(self.operator), state.draws
        n_cycles = 1 if observation is None else observation.shape[1]
        n_stages = n_cycles * ((n_steps is not None) + (observation is not None))
        job = FilterJob(
            states=np.ascontiguousarray(state.states),
            log_weights=np.ascontiguousarray(state.log_weights),
            n_steps=n_steps,
            observation=observation,
            noise_root=noise_root,
            whitening=self._whitening,
            components=operator.components,
            powers=operator.powers,
            operator=operator if operator.is_own else None,
            threshold=self.threshold,
            # Scott's rule, N^(-1 / (d + 4)), in d = 3 dimensions.
            bandwidth=self.regularisation * self.n_particles ** (-1 / 7),
            lost=lost_beyond(self._presences),
            rescue_root=np.linalg.cholesky(self.B) if self.rescue else None,
            folded=bool(self.folded),
            key=draws.kernel_key,
            first_stage=draws.position,
            ancestry=self.smoother_lag > 0,
            dt=self.dt,
            parameters=self._kernel_parameters(len(state.states)),
        )
        kernels = model_kernels(getattr(self.parameters, "taylor", None), self.backend)
        threads = _checks.threads("n_threads", self.n_threads)
        done = kernels.filter_particles(job, threads)
        # The kernel uses one position of the stream per forecast and per analysis.
        later = draws._replace(position=draws.position + n_stages)
        return Particles(done.states, done.log_weights, later, state.past), done

    def _kernel_parameters(self, n: int) -> tuple[float, float, float] | np.ndarray:
        parameters: Any = self.parameters
        if not isinstance(parameters, np.ndarray):
            return self.parameters.as_tuple()
        _checks.batch("parameters", parameters, (n,), "the trajectories")
        return parameters

    def _described(self, done: FilteredParticles, observation: np.ndarray) -> Analysis:
        operator = as_operator(self.operator)
        return Analysis(
            state=done.mean,
            status=done.status,
            n_iter=np.zeros(done.status.shape, dtype=np.int32),
            cost=np.full(done.status.shape, np.nan),
            residual=observation - operator(done.mean),
            background=done.background,
            spread=done.spread,
            innovation=done.innovation,
            innovation_covariance=done.observed_covariance + self.R,
            effective_size=done.effective_size,
        )


def _on_one_side(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each particle or its mirror image, on the side of the principal axis."""
    xy = states[..., :2]
    second = np.swapaxes(xy, 1, 2) @ (xy * weights[..., None])
    finite = np.isfinite(second).all(axis=(1, 2))
    axis = np.linalg.eigh(np.where(finite[:, None, None], second, np.eye(2)))[1]
    behind = (xy @ axis[:, :, 1:])[..., 0] < 0.0
    return np.where(behind[..., None], mirror(states), states)


def _drawn(state: Particles, n_members: int) -> np.ndarray:
    """Return members (n, n_members, 3), resampled systematically; NaN if no weights."""
    key, place = state.draws
    n = len(state.states)
    offsets = _random.uniforms(key, "scheme", "none", n, (1,), draw=place)
    members = np.full((n, n_members, 3), np.nan)
    for one, states, log_weights, offset in zip(
        members, state.states, state.log_weights, offsets, strict=True
    ):
        edges = np.cumsum(np.exp(log_weights))
        if edges[-1] > 0.0:
            # One random offset, then equally spaced levels of the cumulative weights.
            levels = (np.arange(n_members) + offset) * (edges[-1] / n_members)
            one[:] = states[np.searchsorted(edges, levels)]
    return members
