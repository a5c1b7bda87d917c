"""`l63fast benchmark`: the speed of this machine, and how near its ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, command
from l63fast.cli.output import say

if TYPE_CHECKING:
    from l63fast.experiments.speed_cases import SpeedSizes

__all__ = ["benchmark"]


@command(
    app,
    (
        Option(
            "save_dir",
            Path,
            "Folder of the result.",
            Path("results/benchmark"),
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
    """
    from l63fast.experiments.speed_cases import SpeedSizes
    from l63fast.storage.paths import checked_target

    sizes = SpeedSizes.of_scale(given["scale"])
    save_dir, quiet = given["save_dir"], given["quiet"]
    checked_target(save_dir)  # refused before anything is measured
    if given["dry_run"]:
        say(f"would measure and write {save_dir}", quiet=quiet)
        return
    _run(sizes, save_dir, quiet=quiet)


def _run(sizes: SpeedSizes, save_dir: Path, *, quiet: bool) -> None:
    from l63fast.experiments.speed import machine, measure_speed
    from l63fast.experiments.speed_report import one_sentence, speed_table, write_speed

    where = machine()
    say(one_sentence(where), quiet=quiet)
    rows = measure_speed(sizes, lambda row: say(f"  {row.name}", quiet=quiet))
    write_speed(rows, where, save_dir)
    if not quiet:
        from rich.console import Console

        Console().print(speed_table(rows))
        say(f"table and figure in {save_dir}")
