"""Writes a report: the page, its tables and its figures, as one folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from l63fast import plotting
from l63fast.errors import ArgumentValueError, DataFileError
from l63fast.experiments.describe import observed
from l63fast.experiments.report import errors, fitting, scores, trajectories
from l63fast.experiments.report.provenance import origins, settings_of
from l63fast.experiments.report.scene import Chapter, Picture, Scene
from l63fast.experiments.results import TIMES, Source, write_text
from l63fast.experiments.settings import REPORT
from l63fast.experiments.tables import (
    Summary,
    caption,
    case_title,
    columns_of,
    is_best,
    latex,
    markdown,
    rich,
    shown_score,
)
from l63fast.experiments.wording import answer, overview, sentences
from l63fast.storage import result_directory

__all__ = ["PAGE", "report", "table_of", "write_report", "write_summary"]

PAGE: Final = "report.html"
_FIGURES: Final = "figures"
_TABLES: Final = "tables"

# Identifier and title of each section, in the order of the page.
SECTIONS: Final = {
    "answer": "Answer",
    "leaderboard": "Leaderboard",
    "scores": "Scores",
    "states": "Trajectories",
    "failures": "Failures",
    "horizon": "Horizon",
    "attractor": "Attractor",
    "increments": "Increments",
    "ensembles": "Ensembles",
    "gain": "Gain",
    "training": "Training",
    "timing": "Timing",
    "provenance": "Provenance",
}
# What a section is about, where its title does not say it.
_LEADS: Final = {
    "states": "What assimilation looks like, when it goes well and when it does not.",
    "failures": "How often analyses are far from the truth, and what went wrong; then "
    "the three worst trajectories of each method, with their largest error.",
    "horizon": "How long a forecast from each analysis is of use.",
    "attractor": "Where in phase space analyses are wrong.",
    "increments": "What the analyses changed, beside what they should have changed.",
    "ensembles": "Whether a method knows how wrong it is.",
    "gain": "How an observation moves the state, beside the best linear way.",
    "training": "How networks learned, and how numbers were tuned, both without the "
    "test split.",
    "timing": "What the accuracy costs.",
}
_CHAPTERS: Final = {
    "scores": scores.scores,
    "states": trajectories.states,
    "failures": trajectories.failures,
    "horizon": errors.horizon,
    "attractor": errors.attractor,
    "increments": errors.increments,
    "ensembles": fitting.ensembles,
    "gain": errors.gain,
    "training": fitting.training,
    "timing": scores.timing,
}
# Figures are drawn black on white; a reader in the dark gets them the other way round.
_DARK: Final = """<style>@media (prefers-color-scheme: dark) {
svg { fill: #e2e4e7 }
[style*='stroke: #000000'] { stroke: #e2e4e7 !important }
[style*='fill: #000000'] { fill: #e2e4e7 !important }
[style*='fill: #ffffff'] { fill: #16181b !important }
[style*='stroke: #ffffff'] { stroke: #16181b !important }
[style*='stroke: #e3e3e3'] { stroke: #33373d !important }
[style*='#cccccc'] { stroke: #43484f !important }
}</style>"""
# What an address may hold as it is: all but quotes, #, %, & and angle brackets.
_SAFE: Final = " '()*+,-./:;=?@[]_{}!$|~"


def report(
    results: pd.DataFrame | str | Path, folder: str | Path | None = None
) -> Path:
    """Write a page about an experiment, with its tables and figures; return its path.

    Parameters
    ----------
    results : DataFrame or path
        As `open_results` gives it, or the folder of the experiment.
    folder : path, optional
        Where the report is written; by default `report` in that of the experiment.

    Raises
    ------
    DataFileError
        If the folder is none of an experiment, or no cell in it can be read.
    ResultError, LockedError
        If the report cannot be written.
    """
    if isinstance(results, pd.DataFrame):
        if "folder" not in results.attrs:
            raise ArgumentValueError(
                "results: expected a table as open_results gives it, got one that does "
                "not know its folder: give that"
            )
        results = str(results.attrs["folder"])
    return write_report(results, target=folder)[0]


def write_report(
    folder: str | Path,
    failures: Mapping[str, str] | None = None,
    *,
    target: str | Path | None = None,
) -> tuple[Path, Source]:
    """Write the report of an experiment; return the page's path, and what it is of.

    The folder holds the page, `tables/` (CSV, Markdown, LaTeX) and `figures/` (PNG,
    SVG). A cell that cannot be read is named in the returned `Source` and on the page.

    Parameters
    ----------
    folder : path
        Of the experiment.
    failures : dict of str, optional
        Why cells are known to be missing, by name.
    target : path, optional
        As `folder` of `report`.
    """
    source = Source.open(folder, failures)
    scene = Scene(Summary(source))
    if scene.summary.is_tuning:
        raise DataFileError(
            f"{source.folder}: methods were only tuned: there is nothing to report on "
            "but report/tables and report/figures"
        )
    place = source.folder / REPORT if target is None else Path(target)
    with result_directory(place, kind=REPORT) as directory:
        chapters = {name: draw(scene) for name, draw in _CHAPTERS.items()}
        drawn = {
            name: [_saved(picture, directory / _FIGURES) for picture in c.pictures]
            for name, c in chapters.items()
        }
        write_tables(scene.summary, directory / _TABLES)
        write_text(directory, PAGE, _page(scene, chapters, drawn))
    return place / PAGE, source


def write_summary(results: Sequence[Any], directory: Path) -> None:
    """Write the tables of finished results into a folder that a report will replace."""
    with result_directory(directory, kind=REPORT) as folder:
        write_tables(Summary(Source.of(results)), folder / _TABLES)


def table_of(results: Sequence[Any]) -> Any:
    """Return the tables of finished results for a terminal."""
    return rich(Summary(Source.of(results)))


def write_tables(summary: Summary, folder: Path) -> None:
    """Write the tables of an experiment and its answer into a new folder."""
    folder.mkdir()
    if summary.is_tuning:
        write_text(folder, "table.md", markdown(summary))
        for result in summary.source.results:
            figure = fitting.tuning_figure(result.metrics)
            name = f"tuning_{result.settings.name}"
            plotting.save_figure(figure, folder.parent / _FIGURES, name)
        return
    board = summary.board.assign(ties=summary.board["ties"].str.join("; "))
    for name, table in (("results", summary.results), ("scores", board)):
        # Without times, both are the same to the byte whenever they are made.
        rest = table.drop(columns=list(TIMES))
        rest.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    provenance = pd.DataFrame(origins(summary.source.results))
    provenance.to_csv(folder / "provenance.csv", index=False, lineterminator="\n")
    write_text(folder, "table.md", markdown(summary))
    note = f"{summary.source.name}: {answer(summary)}"
    write_text(folder, "scores.tex", latex(summary, note))
    several = len(summary.cases) > 1
    said = [
        "\n".join([case_title(rows[0]), *sentences(summary, rows)])
        for rows in summary.cases
    ]
    lines = [note, *(overview(summary) if several else [])]
    lines += [f"{n} is left out: {w}" for n, w in summary.source.left_out.items()]
    write_text(folder, "answer.txt", "\n\n".join([*lines, *said]) + "\n")


@dataclass(frozen=True)
class _Drawn:
    """A figure as it stands on the page."""

    name: str
    address: str
    caption: str
    summary: str
    folded: bool
    is_wide: bool
    is_moving: bool


def _saved(picture: Picture, folder: Path) -> _Drawn:
    words = (picture.caption, picture.summary, picture.folded)
    if isinstance(picture.figure, Sequence):
        path = plotting.save_animation(picture.figure, folder, picture.name)[0]
        content = base64.b64encode(path.read_bytes()).decode()
        return _Drawn(
            path.stem, f"data:image/gif;base64,{content}", *words, False, True
        )
    # The layout is found once and not again for each of the two files.
    picture.figure.draw_without_rendering()
    picture.figure.set_layout_engine("none")
    path = plotting.save_figure(picture.figure, folder, picture.name)[1]
    svg = path.read_text("utf-8")
    wide = float(svg.split('width="', 1)[1].split("pt", 1)[0]) > 600.0
    return _Drawn(path.stem, _inlined(svg), *words, wide, False)


def _inlined(svg: str) -> str:
    """Return an SVG of matplotlib as an address, dark where the reader is.

    Coordinates keep a tenth of a point.
    """
    svg = svg[svg.index("<svg") :]
    start = svg.index(">") + 1
    svg = svg[:start] + _DARK + svg[start:]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(?<![\d.])([1-9]\d+\.\d)\d+", r"\1", svg)
    svg = re.sub(r"(?<![\d.])([1-9]\.\d\d)\d+", r"\1", svg)
    svg = " ".join(svg.split()).replace('"', "'")
    return f"data:image/svg+xml,{quote(svg, safe=_SAFE)}"


def _page(
    scene: Scene,
    chapters: Mapping[str, Chapter],
    drawn: Mapping[str, Sequence[_Drawn]],
) -> str:
    """Return the page as HTML that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("l63fast.experiments.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["typeset"] = _typeset
    summary, several = scene.summary, len(scene.cases) > 1
    looks = plotting.method_looks(scene.kinds, scene.kinds)
    return environment.get_template("report.html").render(
        name=summary.source.name,
        sections=SECTIONS,
        leads=_LEADS,
        answer=answer(summary),
        overview=overview(summary) if several else [],
        featured=[case_title(rows[0]) for rows in scene.featured],
        said=[(case_title(rows[0]), sentences(summary, rows)) for rows in scene.cases],
        answers=[_answer_row(rows) for rows in scene.cases],
        columns=columns_of(summary, scene.rows),
        rows=scene.rows,
        colors={name: look.color for name, look in looks.items()},
        caption=caption(summary),
        left_out=summary.source.left_out,
        missing={key: chapter.missing for key, chapter in chapters.items()},
        drawn=drawn,
        **_provenance(summary.source.results),
        facts=_facts(scene),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _answer_row(rows: Sequence[Any]) -> dict[str, str]:
    """Return the answer to a case in short, for a table of many cases."""
    first = rows[0]
    leaders = [row for row in rows if is_best(row)]
    short = {"observed": observed(first.operator), "σ": f"{first.sigma:.3g}"}
    short |= {"every": f"{first.interval:g}", "case": first.case}
    short["best"] = " = ".join(row.label for row in leaders) or "not known"
    for title, name in (("of 3D-Var", "3dvar"), ("of the optimum", "optimum")):
        ratio = getattr(leaders[0], f"ratio_to_{name}") if leaders else float("nan")
        short[title] = f"{ratio:.2f}" if ratio == ratio else ""
    short["score"] = shown_score(leaders[0], leaders[0].score) if leaders else ""
    return short


def _typeset(text: str) -> str:
    """Return text that does not break where a reader would stumble."""
    for loose, tight in (
        ("D-Var", "D\u2011Var"),
        (" %", "\u00a0%"),
        ("σ = ", "σ\u00a0=\u00a0"),
    ):
        text = text.replace(loose, tight)
    return text


def _provenance(results: Sequence[Any]) -> dict[str, Any]:
    """Return where cells come from: what is the same for all, and what differs."""
    rows = origins(results)
    same = [key for key in rows[0] if len({row[key] for row in rows}) == 1]
    same = [key for key in same if key not in ("cell", "started", "seconds")]
    return {
        "shared": {key: rows[0][key] for key in same},
        "origins": [{k: v for k, v in row.items() if k not in same} for row in rows],
        "settings": settings_of(results),
    }


def _facts(scene: Scene) -> dict[str, Any]:
    """Return the size of the experiment, for the line under its name."""
    results = scene.summary.source.results
    dates = [str(result.timing["started"])[:10] for result in results]
    return {
        "n_cells": len(results),
        "n_cases": len(scene.cases),
        "n_methods": len(scene.kinds),
        "samples": scores.samples(scene.rows, scene),
        "first": min(dates),
        "last": max(dates),
    }
