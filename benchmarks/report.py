"""Prints the tables of a benchmark run: rate, and ratio to NumPy in the same run.

pytest benchmarks --benchmark-json=speed.json
python benchmarks/report.py speed.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def tables(benchmarks: Iterable[dict[str, Any]]) -> str:
    """Return one Markdown table per group, the fastest row first.

    The rate is that of the median round. The ratio is to the fastest NumPy row of the
    same group and run.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in benchmarks:
        if one["extra_info"]:
            groups.setdefault(one["group"], []).append(one["extra_info"])
    return "\n\n".join(_table(group, rows) for group, rows in groups.items())


def _table(group: str, rows: list[dict[str, Any]]) -> str:
    rows = sorted(rows, key=lambda row: -row["rate"])
    numpy = max((r["rate"] for r in rows if r["name"].startswith("NumPy")), default=0)
    lines = [f"**{group}**", "", f"| | M {rows[0]['unit']}/s | times NumPy |"]
    lines.append("|---|---:|---:|")
    for row in rows:
        ratio = _rounded(row["rate"] / numpy) if numpy else ""
        lines.append(f"| {row['name']} | {_rounded(row['rate'] / 1e6)} | {ratio} |")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine(run: dict[str, Any]) -> str:
    """Return one sentence on where, when and with what a run was made."""
    info = run["machine_info"]
    versions = ", ".join(f"{name} {v}" for name, v in info["versions"].items())
    return (
        f"One core of {info['cpu']['brand_raw']}, {run['datetime'][:10]}, "
        f"Python {info['python_version']}, {versions}; the median of the rounds of one "
        "run."
    )


def main() -> None:
    """Read the file that pytest-benchmark wrote and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="from --benchmark-json")
    run = json.loads(parser.parse_args().file.read_text(encoding="utf-8"))
    print(tables(run["benchmarks"]), machine(run), sep="\n\n")


if __name__ == "__main__":
    main()
