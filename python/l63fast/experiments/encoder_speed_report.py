"""The result folder of a benchmark of encoders: table, numbers and figure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from l63fast import plotting
from l63fast.experiments.describe import microseconds
from l63fast.experiments.results import versions, write_text
from l63fast.learning.encoder_speed import EAGER, EncoderTimes
from l63fast.storage import result_directory, write_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["encoder_markdown", "encoder_table", "write_encoder_speed"]

KIND = "encoder benchmark"
_CAPTION = (
    "processor time per analysis in microseconds, medians. Alone: the program on one "
    "window; the other columns: through `load_encoder`, by windows in a call. Gain: "
    "eager / it."
)
Rows = Mapping[str, EncoderTimes]


def write_encoder_speed(
    rows: Rows, title: str, where: Mapping[str, str], directory: Path
) -> None:
    """Write a benchmark as `encoders.json`, `encoders.md`, `encoders.png` and `.svg`.

    Raises
    ------
    ResultError, LockedError
        If the folder holds anything but an earlier one, or cannot be written.
    """
    with result_directory(directory, kind=KIND) as folder:
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
    head, *body = _cells(rows)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *body)]
    lines.insert(1, "|---|" + "--:|" * (len(head) - 1))
    made = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return "\n".join([*lines, "", f"{title}; {_CAPTION} Made with {made}."]) + "\n"


def _versions() -> dict[str, str]:
    found = versions()
    with suppress(PackageNotFoundError):  # an extra
        found["onnxruntime"] = version("onnxruntime")
    return found


def encoder_table(rows: Rows, title: str) -> Table:
    """Return the rows as a table for the terminal."""
    from rich.table import Table

    head, *body = _cells(rows)
    table = Table(caption=f"{title}; {_CAPTION}", caption_justify="left")
    for i, heading in enumerate(head):
        table.add_column(heading, justify="right" if i else "left")
    for cells in body:
        table.add_row(*cells)
    return table


def _cells(rows: Rows) -> list[tuple[str, ...]]:
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
