"""`l63fast experiment` compares methods on the same data, `report` draws the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from l63fast import _checks
from l63fast.cli import options
from l63fast.cli.command_line import Given, Option, Tables, choices, command
from l63fast.cli.output import complain, print_whole, say, task_progress
from l63fast.errors import ConfigurationError, L63Error
from l63fast.experiments.experiment import (
    AXES_OF_ENCODERS,
    AXES_OF_SEVERAL,
    Experiment,
    laid_over_preset,
    with_encoder_settings,
)
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES, REPORT
from l63fast.experiments.settings_file import (
    DEFAULT,
    OF_WINDOWS,
    PRESETS,
    preset_tables,
    refuse,
)


def _list_of(convert: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return what reads values between commas; what is none stays text, to be named."""

    def read(text: str) -> list[Any]:
        found: list[Any] = []
        for part in filter(None, map(str.strip, text.split(","))):
            try:
                found.append(convert(part))
            except ValueError:
                found.append(part)
        return found

    return read


_names, _integers, _reals = _list_of(str), _list_of(int), _list_of(float)


def _axis(name: str, axis: str, help: str, read: Callable[[str], Any]) -> Option:
    return Option(name, str, help, target=f"vary.{axis}", panel="Compared", read=read)


def _cycle(name: str, kind: Any, help: str) -> Option:
    return Option(name, kind, help, target=f"cycles.{name}", panel="Cycles")


@command(
    Option(
        "preset",
        choices(PRESETS),
        f"Named experiment to start from: {', '.join(OF_WINDOWS)} compare methods in "
        "single windows, the others in cycles.",
        DEFAULT,
        positional=True,
    ),
    Option(
        "methods",
        str,
        "Those of the experiment to run, such as 3dvar,gru; all by default.",
        panel="Compared",
        read=_names,
    ),
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
    *(
        replace(option, default=None)  # what is not typed, the preset decides
        for option in (
            replace(options.OBSERVED, name="operator"),
            *options.SIZES,
            *options.WINDOWS,
            *options.MODEL,
            *options.TRAINING,
            options.seed("Seed of data, weights and sample order.", target="data.seed"),
        )
        if option.name not in ("model", "n_iterations")
    ),
    options.data_folder(
        "Folder of a saved twin experiment, your data.", target="data.path"
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
    *options.WHERE,
    options.RESUME,
    *options.RUN,
)
def experiment(given: Given) -> None:
    """Compare methods on the same data in one table, in single windows or in cycles.

    Each cell, a method on one case, has a result folder of its own; the tables, the
    figures and a page about all of it are in the folder `report`. Cells that fail are
    named at the end and the rest is kept. With --tune_only every method that has a
    number to tune (scale of B, inflation, regularisation) is tuned on the validation
    split, given number or not, and the test split is not opened.
    """
    chosen = _chosen_experiment(given)
    if given["print_config"]:
        print(chosen.to_toml(), end="")
    elif _run(chosen, given):
        raise typer.Exit(1)


def _run(chosen: Experiment, given: Given) -> bool:
    """Run an experiment, or say what would be run; return whether a cell failed."""
    from l63fast.experiments.describe import counted
    from l63fast.experiments.runner import chosen_cells, run_cells
    from l63fast.experiments.tables import rich
    from l63fast.storage import PARTIAL, checked_target

    quiet, every = given["quiet"], chosen.cells()
    folder = Path(given["results"]).expanduser() / chosen.name
    checked_target(folder)  # refused before anything is made
    try:
        n_cells = len(chosen_cells(every, given["only"]))
    except ConfigurationError as error:
        raise ConfigurationError(f"--{error}") from None
    pool, place = given.workers(n_cells)
    for line in [*chosen.describe(), f"results     {folder} ({place})"]:
        say(line, quiet=quiet)
    if given["dry_run"]:
        say(f"dry run     {counted(n_cells, 'cell')}", quiet=quiet)
        return False
    switches = ("resume", "overwrite", "force", "keep_states", "only")
    how = {name: given[name] for name in switches} | pool
    if not given["resume"] and any(folder.glob(f".*.{PARTIAL}")):
        say(
            "a run was stopped here; this one starts anew, --resume goes on",
            quiet=quiet,
        )
    with task_progress(n_cells, quiet=quiet) as progress:
        try:
            outcome = run_cells(every, folder, progress=progress, **how)
        except KeyboardInterrupt:
            say("stopped; the same command with --resume goes on from what is there")
            raise
    if outcome.summary is not None and not quiet:
        print_whole(rich(outcome.summary))
        say(f"written to {folder / REPORT}")
    for name, why in outcome.failures.items():
        complain(f"failed: {name}: {why}")
    failed = bool(outcome.failures)
    if outcome.results:
        chosen.write(folder)
    if outcome.results and not (given["no_report"] or given["tune_only"]):
        try:
            failed |= not _report_on(folder, outcome.failures, quiet=quiet)
        except L63Error as error:  # the results are there all the same
            complain(f"no report: {error}")
            failed = True
    return failed


def _chosen_experiment(given: Given) -> Experiment:
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

    def make(tables: Tables, *, source: str) -> Experiment:
        whole = with_encoder_settings(tables, source)
        return Experiment.from_tables(name, whole, source=source)

    chosen = given.resolved(tables, make, str(config or given["preset"]))
    try:
        if given["methods"] is not None:
            chosen = chosen.only(*_names(given["methods"]))
        if given["tune_only"]:
            chosen = chosen.tuning()
    except ConfigurationError as error:
        raise ConfigurationError(f"--{error}") from None
    _refuse_without_encoders(given, chosen)
    asked, there = given.typed("n_cycles"), getattr(chosen.protocol, "n_cycles", None)
    most = f"at most the {there} cycles that the data have after the burn-in"
    refuse(asked not in (None, there), "--n_cycles", most, asked)
    return chosen


def _tables(given: Given) -> Tables:
    """Return the tables of an experiment: of a preset or a file, below the flags."""
    preset, config = given["preset"], given["config"]
    tables, of_file = given.tables(), given.file_tables()
    whole = "methods" in of_file and not given.typed("preset")
    below = of_file if whole else preset_tables(preset)
    holder = str(config) if whole else preset
    given.refuse_other_protocol(holder, below)
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


def _overrule(given: Given, tables: Tables) -> None:
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


def _refuse_half_a_regime(given: Given, holder: str, below: Tables) -> None:
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


@command(
    Option(
        "results",
        Path,
        "Folder of an experiment, such as results/quick.",
        positional=True,
    ),
    options.QUIET,
)
def report(given: Given) -> None:
    """Write a page about an experiment into its folder `report/`, all in one file.

    Beside it are the tables as CSV and LaTeX and the figures as PNG and SVG.
    """
    if given["results"] is None:
        raise ConfigurationError(
            "RESULTS: expected the folder of an experiment, such as results/quick"
        )
    if not _report_on(given["results"], {}, quiet=given["quiet"]):
        raise typer.Exit(1)


def _report_on(folder: Path, failures: Mapping[str, str], *, quiet: bool) -> bool:
    """Write a report; return whether all cells that should be are in it."""
    from l63fast.experiments.report import write_report

    page, source = write_report(folder, failures)
    say(f"report in {page}", quiet=quiet)
    lost = {k: why for k, why in source.left_out.items() if k not in failures}
    for name, why in lost.items():
        complain(f"left out: {name}: {why}")
    return not lost
