"""The page: sections, tables and figures put into the template, all in one file."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from l63fast.experiments.ranking import TRAINED_ONCE
from l63fast.experiments.reporting.pictures import LEADS, SECTIONS, Chapter
from l63fast.experiments.reporting.provenance import origins, settings_of
from l63fast.experiments.reporting.records import answer_rows
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.reporting.tables import Standing, columns_of
from l63fast.experiments.reporting.wording import headline, overview, sentences
from l63fast.plotting import method_looks

__all__ = ["Drawn", "render"]

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


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on the page."""

    name: str
    address: str
    caption: str
    summary: str
    folded: bool
    is_wide: bool
    is_moving: bool

    @classmethod
    def of(cls, path: Path, caption: str, summary: str, *, folded: bool) -> Drawn:
        """Return a figure with the file's content as its address."""
        moving = path.suffix == ".gif"
        if moving:
            content = base64.b64encode(path.read_bytes()).decode()
            address = f"data:image/gif;base64,{content}"
            return cls(path.stem, address, caption, summary, folded, False, moving)
        svg = path.read_text("utf-8")
        wide = _width(svg) > 600.0
        return cls(path.stem, _inlined(svg), caption, summary, folded, wide, moving)


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


def _width(svg: str) -> float:
    """Return the width of an SVG of matplotlib (points)."""
    return float(svg.split('width="', 1)[1].split("pt", 1)[0])


def render(
    subject: Subject,
    rows: Sequence[Standing],
    chapters: Mapping[str, Chapter],
    drawn: Mapping[str, Sequence[Drawn]],
) -> str:
    """Return the page as HTML that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("l63fast.experiments.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["typeset"] = _typeset
    findings, results = subject.findings, subject.source.results
    return environment.get_template("report.html").render(
        name=subject.source.name,
        sections=SECTIONS,
        leads=LEADS,
        findings=findings,
        headline=headline(findings),
        overview=overview(findings) if len(findings) > 1 else [],
        featured=[finding.case.title for finding in subject.featured],
        said=[(finding, sentences(finding)) for finding in findings],
        answers=answer_rows(findings),
        columns=columns_of(rows),
        colors=_colors(subject),
        n_rows=len(rows),
        trained_once=TRAINED_ONCE,
        measures=list(dict.fromkeys(row.entry.measure for row in rows)),
        left_out=subject.source.left_out,
        missing={key: chapter.missing for key, chapter in chapters.items()},
        drawn=drawn,
        **_provenance(results),
        facts=_facts(subject),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


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


def _colors(subject: Subject) -> dict[str, str]:
    """Return the colour of each method, that of the figures."""
    looks = method_looks(subject.methods, subject.methods)
    return {name: look.color for name, look in looks.items()}


def _facts(subject: Subject) -> dict[str, Any]:
    """Return the size of the experiment, for the line under its name."""
    results = subject.source.results
    metrics = max((r.metrics for r in results), key=lambda m: m["n_trajectories"])
    return {
        "n_cells": len(results),
        "n_cases": len(subject.findings),
        "n_methods": len({entry.method for entry in subject.entries}),
        "n_seeds": max(int(e.numbers.get("n_seeds", 1)) for e in subject.entries),
        "n_trajectories": metrics["n_trajectories"],
        "n_times": metrics.get("n_cycles", metrics.get("n_times")),
        "first": min(str(r.timing["started"]) for r in results)[:10],
        "last": max(str(r.timing["started"]) for r in results)[:10],
    }
