"""Write figures (PNG, SVG) and animations (GIF, MP4), the same bytes every time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from l63fast import _checks
from l63fast.plotting._style import styled

__all__ = ["save_animation", "save_figure"]


@styled
def save_figure(fig: Figure, directory: str | Path, name: str) -> tuple[Path, Path]:
    """Write `name`.png (150 dpi) and `name`.svg; return both paths.

    Parameters
    ----------
    fig : Figure
    directory : path
        Made if it is not there.
    name : str
        File name without suffix.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the directory or the name cannot be one.
    """
    folder = _folder(directory, name)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    fig.savefig(png, metadata={"Software": None})
    fig.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


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
    frames : pictures of one size
    directory : path
        Made if it is not there.
    name : str
        File name without suffix.
    seconds : float
        How long it plays; a frame stays between 0.03 and 0.5 seconds.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    seconds = _checks.real("seconds", seconds, above=0.0)
    folder = _folder(directory, name)
    _checks.count("frames", len(frames), minimum=1)
    # GIF counts in hundredths of a second.
    each = 10 * round(min(max(100.0 * seconds / len(frames), 3.0), 50.0))
    gif = folder / f"{name}.gif"
    frames[0].save(
        gif,
        save_all=True,
        append_images=list(frames[1:]),
        duration=each,
        loop=0,
        optimize=False,
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
    """Return whether this ffmpeg could write it: some are built without H.264."""
    width, height = frames[0].size
    size = f"{width}x{height}"
    begin = [ffmpeg, "-loglevel", "error", "-y"]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size]
    source += ["-r", f"{rate:g}", "-i", "-"]
    # H.264 in yuv420p, which browsers play, wants even sides.
    coding = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]
    same = ["-fflags", "+bitexact", "-flags", "+bitexact", "-threads", "1"]
    done = subprocess.run(
        [*begin, *source, *coding, *same, str(path)],
        input=b"".join(frame.convert("RGB").tobytes() for frame in frames),
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


def _folder(directory: str | Path, name: str) -> Path:
    """Return the directory, made if need be, after a look at the file name."""
    _checks.file_name("name", name)
    folder = _checks.path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
