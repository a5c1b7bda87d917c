"""Writes a report: the page, its tables and its figures, as one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from l63fast import plotting
from l63fast.experiments.reporting import (
    error_pictures,
    fitting_pictures,
    score_pictures,
    state_pictures,
)
from l63fast.experiments.reporting.latex import latex_table
from l63fast.experiments.reporting.page import Drawn, render
from l63fast.experiments.reporting.pictures import Picture
from l63fast.experiments.reporting.provenance import origins
from l63fast.experiments.reporting.records import answer_rows, records
from l63fast.experiments.reporting.source import Source
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.reporting.tables import standings
from l63fast.experiments.reporting.wording import headline, overview, sentences
from l63fast.experiments.result import csv_text, write_text
from l63fast.storage import result_directory

__all__ = ["PAGE", "REPORT", "write_report"]

REPORT: Final = "report"
PAGE: Final = "report.html"
_FIGURES: Final = "figures"
_TABLES: Final = "tables"
_CHAPTERS: Final = {
    "scores": score_pictures.scores,
    "states": state_pictures.states,
    "failures": state_pictures.failures,
    "horizon": error_pictures.horizon,
    "attractor": error_pictures.attractor,
    "increments": error_pictures.increments,
    "ensembles": fitting_pictures.ensembles,
    "gain": error_pictures.gain,
    "training": fitting_pictures.training,
    "timing": score_pictures.timing,
}


def write_report(
    folder: str | Path, failures: Mapping[str, str] | None = None
) -> tuple[Path, Source]:
    """Write the report of an experiment into its folder; return the page's path.

    The folder `report` holds the page, `tables/` (CSV, LaTeX) and `figures/` (PNG,
    SVG). A cell that cannot be read is named in the returned `Source` and on the page.

    Parameters
    ----------
    folder : path
        Of the experiment.
    failures : dict of str, optional
        Why cells are known to be missing, by name.

    Raises
    ------
    DataFileError
        If the folder is none of an experiment, or no cell in it can be read.
    ResultError, LockedError
        If the report cannot be written.
    """
    source = Source.open(folder, failures)
    subject = Subject.of(source)
    target = source.folder / REPORT
    rows = standings(subject)
    with result_directory(target, kind=REPORT) as directory:
        chapters = {name: draw(subject) for name, draw in _CHAPTERS.items()}
        drawn = {
            name: [
                _saved(picture, directory / _FIGURES) for picture in chapter.pictures
            ]
            for name, chapter in chapters.items()
        }
        _write_tables(subject, directory / _TABLES)
        write_text(directory, PAGE, render(subject, rows, chapters, drawn))
    return target / PAGE, source


def _saved(picture: Picture, folder: Path) -> Drawn:
    if isinstance(picture.figure, Sequence):
        path = plotting.save_animation(picture.figure, folder, picture.name)[0]
    else:
        # The layout is found once and not again for each of the two files.
        picture.figure.draw_without_rendering()
        picture.figure.set_layout_engine("none")
        path = plotting.save_figure(picture.figure, folder, picture.name)[1]
    return Drawn.of(path, picture.caption, picture.summary, folded=picture.folded)


def _write_tables(subject: Subject, folder: Path) -> None:
    folder.mkdir()
    rows = standings(subject)
    write_text(folder, "leaderboard.csv", csv_text(records(rows)))
    write_text(folder, "answer.csv", csv_text(answer_rows(subject.findings)))
    write_text(folder, "provenance.csv", csv_text(origins(subject.source.results)))
    note = f"{subject.source.name}: {headline(subject.findings)}"
    lines = overview(subject.findings) if len(subject.findings) > 1 else []
    write_text(folder, "leaderboard.tex", latex_table(rows, note))
    said = [
        "\n".join([finding.case.title, *sentences(finding)])
        for finding in subject.findings
    ]
    write_text(folder, "answer.txt", "\n\n".join([note, *lines, *said]) + "\n")
