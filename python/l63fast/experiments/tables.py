"""The tables of an experiment: in a terminal, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from l63fast.experiments.describe import (
    counted,
    decimals,
    microseconds,
    observed,
)
from l63fast.experiments.published import published_for, verdict
from l63fast.experiments.results import CASE, Result, Source, results_of
from l63fast.experiments.scoring import TRAINING_SCATTER, scores
from l63fast.experiments.settings import MEASURES, Measure
from l63fast.experiments.text_table import markdown_table, terminal_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Column",
    "Summary",
    "case_title",
    "columns_of",
    "is_best",
    "latex",
    "lost_between",
    "markdown",
    "rich",
]

_MOST_CASES: Final = 4  # that are shown one by one
_SOURCES: Final = ("file", "rerun", "paper")
_SHORT: Final = {"inflation": "infl.", "regularisation": "reg."}


@dataclass(frozen=True, eq=False)
class Summary:
    """What everything that is shown of an experiment is made from.

    Attributes
    ----------
    source : Source
    """

    source: Source

    @property
    def measure(self) -> Measure:
        """The measure that decides."""
        return MEASURES[self.source.results[0].settings.measure]

    @property
    def is_tuning(self) -> bool:
        """Whether methods were tuned and nothing else."""
        return self.source.results[0].settings.tune_only

    @cached_property
    def results(self) -> pd.DataFrame:
        """As `open_results` gives it."""
        return results_of(self.source.results)

    @cached_property
    def board(self) -> pd.DataFrame:
        """As `scores` gives it, with published scores beside."""
        bootstrap = asdict(self.source.results[0].settings.scores)
        board = scores(self.results, self.measure.name, **bootstrap)
        beside = [self._published(row) for row in board.itertuples()]
        return board.assign(
            in_decibel=self.measure.in_decibel,
            **{name: [row[name] for row in beside] for name in (*_SOURCES, "verdict")},
            label=self._told_apart(board),
        )

    @cached_property
    def cases(self) -> list[list[Any]]:
        """The rows of each case, best first; `rank` is an int or None."""
        ranks = self.board["rank"].astype(object)
        board = self.board.assign(rank=ranks.where(ranks.notna(), None))
        return [
            list(rows.itertuples(index=False))
            for _, rows in board.groupby(list(CASE), sort=False)
        ]

    def cell(self, row: Any) -> Result:
        """Return the opened cell, of its first seed, that a row was made of."""
        return self.source.cells[row.cell]

    def _published(self, row: Any) -> dict[str, Any]:
        found = published_for(self.cell(row).settings)
        if found is None:
            return {**dict.fromkeys(_SOURCES, math.nan), "verdict": ""}
        values = {name: getattr(found, name) for name in _SOURCES}
        return {**values, "verdict": verdict(found, row.score, row.low, row.high)}

    def _told_apart(self, board: pd.DataFrame) -> list[str]:
        """Return labels, with the key where two methods of a case have the same."""
        several = board.duplicated([*CASE, "label"], keep=False)
        return [
            f"{label} [{key}]" if twice else label
            for label, key, twice in zip(
                board["label"], board["method"], several, strict=True
            )
        ]


def case_title(row: Any) -> str:
    """Return what the data of a row are."""
    more = f", {row.case}" if row.case else ""
    return (
        f"{observed(row.operator)} observed with σ = {row.sigma:.3g} every "
        f"{row.interval:g} time units{more}"
    )


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes
    ----------
    title : str
    text : callable
        Takes a row; gives what the cell says, empty where there is nothing to say.
    value : callable
        Takes a row; gives what it is sorted by.
    is_text : bool
        Left-aligned and sorted as words.
    is_score : bool
        Whether it belongs to the score, or to claims and costs.
    """

    title: str
    text: Callable[[Any], str]
    value: Callable[[Any], Any]
    is_text: bool = False
    is_score: bool = True


def _number(name: str, show: Callable[[float], str]) -> Callable[[Any], str]:
    def text(row: Any) -> str:
        value = float(getattr(row, name))
        return "" if math.isnan(value) else show(value).replace("-", "−")

    return text


def _column(title: str, name: str, show: Callable[[float], str], **how: Any) -> Column:
    return Column(title, _number(name, show), lambda row: getattr(row, name), **how)


def shown_score(row: Any, value: float) -> str:
    """Return a value with the digits of the row's score."""
    if not math.isfinite(value):
        return "diverged"
    n = 2 if row.in_decibel else decimals(row.score)
    return f"{value:.{n}f}".replace("-", "−")


def _interval(row: Any) -> str:
    if not math.isfinite(row.low):
        return ""
    between = " to " if row.in_decibel else "–"
    marked = " *" if row.rare_losses else ""
    return f"{shown_score(row, row.low)}{between}{shown_score(row, row.high)}{marked}"


def _lost(row: Any) -> str:
    if not row.rare_losses:
        return ""
    return f"{_share(row.lost)} ({lost_between(row)})"


def lost_between(row: Any) -> str:
    """Return the interval of the share that is lost, in per cent."""
    ends = (_share(value).removesuffix(" %") for value in (row.lost_low, row.lost_high))
    return "–".join(ends)


def is_best(row: Any) -> bool:
    """Whether a method wins, or shares the first rank with others."""
    return bool(row.wins or (row.rank == 1 and row.ties))


def rank_text(row: Any) -> str:
    """Return a rank: "2", "1=" where there are ties, empty without one."""
    return "" if row.rank is None else f"{row.rank}{'=' if row.ties else ''}"


def _change(ratio: float) -> str:
    if ratio >= 2.0:
        return f"× {ratio:.1f}" if ratio < 1000.0 else f"× {ratio:.1e}"
    return f"{100.0 * (ratio - 1.0):+z.1f} %"


def _share(value: float) -> str:
    percent = 100.0 * value
    return "0" if value == 0.0 else f"{percent:.{2 if percent < 10.0 else 3}g} %"


def _fitted(row: Any) -> str:
    if math.isfinite(row.training_seconds):
        more = "> " if row.resumed > 0.0 else ""
        return f"{more}{row.training_seconds:.0f} s"
    if not row.parameter:
        return ""
    return f"{_SHORT.get(row.parameter, row.parameter)} {row.tuned:.3g}"


def _claims(title: str, name: str, show: Callable[[float], str]) -> Column:
    return _column(title, name, show, is_score=False)


def _three(value: float) -> str:
    return f"{value:.{decimals(value)}f}"


_WHERE: Final = {
    "operator": Column(
        "observed", lambda r: observed(r.operator), lambda r: r.operator, is_text=True
    ),
    "sigma": Column("σ", lambda r: f"{r.sigma:.3g}", lambda r: r.sigma),
    "interval": Column("every", lambda r: f"{r.interval:g}", lambda r: r.interval),
    "case": Column("case", lambda r: r.case, lambda r: r.case, is_text=True),
}
_FIRST: Final = (
    Column("rank", rank_text, lambda r: math.inf if r.rank is None else r.rank),
    Column(
        "method",
        lambda r: r.label + (" ¹" if r.n_trainings == 1 else ""),
        lambda r: r.label,
        is_text=True,
    ),
)
_SCORE: Final = Column("score", lambda r: shown_score(r, r.score), lambda r: r.score)
_PUBLISHED: Final = (
    Column("95 %", _interval, lambda r: r.low),
    *(_column(name, name, lambda value: f"{value:g}") for name in _SOURCES),
    Column("verdict", lambda r: r.verdict, lambda r: r.verdict, is_text=True),
)
_REST: Final = (
    _column("/ 3D-Var", "ratio_to_3dvar", _change),
    _column("/ optimum", "ratio_to_optimum", lambda value: f"{value:.2f}"),
    Column("lost", _lost, lambda r: r.lost, is_score=False),
    Column(
        "median",
        lambda r: shown_score(r, r.median) if r.rare_losses else "",
        lambda r: r.median,
        is_score=False,
    ),
    _claims("spread", "spread_ratio", lambda value: f"{value:.2f}"),
    _claims("innov.", "innovation_ratio", lambda value: f"{value:.2f}"),
    _claims("J / 3D-Var", "cost_ratio", lambda value: f"{value:.4f}"),
    _claims("95th pct.", "p95", _three),
    _claims("flips", "sign_flips", _share),
    _claims("diverged", "diverged", _share),
    _claims("truth lost", "truth_lost", _share),
    _claims("µs/cycle", "seconds_per_cycle", microseconds),
    Column("fitted", _fitted, _fitted, is_score=False),
)


def columns_of(summary: Summary, rows: Sequence[Any]) -> dict[Column, list[str]]:
    """Return the columns that say something, with the text of each row."""
    other = "rmse_a" if summary.measure.kind == "rmse_pooled_a" else "rmse_pooled_a"
    score = summary.measure.shown(mirror_aware=all(r.mirror_aware for r in rows))
    found = {}
    for name, column in _WHERE.items():
        if len({getattr(row, name) for row in rows}) > 1:
            found[column] = [column.text(row) for row in rows]
    for column in (*_FIRST, replace(_SCORE, title=score), *_PUBLISHED,
                   _column(other, other, _three), *_REST):  # fmt: skip
        cells = [column.text(row) for row in rows]
        if any(cells):
            found[column] = cells
    return found


@dataclass(frozen=True)
class _Block:
    """A table as text: its title, its columns' titles, its rows, which hold words."""

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    words: list[int]


def _blocks(summary: Summary) -> list[_Block]:
    """Return the tables: case by case, or of many cases as method against case."""
    if len(summary.cases) > _MOST_CASES:
        return _matrices(summary)
    found = []
    for rows in summary.cases:
        columns = columns_of(summary, rows)
        for is_score in (True, False):
            shown = {
                c: cells
                for c, cells in columns.items()
                if c.is_score is is_score or c.title == "method"
            }
            title = case_title(rows[0]) if is_score else "losses, claims and costs"
            found.append(_block(title, shown))
    return found


def _block(title: str, columns: dict[Column, list[str]]) -> _Block:
    return _Block(
        title,
        tuple(column.title for column in columns),
        list(zip(*columns.values(), strict=True)),
        [i for i, column in enumerate(columns) if column.is_text],
    )


def _beside(row: Any) -> str:
    """Return what was published: "file 0.60, rerun 0.57 within"."""
    values = {name: getattr(row, name) for name in _SOURCES}
    said = [f"{name} {v:g}" for name, v in values.items() if not math.isnan(v)]
    return f"{', '.join(said)} {row.verdict}".strip().replace("-", "−")


def _matrices(summary: Summary) -> list[_Block]:
    """Return a line per case: the score of every method, and how far it is off."""
    rows = [row for case in summary.cases for row in case]
    where = [
        c for name, c in _WHERE.items() if len({getattr(r, name) for r in rows}) > 1
    ]
    keys = list(dict.fromkeys(row.method for row in rows))
    tables: list[tuple[str, Callable[[Any], str]]] = [
        (
            summary.measure.name,
            lambda r: shown_score(r, r.score) + (" *" if r.rare_losses else ""),
        ),
        ("over tuned 3D-Var", _number("ratio_to_3dvar", lambda v: f"{v:.2f}")),
        (
            "rmse_pooled_a over that of the optimum",
            _number("ratio_to_optimum", lambda v: f"{v:.2f}"),
        ),
        ("published for the same settings", _beside),
    ]
    blocks = []
    for title, text in tables:
        lines = []
        for case in summary.cases:
            by_key = {row.method: row for row in case}
            cells = [text(by_key[k]) if k in by_key else "" for k in keys]
            best = [row.method for row in case if is_best(row)]
            lines.append((*(c.text(case[0]) for c in where), *cells, " = ".join(best)))
        if any(any(line[len(where) : -1]) for line in lines):
            header = (*(column.title for column in where), *keys, "best")
            words = [i for i, column in enumerate(where) if column.is_text]
            blocks.append(_Block(title, header, lines, [*words, len(header) - 1]))
    return blocks


def caption(summary: Summary) -> str:
    """Return what the tables show and on how many samples."""
    board, metrics = summary.board, summary.source.results[0].metrics
    n_times = metrics["n_times"]
    trained = sorted(set(board["n_trainings"]) - {0, 1})
    several = f"; means over {'–'.join(map(str, trained))} trainings" if trained else ""
    n_data = int(board["n_data"].max())
    several += f"; means over {n_data} sets of data" if n_data > 1 else ""
    n = int((board["n_trajectories"] // board["n_data"]).max())
    one_by_one = len(summary.cases) <= _MOST_CASES
    said = {
        f"{counted(n, 'test trajectory', 'test trajectories')}, "
        f"{counted(n_times, 'analysis', 'analyses')} each{several}. rmse_a: time mean "
        "of the instantaneous root mean square error (DAPPER's rmse.a); rmse_pooled_a: "
        "root of the mean square error over everything": True,
        "Rank: = where another method cannot be told from it (paired, 95 %); baselines "
        "and the optimum have none": one_by_one,
        f"¹: trained once; two networks that differ by less than "
        f"{100.0 * TRAINING_SCATTER:.0f} % share their rank then, as trainings differ "
        "by that much": one_by_one and (board["n_trainings"] == 1).any(),
        "* rare losses: few trajectories make the score, and the interval cannot know "
        "of losses that are not among them; lost: the share of lost trajectories with "
        "its exact 95 % interval; such a method has no rank": board[
            "rare_losses"
        ].any(),
        "/ 3D-Var: change from tuned 3D-Var, paired": (
            board["ratio_to_3dvar"].notna().any()
        ),
        "/ optimum: rmse_pooled_a over that of the optimum, paired": (
            board["ratio_to_optimum"].notna().any()
        ),
        "not settled: a method beats what was to be the optimum, which is none": (
            (board["role"] == "not settled").any()
        ),
        "file, rerun, paper: what a settings file of DAPPER gives, what DAPPER 1.7.1 "
        "gives when it is run, what the paper gives, each for the same settings; "
        "within: inside these, widened by the Monte-Carlo errors of both": (
            (board["verdict"] != "").any()
        ),
        "spread: claimed over made error; innov.: mean of dᵀ S⁻¹ d / m, 1 where the "
        "innovations d have the covariance S that is claimed": (
            one_by_one and board["innovation_ratio"].notna().any()
        ),
        "truth lost: analyses of which the innovation is one that the scheme's own "
        "covariance gives once in 1e9; particle filters scatter their particles then": (
            one_by_one and board["truth_lost"].max() > 0.0
        ),
        "Intervals: 95 %, bootstrap over trajectories, and trainings where there are "
        "several. Numbers are published ones or were tuned, and networks trained, "
        "without the test split": True,
    }
    return ". ".join(text for text, is_shown in said.items() if is_shown) + "."


_TUNED: Final = ("case", "method", "number", "best", "score", "tried", "")


def _tuning(results: Sequence[Result]) -> tuple[_Block, str]:
    """Return what tuning alone found, and what the table shows."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        tuning, number = result.metrics["tuning"], result.metrics["parameter"]
        scales = [float(scale) for scale in tuning["scales"]]
        lost = sum(math.isnan(float(score)) for score in tuning["scores"])
        notes = [] if tuning["is_bracketed"] else ["at the end"]
        notes += [f"{lost} diverged"] if lost else []
        rows.append(
            (
                result.settings.case or result.settings.data.operator,
                result.metrics["label"],
                number["name"],
                f"{float(number['value']):.4g}",
                f"{float(tuning['score']):.4g}",
                f"{min(scales):.3g}–{max(scales):.3g}",
                ", ".join(notes),
            )
        )
    first = results[0]
    measure = MEASURES[first.settings.measure].kind
    note = (
        f"Score: {measure} on {first.settings.data.n_val} validation trajectories; the "
        "test split was not opened."
    )
    return _Block("", _TUNED, rows, [0, 1, 2]), note


def rich(summary: Summary) -> Any:
    """Return the tables for a terminal, 80 columns wide or more."""
    from rich.console import Group

    if summary.is_tuning:
        block, note = _tuning(summary.source.results)
        return Group(terminal_table(block.header, block.lines, words=block.words), note)

    tables = [
        terminal_table(b.header, b.lines, title=b.title, words=b.words)
        for b in _blocks(summary)
    ]
    return Group(*tables, caption(summary))


def small_table(board: pd.DataFrame) -> Any:
    """Return scores of one case, without rank and claims, for a terminal."""
    header = ("method", board.attrs["measure"], "95 %", "/ 3D-Var")
    lines = []
    for row in board.assign(in_decibel=False).itertuples():
        ratio = row.ratio_to_3dvar
        change = "" if math.isnan(ratio) else _change(ratio).replace("-", "−")
        lines.append((row.label, shown_score(row, row.score), _interval(row), change))
    return terminal_table(header, lines)


def markdown(summary: Summary) -> str:
    """Return the tables as Markdown."""
    if summary.is_tuning:
        block, note = _tuning(summary.source.results)
        table = markdown_table(block.header, block.lines, words=block.words)
        return f"{table}\n\n{note}\n"
    lines: list[str] = []
    for block in _blocks(summary):
        table = markdown_table(block.header, block.lines, words=block.words)
        lines += [f"**{block.title}**", "", table, ""]
    return "\n".join([*lines, caption(summary), ""])


_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "σ": r"$\sigma$",
    "µ": r"\textmu{}",
    "¹": r"$^1$",
    "²": r"$^2$",
    "³": r"$^3$",
    "⁴": r"$^4$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
}


def escaped(text: str) -> str:
    """Return text as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex(summary: Summary, note: str) -> str:
    """Return the scores as a tabular with booktabs rules; `note` says what is shown.

    The best of a case is bold; where others cannot be told from it, none is, and all of
    them have a dagger.
    """
    every = [row for rows in summary.cases for row in rows]
    titles = [column.title for column in _WHERE.values()]
    shown = {
        column: cells
        for column, cells in columns_of(summary, every).items()
        if column.is_score and column.title not in titles
    }
    layout = "".join("l" if column.is_text else "r" for column in shown)
    lines = [
        *(f"% {line}" for line in note.splitlines()),
        r"% Needs \usepackage{booktabs}. Bold: best; \dag: best together, not "
        "distinguishable.",
        f"\\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        " & ".join(escaped(column.title) for column in shown) + r" \\",
    ]
    place = iter(zip(*shown.values(), strict=True))
    for rows in summary.cases:
        lines.append(r"\midrule")
        if len(summary.cases) > 1:
            title = escaped(case_title(rows[0]))
            lines.append(f"\\multicolumn{{{len(shown)}}}{{l}}{{{title}}} \\\\")
        lines += [_latex_line(row, next(place)) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(row: Any, cells: Sequence[str]) -> str:
    texts = [escaped(cell) for cell in cells]
    if row.wins:
        texts[:3] = [rf"\textbf{{{text}}}" for text in texts[:3]]
    elif row.rank == 1 and row.ties:
        texts[1] += r"\textsuperscript{\dag}"
    return " & ".join(texts) + r" \\"
