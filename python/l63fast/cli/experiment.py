"""`l63fast experiment` compares methods; `l63fast report` writes the report."""

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
    ENCODER_AXES,
    OVERLAPPING_AXES,
    Experiment,
    merged_with_preset,
    of_others,
    with_encoder_settings,
)
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES, REPORT
from l63fast.experiments.settings_file import (
    DEFAULT,
    PRESETS,
    WINDOW_PRESETS,
    preset_tables,
    refuse,
)


def _steps_or_times(text: str) -> int | list[float]:
    """Return a number of steps, or two times such as 0.1-0.4."""
    low, dash, high = text.partition("-")
    return [float(low), float(high)] if dash else int(text)


_names, _integers, _reals = map(options.list_reader, (str, int, float))


def _axis(name: str, axis: str, help: str, read: Callable[[str], Any]) -> Option:
    return Option(name, str, help, target=f"vary.{axis}", panel="Compared", read=read)


@command(
    Option(
        "preset",
        choices(PRESETS),
        f"Named experiment to start from: {', '.join(WINDOW_PRESETS)} compare methods "
        "in single windows, the others in cycles.",
        DEFAULT,
        positional=True,
    ),
    Option(
        "methods",
        str,
        "Methods of the experiment to run, such as 3dvar,gru; by default all. The "
        "optimum can be added to every experiment.",
        panel="Compared",
        read=_names,
    ),
    _axis("operators", "operator", "Observation operators, such as x,xy,x2.", _names),
    _axis("sigmas", "sigma", "Values of sigma, such as 0.1,1.", _reals),
    _axis(
        "intervals",
        "interval",
        "Model steps between observations, such as 10,25; or ranges of times (time "
        "units) that are drawn, such as 0.1-0.4.",
        options.list_reader(_steps_or_times),
    ),
    _axis(
        "missing_shares",
        "missing",
        "Probabilities that a value is not observed, such as 0,0.5.",
        _reals,
    ),
    _axis("seeds", "seed", "Seeds of data and encoders, such as 0,1,2.", _integers),
    _axis(
        "training_seeds",
        "training_seed",
        "Seeds of the training of encoders, on the same data, such as 0,1,2.",
        _integers,
    ),
    _axis("losses", "loss", "Losses of the encoders, such as mse,var3d.", _names),
    _axis("n_iterations", "n_iterations", "Iterations K of encoders: 1,3.", _integers),
    _axis("windows", "window", "Lengths of windows (observations): 5,10.", _integers),
    _axis("backgrounds", "background", "Backgrounds, such as forecast,mean.", _names),
    _axis(
        "regimes",
        "regime",
        "Pairs of background and loss, for windows, such as mean:var3d,none:mse.",
        _names,
    ),
    Option(
        "model_error",
        float,
        "Ratio of the variances of model error and observation error.",
        target="experiment.model_error",
        panel="Compared",
    ),
    options.cycle("n_cycles", int, "Scored cycles of each trajectory."),
    options.cycle(
        "burn_in", float, "Time before the scored cycles (time units, not cycles)."
    ),
    options.cycle("initial_spread", float, "Spread of the first background error."),
    options.LAG,
    *(
        replace(option, default=None)  # the default is that of the preset
        for option in (
            replace(options.OBSERVED, name="operator"),
            *options.SIZES,
            *options.FORECAST_MODEL,
            *options.WINDOWS,
            *options.MODEL,
            *options.TRAINING,
            options.seed("Seed of data, weights and sample order.", target="data.seed"),
        )
        if option.name not in ("model", "n_iterations")
    ),
    options.data_folder(
        "Folder of a saved twin experiment, such as your own data.", target="data.path"
    ),
    Option(
        "results",
        Path,
        "Folder of all results; the experiment has a folder in it.",
        "results",
    ),
    Option(
        "name",
        str,
        "Name of the experiment and of its folder; by default that of the preset or "
        "of the --config file.",
    ),
    Option("overwrite", bool, "Replace results and data of other settings.", False),
    Option("force", bool, "Replace results of a newer version of l63fast.", False),
    Option("only", str, "Run only cells whose names match: 'x_s0.5*'.", "*"),
    Option("tune_only", bool, "Only tune; do not use the test split.", False),
    Option("keep_states", bool, "Write the states of the test split too.", False),
    Option("no_report", bool, "Write tables only; page and figures take time.", False),
    *options.WHERE,
    options.RESUME,
    *options.RUN,
)
def experiment(given: Given) -> None:
    """Compare methods on the same data in one table, in single windows or in cycles.

    Each cell, a method on one case, has its own result folder. The folder `report` has
    a page about the whole experiment, its tables and its figures. If cells fail, they
    are named at the end and the others are kept. With --tune_only every number that can
    be tuned (scale of B, inflation, regularisation) is tuned on the validation split,
    also if it is given, and the test split is not used.
    """
    chosen = _chosen_experiment(given)
    if given["print_config"]:
        print(chosen.to_toml(), end="")
    elif _run(chosen, given):
        raise typer.Exit(1)


def _run(chosen: Experiment, given: Given) -> bool:
    """Run an experiment, or show what would be run; return whether a cell failed."""
    from l63fast.experiments.describe import counted
    from l63fast.experiments.report import PAGE
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
    if n_cells < len(every):
        say(f"only        {n_cells} of {counted(len(every), 'cell')}", quiet=quiet)
    if others := chosen.others_in(folder):
        say(f"            {of_others(folder, others)}", quiet=quiet)
    if given["dry_run"]:
        say(f"dry run     {counted(n_cells, 'cell')}", quiet=quiet)
        return False
    switches = ("resume", "overwrite", "force", "keep_states", "only")
    options = {name: given[name] for name in switches} | pool
    if not given["resume"] and any(folder.glob(f".*.{PARTIAL}")):
        say(
            "a run was stopped here; this one starts again, --resume continues it",
            quiet=quiet,
        )
    page = folder / REPORT / PAGE
    had_page = page.exists()
    with task_progress(n_cells, quiet=quiet) as progress:
        try:
            outcome = run_cells(every, folder, progress=progress, **options)
        except KeyboardInterrupt:
            say("stopped; the same command with --resume continues this run")
            raise
    if outcome.summary is not None and not quiet:
        print_whole(rich(outcome.summary))
        say(f"written to {folder / REPORT}")
    for name, why in outcome.failures.items():
        complain(f"failed: {name}: {why}")
    failed = bool(outcome.failures)
    if outcome.results:
        chosen.write(folder)
    if given["no_report"] and had_page and not page.exists():
        say(
            f"{page} was of other results and is removed; l63fast report {folder} "
            "writes a new one",
            quiet=quiet,
        )
    if outcome.results and not (given["no_report"] or given["tune_only"]):
        try:
            failed |= not _report_on(folder, outcome.failures, quiet=quiet)
        except L63Error as error:  # the results have been written
            complain(f"no report: {error}")
            failed = True
    return failed


def _chosen_experiment(given: Given) -> Experiment:
    """Return the experiment that preset, file and options describe.

    Raises
    ------
    ConfigurationError
        If a setting is wrong, or settings contradict each other.
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
    _refuse_tables_without_encoders(given, chosen)
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
    """Return the tables of an experiment: of a preset or a file, changed by options."""
    preset, config = given["preset"], given["config"]
    tables, of_file = given.tables(), given.file_tables()
    whole = "methods" in of_file and not given.typed("preset")
    below = of_file if whole else preset_tables(preset)
    holder = str(config) if whole else preset
    given.refuse_other_protocol(holder, below)
    _refuse_part_of_regime(given, holder, below)
    if not whole:
        for protocol in PROTOCOLS:
            if protocol in of_file and protocol not in below:
                raise ConfigurationError(
                    f"{config}: {protocol}: expected none with {preset}, which is not "
                    f"in {protocol}; choose a preset in {protocol}, or give the file a "
                    "table [methods]"
                )
        tables = merged_with_preset(preset, tables)
    _overrule(given, tables)
    if given.typed("seed") is not None:
        training = {**tables.get("training", {}), "seed": given["seed"]}
        tables["training"] = training
    return tables


def _overrule(given: Given, tables: Tables) -> None:
    """Let a typed axis replace the fixed value of a file or preset, and the reverse."""
    for axis, (places, _) in AXES.items():
        varied = given.flag("vary", axis)
        if varied and tables["vary"][axis] == []:
            raise ConfigurationError(f"--{varied}: expected at least one, got none")
        for section, key in (place.split(".") for place in places):
            fixed = given.flag(section, key)
            if varied and fixed:
                raise ConfigurationError(
                    f"--{fixed}: expected none with --{varied}, which varies it, got "
                    f"{given[fixed]!r}"
                )
            if varied:
                tables.get(section, {}).pop(key, None)
            elif fixed:
                tables.get("vary", {}).pop(axis, None)
    for axis, parts in OVERLAPPING_AXES.items():
        varied = given.flag("vary", axis)
        for part in parts if varied else ():
            other = given.flag("vary", part)
            if other:
                raise ConfigurationError(
                    f"--{other}: expected none with --{varied}, which varies it too, "
                    f"got {given[other]!r}"
                )
            tables["vary"].pop(part, None)


def _refuse_part_of_regime(given: Given, holder: str, below: Tables) -> None:
    """Refuse a background or a loss alone if pairs of them are varied."""
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
    """Refuse options of encoders if no method is an encoder."""
    axes = [given.flag("vary", axis) for axis in ENCODER_AXES]
    flags = [*given.flags("method"), *given.flags("training"), *filter(None, axes)]
    if flags and not _has_encoders(chosen):
        raise ConfigurationError(
            f"--{flags[0]}: expected an encoder among the methods, got "
            f"{', '.join(chosen.methods)}"
        )


def _refuse_tables_without_encoders(given: Given, chosen: Experiment) -> None:
    """Refuse a file's tables [method] and [training], which only encoders have."""
    tables = given.file_tables()
    for name in ("method", "training"):
        if name in tables and not _has_encoders(chosen):
            raise ConfigurationError(
                f"{given['config']}: {name}: expected an encoder among the methods, "
                "got none; the table of one method is [methods.NAME]"
            )


def _has_encoders(experiment: Experiment) -> bool:
    return any(isinstance(m, TrainedEncoder) for m in experiment.methods.values())


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
    """Write the report of an experiment into its folder `report/`.

    It is a page in one file, the tables as CSV and LaTeX, and the figures as PNG and
    SVG.
    """
    if given["results"] is None:
        raise ConfigurationError(
            "RESULTS: expected the folder of an experiment, such as results/quick, got "
            "none"
        )
    if not _report_on(given["results"], {}, quiet=given["quiet"]):
        raise typer.Exit(1)


def _report_on(folder: Path, failures: Mapping[str, str], *, quiet: bool) -> bool:
    """Write a report; return whether it contains all cells that did not fail."""
    from l63fast.experiments.report import write_report

    page, source = write_report(folder, failures)
    say(f"report in {page}", quiet=quiet)
    lost = {k: why for k, why in source.left_out.items() if k not in failures}
    for name, why in lost.items():
        complain(f"left out: {name}: {why}")
    return not lost
