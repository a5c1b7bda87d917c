"""Truths that run on side by side, observed as a twin experiment observes its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from l63fast import _random
from l63fast.lorenz63 import forecast, model_errors, simulate, spin_up
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

__all__ = ["Course", "TruthChains"]


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
        self._operator = ObservationOperator(settings.operator)
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
