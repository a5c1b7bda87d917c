"""How the cost of a unit of work changes with the amount of work, log-log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.figure import Figure

from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    new_figure,
    styled,
)

__all__ = ["growth_curves"]

Curves = Mapping[str, Mapping[int, float]]
_LOOKS: Final = (
    (BLUE, "o"), (RED, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (BLACK, "x"),
)  # fmt: skip


@styled
def growth_curves(
    panels: Mapping[str, Curves],
    *,
    ylabel: str = "time per step or analysis (ns)",
    scale: float = 1e9,
) -> Figure:
    """Return the time per unit of work against its amount, one panel per axis.

    Parameters
    ----------
    panels : what grows ("members") -> curve -> {size: seconds per unit}
        A curve looks the same in every panel.
    ylabel : str
        Name of the vertical axis, with its unit.
    scale : float
        That unit's number in a second.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names:
        raise ArgumentValueError("panels: expected at least one curve, got none")
    looks = {name: _LOOKS[i % len(_LOOKS)] for i, name in enumerate(names)}
    fig = new_figure(COLUMN, 3.4)
    axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (axis, curves) in zip(axes, panels.items(), strict=True):
        for name, points in curves.items():
            color, marker = looks[name]
            times = [scale * seconds for seconds in points.values()]
            ax.plot(list(points), times, color=color, marker=marker, markersize=4.0)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(f"number of {axis}")
    axes[0].set_ylabel(ylabel)
    handles = [
        axes[0].plot([], [], color=color, marker=marker, markersize=4.0)[0]
        for color, marker in looks.values()
    ]
    fig.legend(handles, names, loc="outside lower left", ncols=2)
    return fig
