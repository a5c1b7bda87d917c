"""Figures as they are drawn, and what can be read off them."""

from __future__ import annotations

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def drawn(figure: Figure) -> Figure:
    """Return a figure after it has been drawn."""
    FigureCanvasAgg(figure).draw()
    return figure


def shown_marks(axis: Axis) -> list[str]:
    """Return the labels of the marks that lie within a drawn axis."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1.get_text()
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]
