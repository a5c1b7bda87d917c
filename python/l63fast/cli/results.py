"""Commands for the result of a training: evaluate, visualize and export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.command_line import Given, Option, command
from l63fast.cli.output import print_whole, say
from l63fast.errors import ConfigurationError
from l63fast.learning.own_model import OwnModel
from l63fast.observation import ObservationOperator

if TYPE_CHECKING:
    import pandas as pd

_RESULT_DIR: Final = Option("result_dir", Path, "Folder of the result of a training.")


def _folder(folder: Path | None, shown: str, what: str = "result") -> Path:
    """Return the folder, or raise an error if none was given."""
    if folder is None:
        raise ConfigurationError(
            f"{shown}: expected the folder of a {what} (results/gru_xy), got none"
        )
    return folder


def _own_model(given: Given) -> Callable[..., Any] | None:
    """Return the class that the user names in `--model`, after its import."""
    name = given["model"]
    own = None if name is None else OwnModel.imported(name)
    if name is not None and own is None:
        raise ConfigurationError(f"--model: expected module:Class, got {name!r}")
    return None if own is None else own.make


@command(
    _RESULT_DIR,
    options.data_folder("Folder of the data; by default those of the training."),
    Option("split", Literal["test", "val"], "Split to score.", "test"),
    options.OWN_MODEL,
    Option(
        "operator",
        str,
        "package.module:function, your own observation operator of the data; the name "
        "in the result is not imported.",
    ),
    options.QUIET,
)
def evaluate(given: Given) -> None:
    """Score a trained encoder again, from its exported model, and print the table.

    Nothing is written. On its own data the scores equal the stored ones.
    """
    from l63fast.experiments.reevaluate import reevaluate

    folder = _folder(given["result_dir"], "--result_dir")
    name = given["operator"]
    operator = None if name is None else ObservationOperator(name).imported()
    arguments = {"data": given["data"], "split": given["split"], "operator": operator}
    board, verdict = reevaluate(folder, model=_own_model(given), **arguments)
    if not given["quiet"]:
        show_scores(board, verdict)


def show_scores(board: pd.DataFrame, verdict: str) -> None:
    """Print scores as a table, and a sentence below the table."""
    from l63fast.experiments.tables import small_table

    print_whole(small_table(board))
    say(verdict)


@command(_RESULT_DIR, options.QUIET)
def visualize(given: Given) -> None:
    """Draw the figures and the animation of a result into its folder `figures/`."""
    from l63fast.experiments.figures import draw_figures

    for path in draw_figures(_folder(given["result_dir"], "--result_dir")):
        say(str(path), quiet=given["quiet"])


@command(
    Option("result", Path, "Folder of a trained encoder.", positional=True),
    Option(
        "formats",
        str,
        "Formats among torchscript, pt2 and onnx, separated by commas. The weights "
        "(safetensors) are always written; onnx needs the extra `onnx`.",
        "torchscript,pt2",
    ),
    Option("save_dir", Path, "Folder of the export; RESULT_export by default."),
    options.OWN_MODEL,
    options.DRY_RUN,
    options.QUIET,
)
def export(given: Given) -> None:
    """Write a trained encoder for C++, Fortran, torch.export or ONNX Runtime.

    Each file is read back and compared with the encoder. `load_encoder` and the C++
    programs check the hashes that are printed. An old export is replaced.
    """
    from l63fast.learning.card import FILES
    from l63fast.storage import checked_target

    result = _folder(given["result"], "RESULT", "trained encoder")
    save_dir = given["save_dir"] or result.with_name(f"{result.name}_export")
    formats = [name.strip() for name in given["formats"].split(",")]
    for name in formats:
        _checks.choice("--formats", name, FILES)
    checked_target(save_dir)
    if given["dry_run"]:
        say(f"would write {', '.join(formats)} to {save_dir}", quiet=given["quiet"])
        return
    from l63fast.learning.export import load_weights, save_model
    from l63fast.storage import result_directory

    encoder, trained = load_weights(result, model=_own_model(given))
    with result_directory(save_dir, kind="model") as folder:
        card = save_model(encoder, folder, trained["training"], formats=formats)
    for kind, file in card["files"].items():
        say(
            f"{kind:12s}{file['name']:18s}sha256 {file['sha256']}  "
            f"parity {file['parity_error']:.1e}",
            quiet=given["quiet"],
        )
    say(f"written to {save_dir}", quiet=given["quiet"])
