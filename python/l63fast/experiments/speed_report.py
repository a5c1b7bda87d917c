"""The result folder of a benchmark of speed: table, numbers and bar chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from l63fast import plotting
from l63fast.experiments.results import versions, write_text
from l63fast.experiments.speed import SpeedRow
from l63fast.storage import result_directory, write_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["one_sentence", "speed_markdown", "speed_table", "write_speed"]

KIND = "benchmark"
_HEADINGS = ("one core", "rate", "ceiling", "reached", "bound by")


def write_speed(
    rows: Sequence[SpeedRow], where: Mapping[str, str], directory: Path
) -> None:
    """Write a benchmark as `speed.json`, `speed.md`, `speed.png` and `speed.svg`.

    Raises
    ------
    ResultError, LockedError
        If the folder holds anything but an earlier benchmark, or cannot be written.
    """
    with result_directory(directory, kind=KIND) as folder:
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
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines += ["", f"Lower quartile of the rounds on {one_sentence(where)}; {made}."]
    return "\n".join(lines) + "\n"


def speed_table(rows: Sequence[SpeedRow]) -> Table:
    """Return the rows as a table for the terminal."""
    from rich.table import Table

    table = Table()
    for heading in _HEADINGS:
        number = heading in _HEADINGS[1:4]
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: SpeedRow) -> tuple[str, ...]:
    rate = f"{_millions(row.rate)} M {row.unit}/s"
    if row.ceiling is None or row.share is None:
        return row.name, rate, "", "", ""
    share = f"{100.0 * row.share:.0f} %"
    return row.name, rate, _millions(row.ceiling), share, row.bound


def _millions(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}"
