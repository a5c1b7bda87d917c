"""Animations of one trajectory with its errors, written as GIF and MP4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting import _style
from l63fast.plotting.trajectories import Series, error_label, space

_DPI: Final = 100
_N_SHADES: Final = 12
_TAIL: Final = 1.0  # time units of the truth before the frame that are drawn bold

_MARKS: Final[dict[str, dict[str, Any]]] = {
    "background": _style.ESTIMATES["background"].mark
    | {"markersize": 9.0, "markerfacecolor": "none", "markeredgewidth": 1.8},
    "analysis": _style.ESTIMATES["analysis"].mark | {"markersize": 7.0},
    "truth": _style.TRUTH.mark | {"markersize": 3.5},
}


@_style.styled
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
    """Return the frames of one trajectory, one for each time with an analysis.

    Parameters
    ----------
    truth : (n_saved, 3) states at `truth_times`
    background, analysis : (n_times, 3) states at `times`, NaN where there is none
    truth_times, times : (n_saved,), (n_times,) time units
    mirror_aware : bool
        Whether errors are the smaller of those against the truth and its mirror.
    n_frames : int
        Number of frames at most; later times are left out.

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
    """Return one palette for all frames, shades from each colour to white.

    With a palette per frame the colours of a GIF would flicker.
    """
    white = np.full(3, 255.0)
    ramps = [
        np.linspace(white, 255.0 * np.array(to_rgb(color)), _N_SHADES)
        for color in (_style.BLACK, _style.RED, _style.BLUE)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate(ramps).round().astype(int).ravel().tolist())
    return palette


def save_animation(
    frames: Sequence[Image.Image],
    directory: str | Path,
    name: str,
    *,
    seconds: float = 5.0,
) -> list[Path]:
    """Write `name`.gif, and `name`.mp4 where ffmpeg is installed; return the paths.

    Parameters
    ----------
    frames : images of one size
    directory : path
        Created if it does not exist.
    name : str
        File name without suffix.
    seconds : float
        Duration of the animation; each frame is shown for 0.03 to 0.5 seconds.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    seconds = _checks.real("seconds", seconds, above=0.0)
    folder = _style.folder_for(directory, name)
    _checks.count("frames", len(frames), minimum=1)
    # The durations in a GIF file are multiples of a hundredth of a second.
    each = 10 * round(min(max(100.0 * seconds / len(frames), 3.0), 50.0))
    gif = folder / f"{name}.gif"
    frames[0].save(
        gif,
        save_all=True,
        append_images=list(frames[1:]),
        duration=each,
        loop=0,
        optimize=True,  # stores changed pixels only: a fifth of the bytes
        disposal=1,
    )
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return [gif]
    mp4 = folder / f"{name}.mp4"
    if _write_mp4(ffmpeg, frames, mp4, 1000.0 / each):
        return [gif, mp4]
    mp4.unlink(missing_ok=True)
    return [gif]


def _write_mp4(
    ffmpeg: str, frames: Sequence[Image.Image], path: Path, rate: float
) -> bool:
    """Write the MP4 file; return False if this ffmpeg cannot, as without H.264."""
    width, height = frames[0].size
    size = f"{width}x{height}"
    begin = [ffmpeg, "-loglevel", "error", "-y"]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size]
    source += ["-r", f"{rate:g}", "-i", "-"]
    # Browsers play H.264 in yuv420p, which needs an even width and height.
    coding = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]
    same = ["-fflags", "+bitexact", "-flags", "+bitexact", "-threads", "1"]
    done = subprocess.run(
        [*begin, *source, *coding, *same, str(path)],
        input=b"".join(frame.convert("RGB").tobytes() for frame in frames),
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


class _Stage:
    """A figure whose static part is drawn once for all frames."""

    def __init__(
        self, series: Series, shown: np.ndarray, title: str, mirror_aware: bool
    ) -> None:
        self.series = series
        self.title = title
        self.states = series.estimates | {"truth": series.truth[:, series.at]}
        fig = _style.new_figure(5.6, 6.2)
        fig.set_dpi(_DPI)
        # matplotlib leaves the methods of its canvas untyped.
        self.canvas = cast(Any, FigureCanvasAgg(fig))
        grid = fig.add_gridspec(2, 1, height_ratios=(3.4, 1.0))
        self.above = space(fig, grid[0], series)
        self.below = fig.add_subplot(grid[1])
        self.errors = {
            name: series.errors(states, mirror_aware=mirror_aware)[0]
            for name, states in series.estimates.items()
        }
        self._draw_still(fig, shown, error_label(mirror_aware))
        self._add_moving()
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(fig.bbox)

    def _draw_still(self, fig: Figure, shown: np.ndarray, label: str) -> None:
        path = self.series.truth[0, : self.series.at[shown[-1]] + 1]
        self.above.plot(*path.T, color=_style.GREY, linewidth=0.5, alpha=0.6)
        key = [Line2D([], [], label=name, **mark) for name, mark in _MARKS.items()]
        fig.legend(handles=key, loc="outside upper center", ncols=3)
        times = self.series.times[shown]
        for name, error in self.errors.items():
            color = _style.ESTIMATES[name].color
            self.below.plot(times, error[shown], color=color, linewidth=0.7, alpha=0.35)
        self.below.set(xlabel=_style.TIME_LABEL, ylabel=label)
        _style.plain_log(self.below, "y")

    def _add_moving(self) -> None:
        """Add what changes in each frame; `animated` keeps it out of the rest."""
        above, below = self.above, self.below
        [self.tail] = above.plot([], [], [], color=_style.BLACK, animated=True)
        self.marks = {
            name: above.plot([], [], [], animated=True, **mark)[0]
            for name, mark in _MARKS.items()
        }
        self.curves = {
            name: below.plot([], [], animated=True, **look.line)[0]
            for name, look in _style.ESTIMATES.items()
        }
        self.text = above.text2D(
            0.02, 0.95, "", transform=above.transAxes, animated=True
        )

    def frame(self, k: int, first: int) -> Image.Image:
        """Return the frame at observation time k; error curves begin at `first`."""
        series, now = self.series, self.series.times[k]
        past = slice(series.at[k] + 1)
        strong = series.truth_times[past] > now - _TAIL
        self.tail.set_data_3d(*series.truth[0, past][strong].T)
        for name, mark in self.marks.items():
            mark.set_data_3d(*self.states[name][0, k, :, None])
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
