"""The tables of an experiment for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from l63fast.experiments.describe import (
    Table,
    captions,
    counted,
    decimals,
    microseconds,
    observed,
)
from l63fast.experiments.published import SOURCES
from l63fast.experiments.results import Result, tuned_numbers
from l63fast.experiments.scoring import TRAINING_SCATTER, Rows, Summary, case_title
from l63fast.experiments.settings import MEASURES

_MOST_CASES: Final = 4  # cases with tables of their own; more have one line each


@dataclass(frozen=True)
class Column:
    """A column of the table of scores.

    Attributes
    ----------
    title : str
    name : str
        The value of a row that is shown and by which rows are sorted; if empty, rows
        are sorted by the text.
    show : callable
        Takes this value, or the whole row if `of_row`; returns the text, which may be
        empty.
    of_row : bool
    is_text : bool
        Align left and sort as words.
    """

    title: str
    name: str
    show: Callable[[Any], str]
    of_row: bool = False
    is_text: bool = False

    def value(self, row: Any) -> Any:
        """Return the value by which a row is sorted."""
        value = getattr(row, self.name) if self.name else self.text(row)
        return math.inf if value is None else value

    def text(self, row: Any) -> str:
        """Return the text of a row in this column."""
        if self.of_row:
            return self.show(row)
        value = getattr(row, self.name)
        if self.is_text:
            return self.show(value)
        return "" if math.isnan(value) else self.show(value).replace("-", "−")


def shown_score(row: Any, value: float) -> str:
    """Return a value with as many decimals as the row's score."""
    if not math.isfinite(value):
        return "not finite"
    n = 2 if row.in_decibel else decimals(row.score)
    return f"{value:.{n}f}".replace("-", "−")


def shown_interval(row: Any) -> str:
    """Return the interval of a row's score; empty if there is none."""
    if not math.isfinite(row.low):
        return ""
    between = " to " if row.in_decibel else "–"
    return between.join(shown_score(row, end) for end in (row.low, row.high))


def lost_between(row: Any) -> str:
    """Return the interval of the share of lost trajectories, in per cent."""
    ends = (_share(value).removesuffix(" %") for value in (row.lost_low, row.lost_high))
    return "–".join(ends)


def is_best(row: Any) -> bool:
    """Return whether a method wins, or shares the first rank with others.

    A method without rank and with a lower score may be better: then none is the best.
    """
    return bool(row.wins or (row.rank == 1 == row.worst_rank and row.ties))


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
    short = {"inflation": "infl.", "regularisation": "reg."}
    name = short.get(row.parameter, row.parameter)
    return f"{name} {row.tuned:.3g}" if name else ""


def _three(value: float) -> str:
    return f"{value:.{decimals(value)}f}"


def _rank(row: Any) -> str:
    if row.rank is None:
        return ""
    last = f"–{row.worst_rank}" if row.worst_rank > row.rank else ""
    return f"{row.rank}{last}{'=' * bool(row.ties)}"


def _named(row: Any) -> str:
    return f"{row.label} ¹" if row.n_trainings == 1 else row.label


def _interval(row: Any) -> str:
    ends = shown_interval(row)
    return f"{ends} *" if ends and row.rare_losses else ends


def _lost(row: Any) -> str:
    return f"{_share(row.lost)} ({lost_between(row)})" if row.rare_losses else ""


def _median(row: Any) -> str:
    return shown_score(row, row.median) if row.rare_losses else ""


_TWO: Final = "{:.2f}".format
WHERE: Final = (
    Column("observed", "operator", observed, is_text=True),
    Column("σ", "sigma", "{:.3g}".format),
    Column("every", "interval", "{:g}".format),
    Column("missing", "missing", _share),
    Column("case", "case", str, is_text=True),
)
RATIOS: Final = (
    Column("of 3D-Var", "ratio_to_3dvar", _TWO),
    Column("of the optimum", "ratio_to_optimum", _TWO),
)
_METHOD: Final = Column("method", "label", _named, of_row=True, is_text=True)
SCORE: Final = Column("score", "score", lambda r: shown_score(r, r.score), of_row=True)
_INTERVAL: Final = Column("95 %", "low", _interval, of_row=True)
_TO_3DVAR: Final = Column("/ 3D-Var", "ratio_to_3dvar", _change)
_CLAIMS: Final = (
    Column("lost", "lost", _lost, of_row=True),
    Column("median", "median", _median, of_row=True),
    Column("spread", "spread_ratio", _TWO),
    Column("innov.", "innovation_ratio", _TWO),
    Column("J / 3D-Var", "cost_ratio", "{:.4f}".format),
    Column("95th pct.", "p95", _three),
    Column("flips", "sign_flips", _share),
    Column("diverged", "diverged", _share),
    Column("truth lost", "truth_lost", _share),
    Column("µs/cycle", "seconds_per_cycle", microseconds),
    Column("fitted", "", _fitted, of_row=True),
)


def _between(name: str) -> Callable[[Any], str]:
    """Return the text of a row's interval of this column."""

    def text(row: Any) -> str:
        ends = [getattr(row, f"{name}_{end}") for end in ("low", "high")]
        return "–".join(map(_three, ends)) if all(map(math.isfinite, ends)) else ""

    return text


_DISTRIBUTION: Final = (
    _METHOD,
    Column("CRPS", "crps", _three),
    Column("95 %", "crps_low", _between("crps"), of_row=True),
    Column("/ optimum", "crps_to_optimum", "{:.3f}".format),
    Column("energy", "energy", _three),
    Column("log score", "log_score", "{:.3f}".format),
    Column("in 50 %", "covered_50", "{:.3f}".format),
    Column("in 90 %", "covered_90", "{:.3f}".format),
    Column("95 %", "covered_90_low", _between("covered_90"), of_row=True),
    Column("spread", "spread_ratio", _TWO),
)


def columns_of(summary: Summary, rows: Rows) -> dict[Column, list[str]]:
    """Return the columns that are not empty, with the text of each row."""
    measure = summary.measure
    is_mean = measure.kind == "rmse_a" and not measure.smoothed
    other = "rmse_pooled_a" if is_mean else "rmse_a"
    smoothed = Column(f"rmse_s({rows[0].lag:g})", "rmse_s", _three)
    title = measure.shown(mirror_aware=all(r.mirror_aware for r in rows))
    columns = (
        *_varying(rows),
        Column("rank", "rank", _rank, of_row=True),
        *(_METHOD, replace(SCORE, title=title), _INTERVAL),
        *(Column(name, name, "{:g}".format) for name in SOURCES),
        Column("verdict", "verdict", str, is_text=True),
        Column(other, other, _three),
        *(() if measure.name == "rmse_s" else (smoothed,)),
        *(_TO_3DVAR, Column("/ optimum", "ratio_to_optimum", _TWO), *_CLAIMS),
    )
    texts = {column: [column.text(row) for row in rows] for column in columns}
    return {column: cells for column, cells in texts.items() if any(cells)}


def _varying(rows: Rows) -> list[Column]:
    """Return the columns in which the cases of these rows differ."""
    return [c for c in WHERE if len({getattr(row, c.name) for row in rows}) > 1]


def _table(title: str, columns: Mapping[Column, Sequence[str]]) -> Table:
    header = [column.title for column in columns]
    words = [i for i, column in enumerate(columns) if column.is_text]
    return Table(header, list(zip(*columns.values(), strict=True)), title, words)


def _tables(summary: Summary) -> tuple[list[Table], str]:
    """Return the tables and a note: tables of each case, or lines for many cases."""
    if summary.is_tuning:
        return _tuned(summary.source.results)
    if len(summary.cases) > _MOST_CASES:
        return _matrices(summary), caption(summary)
    tables = []
    for rows in summary.cases:
        columns = columns_of(summary, rows)
        scored = {c: cells for c, cells in columns.items() if c not in _CLAIMS}
        rest = {c: cells for c, cells in columns.items() if c in (_METHOD, *_CLAIMS)}
        tables.append(_table(case_title(rows[0]), scored))
        tables.append(_table("losses, claims and costs", rest))
        judged = [row for row in rows if math.isfinite(row.crps)]
        if judged:
            texts = {c: [c.text(row) for row in judged] for c in _DISTRIBUTION}
            tables.append(
                _table(
                    "estimated distributions",
                    {column: cells for column, cells in texts.items() if any(cells)},
                )
            )
    return tables, caption(summary)


def _published_text(row: Any) -> str:
    """Return published scores and verdict, such as "file 0.60, rerun 0.57 within"."""
    values = {name: getattr(row, name) for name in SOURCES}
    parts = [f"{name} {v:g}" for name, v in values.items() if not math.isnan(v)]
    return f"{', '.join(parts)} {row.verdict}".strip().replace("-", "−")


def _matrices(summary: Summary) -> list[Table]:
    """Return tables with a line per case: scores, and ratios to 3D-Var and optimum."""
    cases = summary.cases
    where = {c: [c.text(rows[0]) for rows in cases] for c in _varying(summary.rows)}
    winners = [" = ".join(r.method for r in rows if is_best(r)) for rows in cases]
    best = {Column("best", "", str, is_text=True): winners}
    texts: dict[str, Callable[[Any], str]] = {
        summary.measure.name: lambda r: SCORE.text(r) + " *" * r.rare_losses,
        "over tuned 3D-Var": RATIOS[0].text,
        "rmse_pooled_a over that of the optimum": RATIOS[1].text,
        "published for the same settings": _published_text,
    }
    tables = []
    for title, text in texts.items():
        by_key = [{row.method: text(row) for row in rows} for rows in cases]
        cells = {
            Column(key, key, str): [line.get(key, "") for line in by_key]
            for key in dict.fromkeys(row.method for row in summary.rows)
        }
        if any(map(any, cells.values())):
            tables.append(_table(title, where | cells | best))
    return tables


def caption(summary: Summary) -> str:
    """Return the text below the tables: their columns, and the number of samples."""
    board, metrics = summary.board, summary.source.results[0].metrics
    trained = sorted(set(board["n_trainings"]) - {0, 1})
    several = f"; means over {'–'.join(map(str, trained))} trainings" if trained else ""
    n_data = int(board["n_data"].max())
    several += f"; means over {n_data} sets of data" if n_data > 1 else ""
    n = int((board["n_trajectories"] // board["n_data"]).max())
    one_by_one = len(summary.cases) <= _MOST_CASES
    is_shown = {
        "samples": True,
        "smoothed": one_by_one and board["rmse_s"].notna().any(),
        "rank": one_by_one,
        "once": one_by_one and (board["n_trainings"] == 1).any(),
        "rare": board["rare_losses"].any(),
        "3dvar": board["ratio_to_3dvar"].notna().any(),
        "optimum": board["ratio_to_optimum"].notna().any(),
        "not_settled": (board["role"] == "not settled").any(),
        "published": (board["verdict"] != "").any(),
        "claims": one_by_one and board["innovation_ratio"].notna().any(),
        "truth_lost": one_by_one and board["truth_lost"].max() > 0.0,
        "intervals": True,
    }
    values = {
        "trajectories": counted(n, "test trajectory", "test trajectories"),
        "analyses": counted(metrics["n_times"], "analysis", "analyses"),
        "several": several,
        "lag": f"{board['lag'].max():g}",
        "scatter": f"{100.0 * TRAINING_SCATTER:.0f} %",
    }
    texts = (captions()["table"][k] for k, is_true in is_shown.items() if is_true)
    return f"{'. '.join(texts)}.".format(**values)


def _tuned(results: Sequence[Result]) -> tuple[list[Table], str]:
    """Return the table of methods that were only tuned, and a note."""
    lines = []
    tuned: Any = tuned_numbers(results).itertuples()
    for result, row in zip(results, tuned, strict=True):
        notes = [] if row.is_bracketed else ["at the end"]
        notes += [f"{row.diverged} not finite"] if row.diverged else []
        case = result.settings.case or row.operator
        tried = f"{row.lowest:.3g}–{row.highest:.3g}"
        best = (f"{row.tuned:.4g}", f"{row.score:.4g}")
        lines.append((case, row.label, row.parameter, *best, tried, ", ".join(notes)))
    settings = results[0].settings
    note = (
        f"Score: {MEASURES[settings.measure].kind} on {settings.data.n_val} validation "
        "trajectories; the test split was not opened."
    )
    header = ("case", "method", "number", "best", "score", "tried", "")
    return [Table(header, lines, words=(0, 1, 2))], note


def rich(summary: Summary) -> Any:
    """Return the tables for a terminal, 80 columns wide or more."""
    from rich.console import Group

    tables, note = _tables(summary)
    return Group(*(table.rich() for table in tables), note)


def small_table(board: pd.DataFrame) -> Any:
    """Return a short table of the scores of one case, for the terminal."""
    shown = [SCORE, _INTERVAL, _TO_3DVAR]
    if board["rmse_s"].notna().any():
        shown.append(Column("rmse_s", "rmse_s", _three))
    rows = board.assign(in_decibel=False).itertuples()
    lines = [(row.label, *(column.text(row) for column in shown)) for row in rows]
    titles = (column.title for column in shown[1:])
    header = ("method", board.attrs["measure"], *titles)
    return Table(header, lines).rich()


def compared_table(board: pd.DataFrame, versus: str) -> Table:
    """Return the scores of one case, with paired ratios to the method `versus`.

    Parameters
    ----------
    board : DataFrame
        The table of `scores` with this `versus`; `attrs["measure"]` is the name of the
        score.
    versus : str
    """
    ranks = board["rank"].astype(object)
    shown = board.assign(rank=ranks.where(ranks.notna(), None))
    rows = list(shown.itertuples())
    named = str(board.loc[board["method"] == versus, "label"].iloc[0])
    columns = (
        Column("rank", "rank", _rank, of_row=True),
        replace(_METHOD, show=lambda row: row.label),
        *(replace(SCORE, title=board.attrs["measure"]), _INTERVAL),
        Column(f"/ {named}", "ratio_to_3dvar", _ratio, of_row=True),
        Column("lost", "lost", _share),
        Column("µs/cycle", "seconds_per_cycle", microseconds),
    )
    texts = {column: [column.text(row) for row in rows] for column in columns}
    return _table(case_title(rows[0]), texts)


def _ratio(row: Any) -> str:
    """Return the paired ratio and its interval; empty for the method `versus`."""
    ratio, *ends = (getattr(row, f"ratio_to_3dvar{e}") for e in ("", "_low", "_high"))
    if not math.isfinite(ratio):
        return ""
    between = f" ({'–'.join(map(_three, ends))})"
    return f"{_three(ratio)}{between if math.isfinite(ends[0]) else ''}"


def markdown(summary: Summary) -> str:
    """Return the tables as Markdown."""
    tables, note = _tables(summary)
    return "\n\n".join([*(table.markdown() for table in tables), note]) + "\n"


_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "σ": r"$\sigma$",
    "µ": r"\textmu{}",
    **{c: f"$^{n}$" for n, c in enumerate("¹²³⁴", start=1)},
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
}


def escaped(text: str) -> str:
    """Return text with the special characters of LaTeX escaped."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex(summary: Summary, note: str) -> str:
    """Return the scores as a LaTeX tabular, with a note as a comment.

    The best method of a case is bold. If others are not distinguishable from it, none
    is bold and all of them have a dagger.
    """
    every, left_out = columns_of(summary, summary.rows), (*WHERE, *_CLAIMS)
    shown = {column: every[column] for column in every if column not in left_out}
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
    elif is_best(row):
        texts[1] += r"\textsuperscript{\dag}"
    return " & ".join(texts) + r" \\"
