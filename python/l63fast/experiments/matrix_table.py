"""A matrix at one look: a line per case, encoders beside 3D-Var and optimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from l63fast.experiments.describe import observed
from l63fast.experiments.evaluation import headline
from l63fast.experiments.rows import OPTIMUM, Block, Row
from l63fast.experiments.text_table import markdown_table, terminal_table
from l63fast.observation import ObservationOperator

__all__ = ["PUBLISHED", "matrix_lines", "matrix_markdown", "matrix_table", "remarks"]

# What the study that this package starts from gives for its networks (pool), over all
# of its operators, noise levels and regimes.
PUBLISHED: Final = (6.4, 14.0)
_STUDY: Final = {
    "operators": ("x", "xy", "x2"),
    "sigmas": (0.05, 0.1, 0.5, 1.0),
    "regimes": (("mean", "var3d"), ("independent", "var3d"), ("none", "mse")),
}
_WORDS: Final = ("observed", "background", "loss", "best")
_UNINFORMED: Final = ("mean", "independent")


def matrix_lines(blocks: Sequence[Block]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the lines of the matrix."""
    methods = list(
        dict.fromkeys(row.method for block in blocks for row in block.encoders)
    )
    steps = len({block.data.steps_per_cycle for block in blocks}) > 1
    regimes = len({(block.background, block.losses) for block in blocks}) > 1
    published = any(is_of_study(block) for block in blocks)
    optimum = any(block.of(OPTIMUM) for block in blocks)
    headings = ["observed", "sigma"]
    headings += ["every"] if steps else []
    headings += ["background", "loss"] if regimes else []
    headings += ["3D-Var", *methods]
    headings += [OPTIMUM] if optimum else []
    headings += ["published"] if published else []
    headings.append("best")
    lines = []
    for block in blocks:
        line = [_seen(block), f"{block.data.sigma:g}"]
        interval = block.data.steps_per_cycle * block.data.dt
        line += [f"{interval:g}"] if steps else []
        line += [block.background, ", ".join(block.losses)] if regimes else []
        line.append("" if block.background == "none" else _score(block.of("3D-Var")))
        alone = block.background == "none"  # nothing that 3D-Var could correct
        line += [_against(block.of(method), alone=alone) for method in methods]
        line += [_optimum(block)] if optimum else []
        line += [_published(block)] if published else []
        line.append(block.verdict)
        lines.append(line)
    return headings, lines


def _seen(block: Block) -> str:
    what = observed(block.data.operator)
    if headline(block.data.operator) != "mirror_pool":
        return what
    return f"{what}, {'mirror-aware' if block.mirror_aware else 'plain'}"


def _score(row: Row | None) -> str:
    return "" if row is None else _three_digits(row.pool)


def _optimum(block: Block) -> str:
    """Return the optimum on all trajectories, by the best encoder's ratio to it."""
    found = block.of(OPTIMUM)
    known = [row for row in block.encoders if row.over_optimum is not None]
    if found is None or not known:
        return ""
    best = min(known, key=lambda row: row.pool)
    assert best.over_optimum is not None
    bound = "" if found.settled else "≤ "
    return bound + _three_digits(best.pool / best.over_optimum)


def _against(row: Row | None, *, alone: bool) -> str:
    """Return a score and what it is beside 3D-Var: "=" where that cannot be told."""
    if row is None or row.difference is None:
        return ""
    score = _three_digits(row.pool)
    if alone:
        return score
    low, high = row.difference_low, row.difference_high
    if low is None or high is None or not (low > 0.0 or high < 0.0):
        return f"{score} (=)"
    percent = 100.0 * row.difference / (row.pool - row.difference)
    return f"{score} ({percent:+z.1f} %)".replace("-", "−")


def _three_digits(score: float) -> str:
    """Return a score with its zeros: "12.0", "1.00", "0.0180"."""
    return f"{score:#.3g}".rstrip(".")


def is_of_study(block: Block) -> bool:
    """Return whether a block is a cell of the study that this package starts from."""
    regime = (block.background, block.losses[0] if len(block.losses) == 1 else "")
    data = block.data
    return (
        data.operator in _STUDY["operators"]
        and data.sigma in _STUDY["sigmas"]
        and regime in _STUDY["regimes"]
        and (data.steps_per_cycle, data.n_steps) == (1, 200)
    )


def _published(block: Block) -> str:
    if not is_of_study(block) or block.mirror_aware:
        return ""
    low, high = PUBLISHED
    return f"{low:g}–{high:g}"


def remarks(blocks: Sequence[Block]) -> list[str]:
    """Return what theory says of the cases: why some of them cannot do better."""
    said = []
    fixed = [
        block
        for block in blocks
        if block.background in _UNINFORMED and block.losses == ("var3d",)
    ]
    if any(ObservationOperator(b.data.operator).is_linear for b in fixed):
        said.append(
            "A background that knows nothing of the truth, under the loss var3d: "
            "where h is linear, the best analysis is x_b + K (y − H x_b) with the K of "
            "B, the same for every network, whatever its window and its training. That "
            "is the 3D-Var column (B = C for the mean, 2 C for an independent state); "
            "no network can be expected below it."
        )
    if any(not ObservationOperator(b.data.operator).is_linear for b in fixed):
        said.append(
            "Where x² is observed, the sign of (x, y) is not: without a background "
            "that knows it the best plain estimate has x = y = 0, and no network can "
            "know better."
        )
    costs = [ratio for block in blocks for ratio in block.costs.values()]
    if costs:
        said.append(
            "Under the loss var3d the mean cost of the encoders' analyses is "
            f"{min(costs):.4f} to {max(costs):.4f} times that of 3D-Var, the least "
            "there is."
        )
    if any(block.background == "none" for block in blocks):
        said.append(
            "Without a background all that is known is the window: the optimum column "
            "is the posterior mean over states of the climate, which no network of "
            "that window can beat."
        )
    if any(_published(block) for block in blocks):
        said.append(
            "published: what the original study gives for its networks, "
            f"{PUBLISHED[0]:g} to {PUBLISHED[1]:g} over all these cases, no better "
            "than the climatological mean."
        )
    return said


def _caption(blocks: Sequence[Block]) -> str:
    optima = [row for block in blocks if (row := block.of(OPTIMUM))]
    of_optimum = ""
    if optima:
        of_optimum = (
            " Optimum: of the same windows, computed on fewer trajectories and carried "
            "to all by its ratio to the best encoder there; ≤: at most this, as its "
            "states were too few."
        )
    return (
        "pool; in brackets the difference from 3D-Var, = where its paired 95 % "
        f"interval holds 0.{of_optimum}"
    )


def _of_words(headings: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(headings) if name in _WORDS]


def matrix_markdown(blocks: Sequence[Block]) -> str:
    """Return the matrix as Markdown, with what theory says of it."""
    headings, lines = matrix_lines(blocks)
    table = markdown_table(headings, lines, words=_of_words(headings))
    told = [_caption(blocks), *(f"\n{remark}" for remark in remarks(blocks))]
    return "\n".join([table, "", *told, ""])


def matrix_table(blocks: Sequence[Block]) -> Any:
    """Return the matrix as a table for a terminal."""
    from rich.console import Group

    headings, lines = matrix_lines(blocks)
    table = terminal_table(headings, lines, words=_of_words(headings))
    return Group(table, _caption(blocks), *remarks(blocks))
