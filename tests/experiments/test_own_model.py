"""An encoder of the user's own beside ours, and who imports it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import l63fast as l63
from cli_runs import Command
from experiment_samples import TINY, TINY_GRU, tiny_cycled, tiny_windows, weights_only
from l63fast.errors import ArgumentValueError, ConfigurationError, ModelFileError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.reevaluate import reevaluate
from l63fast.experiments.results import Result
from l63fast.learning.encoders import n_parameters
from l63fast.learning.export import load_weights
from own_nets import Memory, Net
from report_help import quick_report

OWN_IN_WINDOWS = {"mine": {**TINY["method"], "model": Net}}
PLANTED = """
from pathlib import Path
from own_nets import Net as Below

with Path({log!r}).open("a") as log:
    print("imported", file=log)


class Net(Below):
    pass
"""


@pytest.fixture(autouse=True, scope="module")
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def board(experiment: Experiment, root: Path) -> Any:
    found = l63.scores(experiment.run(root))
    return found.set_index("method")


def test_it_stands_in_the_table_of_windows(tmp_path: Path) -> None:
    experiment = tiny_windows().updated(methods=OWN_IN_WINDOWS)
    table = board(experiment, tmp_path)
    assert set(table.index) == {"3dvar", "gru", "mine"}
    assert table.loc["mine", "label"] == "Net, L=3"
    assert (table.loc["mine", "score"] != table.loc["gru", "score"]).all()
    folder = tmp_path / "tiny" / "mine"
    method: Any = Result.open(folder).settings.method
    assert method.model == "own_nets:Net"
    encoder, card = load_weights(folder, model=Net)
    assert card["n_parameters"] == n_parameters(encoder) == (9 * 8 + 8) + (8 * 3 + 3)
    assert card["training"]["source_sha256"] == method.source_sha256
    _, said = reevaluate(folder, model=Net)
    assert said.endswith("the stored scores, to the last digit")
    with pytest.raises(ModelFileError, match="names in files are never imported"):
        reevaluate(folder)


def test_it_stands_in_the_table_of_cycles(tmp_path: Path) -> None:
    own = {
        "mine": {**TINY_GRU, "model": "own_nets:Net", "window": 2},
        "memory": {**TINY_GRU, "model": Memory, "memory": "carried"},
    }
    experiment = tiny_cycled("enkf", "pf", methods={"gru": TINY_GRU})
    experiment = experiment.updated(methods=own)
    recipe: Any = experiment.methods["mine"]
    assert (recipe.training.optimiser, recipe.memory) == ("muon", "window")
    labels = board(experiment, tmp_path)["label"]
    assert labels["mine"] == "Net, L=2"
    assert labels["memory"] == "Memory, carried"
    assert labels["gru"] == "GRU, carried"


def test_nothing_but_a_run_imports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, l63fast: Command
) -> None:
    log = tmp_path / "log"
    (tmp_path / "planted.py").write_text(PLANTED.format(log=str(log)))
    monkeypatch.chdir(tmp_path)
    own = {"gru": {**TINY["method"], "model": "planted:Net"}}
    experiment = tiny_windows(methods=own)
    (tmp_path / "tiny.toml").write_text(experiment.to_toml())
    assert l63fast("experiment", "--config", "tiny.toml", "--dry_run").code == 0
    assert not log.exists()
    experiment.run("results")
    assert log.read_text() == "imported\n"
    del sys.modules["planted"]

    folder = Path("results/tiny")
    results = l63.open_results(folder)
    l63.scores(results)
    quick_report(monkeypatch, folder)
    with pytest.raises(ModelFileError):
        l63.load_encoder(folder / "gru")
    assert l63fast("evaluate", "--result_dir", folder / "gru").code == 1
    assert l63fast("export", folder / "gru").code == 1
    # The folder says planted:Net, what is asked for does not.
    with pytest.raises(ConfigurationError, match="model is planted:Net, not gru"):
        tiny_windows().run("results", resume=True)
    tiny_windows().run("results", resume=True, only="3dvar")
    assert "planted" not in sys.modules
    assert log.read_text() == "imported\n"
    # A finished cell is kept, and its class has been looked at.
    cell = folder / "gru" / "metrics.json"
    before = cell.stat().st_mtime_ns
    experiment.run("results", resume=True)
    assert cell.stat().st_mtime_ns == before
    assert log.read_text() == "imported\nimported\n"
    # With another source it is another result.
    with Path("planted.py").open("a") as source:
        source.write("    changed = True\n")
    shutil.rmtree("__pycache__", ignore_errors=True)
    del sys.modules["planted"]
    with pytest.raises(ConfigurationError, match=r"source_sha256 is .*, not "):
        experiment.run("results", resume=True)
    config = folder / "gru" / "config.toml"
    run = l63fast("train", "--config", config, "--resume", "--save_dir", "again")
    assert run.code == 2
    assert "the hash of the present source of planted:Net" in run.err
    del sys.modules["planted"]


def test_what_cannot_be_imported_is_refused_before_anything_is_made(
    tmp_path: Path, l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"mine": {"scheme": "encoder", "model": "no_such_module:Net"}}
    with pytest.raises(ArgumentValueError, match="'no_such_module:Net': ModuleNotF"):
        tiny_windows().updated(methods=own).run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    recipe = ("--recipe", "cycled-gru", "--dry_run")
    run = l63fast("train", *recipe, "--model", "own_nets:Net")
    assert "model       own_nets:Net, 64 hidden, memory window" in run.out
    assert "12800 updates" in run.out
    run = l63fast("train", *recipe, "--model", "mlp")
    assert "--model: expected none with --recipe" in run.err
