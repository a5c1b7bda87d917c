"""What accuracy costs: score against time per cycle."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from matplotlib.figure import Figure

from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import COLUMN, looks, new_figure, plain_log, styled

__all__ = ["score_against_cost"]


@styled
def score_against_cost(
    methods: Mapping[str, tuple[float, float]],
    *,
    label: str,
    among: Collection[str] = (),
) -> Figure:
    """Return the score of each method against what one of its cycles takes.

    Parameters
    ----------
    methods : method -> (seconds per cycle, score)
    label : str
        What the score is; "dB" is drawn on a linear axis.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    finite = {k: v for k, v in methods.items() if math.isfinite(v[1]) and v[0] > 0.0}
    if not finite:
        raise ArgumentValueError("methods: expected some with a score, got none")
    fig = new_figure(COLUMN, 3.8)
    ax = fig.subplots()
    for (name, (seconds, score)), how in zip(
        finite.items(), looks(finite, among).values(), strict=True
    ):
        ax.plot(
            1e6 * seconds, score, linestyle="none", marker=how.marker,
            color=how.color, markersize=7.0, label=name,
        )  # fmt: skip
    ax.margins(0.08)
    plain_log(ax, "x")
    if not label.endswith("dB"):
        plain_log(ax, "y")
    ax.set_xlabel("time per trajectory and cycle (µs)")
    ax.set_ylabel(label)
    fig.legend(loc="outside right upper")
    return fig
