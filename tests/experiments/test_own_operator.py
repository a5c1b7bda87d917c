"""An observation operator of the user's own in experiments, and who imports it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import l63fast as l63
import own_sensors
from cli_runs import Command
from experiment_samples import SIZES, TINY, tiny_cycled, tiny_windows, weights_only
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.reevaluate import reevaluate
from l63fast.experiments.results import Result
from own_nets import Net
from report_help import quick_report

PLANTED = """
from pathlib import Path
from own_sensors import h as below, x2, custom, _X2

with Path({log!r}).open("a") as log:
    print("imported", file=log)


def h(states):
    return below(states)


square = custom(lambda s: _X2(s), obs_dim=1, name="square", mirror_signs=[1])
"""


@pytest.fixture(autouse=True, scope="module")
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the log of a module that writes a line whenever it is imported."""
    log = tmp_path / "log"
    (tmp_path / "planted.py").write_text(PLANTED.format(log=str(log)))
    monkeypatch.chdir(tmp_path)
    yield log
    sys.modules.pop("planted", None)


def board(experiment: Experiment, root: Path) -> Any:
    found = l63.scores(experiment.run(root))
    return found.set_index(["operator", "method"])


@pytest.mark.parametrize("name", [pytest.param("xy", marks=pytest.mark.slow), "x2"])
def test_a_copy_scores_as_the_operator_that_it_copies(
    tmp_path: Path, name: str
) -> None:
    training = {**TINY["method"]["training"], "loss": "var3d"}
    methods = {"gru": {**TINY["method"], "training": training}}
    own = getattr(own_sensors, name)
    experiment = tiny_windows(methods=methods).vary(operator=[name, own])
    assert experiment.axes.operator == (name, f"own_sensors:{name}")
    table = board(experiment, tmp_path)
    columns = ["score", "rmse_a", "ratio_to_3dvar", "mirror_aware", "cost_ratio"]
    named, copied = (
        table.loc[n, columns] for n in (name, f"own_sensors:{name}")
    )  # fmt: skip
    assert copied.loc["gru"].astype(float).to_numpy() == pytest.approx(
        named.loc["gru"].astype(float).to_numpy(), rel=1e-4
    )
    assert copied.loc["3dvar", "score"] == pytest.approx(
        named.loc["3dvar", "score"], rel=1e-5
    )
    assert (named["mirror_aware"] == (name == "x2")).all()
    folder = tmp_path / "tiny"
    again, said = reevaluate(
        folder / f"own_sensors-{name}-gru",
        operator=l63.ObservationOperator(f"own_sensors:{name}").imported(),
    )
    assert said.endswith("the stored scores, to the last digit")
    assert bool(again["mirror_aware"].iloc[0]) == (name == "x2")


def test_it_stands_in_the_table_of_cycles(tmp_path: Path) -> None:
    R = [[0.5]]
    sensor: Any = own_sensors.sensor
    data = {"operator": sensor, "R": R, "sigma": 0.5**0.5}
    experiment = tiny_cycled("oi", data=data)
    assert experiment.to_tables()["data"]["operator"] == "own_sensors:sensor"
    table = board(experiment, tmp_path)
    assert set(table.index) == {
        ("own_sensors:sensor", "enkf"),
        ("own_sensors:sensor", "pf"),
    }
    settings = Result.open(tmp_path / "tiny" / "enkf").settings
    operator: Any = settings.data.operator
    assert operator == l63.ObservationOperator("own_sensors:sensor").imported()
    assert operator.source_hash == sensor.source_hash
    with pytest.raises(ArgumentValueError, match="got the name of one of your own"):
        operator([1.0, 2.0, 3.0])
    two = tiny_cycled(data={**data, "operator": own_sensors.xy})
    with pytest.raises(ArgumentValueError, match=r"^R: expected .*\(2, 2\)"):
        two.run(tmp_path / "wrong")


@pytest.mark.filterwarnings("ignore:.*holds .* of other methods or settings too")
def test_nothing_but_a_run_imports_it(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch, l63fast: Command
) -> None:
    quick = {"3dvar": {"scheme": "3dvar", "b_scale": 1.0}}  # with h in Python
    experiment = tiny_windows(windows={"background": "mean"}, methods=quick)
    experiment = experiment.vary(operator=["planted:h", "planted:square"])
    (tmp_path / "tiny.toml").write_text(experiment.to_toml())
    assert l63fast("experiment", "--config", "tiny.toml", "--dry_run").code == 0
    assert not planted.exists()
    experiment.run("results", keep_states=True)
    assert planted.read_text() == "imported\n"
    del sys.modules["planted"]

    folder = Path("results/tiny")
    results = l63.open_results(folder)
    table = l63.scores(results).set_index(["operator", "method"])
    assert table.loc["planted:square", "mirror_aware"].all()
    assert not table.loc["planted:h", "mirror_aware"].any()
    assert "planted:h" in quick_report(monkeypatch, folder).read_text()
    cell = folder / "planted-square-gru"
    assert "--operator" in l63fast("evaluate", "--result_dir", cell).err
    assert l63fast("export", cell).code == 1
    assert l63fast("visualize", "--result_dir", cell, "--quiet").code == 0
    tiny_windows("gru").run("results", resume=True)
    assert "planted" not in sys.modules
    assert planted.read_text() == "imported\n"
    run = l63fast("evaluate", "--result_dir", cell, "--operator", "planted:square")
    assert run.out.rstrip().endswith("the stored scores, to the last digit")
    # A finished cell is kept.
    metrics = cell / "metrics.json"
    before = metrics.stat().st_mtime_ns
    experiment.run("results", resume=True)
    assert metrics.stat().st_mtime_ns == before
    # With another source it is another result.
    source = Path("planted.py")
    source.write_text(source.read_text().replace("below(states)", "1 * below(states)"))
    shutil.rmtree("__pycache__", ignore_errors=True)
    del sys.modules["planted"]
    with pytest.raises(
        ConfigurationError, match=r"data.operator.source_sha256 is .*, not "
    ):
        experiment.run("results", resume=True)


@pytest.mark.slow
def test_workers_import_it_by_name(planted: Path) -> None:
    experiment = tiny_windows("gru", methods={"oi": {"scheme": "oi"}})
    own = experiment.updated(data={"operator": "planted:h"})
    own.run("results", workers=2)
    assert planted.read_text().count("imported") > 1
    assert set(l63.open_results("results/tiny")["method"]) == {"oi", "3dvar"}


def test_what_has_no_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    own = l63.ObservationOperator.custom(lambda s: s[..., :1], obs_dim=1, name="mine")
    for make in (
        lambda: tiny_windows(data={"operator": own}),
        lambda: tiny_windows().vary(operator=["x", own]),
    ):
        with pytest.raises(
            (ArgumentValueError, ConfigurationError),
            match=r"top level of the module .* got 'mine'; l63fast.compare takes any",
        ):
            make()
    with pytest.raises(ArgumentValueError, match="'no_such_module:h': ModuleNotFound"):
        tiny_windows().vary(operator="no_such_module:h").run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_train_evaluate_and_export_take_what_is_the_users_own(
    planted: Path, l63fast: Command
) -> None:
    flags = [*SIZES, "--window", 3, "--epochs", 1, "--hidden", 4, "--save_dir", "mine"]
    flags += ["--obs_mode", "planted:square", "--model", "own_nets:Net"]
    assert l63fast("simulate", *SIZES, "--obs_mode", "planted:square").code == 0
    for _ in range(2):  # the second time the data are there
        run = l63fast("train", *flags)
        assert (run.code, run.err) == (0, "")
    assert Path("data/planted-square").is_dir()
    there = ("evaluate", "--result_dir", "mine")
    own = ("--model", "own_nets:Net", "--operator", "planted:square")
    assert "stored scores" not in l63fast(*there, *own).err
    assert l63fast(*there, *own).code == 0
    assert "names in files are never imported" in l63fast(*there, *own[2:]).err
    assert "expected your own operator 'planted:square'" in l63fast(*there).err
    assert l63fast("export", "mine", *own[:2], "--formats", "torchscript").code == 0
    found = l63.load_encoder("mine_export", model=Net)
    assert found.operator.obs_dim == 1
    run = l63fast("export", "mine", "--model", "gru")
    assert "--model: expected module:Class, got 'gru'" in run.err
