"""The leaderboard as a LaTeX table with booktabs rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from l63fast.experiments.reporting.tables import Cell, Column, Standing, columns_of

__all__ = ["escaped", "latex_table"]

_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "σ": r"$\sigma$",
    "µ": r"\textmu{}",
    "²": r"$^2$",
    "³": r"$^3$",
    "⁴": r"$^4$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "¹": r"$^1$",
    "\u202f": r"\,",
}
_CASE: Final = ("observed", "sigma", "interval", "more")


def escaped(text: str) -> str:
    """Return text as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex_table(rows: Sequence[Standing], note: str) -> str:
    """Return the rows as a tabular, a heading per case; `note` says what is shown.

    The best of a case is bold; where others cannot be told from it, none is, and all
    of them have a dagger.
    """
    columns = {
        column: cells
        for column, cells in columns_of(rows).items()
        if column.in_print and column.key not in _CASE
    }
    cases = list(dict.fromkeys(row.entry.case for row in rows))
    layout = "".join("l" if column.is_text else "r" for column in columns)
    lines = [
        *(f"% {line}" for line in note.splitlines()),
        r"% Needs \usepackage{booktabs}. Bold: best; \dag: best together, not "
        "distinguishable.",
        f"\\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        " & ".join(_heading(column) for column in columns) + r" \\",
    ]
    for case in cases:
        lines.append(r"\midrule")
        if len(cases) > 1:
            title = f"\\multicolumn{{{len(columns)}}}{{l}}{{{escaped(case.title)}}}"
            lines.append(title + r" \\")
        lines += [
            _line(row, [cells[i] for cells in columns.values()])
            for i, row in enumerate(rows)
            if row.entry.case == case
        ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _heading(column: Column) -> str:
    return escaped(column.title)


def _line(row: Standing, cells: Sequence[Cell]) -> str:
    texts = [escaped(cell.text) for cell in cells]
    if row.mark == "best":
        texts[:3] = [rf"\textbf{{{text}}}" for text in texts[:3]]
    if row.mark == "tied":
        texts[1] += r"\textsuperscript{\dag}"
    return " & ".join(texts) + r" \\"
