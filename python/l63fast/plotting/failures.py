"""What goes wrong, how often, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator
from l63fast.plotting._series import Series
from l63fast.plotting._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    RED,
    SKY,
    mark_lone_points,
    new_figure,
    plain_log,
    styled,
)

__all__ = ["Excerpt", "failure_panels", "failure_shares"]

_KINDS: Final = (RED, ORANGE, SKY, PURPLE)
_ESTIMATES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("background", {"color": RED, "linestyle": "--", "linewidth": 0.9}),
    ("analysis", {"color": BLUE, "linewidth": 0.9, "marker": "o", "markersize": 1.8}),
)


class Excerpt(NamedTuple):
    """A stretch of one trajectory: states (n_times, 3) at times, and what to call it.

    `path` (n_saved, 3) at `path_times` is the truth between.
    """

    title: str
    times: np.ndarray
    truth: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    path: np.ndarray
    path_times: np.ndarray


@styled
def failure_shares(
    shares: Mapping[str, Sequence[float]], kinds: Sequence[str]
) -> Figure:
    """Return the share of analyses that failed in each way, a bar per method.

    Parameters
    ----------
    shares : method -> share of each kind, between 0 and 1
    kinds : what they are called

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not shares:
        raise ArgumentValueError("shares: expected at least one method, got none")
    fig = new_figure(COLUMN, 1.1 + 0.27 * len(shares))
    ax = fig.subplots()
    left = np.zeros(len(shares))
    for k, (kind, color) in enumerate(zip(kinds, _KINDS, strict=True)):
        widths = 100.0 * np.array([values[k] for values in shares.values()])
        ax.barh(range(len(shares)), widths, left=left, color=color, label=kind)
        left += widths
    for y, total in enumerate(left):
        ax.annotate(
            f"{total:.2g} %" if total else "none", (total, y), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8.0,
        )  # fmt: skip
    ax.set_yticks(range(len(shares)), list(shares))
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.set_xlim(0.0, max(1.18 * left.max(), 1e-3))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0.0)
    ax.set_xlabel("analyses that failed (%)")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


@styled
def failure_panels(
    excerpts: Sequence[Excerpt],
    *,
    operator: ObservationOperator | str,
    far_off: float,
    title: str = "",
) -> Figure:
    """Return x, z and the error around the largest error of some trajectories.

    Parameters
    ----------
    excerpts : Excerpts, a column each
    operator : ObservationOperator or its name
        Where it is mirror-blind, errors are mirror-aware.
    far_off : float
        The error above which an analysis has failed; drawn as a line.
    title : str

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not excerpts:
        raise ArgumentValueError("excerpts: expected at least one, got none")
    far_off = _checks.real("far_off", far_off, above=0.0)
    blind = as_operator(operator).is_mirror_blind
    fig = new_figure(PAGE, 4.6)
    axes = fig.subplots(
        3, len(excerpts), sharex="col", sharey="row", squeeze=False,
        height_ratios=(1.0, 1.0, 0.8),
    )  # fmt: skip
    for column, excerpt in zip(axes.T, excerpts, strict=True):
        _draw_excerpt(column, excerpt, blind)
        column[2].axhline(far_off, color=GREY, linewidth=0.8, linestyle=":")
        column[2].set_xlabel("time (time units)")
    mark_lone_points(axes)
    plain_log(axes[2, 0], "y")
    names = ("x", "z", "error (rms,\nmirror-aware)" if blind else "error (rms)")
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_ylabel(name)
    fig.align_ylabels(axes[:, 0])
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3
    )
    if title:
        fig.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return fig


def _draw_excerpt(axes: Sequence[Axes], excerpt: Excerpt, blind: bool) -> None:
    series = Series.checked(
        excerpt.path[None], excerpt.background[None], excerpt.analysis[None],
        excerpt.path_times, excerpt.times,
    )  # fmt: skip
    low, high = series.bounds()
    for ax, c in zip(axes[:2], (0, 2), strict=True):
        ax.plot(excerpt.path_times, excerpt.path[:, c], color=BLACK, label="truth")
        for name, how in _ESTIMATES:
            ax.plot(excerpt.times, getattr(excerpt, name)[:, c], label=name, **how)
        room = 0.1 * (high[c] - low[c])
        ax.set_ylim(low[c] - room, high[c] + room)
    for name, how in _ESTIMATES:
        error = series.errors(getattr(excerpt, name)[None], mirror_aware=blind)[0]
        axes[2].plot(excerpt.times, error, **how)
    axes[0].set_title(excerpt.title, fontsize=8.5)
    axes[0].margins(x=0.01)
