"""Data, outcomes, numbers and tables as plain text, for terminals and files."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from l63fast.experiments.data import SavedSettings
from l63fast.experiments.settings import MEASURES
from l63fast.observation import ObservationOperator, is_named
from l63fast.twin import TwinSettings


@cache
def captions() -> dict[str, Any]:
    """Return the texts of tables and figures in `captions.toml`."""
    path = files("l63fast.experiments") / "captions.toml"
    return tomllib.loads(path.read_text("utf-8"))


def counted(n: int, one: str, several: str = "") -> str:
    """Return a number with its noun, such as "1 analysis" or "3 cells"."""
    return f"{n} {one if n == 1 else several or one + 's'}"


def observed(operator: str) -> str:
    """Return what an operator observes, such as "x, y" or "x²"; else its own name."""
    if not is_named(operator):
        return operator
    return ", ".join(ObservationOperator(operator).labels)


def describe_data(data: TwinSettings, *, has_splits: bool = True) -> str:
    """Return one line about a twin experiment, or about an ensemble without splits."""
    times = f"in {data.gaps}"
    if not data.is_irregular:
        times = f"every {data.steps_per_cycle} steps "
        times += f"({data.steps_per_cycle * data.dt:g} time units)"
        times += f", {data.gaps}," if data.gaps else ""
    more = f" training + {data.n_val} validation + {data.n_test} test" * has_splits
    error = "" if data.R is None else f", R {[list(row) for row in data.R]}"
    error += "" if data.Q == 0.0 else f"; model error Q {data.Q}"
    error += f"; {data.beyond_the_usual}" if data.beyond_the_usual else ""
    source = f"seed {data.seed}"
    if isinstance(data, SavedSettings):
        source = f"{data.path}, sha256 {data.sha256[:12]}".removeprefix(", ")
    return (
        f"{data.n_train}{more} trajectories of {data.n_steps} steps (dt {data.dt:g}); "
        f"observed: {observed(data.operator_name)} {times} with sigma {data.sigma:g}"
        f"{error}; {source}"
    )


def describe_outcome(metrics: Mapping[str, Any]) -> str:
    """Return one line about a finished cell: its score or its tuned number."""
    measure, blind = MEASURES[metrics["measure"]], metrics["mirror_aware"]
    if not measure.in_decibel:  # what the method was tuned by, and has in any case
        measure = MEASURES[measure.kind]
    name, parts = measure.shown(blind), [metrics["label"]]
    if "scores" in metrics:
        score = metrics["scores"][f"{'mirror_' * blind}{measure.kind}"]
    else:
        score, parameter = metrics["tuning"]["score"], metrics["parameter"]
        is_end = not metrics["tuning"]["is_bracketed"]
        end = " (at the end of the range tried)" if is_end else ""
        parts.append(f"{parameter['name']} {float(parameter['value']):.4g}{end}")
    value = measure.value(float(score))
    shown = f"{value:.4g}" if math.isfinite(value) else "not finite"
    return f"{', '.join(parts)}: {name} {shown}"


def microseconds(seconds: float) -> str:
    """Return a time in microseconds with three digits, from 100 on without decimals."""
    micro = 1e6 * seconds
    return f"{micro:.3g}" if micro < 99.95 else f"{micro:,.0f}"


def decimals(score: float) -> int:
    """Return the number of decimals of a score: 3, more below 0.1 for three digits."""
    if not math.isfinite(score) or score == 0.0:
        return 3
    return min(max(3, 2 - math.floor(math.log10(abs(score)))), 9)


@dataclass(frozen=True)
class Table:
    """A table of texts, for terminals and as Markdown.

    Attributes
    ----------
    header : sequence of str
    lines : sequence of sequences of str
    title : str
    words : collection of int
        Indices of the columns with words; the others have numbers.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    title: str = ""
    words: Collection[int] = (0,)

    def rich(self) -> Any:
        """Return the table for a terminal.

        In a narrow terminal the columns of words are wrapped; those of numbers keep
        their width.
        """
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        table.padding = (0, 1, 0, 0)
        for i, texts in enumerate(zip(self.header, *self.lines, strict=True)):
            is_words = i in self.words
            parts = " ".join(texts).split() if is_words else texts
            style: Any = {} if is_words else {"justify": "right", "no_wrap": True}
            table.add_column(
                texts[0], min_width=max(map(len, parts), default=0), **style
            )
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """Return the table as Markdown, numbers aligned right."""
        rule = ["---|" if i in self.words else "--:|" for i in range(len(self.header))]
        first, *rest = (f"| {' | '.join(row)} |" for row in (self.header, *self.lines))
        above = [f"**{self.title}**\n"] if self.title else []
        return "\n".join([*above, first, f"|{''.join(rule)}", *rest])
