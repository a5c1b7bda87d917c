"""One trajectory in motion: truth, background and analysis, with their errors below."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from PIL import Image

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._series import Series
from l63fast.plotting._style import (
    BLACK,
    BLUE,
    GREY,
    RED,
    TIME_LABEL,
    new_figure,
    plain_log,
    styled,
)
from l63fast.plotting.phase_space import space

__all__ = ["animation"]

DPI: Final = 100
N_SHADES: Final = 12
TAIL: Final = 1.0  # time units of truth drawn strongly behind the present

_MARKS: Final[dict[str, dict[str, Any]]] = {
    "background": {
        "color": RED,
        "marker": "o",
        "markersize": 9.0,
        "markerfacecolor": "none",
        "markeredgewidth": 1.8,
    },
    "analysis": {"color": BLUE, "marker": "o", "markersize": 7.0},
    "truth": {"color": BLACK, "marker": "o", "markersize": 3.5},
}


@styled
def animation(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    *,
    truth_times: np.ndarray,
    times: np.ndarray,
    title: str = "",
    mirror_aware: bool = False,
    n_frames: int = 100,
) -> list[Image.Image]:
    """Return frames of one trajectory, one per time that has an analysis.

    Parameters
    ----------
    truth : (n_saved, 3) states at `truth_times`
    background, analysis : (n_times, 3) states at `times`, NaN where there is none
    truth_times, times : (n_saved,), (n_times,) time units
    mirror_aware : bool
        Whether errors are the smaller of those against the truth and its mirror.
    n_frames : int
        The first so many times are shown.

    Raises
    ------
    ArgumentValueError
        If the arrays do not belong together or there is no analysis.
    """
    n_frames = _checks.count("n_frames", n_frames, minimum=1)
    truth, background, analysis = (
        np.asarray(states)[None] for states in (truth, background, analysis)
    )
    series = Series.checked(truth, background, analysis, truth_times, times)
    shown = np.flatnonzero(np.isfinite(series.analysis[0]).all(axis=-1))[:n_frames]
    if not shown.size:
        raise ArgumentValueError("analysis: expected some finite states, got none")
    stage = _Stage(series, shown, title, mirror_aware)
    frames = [stage.frame(int(k), int(shown[0])) for k in shown]
    palette = _palette()
    return [
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    ]


def _palette() -> Image.Image:
    """Return one palette for all frames, lest colours flicker: each colour to white."""
    white = np.full(3, 255.0)
    ramps = [
        np.linspace(white, 255.0 * np.array(to_rgb(color)), N_SHADES)
        for color in (BLACK, RED, BLUE)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate(ramps).round().astype(int).ravel().tolist())
    return palette


class _Stage:
    """A canvas whose unmoving part is drawn once."""

    def __init__(
        self, series: Series, shown: np.ndarray, title: str, mirror_aware: bool
    ) -> None:
        self.series = series
        self.title = title
        self.errors = {
            name: series.errors(states, mirror_aware=mirror_aware)[0]
            for name, states in (
                ("background", series.background),
                ("analysis", series.analysis),
            )
        }
        self.error_label = (
            "error (rms,\nmirror-aware)" if mirror_aware else "error (rms)"
        )
        fig = new_figure(5.6, 6.2)
        fig.set_dpi(DPI)
        # matplotlib leaves the methods of its canvas untyped.
        self.canvas = cast(Any, FigureCanvasAgg(fig))
        grid = fig.add_gridspec(2, 1, height_ratios=(3.4, 1.0))
        self.above = space(fig, grid[0], series)
        self.below = fig.add_subplot(grid[1])
        self._draw_still(shown)
        self._add_moving()
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(fig.bbox)

    def _draw_still(self, shown: np.ndarray) -> None:
        last = self.series.at[shown[-1]] + 1
        path = self.series.truth[0, :last]
        self.above.plot(*path.T, color=GREY, linewidth=0.5, alpha=0.6)
        self.above.figure.legend(
            handles=[
                Line2D([], [], linestyle="none", label=name, **mark)
                for name, mark in _MARKS.items()
            ],
            loc="outside upper center",
            ncols=3,
        )
        times = self.series.times[shown]
        for name, error in self.errors.items():
            color = _MARKS[name]["color"]
            self.below.plot(times, error[shown], color=color, linewidth=0.7, alpha=0.35)
        self.below.set_xlabel(TIME_LABEL)
        self.below.set_ylabel(self.error_label)
        plain_log(self.below, "y")

    def _add_moving(self) -> None:
        """Add what each frame changes; `animated` keeps it out of the still part."""
        self.tail = self.above.plot([], [], [], color=BLACK, animated=True)[0]
        self.marks = {
            name: self.above.plot([], [], [], linestyle="none", animated=True, **mark)[
                0
            ]
            for name, mark in _MARKS.items()
        }
        self.curves = {
            name: self.below.plot(
                [], [], color=_MARKS[name]["color"], linestyle=dash, animated=True
            )[0]
            for name, dash in (("background", "--"), ("analysis", "-"))
        }
        self.text = self.above.text2D(
            0.02, 0.95, "", transform=self.above.transAxes, animated=True
        )

    def frame(self, k: int, first: int) -> Image.Image:
        """Return the picture at observation time k; error curves begin at `first`."""
        series, now = self.series, self.series.times[k]
        past = series.truth_times[: series.at[k] + 1] > now - TAIL
        self.tail.set_data_3d(*series.truth[0, : series.at[k] + 1][past].T)
        states = {
            "truth": series.truth[0, series.at[k]],
            "background": series.background[0, k],
            "analysis": series.analysis[0, k],
        }
        for name, state in states.items():
            self.marks[name].set_data_3d(*state[:, None])
        for name, curve in self.curves.items():
            until = slice(first, k + 1)
            curve.set_data(series.times[until], self.errors[name][until])
        self.text.set_text(f"{self.title}\ntime {now:.2f}".strip())
        self.canvas.restore_region(self.still)
        for artist in (self.tail, *self.marks.values(), self.text):
            self.above.draw_artist(artist)
        for curve in self.curves.values():
            self.below.draw_artist(curve)
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
