"""Where on the attractor analyses are wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import COLUMN, new_figure, styled

__all__ = ["error_maps"]

_MOST_COLUMNS = 3
_PARTED = "PuOr_r"  # two hues that the colour-blind tell apart; white between them
_EMPTY = "0.88"
_ENDS = (2.0, 98.0)  # per cent of the cells that the colours span


@styled
def error_maps(
    maps: Mapping[str, np.ndarray],
    *,
    x_edges: np.ndarray,
    z_edges: np.ndarray,
    label: str = "error (rms)",
    relative: bool = False,
) -> Figure:
    """Return the error by where the truth was, seen from the side: x and z.

    Parameters
    ----------
    maps : method -> (n_x, n_z)
        Root mean square in each cell; NaN where the truth never was. All methods share
        one logarithmic colour scale, which leaves out 2 % of the cells at both ends.
    x_edges, z_edges : (n_x + 1,), (n_z + 1,)
    label : str
        What the error is.
    relative : bool
        Whether the maps are ratios: colours part at 1, to which the scale is symmetric.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not maps:
        raise ArgumentValueError("maps: expected at least one method, got none")
    shape = (len(x_edges) - 1, len(z_edges) - 1)
    checked = {
        name: _checks.array(f"maps[{name!r}]", values, shape=shape)
        for name, values in maps.items()
    }
    everything = np.concatenate([values.ravel() for values in checked.values()])
    positive = everything[np.isfinite(everything) & (everything > 0.0)]
    if not positive.size:
        raise ArgumentValueError("maps: expected some errors above 0, got none")
    low, high = np.percentile(positive, _ENDS)
    if relative:
        high = max(high, 1.0 / low)
        low = 1.0 / high
    norm = LogNorm(low, max(high, 1.001 * low))
    n_columns = 2 if len(checked) == 4 else min(len(checked), _MOST_COLUMNS)
    n_rows = -(-len(checked) // n_columns)
    fig = new_figure(COLUMN, 0.8 + 2.0 * n_rows)
    axes = fig.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for place, spare in enumerate(axes.flat[len(checked) :], start=len(checked)):
        spare.remove()
        axes.flat[place - n_columns].tick_params(labelbottom=True)
    for ax, (name, values) in zip(axes.flat, checked.items(), strict=False):
        drawn = ax.pcolormesh(
            x_edges,
            z_edges,
            values.T,
            norm=norm,
            cmap=_PARTED if relative else "viridis",
            rasterized=True,
        )
        ax.set_title(name)
        ax.grid(visible=False)
        if relative:
            ax.set_facecolor(_EMPTY)  # white is 1 there
    bar = fig.colorbar(
        drawn, ax=list(axes.flat[: len(checked)]), label=label, extend="both", aspect=30
    )
    bar.ax.yaxis.set_major_locator(_marks(high / low))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    fig.supxlabel("x of the truth", fontsize=9.0)
    fig.supylabel("z of the truth", fontsize=9.0)
    return fig


def _marks(ratio: float) -> Locator:
    """Return what a logarithmic colour bar of that reach marks."""
    if ratio < 4.0:  # nearly linear, and no multiple of a power of ten may be in it
        return MaxNLocator(7, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1.0, 2.0, 3.0, 5.0) if ratio < 30.0 else (1.0, 3.0))
