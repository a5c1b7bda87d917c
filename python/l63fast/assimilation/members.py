"""Keep members that are no longer finite from stopping their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from l63fast.assimilation.scheme import Analysis, Status
from l63fast.lorenz63 import Lorenz63, forecast, propagator

__all__ = ["finite_members", "forecast_members", "propagate_members"]


def forecast_members(
    state: np.ndarray,
    n_steps: int,
    *,
    dt: float,
    parameters: Lorenz63,
    n_threads: int | None = None,
    backend: str = "auto",
) -> np.ndarray:
    """Return the states (..., 3) `n_steps` later; what is or becomes non-finite is NaN.

    The model refuses non-finite states, as it should: nothing but a scheme that counts
    its diverged members may carry them on.
    """
    finite = np.isfinite(state).all(axis=-1)
    everyone = bool(finite.all())
    later = forecast(
        state if everyone else state[finite],
        n_steps,
        dt=dt,
        parameters=parameters,
        n_threads=n_threads,
        backend=backend,
        on_divergence="nan",
    )
    return later if everyone else _scattered(later, finite, np.nan)


def propagate_members(
    state: np.ndarray,
    n_steps: int,
    *,
    dt: float,
    parameters: Lorenz63,
    n_threads: int | None = None,
    backend: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the states (n, 3) `n_steps` later and their resolvents M (n, 3, 3).

    As `forecast_members`: what is or becomes non-finite is NaN.
    """
    finite = np.isfinite(state).all(axis=-1)
    later, M = propagator(
        state[finite],
        n_steps,
        dt=dt,
        parameters=parameters,
        n_threads=n_threads,
        backend=backend,
        on_divergence="nan",
    )
    return _scattered(later, finite, np.nan), _scattered(M, finite, np.nan)


def finite_members(
    analyse: Callable[..., Analysis], finite: np.ndarray, *arrays: np.ndarray
) -> Analysis:
    """Return `analyse(*arrays)`, done for the finite members only.

    Parameters
    ----------
    analyse : callable
        Takes as many arrays, of the finite members.
    finite : (n,) bool
        Which members those are.
    *arrays : (n, ...)
        Backgrounds, observations and what else the analysis needs.

    Returns
    -------
    Analysis
        NaN with `Status.NON_FINITE` for the others.
    """
    if finite.all():
        return analyse(*arrays)
    part = analyse(*(array[finite] for array in arrays))
    fills = {"status": Status.NON_FINITE, "n_iter": 0}
    values = {item.name: getattr(part, item.name) for item in fields(Analysis)}
    return Analysis(
        **{
            name: _scattered(value, finite, fills.get(name, np.nan))
            for name, value in values.items()
            if value is not None
        }
    )


def _scattered(values: np.ndarray, chosen: np.ndarray, fill: float) -> np.ndarray:
    full = np.full((*chosen.shape, *values.shape[1:]), fill, dtype=values.dtype)
    full[chosen] = values
    return full
