"""Simulated splits: truth from the model, observations from keyed noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast import _checks, _random
from l63fast.lorenz63 import model_errors, simulate, spin_up
from l63fast.observation import ObservationOperator
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.split import Split, make_split

__all__ = [
    "bytes_per_trajectory",
    "drawn_model_errors",
    "drawn_observation_errors",
    "generated_part",
    "generated_splits",
]


def generated_splits(
    settings: TwinSettings, R: np.ndarray, n_threads: int | None, backend: str
) -> dict[str, Split]:
    """Return the three splits; memory for all of them is asked for first."""
    n = sum(settings.n_trajectories(name) for name in SPLIT_NAMES)
    _checks.memory("n_train + n_val + n_test", n * bytes_per_trajectory(settings))
    splits = {}
    for name in SPLIT_NAMES:
        part = settings.n_trajectories(name)
        truth, observations = generated_part(
            settings, name, part, n_threads=n_threads, backend=backend
        )
        splits[name] = make_split(name, truth, observations, settings, R)
    return splits


def bytes_per_trajectory(settings: TwinSettings) -> int:
    """Return the memory that a trajectory needs while it is made."""
    obs_dim = ObservationOperator(settings.operator).obs_dim
    values = settings.n_saved * 3 + 3 * settings.n_obs * obs_dim
    if settings.Q != 0.0:
        values += 9 * settings.n_obs
    return 8 * values


def generated_part(
    settings: TwinSettings,
    split: str,
    n: int,
    *,
    first: int = 0,
    n_threads: int | None = None,
    backend: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return truth (n, n_saved, 3) and observations (n, n_obs, m) of a split.

    Of its trajectories `first` to `first + n`, whatever the split's size: trajectory i
    depends on (seed, split, i) and on nothing else.
    """
    place: dict[str, Any] = {"split": split, "first": first}
    model: dict[str, Any] = {
        "dt": settings.dt,
        "parameters": settings.parameters,
        "n_threads": n_threads,
        "backend": backend,
    }
    initial = spin_up(
        n, seed=settings.seed, time=settings.spin_up_time, **place, **model
    )
    model["save_every"] = settings.save_every
    if settings.Q == 0.0:
        truth = simulate(initial, settings.n_steps, **model)
    else:
        truth = _with_model_error(initial, settings, place, model)
    return truth, _observed(truth, settings, place)


def _with_model_error(
    initial: np.ndarray,
    settings: TwinSettings,
    place: dict[str, Any],
    model: dict[str, Any],
) -> np.ndarray:
    """Return trajectories that take up an error N(0, Q) at the end of each cycle."""
    errors = drawn_model_errors(settings, n=len(initial), **place)
    truth = np.empty((len(initial), settings.n_saved, 3))
    state, cycle = initial, settings.steps_per_cycle
    for k in range(settings.n_obs):
        first = k * cycle // settings.save_every
        last = (k + 1) * cycle // settings.save_every
        truth[:, first : last + 1] = simulate(state, cycle, **model)
        truth[:, last] += errors[:, k]
        state = truth[:, last]
    n_rest = settings.n_steps - settings.n_obs * cycle
    truth[:, settings.n_saved - 1 - n_rest // settings.save_every :] = simulate(
        state, n_rest, **model
    )
    return truth


def _observed(
    truth: np.ndarray, settings: TwinSettings, place: dict[str, Any]
) -> np.ndarray:
    operator = ObservationOperator(settings.operator)
    stride = settings.steps_per_cycle // settings.save_every
    perfect = operator(truth[:, stride::stride])
    return np.asarray(
        perfect + drawn_observation_errors(settings, n=len(truth), **place)
    )


def drawn_observation_errors(
    settings: TwinSettings, split: str, *, n: int, first: int = 0
) -> np.ndarray:
    """Return the errors in the observations of n trajectories, (n, n_obs, obs_dim)."""
    shape = settings.n_obs, ObservationOperator(settings.operator).obs_dim
    noise = _random.standard_normals(
        settings.seed, "observation", split, n, shape, first=first
    )
    return np.asarray(settings.observation_errors(noise))


def drawn_model_errors(
    settings: TwinSettings, split: str, *, n: int, first: int = 0
) -> np.ndarray:
    """Return what truths take up at the end of each cycle, (n, n_obs, 3)."""
    normals = _random.standard_normals(
        settings.seed, "model_error", split, n, (settings.n_obs, 3), first=first
    )
    return model_errors(normals, settings.model_error_covariance)
