"""A twin experiment made ready for analysis: backgrounds, windows and tuned 3D-Var."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l63fast.assimilation.backgrounds import Backgrounds
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.assimilation.tuning import Tuning, tune_b_scale
from l63fast.learning.data import AssimilationDataset
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
    """

    twin: TwinExperiment
    backgrounds: Backgrounds
    window: int
    tuning: Tuning

    @classmethod
    def prepare(cls, twin: TwinExperiment, *, background: str, window: int) -> Problem:
        """Fit the backgrounds and tune 3D-Var; the test split is not opened."""
        backgrounds = Backgrounds.fit(twin, background)
        samples = _samples(twin, backgrounds, "val", window)
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
        return cls(twin, backgrounds, window, tuning)

    @property
    def tuned_covariance(self) -> np.ndarray:
        """The B that tuned 3D-Var uses, (3, 3)."""
        return self.tuning.scale * self.backgrounds.B

    @property
    def times(self) -> np.ndarray:
        """Times of the analyses since the start of a trajectory (time units)."""
        settings = self.twin.settings
        cycles = np.arange(self.window, settings.n_obs + 1)
        return cycles * (settings.steps_per_cycle * settings.dt)

    def samples(self, split: str) -> AssimilationDataset:
        """Return the samples of a split, trajectory by trajectory."""
        return _samples(self.twin, self.backgrounds, split, self.window)

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
        observations = samples.obs_window[:, -1]
        three_d = three_d_var(
            samples.background,
            observations,
            self.twin.operator,
            B=self.tuned_covariance,
            R=self.twin.R,
        )
        mean = np.tile(self.twin.climatology.mean, (len(samples), 1))
        flat = {
            "truth": samples.truth,
            "observations": observations,
            "climatology": mean,
            "background": samples.background,
            "3D-Var": three_d.state,
            "analysis": analysis,
        }
        n = self.twin.settings.n_trajectories(split)
        return {name: by_trajectory(states, n) for name, states in flat.items()}


def by_trajectory(samples: np.ndarray, n_trajectories: int) -> np.ndarray:
    """Return samples (N, k) as (n_trajectories, n_times, k)."""
    return samples.reshape(n_trajectories, -1, samples.shape[-1])


def _samples(
    twin: TwinExperiment, backgrounds: Backgrounds, split: str, window: int
) -> AssimilationDataset:
    drawn = backgrounds.draw(twin, split)
    return AssimilationDataset.from_twin(twin, split, drawn, window=window)
