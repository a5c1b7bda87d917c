"""A twin experiment made ready for analysis: backgrounds, windows and tuned 3D-Var."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from l63fast.assimilation.backgrounds import Backgrounds
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.assimilation.tuning import Tuning, tune_b_scale
from l63fast.assimilation.window import FourDVar, WindowState
from l63fast.experiments.config import (
    CellSettings,
    SampleSettings,
)
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast, earlier_states
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What every method of a comparison is given, the same for all of them.

    Attributes
    ----------
    twin : TwinExperiment
    backgrounds : Backgrounds
        Fitted without the test split.
    window : int
        Observations an encoder sees; there are no analyses before a full window.
    tuning : Tuning
        Scale of B that is best for 3D-Var on the validation split.
    chosen : SampleSettings
        Which windows are samples.
    b_scale : float
        Scale of B in use: the tuned one, or the one that the settings give.
    analysis_at : {"last", "first"}
        The observation of its window at whose time an encoder gets its background and
        analyses. Scores are at the time of the last, to which the model carries what
        was analysed at the first; background and 3D-Var are of the last either way.
    """

    twin: TwinExperiment
    backgrounds: Backgrounds
    window: int
    tuning: Tuning
    chosen: SampleSettings
    b_scale: float
    analysis_at: str = "last"

    @classmethod
    def prepare(cls, twin: TwinExperiment, settings: CellSettings) -> Problem:
        """Fit the backgrounds and tune 3D-Var; the test split is not opened.

        What was fitted last is kept: the encoders of one comparison, that run after
        each other, share it.
        """
        background, samples = settings.background, settings.samples
        window = settings.model.window
        hashes = tuple(sorted(twin.hashes.items()))
        fitted = _fitted(_Question(hashes, background.kind, samples, window, twin))
        given = background.b_scale
        scale = fitted[1].scale if given is None else given
        at = settings.model.analysis_at
        return cls(twin, fitted[0], window, fitted[1], samples, scale, at)

    @property
    def covariance(self) -> np.ndarray:
        """The B of 3D-Var and of the variational losses, (3, 3)."""
        return self.b_scale * self.backgrounds.B

    @property
    def times(self) -> np.ndarray:
        """Times of the analyses since the start of a trajectory (time units)."""
        settings = self.twin.settings
        first = max(self.window, self.chosen.start)
        cycles = np.arange(first, settings.n_obs + 1, self.chosen.stride)
        return cycles * (settings.steps_per_cycle * settings.dt)

    def samples(self, split: str) -> AssimilationDataset:
        """Return what an encoder is given of a split, trajectory by trajectory."""
        return self._samples(split, self.analysis_at)

    def _samples(self, split: str, analysis_at: str) -> AssimilationDataset:
        return _samples(
            self.twin, self.backgrounds, split, self.window, self.chosen, analysis_at
        )

    @property
    def model(self) -> DifferentiableForecast:
        """The model from one observation to the next."""
        settings = self.twin.settings
        return DifferentiableForecast(settings.steps_per_cycle, **self._model)

    def known_before(
        self, background: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None, int]:
        """Return what backgrounds (n, 3) say of the states when they were drawn.

        Returns
        -------
        (n, 3) and (3, 3), or None and None
            Estimates and the covariance of their errors, if these are normal and have
            nothing to do with the observations'.
        int
            So many cycles before the analysis.
        """
        covariance, lag = (
            self.backgrounds.start_covariance,
            self.backgrounds.drawn_before,
        )
        if covariance is None:
            return None, None, lag
        settings = self.twin.settings
        start = earlier_states(
            background,
            lag * settings.steps_per_cycle,
            dt=settings.dt,
            parameters=settings.parameters,
        )
        return start, covariance, lag

    def estimates(
        self, split: str, samples: AssimilationDataset, analysis: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return truth, observations and every method's states on a split.

        Parameters
        ----------
        split : str
        samples : AssimilationDataset
            Of that split, N of them.
        analysis : (N, 3)
            What the encoder made of them.

        Returns
        -------
        dict of (n_trajectories, n_times, 3); "observations" (..., obs_dim)
        """
        last, more = samples, {}
        if self.analysis_at == "first":
            last = self._samples(split, "last")
            n_steps = (self.window - 1) * self.twin.settings.steps_per_cycle
            more["4D-Var"] = self._four_d_var(samples.background, last.obs_window)
            analysis = forecast(
                analysis.astype(np.float64), n_steps, **self._model, on_divergence="nan"
            )
        observations = last.obs_window[:, -1]
        three_d = three_d_var(
            last.background,
            observations,
            self.twin.operator,
            B=self.covariance,
            R=self.twin.R,
        )
        mean = np.tile(self.twin.climatology.mean, (len(last), 1))
        flat = {
            "truth": last.truth,
            "observations": observations,
            "climatology": mean,
            "background": last.background,
            "3D-Var": three_d.state,
            **more,
            "analysis": analysis,
        }
        n = self.twin.settings.n_trajectories(split)
        return {name: by_trajectory(states, n) for name, states in flat.items()}

    @property
    def _model(self) -> dict[str, Any]:
        settings = self.twin.settings
        return {"dt": settings.dt, "parameters": settings.parameters}

    def _four_d_var(self, background: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """Return 4D-Var (n, 3) at the last observation of windows (n, L, obs_dim).

        It is given the background at the first, as the encoder is.
        """
        scheme = FourDVar.for_twin(self.twin, B=self.covariance, window=self.window)
        between = (self.twin.settings.steps_per_cycle,) * (self.window - 1)
        # Of the backgrounds before the last, only the first is that of the window.
        starts = np.repeat(background[:, None], self.window - 1, axis=1)
        state = WindowState(background, starts, between)
        return scheme.analyse(state, windows)[1].state


def by_trajectory(samples: np.ndarray, n_trajectories: int) -> np.ndarray:
    """Return samples (N, k) as (n_trajectories, n_times, k)."""
    return samples.reshape(n_trajectories, -1, samples.shape[-1])


@dataclass(frozen=True)
class _Question:
    """What decides backgrounds and tuning; the twin is known by its hashes."""

    hashes: tuple[tuple[str, str], ...]
    kind: str
    samples: SampleSettings
    window: int
    twin: TwinExperiment = field(compare=False)


@lru_cache(maxsize=1)
def _fitted(asked: _Question) -> tuple[Backgrounds, Tuning]:
    twin = asked.twin
    backgrounds = Backgrounds.fit(twin, asked.kind)
    samples = _samples(twin, backgrounds, "val", asked.window, asked.samples)
    n_val = twin.settings.n_val
    tuning = tune_b_scale(
        by_trajectory(samples.background, n_val),
        by_trajectory(samples.obs_window[:, -1], n_val),
        by_trajectory(samples.truth, n_val),
        twin.operator,
        B=backgrounds.B,
        R=twin.R,
        mirror_aware=twin.operator.is_mirror_blind,
        measure="pool",
    )
    return backgrounds, tuning


def _samples(
    twin: TwinExperiment,
    backgrounds: Backgrounds,
    split: str,
    window: int,
    chosen: SampleSettings,
    analysis_at: str = "last",
) -> AssimilationDataset:
    return AssimilationDataset.from_twin(
        twin,
        split,
        backgrounds,
        window=window,
        stride=chosen.stride,
        start=chosen.start,
        analysis_at=analysis_at,
    )
