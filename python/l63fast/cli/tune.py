"""`l63fast tune`: find the best scale of B, inflation or regularisation."""

from __future__ import annotations

from typing import Final

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, command
from l63fast.cli.experiment import (
    CYCLED,
    PLACE,
    chosen_experiment,
    preset_argument,
)
from l63fast.cli.running import run_chosen
from l63fast.cli.where import WHERE
from l63fast.errors import ConfigurationError
from l63fast.experiments.presets import PRESETS

__all__ = ["tune"]


# The cycles decide the other two.
_DATA: Final = tuple(
    option
    for option in options.of_preset(options.SIZES)
    if option.name not in ("n_steps", "save_every")
)


@command(
    app,
    (
        preset_argument(
            [name for name, tables in PRESETS.items() if "methods" in tables],
            "sakov2012",
            "Named experiment whose schemes are tuned.",
        ),
        *CYCLED,
        *_DATA,
        options.seed("Seed of the data.", target=None),
        *PLACE,
        *WHERE,
        options.RESUME,
        *options.RUN,
    ),
)
def tune(given: Given) -> None:
    """Tune the schemes of a cycled experiment on its validation split, and draw how.

    Every method that has a number to tune (the scale of B, the inflation, the
    regularisation) is tuned, whether the experiment gives that number or not. The test
    split is not opened.
    """
    from l63fast.experiments.cycled.experiment import CycledExperiment
    from l63fast.experiments.cycled.tuning import tuning_of

    chosen = chosen_experiment(given)
    if not isinstance(chosen, CycledExperiment):
        raise ConfigurationError(
            "preset: expected a cycled experiment, such as sakov2012, got "
            f"{chosen.name}, which trains encoders"
        )
    if run_chosen(tuning_of(chosen), given):
        raise typer.Exit(1)
