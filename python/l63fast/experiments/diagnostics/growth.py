"""Growth of the error in forecasts that start from analyses."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast.experiments.diagnostics.run import Run
from l63fast.lorenz63 import simulate
from l63fast.verification.measures import mean_squares

__all__ = ["forecast_errors"]

_LEADS: Final = 50
_EACH: Final = 0.1  # time units
_MOST: Final = 1000  # forecasts


def forecast_errors(run: Run) -> dict[str, Any]:
    """Return mean and spread of the error of forecasts against their lead time.

    Analyses evenly spread over trajectories and times are integrated without model
    error, and so is the truth from the same time: what grows is the analysis error.
    One that diverges counts as infinitely wrong in the percentiles and makes the mean
    NaN.
    """
    step = max(round(_EACH / run.data.dt), 1)
    size = run.truth.shape[0] * run.truth.shape[1]
    pick = np.unique(np.linspace(0, size - 1, min(_MOST, size)).astype(int))
    starts = np.stack(
        [states.reshape(-1, 3)[pick] for states in (run.judged.analysis, run.truth)]
    )
    finite = np.isfinite(starts).all(axis=(0, 2))
    paths = simulate(
        np.where(finite[None, :, None], starts, 0.0),
        _LEADS * step,
        dt=run.data.dt,
        save_every=step,
        parameters=run.data.parameters,
        on_divergence="nan",
        allow_large_dt=True,
    )
    error = np.sqrt(mean_squares(paths[0], paths[1])[0])
    error[~finite] = np.nan
    whole = np.where(np.isfinite(error), error, np.inf)
    low, median, high = np.percentile(whole, (10.0, 50.0, 90.0), axis=0, method="lower")
    dims = ("lead",)
    return {
        "lead": (dims, step * run.data.dt * np.arange(_LEADS + 1)),
        "forecast_error": (dims, error.mean(axis=0)),
        "forecast_error_median": (dims, median),
        "forecast_error_low": (dims, low),
        "forecast_error_high": (dims, high),
        "n_forecasts": ((), np.int32(len(pick))),
    }
