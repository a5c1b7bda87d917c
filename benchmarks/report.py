"""Runs every benchmark and writes the tables of speed: limits, goals, peers, growth.

python -m benchmarks.report                     into build/benchmarks/
python -m benchmarks.report --no-peers          without the extra `peers`
python -m benchmarks.report --docs              docs/benchmarks.md and its figure
python -m benchmarks.report --docs benchmarks-xeon    a page of another processor
python -m benchmarks.report --json speed.json   tables of an earlier run

The exit code speaks of failed answers, never of missed goals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.rows import Goal, Growth, Limit, Rival, Row, from_json

REPOSITORY: Final = Path(__file__).resolve().parents[1]

_PAGE: Final = "benchmarks"  # the page that has the figure of growth
_SCALES: Final = ((1e6, "M "), (1e3, "k "), (1.0, ""))
_HOW: Final = """\
Each row and its limit were timed in turns in one process; a figure is the lower
quartile of the rounds. Steps are those of one trajectory. Peers do the same work with
the same scheme and output, unless their row says otherwise, and their answers are
compared with ours first: the ratios hold at the accuracy of RK4 with fixed steps."""
_VERDICTS: Final = {True: "met", False: "**missed**"}


def run_benchmarks(file: Path, *, peers: bool) -> int:
    """Run them all in a process of their own, with results into a file.

    One of an earlier run is removed first: it must not pass for this one.
    """
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "-rs"]
    command += [f"--benchmark-json={file}", "--benchmark-columns=median,rounds"]
    command += [] if peers else ["--no-peers"]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of limits, goals and peers as Markdown."""
    parts = (
        _limits([row for row in rows if isinstance(row, Limit)]),
        _goals([row for row in rows if isinstance(row, Goal)]),
        _rivals([row for row in rows if isinstance(row, Rival)]),
    )
    return "\n\n".join(part for part in parts if part)


def _limits(rows: Iterable[Limit]) -> str:
    by_level: dict[str, dict[str, Limit]] = {}
    for row in rows:
        by_level.setdefault(row.level, {})[row.what] = row
    if not by_level:
        return ""
    names = list(dict.fromkeys(name for found in by_level.values() for name in found))
    lines = [f"| limit, 10⁹ per second | {' | '.join(by_level)} |"]
    lines.append("|---|" + "---:|" * len(by_level))
    for name in names:
        cells = [f"{found[name].value / 1e9:.3g}" for found in by_level.values()]
        unit = next(iter(by_level.values()))[name].unit.removesuffix("/s")
        lines.append(f"| {name} ({unit}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _goals(rows: Iterable[Goal]) -> str:
    lines = [
        "| what | measured | limit | | share | goal | |",
        "|---|---:|---:|---|---:|---:|---|",
    ]
    for row in rows:
        goal, verdict = "", ""
        if row.goal:
            sign = "≤" if row.at_most else "≥"
            goal, verdict = f"{sign} {_share(row.goal)}", _VERDICTS[row.met]
        cells = (
            row.what, _value(row.value, row.unit), _value(row.limit, row.unit),
            row.limit_name, _share(row.ratio), goal, verdict,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _rivals(rows: Iterable[Rival]) -> str:
    groups: dict[str, list[Rival]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return "\n\n".join(_rival_table(*group) for group in groups.items())


def _rival_table(group: str, rows: Iterable[Rival]) -> str:
    lines = [f"| {group} | rate | times slower than l63fast |", "|---|---:|---:|"]
    for row in sorted(rows, key=lambda row: row.times_slower):
        times = f"{row.times_slower:,.{2 if row.times_slower < 10 else 0}f}"
        lines.append(f"| {row.name} | {_value(row.rate, row.unit)} | {times} |")
    return "\n".join(lines)


def _share(ratio: float) -> str:
    return f"{100.0 * ratio:.0f} %" if ratio < 1.5 else f"{ratio:.2f} times"


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:.0f} ms"
    divisor, prefix = next(s for s in _SCALES if value >= s[0] or s[0] == 1.0)
    number = value / divisor
    text = f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    return f"{text} {prefix}{unit}"


def page(run: Mapping[str, Any], figure: str = "") -> str:
    """Return the whole page: how it was made, the tables, the figure of growth.

    Without a figure it is the page of a further processor, which its title names.
    """
    where = dict(run["machine"])
    cores, date = where.pop("cores"), where.pop("date")
    processor = where.pop("processor")
    place = f"{processor} ({cores} cores), {date}"
    versions = ", ".join(f"{name} {version}" for name, version in where.items())
    rows = [from_json(row) for row in run["rows"]]
    parts = (
        "# Speed" if figure else f"# Speed: {processor}",
        f"Made by `python -m benchmarks.report` on one core of {place}; {versions}.",
        f"{_HOW} During the measurement this process had "
        f"{100.0 * run['share_of_core']:.0f} % of its core; well below 100 % other "
        "programs were running and the shares are not reliable.",
        tables(rows),
        f"![Time per unit of work against how much there is of it]({figure})"
        if figure
        else "",
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def draw_growth(run: Mapping[str, Any], folder: Path) -> Path:
    """Write the figure of growth as growth.png; return its path."""
    from l63fast import plotting

    panels: dict[str, dict[str, dict[int, float]]] = {}
    for row in (from_json(row) for row in run["rows"]):
        if isinstance(row, Growth):
            curves = panels.setdefault(row.axis, {})
            curves.setdefault(row.function, {})[row.size] = row.seconds
    png, svg = plotting.save_figure(plotting.growth_curves(panels), folder, "growth")
    svg.unlink()
    return png


def main() -> int:
    """Run, print and write; return the exit code of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--docs", nargs="?", const=_PAGE, metavar="PAGE", help="write docs/PAGE.md"
    )
    parser.add_argument("--json", type=Path, help="file of an earlier run")
    given = parser.parse_args()
    folder = REPOSITORY / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    file, code = given.json or folder / "speed.json", 0
    if given.json is None:
        code = run_benchmarks(file, peers=not given.no_peers)
        if not file.exists():
            print(
                f"benchmarks.report: pytest ended with {code} and no results; it needs "
                "pip install '.[test]', or '.[peers]' for the peers too",
                file=sys.stderr,
            )
            return code or 1
    run = json.loads(file.read_text(encoding="utf-8"))
    name, target = given.docs or _PAGE, REPOSITORY / "docs" if given.docs else folder
    if name == _PAGE:
        png = draw_growth(run, target / "images" if given.docs else folder)
        text = page(run, png.relative_to(target).as_posix())
    else:
        text = page(run)
    (target / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
