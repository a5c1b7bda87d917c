"""Figures of scores: compared, across settings, and against time per cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.observation import ObservationOperator
from l63fast.plotting import _style

Score = tuple[float, float, float]
_NO_SCORE: Final[Score] = (math.nan, math.nan, math.nan)
_MAX_WIDE_PANELS: Final = 3  # with more panels an axis has fewer marks
_FAR: Final = 2.0  # times the largest score of the others
# Caps show the ends of an interval that is hidden by the marker.
_CAPS: Final[dict[str, Any]] = {"markersize": 10.0, "markeredgewidth": 1.2}
_WIDE: Final = 5.0  # a range of ratios that a linear axis cannot show
_ACROSS: Final = {
    "sigma": "standard deviation of the observation error",
    "interval": "time between observations (time units)",
    "missing": "share of missing values",
    "window": "observations in the window, L",
    "n_iterations": "iterations of the fixed point, K",
    "unroll": "cycles that one update learns from",
    "training_seconds": "training time (s)",
}
_COUNTS: Final = ("window", "n_iterations", "unroll")


class MethodScore(NamedTuple):
    """A score, its 95 % interval, and the published range (NaN if there is none)."""

    value: float
    interval: tuple[float, float]
    published: tuple[float, float] = (math.nan, math.nan)


@_style.styled
def overview(
    scores: Mapping[str, Mapping[str, Score]],
    *,
    reference: str = "3D-Var",
    labels: Mapping[str, str] | None = None,
    best: Mapping[str, Collection[str]] | None = None,
    ratios: Mapping[str, Mapping[str, float]] | None = None,
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of the rmse of every method, one panel per operator.

    Parameters
    ----------
    scores : operator name -> method -> (rmse, low, high)
        Low and high are the ends of the 95 % interval; a non-finite rmse is shown as
        "not finite". Methods are in the order of their first appearance.
    reference : str
        The percentages are relative to this method.
    labels : operator -> str, optional
        Name of the score, by default "rmse".
    best : operator -> methods, optional
        Methods whose score is printed bold.
    ratios : operator -> method -> float, optional
        Paired ratios to the reference, instead of ratios of the scores.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    methods = list(dict.fromkeys(name for row in scores.values() for name in row))
    _style.require("scores", methods)
    drawn = _style.looks(methods, among)
    values = {m: [r[m][0] for r in scores.values() if m in r] for m in methods}
    beyond = _beyond(values, among)
    width = _style.PAGE if len(scores) > 1 else _style.COLUMN
    fig = _style.new_figure(width, 1.15 + 0.26 * len(methods))
    fig.set_layout_engine("constrained", wspace=0.06)
    axes = fig.subplots(1, len(scores), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (operator, row) in zip(axes, scores.items(), strict=True):
        base = row.get(reference, _NO_SCORE)[0]
        changes = {method: _change(score[0] / base) for method, score in row.items()}
        for method, ratio in (ratios or {}).get(operator, {}).items():
            changes[method] = _change(ratio)
        changes[reference] = ""
        bold = (best or {}).get(operator, ())
        for y, method in enumerate(methods):
            if method in row:
                weight = "bold" if method in bold else "normal"
                _draw(ax, y, drawn[method], *row[method], off=method in beyond)
                _write_row(ax, y, row[method][0], changes[method], weight)
        if math.isfinite(base):
            color = drawn[reference].color
            ax.axvline(base, color=color, linestyle="-.", linewidth=0.8)
        _write(ax, -0.8, 82.0, f"vs {reference}")
        ax.tick_params(axis="y", length=0.0)
        observed = ", ".join(ObservationOperator(operator).labels)
        ax.set_title(f"observed: {observed}", loc="left")
        ax.set_xlabel((labels or {}).get(operator, "rmse"))
    for ax in axes:  # after all are drawn, as they share the axis
        _style.plain_log(ax, "x", narrow=len(axes) > _MAX_WIDE_PANELS)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    return fig


def _write_row(ax: Axes, y: int, value: float, change: str, weight: str) -> None:
    """Write a score and its change from the reference at the right of the row."""
    finite = math.isfinite(value)
    _write(ax, y, 36.0, f"{value:.3f}" if finite else "—", weight)
    _write(ax, y, 82.0, change if finite else "not finite", weight)


def _write(
    ax: Axes, y: float, offset: float, text: str, weight: str = "normal"
) -> None:
    if text:
        size = {"fontsize": 8.5, "fontweight": weight}
        _style.write_at_right(ax, y, text, offset, ha="right", **size)


def _change(ratio: float) -> str:
    if not math.isfinite(ratio):
        return ""
    if ratio >= 2.0:
        return f"× {ratio:.1f}"
    return f"{100.0 * (ratio - 1.0):+z.1f} %".replace("-", "−")


def _draw(
    ax: Axes, y: int, look: _style.Look, value: float, *ends: float, off: bool = False
) -> None:
    """Draw a score with its interval, or an arrow if it is beyond the axis."""
    if off:
        ax.annotate(
            "", (1.0, y), xytext=(-14.0, 0.0), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-|>", "color": look.color, "shrinkB": 0.0},
        )  # fmt: skip
    elif math.isfinite(value):
        ax.plot(ends, [y, y], color=look.color, linewidth=1.8, marker="|", **_CAPS)
        ax.plot(value, y, markersize=5.0, **look.mark)


def _beyond(scores: Mapping[str, Sequence[float]], among: Collection[str]) -> list[str]:
    """Return climatologies whose score is so far from the others that it is not drawn.

    The axis would otherwise leave no room for the differences between the others.
    """
    most = {
        name: max(filter(math.isfinite, s), default=0.0) for name, s in scores.items()
    }
    far = [name for name in most if _style.kind_of(name, among) == "climatology"]
    rest = max((value for name, value in most.items() if name not in far), default=0.0)
    return [name for name in far if 0.0 < _FAR * rest < most[name]]


@_style.styled
def method_scores(
    scores: Mapping[str, MethodScore],
    *,
    label: str,
    in_decibel: bool = False,
    title: str = "",
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the score of every method, with its published range.

    Parameters
    ----------
    scores : method -> MethodScore
    label : str
        Name of the score.
    in_decibel : bool
        Whether it is in decibels, on a linear axis; otherwise the axis is logarithmic.
    title : str
        Name of the data.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """

    def written(value: float) -> str:
        if not math.isfinite(value) or in_decibel:
            return _style.shown(value)
        return f"{value:.3g}" if value < 0.1 else f"{value:.3f}"

    beyond = _beyond({k: (s.value,) for k, s in scores.items()}, among)
    fig, ax, legend = _rows(scores, title, among, written, ax, style, beyond)
    grey: dict[str, Any] = {"color": _style.GREY, "alpha": 0.35}
    # The edge makes a range of a single value visible.
    edge: dict[str, Any] = {"edgecolor": _style.GREY, "linewidth": 1.0}
    bars = {y: score.published for y, score in enumerate(scores.values())}
    bars = {y: ends for y, ends in bars.items() if math.isfinite(ends[0])}
    for y, (low, high) in bars.items():
        ax.barh(y, high - low, 0.62, left=low, **grey, **edge)
    ax.use_sticky_edges = False  # a bar must not end at the edge of the axes
    ax.autoscale_view()
    _style.score_axis(ax, "x", label, in_decibel=in_decibel)
    if bars:
        ax.barh(0, math.nan, label="published", **grey)
        legend(loc="outside lower right")
    return fig


@_style.styled
def method_claims(
    ratios: Mapping[str, MethodScore],
    *,
    title: str = "",
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure that compares innovations with the covariance a method claims.

    Parameters
    ----------
    ratios : method -> MethodScore
        Mean of d' S^-1 d / m over innovations d of size m: 1 if their covariance is the
        claimed S, above 1 if the method claims too small errors.
    title : str
        Name of the data.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    fig, ax, _ = _rows(ratios, title, among, "{:.2f}".format, ax, style)
    ax.axvline(1.0, color="black", linewidth=0.8, zorder=0.5)
    finite = [ratio.value for ratio in ratios.values() if math.isfinite(ratio.value)]
    if max(finite, default=1.0) > _WIDE * min(finite, default=1.0):
        _style.plain_log(ax, "x")
    ax.set_xlabel("mean of d′ S⁻¹ d / m (innovations d, claimed covariance S)")
    return fig


def _rows(
    scores: Mapping[str, MethodScore],
    title: str,
    among: Collection[str],
    written: Callable[[float], str],
    ax: Axes | None,
    style: str,
    beyond: Collection[str] = (),
) -> tuple[Figure, Axes, Callable[..., Any]]:
    """Draw a row per method: its score, its interval, and the number at the right."""
    _style.require("scores", scores)
    fig, ax, legend = _style.single(1.2 + 0.27 * len(scores), ax, style)
    _style.name_rows(ax, scores)
    ax.set_title(title, loc="left")
    drawn = _style.looks(scores, among)
    for y, (method, score) in enumerate(scores.items()):
        is_off = method in beyond
        _draw(ax, y, drawn[method], score.value, *score.interval, off=is_off)
        _style.write_at_right(ax, y, written(score.value), 40.0, ha="right")
    return fig, ax, legend


@_style.styled
def scores_across(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[float, MethodScore]]],
    axis: str,
    *,
    label: str,
    in_decibel: bool = False,
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of scores against a setting, on logarithmic axes.

    Parameters
    ----------
    panels : (column, row) -> method -> {value of the setting: MethodScore}
        Column and row are titles, such as the observed components and the interval.
    axis : str
        The setting: "sigma", "interval", "window", "n_iterations", "unroll" or
        "training_seconds".
    label : str
        Name of the score.
    in_decibel : bool
        Whether it is in decibels, on a linear axis; otherwise the axis is logarithmic.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw, or the setting is unknown.
    """
    across = _ACROSS[_checks.choice("axis", axis, _ACROSS)]
    _style.require("panels", panels, "at least one")
    columns = list(dict.fromkeys(column for column, _ in panels))
    rows = list(dict.fromkeys(row for _, row in panels))
    fig = _style.new_figure(
        _style.PAGE if len(columns) > 2 else _style.COLUMN, 0.8 + 2.4 * len(rows)
    )
    axes = fig.subplots(
        len(rows), len(columns), sharex=True, sharey=True, squeeze=False
    )
    handles: dict[str, Artist] = {}
    names = dict.fromkeys(name for methods in panels.values() for name in methods)
    drawn = _style.looks(names, among)
    for (column, row), methods in panels.items():
        ax = axes[rows.index(row), columns.index(column)]
        for method, points in methods.items():
            look, places = drawn[method], sorted(points)
            for place in places:
                ends = points[place].interval
                ax.plot([place] * 2, ends, color=look.color, marker="_", **_CAPS)
            values = [points[place].value for place in places]
            [handles[method]] = ax.plot(
                places, values, marker=look.marker, markersize=4.5, **look.line
            )
        ax.set_title(f"{column}, {row}" if row else column, fontsize=8.5)
    lines = [line for methods in panels.values() for line in methods.values()]
    settings = {x for line in lines for x in line}
    for ax in axes.flat:
        if axis != "missing":  # it may be 0
            _style.plain_log(ax, "x")
        if axis in _COUNTS:
            ax.set_xticks(sorted(settings), [f"{x:g}" for x in sorted(settings)])
            ax.set_xticks([], minor=True)
        _style.score_axis(ax, "y", "", in_decibel=in_decibel)
    fig.supxlabel(across)
    fig.supylabel(label)
    fig.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=4
    )
    return fig


@_style.styled
def score_against_cost(
    methods: Mapping[str, Sequence[float]],
    *,
    label: str,
    in_decibel: bool = False,
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the score of each method against its time per cycle.

    Parameters
    ----------
    methods : method -> (seconds per cycle, score) or (seconds, score, low, high)
        Low and high are the ends of an interval.
    label : str
        Name of the score.
    in_decibel : bool
        Whether it is in decibels, on a linear axis; otherwise the axis is logarithmic.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    finite = {k: v for k, v in methods.items() if math.isfinite(v[1]) and v[0] > 0.0}
    _style.require("methods", finite, "some with a score")
    fig, ax, legend = _style.single(3.8, ax, style)
    for name, look in _style.looks(finite, among).items():
        seconds, score, *ends = finite[name]
        times = [1e6 * seconds] * len(ends)
        ax.plot(times, ends, color=look.color, marker="_", **_CAPS)
        ax.plot(1e6 * seconds, score, markersize=7.0, label=name, **look.mark)
    ax.margins(0.08)
    _style.plain_log(ax, "x")
    _style.score_axis(ax, "y", label, in_decibel=in_decibel)
    ax.set_xlabel("time per trajectory and cycle (µs)")
    legend(loc="outside right upper")
    return fig
