"""Ensembles and particles: how scores settle with their size, and rank histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    BLUE,
    COLUMN,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    new_figure,
    plain_log,
    styled,
)

__all__ = ["convergence", "rank_histograms"]

_COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
_STYLES = ("-", "--", "-.", ":")
Curve = Sequence[tuple[int, float, float]]


@styled
def convergence(curves: Mapping[str, Curve], *, label: str) -> Figure:
    """Return score and effective size against the number of particles.

    Parameters
    ----------
    curves : name -> [(n_particles, score, effective size), ...]
        Scores are drawn relative to the last of each curve.
    label : str
        What the score is.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not curves:
        raise ArgumentValueError("curves: expected at least one, got none")
    fig = new_figure(COLUMN, 3.0 + 0.18 * (len(curves) // 4))
    left, right = fig.subplots(1, 2)
    for i, (name, curve) in enumerate(curves.items()):
        sizes, scores, effective = np.array(curve, dtype=float).T
        how = {
            "color": _COLORS[i % len(_COLORS)],
            "linestyle": _STYLES[i // len(_COLORS) % len(_STYLES)],
            "marker": "o",
            "markersize": 3.5,
        }
        left.plot(sizes, scores / scores[-1], label=name, **how)
        right.plot(sizes, effective / sizes, **how)
    left.set_ylabel(f"{label}, over that of the last")
    right.set_ylabel("effective share of the particles")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xlabel("particles")
    plain_log(right, "y")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


@styled
def rank_histograms(shares: Mapping[str, np.ndarray]) -> Figure:
    """Return how often the truth took each place among the members of each method.

    Parameters
    ----------
    shares : method -> (3, n_members + 1)
        By component; the line is that of an ensemble that the truth could belong to.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not shares:
        raise ArgumentValueError("shares: expected at least one method, got none")
    fig = new_figure(COLUMN, 0.5 + 1.5 * len(shares))
    axes = fig.subplots(len(shares), 3, sharey="row", squeeze=False)
    for row, (name, given) in zip(axes, shares.items(), strict=True):
        of_method = _checks.array(f"shares[{name!r}]", given, shape=(3, None))
        places = np.arange(of_method.shape[1])
        for ax, component, color, values in zip(
            row, "xyz", (BLUE, ORANGE, GREEN), of_method, strict=True
        ):
            ax.bar(places, values, width=1.0, color=color, alpha=0.8)
            ax.axhline(1.0 / places.size, color="black", linewidth=0.8)
            ax.set_title(f"{name}: {component}", fontsize=8.5)
            ax.grid(visible=False, axis="x")
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    fig.supxlabel("members below the truth", fontsize=9.0)
    fig.supylabel("share of analyses", fontsize=9.0)
    return fig
