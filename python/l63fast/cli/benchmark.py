"""`l63fast benchmark`: the speed of this machine; of an encoder in every format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import print_whole, say
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.speed_cases import SpeedSizes

__all__ = ["benchmark"]


@command(
    app,
    (
        Option(
            "what",
            Literal["kernels", "encoders"],
            "What is measured.",
            "kernels",
            positional=True,
        ),
        Option(
            "save_dir",
            Path,
            "Folder of the result.",
            Path("results/benchmark"),
        ),
        Option(
            "result_dir",
            Path,
            "Of encoders: the trained one to time; by default a GRU-64 of window 5.",
            panel="Encoders",
        ),
        Option(
            "analyse",
            Path,
            "Of encoders: the C++ program `analyse`, to time it beside the others.",
            panel="Encoders",
        ),
        Option(
            "scale",
            float,
            "Fraction of the usual sizes and time, for a quick look; above 0.",
            1.0,
            maximum=1.0,
        ),
        options.DRY_RUN,
        options.QUIET,
    ),
)
def benchmark(given: Given) -> None:
    """Measure forecast, simulate and 3D-Var on one core, half a minute at most.

    Each is compared with what the processor and its memory allow, measured in the same
    run; table and bar chart are written. An old benchmark in the folder is replaced.
    `benchmark encoders`: an encoder in every format, by batch size, into
    results/benchmark_encoders.
    """
    from l63fast.experiments.speed_cases import SpeedSizes
    from l63fast.storage import checked_target

    _checks.real("--scale", given["scale"], above=0.0)
    if given["what"] == "encoders":
        _encoders(given)
        return

    for name in ("result_dir", "analyse"):
        if given[name] is not None:
            raise ConfigurationError(
                f"--{name}: expected with `l63fast benchmark encoders`, got "
                f"{str(given[name])!r}"
            )
    sizes = SpeedSizes.of_scale(given["scale"])
    save_dir, quiet = given["save_dir"], given["quiet"]
    checked_target(save_dir)  # refused before anything is measured
    if given["dry_run"]:
        say(f"would measure and write {save_dir}", quiet=quiet)
        return
    _run(sizes, save_dir, quiet=quiet)


def _encoders(given: Given) -> None:
    from l63fast.storage import checked_target

    save_dir = given.typed("save_dir") or Path("results/benchmark_encoders")
    quiet = given["quiet"]
    checked_target(save_dir)
    program = given["analyse"]
    if program is not None and not program.is_file():
        raise ConfigurationError(
            f"--analyse: expected the C++ program `analyse`, got {str(program)!r}, "
            "which is no file"
        )
    if given["dry_run"]:
        say(f"would measure and write {save_dir}", quiet=quiet)
        return
    from l63fast.experiments.speed import machine
    from l63fast.experiments.speed_report import (
        encoder_table,
        one_sentence,
        write_encoder_speed,
    )
    from l63fast.learning.encoder_speed import (
        EncoderSpeed,
        encoder_to_time,
        measure_encoder,
    )

    sizes = EncoderSpeed.of_scale(given["scale"])
    encoder = encoder_to_time(given["result_dir"])
    where, settings = machine(), encoder.settings
    title = (
        f"{settings.model.upper()}-{settings.hidden}, window {settings.window}, "
        f"{settings.operator}, {one_sentence(where)}"
    )
    rows = measure_encoder(encoder, sizes, program)
    write_encoder_speed(rows, title, where, save_dir)
    if not quiet:
        print_whole(encoder_table(rows, title))


def _run(sizes: SpeedSizes, save_dir: Path, *, quiet: bool) -> None:
    from l63fast.experiments.speed import machine, measure_speed
    from l63fast.experiments.speed_report import one_sentence, speed_table, write_speed

    where = machine()
    say(one_sentence(where), quiet=quiet)
    rows = measure_speed(sizes, lambda row: say(f"  {row.name}", quiet=quiet))
    write_speed(rows, where, save_dir)
    if not quiet:
        print_whole(speed_table(rows))
        say(f"table and figure in {save_dir}")
