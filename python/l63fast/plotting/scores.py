"""Scores of methods: beside each other, across settings, and against what they cost."""

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
_MOST_ROOMY: Final = 3  # so many panels leave room for all marks
_FAR: Final = 2.0  # times the largest score of the others
# Ends of intervals can be seen where a marker hides what is between.
_CAPS: Final[dict[str, Any]] = {"markersize": 10.0, "markeredgewidth": 1.2}
_WIDE: Final = 5.0  # a range of ratios that a linear axis cannot show
_ACROSS: Final = {
    "sigma": "standard deviation of the observation error",
    "interval": "time between observations (time units)",
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
    """Return the rmse of every method with its interval, one panel per operator.

    Parameters
    ----------
    scores : operator name -> method -> (rmse, low, high)
        Low and high bound the 95 % interval; an rmse that is not finite is shown as
        "diverged". Methods stand in the order of their first appearance.
    reference : str
        Method that the percentages compare with.
    labels : operator -> str, optional
        What the score of this operator is; "rmse" where it is not given.
    best : operator -> methods, optional
        Those whose score is bold.
    ratios : operator -> method -> float, optional
        Paired ratios to the reference, in place of those of the scores.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

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
        _style.plain_log(ax, "x", narrow=len(axes) > _MOST_ROOMY)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    return fig


def _write_row(ax: Axes, y: int, value: float, change: str, weight: str) -> None:
    """Write a score and its change from the reference beside the row."""
    finite = math.isfinite(value)
    _write(ax, y, 36.0, f"{value:.3f}" if finite else "—", weight)
    _write(ax, y, 82.0, change if finite else "diverged", weight)


def _write(
    ax: Axes, y: float, offset: float, text: str, weight: str = "normal"
) -> None:
    if text:
        _style.beside(ax, y, text, offset, ha="right", fontsize=8.5, fontweight=weight)


def _change(ratio: float) -> str:
    if not math.isfinite(ratio):
        return ""
    if ratio >= 2.0:
        return f"× {ratio:.1f}"
    return f"{100.0 * (ratio - 1.0):+z.1f} %".replace("-", "−")


def _draw(
    ax: Axes, y: int, how: _style.Look, value: float, *ends: float, off: bool = False
) -> None:
    """Draw a score with its interval, or an arrow to one off the axis."""
    if off:
        ax.annotate(
            "", (1.0, y), xytext=(-14.0, 0.0), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-|>", "color": how.color, "shrinkB": 0.0},
        )  # fmt: skip
    elif math.isfinite(value):
        ax.plot(ends, [y, y], color=how.color, linewidth=1.8, marker="|", **_CAPS)
        ax.plot(value, y, markersize=5.0, **how.mark)


def _beyond(scores: Mapping[str, Sequence[float]], among: Collection[str]) -> list[str]:
    """Return what would take up the axis: climatology, far from all others."""
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
    """Return the score of every method beside the range that was published for it.

    Parameters
    ----------
    scores : method -> MethodScore
    label : str
        What the score is.
    in_decibel : bool
        Whether it is in decibels, and so on a linear axis; logarithmic otherwise.
    title : str
        On which data.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.
    ax, style : see above

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
    # The edge shows a range of one value.
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
    """Return how far innovations have the covariance that each method claims for them.

    Parameters
    ----------
    ratios : method -> MethodScore
        Mean of d' S^-1 d / m over the innovations d: 1 if the claim S is right.
    title : str
        On which data.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.
    ax, style : see above

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
    """Draw a row per method: its score with its interval, and the number beside it."""
    _style.require("scores", scores)
    fig, ax, legend = _style.single(1.2 + 0.27 * len(scores), ax, style)
    _style.name_rows(ax, scores)
    ax.set_title(title, loc="left")
    drawn = _style.looks(scores, among)
    for y, (method, score) in enumerate(scores.items()):
        is_off = method in beyond
        _draw(ax, y, drawn[method], score.value, *score.interval, off=is_off)
        _style.beside(ax, y, written(score.value), 40.0, ha="right")
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
    """Return scores against a setting, both on logarithmic axes.

    Parameters
    ----------
    panels : (column, row) -> method -> {value of the setting: MethodScore}
        Column and row are titles, such as what is observed and how often.
    axis : str
        The setting: "sigma", "interval", "window", "n_iterations", "unroll" or
        "training_seconds".
    label : str
        What the score is.
    in_decibel : bool
        Whether it is in decibels, and so on a linear axis; logarithmic otherwise.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

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
    names = dict.fromkeys(name for found in panels.values() for name in found)
    drawn = _style.looks(names, among)
    for (column, row), methods in panels.items():
        ax = axes[rows.index(row), columns.index(column)]
        for method, points in methods.items():
            how, places = drawn[method], sorted(points)
            for place in places:
                ends = points[place].interval
                ax.plot([place] * 2, ends, color=how.color, marker="_", **_CAPS)
            values = [points[place].value for place in places]
            [handles[method]] = ax.plot(
                places, values, marker=how.marker, markersize=4.5, **how.line
            )
        ax.set_title(f"{column}, {row}" if row else column, fontsize=8.5)
    settings = {x for found in panels.values() for line in found.values() for x in line}
    for ax in axes.flat:
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
    """Return the score of each method against what one of its cycles takes.

    Parameters
    ----------
    methods : method -> (seconds per cycle, score), with low and high of an interval
    label : str
        What the score is.
    in_decibel : bool
        Whether it is in decibels, and so on a linear axis; logarithmic otherwise.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.
    ax, style : see above

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    finite = {k: v for k, v in methods.items() if math.isfinite(v[1]) and v[0] > 0.0}
    _style.require("methods", finite, "some with a score")
    fig, ax, legend = _style.single(3.8, ax, style)
    for name, how in _style.looks(finite, among).items():
        seconds, score, *ends = finite[name]
        ax.plot([1e6 * seconds] * len(ends), ends, color=how.color, marker="_", **_CAPS)
        ax.plot(1e6 * seconds, score, markersize=7.0, label=name, **how.mark)
    ax.margins(0.08)
    _style.plain_log(ax, "x")
    _style.score_axis(ax, "y", label, in_decibel=in_decibel)
    ax.set_xlabel("time per trajectory and cycle (µs)")
    legend(loc="outside right upper")
    return fig
