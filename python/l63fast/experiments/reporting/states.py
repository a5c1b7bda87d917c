"""Excerpts of trajectories as figures take them: with all of the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from l63fast.experiments.reporting.subject import as_float
from l63fast.lorenz63 import simulate
from l63fast.plotting import Excerpt
from l63fast.twin import TwinSettings

if TYPE_CHECKING:
    import xarray

__all__ = ["between", "excerpt_of"]


def excerpt_of(
    data: xarray.Dataset, i: int, title: str, settings: TwinSettings
) -> Excerpt:
    """Return the i-th excerpt of diagnostics."""
    truth, background, analysis, times = (
        as_float(data, f"excerpt_{name}")[i]
        for name in ("truth", "background", "analysis", "time")
    )
    path, path_times = between(truth, times, settings)
    return Excerpt(title, times, truth, background, analysis, path, path_times)


def between(
    truth: np.ndarray, times: np.ndarray, settings: TwinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth (n_saved, 3) at every model step, and its times.

    Each interval is integrated from the truth at its start. Where that does not end on
    the next truth (a model error, or the user's own data) only what is stored is
    returned.
    """
    steps = settings.steps_per_cycle
    pieces = simulate(
        truth[:-1],
        steps,
        dt=settings.dt,
        parameters=settings.parameters,
        on_divergence="nan",
    )
    if not np.allclose(pieces[:, -1], truth[1:], rtol=0.0, atol=1e-6):
        return truth, times
    path = np.concatenate([pieces[:, :-1].reshape(-1, 3), truth[-1:]])
    return path, times[0] + settings.dt * np.arange(len(path))
