"""Truth, background, analysis and observations of chosen trajectories against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator
from l63fast.plotting._series import Series
from l63fast.plotting._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREY,
    PAGE,
    RED,
    TIME_LABEL,
    mark_lone_points,
    new_figure,
    plain_log,
    shown,
    styled,
)

__all__ = ["panels", "select_cases"]

# Estimates exist at observation times only: a curve through them would cut the peaks
# and look like an error, so the analysis is points and the background thin dashes.
_TRUTH: Final[dict[str, Any]] = {"color": BLACK, "linewidth": 1.0, "label": "truth"}
_BACKGROUND: Final[dict[str, Any]] = {
    "color": RED,
    "linestyle": "--",
    "linewidth": 1.0,
    "label": "background",
}
_ANALYSIS: Final[dict[str, Any]] = {
    "color": BLUE,
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.8,
    "markeredgewidth": 0.0,
    "label": "analysis",
}
_OBSERVATION: Final[dict[str, Any]] = {
    "color": GREY,
    "linestyle": "none",
    "marker": "o",
    "markersize": 4.2,
    "markerfacecolor": "none",
    "markeredgewidth": 0.7,
    "label": "observation",
    "zorder": 1.5,
}


def select_cases(errors: np.ndarray) -> dict[str, int]:
    """Return the indices of a good, a median and the worst trajectory.

    Parameters
    ----------
    errors : (n_trajectories,) mean error of the analysis over each trajectory
        A non-finite one (diverged) counts as the worst of all.

    Returns
    -------
    dict with the keys "good" (the one at the 10th percentile), "median", "worst"
    """
    errors = _checks.array("errors", errors, shape=(None,))
    if errors.size == 0:
        raise ArgumentValueError("errors: expected at least one, got none")
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    last = len(order) - 1
    ranks = {"good": round(0.1 * last), "median": round(0.5 * last), "worst": last}
    return {name: int(order[rank]) for name, rank in ranks.items()}


@styled
def panels(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    observations: np.ndarray,
    *,
    truth_times: np.ndarray,
    times: np.ndarray,
    operator: ObservationOperator | str,
    titles: Sequence[str],
    mirror_aware: bool = False,
    longest: float | None = None,
) -> Figure:
    """Return panels of x, y, z and the error against time, one column per trajectory.

    A series longer than `longest` is shown around its largest analysis error; the
    rmse in the title (rms: time mean over all times with an analysis) is of the whole.

    Parameters
    ----------
    truth : (n, n_saved, 3) states at `truth_times`
    background, analysis : (n, n_times, 3) states at `times`, NaN where there is none
    observations : (n, n_times, obs_dim) values at `times`
    truth_times, times : (n_saved,), (n_times,) time units
    operator : ObservationOperator or its name
        Powers are drawn as their roots; an even one as both roots where positive.
    titles : n strings, such as "worst (test trajectory 17)"
    mirror_aware : bool
        Whether errors are the smaller of those against the truth and its mirror.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together.
    """
    series = Series.checked(truth, background, analysis, truth_times, times)
    operator = as_operator(operator)
    n, n_times = series.background.shape[:2]
    observations = _checks.array(
        "observations", observations, shape=(n, n_times, operator.obs_dim)
    )
    if len(titles) != n:
        raise ArgumentValueError(f"titles: expected {n}, got {len(titles)}")
    fig = new_figure(COLUMN if n == 1 else PAGE, 6.0 if n == 1 else 6.3)
    axes = fig.subplots(
        4, n, sharex="col", sharey="row", squeeze=False, height_ratios=(1, 1, 1, 0.8)
    )
    span = longest or (10.0 if n == 1 else 5.0)
    for case in range(n):
        _draw_case(axes[:, case], series, observations, operator, case)
        _draw_time(axes[3, case], series, case, span)
        _draw_errors(axes[3, case], series, case, mirror_aware)
        before, after = series.one(case).rmse(mirror_aware=mirror_aware)
        axes[0, case].set_title(
            f"{titles[case]}\nrmse {shown(before)} → {shown(after)}"
        )
    _limit(axes, series)
    mark_lone_points(axes)
    _label(fig, axes, operator, mirror_aware)
    return fig


def _draw_case(
    axes: np.ndarray,
    series: Series,
    observations: np.ndarray,
    operator: ObservationOperator,
    case: int,
) -> None:
    for c in range(3):
        axes[c].plot(series.truth_times, series.truth[case, :, c], **_TRUTH)
        axes[c].plot(series.times, series.background[case, :, c], **_BACKGROUND)
        axes[c].plot(series.times, series.analysis[case, :, c], **_ANALYSIS)
    for i, (c, power) in enumerate(
        zip(operator.components, operator.powers, strict=True)
    ):
        for root in _roots(observations[case, :, i], power):
            axes[c].plot(series.times, root, **_OBSERVATION)


def _limit(axes: np.ndarray, series: Series) -> None:
    """Keep the truth readable where an estimate has left the attractor for good."""
    low, high = series.bounds()
    room = 0.1 * (high - low)
    for c in range(3):
        bottom, top = axes[c, 0].get_ylim()
        axes[c, 0].set_ylim(max(bottom, low[c] - room[c]), min(top, high[c] + room[c]))


def _roots(values: np.ndarray, power: int) -> list[np.ndarray]:
    """Return the real roots of observed powers: two for an even power, NaN for none."""
    if power % 2:
        return [np.sign(values) * np.abs(values) ** (1.0 / power)]
    root = np.where(values > 0.0, values, np.nan) ** (1.0 / power)
    return [root, -root]


def _draw_time(ax: Axes, series: Series, case: int, longest: float) -> None:
    """Label the time axis and cut a long series to around its largest error."""
    first, last = float(series.truth_times[0]), float(series.truth_times[-1])
    if last - first <= longest * 1.001:
        if last > first:
            ax.set_xlim(first, last + 0.01 * (last - first))
        ax.set_xlabel(TIME_LABEL)
        return
    error = series.errors(series.analysis)[case]
    worst = float(series.times[np.argmax(np.nan_to_num(error, nan=-1.0))])
    start = min(max(worst - longest / 2.0, first), last - longest)
    ax.set_xlim(start, start + longest)
    ax.set_xlabel(f"{TIME_LABEL}, excerpt")


def _draw_errors(ax: Axes, series: Series, case: int, mirror_aware: bool) -> None:
    for states, color, dash in (
        (series.background, RED, "--"),
        (series.analysis, BLUE, "-"),
    ):
        error = series.errors(states, mirror_aware=mirror_aware)[case]
        ax.plot(series.times, error, color=color, linestyle=dash)
    plain_log(ax, "y")


def _label(
    fig: Figure, axes: np.ndarray, operator: ObservationOperator, mirror_aware: bool
) -> None:
    for row, name in enumerate("xyz"):
        axes[row, 0].set_ylabel(name)
    axes[3, 0].set_ylabel(
        "error (rms,\nmirror-aware)" if mirror_aware else "error (rms)"
    )
    fig.align_ylabels(axes[:, 0])
    handles = axes[operator.components[0], 0].get_lines()[:4]
    labels = [str(line.get_label()) for line in handles]
    labels[-1] = f"observation {_drawn_as(operator)}".rstrip()
    fig.legend(handles, labels, loc="outside upper center", ncols=4)


def _drawn_as(operator: ObservationOperator) -> str:
    """Say how powers are drawn: "±√y (where y > 0)" for a square alone."""
    notes = {1: "", 2: "±√y (where y > 0)", 3: "∛y", 4: "±∜y (where y > 0)"}
    shown = dict.fromkeys(operator.powers)
    return ", ".join(notes[p] for p in shown if notes[p])
