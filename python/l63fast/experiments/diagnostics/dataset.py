"""The diagnostics of a cell as one small dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from l63fast.experiments.diagnostics.excerpts import excerpts, failure_shares
from l63fast.experiments.diagnostics.growth import forecast_errors
from l63fast.experiments.diagnostics.increments import (
    MAP_EDGES,
    error_map,
    gains,
    increments,
)
from l63fast.experiments.diagnostics.run import Run
from l63fast.twin import TwinSettings
from l63fast.verification.failures import FAR_OFF, Failure

if TYPE_CHECKING:
    import xarray

__all__ = ["DIAGNOSTICS", "diagnose"]

DIAGNOSTICS: Final = "diagnostics.nc"
_SCHEMA: Final = 1


def diagnose(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    observations: np.ndarray,
    times: np.ndarray,
    data: TwinSettings,
) -> xarray.Dataset:
    """Return where, how and for how long analyses are wrong, as small arrays.

    Parameters
    ----------
    truth, background, analysis : (n_trajectories, n_times, 3)
    observations : (n_trajectories, n_times, obs_dim)
    times : (n_times,) since the start of a trajectory (time units)
    data : TwinSettings
        What they were made with.
    """
    import xarray as xr

    run = Run(truth, background, analysis, observations, times, data)
    variables = {
        **failure_shares(run),
        **excerpts(run),
        **forecast_errors(run),
        **error_map(run),
        **(increments(run) if np.isfinite(analysis).any() else {}),
        **(gains(run) if np.isfinite(analysis).any() else {}),
    }
    coordinates = {
        "component": ("component", list("xyz")),
        "kind": ("kind", [kind.words for kind in Failure]),
        "map_x_edge": ("map_x_edge", MAP_EDGES[0]),
        "map_z_edge": ("map_z_edge", MAP_EDGES[1]),
    }
    attributes = {
        "Conventions": "CF-1.11",
        "title": "Where, how and for how long the analyses of the test split are wrong",
        "source": "l63fast",
        "schema": _SCHEMA,
        "operator": data.operator,
        "far_off": FAR_OFF,
        "n_trajectories": truth.shape[0],
        "n_times": truth.shape[1],
    }
    return xr.Dataset(variables, coordinates, attributes)
