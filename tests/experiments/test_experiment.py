"""Experiments: what varies between their cells, what these are called, and presets."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from experiment_samples import IN_CYCLES, TINY_GRU, tiny_cycled, tiny_windows
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.describe import counted
from l63fast.experiments.experiment import (
    Experiment,
    merged_with_preset,
    with_encoder_settings,
)
from l63fast.experiments.methods import METHODS, Optimum, TrainedEncoder
from l63fast.experiments.protocols import Cycles, Windows
from l63fast.experiments.settings import AXES, Cell, Vary
from l63fast.experiments.settings_file import (
    PRESETS,
    RECIPES,
    WINDOW_PRESETS,
    preset_tables,
)
from l63fast.learning.settings import ENCODER_NAMES

MLP = {"scheme": "encoder", "model": "mlp", "hidden": 8}
# Two values of every axis that windows have, of which no other is a part.
TWO: dict[str, tuple[Any, Any]] = {
    "operator": ("x", "xy"),
    "sigma": (0.5, 1.0),
    "interval": (10, 20),
    "window": (2, 3),
    "background": ("forecast", "mean"),
    "seed": (0, 7),
    "loss": ("mse", "var3d"),
    "n_iterations": (1, 2),
}
ONE_MORE: dict[str, Any] = {
    **{"operator": "x2", "sigma": 2.0, "interval": 5, "window": 1},
    **{"background": "none", "seed": 3, "loss": "distance", "n_iterations": 3},
}


@pytest.fixture(scope="module")
def presets() -> dict[str, Experiment]:
    return {name: Experiment.preset(name) for name in PRESETS}


def encoders_of(experiment: Experiment) -> list[Cell]:
    return [c for c in experiment.cells() if isinstance(c.method, TrainedEncoder)]


def names_of(experiment: Experiment) -> list[str]:
    return [cell.name for cell in experiment.cells()]


# Presets


def test_the_presets_are_the_files() -> None:
    folder = files("l63fast.experiments") / "presets"
    found = {Path(str(file)).stem for file in folder.iterdir()}
    assert sorted(PRESETS) == sorted(found)
    of_windows = [name for name in PRESETS if "windows" in preset_tables(name)]
    assert list(WINDOW_PRESETS) == of_windows
    for name in ("gru", "lstm", "mlp"):
        assert RECIPES[f"cycled-{name}"] == preset_tables("encoders")["methods"][name]
    with pytest.raises(ArgumentValueError, match="name: expected one of quick"):
        Experiment.preset("quik")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_nothing_but_a_toml_file(
    presets: dict[str, Experiment], name: str, tmp_path: Path
) -> None:
    experiment = presets[name]
    path = tmp_path / f"{name}.toml"
    path.write_text(experiment.to_toml())
    again = Experiment.from_toml(path)
    assert again == experiment
    cells = experiment.cells()
    assert again.cells() == cells
    assert names_of(again) == [cell.name for cell in cells]
    assert len({cell.name for cell in cells}) == len(cells) > 0
    assert {m.scheme for m in experiment.methods.values()} <= set(METHODS)
    # A folder of data holds those of one setting, and no two hold the same.
    data = {(cell.data_name, cell.data) for cell in cells}
    assert len(data) == len({n for n, _ in data}) == len({d for _, d in data})


def test_grid_is_what_the_issue_asks_for(presets: dict[str, Experiment]) -> None:
    data = {cell.data for cell in presets["grid"].cells()}
    assert {one.operator for one in data} == {"x", "xy", "xyz", "x2"}
    assert {one.sigma for one in data} == {0.1, 0.5, 1.0}
    assert {one.steps_per_cycle * one.dt for one in data} == {0.1, 0.25}
    assert len(data) == 24


def test_quick_compares_all_encoders_on_three_operators(
    presets: dict[str, Experiment],
) -> None:
    cells = presets["quick"].cells()
    encoders = encoders_of(presets["quick"])
    assert [c.method.model for c in encoders] == 3 * list(ENCODER_NAMES)
    assert {cell.data.operator for cell in cells} == {"x", "xy", "x2"}
    # Everything but what is compared is the same, above all truth and budget.
    assert len({cell.method.training for cell in encoders}) == 1
    assert len({cell.data for cell in cells}) == 3
    assert {cell.data.seed for cell in cells} == {0}


def test_the_study_is_the_original_one(presets: dict[str, Experiment]) -> None:
    for name, n_encoders in (("seed-published", 108), ("seed-forecast", 36)):
        cells = presets[name].cells()
        encoders = encoders_of(presets[name])
        assert len(encoders) == n_encoders
        # Beside each three encoders: background, climatology, 3D-Var and the optimum.
        assert len(cells) == n_encoders + 4 * n_encoders // 3
        for cell in encoders:
            data, training = cell.data, cell.method.training
            assert (data.n_train, data.n_val, data.n_steps) == (1000, 500, 200)
            assert (data.steps_per_cycle, cell.protocol.window) == (1, 5)
            assert (cell.protocol.stride, cell.method.hidden) == (5, 64)
            assert (training.epochs, training.batch_size) == (30, 256)
            assert (training.learning_rate, training.optimiser) == (1e-3, "adam")
        assert len({cell.data_name for cell in cells}) == 12


def test_model_error_follows_the_observation_error(
    presets: dict[str, Experiment],
) -> None:
    data = dict.fromkeys(cell.data for cell in presets["knet"].cells())
    assert [one.Q / one.sigma**2 for one in data] == pytest.approx([0.01] * 5)
    assert len({one.sigma for one in data}) == 5


# Cells and their names


def test_the_cells_are_all_combinations_and_named_by_the_axes_that_are_given() -> None:
    methods = {"3dvar": {"scheme": "3dvar"}, "mlp": MLP, "gru": {"scheme": "encoder"}}
    experiment = tiny_windows("gru", methods=methods).vary(**TWO)
    cells = experiment.cells()
    # Two encoders of two losses and numbers of iterations each, beside 3D-Var.
    assert len(cells) == len({cell.name for cell in cells}) == 2**6 * (1 + 2 * 2**2)
    last = cells[-1]
    assert last.name == "xy_s1_i20_w3_mean_r7-gru-var3d-k2"
    assert last.data_name == "xy_s1_i20_r7"
    assert (last.data.seed, last.method.training.seed, last.data.sigma) == (7, 7, 1.0)
    assert (last.data.steps_per_cycle, last.protocol.window) == (20, 3)
    assert (last.protocol.background, last.method.training.loss) == ("mean", "var3d")
    assert last.method.n_iterations == 2
    assert last.note == "window 3, background mean"
    # All of one case together.
    assert len([case for case, _ in groupby(cells, lambda c: c.case)]) == 2**6
    assert len({cell.data_name for cell in cells}) == 2**4
    # Windows of different lengths are scored at the same times.
    assert {cell.protocol.start for cell in cells} == {3}


@pytest.mark.parametrize("axis", TWO)
def test_a_value_that_is_added_renames_nothing(axis: str) -> None:
    axes = {name: values[:1] for name, values in TWO.items()} | {axis: TWO[axis]}
    experiment = tiny_windows(methods={"mlp": MLP}).vary(**axes)
    more = experiment.vary(**{axis: (*TWO[axis], ONE_MORE[axis])})
    before, after = experiment.cells(), {cell.name: cell for cell in more.cells()}
    assert set(after) > {cell.name for cell in before}
    assert [after[cell.name] for cell in before] == before
    # Nor does the folder of its data get other data.
    data = {cell.data_name: cell.data for cell in more.cells()}
    assert all(data[cell.data_name] == cell.data for cell in before)


def test_an_axis_that_is_not_given_is_not_in_names() -> None:
    experiment = tiny_windows()
    [three, gru] = experiment.cells()
    assert (three.name, gru.name, gru.data_name) == ("3dvar", "gru", "xy")
    assert names_of(experiment.vary(n_iterations=2)) == ["3dvar", "gru-k2"]
    assert names_of(experiment.vary(operator="x2")) == ["x2-3dvar", "x2-gru"]


def test_regimes_are_pairs() -> None:
    cells = tiny_windows("3dvar").vary(regime=["mean:var3d", "none:mse"]).cells()
    assert [c.name for c in cells] == ["mean-var3d-gru", "none-mse-gru"]
    assert [(c.protocol.background, c.method.training.loss) for c in cells] == [
        ("mean", "var3d"),
        ("none", "mse"),
    ]
    assert [c.note for c in cells] == ["background mean", "background none"]


def test_trajectories_are_as_long_as_the_cycles() -> None:
    cell = tiny_cycled(cycles={"burn_in": 0.51, "n_cycles": 7}).cells()[0]
    assert isinstance(cell.protocol, Cycles)
    assert cell.protocol.burn_in_cycles(cell.data) == 6  # 0.51 is more than 5 of 0.1
    assert cell.data.n_steps == (6 + 7) * 10
    assert cell.data.save_every == 10


def test_a_seed_is_of_data_and_of_training() -> None:
    experiment = tiny_cycled("enkf", "pf", methods={"gru": TINY_GRU}).vary(seed=(0, 5))
    cells = experiment.cells()
    assert [cell.name for cell in cells] == ["r0-oi", "r0-gru", "r5-oi", "r5-gru"]
    assert [cell.data.seed for cell in cells] == [0, 0, 5, 5]
    assert [cells[i].method.training.seed for i in (1, 3)] == [0, 5]


def test_trainings_are_repeated_on_the_same_data() -> None:
    gru = {"gru": TINY_GRU}
    experiment = tiny_cycled("enkf", "pf", methods=gru).vary(training_seed=(0, 7))
    cells = experiment.cells()
    assert [cell.name for cell in cells] == ["oi", "gru-t0", "gru-t7"]
    assert [cell.method.training.seed for cell in cells[1:]] == [0, 7]
    assert {cell.data for cell in cells} == {cells[0].data}
    assert names_of(experiment.only("gru")) == ["gru-t0", "gru-t7"]
    tables = tomllib.loads(experiment.to_toml())
    assert Experiment.from_tables("tiny", tables, source="itself") == experiment
    with pytest.raises(ConfigurationError, match="names that differ, got gru-t0 twice"):
        tiny_cycled(
            vary={"training_seed": [0, 7]}, methods={**gru, "gru-t0": {"scheme": "oi"}}
        )


# One experiment from another


def test_only_some_methods_in_the_order_given() -> None:
    experiment = tiny_cycled()
    assert list(experiment.only("pf", "oi").methods) == ["pf", "oi"]
    assert experiment.only(*IN_CYCLES) == experiment
    with pytest.raises(
        ConfigurationError,
        match=r"expected methods of tiny \(oi, enkf, pf, optimum\), got 'pff'",
    ):
        experiment.only("oi", "pff")
    with pytest.raises(ConfigurationError, match="expected at least one, got none"):
        experiment.only()


def test_the_optimum_can_be_added_and_keeps_settings_that_are_given() -> None:
    added = tiny_cycled().only("oi", "optimum").methods["optimum"]
    assert added == Optimum()
    given = tiny_cycled(methods={"optimum": {"scheme": "optimum", "n_particles": 50}})
    assert given.only("optimum").methods == {"optimum": given.methods["optimum"]}


def test_vary_replaces_an_axis_and_what_it_varies() -> None:
    experiment = tiny_cycled(data={"sigma": 3.0})
    varied = experiment.vary(sigma=[0.5, 1.0], operator="x")
    assert {cell.data.sigma for cell in varied.cells()} == {0.5, 1.0}
    assert {cell.data.operator for cell in varied.cells()} == {"x"}
    assert "sigma" not in varied.to_tables()["data"]
    assert varied.vary(sigma=2.0).axes.sigma == (2.0,)
    assert experiment.axes == Vary()  # as it was
    # What the axes give is refused as in a file.
    with pytest.raises(ArgumentValueError, match=r"expected some of opera.*sigmas"):
        experiment.vary(sigmas=[1.0])
    with pytest.raises(ConfigurationError, match=r"vary\.window: expected none with"):
        experiment.vary(window=[2])
    with pytest.raises(ConfigurationError, match="sigma: expected each value once"):
        experiment.vary(sigma=[1.0, 1.0])


def test_updated_lays_tables_over_an_experiment() -> None:
    experiment = tiny_cycled()
    more = experiment.updated(data={"n_test": 50}, methods={"pf": {"n_particles": 40}})
    assert {cell.data.n_test for cell in more.cells()} == {50}
    assert more.methods["pf"].n_particles == 40
    assert more.methods["pf"].regularisation == IN_CYCLES["pf"]["regularisation"]
    assert dataclasses.replace(
        more, data=experiment.data, methods=experiment.methods
    ) == (experiment)
    varied = experiment.vary(operator=["x", "xy"])
    with pytest.raises(
        ConfigurationError, match=r"data\.operator: expected none, as vary\.operator"
    ):
        varied.updated(data={"operator": "xyz"})
    with pytest.raises(ConfigurationError, match=r"data\.n_tset: unknown key"):
        experiment.updated(data={"n_tset": 50})


def test_a_tuning_leaves_every_number_open_and_the_rest_out() -> None:
    given = {"3dvar-c": {"scheme": "3dvar", "B": "climatology", "b_scale": 9.0}}
    tuning = tiny_cycled(methods=given).tuning()
    assert tuning.name == "tiny-tuning"
    assert list(tuning.methods) == ["enkf", "pf", "3dvar-c"]  # oi has nothing to tune
    assert tuning.methods["enkf"].inflation is None
    assert tuning.methods["enkf"].n_members == 5
    assert tuning.methods["3dvar-c"].b_scale is None
    assert all(cell.tune_only for cell in tuning.cells())
    with pytest.raises(ConfigurationError, match="expected at least one with a number"):
        tiny_cycled("enkf", "pf").tuning()


def test_tables_over_a_preset_replace_what_it_varies() -> None:
    def over(name: str, **tables: Any) -> Experiment:
        changed = merged_with_preset(name, tables)
        return Experiment.from_tables(name, changed, source="a file")

    quick = over("quick", data={"operator": "xyz"})
    assert {cell.data.operator for cell in quick.cells()} == {"xyz"}
    assert quick.axes.operator == ()
    wide = over("wiljes2017", vary={"operator": ["x", "xy"]})
    assert {cell.data.operator for cell in wide.cells()} == {"x", "xy"}
    # Seeds repeat trainings as well.
    axes = over("encoders", vary={"seed": [4, 5]}).axes
    assert (axes.seed, axes.training_seed) == ((4, 5), ())
    assert over("encoders").axes.training_seed == (0, 1, 2)
    # A table of methods is all of them.
    assert list(over("quick", methods={"a": {"scheme": "oi"}}).methods) == ["a"]


def test_settings_of_encoders_go_into_each_of_them() -> None:
    tables = {
        "methods": {"a": {"scheme": "encoder", "training": {"epochs": 3}}, "b": {}},
        "method": {"hidden": 16},
        "training": {"batch_size": 7},
    }
    assert with_encoder_settings(tables, "a file") == {
        "methods": {
            "a": {
                "scheme": "encoder",
                "hidden": 16,
                "training": {"epochs": 3, "batch_size": 7},
            },
            "b": {},
        }
    }
    for section, key, axis in (
        ("training", "loss", "loss"),
        ("training", "loss", "regime"),
        ("method", "n_iterations", "n_iterations"),
    ):
        twice = {**tables, "vary": {axis: [1]}, section: {key: 1}}
        with pytest.raises(
            ConfigurationError,
            match=rf"a file: {section}\.{key}: expected none, as vary\.{axis}",
        ):
            with_encoder_settings(twice, "a file")
    of_a_method = {
        "methods": {"a": {"scheme": "oi"}},
        "method": {"b": {"scheme": "oi"}},
    }
    with pytest.raises(
        ConfigurationError, match=r"a file: method\.b: unknown .* \[methods\.b\]\?"
    ):
        with_encoder_settings(of_a_method, "a file")


# The recipe of encoders


def test_an_encoder_in_cycles_has_the_recipe_of_this_package() -> None:
    bare = tiny_cycled(methods={"gru": {"scheme": "encoder"}}).methods["gru"]
    recipe = Experiment.preset("encoders").methods["gru"]
    assert bare == recipe
    assert (bare.memory, bare.window, bare.n_iterations) == ("carried", 1, 1)
    training, cycles = bare.training, bare.cycles
    assert (training.optimiser, training.loss) == ("muon", "distance")
    assert (training.epochs, training.learning_rate) == (32, 1e-3)
    assert (cycles.updates, cycles.unroll, cycles.first_unroll) == (400, 24, 8)
    mlp = tiny_cycled(methods={"mlp": {"scheme": "encoder", "model": "mlp"}})
    assert mlp.methods["mlp"].memory == "window"
    # Key by key: what a table says, it says of its own key alone.
    some = {"scheme": "encoder", "training": {"epochs": 5}, "cycles": {"unroll": 12}}
    mine = tiny_cycled(methods={"gru": some}).methods["gru"]
    assert mine.training == dataclasses.replace(training, epochs=5)
    assert mine.cycles == dataclasses.replace(cycles, unroll=12)


def test_an_encoder_in_windows_is_trained_by_the_defaults() -> None:
    bare = tiny_windows("gru", methods={"it": {"scheme": "encoder"}}).methods["it"]
    assert bare == TrainedEncoder()
    [cell] = tiny_windows("3dvar").cells()
    settings = cell.method.settings("xy", cell.protocol)
    assert (settings.memory, settings.window) == ("window", 3)  # the windows' own


# Mistakes


@pytest.mark.parametrize("axis", AXES)
def test_a_setting_that_is_varied_is_not_fixed_as_well(axis: str) -> None:
    more = {"regime": ("mean:var3d",), "training_seed": (0,), "missing": (0.0, 0.5)}
    values = {**TWO, **more}[axis]
    fixed = {**dict.fromkeys(AXES, values[0]), "regime": "mean"}[axis]
    without = ("gru",) if axis == "missing" else ()  # encoders refuse gaps
    varied = tiny_windows(*without).vary(**{axis: values})
    for section, key in (place.split(".") for place in AXES[axis][0]):
        if section in ("data", "windows"):  # others are of every encoder
            value = [0.1, 0.4] if key == "interval" else fixed
            with pytest.raises(
                ConfigurationError,
                match=rf"{section}\.{key}: expected none, as vary\.{axis}",
            ):
                varied.updated(**{section: {key: value}})


@pytest.mark.parametrize(
    "axes",
    [
        {"loss": ("mse", "mse")},
        {"operator": ("yx",)},
        {"sigma": (0.0,)},
        {"sigma": (0.1, 0.1000000001)},  # would share a name
        {"interval": (0,)},
        {"interval": ((0.4, 0.1),)},
        {"interval": ((0.1, 0.2, 0.3),)},
        {"missing": (1.0,)},
        {"window": (0,)},
        {"background": ("good",)},
        {"loss": ("mae",)},
        {"n_iterations": (0,)},
        {"seed": (-1,)},
        {"regime": ("mean-var3d",)},
        {"regime": ("mean:mae",)},
        {"regime": ("mean:var3d",), "loss": ("mse",)},
        {"regime": ("mean:var3d",), "background": ("mean",)},
        {"training_seed": (0, 0)},
        {"training_seed": (0,), "seed": (0,)},
    ],
)
def test_axes_that_make_no_sense(axes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentValueError, match="expected"):
        Vary(**axes)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"methods": {"a": {"scheme": "enfk"}}},
            r"methods\.a\.scheme: expected one of",
        ),
        (
            {"methods": {"a": {"scheme": ["oi"]}}},
            r"methods\.a\.scheme: expected one of",
        ),
        ({"methods": {"a": {}}}, r"methods\.a\.scheme: expected one of"),
        ({"methods": {"a": {"scheme": "oi", "n": 1}}}, r"methods\.a\.n: unknown key"),
        (
            {"methods": {"a": {"scheme": "pf", "n_particles": 1}}},
            "n_particles: expected",
        ),
        ({"methods": {"a": 3}}, r"methods\.a: expected a table"),
        ({"methods": {"../a": {"scheme": "oi"}}}, r"methods: expected"),
        (
            {"methods": {"report": {"scheme": "oi"}}},
            r"methods\.report: expected anothe",
        ),
        ({"data": {"n_steps": 100}}, r"data\.n_steps: expected none with \[cycles\]"),
        ({"data": {"sigma": 0.0}}, r"data\.sigma: expected a number above 0"),
        (
            {"experiment": {"measure": "spread"}},
            "measure: expected one of rmse_a, rmse_p",
        ),
        ({"experiment": {"optimum": 3}}, r"experiment\.optimum: unknown key"),
        ({"training": {"epochs": 3}}, r"training\.epochs: unknown table \[training\]"),
        ({"cycles": {"burn_in": -1.0}}, r"burn_in: expected"),
        (
            {"windows": {}},
            r"expected one of the tables \[windows\] and \[cycles\], got b",
        ),
        (
            {"vary": {"sigmas": [1.0]}},
            r"vary\.sigmas: unknown key; did you mean 'sigma'",
        ),
        ({"vary": {"sigma": 1.0}}, r"vary\.sigma: expected"),
        (
            {"methods": {"a": {**MLP, "memory": "carried"}}},
            "memory: expected 'window' for model 'mlp'",
        ),
        (
            {"methods": {"a": {**TINY_GRU, "model": "rnn"}}},
            "model: expected one of mlp, gru, lstm",
        ),
        (
            {"methods": {"a": {**TINY_GRU, "training": {"epochs": 0}}}},
            "epochs: expected at least 1",
        ),
        (
            {"methods": {"a": {**TINY_GRU, "training": {"loss": "var3d_window"}}}},
            r"training\.loss: expected a loss of a single analysis",
        ),
        (
            {"methods": {"a": {**MLP, "analysis_at": "first"}}},
            "analysis_at: expected 'last' in cycles",
        ),
        (
            {"methods": {"a": {**TINY_GRU, "cycles": {"unrol": 3}}}},
            r"cycles\.unrol: unknown key; did you mean",
        ),
        (
            {"methods": {"a": {**TINY_GRU, "cycles": {"unroll": 3}}}},
            r"first_unroll: expected at most unroll = 3, got \d",
        ),
        ({"method": {"enkf": {}}}, r"method\.enkf: unknown table \[method\]; did you"),
    ],
)
def test_tables_that_make_no_sense(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^a test: .*{message}"):
        tiny_cycled(**tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"windows": {"window": 7}}, r"windows\.window: expected at most the 6"),
        ({"windows": {"background": "good"}}, "background: expected one of mean, inde"),
        ({"windows": {"b_scale": 0.0}}, "b_scale: expected"),
        (
            {"methods": {"gru": {"window": 4}}},
            "window: expected none, or 3 as in the windows",
        ),
        (
            {
                "methods": {
                    "gru": {
                        "analysis_at": "last",
                        "training": {"loss": "var3d_window"},
                    }
                }
            },
            "analysis_at: expected 'first' for the loss",
        ),
    ],
)
def test_windows_that_make_no_sense(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^a test: .*{message}"):
        tiny_windows(**tables)


def test_an_experiment_needs_a_protocol_and_methods() -> None:
    whole = tiny_cycled().to_tables()
    for without, message in (
        ("cycles", r"expected one of the tables \[windows\] and \[cycles\], got none"),
        ("methods", "methods: expected at least one table"),
    ):
        tables = {name: table for name, table in whole.items() if name != without}
        with pytest.raises(ConfigurationError, match=f"^mine: {message}"):
            Experiment.from_tables("mine", tables, source="mine")


# Words


def test_an_experiment_says_what_will_be_done() -> None:
    lines = tiny_cycled().vary(operator=["x", "x2"]).describe()
    assert lines[0].endswith("tiny: oi, enkf, pf: 6 cells")
    assert "2 cases: x, x2" in lines[1]
    assert "20 scored after 0.5 time units" in lines[2]
    windows = tiny_windows().describe()
    assert windows[0].endswith("tiny: 3dvar, gru: 2 cells")
    assert "12 training + 6 validation + 6 test" in windows[1]
    assert "3 observations, background forecast" in windows[2]
    assert isinstance(tiny_windows().protocol, Windows)


def test_a_number_of_things_agrees_with_them() -> None:
    assert counted(1, "cell") == "1 cell"
    assert counted(0, "cell") == "0 cells"
    assert counted(1, "analysis", "analyses") == "1 analysis"
    assert counted(40, "analysis", "analyses") == "40 analyses"
