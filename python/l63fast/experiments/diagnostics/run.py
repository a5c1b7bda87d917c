"""The arrays that diagnostics are made of, with signs fixed where none can be known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from l63fast.lorenz63 import mirror
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings
from l63fast.verification import instantaneous_rms
from l63fast.verification.measures import mean_squares

__all__ = ["Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """What one method made of a split.

    Attributes
    ----------
    truth, background, analysis : (n_trajectories, n_times, 3)
    observations : (n_trajectories, n_times, obs_dim)
    times : (n_times,)
        Since the start of a trajectory (time units).
    data : TwinSettings
    """

    truth: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    observations: np.ndarray
    times: np.ndarray
    data: TwinSettings

    @cached_property
    def operator(self) -> ObservationOperator:
        """The observation operator."""
        return ObservationOperator(self.data.operator)

    @cached_property
    def errors(self) -> np.ndarray:
        """Instantaneous rms (n_trajectories, n_times), mirror-aware if need be."""
        return instantaneous_rms(
            self.analysis, self.truth, mirror_aware=self.operator.is_mirror_blind
        )

    @cached_property
    def judged(self) -> Run:
        """The run with analysis and background mirrored where the sign is unknowable.

        Both are mirrored where the analysis is nearer to the truth then, so that the
        increment between them keeps its meaning.
        """
        if not self.operator.is_mirror_blind:
            return self
        plain, mirrored = mean_squares(self.analysis, self.truth)
        flip = (mirrored < plain)[..., None]
        return replace(
            self,
            analysis=np.where(flip, mirror(self.analysis), self.analysis),
            background=np.where(flip, mirror(self.background), self.background),
        )
