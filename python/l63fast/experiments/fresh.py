"""Training samples that are simulated anew for every epoch, as the twin's were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from l63fast import _random
from l63fast.experiments.problem import Problem
from l63fast.learning.data import AssimilationDataset
from l63fast.twin import TwinExperiment

__all__ = ["WINDOWS", "simulation"]

WINDOWS: Final = 10  # of each trajectory, one observation apart


def simulation(
    problem: Problem, n_trajectories: int, seed: int
) -> Callable[[int], AssimilationDataset]:
    """Return what gives the samples of an epoch, counted from 0.

    They are the training split of another twin experiment of the same settings but for
    the length of its trajectories and its seed, which follows from `seed` and epoch;
    their backgrounds are drawn as the problem's are.

    Parameters
    ----------
    problem : Problem
    n_trajectories : int
        Of each epoch.
    seed : int
    """
    settings = problem.twin.settings
    n_steps = (problem.window + WINDOWS - 1) * settings.steps_per_cycle
    short = dataclasses.replace(
        settings,
        n_train=n_trajectories,
        n_val=1,
        n_test=1,
        n_steps=n_steps,
        save_every=settings.steps_per_cycle,
    )

    def simulated(epoch: int) -> AssimilationDataset:
        draw = _random.uniforms(seed, "training", "train", 1, (1,), first=epoch, draw=0)
        twin = TwinExperiment.generate(
            dataclasses.replace(short, seed=int(draw[0, 0] * 2.0**52))
        )
        return AssimilationDataset.from_twin(
            twin,
            "train",
            problem.backgrounds,
            window=problem.window,
            analysis_at=problem.analysis_at,
        )

    return simulated
