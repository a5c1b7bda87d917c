"""Writing of a report: the page, the tables and the figures, in one folder."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from l63fast import plotting
from l63fast.errors import ArgumentValueError, DataFileError, L63Error, ResultError
from l63fast.experiments import tables
from l63fast.experiments.figures import FIGURES, Picture, tuning_figure
from l63fast.experiments.report import scores, states
from l63fast.experiments.results import PROVENANCE, TIMES, Result, Source, write_text
from l63fast.experiments.scoring import Rows, Summary, case_title
from l63fast.experiments.settings import REPORT
from l63fast.experiments.settings_file import dump_tables
from l63fast.experiments.tables import is_best
from l63fast.experiments.wording import answer, overview, sentences
from l63fast.storage import content_errors, result_directory, verify_directory

PAGE: Final = "report.html"
_TABLES: Final = "tables"

# Functions that yield the pictures of each section, or a sentence if one is missing.
_CHAPTERS: Final[dict[str, Callable[[Summary], Iterator[Picture | str]]]] = {
    "scores": scores.scores,
    "trajectories": states.states,
    "failures": states.failures,
    "horizon": states.horizon,
    "attractor": states.attractor,
    "increments": states.increments,
    "ensembles": scores.ensembles,
    "gain": states.gain,
    "training": scores.training,
    "timing": scores.timing,
}
# Identifiers of the sections in the order of the page; their titles are capitalised.
SECTIONS: Final = ("answer", "leaderboard", *_CHAPTERS, "provenance")
# Two or more marks of the same shape and style, as matplotlib writes them into an SVG.
_MARKS: Final = (
    r'<use xlink:href="#(m[^"]+)" x="\S+" y="\S+" style="([^"]*)"/>'
    r'(\s*<use xlink:href="#\1" x="\S+" y="\S+" style="\2"/>)+'
)
# Characters that a data address may contain: no quotes, #, %, & and angle brackets.
_SAFE: Final = " '()*+,-./:;=?@[]_{}!$|~"


def report(
    results: pd.DataFrame | str | Path, folder: str | Path | None = None
) -> Path:
    """Write the page of an experiment, its tables and figures; return the page's path.

    Parameters
    ----------
    results : DataFrame or path
        The table of `open_results`, or the folder of the experiment.
    folder : path, optional
        Folder of the report; by default `report` in the folder of the experiment.

    Raises
    ------
    DataFileError
        If it is not the folder of an experiment, or no cell in it can be read.
    ArgumentValueError
        If a table does not know the folder of its experiment.
    ResultError, LockedError
        If the report cannot be written.
    """
    if isinstance(results, pd.DataFrame):
        if "folder" not in results.attrs:
            raise ArgumentValueError(
                "results: expected a table of open_results, got one without the folder "
                "of the experiment: give the folder instead"
            )
        results = str(results.attrs["folder"])
    return write_report(results, target=folder)[0]


def write_report(
    folder: str | Path,
    failures: Mapping[str, str] | None = None,
    *,
    target: str | Path | None = None,
) -> tuple[Path, Source]:
    """Write the report of an experiment; return the page's path, and the results in it.

    The folder holds the page, `tables/` (CSV, Markdown, LaTeX) and `figures/` (PNG,
    SVG). A cell that cannot be read is named in the returned `Source` and on the page.

    Parameters
    ----------
    folder : path
        Folder of the experiment.
    failures : dict of str, optional
        Reasons of cells that are known to have failed, by name.
    target : path, optional
        As `folder` of `report`.

    Raises
    ------
    DataFileError, ResultError, LockedError
        As in `report`; also if methods were only tuned.
    """
    source = Source.open(folder, failures)
    summary = Summary(source)
    if summary.is_tuning:
        raise DataFileError(
            f"{source.folder}: expected scores, got an experiment whose methods were "
            "only tuned: see report/tables and report/figures"
        )
    place = source.folder / REPORT if target is None else Path(target)
    try:
        _write(summary, place)
    except ResultError:
        raise
    except Exception as error:
        source = _without_failing_cells(source, error)
        _write(Summary(source), place)
    return place / PAGE, source


def _write(summary: Summary, place: Path) -> None:
    with result_directory(place, kind=REPORT) as directory:
        # A sentence stands for a picture that is missing.
        drawn = {
            name: [
                picture
                if isinstance(picture, str)
                else _saved(picture, directory / FIGURES)
                for picture in draw(summary)
            ]
            for name, draw in _CHAPTERS.items()
        }
        write_tables(summary, directory / _TABLES)
        write_text(directory, PAGE, _page(summary, drawn))


def _without_failing_cells(source: Source, error: Exception) -> Source:
    """Return the source without the cells for which a report on the cell alone fails.

    Raises
    ------
    DataFileError
        If the report fails for every cell.
    Exception
        The error itself, if the report fails for no single cell.
    """
    sound, left_out = [], dict(source.left_out)
    for result in source.results:
        try:
            with TemporaryDirectory() as folder, content_errors(result.directory):
                _write(Summary(Source.of([result])), Path(folder) / REPORT)
            sound.append(result)
        except DataFileError as refusal:
            left_out[result.directory.name] = " ".join(str(refusal).split())
    if len(sound) == len(source.results):
        raise error
    if not sound:
        why = "; ".join(left_out.values())
        raise DataFileError(f"{source.folder}: no cell can be read: {why}") from error
    return replace(source, results=sound, left_out=left_out)


def write_summary(summary: Summary, directory: Path) -> None:
    """Write the tables of an experiment; a report replaces their folder later.

    Page and figures of an earlier report stay if they show the same results.
    """
    with result_directory(directory, kind=REPORT) as folder:
        write_tables(summary, folder / _TABLES)
        for path in _still_true(directory, folder):
            kept = folder / path.relative_to(directory)
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, kept)


def _still_true(old: Path, new: Path) -> list[Path]:
    """Return page and figures of an old report whose tables are those of a new one."""
    tables = [f"{_TABLES}/{name}.csv" for name in ("results", "scores")]
    try:
        names = verify_directory(old).files
        before, after = (
            [(d / name).read_bytes() for name in tables] for d in (old, new)
        )
    except (L63Error, OSError):
        return []
    parts = [old / name for name in names if not name.startswith(f"{_TABLES}/")]
    return parts if before == after and PAGE in names else []


def write_tables(summary: Summary, folder: Path) -> None:
    """Write the tables of an experiment and its result in words into a new folder."""
    folder.mkdir()
    write_text(folder, "table.md", tables.markdown(summary))
    if summary.is_tuning:
        for result in summary.source.results:
            name, figure = result.settings.name, tuning_figure(result.metrics)
            plotting.save_figure(figure, folder.parent / FIGURES, f"tuning_{name}")
        return
    board = summary.board.assign(ties=summary.board["ties"].str.join("; "))
    frames = {"results": summary.results, "scores": board}
    # Without times the files do not depend on the run, to the byte.
    frames = {k: frame.drop(columns=list(TIMES)) for k, frame in frames.items()}
    for name, frame in {**frames, "provenance": origins(summary)}.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    note = f"{summary.source.name}: {answer(summary)}"
    write_text(folder, "scores.tex", tables.latex(summary, note))
    lines = [note, *overview(summary)]
    lines += [f"{n} is left out: {w}" for n, w in summary.source.left_out.items()]
    lines += ["\n".join([case, *text]) for case, text in sentences(summary).items()]
    write_text(folder, "answer.txt", "\n\n".join(lines) + "\n")


def _saved(picture: Picture, folder: Path) -> dict[str, Any]:
    """Write a figure; return it with its address for the page."""
    drawn = {"picture": picture, "is_wide": False, "is_moving": False}
    if isinstance(picture.figure, Sequence):
        path = plotting.save_animation(picture.figure, folder, picture.name)[0]
        content = base64.b64encode(path.read_bytes()).decode()
        address = f"data:image/gif;base64,{content}"
        return {**drawn, "address": address, "is_moving": True}
    # The layout is computed once, not again for each of the two files.
    picture.figure.draw_without_rendering()
    picture.figure.set_layout_engine("none")
    path = plotting.save_figure(picture.figure, folder, picture.name)[1]
    is_wide = 72.0 * picture.figure.get_figwidth() > 600.0
    return {
        **drawn,
        "address": _data_address(path.read_text("utf-8")),
        "is_wide": is_wide,
    }


def _template(name: str) -> str:
    """Return the text of a file that becomes part of the page."""
    path = files("l63fast.experiments.report") / "templates" / name
    return path.read_text("utf-8")


def _data_address(svg: str) -> str:
    """Return an SVG of matplotlib as a data address, with a style for dark mode.

    To save space coordinates are rounded to a tenth of a point.
    """
    head, _, body = svg[svg.index("<svg") :].partition(">")
    svg = f"{head}><style>{_template('dark.css')}</style>{body}"
    svg = re.sub(
        r"<!--.*?-->|/[*].*?[*]/|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL
    )
    svg = re.sub(_MARKS, _marks_as_path, svg)
    svg = re.sub(r'd="(M [^A-KN-Za-z"]+)"', _relative_path, svg)
    svg = re.sub(r"(?<![\d.])([1-9]\d+\.\d)\d+", r"\1", svg)
    svg = re.sub(r"(?<![\d.])([1-9]\.\d\d)\d+", r"\1", svg)
    svg = svg.replace("xlink:href", "href").replace("DejaVuSans-", "")
    svg = " ".join(svg.split()).replace('"', "'")
    return f"data:image/svg+xml,{quote(svg, safe=_SAFE)}"


def _marks_as_path(marks: re.Match[str]) -> str:
    """Return equal marks as the markers of one path, which is ten times shorter."""
    places = re.findall(r'x="(\S+)" y="(\S+)"', marks[0])
    name, ends = f"k{marks.start()}", " L ".join(map(" ".join, places))
    return (
        f'<marker id="{name}" markerUnits="userSpaceOnUse" overflow="visible">'
        f'<use xlink:href="#{marks[1]}" style="{marks[2]}"/></marker>'
        f'<path d="M {ends}" style="fill: none; marker: url(#{name})"/>'
    )


def _relative_path(path: re.Match[str]) -> str:
    """Return a path of straight lines in relative coordinates, which are shorter."""
    x, y, steps = 0, 0, []
    for kind, *place in re.findall(r"([ML]) (\S+) (\S+)", path[1]):
        to_x, to_y = (round(10.0 * float(end)) for end in place)
        steps.append(f"{kind.lower()}{(to_x - x) / 10:g} {(to_y - y) / 10:g}")
        x, y = to_x, to_y
    short = re.sub(r"(?<!\d)0\.", ".", "".join(steps)).replace(" -", "-")
    return f'd="{short}"'


def _page(summary: Summary, drawn: Mapping[str, Any]) -> str:
    """Return the page as HTML without references to other files."""
    environment = Environment(
        loader=PackageLoader("l63fast.experiments.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["typeset"] = _unbroken
    looks = plotting.method_looks(summary.kinds, summary.kinds)
    results = summary.source.results
    dates = [str(result.timing["started"])[:10] for result in results]
    rows = origins(summary)
    same = (rows.nunique() == 1) & ~rows.columns.isin(("cell", "started", "seconds"))
    return environment.get_template("report.html").render(
        summary=summary,
        sections=SECTIONS,
        style=_template("report.css"),
        script=_template("report.js"),
        answer=answer(summary),
        overview=overview(summary),
        featured=[case_title(rows[0]) for rows in summary.featured],
        said=sentences(summary),
        answers=[_answer_row(rows) for rows in summary.cases],
        columns=tables.columns_of(summary, summary.rows),
        colors={name: look.color for name, look in looks.items()},
        caption=tables.caption(summary),
        drawn=drawn,
        samples=scores.samples(summary, summary.rows),
        dates=sorted({min(dates), max(dates)}),
        shared=rows.loc[0, same].to_dict(),
        origins=rows.loc[:, ~same].to_dict("records"),
        settings=settings_of(results),
        settings_file=next((p.name for p in summary.source.folder.glob("*.toml")), ""),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _answer_row(rows: Rows) -> dict[str, str]:
    """Return the row of a case in the table of many cases."""
    leaders = [row for row in rows if is_best(row)]
    short = {column.title: column.text(rows[0]) for column in tables.WHERE}
    short["best"] = " = ".join(row.label for row in leaders) or "not known"
    for column in (*tables.RATIOS, tables.SCORE):
        short[column.title] = column.text(leaders[0]) if leaders else ""
    return short


def _unbroken(text: str) -> str:
    """Return text with non-breaking spaces and hyphens, as in "3D-Var" and "95 %"."""
    text = text.replace("D-Var", "D\u2011Var").replace(" %", "\u00a0%")
    return text.replace("σ = ", "σ\u00a0=\u00a0")


def origins(summary: Summary) -> pd.DataFrame:
    """Return one row per cell: machine, date, versions and time of the run."""
    results = summary.source.results
    # The time of a cell is the sum of its stages; other times are parts of these.
    stages, took = ("fit", "run", "score"), [r.timing["seconds"] for r in results]
    return pd.DataFrame(
        {
            "cell": result.settings.name,
            "data": str(result.metrics["data"].get("test", "")),
            **{name: str(v) for name, v in result.metrics["versions"].items()},
            **{name: str(result.timing[name]) for name in PROVENANCE},
            "seconds": f"{sum(seconds.get(stage, 0.0) for stage in stages):.1f}",
        }
        for result, seconds in zip(results, took, strict=True)
    )


def settings_of(results: Sequence[Result]) -> dict[str, Any]:
    """Return the settings that all cells share and those of each cell, as TOML."""
    each = (pd.json_normalize(result.settings.to_tables()) for result in results)
    first, *others = flat = [
        table.to_dict("records")[0] for table in each
    ]  # by dotted key
    common = {k: v for k, v in first.items() if all(r.get(k) == v for r in others)}
    differing = {
        result.settings.name: _toml({k: row[k] for k in row if k not in common})
        for result, row in zip(results, flat, strict=True)
    }
    return {"common": _toml(common), "differing": differing}


def _toml(flat: Mapping[str, Any]) -> str:
    tables: dict[str, Any] = {}
    for path, value in flat.items():
        table = tables
        *sections, key = path.split(".")
        for section in sections:
            table = table.setdefault(section, {})
        table[key] = value
    return dump_tables(tables)
