"""Figures of truth and estimates of trajectories: against time, on the attractor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator
from l63fast.plotting import _style
from l63fast.verification import instantaneous_rms

_ATTRACTOR: Final = ((-20.0, -27.0, 2.0), (20.0, 27.0, 48.0))
# Estimates exist at observation times only, so they are points: a curve through them
# would miss the peaks between and look like an error. The background is a curve if the
# forecasts between the analyses are given.
_POINTS: Final = {
    name: look.mark | {"markersize": size, "markeredgewidth": 0.0}
    for (name, look), size in zip(_style.ESTIMATES.items(), (3.6, 2.6), strict=True)
}
_FORECAST: Final = _style.ESTIMATES["background"].line | {"linewidth": 1.0}
_CIRCLE: Final = _style.Look(_style.GREY).mark | {
    "markersize": 4.2,
    "markerfacecolor": "none",
}


@dataclass(frozen=True)
class Series:
    """Truth, background and analysis of n trajectories, whose shapes are checked.

    Attributes
    ----------
    truth : (n, n_saved, 3)
    background, analysis : (n, n_times, 3)
        NaN where there is none.
    truth_times, times : (n_saved,), (n_times,)
        In time units; `times` is a part of `truth_times`.
    at : (n_times,) int
        Index of each of `times` in `truth_times`.
    forecasts : (n, n_times - 1, n_steps + 1, 3), optional
        From each analysis to the next time, in equal steps, both ends included.
    """

    truth: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    truth_times: np.ndarray
    times: np.ndarray
    at: np.ndarray
    forecasts: np.ndarray | None = None

    @classmethod
    def checked(
        cls,
        truth: Any,
        background: Any,
        analysis: Any,
        truth_times: Any,
        times: Any,
        forecasts: Any = None,
    ) -> Self:
        """Return the series; raise ArgumentValueError if the arrays do not match."""
        truth = _checks.array("truth", truth, shape=(None, None, 3))
        n, n_saved = truth.shape[:2]
        truth_times = _checks.array("truth_times", truth_times, shape=(n_saved,))
        times = _checks.array("times", times, shape=(None,))
        shape = (n, len(times), 3)
        background = _checks.array("background", background, shape=shape)
        analysis = _checks.array("analysis", analysis, shape=shape)
        if min(n, n_saved, len(times)) == 0:
            raise ArgumentValueError(
                f"truth, times: expected something to draw, got {n} trajectories, "
                f"{n_saved} saved steps, {len(times)} observation times"
            )
        at = np.abs(truth_times[:, None] - times).argmin(axis=0)
        off = np.abs(truth_times[at] - times)
        if not np.all(off < 1e-6):
            raise ArgumentValueError(
                f"times: expected some of truth_times, got {times[off.argmax()]:g}, "
                f"which is {off.max():g} away from the nearest"
            )
        if forecasts is not None:
            pieces = (n, len(times) - 1, None, 3)
            forecasts = _checks.array("forecasts", forecasts, shape=pieces)
        return cls(truth, background, analysis, truth_times, times, at, forecasts)

    @property
    def estimates(self) -> dict[str, np.ndarray]:
        """Background and analysis by their names."""
        return {"background": self.background, "analysis": self.analysis}

    def draw(self, ax: Axes, case: int, c: int, **truth: Any) -> None:
        """Draw a component of a trajectory: truth, background and analysis."""
        ax.plot(
            self.truth_times, self.truth[case, :, c], label="truth",
            **_style.TRUTH.line, **truth,
        )  # fmt: skip
        times, states = self.times, self.background[case, :, c]
        look: dict[str, Any] = _POINTS["background"]
        if self.forecasts is not None and len(times) > 1:
            # Each forecast ends in a background; from there the curve jumps to the
            # analysis, where the next forecast begins.
            paths = self.forecasts[case, :, :, c]
            between = np.linspace(times[:-1], times[1:], paths.shape[1], axis=1)
            times = np.append(times[0], np.column_stack([between, times[1:]]))
            states = np.append(states[0], np.column_stack([paths, states[1:]]))
            look = _FORECAST
        ax.plot(times, states, label="background", **look)
        states = self.analysis[case, :, c]
        ax.plot(self.times, states, label="analysis", **_POINTS["analysis"])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return low and high (3,) of the classical attractor and the truth."""
        low, high = _ATTRACTOR
        return (
            np.minimum(low, np.nanmin(self.truth, axis=(0, 1))),
            np.maximum(high, np.nanmax(self.truth, axis=(0, 1))),
        )

    def errors(self, states: np.ndarray, *, mirror_aware: bool = False) -> np.ndarray:
        """Return errors (n, n_times) of states (n, n_times, 3), rms over components."""
        truth = self.truth[:, self.at]
        return instantaneous_rms(states, truth, mirror_aware=mirror_aware)

    def rmse(
        self, cases: slice | list[int] = slice(None), *, mirror_aware: bool = False
    ) -> tuple[float, float]:
        """Return the mean errors of background and analysis, inf if not finite.

        Times before the first analysis of a trajectory are left out of both.
        """
        before, after = (
            self.errors(states, mirror_aware=mirror_aware)[cases]
            for states in self.estimates.values()
        )
        scored = begun(after) if np.isfinite(after).any() else begun(before)
        before, after = (
            np.where(np.isfinite(error), error, np.inf)[scored].mean()
            for error in (before, after)
        )
        return float(before), float(after)


def error_label(mirror_aware: bool) -> str:
    """Return the label of the axis of errors."""
    return "error (rms,\nmirror-aware)" if mirror_aware else "error (rms)"


def begun(error: np.ndarray) -> np.ndarray:
    """Return True (n, n_times) from the first finite error of each trajectory on.

    A method with a window has no analysis at first (NaN). A later non-finite error
    must be counted.
    """
    return np.asarray(np.logical_or.accumulate(np.isfinite(error), axis=1))


def select_cases(errors: np.ndarray) -> dict[str, int]:
    """Return the indices of a good, a median and the worst trajectory.

    Parameters
    ----------
    errors : (n_trajectories,) mean error of the analysis over each trajectory
        A non-finite error counts as the largest.

    Returns
    -------
    dict with the keys "good" (at the 10th percentile), "median", "worst"
    """
    errors = _checks.array("errors", errors, shape=(None,))
    _style.require("errors", errors, "at least one")
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    last = len(order) - 1
    ranks = {"good": round(0.1 * last), "median": round(0.5 * last), "worst": last}
    return {name: int(order[rank]) for name, rank in ranks.items()}


@_style.styled
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
    forecasts: np.ndarray | None = None,
    mirror_aware: bool = False,
    longest: float | None = None,
) -> Figure:
    """Return panels of x, y, z and the error against time, one column per trajectory.

    A series longer than `longest` (time units) is shown around its largest analysis
    error; the rmse in the title, a time mean, is of the whole series.

    Parameters
    ----------
    truth : (n, n_saved, 3) states at `truth_times`
    background, analysis : (n, n_times, 3) states at `times`, NaN where there is none
    observations : (n, n_times, obs_dim) values at `times`
    truth_times, times : (n_saved,), (n_times,) time units
    operator : ObservationOperator or its name
        Observed powers are drawn as their roots, even powers as both roots.
        Observations of an operator of your own are not drawn.
    titles : n strings, such as "worst (test trajectory 17)"
    forecasts : (n, n_times - 1, n_steps + 1, 3), optional
        States from each analysis to the next of `times`, both ends included, such as
        `simulate(analysis[:, :-1], n_steps, dt=dt)`. The background is then a curve,
        otherwise points.
    mirror_aware : bool
        Whether an error is the smaller of those of the state and its mirror image.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together.
    """
    series = Series.checked(truth, background, analysis, truth_times, times, forecasts)
    operator = as_operator(operator)
    n, n_times = series.background.shape[:2]
    observations = _checks.array(
        "observations", observations, shape=(n, n_times, operator.obs_dim)
    )
    if len(titles) != n:
        raise ArgumentValueError(f"titles: expected {n}, got {len(titles)}")
    fig = _style.new_figure(
        _style.COLUMN if n == 1 else _style.PAGE, 6.0 if n == 1 else 6.3
    )
    axes = fig.subplots(
        4, n, sharex="col", sharey="row", squeeze=False, height_ratios=(1, 1, 1, 0.8)
    )
    span = longest or (10.0 if n == 1 else 5.0)
    for case in range(n):
        _draw_case(axes[:, case], series, observations, operator, case)
        _draw_time(axes[3, case], series, case, span)
        _draw_errors(axes[3, case], series, case, mirror_aware)
        before, after = series.rmse([case], mirror_aware=mirror_aware)
        axes[0, case].set_title(
            f"{titles[case]}\nrmse {_style.shown(before)} → {_style.shown(after)}"
        )
    _limit(axes, series)
    _style.mark_lone_points(axes)
    _label(fig, axes, operator, mirror_aware)
    return fig


def _draw_case(
    axes: np.ndarray,
    series: Series,
    observations: np.ndarray,
    operator: ObservationOperator,
    case: int,
) -> None:
    for c, ax in enumerate(axes[:3]):
        series.draw(ax, case, c, linewidth=1.0)
    for i, (c, power) in enumerate(
        zip(operator.components, operator.powers, strict=True)
    ):
        for root in _roots(observations[case, :, i], power):
            look = _CIRCLE | {"markeredgewidth": 0.7, "zorder": 1.5}
            axes[c].plot(series.times, root, label="observation", **look)


def _limit(axes: np.ndarray, series: Series) -> None:
    """Limit the axes, so that the truth stays visible if an estimate is far off."""
    low, high = series.bounds()
    room = 0.1 * (high - low)
    for c in range(3):
        bottom, top = axes[c, 0].get_ylim()
        axes[c, 0].set_ylim(max(bottom, low[c] - room[c]), min(top, high[c] + room[c]))


def _roots(values: np.ndarray, power: int) -> list[np.ndarray]:
    """Return the real roots of observed powers, two for an even power; NaN for none."""
    if power % 2:
        return [np.sign(values) * np.abs(values) ** (1.0 / power)]
    root = np.where(values > 0.0, values, np.nan) ** (1.0 / power)
    return [root, -root]


def _draw_time(ax: Axes, series: Series, case: int, longest: float) -> None:
    """Label the time axis; limit a long series to the part around its largest error."""
    first, last = float(series.truth_times[0]), float(series.truth_times[-1])
    if last - first <= longest * 1.001:
        if last > first:
            ax.set_xlim(first, last + 0.01 * (last - first))
        ax.set_xlabel(_style.TIME_LABEL)
        return
    error = series.errors(series.analysis)[case]
    worst = float(series.times[np.argmax(np.nan_to_num(error, nan=-1.0))])
    start = min(max(worst - longest / 2.0, first), last - longest)
    ax.set_xlim(start, start + longest)
    ax.set_xlabel(f"{_style.TIME_LABEL}, excerpt")


def _draw_errors(ax: Axes, series: Series, case: int, mirror_aware: bool) -> None:
    for name, states in series.estimates.items():
        error = series.errors(states, mirror_aware=mirror_aware)[case]
        ax.plot(series.times, error, **_style.ESTIMATES[name].line)
    _style.plain_log(ax, "y")


def _label(
    fig: Figure, axes: np.ndarray, operator: ObservationOperator, mirror_aware: bool
) -> None:
    _style.label_rows(axes, ("x", "y", "z", error_label(mirror_aware)))
    observed = operator.components or (0,)
    handles = axes[observed[0], 0].get_lines()[:4]
    labels = [str(line.get_label()) for line in handles]
    if operator.components:
        labels[-1] = f"observation {_drawn_as(operator)}".rstrip()
    fig.legend(handles, labels, loc="outside upper center", ncols=4)


def _drawn_as(operator: ObservationOperator) -> str:
    """Return how observed powers are drawn, such as "±√y (where y > 0)"."""
    notes = {1: "", 2: "±√y (where y > 0)", 3: "∛y", 4: "±∜y (where y > 0)"}
    shown = dict.fromkeys(operator.powers)
    return ", ".join(notes[p] for p in shown if notes[p])


@_style.styled
def attractor(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    *,
    truth_times: np.ndarray,
    times: np.ndarray,
    title: str = "",
    mirror_aware: bool = False,
) -> Figure:
    """Return a figure of background and analysis on the attractor, in two panels.

    A line joins each estimate to the truth at its time; its length is the error.

    Parameters
    ----------
    truth : (n, n_saved, 3) states at `truth_times`; drawn faintly
    background, analysis : (n, n_times, 3) states at `times`, NaN where there is none
    truth_times, times : (n_saved,), (n_times,) time units
    mirror_aware : bool
        Whether the rmse in the titles is mirror-aware; the lines lead to the truth.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together.
    """
    series = Series.checked(truth, background, analysis, truth_times, times)
    fig = _style.new_figure(_style.COLUMN, 3.2)
    scores = series.rmse(mirror_aware=mirror_aware)
    key = [Line2D([], [], color=_style.BLACK, linewidth=0.6, label="truth")]
    places = fig.add_gridspec(1, 2)
    for i, (name, states) in enumerate(series.estimates.items()):
        ax = space(fig, places[i], series)
        color = _style.ESTIMATES[name].color
        for path in series.truth:
            ax.plot(*path.T, color=_style.BLACK, linewidth=0.4, alpha=0.4)
        outside = _draw_estimates(ax, series, states, color)
        note = f", {outside} points outside" if outside else ""
        score = "rmse " * bool(np.isfinite(scores[i])) + _style.shown(scores[i])
        ax.set_title(f"{name}: {score}{note}", y=0.97)
        text = f"{name}, with a line to the truth"
        joined = Line2D([], [], color=color, linewidth=0.8, label=text)
        joined.set(marker="o", markersize=3.0)
        key.append(joined)
    fig.legend(handles=key, loc="outside lower center", ncols=3)
    if title:
        fig.suptitle(title)
    return fig


def _draw_estimates(ax: Axes3D, series: Series, states: np.ndarray, color: str) -> int:
    """Draw the estimates within the axes; return the number of those outside."""
    points = states.reshape(-1, 3)
    low, high = np.array([ax.get_xlim(), ax.get_ylim(), ax.get_zlim()]).T
    inside = ((low <= points) & (points <= high)).all(axis=1)
    truth = series.truth[:, series.at].reshape(-1, 3)
    pairs = np.stack([truth[inside], points[inside]], axis=1)
    lines = Line3DCollection(pairs, colors=color, linewidths=0.8)
    ax.add_collection3d(lines, autolim=False)
    dots = _style.Look(color).mark | {"markersize": 1.8, "markeredgewidth": 0.0}
    ax.plot(*points[inside].T, **dots)
    return int(np.count_nonzero(begun(series.errors(states)).ravel() & ~inside))


def space(fig: Figure, place: SubplotSpec, series: Series) -> Axes3D:
    """Return three-dimensional axes that show both wings of the attractor.

    Their limits contain the whole attractor, so that figures can be compared.
    """
    ax = fig.add_subplot(place, projection="3d", computed_zorder=False)
    assert isinstance(ax, Axes3D)
    ax.view_init(elev=16.0, azim=-55.0)
    ax.set_box_aspect((1.0, 1.1, 1.0), zoom=1.25)
    low, high = series.bounds()
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y"), (ax.zaxis, "z")):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.line.set_linewidth(0.6)
        axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10), prune="both"))
        axis.set_tick_params(pad=-3.0, labelsize=7.0)
        axis.set_label_text(name)
        axis.labelpad = -10.0
    ax.zaxis.labelpad = -14.0
    return ax
