"""Measured speed: relative to the limit of the machine, and against the size."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from l63fast.plotting import _style

Measured = tuple[float, float | None, str]
Curves = Mapping[str, Mapping[int, float]]
_COLORS: Final = {
    "arithmetic": _style.BLUE,
    "division": _style.SKY,
    "writes": _style.GREEN,
    "first touch": _style.ORANGE,
}


@_style.styled
def speed_bars(
    rows: Mapping[str, Measured],
    *,
    title: str,
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure with the share of the machine's limit that each function reaches.

    Parameters
    ----------
    rows : name -> (rate, limit or None, what limits it)
        Rates in units per second. A row without a limit has no bar, only its rate.
    title : str
        Machine and date of the measurement.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("rows", rows, "at least one")
    fig, ax, legend = _style.single(1.25 + 0.3 * len(rows), ax, style)
    _style.name_rows(ax, rows)
    seen: set[str] = set()
    for y, (rate, ceiling, bound) in enumerate(rows.values()):
        text = f"{_millions(rate)} M/s"
        if ceiling is not None:
            text = f"{_millions(rate)} of {_millions(ceiling)} M/s"
            label = None if bound in seen else f"bound by {bound}"
            color = _COLORS.get(bound, _style.GREY)
            ax.barh(y, 100.0 * rate / ceiling, height=0.62, color=color, label=label)
            seen.add(bound)
        _style.write_at_right(ax, y, text, 6.0)
    ax.axvline(100.0, color="black", linewidth=1.0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    longest = max((r / c for r, c, _ in rows.values() if c), default=1.0)
    ax.set_xlim(0.0, 105.0 * max(longest, 1.0))
    ax.set_xlabel("share of the ceiling (%)")
    ax.set_title(title, loc="left")
    if seen:
        legend(loc="outside lower left", ncols=2)
    return fig


def _millions(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}"


@_style.styled
def growth_curves(
    panels: Mapping[str, Curves],
    *,
    ylabel: str = "time per step or analysis (ns)",
    scale: float = 1e9,
) -> Figure:
    """Return a figure of the time per unit of work against the size of the problem.

    Parameters
    ----------
    panels : what varies ("members") -> curve -> {size: seconds per unit}
        One panel each; a curve has the same look in every panel.
    ylabel : str
        Label of the vertical axis, with its unit.
    scale : float
        Number of these units in a second.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    _style.require("panels", names, "at least one curve")
    palette = zip((*_style.PALETTE[:5], _style.BLACK), "os^Dvx", strict=True)
    looks: dict[str, dict[str, Any]] = {
        name: {"color": color, "marker": marker, "markersize": 4.0}
        for name, (color, marker) in zip(names, cycle(palette), strict=False)
    }
    fig = _style.new_figure(_style.COLUMN, 3.4)
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (axis, curves) in zip(axes, panels.items(), strict=True):
        for name, points in curves.items():
            times = [scale * seconds for seconds in points.values()]
            ax.plot(list(points), times, **looks[name])
        ax.set(xscale="log", yscale="log", xlabel=f"number of {axis}")
    axes[0].set_ylabel(ylabel)
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    fig.legend(handles=handles, loc="outside lower left", ncols=2)
    return fig
