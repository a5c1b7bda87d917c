"""`l63fast experiment`: compare methods on the same data, in windows or in cycles."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, choices, command
from l63fast.cli.running import run_chosen
from l63fast.cli.settings import (
    file_tables,
    given_tables,
    refuse_other_protocol,
    resolved,
)
from l63fast.cli.where import WHERE
from l63fast.errors import ConfigurationError
from l63fast.experiments.experiment import (
    AXES_OF_ENCODERS,
    AXES_OF_SEVERAL,
    Experiment,
    laid_over_preset,
    with_encoder_settings,
)
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES
from l63fast.experiments.settings_file import (
    DEFAULT,
    OF_WINDOWS,
    PRESETS,
    preset_tables,
)

__all__ = ["chosen_experiment", "experiment"]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text: str) -> list[int | str]:
    return [
        int(part) if re.fullmatch(r"-?[0-9]+", part) else part for part in _names(text)
    ]


def _reals(text: str) -> list[float | str]:
    found: list[float | str] = []
    for part in _names(text):
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return found


def _axis(name: str, axis: str, help: str, read: Callable[[str], Any]) -> Option:
    return Option(name, str, help, target=f"vary.{axis}", panel="Compared", read=read)


def _cycle(name: str, kind: Any, help: str) -> Option:
    return Option(name, kind, help, target=f"cycles.{name}", panel="Cycles")


METHODS: Final = Option(
    "methods",
    str,
    "Those of the experiment to run, such as 3dvar,gru; all by default.",
    panel="Compared",
    read=_names,
)
_OPTIONS: Final = (
    Option(
        "preset",
        choices(PRESETS),
        f"Named experiment to start from: {', '.join(OF_WINDOWS)} compare methods in "
        "single windows, the others in cycles.",
        DEFAULT,
        positional=True,
    ),
    METHODS,
    _axis("operators", "operator", "Observation operators, such as x,xy,x2.", _names),
    _axis("sigmas", "sigma", "Observation errors, such as 0.1,1.", _reals),
    _axis(
        "intervals",
        "interval",
        "Model steps between observations, such as 10,25.",
        _integers,
    ),
    _axis("seeds", "seed", "Repetitions of data and encoders, as 0,1,2.", _integers),
    _axis(
        "training_seeds",
        "training_seed",
        "Repetitions of the training of encoders alone, on the same data.",
        _integers,
    ),
    _axis("losses", "loss", "Of the encoders, such as mse,var3d.", _names),
    _axis("n_iterations", "n_iterations", "Iterations K of encoders: 3,1.", _integers),
    _axis("windows", "window", "Observations in a window, such as 5,10.", _integers),
    _axis("backgrounds", "background", "Of windows, such as forecast,mean.", _names),
    _axis(
        "regimes",
        "regime",
        "Of windows: pairs of background and loss: mean:var3d,none:mse.",
        _names,
    ),
    Option(
        "model_error",
        float,
        "Variance of the model error over that of the observation error.",
        target="experiment.model_error",
        panel="Compared",
    ),
    _cycle("n_cycles", int, "Scored cycles of each trajectory."),
    _cycle("burn_in", float, "Time before those, not scored (time units)."),
    _cycle("initial_spread", float, "Standard deviation of the first background."),
    *options.of_preset(
        option
        for option in (
            *options.SIZES,
            *options.WINDOWS,
            *options.MODEL,
            *options.TRAINING,
            options.seed("Seed of data, weights and sample order.", target="data.seed"),
        )
        if option.name not in ("model", "n_iterations")
    ),
    Option(
        "results",
        Path,
        "Root of results; the experiment has its folder in it.",
        "results",
    ),
    Option(
        "name",
        str,
        "Name of the experiment and its folder: by default the preset's, or that "
        "of the --config file.",
    ),
    Option("overwrite", bool, "Replace results of other settings.", False),
    Option("force", bool, "Replace results of a newer version of l63fast.", False),
    Option("only", str, "Run cells whose names fit a pattern: 'x_s0.5*'.", "*"),
    Option("tune_only", bool, "Tune every method that can be, and no more.", False),
    Option("keep_states", bool, "Write the states of the test split too.", False),
    Option("no_report", bool, "Leave out the report, which takes a while.", False),
)


@command(app, (*_OPTIONS, *WHERE, options.RESUME, *options.RUN))
def experiment(given: Given) -> None:
    """Compare methods on the same data in one table, in single windows or in cycles.

    Each cell, a method on one case, has a result folder of its own; the tables, the
    figures and a page about all of it are in the folder `report`. Cells that fail are
    named at the end and the rest is kept. With --tune_only every method that has a
    number to tune (scale of B, inflation, regularisation) is tuned on the validation
    split, given number or not, and the test split is not opened.
    """
    report = not (given["no_report"] or given["tune_only"])
    if run_chosen(chosen_experiment(given), given, report=report):
        raise typer.Exit(1)


def chosen_experiment(given: Given) -> Experiment:
    """Return the experiment that preset, file and flags describe.

    Raises
    ------
    ConfigurationError
        If they make no sense.
    """
    config, name = given["config"], given["name"]
    if name is None:
        name = given["preset"] if config is None else Path(config).stem
    else:
        _checks.file_name("--name", name)
    tables = _tables(given)

    def make(tables: dict[str, Any], source: str) -> Experiment:
        whole = with_encoder_settings(tables, source)
        return Experiment.from_tables(name, whole, source=source)

    chosen = resolved(given, tables, make, str(config or given["preset"]))
    try:
        if given["methods"] is not None:
            chosen = chosen.only(*METHODS.read(given["methods"]))
        if given["tune_only"]:
            chosen = chosen.tuning()
    except ConfigurationError as error:
        raise ConfigurationError(f"--{error}") from None
    _refuse_without_encoders(given, chosen)
    return chosen


def _tables(given: Given) -> dict[str, Any]:
    """Return the tables of an experiment: of a preset or a file, below the flags."""
    preset, config = given["preset"], given["config"]
    tables, of_file = given_tables(given), file_tables(given)
    whole = "methods" in of_file and not given.typed("preset")
    below = of_file if whole else preset_tables(preset)
    holder = str(config) if whole else preset
    refuse_other_protocol(given, holder, below)
    _refuse_half_a_regime(given, holder, below)
    if not whole:
        for protocol in PROTOCOLS:
            if protocol in of_file and protocol not in below:
                raise ConfigurationError(
                    f"{config}: {protocol}: expected none on top of {preset}, which is "
                    f"not in {protocol}; type a preset that is, or give the file "
                    "[methods] of its own"
                )
        tables = laid_over_preset(preset, tables)
    _overrule(given, tables)
    if given.typed("seed") is not None:
        training = {**tables.get("training", {}), "seed": given["seed"]}
        tables["training"] = training
    return tables


def _overrule(given: Given, tables: dict[str, Any]) -> None:
    """Let a typed axis replace the one value of a file or preset, and the reverse."""
    for axis, (places, _) in AXES.items():
        varied = given.flag("vary", axis)
        if varied and tables["vary"][axis] == []:
            raise ConfigurationError(f"--{varied}: expected at least one, got none")
        for section, key in (place.split(".") for place in places):
            fixed = given.flag(section, key)
            if varied and fixed:
                raise ConfigurationError(
                    f"--{fixed}: expected none beside --{varied}, which varies it, got "
                    f"{given[fixed]!r}"
                )
            if varied:
                tables.get(section, {}).pop(key, None)
            elif fixed:
                tables.get("vary", {}).pop(axis, None)
    for axis, parts in AXES_OF_SEVERAL.items():
        varied = given.flag("vary", axis)
        for part in parts if varied else ():
            other = given.flag("vary", part)
            if other:
                raise ConfigurationError(
                    f"--{other}: expected none beside --{varied}, which varies it as "
                    f"well, got {given[other]!r}"
                )
            tables["vary"].pop(part, None)


def _refuse_half_a_regime(given: Given, holder: str, below: dict[str, Any]) -> None:
    """Refuse a background or a loss where pairs of them are varied."""
    regimes = below.get("vary", {}).get("regime")
    if not regimes or given.flag("vary", "regime"):
        return
    halves = ("background", "backgrounds", "loss", "losses")
    for flag in (name for name in halves if given.typed(name) is not None):
        raise ConfigurationError(
            f"--{flag}: expected --regimes, as {holder} varies pairs of background and "
            f"loss ({', '.join(map(str, regimes))}), got {given[flag]!r}"
        )


def _refuse_without_encoders(given: Given, chosen: Experiment) -> None:
    """Refuse flags that are for encoders where there are none."""
    axes = [given.flag("vary", axis) for axis in AXES_OF_ENCODERS]
    flags = [*given.flags("method"), *given.flags("training"), *filter(None, axes)]
    encoders = [m for m in chosen.methods.values() if isinstance(m, TrainedEncoder)]
    if flags and not encoders:
        raise ConfigurationError(
            f"--{flags[0]}: expected an encoder among the methods, got "
            f"{', '.join(chosen.methods)}"
        )
