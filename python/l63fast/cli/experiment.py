"""`l63fast experiment`: compare many encoders, or many schemes, on the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from l63fast.cli import options
from l63fast.cli.app import app
from l63fast.cli.declare import Given, Option, choices, command
from l63fast.cli.running import run_chosen
from l63fast.cli.settings import given_tables, resolved
from l63fast.cli.where import WHERE
from l63fast.errors import ConfigurationError
from l63fast.experiments.presets import DEFAULT, OF_WINDOWS, PRESETS

if TYPE_CHECKING:
    from l63fast.experiments.kind import Experiment

__all__ = [
    "CYCLED",
    "PLACE",
    "chosen_experiment",
    "experiment",
    "preset_argument",
]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text: str) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in _names(text)]


def _reals(text: str) -> list[float | str]:
    found: list[float | str] = []
    for part in _names(text):
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return found


def _axis(name: str, help: str, read: Callable[[str], Any]) -> Option:
    target = f"experiment.{name}"
    return Option(name, str, help, target=target, panel="Compared", read=read)


def _cycle(name: str, kind: Any, help: str) -> Option:
    return Option(name, kind, help, target=f"cycle.{name}", panel="Cycled")


def preset_argument(names: Iterable[str], default: str, help: str) -> Option:
    """Return the argument that names an experiment."""
    return Option("preset", choices(names), help, default, positional=True)


METHODS: Final = Option(
    "methods",
    str,
    "Those of a cycled experiment to run, separated by commas; all by default.",
    panel="Cycled",
    read=_names,
)
CYCLED: Final = (
    METHODS,
    _axis("operators", "Observation operators, such as x,xy,x2.", _names),
    _axis("sigmas", "Observation errors, such as 0.1,1.", _reals),
    _axis("intervals", "Model steps between observations, such as 10,25.", _integers),
    _axis("seeds", "Repetitions of data and encoders, such as 0,1,2.", _integers),
    _axis(
        "training_seeds",
        "Repetitions of the training of encoders alone, on the same data.",
        _integers,
    ),
    Option(
        "model_error",
        float,
        "Variance of the model error over that of the observation error.",
        target="experiment.model_error",
        panel="Cycled",
    ),
    _cycle("n_cycles", int, "Scored cycles of each trajectory."),
    _cycle("burn_in", float, "Time before those, not scored (time units)."),
    _cycle("initial_spread", float, "Standard deviation of the first background."),
)
_ENCODERS: Final = (
    _axis("models", "Encoders, separated by commas, such as mlp,gru.", _names),
    _axis("windows", "Observations an encoder sees, such as 5,10.", _integers),
    _axis("backgrounds", "Such as forecast,mean: each with every loss.", _names),
    _axis("losses", "Such as mse,var3d.", _names),
    _axis("regimes", "Or pairs of the two: mean:var3d,none:mse.", _names),
    _axis("n_iterations", "Iterations K of the fixed point, such as 3,1.", _integers),
    Option(
        "optimum",
        int,
        "States of the climate behind the optimum of each window; 0: none.",
        target="experiment.optimum",
        panel="Compared",
        minimum=0,
    ),
    Option(
        "optimum_trajectories",
        int,
        "Test trajectories that it is computed on.",
        target="experiment.optimum_trajectories",
        panel="Compared",
        minimum=1,
    ),
)
_FIXED: Final = options.of_preset(
    option
    for option in (*options.SIZES, *options.MODEL, *options.TRAINING)
    if option.name not in ("model", "n_iterations")
)
PLACE: Final = (
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
    Option("force", bool, "Replace results of a newer version of l63fast.", False),
    Option("only", str, "Run cells whose names fit a pattern: 'gru_*_s0.5*'.", "*"),
)


@command(
    app,
    (
        preset_argument(
            PRESETS,
            DEFAULT,
            f"Named experiment to start from: {', '.join(OF_WINDOWS)} train encoders "
            "for single windows, the others cycle schemes.",
        ),
        *CYCLED,
        *_ENCODERS,
        *_FIXED,
        options.seed("Seed of data, weights and sample order.", target=None),
        *PLACE,
        Option("no_report", bool, "Leave out the report, which takes a while.", False),
        *WHERE,
        options.RESUME,
        *options.RUN,
    ),
)
def experiment(given: Given) -> None:
    """Compare encoders, or cycled schemes, on the same data in one table.

    Each cell has a result folder of its own; tables and figures are in the folder
    `summary`, a page about all of it in `report`. Cells that fail are named at the end
    and the rest is kept.
    """
    if run_chosen(chosen_experiment(given), given, report=not given["no_report"]):
        raise typer.Exit(1)


def chosen_experiment(given: Given) -> Experiment:
    """Return the experiment that preset, file and flags describe.

    Raises
    ------
    ConfigurationError
        If they make no sense.
    """
    from l63fast.experiments.presets import experiment_from_tables, with_preset

    preset, config = given["preset"], given["config"]
    tables = given_tables(given)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"{config}: {name}: expected a table [{name}]")
    if config is None or given.typed("preset") or "methods" not in tables:
        tables = with_preset(preset, tables)  # else the file is a whole experiment
    _overrule(given, tables)
    _set_seed(given, tables)
    name = preset if config is None else Path(config).stem
    if given["name"] is not None:
        name = given["name"]
    chosen = resolved(
        given, tables, lambda t, source: experiment_from_tables(name, t, source=source)
    )
    if given["methods"] is None:
        return chosen
    return _with_methods(chosen, given["methods"])


def _overrule(given: Given, tables: dict[str, Any]) -> None:
    """Let a typed axis replace the one value of a file or preset, and the reverse."""
    for place, axis in _varied(cycled="methods" in tables):
        section, key = place.split(".")
        fixed, varied = given.flag(section, key), given.flag("experiment", axis)
        if varied and tables["experiment"][axis] == []:
            raise ConfigurationError(f"--{varied}: expected at least one, got none")
        varied = varied if tables.get("experiment", {}).get(axis) else None
        if varied and not fixed:
            tables.get(section, {}).pop(key, None)
        elif fixed and not varied:
            tables.get("experiment", {}).pop(axis, None)


def _varied(*, cycled: bool) -> list[tuple[str, str]]:
    """Return each setting that an axis replaces, such as "data.sigma", and the axis."""
    if cycled:
        from l63fast.experiments.cycled.experiment import VARIED

        return [(f"data.{key}", axis) for key, axis in VARIED.items()]
    from l63fast.experiments.matrix import VARIED as ENCODERS

    return [(place, axis) for axis, places in ENCODERS.items() for place in places]


def _set_seed(given: Given, tables: dict[str, Any]) -> None:
    if given.typed("seed") is None:
        return
    seed = {"seed": given["seed"]}
    tables["data"] = {**tables.get("data", {}), **seed}
    if "methods" not in tables:
        tables["training"] = {**tables.get("training", {}), **seed}
        return
    tables["methods"] = {
        key: {**method, "training": {**method.get("training", {}), **seed}}
        if method.get("scheme") == "encoder"
        else method
        for key, method in tables["methods"].items()
    }


def _with_methods(chosen: Experiment, methods: str) -> Experiment:
    from l63fast.experiments.cycled.experiment import CycledExperiment

    if not isinstance(chosen, CycledExperiment):
        raise ConfigurationError(
            f"--methods: expected a cycled experiment, got {chosen.name}, which "
            "compares encoders (--models)"
        )
    return chosen.only(METHODS.read(methods))
