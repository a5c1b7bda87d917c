"""Write a figure as PNG and SVG, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.plotting._style import styled

__all__ = ["output_folder", "save_figure"]


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
    folder = output_folder(directory, name)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    fig.savefig(png, metadata={"Software": None})
    fig.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


def output_folder(directory: str | Path, name: str) -> Path:
    """Return the directory, made if need be, after a look at the file name."""
    _checks.file_name("name", name)
    folder = _checks.path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
