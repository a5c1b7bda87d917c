"""The result folders of benchmarks, of kernels and of encoders: tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import plotting
from l63fast.experiments.describe import (
    markdown_table,
    microseconds,
    terminal_table,
)
from l63fast.experiments.results import versions, write_text
from l63fast.experiments.speed import SpeedRow
from l63fast.storage import result_directory, write_json

if TYPE_CHECKING:
    from l63fast.learning.encoder_speed import EncoderTimes

__all__ = [
    "encoder_markdown",
    "encoder_table",
    "one_sentence",
    "speed_markdown",
    "speed_table",
    "write_encoder_speed",
    "write_speed",
]

_HEADINGS: Final = ("one core", "rate", "ceiling", "reached", "bound by")
_WORDS: Final = (0, 4)
_CAPTION: Final = (
    "processor time per analysis in microseconds, medians. Alone: the program on one "
    "window; the other columns: through `load_encoder`, by windows in a call. Gain: "
    "eager / it."
)
Rows = Mapping[str, "EncoderTimes"]


def write_speed(
    rows: Sequence[SpeedRow], where: Mapping[str, str], directory: Path
) -> None:
    """Write a benchmark as `speed.json`, `speed.md`, `speed.png` and `speed.svg`.

    Raises
    ------
    ResultError, LockedError
        If the folder holds anything but an earlier benchmark, or cannot be written.
    """
    with result_directory(directory, kind="benchmark") as folder:
        content = {
            "machine": dict(where) | versions(),
            "rows": [asdict(row) | {"share": row.share} for row in rows],
        }
        write_json(folder / "speed.json", content)
        write_text(folder, "speed.md", speed_markdown(rows, where))
        figure = plotting.speed_bars(
            {row.name: (row.rate, row.ceiling, row.bound) for row in rows},
            title=one_sentence(where),
        )
        plotting.save_figure(figure, folder, "speed")


def one_sentence(where: Mapping[str, str]) -> str:
    """Return on what and when a benchmark ran, for captions."""
    return (
        f"one core of {where['processor']}, {where['instruction set']}, {where['date']}"
    )


def speed_markdown(rows: Sequence[SpeedRow], where: Mapping[str, str]) -> str:
    """Return the rows as a Markdown table with its caption."""
    table = markdown_table(_HEADINGS, [_speed(row) for row in rows], words=_WORDS)
    note = f"Lower quartile of the rounds on {one_sentence(where)}; {_made()}."
    return f"{table}\n\n{note}\n"


def speed_table(rows: Sequence[SpeedRow]) -> Any:
    """Return the rows as a table for the terminal."""
    return terminal_table(_HEADINGS, [_speed(row) for row in rows], words=_WORDS)


def _speed(row: SpeedRow) -> tuple[str, ...]:
    rate = f"{_millions(row.rate)} M {row.unit}/s"
    if row.ceiling is None or row.share is None:
        return row.name, rate, "", "", ""
    share = f"{100.0 * row.share:.0f} %"
    return row.name, rate, _millions(row.ceiling), share, row.bound


def _millions(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}"


def write_encoder_speed(
    rows: Rows, title: str, where: Mapping[str, str], directory: Path
) -> None:
    """Write a benchmark as `encoders.json`, `encoders.md`, `encoders.png` and `.svg`.

    Raises
    ------
    ResultError, LockedError
        If the folder holds anything but an earlier one, or cannot be written.
    """
    with result_directory(directory, kind="encoder benchmark") as folder:
        content = {
            "encoder": title,
            "machine": dict(where) | _versions(),
            "rows": {kind: asdict(times) for kind, times in rows.items()},
        }
        write_json(folder / "encoders.json", content)
        write_text(folder, "encoders.md", encoder_markdown(rows, title))
        curves = {k: dict(t.per_window) for k, t in rows.items() if t.per_window}
        figure = plotting.growth_curves(
            {"windows in one call": curves}, ylabel="time per analysis (µs)", scale=1e6
        )
        plotting.save_figure(figure, folder, "encoders")


def encoder_markdown(rows: Rows, title: str) -> str:
    """Return the rows as a Markdown table with its caption."""
    head, *body = _encoders(rows)
    return f"{markdown_table(head, body)}\n\n{title}; {_CAPTION} Made with {_made()}.\n"


def encoder_table(rows: Rows, title: str) -> Any:
    """Return the rows as a table for the terminal."""
    from rich.console import Group

    head, *body = _encoders(rows)
    return Group(terminal_table(head, body), f"{title}; {_CAPTION}")


def _versions() -> dict[str, str]:
    found = versions()
    with suppress(PackageNotFoundError):  # an extra
        found["onnxruntime"] = version("onnxruntime")
    return found


def _made() -> str:
    return ", ".join(f"{name} {number}" for name, number in _versions().items())


def _encoders(rows: Rows) -> list[tuple[str, ...]]:
    from l63fast.learning.encoder_speed import EAGER

    eager = rows[EAGER]
    batches = list(eager.per_window)
    last = batches[-1]
    lines = [("format", "alone", "gain", *(f"{n:,}" for n in batches), "gain")]
    for kind, times in rows.items():
        alone = (microseconds(times.latency), f"{eager.latency / times.latency:.2f}")
        cells = [""] * (len(batches) + 1)
        if times.per_window:
            cells = [microseconds(times.per_window[n]) for n in batches]
            cells.append(f"{eager.per_window[last] / times.per_window[last]:.2f}")
        lines.append((kind, *alone, *cells))
    return lines
