"""Scores against a setting: the error of observations, the window, and so on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    COLUMN,
    PAGE,
    Look,
    looks,
    new_figure,
    plain_log,
    styled,
)
from l63fast.plotting.methods import MethodScore

__all__ = ["ACROSS", "scores_across"]

ACROSS: Final = {
    "sigma": "standard deviation of the observation error",
    "interval": "time between observations (time units)",
    "window": "observations in the window, L",
    "n_iterations": "iterations of the fixed point, K",
    "unroll": "cycles that one update learns from",
    "training_seconds": "training time (s)",
}
_COUNTS: Final = ("window", "n_iterations", "unroll")


@styled
def scores_across(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[float, MethodScore]]],
    axis: str,
    *,
    label: str,
    among: Collection[str] = (),
) -> Figure:
    """Return scores against a setting, both on logarithmic axes.

    Parameters
    ----------
    panels : (column, row) -> method -> {value of the setting: MethodScore}
        Column and row are titles, such as what is observed and how often.
    axis : str
        The setting, one of `ACROSS`.
    label : str
        What the score is; "dB" is drawn on a linear axis.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw, or the setting is unknown.
    """
    across = ACROSS[_checks.choice("axis", axis, ACROSS)]
    if not panels:
        raise ArgumentValueError("panels: expected at least one, got none")
    columns = list(dict.fromkeys(column for column, _ in panels))
    rows = list(dict.fromkeys(row for _, row in panels))
    fig = new_figure(PAGE if len(columns) > 2 else COLUMN, 0.8 + 2.4 * len(rows))
    axes = fig.subplots(
        len(rows), len(columns), sharex=True, sharey=True, squeeze=False
    )
    handles: dict[str, Artist] = {}
    names = dict.fromkeys(name for found in panels.values() for name in found)
    drawn = looks(names, among)
    for (column, row), methods in panels.items():
        ax = axes[rows.index(row), columns.index(column)]
        for method, points in methods.items():
            handles[method] = _draw_line(ax, drawn[method], points)
        ax.set_title(f"{column}, {row}" if row else column, fontsize=8.5)
    places = {x for found in panels.values() for line in found.values() for x in line}
    for ax in axes.flat:
        plain_log(ax, "x")
        if axis in _COUNTS:
            ax.set_xticks(sorted(places), [f"{x:g}" for x in sorted(places)])
            ax.set_xticks([], minor=True)
        if not label.endswith("dB"):
            plain_log(ax, "y")
    fig.supxlabel(across, fontsize=9.0)
    fig.supylabel(label, fontsize=9.0)
    fig.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=4
    )
    return fig


def _draw_line(ax: Axes, drawn: Look, points: Mapping[float, MethodScore]) -> Artist:
    places = sorted(points)
    values = [points[place].value for place in places]
    for place in places:
        ax.plot([place, place], points[place].interval, color=drawn.color)
    return ax.plot(
        places, values, color=drawn.color, linestyle=drawn.linestyle,
        marker=drawn.marker, markersize=4.5,
    )[0]  # fmt: skip
