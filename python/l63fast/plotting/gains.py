"""The gain in the increments of several methods, beside the best linear one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import COLUMN, GREY, looks, new_figure, styled

__all__ = ["gain_comparison"]


@styled
def gain_comparison(
    gains: Mapping[str, np.ndarray],
    best: Mapping[str, np.ndarray],
    *,
    observed: Sequence[str],
    among: Collection[str] = (),
) -> Figure:
    """Return gains, a panel per observed value, a place per component.

    Parameters
    ----------
    gains : method -> (3, obs_dim)
        What an innovation of 1 moves each component by.
    best : method -> (3, obs_dim)
        The best linear gain for the backgrounds of that method, drawn as a bar.
    observed : (obs_dim,) names
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not gains:
        raise ArgumentValueError("gains: expected at least one method, got none")
    shape = (3, len(observed))
    fig = new_figure(COLUMN, 3.4)
    axes = fig.subplots(1, len(observed), sharey=True, squeeze=False)[0]
    drawn = looks(gains, among)
    step = 0.8 / len(gains)
    for i, (name, given) in enumerate(gains.items()):
        gain = _checks.array(f"gains[{name!r}]", given, shape=shape)
        places = np.arange(3) + (i - (len(gains) - 1) / 2.0) * step
        for k, ax in enumerate(axes):
            if name in best:
                ideal = _checks.array(f"best[{name!r}]", best[name], shape=shape)
                ax.bar(places, ideal[:, k], width=0.8 * step, color=GREY, alpha=0.35)
            ax.plot(
                places, gain[:, k], linestyle="none", marker=drawn[name].marker,
                color=drawn[name].color, markersize=5.0,
            )  # fmt: skip
    for ax, what in zip(axes, observed, strict=True):
        ax.axhline(0.0, color="black", linewidth=0.6)
        ax.set_xticks(range(3), ["x", "y", "z"])
        ax.grid(visible=False, axis="x")
        ax.set_title(f"for an innovation of 1 in {what}")
    fig.supxlabel("component of the state", fontsize=9.0)
    fig.supylabel("increment (gain K)", fontsize=9.0)
    handles = [
        Line2D([], [], linestyle="none", marker=how.marker, color=how.color, label=name)
        for name, how in drawn.items()
    ]
    if best:
        handles.append(
            Line2D([], [], color=GREY, alpha=0.35, linewidth=6.0, label="best linear")
        )
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    return fig
