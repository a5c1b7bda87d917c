"""Simulated splits: truth from the model, observations from keyed noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast import _checks, _random
from l63fast.lorenz63 import model_errors, simulate, spin_up
from l63fast.observation import ObservationOperator
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.split import Split, make_split

__all__ = ["drawn_model_errors", "drawn_observation_errors", "generated_splits"]


def generated_splits(
    settings: TwinSettings, R: np.ndarray, n_threads: int | None, backend: str
) -> dict[str, Split]:
    """Return the three splits; memory for all of them is asked for first."""
    operator = ObservationOperator(settings.operator)
    n = sum(settings.n_trajectories(name) for name in SPLIT_NAMES)
    values = settings.n_saved * 3 + 3 * settings.n_obs * operator.obs_dim
    if settings.Q != 0.0:
        values += 9 * settings.n_obs
    _checks.memory("n_train + n_val + n_test", 8 * n * values)
    splits = {}
    for name in SPLIT_NAMES:
        truth = _simulated(name, settings, n_threads, backend)
        observations = _observed(name, truth, operator, settings)
        splits[name] = make_split(name, truth, observations, settings, R)
    return splits


def _simulated(
    name: str, settings: TwinSettings, n_threads: int | None, backend: str
) -> np.ndarray:
    initial = spin_up(
        settings.n_trajectories(name),
        seed=settings.seed,
        split=name,
        time=settings.spin_up_time,
        dt=settings.dt,
        parameters=settings.parameters,
        n_threads=n_threads,
        backend=backend,
    )
    model: dict[str, Any] = {
        "dt": settings.dt,
        "save_every": settings.save_every,
        "parameters": settings.parameters,
        "n_threads": n_threads,
        "backend": backend,
    }
    if settings.Q == 0.0:
        return simulate(initial, settings.n_steps, **model)
    return _with_model_error(name, initial, settings, model)


def _with_model_error(
    name: str, initial: np.ndarray, settings: TwinSettings, model: dict[str, Any]
) -> np.ndarray:
    """Return trajectories that take up an error N(0, Q) at the end of each cycle."""
    errors = drawn_model_errors(name, settings)
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
    name: str,
    truth: np.ndarray,
    operator: ObservationOperator,
    settings: TwinSettings,
) -> np.ndarray:
    stride = settings.steps_per_cycle // settings.save_every
    perfect = operator(truth[:, stride::stride])
    return np.asarray(perfect + drawn_observation_errors(name, settings))


def drawn_observation_errors(name: str, settings: TwinSettings) -> np.ndarray:
    """Return the errors in the observations of a split, (n, n_obs, obs_dim)."""
    noise = _random.standard_normals(
        settings.seed,
        "observation",
        name,
        settings.n_trajectories(name),
        (settings.n_obs, ObservationOperator(settings.operator).obs_dim),
    )
    return np.asarray(settings.observation_errors(noise))


def drawn_model_errors(name: str, settings: TwinSettings) -> np.ndarray:
    """Return what the truth of a split takes up at each cycle's end, (n, n_obs, 3)."""
    normals = _random.standard_normals(
        settings.seed,
        "model_error",
        name,
        settings.n_trajectories(name),
        (settings.n_obs, 3),
    )
    return model_errors(normals, settings.model_error_covariance)
