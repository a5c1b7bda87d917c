"""Measured speed against the ceiling of the machine, one bar per function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    new_figure,
    styled,
)

__all__ = ["speed_bars"]

Measured = tuple[float, float | None, str]
_COLORS: Final = {
    "arithmetic": BLUE,
    "division": SKY,
    "writes": GREEN,
    "first touch": ORANGE,
}


@styled
def speed_bars(rows: Mapping[str, Measured], *, title: str) -> Figure:
    """Return how much of what the machine allows each function reaches.

    Parameters
    ----------
    rows : name -> (rate, ceiling or None, what bounds it)
        Rates in units per second. A row without a ceiling has its rate written and no
        bar.
    title : str
        On what and when it was measured.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not rows:
        raise ArgumentValueError("rows: expected at least one, got none")
    fig = new_figure(COLUMN, 1.25 + 0.3 * len(rows))
    ax = fig.add_subplot()
    seen: set[str] = set()
    for y, (rate, ceiling, bound) in enumerate(rows.values()):
        if ceiling is not None:
            label = None if bound in seen else f"bound by {bound}"
            color = _COLORS.get(bound, GREY)
            ax.barh(y, 100.0 * rate / ceiling, height=0.62, color=color, label=label)
            seen.add(bound)
        _beside(ax, y, rate, ceiling)
    ax.axvline(100.0, color="black", linewidth=1.0)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    longest = max((r / c for r, c, _ in rows.values() if c), default=1.0)
    ax.set_xlim(0.0, 105.0 * max(longest, 1.0))
    ax.set_xlabel("share of the ceiling (%)")
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0.0)
    fig.suptitle(title, x=0.01, ha="left", fontsize=9.0)
    if seen:
        fig.legend(loc="outside lower left", ncols=2)
    return fig


def _beside(ax: Axes, y: int, rate: float, ceiling: float | None) -> None:
    """Write the rate and its ceiling, in millions per second, right of the axes."""
    text = f"{_millions(rate)} M/s"
    if ceiling is not None:
        text = f"{_millions(rate)} of {_millions(ceiling)} M/s"
    ax.annotate(
        text,
        (1.0, y),
        xycoords=ax.get_yaxis_transform(),
        xytext=(6.0, 0.0),
        textcoords="offset points",
        va="center",
        fontsize=8.0,
        annotation_clip=False,
    )


def _millions(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}"
