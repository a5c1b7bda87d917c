"""`l63fast train`: trains, exports and scores one encoder."""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast._user_code import file_name, is_own, short_name
from l63fast.cli import options
from l63fast.cli.command_line import Given, Option, Tables, choices, command
from l63fast.cli.output import epoch_progress, say
from l63fast.cli.results import show_scores
from l63fast.errors import ConfigurationError
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.settings_file import (
    RECIPES,
    dump_tables,
    merged,
    preset_tables,
    to_table,
)
from l63fast.learning.own_model import OwnModel
from l63fast.observation import as_operator

if TYPE_CHECKING:
    from l63fast.experiments.settings import Cell

# Options that a recipe decides.
_SET_BY_RECIPE = ("n_steps", "save_every", "model", "window", "background", "config")


@command(
    *options.DATA,
    *options.FORECAST_MODEL,
    Option(
        "data_seed",
        int,
        "Seed of truth and observations.",
        0,
        "data.seed",
        minimum=0,
        panel="Data",
    ),
    options.data_folder(
        "Folder of the data; by default data/<obs_mode>, and in cycles "
        "data/cycled_<obs_mode>_s<sigma>_i<steps_per_cycle>."
    ),
    Option(
        "recipe",
        choices(RECIPES),
        "Train in cycles, on new simulations, with the settings of this recipe, and "
        "score the encoder in cycles; the default data are like those of sakov2012.",
        panel="Encoder",
    ),
    *options.WINDOWS,
    *options.MODEL,
    options.LAG,
    *options.TRAINING,
    options.seed("Seed of weights and sample order.", target="training.seed"),
    Option(
        "save_dir", Path, "Folder of the result; by default results/<model>_<obs_mode>."
    ),
    options.RESUME,
    *options.RUN,
)
def train(given: Given) -> None:
    """Train an encoder, export it, and score it on the test split.

    Without a recipe it is trained on windows of the training split.

    The data are read from the data folder. If the folder does not exist, they are
    simulated; if it does, data options that contradict it are refused. An old result is
    replaced as a whole when the new one is complete.
    """
    from l63fast.experiments.data import open_or_make
    from l63fast.experiments.describe import describe_data
    from l63fast.storage import checked_target

    cell, data, found = _resolved(given)
    if given["print_config"]:
        print(dump_tables(cell.to_tables()), end="")
        return
    find_spec("torch")  # named here if it is not installed, before anything is made
    method: Any = cell.method
    name = given["recipe"]
    if name is None or is_own(method.model):
        name = f"{short_name(method.model)}_{file_name(cell.data.operator_name)}"
    save_dir = given["save_dir"] or Path("results") / name
    checked_target(save_dir)  # refused before anything is made, the data included
    quiet = given["quiet"]
    for line in (
        f"data in     {data} ({'found' if found else 'not found: simulated now'})",
        f"data        {describe_data(cell.data)}",
        *(f"model       {m}" for m in [cell.model.describe(cell.data)] if m),
        cell.protocol.describe(),
        *method.describe(cell.protocol),
        f"result in   {save_dir}",
    ):
        say(line, quiet=quiet)
    if given["dry_run"]:
        there = "replace" if save_dir.exists() else "write"
        say(f"would train and {there} {save_dir}", quiet=quiet)
        return
    cell = cell.imported()  # an import that fails should fail before the simulation
    if not found:
        open_or_make(cell.data, data)
    _train(cell, data, save_dir, given)
    if not quiet:
        from l63fast.experiments.reevaluate import reevaluate, verdict_on_3dvar

        own = OwnModel.imported(method.model)
        board, _ = reevaluate(
            save_dir,
            model=None if own is None else own.make,
            operator=as_operator(cell.data.operator).imported(),
        )
        show_scores(board, verdict_on_3dvar(board))
        say(f"written to {save_dir}")
        say(f"next: l63fast visualize --result_dir {shlex.quote(str(save_dir))}")


def _resolved(given: Given) -> tuple[Cell, Path, bool]:
    """Return the cell, the data folder, and whether the data exist."""
    from l63fast.experiments.data import SavedSettings, find_data, refuse_other_settings
    from l63fast.experiments.settings import Cell

    tables = _tables(given)
    cell = given.resolved(tables, Cell.from_tables)
    name = file_name(cell.data.operator_name)
    if cell.protocol.name == "cycles":
        name = f"cycled_{name}_s{cell.data.sigma:.4g}_i{cell.data.steps_per_cycle}"
    operator = as_operator(cell.data.operator)
    given_data = tables.get("data", {})
    if operator.is_own:  # the user has named it for this training
        operator = operator.imported()
        cell = replace(cell, data=replace(cell.data, operator=operator))
        given_data = {**given_data, "operator": operator.to_table()}
    is_saved = isinstance(cell.data, SavedSettings)
    data = given["data"] or Path(cell.data_name if is_saved else f"data/{name}")
    twin = find_data(data, cell.data)
    if twin is None:
        return cell, data, False
    if is_saved or cell.protocol.name == "cycles":
        refuse_other_settings(twin, to_table(cell.data), data)
        return cell, data, True
    refuse_other_settings(twin, given_data, data)
    tables = merged(tables, {"data": to_table(twin.settings)})
    return given.resolved(tables, Cell.from_tables, str(data)), data, True


def _tables(given: Given) -> Tables:
    """Return the tables of a cell from recipe or defaults, then file, then options."""
    tables = given.tables()
    training = tables.pop("training", None)
    if training is not None:
        tables = merged(tables, {"method": {"training": training}})
    recipe = given["recipe"]
    below: Tables = {"method": {"scheme": TrainedEncoder.scheme}}
    if recipe is not None:
        for name in _SET_BY_RECIPE:
            decided = name != "model" or not is_own(given[name])
            if decided and given.typed(name) is not None:
                raise ConfigurationError(
                    f"--{name}: expected none with --recipe, which sets it, got "
                    f"{str(given[name])!r}"
                )
        preset = preset_tables("encoders")
        below = {name: preset[name] for name in ("data", "cycles")}
        below["method"] = dict(RECIPES[recipe])
    else:
        given.refuse_other_protocol(str(given["config"]), given.file_tables())
        below |= {} if "cycles" in tables else {"windows": {}}
    tables = merged(below, tables)
    scheme = tables["method"]["scheme"]
    if scheme != TrainedEncoder.scheme:
        raise ConfigurationError(
            f"{given['config']}: method.scheme: expected "
            f"{TrainedEncoder.scheme!r}, got {scheme!r}"
        )
    if tables.get("cell", {}).get("tune_only") is True:
        raise ConfigurationError(
            f"{given['config']}: cell.tune_only: expected false, as an encoder has no "
            "number to tune, got true"
        )
    key = tables["method"].get("model", TrainedEncoder.model)
    key = short_name(key) if is_own(key) else key
    return merged({"cell": {"key": key}}, tables)


def _train(cell: Cell, data: Path, save_dir: Path, given: Given) -> None:
    from l63fast.experiments.run_cell import run_cell
    from l63fast.storage import PARTIAL, checked_target, sibling

    if given["resume"] and not sibling(checked_target(save_dir), PARTIAL).exists():
        say("there is no stopped run to resume: starting", quiet=given["quiet"])
    with epoch_progress(quiet=given["quiet"]) as (tell, show_epoch):
        try:
            run_cell(
                cell,
                data,
                save_dir,
                resume=given["resume"],
                keep_states=True,
                say=tell,
                epoch=show_epoch,
            )
        except KeyboardInterrupt:
            say("stopped; the same command with --resume continues at the last epoch")
            raise
