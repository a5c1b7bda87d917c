"""Diagnostics of the analysis errors of a cell, stored as small arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.lorenz63 import mirror, simulate
from l63fast.observation import ObservationOperator, as_operator
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

DIAGNOSTICS: Final = "diagnostics.nc"
_SCHEMA: Final = 1
N_WORST: Final = 3
_EXCERPT_TIME: Final = 10.0  # length of an excerpt (time units)
_EXCERPT_CYCLES: Final = (60, 300)  # smallest and largest length of an excerpt
_N_LEADS: Final = 50
_LEAD_STEP: Final = 0.1  # between two lead times (time units)
_MAX_FORECASTS: Final = 1000
_BINS: Final = 61
_AGE_BINS: Final = 4  # in the mean time between observations
_FEWEST: Final = 30  # errors of which a mean is shown
_SHOWN_PERCENT: Final = 98.0  # of the needed increments, in the range of the histogram
MAP_EDGES: Final = (np.linspace(-21.0, 21.0, 43), np.linspace(0.0, 50.0, 51))  # x, z


def diagnose(
    estimates: Estimates, data: TwinSettings, *, cycled: bool = True
) -> xarray.Dataset:
    """Return failures, forecast errors, error map and increments of the analyses.

    Parameters
    ----------
    estimates : Estimates
    data : TwinSettings
        The settings of the twin experiment.
    cycled : bool
        Whether the backgrounds are the method's own forecasts.
    """
    import xarray as xr

    operator = as_operator(data.operator)
    blind = operator.is_mirror_blind
    errors = instantaneous_rms(estimates.analysis, estimates.truth, mirror_aware=blind)
    judged = sign_resolved(estimates) if blind else estimates
    kinds = classify_failures(judged.analysis, judged.truth)
    counts = np.bincount(kinds.ravel(), minlength=len(Failure))
    variables = {
        "failure_share": (("kind",), counts / kinds.size),
        **excerpts(estimates, errors, kinds, data),
        **forecast_errors(judged, data),
        **(errors_by_age(estimates, errors, data) if cycled and data.gaps else {}),
        **(spread_by_age(estimates, data) if cycled and data.gaps else {}),
        **error_map(estimates.truth, errors),
        **increments(judged, operator),
        **parameter_errors(estimates),
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
        "operator": data.operator_name,
        "far_off": FAR_OFF,
        "n_trajectories": estimates.truth.shape[0],
        "n_times": estimates.truth.shape[1],
    }
    return xr.Dataset(variables, coordinates, attributes)


def sign_resolved(estimates: Estimates) -> Estimates:
    """Return estimates, mirrored where that brings the analysis nearer to the truth.

    The background is mirrored together with the analysis, so that their difference is
    still an increment.
    """
    plain, mirrored = mean_squares(estimates.analysis, estimates.truth)
    flip = (mirrored < plain)[..., None]
    return replace(
        estimates,
        analysis=np.where(flip, mirror(estimates.analysis), estimates.analysis),
        background=np.where(flip, mirror(estimates.background), estimates.background),
    )


def excerpts(
    estimates: Estimates, errors: np.ndarray, kinds: np.ndarray, data: TwinSettings
) -> dict[str, Any]:
    """Return parts of the worst trajectories and the median one, at the largest error.

    Trajectories are sorted by the time mean of the error; non-finite errors are worst.
    """
    finite = np.where(np.isfinite(errors), errors, np.inf)
    order = np.argsort(finite.mean(axis=1), kind="stable")
    chosen = np.array([*order[::-1][:N_WORST], order[(len(order) - 1) // 2]])
    worst = finite[chosen].argmax(axis=1)
    n_times, (low, high) = len(estimates.times), _EXCERPT_CYCLES
    interval = data.steps_per_cycle * data.dt
    length = min(max(round(_EXCERPT_TIME / interval), low), high, n_times)
    # Three quarters of an excerpt are before the largest error, to show its cause.
    starts = np.clip(worst - (3 * length) // 4, 0, n_times - length)
    at = (chosen[:, None], starts[:, None] + np.arange(length))
    dims = ("excerpt", "cycle")
    return {
        "excerpt_trajectory": (("excerpt",), chosen.astype(np.int32)),
        "excerpt_rms": (("excerpt",), errors[chosen].mean(axis=1)),
        "excerpt_largest": (("excerpt",), errors[chosen, worst]),
        "excerpt_failure": (("excerpt",), kinds[chosen, worst]),
        "excerpt_failed": (("excerpt",), (kinds[chosen] > 0).mean(axis=1)),
        "excerpt_time": (dims, estimates.times[at[1]]),
        **{
            f"excerpt_{name}": ((*dims, "component"), getattr(estimates, name)[at])
            for name in ("truth", "background", "analysis")
        },
        "excerpt_observations": ((*dims, "observed"), estimates.observations[at]),
    }


def forecast_errors(judged: Estimates, data: TwinSettings) -> dict[str, Any]:
    """Return mean and percentiles of the forecast error as functions of lead time.

    Forecasts start from analyses that are spread evenly over trajectories and times.
    They are compared with forecasts from the truth, both without model error, so that
    only the analysis error grows. A non-finite forecast has an infinite error in the
    percentiles and makes the mean NaN.
    """
    step = max(round(_LEAD_STEP / data.dt), 1)
    size = judged.truth[..., 0].size
    pick = np.unique(np.linspace(0, size - 1, min(_MAX_FORECASTS, size)).astype(int))
    starts = np.stack(
        [states.reshape(-1, 3)[pick] for states in (judged.analysis, judged.truth)]
    )
    finite = np.isfinite(starts).all(axis=(0, 2))
    paths = simulate(
        np.where(finite[None, :, None], starts, 0.0),
        _N_LEADS * step,
        dt=data.dt,
        save_every=step,
        parameters=data.parameters,
        on_divergence="nan",
        allow_large_dt=True,
    )
    error = np.sqrt(mean_squares(paths[0], paths[1])[0])
    error[~finite] = np.nan
    whole = np.where(np.isfinite(error), error, np.inf)
    low, median, high = np.percentile(whole, (10.0, 50.0, 90.0), axis=0, method="lower")
    dims = ("lead",)
    return {
        "lead": (dims, step * data.dt * np.arange(_N_LEADS + 1)),
        "forecast_error": (dims, error.mean(axis=0)),
        "forecast_error_median": (dims, median),
        "forecast_error_low": (dims, low),
        "forecast_error_high": (dims, high),
        "n_forecasts": ((), np.int32(len(pick))),
    }


def errors_by_age(
    estimates: Estimates, errors: np.ndarray, data: TwinSettings
) -> dict[str, Any]:
    """Return the mean error by the time since the last observation, in bins.

    At time 0 it is the error of analyses with an observed value, later that of the
    backgrounds, before the next analysis. Bins with few of them are left out.
    """
    present, last = _last_observed(estimates)
    since = estimates.times[1:] - last[:, :-1]
    known = np.isfinite(since)  # nothing may have been observed yet
    blind = as_operator(data.operator).is_mirror_blind
    of_forecasts = instantaneous_rms(
        estimates.background, estimates.truth, mirror_aware=blind
    )[:, 1:]
    age = np.concatenate([np.zeros(np.count_nonzero(present)), since[known]])
    error = np.concatenate([errors[present], of_forecasts[known]])
    ages, means = _binned(age, error, data)
    return {"age": (("age",), ages), "age_error": (("age",), means)}


def spread_by_age(estimates: Estimates, data: TwinSettings) -> dict[str, Any]:
    """Return the claimed spread by the time since the last observation, in bins.

    At time 0 it is the root mean square spread of analyses with an observed value,
    later that of analyses without one. It is empty for a method without a spread.
    """
    if estimates.spread is None:
        return {}
    age = estimates.times - _last_observed(estimates)[1]
    known = np.isfinite(age)
    variance = (estimates.spread**2).mean(axis=-1)[known]
    ages, means = _binned(age[known], variance, data)
    return {"gap": (("gap",), ages), "gap_spread": (("gap",), np.sqrt(means))}


def _last_observed(estimates: Estimates) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a value was observed, and the last such time up to each time.

    The time is -infinity where nothing was observed before.
    """
    present, times = np.isfinite(estimates.observations).any(axis=-1), estimates.times
    return present, np.maximum.accumulate(np.where(present, times, -np.inf), axis=1)


def _binned(age: np.ndarray, values: np.ndarray, data: TwinSettings) -> list[Any]:
    """Return the mean ages and values of the bins that hold enough of them."""
    bins = np.rint(_AGE_BINS * age / (data.steps_per_cycle * data.dt)).astype(int)
    counts = np.bincount(bins)
    enough = counts >= _FEWEST
    return [np.bincount(bins, v)[enough] / counts[enough] for v in (age, values)]


def parameter_errors(estimates: Estimates) -> dict[str, Any]:
    """Return errors of estimated parameters against time, and those of trajectory 0.

    The errors are root mean squares over all trajectories. Of the first trajectory,
    which is the same for all methods: the truth, the estimate and half the width of its
    90 % interval. The result is empty if a method estimates no parameters.
    """
    found, truth = estimates.parameters, estimates.true_parameters
    if found is None or truth is None:
        return {}
    dims, half = ("parameter_time", "parameter"), estimates.parameters_half_width
    errors = np.sqrt(((found - truth[:, None]) ** 2).mean(axis=0))
    return {
        "parameter": ("parameter", ["sigma", "rho", "beta"]),
        "parameter_time": ("parameter_time", estimates.times),
        "parameter_error": (dims, errors),
        "parameter_estimate": (dims, found[0]),
        "parameter_half_width": (dims, half[0]),
        "parameter_truth": ("parameter", truth[0]),
    }


def error_map(truth: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Return mean squared error and number of analyses on a grid of true x and z."""
    x, z, edges = truth[..., 0].ravel(), truth[..., 2].ravel(), list(MAP_EDGES)
    counts = np.histogram2d(x, z, bins=edges)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.histogram2d(x, z, bins=edges, weights=(errors**2).ravel())[0]
        mean = np.where(counts > 0, total / counts, np.nan)
    dims = ("map_x", "map_z")
    return {
        "map_square": (dims, mean.astype(np.float32)),
        "map_count": (dims, counts.astype(np.int32)),
    }


def increments(judged: Estimates, operator: ObservationOperator) -> dict[str, Any]:
    """Return statistics of the increments x_a - x_b and of those needed, x_t - x_b.

    For each component: histograms, root mean squares and correlation. Non-finite
    increments are left out; `failure_share` counts them. The result is empty if no
    increment is finite.

    For a linear operator also two gains, each a least-squares fit to the innovations
    d = y - H x_b: `gain` of the increments made, `gain_needed` of those needed. For a
    linear scheme the first is its K; the second is the best linear gain for these
    backgrounds. `gain_explained` is the share of the squared increments that K d
    explains. The gains are those of the analyses whose values are all observed.
    """
    background = judged.background.reshape(-1, 3)
    made = judged.analysis.reshape(-1, 3) - background
    finite = np.isfinite(made).all(axis=-1)
    if not finite.any():
        return {}
    made, needed = made[finite], (judged.truth.reshape(-1, 3) - background)[finite]
    reach = np.maximum(np.percentile(np.abs(needed), _SHOWN_PERCENT, axis=0), 1e-12)
    edges = np.array([np.linspace(-end, end, _BINS + 1) for end in reach])
    shares = {
        name: [np.histogram(v, e)[0] / len(v) for v, e in zip(rows, edges, strict=True)]
        for name, rows in (("increment_share", made.T), ("increment_needed", needed.T))
    }
    squares = [(made**2).mean(axis=0), (needed**2).mean(axis=0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        together = (made * needed).mean(axis=0) / np.sqrt(squares[0] * squares[1])
    component = ("component",)
    statistics = {
        "increment_edges": ((*component, "edge"), edges),
        **{name: ((*component, "bin"), np.array(v)) for name, v in shares.items()},
        "increment_rms": (component, np.sqrt(squares[0])),
        "increment_needed_rms": (component, np.sqrt(squares[1])),
        "increment_correlation": (component, together),
    }
    if not operator.is_linear:
        return statistics
    observations = judged.observations.reshape(len(background), -1)
    innovation = (observations - operator(background))[finite]
    whole = np.isfinite(innovation).all(axis=-1)
    if not whole.any():
        return statistics
    made, needed, innovation = made[whole], needed[whole], innovation[whole]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain, best = (
            np.linalg.lstsq(innovation, states, rcond=None)[0].T
            for states in (made, needed)
        )
        left = ((made - innovation @ gain.T) ** 2).mean(axis=0)
        explained = 1.0 - left / (made**2).mean(axis=0)
    dims = ("component", "observed")
    return {
        **statistics,
        "gain": (dims, gain),
        "gain_needed": (dims, best),
        "gain_explained": (component, explained),
    }
