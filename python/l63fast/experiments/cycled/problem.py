"""What every method of a case is given, the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from l63fast.assimilation.cycled_errors import (
    CycledErrors,
    estimate_cycled_errors,
    perturbed,
)
from l63fast.assimilation.cycling import CycleResult, run_cycles
from l63fast.assimilation.scheme import Scheme
from l63fast.twin import TwinExperiment

__all__ = ["CycledProblem"]


@dataclass(frozen=True, eq=False)
class CycledProblem:
    """A twin experiment, and where and how long schemes are cycled on it.

    Attributes
    ----------
    twin : TwinExperiment
    burn_in, n_cycles : int
    initial_spread : float
        Standard deviation of the first background's error, in every component.
    working : Path or None
        Folder for what a training that is stopped can go on from.
    resume : bool
        Whether it should.
    report : callable or None
        Takes the record of each epoch of a training.
    """

    twin: TwinExperiment
    burn_in: int
    n_cycles: int
    initial_spread: float
    working: Path | None = None
    resume: bool = False
    report: Callable[[dict[str, Any]], None] | None = None

    @property
    def model(self) -> dict[str, Any]:
        """The model as the schemes take it: that of the truth."""
        settings = self.twin.settings
        return {"dt": settings.dt, "parameters": settings.parameters}

    @property
    def filter(self) -> dict[str, Any]:
        """What every filter takes: operator, B, R, Q and the model."""
        return {
            "operator": self.twin.operator,
            "B": self.initial_covariance,
            "R": self.twin.R,
            "Q": self.twin.Q,
            **self.model,
        }

    @property
    def initial_covariance(self) -> np.ndarray:
        """Covariance (3, 3) of the first background's error."""
        return self.initial_spread**2 * np.eye(3)

    @cached_property
    def three_d_var(self) -> CycledErrors:
        """3D-Var with the error covariance of its own forecasts, tuned."""
        return estimate_cycled_errors(self.twin)

    def with_validation(self, n_trajectories: int) -> CycledProblem:
        """Return the problem with the first trajectories of its validation split.

        They are simulated again: a trajectory does not depend on how many there are.
        """
        settings = self.twin.settings
        if n_trajectories >= settings.n_val:
            return self
        few = replace(settings, n_train=1, n_val=n_trajectories, n_test=1)
        return replace(self, twin=TwinExperiment.generate(few))

    def start(self, split_name: str) -> dict[str, Any]:
        """Return how runs over a split begin, as `run_cycles` takes it."""
        truth = self.twin.split(split_name).initial_state
        initial = perturbed(
            truth,
            self.initial_covariance,
            seed=self.twin.settings.seed,
            split_name=split_name,
        )
        return {
            "n_cycles": self.n_cycles,
            "burn_in": self.burn_in,
            "initial": initial,
        }

    def run(self, scheme: Scheme[Any], split_name: str, **how: Any) -> CycleResult:
        """Return the scored cycles of a scheme on a split."""
        how = {**self.start(split_name), **how}
        if scheme.window > 1 and not getattr(scheme, "window_grows", False):
            how["warm_up"] = self.three_d_var.scheme
        return run_cycles(scheme, self.twin, split_name, **how)
