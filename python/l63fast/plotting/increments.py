"""Increments of several methods beside those that would have been right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    COLUMN,
    GREY,
    Look,
    looks,
    new_figure,
    shown,
    styled,
)

__all__ = ["Increments", "increment_histograms"]


class Increments(NamedTuple):
    """Increments by component: shares (3, n_bins) between edges (3, n_bins + 1).

    `made` are those of the method, `needed` lead to the truth; root mean squares and
    the correlation of both are (3,).
    """

    edges: np.ndarray
    made: np.ndarray
    needed: np.ndarray
    rms: np.ndarray
    needed_rms: np.ndarray
    correlation: np.ndarray


@styled
def increment_histograms(
    increments: Mapping[str, Increments], *, among: Collection[str] = ()
) -> Figure:
    """Return how large increments are, by component, a row per method.

    Grey: those needed, from the background to the truth. The numbers are the root mean
    square made over that needed, and the correlation of both. `among` are all methods
    of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not increments:
        raise ArgumentValueError("increments: expected at least one method, got none")
    n = len(increments)
    fig = new_figure(COLUMN, 0.8 + 1.55 * n)
    axes = fig.subplots(n, 3, squeeze=False)
    drawn = looks(increments, among)
    for row, (name, found) in zip(axes, increments.items(), strict=True):
        for c, ax in enumerate(row):
            _draw(ax, found, c, drawn[name])
        row[1].set_title(f"{name}\n{_numbers(found, 1)}", fontsize=8.5)
        for c in (0, 2):
            row[c].set_title(_numbers(found, c), fontsize=8.5)
    for c, component in enumerate("xyz"):
        axes[-1, c].set_xlabel(f"increment in {component}")
    key = [
        Patch(color=GREY, alpha=0.35, label="needed: truth − background"),
        Patch(fill=False, label="made: analysis − background"),
    ]
    fig.legend(handles=key, loc="outside upper center", ncols=2)
    fig.supylabel("density", fontsize=9.0)
    return fig


def _draw(ax: Axes, found: Increments, c: int, how: Look) -> None:
    width = float(found.edges[c, 1] - found.edges[c, 0])
    ax.stairs(
        found.needed[c] / width, found.edges[c], fill=True, color=GREY, alpha=0.35
    )
    ax.stairs(found.made[c] / width, found.edges[c], color=how.color, linewidth=1.2)
    # The needed ones set the height: increments of a component that a method never
    # changes stand all in one bin.
    ax.set_ylim(0.0, 1.6 * float(found.needed[c].max()) / width)
    ax.set_yticks([])
    ax.margins(x=0.0)


def _numbers(found: Increments, c: int) -> str:
    ratio = found.rms[c] / found.needed_rms[c]
    if not ratio > 0.0:
        return "unchanged"
    return f"{shown(float(ratio))} of needed, r = {found.correlation[c]:.2f}"
