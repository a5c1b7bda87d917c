"""Where, how and for how long analyses are wrong: small arrays made once in a cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.lorenz63 import mirror, simulate
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings
from l63fast.verification import (
    FAR_OFF,
    Failure,
    classify_failures,
    instantaneous_rms,
    mean_squares,
)

if TYPE_CHECKING:
    import xarray

    from l63fast.experiments.protocols import Estimates

__all__ = ["DIAGNOSTICS", "diagnose"]

DIAGNOSTICS: Final = "diagnostics.nc"
_SCHEMA: Final = 1
N_WORST: Final = 3
_SPAN: Final = 10.0  # time units
_CYCLES: Final = (60, 300)  # at least and at most
_LEADS: Final = 50
_EACH: Final = 0.1  # time units
_MOST: Final = 1000  # forecasts
_BINS: Final = 61
_WITHIN: Final = 98.0  # per cent of what was needed that the histogram spans
MAP_EDGES: Final = (np.linspace(-21.0, 21.0, 43), np.linspace(0.0, 50.0, 51))  # x, z


def diagnose(found: Estimates, data: TwinSettings) -> xarray.Dataset:
    """Return where, how and for how long analyses are wrong, as small arrays.

    Parameters
    ----------
    found : Estimates
    data : TwinSettings
        What they were made with.
    """
    import xarray as xr

    run = Run(
        found.truth,
        found.background,
        found.analysis,
        found.observations,
        found.times,
        data,
    )
    is_any_finite = np.isfinite(found.analysis).any()
    variables = {
        **failure_shares(run),
        **excerpts(run),
        **forecast_errors(run),
        **error_map(run),
        **(increments(run) if is_any_finite else {}),
        **(gains(run) if is_any_finite else {}),
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
        "n_trajectories": found.truth.shape[0],
        "n_times": found.truth.shape[1],
    }
    return xr.Dataset(variables, coordinates, attributes)


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


def failure_shares(run: Run) -> dict[str, Any]:
    """Return the share of analyses of each kind of failure, "kind" in enum order."""
    kinds = classify_failures(run.judged.analysis, run.truth)
    counts = np.bincount(kinds.ravel(), minlength=len(Failure))
    return {"failure_share": (("kind",), counts / kinds.size)}


def excerpts(run: Run) -> dict[str, Any]:
    """Return the worst trajectories around their largest error, then the median one.

    Worst by the time mean of the error; one that is not finite is worse than any.
    """
    error = np.where(np.isfinite(run.errors), run.errors, np.inf)
    order = np.argsort(error.mean(axis=1), kind="stable")
    chosen = [*order[::-1][:N_WORST], order[(len(order) - 1) // 2]]
    kinds = classify_failures(run.judged.analysis, run.truth)
    starts, length = _windows(run, error[chosen])
    at = (np.array(chosen)[:, None], starts[:, None] + np.arange(length))
    worst = error[chosen].argmax(axis=1)
    dims = ("excerpt", "cycle")
    return {
        "excerpt_trajectory": (("excerpt",), np.array(chosen, dtype=np.int32)),
        "excerpt_rms": (("excerpt",), run.errors[chosen].mean(axis=1)),
        "excerpt_largest": (("excerpt",), run.errors[chosen, worst]),
        "excerpt_failure": (("excerpt",), kinds[chosen, worst]),
        "excerpt_failed": (("excerpt",), (kinds[chosen] > 0).mean(axis=1)),
        "excerpt_time": (dims, run.times[at[1]]),
        **{
            f"excerpt_{name}": ((*dims, last), getattr(run, name)[at])
            for name, last in (
                ("truth", "component"),
                ("background", "component"),
                ("analysis", "component"),
                ("observations", "observed"),
            )
        },
    }


def _windows(run: Run, error: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the first cycle of each excerpt, and the length of all."""
    n_times = len(run.times)
    interval = run.data.steps_per_cycle * run.data.dt
    low, high = _CYCLES
    length = min(max(round(_SPAN / interval), low), high, n_times)
    # Three quarters of an excerpt lead up to the largest error: how it came about.
    starts = error.argmax(axis=1) - (3 * length) // 4
    return np.clip(starts, 0, n_times - length), length


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


def error_map(run: Run) -> dict[str, Any]:
    """Return mean squared error and number of analyses by x and z of the truth."""
    square = run.errors**2
    x, z = run.truth[..., 0].ravel(), run.truth[..., 2].ravel()
    counts = np.histogram2d(x, z, bins=list(MAP_EDGES))[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.histogram2d(x, z, bins=list(MAP_EDGES), weights=square.ravel())[0]
        mean = np.where(counts > 0, total / counts, np.nan)
    dims = ("map_x", "map_z")
    return {
        "map_square": (dims, mean.astype(np.float32)),
        "map_count": (dims, counts.astype(np.int32)),
    }


def increments(run: Run) -> dict[str, Any]:
    """Return the distribution of increments x_a - x_b and of those needed, x_t - x_b.

    By component: shares per bin, root mean squares and their correlation. What is not
    finite is left out; `failure_share` counts it.
    """
    made, needed = _increments(run)
    names = ("increment_edges", "increment_share", "increment_needed")
    dims = {names[0]: "edge", names[1]: "bin", names[2]: "bin"}
    found: dict[str, list[Any]] = {name: [] for name in names}
    for c in range(3):
        reach = max(float(np.percentile(np.abs(needed[:, c]), _WITHIN)), 1e-12)
        edges = np.linspace(-reach, reach, _BINS + 1)
        found[names[0]].append(edges)
        found[names[1]].append(np.histogram(made[:, c], edges)[0] / len(made))
        found[names[2]].append(np.histogram(needed[:, c], edges)[0] / len(needed))
    squares = [(made**2).mean(axis=0), (needed**2).mean(axis=0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        together = (made * needed).mean(axis=0) / np.sqrt(squares[0] * squares[1])
    shares = {k: (("component", dims[k]), np.array(v)) for k, v in found.items()}
    return {
        **shares,
        "increment_rms": (("component",), np.sqrt(squares[0])),
        "increment_needed_rms": (("component",), np.sqrt(squares[1])),
        "increment_correlation": (("component",), together),
    }


def gains(run: Run) -> dict[str, Any]:
    """Return the gain that is in the increments, and the best for these backgrounds.

    Least squares of increments, made or needed, on innovations d = y - H x_b, for a
    linear operator: for a linear scheme the first is its K, and the second is the
    best linear analysis of the same backgrounds. `gain_explained` is the share of the
    square of the increments that the first explains.
    """
    if not run.operator.is_linear:
        return {}
    made, needed = _increments(run)
    background = run.background.reshape(-1, 3)
    innovation = run.observations.reshape(len(background), -1)
    innovation = innovation - run.operator(background)
    innovation = innovation[_finite(run)]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.linalg.lstsq(innovation, made, rcond=None)[0].T
        best = np.linalg.lstsq(innovation, needed, rcond=None)[0].T
        left = ((made - innovation @ gain.T) ** 2).mean(axis=0)
        explained = 1.0 - left / (made**2).mean(axis=0)
    dims = ("component", "observed")
    return {
        "gain": (dims, gain),
        "gain_needed": (dims, best),
        "gain_explained": (("component",), explained),
    }


def _finite(run: Run) -> np.ndarray:
    made = run.judged.analysis - run.judged.background
    return np.asarray(np.isfinite(made).all(axis=-1).ravel())


def _increments(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return increments made and needed (n, 3), of the analyses that are finite."""
    judged, finite = run.judged, _finite(run)
    made = (judged.analysis - judged.background).reshape(-1, 3)[finite]
    needed = (judged.truth - judged.background).reshape(-1, 3)[finite]
    if not finite.any():
        return np.full((1, 3), np.nan), np.full((1, 3), np.nan)
    return made, needed
