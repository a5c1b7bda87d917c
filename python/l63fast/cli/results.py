"""`l63fast evaluate` and `l63fast visualize`: score and draw a finished result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import print_whole, say
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate", "show_scores", "visualize"]

_RESULT_DIR = Option("result_dir", Path, "Folder of a result of training.")


def _result_dir(given: Given) -> Any:
    if given["result_dir"] is None:
        raise ConfigurationError(
            "--result_dir: expected the folder of a result, such as results/gru_xy"
        )
    return given["result_dir"]


@command(
    app,
    (
        _RESULT_DIR,
        options.data_folder("Folder of the data; those it was trained on by default."),
        Option("split", Literal["test", "val"], "Split to score.", "test"),
        options.QUIET,
    ),
)
def evaluate(given: Given) -> None:
    """Score a trained encoder again, from its exported model, and print the table.

    Nothing is written. On its own data the stored scores must come out again.
    """
    from l63fast.experiments.reevaluate import reevaluate

    board, verdict = reevaluate(
        _result_dir(given), data=given["data"], split=given["split"]
    )
    if not given["quiet"]:
        show_scores(board, verdict)


def show_scores(board: pd.DataFrame, verdict: str) -> None:
    """Print scores as a table, and a sentence below it."""
    from l63fast.experiments.tables import small_table

    print_whole(small_table(board))
    say(verdict)


@command(app, (_RESULT_DIR, options.QUIET))
def visualize(given: Given) -> None:
    """Draw the figures and the animation of a result into its folder `figures/`."""
    from l63fast.experiments.figures import draw_figures

    for path in draw_figures(_result_dir(given)):
        say(str(path), quiet=given["quiet"])
