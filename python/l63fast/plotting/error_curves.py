"""Errors of several methods: their mean against time, and their distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._series import begun
from l63fast.plotting._style import (
    COLUMN,
    TIME_LABEL,
    look,
    new_figure,
    plain_log,
    shown,
    styled,
)

__all__ = ["error_against_time", "error_distribution"]

ERROR_LABEL: Final = "error (rms over components)"
BAND: Final = (10.0, 90.0)  # percentiles over trajectories
MOST_POINTS: Final = 1000  # of one distribution curve


@styled
def error_against_time(
    times: np.ndarray,
    errors: Mapping[str, np.ndarray],
    *,
    label: str = ERROR_LABEL,
) -> Figure:
    """Return the mean error against time, with its 10-90 % band over trajectories.

    One panel per method, since the bands overlap; the thin lines are the other means,
    the number in each title is the mean over time and trajectories.

    Parameters
    ----------
    times : (n_times,) time units
    errors : method -> (n_trajectories, n_times)
        Error of each analysis: NaN before the first one; what is not finite later
        diverged, is left out of mean and band, and counted in the title.
    label : str
        What the error is, for the vertical axis.

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
    if not checked:
        raise ArgumentValueError("errors: expected at least one method, got none")
    n_columns = min(len(checked), 3)
    n_rows = -(-len(checked) // n_columns)
    fig = new_figure(COLUMN, 0.9 + 2.3 * n_rows)
    axes = fig.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for spare in axes.flat[len(checked) :]:
        spare.remove()
    for ax, name in zip(axes.flat, checked, strict=False):
        _draw_band(ax, times, checked[name], name)
        for other, error in checked.items():
            _draw_mean(ax, times, error, other, bold=other == name)
        ax.set_title(_summary(name, checked[name]), color=look(name).color)
    for ax in axes.flat[: len(checked)]:  # after all are drawn, as they share the axis
        plain_log(ax, "y")
        ax.margins(x=0.0)
    fig.suptitle("mean over trajectories, with 10–90 % band", fontsize=9.0)
    fig.supxlabel(TIME_LABEL, fontsize=9.0)
    fig.supylabel(label, fontsize=9.0)
    return fig


def _summary(name: str, error: np.ndarray) -> str:
    lost = _diverged(error)
    note = f"\n({lost} of {len(error)} diverged)" if lost else ""
    return f"{name}: {shown(float(np.nanmean(error)))}{note}"


def _diverged(error: np.ndarray) -> int:
    return int((begun(error) & ~np.isfinite(error)).any(axis=1).sum())


def _draw_band(ax: Axes, times: np.ndarray, error: np.ndarray, name: str) -> None:
    there = np.isfinite(error).any(axis=0)
    low, high = np.nanpercentile(error[:, there], BAND, axis=0)
    ax.fill_between(
        times[there], low, high, color=look(name).color, alpha=0.22, linewidth=0.0
    )


def _draw_mean(
    ax: Axes, times: np.ndarray, error: np.ndarray, name: str, *, bold: bool
) -> None:
    there = np.isfinite(error).any(axis=0)
    drawn = look(name)
    ax.plot(
        times[there],
        np.nanmean(error[:, there], axis=0),
        color=drawn.color,
        linestyle=drawn.linestyle if bold and len(times) <= 300 else "-",
        linewidth=1.2 if bold else 0.6,
        marker="o" if there.sum() < 3 else "",
        label=name,
        zorder=3.0 if bold else 2.0,
    )


@styled
def error_distribution(
    errors: Mapping[str, np.ndarray], *, label: str = ERROR_LABEL
) -> Figure:
    """Return the share of samples with less, and with more, than a given error.

    Left: the distribution with its median and 95th percentile; right: its tail.

    Parameters
    ----------
    errors : method -> (n_trajectories, n_times)
        Error of each analysis: NaN before the first one; what is not finite later
        diverged and counts as larger than any.
    label : str
        What the error is, for the horizontal axes.

    Raises
    ------
    ArgumentValueError
        If nothing is finite.
    """
    fig = new_figure(COLUMN, 3.4)
    body, tail = fig.subplots(1, 2)
    for name, given in errors.items():
        error = _finite(f"errors[{name!r}]", given, None)
        _draw_distribution(body, tail, name, error)
    body.set_ylabel("share of samples with a smaller error")
    tail.set_ylabel("share of samples with a larger error")
    for ax in (body, tail):
        plain_log(ax, "x")
        ax.set_xlabel(label)
    plain_log(tail, "y")
    fig.legend(
        loc="outside upper center",
        ncols=3,
        title="median, 95th percentile (the dots)",
        title_fontsize=8.5,
    )
    return fig


def _draw_distribution(body: Axes, tail: Axes, name: str, error: np.ndarray) -> None:
    # What diverged has an infinite error: it counts in the shares, off the axes.
    ordered = np.sort(np.where(np.isfinite(error), error, np.inf)[begun(error)])
    n_samples, n_finite = ordered.size, int(np.isfinite(ordered).sum())
    thin = np.linspace(0, n_finite - 1, MOST_POINTS).astype(int)
    pick = np.union1d(thin, np.arange(max(n_finite - 100, 0), n_finite))
    marked = np.percentile(ordered, (50.0, 95.0), method="inverted_cdf")
    drawn = look(name)
    line: dict[str, Any] = {"color": drawn.color, "linestyle": drawn.linestyle}
    dots: dict[str, Any] = {
        "color": drawn.color,
        "linestyle": "none",
        "marker": "o",
        "markersize": 4.5,
    }
    body.plot(
        ordered[pick],
        (pick + 1) / n_samples,
        drawstyle="steps-post",
        label=f"{name}: {shown(marked[0])}, {shown(marked[1])}",
        **line,
    )
    tail.plot(ordered[pick], 1.0 - pick / n_samples, drawstyle="steps-pre", **line)
    on_axes = np.isfinite(marked)
    body.plot(marked[on_axes], np.array([0.5, 0.95])[on_axes], **dots)
    tail.plot(marked[on_axes], np.array([0.5, 0.05])[on_axes], **dots)


def _finite(name: str, value: np.ndarray, n_times: int | None) -> np.ndarray:
    error = _checks.array(name, value, shape=(None, n_times))
    error[~np.isfinite(error)] = np.nan
    if not np.isfinite(error).any():
        raise ArgumentValueError(f"{name}: expected some finite values, got none")
    return error
