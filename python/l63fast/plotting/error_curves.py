"""Figures of errors: against time, their distribution, and growth in forecasts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting import _style
from l63fast.plotting.trajectories import begun

_ERROR_LABEL: Final = "error (rms over components)"
_BAND: Final = (10.0, 90.0)  # percentiles over trajectories
_MOST_POINTS: Final = 1000  # of one distribution curve


@_style.styled
def error_against_time(
    times: np.ndarray,
    errors: Mapping[str, np.ndarray],
    *,
    label: str = _ERROR_LABEL,
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of the mean error against time, with a 10-90 % band.

    There is one panel per method, because the bands over trajectories overlap. Thin
    lines are the means of the other methods; the number in a title is the mean over
    time and trajectories.

    Parameters
    ----------
    times : (n_times,) time units
    errors : method -> (n_trajectories, n_times)
        Error of each analysis; NaN before the first one. A later non-finite error is
        left out of mean and band, and its trajectory counted in the title.
    label : str
        Name of the error, for the vertical axis.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together or nothing is finite.
    """
    times = _checks.array("times", times, shape=(None,))
    checked = {
        name: _finite(f"errors[{name!r}]", given, len(times))
        for name, given in errors.items()
    }
    _style.require("errors", checked)
    fig, axes = _style.panel_grid(len(checked), min(len(checked), 3), 0.9, 2.3)
    drawn = _style.looks(checked, among)
    for ax, name in zip(axes, checked, strict=True):
        for other, error in checked.items():
            _draw_mean(ax, times, error, other, drawn[other], bold=other == name)
        lost = _n_not_finite(checked[name])
        note = f"\n({lost} of {len(checked[name])} not finite)" if lost else ""
        mean = _style.shown(float(np.nanmean(checked[name])))
        ax.set_title(f"{name}: {mean}{note}", color=drawn[name].color)
    for ax in axes:  # after all are drawn, as they share the axis
        _style.plain_log(ax, "y")
        ax.margins(x=0.0)
    fig.suptitle("mean over trajectories, with 10–90 % band", fontsize=9.0)
    fig.supxlabel(_style.TIME_LABEL)
    fig.supylabel(label)
    return fig


def _n_not_finite(error: np.ndarray) -> int:
    return int((begun(error) & ~np.isfinite(error)).any(axis=1).sum())


def _draw_mean(
    ax: Axes,
    times: np.ndarray,
    error: np.ndarray,
    name: str,
    look: _style.Look,
    *,
    bold: bool,
) -> None:
    """Draw the mean of a method; if `bold`, the method of the panel, with its band."""
    finite = np.isfinite(error).any(axis=0)
    times, error = times[finite], error[:, finite]
    if bold:
        low, high = np.nanpercentile(error, _BAND, axis=0)
        ax.fill_between(times, low, high, color=look.color, alpha=0.22, linewidth=0.0)
    ax.plot(
        times,
        np.nanmean(error, axis=0),
        color=look.color,
        linestyle=look.linestyle if bold and len(finite) <= 300 else "-",
        linewidth=1.2 if bold else 0.6,
        marker="o" if len(times) < 3 else "",
        label=name,
        zorder=3.0 if bold else 2.0,
    )


@_style.styled
def error_distribution(
    errors: Mapping[str, np.ndarray],
    *,
    label: str = _ERROR_LABEL,
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of the distribution of errors, a curve per method.

    Left: the distribution function with median and 95th percentile; right: its tail.

    Parameters
    ----------
    errors : method -> (n_trajectories, n_times)
        Error of each analysis; NaN before the first one. A later non-finite error
        counts as infinite.
    label : str
        Name of the error, for the horizontal axes.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If nothing is finite.
    """
    fig = _style.new_figure(_style.COLUMN, 3.4)
    body, tail = fig.subplots(1, 2)
    for name, look in _style.looks(errors, among).items():
        error = _finite(f"errors[{name!r}]", errors[name], None)
        _draw_distribution(body, tail, name, error, look)
    body.set_ylabel("share of samples with a smaller error")
    tail.set_ylabel("share of samples with a larger error")
    for ax in (body, tail):
        _style.plain_log(ax, "x")
        ax.set_xlabel(label)
    _style.plain_log(tail, "y")
    title = "median, 95th percentile (the dots)"
    fig.legend(loc="outside upper center", ncols=3, title=title)
    return fig


def _draw_distribution(
    body: Axes, tail: Axes, name: str, error: np.ndarray, look: _style.Look
) -> None:
    # An error that is not finite counts in the shares and is not drawn.
    ordered = np.sort(np.where(np.isfinite(error), error, np.inf)[begun(error)])
    n_samples, n_finite = ordered.size, int(np.isfinite(ordered).sum())
    thin = np.linspace(0, n_finite - 1, _MOST_POINTS).astype(int)
    pick = np.union1d(thin, np.arange(max(n_finite - 100, 0), n_finite))
    marked = np.percentile(ordered, (50.0, 95.0), method="inverted_cdf")
    text = f"{name}: {_style.shown(marked[0])}, {_style.shown(marked[1])}"
    on_axes = np.isfinite(marked)
    dots: dict[str, Any] = look.mark | {"marker": "o", "markersize": 4.5}
    for ax, steps, shares, ends, label in (
        (body, "steps-post", (pick + 1) / n_samples, (0.5, 0.95), text),
        (tail, "steps-pre", 1.0 - pick / n_samples, (0.5, 0.05), None),
    ):
        ax.plot(ordered[pick], shares, drawstyle=steps, label=label, **look.line)
        ax.plot(marked[on_axes], np.array(ends)[on_axes], **dots)


def _finite(name: str, value: np.ndarray, n_times: int | None) -> np.ndarray:
    error = _checks.array(name, value, shape=(None, n_times))
    error[~np.isfinite(error)] = np.nan
    if not np.isfinite(error).any():
        raise ArgumentValueError(f"{name}: expected some finite values, got none")
    return error


class ErrorGrowth(NamedTuple):
    """Error of forecasts against lead time.

    `lead` (n_leads,) in time units; `mean`, `low` and `high` (n_leads,): mean, 10th and
    90th percentile of the error.
    """

    lead: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@_style.styled
def error_since_observed(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    label: str = _ERROR_LABEL,
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the mean error against the time since the last observation.

    Parameters
    ----------
    curves : method -> (n,) and (n,)
        Times (time units) and errors.
    label, among
        As in `error_against_time`.
    ax, style
        As in `forecast_growth`.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("curves", curves)
    fig, ax, legend = _style.single(3.6, ax, style)
    for method, look in _style.looks(curves, among).items():
        ax.plot(*curves[method], label=method, marker=".", **look.line)
    _style.plain_log(ax, "y")
    ax.set(xlabel="time since the last observation (time units)", ylabel=label)
    legend(loc="outside upper center", ncols=min(len(curves), 3))
    return fig


class ParameterEstimates(NamedTuple):
    """Estimates of the parameters of the model by a method, at n_times.

    `estimate` and `half_width` (n_times, 3) are those of sigma, rho and beta in one
    trajectory, with half the width of their 90 % intervals; `error` (n_times, 3): root
    mean square error over all trajectories.
    """

    estimate: np.ndarray
    half_width: np.ndarray
    error: np.ndarray


@_style.styled
def parameter_estimates(
    times: np.ndarray,
    truth: np.ndarray,
    methods: Mapping[str, ParameterEstimates],
    *,
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of estimated parameters (above) and their errors against time.

    A parameter that every method knows, without any error, has no column.

    Parameters
    ----------
    times : (n_times,) time units
    truth : (3,) true sigma, rho and beta of the trajectory that is shown
    methods : method -> ParameterEstimates
    among
        As in `error_against_time`.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together, or no method has an error.
    """
    times = _checks.array("times", times, shape=(None,))
    truth = _checks.array("truth", truth, shape=(3,))
    shape, checked = (len(times), 3), {}
    for name, given in methods.items():
        arrays = zip(given._fields, given, strict=True)
        checked[name] = ParameterEstimates(
            *(_checks.array(f"{name}: {k}", v, shape=shape) for k, v in arrays)
        )
    _style.require("methods", checked)
    errors = np.stack([method.error for method in checked.values()])
    columns = np.flatnonzero((errors != 0.0).any(axis=(0, 1)))
    _style.require("methods", columns, "an estimated parameter")
    fig = _style.new_figure(_style.COLUMN, 4.4)
    axes = fig.subplots(2, len(columns), sharex=True, squeeze=False)
    for (above, below), c in zip(axes.T, columns.tolist(), strict=True):
        above.axhline(truth[c], label="truth", **_style.TRUTH.line)
        for name, look in _style.looks(checked, among).items():
            estimate, half, error = (values[:, c] for values in checked[name])
            ends = estimate - half, estimate + half
            above.fill_between(times, *ends, color=look.color, alpha=0.2, linewidth=0)
            above.plot(times, estimate, label=name, **look.line)
            below.plot(times, error, **look.line)
        above.set_title(("sigma", "rho", "beta")[c])
        _style.plain_log(below, "y", narrow=True)
        below.margins(x=0.0)
    _style.label_rows(axes, ("one trajectory", "rms error, all trajectories"))
    fig.supxlabel(_style.TIME_LABEL)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return fig


def horizon(growth: ErrorGrowth, limit: float) -> float:
    """Return the lead time at which the mean error reaches a limit, infinite if never.

    Between two lead times the logarithm of the error is interpolated linearly.
    """
    lead, mean = np.asarray(growth.lead), np.asarray(growth.mean)
    above = np.flatnonzero(~(mean < limit))
    if not above.size:
        return math.inf
    k = int(above[0])
    if k == 0 or not np.isfinite(mean[k]) or mean[k - 1] <= 0.0:
        return float(lead[k])
    part = math.log(limit / mean[k - 1]) / math.log(mean[k] / mean[k - 1])
    return float(lead[k - 1] + part * (lead[k] - lead[k - 1]))


@_style.styled
def forecast_growth(
    curves: Mapping[str, ErrorGrowth],
    *,
    limit: float,
    band: str = "",
    label: str = "error of the forecast (rms)",
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the mean error of forecasts against lead time.

    Parameters
    ----------
    curves : method -> ErrorGrowth
    limit : float
        Largest error of a useful forecast; the legend gives the lead time at which the
        mean error reaches it.
    band : str
        The method whose 10-90 % band is drawn.
    label : str
        Name of the error, for the vertical axis.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("curves", curves)
    limit = _checks.real("limit", limit, above=0.0)
    fig, ax, legend = _style.single(3.9, ax, style)
    for method, look in _style.looks(curves, among).items():
        growth = curves[method]
        at = horizon(growth, limit)
        text = f"{method}: {at:.1f}" if math.isfinite(at) else f"{method}: beyond"
        ax.plot(growth.lead, growth.mean, label=text, **look.line)
        if method == band:
            ends = (growth.low, growth.high)
            ax.fill_between(
                growth.lead, *ends, color=look.color, alpha=0.2, linewidth=0
            )
    ax.axhline(limit, color=_style.GREY, linewidth=0.8, linestyle=":")
    _style.write_at_right(ax, limit, f"{limit:g}", 3.0)
    _style.plain_log(ax, "y")
    ax.margins(x=0.0)
    ax.set(xlabel="lead time (time units)", ylabel=label)
    title = f"lead time at which the mean reaches {limit:g}"
    legend(loc="outside upper center", ncols=min(len(curves), 3), title=title)
    return fig
