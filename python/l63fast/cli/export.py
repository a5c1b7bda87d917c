"""`l63fast export`: a trained encoder in the formats that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import say
from l63fast.errors import ConfigurationError

__all__ = ["export"]

DEFAULT: Final = "torchscript,pt2"


@command(
    app,
    (
        Option("result", Path, "Folder of a trained encoder.", positional=True),
        Option(
            "formats",
            str,
            "Which of torchscript, pt2 and onnx, separated by commas. The weights "
            "(safetensors) are written always; onnx needs the extra `onnx`.",
            DEFAULT,
        ),
        Option("save_dir", Path, "Folder of the export; RESULT_export by default."),
        options.DRY_RUN,
        options.QUIET,
    ),
)
def export(given: Given) -> None:
    """Write a trained encoder for C++, Fortran, torch.export or ONNX Runtime.

    Each file is read back and compared with the encoder. The hashes that are printed
    are what `load_encoder` and the C++ programs ask for. An old export is replaced.
    """
    from l63fast.learning.card import FILES
    from l63fast.storage import checked_target

    result: Path | None = given["result"]
    if result is None:
        raise ConfigurationError(
            "RESULT: expected the folder of a trained encoder, such as results/gru_xy"
        )
    save_dir = given["save_dir"] or result.with_name(f"{result.name}_export")
    formats = [name.strip() for name in given["formats"].split(",")]
    for name in formats:
        _checks.choice("--formats", name, FILES)
    checked_target(save_dir)
    if given["dry_run"]:
        say(f"would write {', '.join(formats)} to {save_dir}", quiet=given["quiet"])
        return
    from l63fast.learning.export import save_model
    from l63fast.learning.loading import load_weights
    from l63fast.storage import result_directory

    encoder, trained = load_weights(result)
    with result_directory(save_dir, kind="model") as folder:
        card = save_model(encoder, folder, trained["training"], formats=formats)
    for kind, file in card["files"].items():
        say(
            f"{kind:12s}{file['name']:18s}sha256 {file['sha256']}  "
            f"parity {file['parity_error']:.1e}",
            quiet=given["quiet"],
        )
    say(f"written to {save_dir}", quiet=given["quiet"])
