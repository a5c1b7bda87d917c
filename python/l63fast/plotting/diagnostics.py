"""Figures of failures: their kinds, maps of the error, increments and gains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from l63fast import _checks
from l63fast.observation import ObservationOperator, as_operator
from l63fast.plotting import _style
from l63fast.plotting.trajectories import Series, error_label

_KINDS: Final = (_style.RED, _style.ORANGE, _style.SKY, _style.PURPLE)  # of failures
_DIVERGING: Final = "PuOr_r"  # white at 1; colour-blind readers can tell both hues
_EMPTY: Final = "0.88"
_ENDS: Final = (2.0, 98.0)  # percentiles of the cells at the ends of the colour scale


class Excerpt(NamedTuple):
    """A part of one trajectory, with a title.

    `truth`, `background` and `analysis` are states (n_times, 3) at `times` (n_times,).
    `path` (n_saved, 3) is the truth at the finer `path_times`. `forecasts`
    (n_times - 1, n_steps + 1, 3), if given, lead from each analysis to the next time.
    """

    title: str
    times: np.ndarray
    truth: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    path: np.ndarray
    path_times: np.ndarray
    forecasts: np.ndarray | None = None


@_style.styled
def failure_shares(
    shares: Mapping[str, Sequence[float]],
    kinds: Sequence[str],
    *,
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure with the share of failed analyses by kind, a bar per method.

    Parameters
    ----------
    shares : method -> share of each kind, between 0 and 1
    kinds : names of the kinds of failure
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("shares", shares)
    fig, ax, legend = _style.single(1.1 + 0.27 * len(shares), ax, style)
    _style.name_rows(ax, shares)
    left = np.zeros(len(shares))
    for k, (kind, color) in enumerate(zip(kinds, _KINDS, strict=True)):
        widths = 100.0 * np.array([values[k] for values in shares.values()])
        ax.barh(range(len(shares)), widths, left=left, color=color, label=kind)
        left += widths
    for y, total in enumerate(left):
        ax.annotate(
            f"{total:.2g} %" if total else "none", (total, y), xytext=(4, 0),
            textcoords="offset points", va="center",
            fontsize=rcParams["ytick.labelsize"],
        )  # fmt: skip
    ax.set_xlim(0.0, max(1.18 * left.max(), 1e-3))
    ax.set_xlabel("analyses that failed (%)")
    legend(loc="outside upper center", ncols=4)
    return fig


@_style.styled
def failure_panels(
    excerpts: Sequence[Excerpt],
    *,
    operator: ObservationOperator | str,
    far_off: float,
    title: str = "",
) -> Figure:
    """Return a figure of x, z and the error around the largest error of trajectories.

    Parameters
    ----------
    excerpts : Excerpts, a column each
    operator : ObservationOperator or its name
        If it is mirror-blind, errors are mirror-aware.
    far_off : float
        The error above which an analysis has failed; drawn as a line.
    title : str

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("excerpts", excerpts, "at least one")
    far_off = _checks.real("far_off", far_off, above=0.0)
    blind = as_operator(operator).is_mirror_blind
    fig = _style.new_figure(_style.PAGE, 4.6)
    axes = fig.subplots(
        3, len(excerpts), sharex="col", sharey="row", squeeze=False,
        height_ratios=(1.0, 1.0, 0.8),
    )  # fmt: skip
    for column, excerpt in zip(axes.T, excerpts, strict=True):
        _draw_excerpt(column, excerpt, blind)
        column[2].axhline(far_off, color=_style.GREY, linewidth=0.8, linestyle=":")
        column[2].set_xlabel(_style.TIME_LABEL)
    _style.mark_lone_points(axes)
    _style.plain_log(axes[2, 0], "y")
    _style.label_rows(axes, ("x", "z", error_label(blind)))
    curves = axes[0, 0].get_lines()
    fig.legend(handles=curves, loc="outside upper right", ncols=3)
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    return fig


def _draw_excerpt(axes: Sequence[Axes], excerpt: Excerpt, blind: bool) -> None:
    forecasts = None if excerpt.forecasts is None else excerpt.forecasts[None]
    series = Series.checked(
        excerpt.path[None], excerpt.background[None], excerpt.analysis[None],
        excerpt.path_times, excerpt.times, forecasts,
    )  # fmt: skip
    low, high = series.bounds()
    for ax, c in zip(axes[:2], (0, 2), strict=True):
        series.draw(ax, 0, c, linewidth=0.8)
        room = 0.1 * (high[c] - low[c])
        ax.set_ylim(low[c] - room, high[c] + room)
    for name, states in series.estimates.items():
        error = series.errors(states, mirror_aware=blind)[0]
        axes[2].plot(excerpt.times, error, linewidth=0.9, **_style.ESTIMATES[name].line)
    if not np.isfinite(excerpt.analysis).any():
        axes[2].text(0.5, 0.5, "not finite", transform=axes[2].transAxes, ha="center")
    axes[0].set_title(excerpt.title, fontsize=8.5)
    axes[0].margins(x=0.01)


@_style.styled
def error_maps(
    maps: Mapping[str, np.ndarray],
    *,
    x_edges: np.ndarray,
    z_edges: np.ndarray,
    label: str = "error (rms)",
    relative: bool = False,
) -> Figure:
    """Return maps of the error against x and z of the truth.

    Parameters
    ----------
    maps : method -> (n_x, n_z)
        Root mean square error in each cell; NaN in cells without a truth. All methods
        share one logarithmic colour scale, from the 2nd to the 98th percentile.
    x_edges, z_edges : (n_x + 1,), (n_z + 1,)
    label : str
        Name of the error, for the colour bar.
    relative : bool
        Whether the maps are ratios; then the colour scale is symmetric around 1.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("maps", maps)
    shape = (len(x_edges) - 1, len(z_edges) - 1)
    checked = {
        name: _checks.array(f"maps[{name!r}]", values, shape=shape)
        for name, values in maps.items()
    }
    everything = np.stack(list(checked.values()))
    positive = everything[np.isfinite(everything) & (everything > 0.0)]
    _style.require("maps", positive, "some errors above 0")
    low, high = np.percentile(positive, _ENDS)
    if relative:
        high = max(high, 1.0 / low)
        low = 1.0 / high
    norm = LogNorm(low, max(high, 1.001 * low))
    n = len(checked)
    fig, axes = _style.panel_grid(n, 2 if n == 4 else min(n, 3), 0.8, 2.0)
    colours = {"norm": norm, "cmap": _DIVERGING if relative else "viridis"}
    for ax, (name, values) in zip(axes, checked.items(), strict=True):
        drawn = ax.pcolormesh(x_edges, z_edges, values.T, rasterized=True, **colours)
        ax.set_title(name)
        ax.grid(visible=False)
        if relative:
            ax.set_facecolor(_EMPTY)  # empty cells are grey, as white means 1
    bar = fig.colorbar(drawn, ax=list(axes), label=label, extend="both", aspect=30)
    bar.ax.yaxis.set_major_locator(_style.log_marks(high / low))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    fig.supxlabel("x of the truth")
    fig.supylabel("z of the truth")
    return fig


class Increments(NamedTuple):
    """Histograms of increments by component.

    `made` (increments of the method) and `needed` (from background to truth) are shares
    (3, n_bins) in the bins between `edges` (3, n_bins + 1). Their root mean squares
    `rms`, `needed_rms` and their `correlation` are (3,).
    """

    edges: np.ndarray
    made: np.ndarray
    needed: np.ndarray
    rms: np.ndarray
    needed_rms: np.ndarray
    correlation: np.ndarray


@_style.styled
def increment_histograms(
    increments: Mapping[str, Increments], *, among: Collection[str] = ()
) -> Figure:
    """Return histograms of increments by component, a row per method.

    Grey are the needed increments, truth - background. The numbers are the ratio of the
    root mean squares, made over needed, and the correlation r of both. `among`: all
    methods of the experiment, so that a method has the same look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("increments", increments)
    fig = _style.new_figure(_style.COLUMN, 0.8 + 1.55 * len(increments))
    axes = fig.subplots(len(increments), 3, squeeze=False)
    for row, (name, look) in zip(
        axes, _style.looks(increments, among).items(), strict=True
    ):
        for c, (ax, heading) in enumerate(zip(row, ("", f"{name}\n", ""), strict=True)):
            _draw_component(ax, increments[name], c, look)
            ax.set_title(heading + _numbers(increments[name], c), fontsize=8.5)
    for ax, component in zip(axes[-1], "xyz", strict=True):
        ax.set_xlabel(f"increment in {component}")
    key = [
        Patch(color=_style.GREY, alpha=0.35, label="needed: truth − background"),
        Patch(fill=False, label="made: analysis − background"),
    ]
    fig.legend(handles=key, loc="outside upper center", ncols=2)
    fig.supylabel("density")
    return fig


def _draw_component(ax: Axes, given: Increments, c: int, look: _style.Look) -> None:
    edges = given.edges[c]
    width = float(edges[1] - edges[0])
    ax.stairs(given.needed[c] / width, edges, fill=True, color=_style.GREY, alpha=0.35)
    ax.stairs(given.made[c] / width, edges, color=look.color, linewidth=1.2)
    # The needed increments set the height: if a method never changes a component, all
    # its increments are in one bin.
    ax.set_ylim(0.0, 1.6 * float(given.needed[c].max()) / width)
    ax.set_yticks([])
    ax.margins(x=0.0)


def _numbers(given: Increments, c: int) -> str:
    ratio = given.rms[c] / given.needed_rms[c]
    if not ratio > 0.0:
        return "unchanged"
    return f"{_style.shown(float(ratio))} of needed, r = {given.correlation[c]:.2f}"


@_style.styled
def gain_comparison(
    gains: Mapping[str, np.ndarray],
    best: Mapping[str, np.ndarray],
    *,
    observed: Sequence[str],
    among: Collection[str] = (),
) -> Figure:
    """Return a figure of gains, a panel per observed value.

    Parameters
    ----------
    gains : method -> (3, obs_dim)
        The increment of each component for an innovation of 1.
    best : method -> (3, obs_dim)
        The best linear gain for the backgrounds of that method, drawn as a bar.
    observed : (obs_dim,) names
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("gains", gains)
    shape = (3, len(observed))
    fig = _style.new_figure(_style.COLUMN, 3.4)
    axes = fig.subplots(1, len(observed), sharey=True, squeeze=False)[0]
    drawn = _style.looks(gains, among)
    step = 0.8 / len(gains)
    for i, (name, given) in enumerate(gains.items()):
        gain = _checks.array(f"gains[{name!r}]", given, shape=shape)
        places = np.arange(3) + (i - (len(gains) - 1) / 2.0) * step
        for k, ax in enumerate(axes):
            if name in best:
                ideal = _checks.array(f"best[{name!r}]", best[name], shape=shape)
                ax.bar(
                    places, ideal[:, k], width=0.8 * step, color=_style.GREY, alpha=0.35
                )
            ax.plot(places, gain[:, k], markersize=5.0, **drawn[name].mark)
    for ax, what in zip(axes, observed, strict=True):
        ax.axhline(0.0, color="black", linewidth=0.6)
        ax.set_xticks(range(3), ["x", "y", "z"])
        ax.grid(visible=False, axis="x")
        ax.set_title(f"for an innovation of 1 in {what}")
    fig.supxlabel("component of the state")
    fig.supylabel("increment (gain K)")
    handles = [Line2D([], [], label=name, **look.mark) for name, look in drawn.items()]
    if best:
        bar = Line2D([], [], color=_style.GREY, alpha=0.35, linewidth=6.0)
        bar.set_label("best linear")
        handles.append(bar)
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    return fig
