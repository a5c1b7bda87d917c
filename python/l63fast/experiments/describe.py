"""Settings, progress, numbers and tables as plain text, for terminals and files."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from l63fast.experiments.settings import MEASURES
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

__all__ = [
    "captions",
    "counted",
    "decimals",
    "describe_data",
    "describe_ensemble",
    "describe_epoch",
    "describe_outcome",
    "markdown_table",
    "microseconds",
    "observed",
    "shown_change",
    "terminal_table",
]

Lines = Sequence[Sequence[str]]


@cache
def captions() -> dict[str, Any]:
    """Return the words of tables and figures."""
    path = files("l63fast.experiments") / "captions.toml"
    return tomllib.loads(path.read_text("utf-8"))


def counted(n: int, one: str, several: str = "") -> str:
    """Return a number of things, such as "1 analysis" or "3 cells"."""
    return f"{n} {one if n == 1 else several or one + 's'}"


def observed(operator: str) -> str:
    """Return what an operator observes, such as "x, y" or "x²"."""
    return ", ".join(ObservationOperator(operator).labels)


def describe_data(data: TwinSettings) -> str:
    """Return one sentence about a twin experiment."""
    return (
        f"{data.n_train} training + {data.n_val} validation + {data.n_test} test "
        f"trajectories {_trajectories(data)}"
    )


def describe_ensemble(data: TwinSettings) -> str:
    """Return one sentence about an ensemble that has no splits."""
    return f"{data.n_train} trajectories {_trajectories(data)}"


def _trajectories(data: TwinSettings) -> str:
    interval = data.steps_per_cycle * data.dt
    error = "" if data.R is None else f", R {[list(row) for row in data.R]}"
    error += "" if data.Q == 0.0 else f"; model error Q {data.Q}"
    return (
        f"of {data.n_steps} steps (dt {data.dt:g}); observed: "
        f"{observed(data.operator_name)} every {data.steps_per_cycle} steps "
        f"({interval:g} time units) with sigma {data.sigma:g}{error}; seed "
        f"{data.seed}"
    )


def describe_epoch(row: Mapping[str, Any], n_epochs: int) -> str:
    """Return one line about an epoch."""
    return (
        f"epoch {int(row['epoch']):3d}/{n_epochs}  training {row['train_loss']:.4f}  "
        f"validation {row['val_loss']:.4f}"
    )


def describe_outcome(metrics: Mapping[str, Any]) -> str:
    """Return one line about a finished cell: its score, or what was tuned."""
    measure, blind = MEASURES[metrics["measure"]], metrics["mirror_aware"]
    name, said = measure.shown(blind), [metrics["label"]]
    if "scores" in metrics:
        score = metrics["scores"][f"{'mirror_' * blind}{measure.kind}"]
    else:
        score, parameter = metrics["tuning"]["score"], metrics["parameter"]
        is_end = not metrics["tuning"]["is_bracketed"]
        end = " (at the end of what was tried)" if is_end else ""
        said.append(f"{parameter['name']} {float(parameter['value']):.4g}{end}")
    value = measure.value(float(score))
    found = f"{value:.4g}" if math.isfinite(value) else "diverged"
    return f"{', '.join(said)}: {name} {found}"


def shown_change(percent: float) -> str:
    """Return a change: "+23 %", and with a decimal where it is less than 10 %."""
    return f"{percent:+z.{0 if abs(percent) >= 10.0 else 1}f} %"


def microseconds(seconds: float) -> str:
    """Return a time in microseconds with three digits, or whole from 100 on."""
    micro = 1e6 * seconds
    return f"{micro:.3g}" if micro < 99.95 else f"{micro:,.0f}"


def decimals(score: float) -> int:
    """Return how many decimals show a score: 3, and below 0.1 as makes three digits."""
    if not math.isfinite(score) or score == 0.0:
        return 3
    return min(max(3, 2 - math.floor(math.log10(abs(score)))), 9)


def terminal_table(
    header: Sequence[str],
    lines: Lines,
    *,
    title: str = "",
    words: Collection[int] = (0,),
) -> Any:
    """Return a table in which columns of words break where space is short.

    The others, of numbers, keep their width.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    for i, name in enumerate(header):
        texts = [name, *(line[i] for line in lines)]
        if i in words:
            longest = max(len(word) for text in texts for word in text.split() or [""])
            table.add_column(name, min_width=longest)
        else:
            width = max(map(len, texts))
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(
    header: Sequence[str],
    lines: Lines,
    *,
    title: str = "",
    words: Collection[int] = (0,),
) -> str:
    """Return the same as Markdown, numbers to the right."""
    rule = "".join("---|" if i in words else "--:|" for i in range(len(header)))
    rows = [" | ".join(header), *(" | ".join(line) for line in lines)]
    first, *rest = (f"| {row} |" for row in rows)
    above = [f"**{title}**\n"] if title else []
    return "\n".join([*above, first, f"|{rule}", *rest])
