"""Scores against the error of observations, or the time between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

__all__ = ["scores_by_interval", "scores_by_sigma"]


@styled
def scores_by_sigma(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[float, MethodScore]]],
    *,
    label: str,
    among: Sequence[str] = (),
) -> Figure:
    """Return scores against the observation error, a row per interval of observations.

    Parameters
    ----------
    panels : (column, row) -> method -> {sigma: MethodScore}
        Column and row are titles: what is observed, and how often.
    label : str
        What the score is; "dB" is drawn on a linear axis.
    among : sequence of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    return _panels(panels, among, label, "standard deviation of the observation error")


@styled
def scores_by_interval(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[float, MethodScore]]],
    *,
    label: str,
    among: Sequence[str] = (),
) -> Figure:
    """Return scores against the time between observations, a row per error of those.

    Parameters
    ----------
    panels : (column, row) -> method -> {interval: MethodScore}
        Column and row are titles: what is observed, and with which error.
    label : str
        What the score is; "dB" is drawn on a linear axis.
    among : sequence of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    return _panels(panels, among, label, "time between observations (time units)")


def _panels(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[float, MethodScore]]],
    among: Sequence[str],
    label: str,
    across: str,
) -> Figure:
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
        ax.set_title(f"{column}, {row}", fontsize=8.5)
    for ax in axes.flat:
        plain_log(ax, "x")
        if not label.endswith("dB"):
            plain_log(ax, "y")
    fig.supxlabel(across, fontsize=9.0)
    fig.supylabel(label, fontsize=9.0)
    fig.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=4
    )
    return fig


def _draw_line(ax: Axes, drawn: Look, points: Mapping[float, MethodScore]) -> Artist:
    sigmas = sorted(points)
    values = [points[sigma].value for sigma in sigmas]
    for sigma in sigmas:
        ax.plot([sigma, sigma], points[sigma].interval, color=drawn.color)
    return ax.plot(
        sigmas, values, color=drawn.color, linestyle=drawn.linestyle,
        marker=drawn.marker, markersize=4.5,
    )[0]  # fmt: skip
