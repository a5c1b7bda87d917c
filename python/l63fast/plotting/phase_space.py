"""The attractor in three dimensions, with background and analysis errors on it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from l63fast.plotting._series import Series, begun
from l63fast.plotting._style import BLACK, BLUE, COLUMN, RED, new_figure, shown, styled

__all__ = ["attractor", "space"]


@styled
def attractor(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    *,
    truth_times: np.ndarray,
    times: np.ndarray,
    title: str = "",
    mirror_aware: bool = False,
) -> Figure:
    """Return the attractor twice: with the background, and with the analysis, on it.

    A line joins each estimate to the truth at its time: its length is the error.

    Parameters
    ----------
    truth : (n, n_saved, 3) states at `truth_times`; drawn faintly
    background, analysis : (n, n_times, 3) states at `times`, NaN where there is none
    truth_times, times : (n_saved,), (n_times,) time units
    mirror_aware : bool
        Whether the rmse in the titles is; the lines always lead to the truth.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together.
    """
    series = Series.checked(truth, background, analysis, truth_times, times)
    fig = new_figure(COLUMN, 3.2)
    places = fig.add_gridspec(1, 2)
    scores = series.rmse(mirror_aware=mirror_aware)
    for column, (name, states, color) in enumerate(
        (("background", series.background, RED), ("analysis", series.analysis, BLUE))
    ):
        ax = space(fig, places[column], series)
        for path in series.truth:
            ax.plot(*path.T, color=BLACK, linewidth=0.4, alpha=0.4)
        outside = _draw_estimates(ax, series, states, color)
        note = f", {outside} points outside" if outside else ""
        ax.set_title(f"{name}: {_score(scores[column])}{note}", y=0.97)
    key = [Line2D([], [], color=BLACK, linewidth=0.6, label="truth")]
    for name, color in (("background", RED), ("analysis", BLUE)):
        key.append(
            Line2D(
                [0],
                [0],
                color=color,
                marker="o",
                markersize=3.0,
                linewidth=0.8,
                label=f"{name}, with a line to the truth",
            )
        )
    fig.legend(handles=key, loc="outside lower center", ncols=3)
    if title:
        fig.suptitle(title, fontsize=9.5)
    return fig


def _score(rmse: float) -> str:
    return f"rmse {shown(rmse)}" if np.isfinite(rmse) else "diverged"


def _draw_estimates(ax: Axes3D, series: Series, states: np.ndarray, color: str) -> int:
    """Draw what lies within the axes; return the number of points that do not."""
    points = states.reshape(-1, 3)
    low, high = np.array([ax.get_xlim(), ax.get_ylim(), ax.get_zlim()]).T
    there = ((low <= points) & (points <= high)).all(axis=1)
    begun_at = begun(series.errors(states)).ravel()
    truth = series.truth[:, series.at].reshape(-1, 3)
    pairs = np.stack([truth[there], points[there]], axis=1)
    ax.add_collection3d(
        Line3DCollection(pairs, colors=color, linewidths=0.8), autolim=False
    )
    ax.plot(
        *points[there].T,
        linestyle="none",
        marker="o",
        color=color,
        markersize=1.8,
        markeredgewidth=0.0,
    )
    return int(np.count_nonzero(begun_at & ~there))


def space(fig: Figure, place: SubplotSpec, series: Series) -> Axes3D:
    """Return bare three-dimensional axes that show both wings from the side.

    They hold the whole attractor, so that figures compare, and the truth.
    """
    ax = fig.add_subplot(place, projection="3d", computed_zorder=False)
    assert isinstance(ax, Axes3D)
    ax.view_init(elev=16.0, azim=-55.0)
    ax.set_box_aspect((1.0, 1.1, 1.0), zoom=1.25)
    low, high = series.bounds()
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y"), (ax.zaxis, "z")):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.line.set_linewidth(0.6)
        axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10), prune="both"))
        axis.set_tick_params(pad=-3.0, labelsize=7.0)
        axis.set_label_text(name)
        axis.labelpad = -10.0
    ax.zaxis.labelpad = -14.0
    return ax
