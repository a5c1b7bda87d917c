"""Whether ensembles know how wrong they are: the error against the claimed spread."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    BLACK,
    COLUMN,
    looks,
    new_figure,
    plain_log,
    styled,
)

__all__ = ["spread_against_error"]


@styled
def spread_against_error(
    methods: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ratios: Mapping[str, float] | None = None,
    *,
    among: Collection[str] = (),
) -> Figure:
    """Return the error against the claimed spread, in bins of rising spread.

    On the diagonal the spread can be trusted; above it a method trusts itself too
    much.

    Parameters
    ----------
    methods : method -> (spread, error), each (n_bins,)
        Root mean squares.
    ratios : method -> spread over error of all analyses, optional
        For the legend.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not methods:
        raise ArgumentValueError("methods: expected at least one, got none")
    fig = new_figure(COLUMN, 4.0)
    ax = fig.subplots()
    drawn = looks(methods, among)
    ends = []
    for name, (spread, error) in methods.items():
        spread = _checks.array(f"methods[{name!r}]", spread, shape=(None,))
        error = _checks.array(f"methods[{name!r}]", error, shape=spread.shape)
        note = f": {ratios[name]:.2f}" if ratios and name in ratios else ""
        how = drawn[name]
        ax.plot(
            spread, error, label=name + note, color=how.color, marker=how.marker,
            linestyle=how.linestyle, markersize=4.0,
        )  # fmt: skip
        ends += [*spread[np.isfinite(spread)], *error[np.isfinite(error)]]
    positive = [value for value in ends if value > 0.0]
    if positive:
        both = (0.8 * min(positive), 1.25 * max(positive))
        ax.plot(both, both, color=BLACK, linewidth=0.8, zorder=0.5)
        ax.set(xlim=both, ylim=both)
        plain_log(ax, "x")
        plain_log(ax, "y")
    ax.set_xlabel("claimed spread (root mean square)")
    ax.set_ylabel("error made (root mean square)")
    title = "spread over error, all analyses" if ratios else None
    fig.legend(loc="outside right upper", title=title, title_fontsize=8.5)
    return fig
