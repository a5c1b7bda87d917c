"""The commands at work on tiny data: what they print, write, refuse and resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_runs import Command, make_command
from experiment_samples import FLAGS, SIZES, contents
from l63fast.experiments import figures
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.presets import PRESETS
from l63fast.experiments.result import Result
from l63fast.learning.loading import load_encoder
from l63fast.storage import verify_directory


@pytest.fixture
def l63fast(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    from l63fast.learning import export

    weights = {"safetensors": export._WRITE["safetensors"]}
    monkeypatch.setattr(export, "_WRITE", weights)  # the programs take seconds
    monkeypatch.chdir(tmp_path)
    return make_command(monkeypatch, capsys)


def test_train_makes_the_data_it_lacks_and_says_so(l63fast: Command) -> None:
    run = l63fast("train", "--model", "mlp", "--obs_mode", "x", *FLAGS)
    assert run.code == 0
    assert "data in     data/x (not there: made now)" in run.out
    assert "next: l63fast visualize --result_dir results/mlp_x" in run.out
    result = Result.open("results/mlp_x")
    assert (result.settings.model.model, result.settings.data.operator) == ("mlp", "x")
    assert "95 % interval" in run.out


def test_train_takes_the_data_as_they_are(l63fast: Command) -> None:
    l63fast("simulate", *SIZES, "--sigma", 0.5, "--seed", 3, "--data", "mine")
    run = l63fast("train", "--data", "mine", *FLAGS, "--save_dir", "a b/é")
    assert run.code == 0
    data = Result.open("a b/é").settings.data
    assert (data.sigma, data.seed, data.n_train) == (0.5, 3, 12)
    assert "with sigma 0.5; seed 3" in run.out


def test_data_that_contradict_the_flags_are_refused(l63fast: Command) -> None:
    l63fast("simulate", *SIZES)
    run = l63fast("train", *FLAGS, "--sigma", 2, "--dt", 0.02)
    assert run.code == 2
    assert "dt is 0.01, not 0.02" in run.err
    assert "sigma is 1.0, not 2.0" in run.err
    assert not Path("results").exists()


def test_simulating_again_replaces_the_data(l63fast: Command) -> None:
    first = l63fast("simulate", *SIZES).out
    assert l63fast("simulate", *SIZES).out == first
    assert l63fast("simulate", *SIZES, "--seed", 1).out != first
    assert sorted(path.name for path in Path("data").iterdir()) == ["xy"]


def test_quiet_prints_nothing(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "draw_figures", lambda result: [Path("drawn.png")])
    assert l63fast("simulate", *SIZES, "--quiet").out == ""
    run = l63fast("train", *FLAGS, "--quiet")
    assert (run.code, run.out, run.err) == (0, "", "")
    assert l63fast("evaluate", "--result_dir", "results/gru_xy", "--quiet").out == ""
    assert l63fast("visualize", "--result_dir", "results/gru_xy", "--quiet").out == ""


def test_a_stopped_training_is_resumed(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l63fast.cli.output import EpochLines

    l63fast("train", *FLAGS, "--save_dir", "whole")
    with monkeypatch.context() as patch:

        def stop(self: object, row: object, n_epochs: int) -> None:
            raise KeyboardInterrupt

        patch.setattr(EpochLines, "epoch", stop)
        run = l63fast("train", *FLAGS, "--save_dir", "r")
    assert run.code == 130
    assert "--resume" in run.out
    run = l63fast("train", *FLAGS, "--save_dir", "r", "--resume")
    assert run.code == 0
    assert "epoch   1/2" not in run.out
    assert "epoch   2/2" in run.out
    assert contents(Path("r")) == contents(Path("whole"))


def test_resuming_another_run_is_refused(l63fast: Command) -> None:
    from l63fast.cli import output

    patch = pytest.MonkeyPatch()

    def stop(self: object, row: object, n_epochs: int) -> None:
        raise KeyboardInterrupt

    patch.setattr(output.EpochLines, "epoch", stop)
    assert l63fast("train", *FLAGS).code == 130
    patch.undo()
    run = l63fast("train", *FLAGS, "--seed", 1, "--resume")
    assert run.code == 1
    assert "seed 0, not 1" in run.err


def test_evaluate_prints_the_table_and_the_verdict(l63fast: Command) -> None:
    l63fast("train", *FLAGS)
    run = l63fast("evaluate", "--result_dir", "results/gru_xy")
    assert run.code == 0
    assert "3D-Var" in run.out
    assert "the stored scores, to the last digit" in run.out


@pytest.mark.promise("D2", "exit code 1")
def test_experiment_ends_with_a_table_and_names_failures(l63fast: Command) -> None:
    words = ("--models", "mlp", "--operators", "x,x2", "--n_iterations", 1)
    sizes = (*FLAGS, "--workers", 1, "--results", "out", "--no_report")
    run = l63fast("experiment", *words, *sizes)
    assert run.code == 0
    assert "[ 2/2] mlp_x2_k1" in run.out
    assert "x² observed with σ = 1 every 0.1 time units" in run.out
    assert "MLP, K=1" in run.out
    (Path("out") / "quick" / "mlp_x_k1" / "mine").write_text("a stranger")
    run = l63fast("experiment", *words, *sizes)
    assert run.code == 1
    assert "failed: mlp_x_k1: " in run.err
    assert "mine" in run.err
    assert "x² observed with σ = 1 every 0.1 time units" in run.out


def test_n_traj_overrules_the_sizes_of_a_file(l63fast: Command) -> None:
    Path("sizes.toml").write_text("[data]\nn_train = 8\nn_val = 4\n")
    run = l63fast("simulate", "--config", "sizes.toml", "--n_traj", 30, "--dry_run")
    assert run.code == 0, run.err
    assert "20 training + 10 validation" in run.out


def test_a_table_that_names_some_of_the_parameters_agrees_with_them(
    l63fast: Command,
) -> None:
    l63fast("simulate", *SIZES)
    Path("some.toml").write_text("[data.parameters]\nrho = 28.0\n")
    assert l63fast("train", *FLAGS, "--config", "some.toml").code == 0
    Path("other.toml").write_text("[data.parameters]\nrho = 27.0\n")
    run = l63fast("train", *FLAGS, "--config", "other.toml")
    assert run.code == 2
    assert "parameters is" in run.err


def test_training_without_observation_error_is_refused_before_data_are_made(
    l63fast: Command,
) -> None:
    run = l63fast("train", *FLAGS, "--sigma", 0)
    assert run.code == 2
    assert run.err.startswith("error: --sigma: expected a number above 0")
    assert not Path("data").exists()
    assert l63fast("simulate", *SIZES, "--sigma", 0).code == 0


def test_an_experiment_never_replaces_one_of_other_settings(l63fast: Command) -> None:
    axes = ("--models", "mlp", "--operators", "x", "--n_iterations", 1)
    few = [*FLAGS, *axes, "--workers", 1, "--no_report"]
    assert l63fast("experiment", *few).code == 0
    before = contents(Path("results/quick/mlp_x_k1"))
    run = l63fast("experiment", *few, "--seed", 3)
    assert run.code == 2
    assert "data.seed is 0, not 3" in run.err
    assert "--name" in run.err
    assert contents(Path("results/quick/mlp_x_k1")) == before
    assert l63fast("experiment", *few, "--seed", 3, "--name", "mine").code == 0
    assert Result.open("results/mine/mlp_x_k1").settings.data.seed == 3


def test_resume_says_what_it_found(l63fast: Command) -> None:
    run = l63fast("train", *FLAGS, "--resume")
    assert "there is no stopped run: starting anew" in run.out


CYCLED = ("--train", 6, "--val", 4, "--test", 5, "--n_cycles", 12, "--burn_in", 4)


def test_a_cycled_experiment_ends_with_measured_beside_published(
    l63fast: Command,
) -> None:
    words = ("sakov2012", "--methods", "oi,pf-100", *CYCLED, "--workers", 1)
    words = (*words, "--no_report")
    run = l63fast("experiment", *words)
    assert run.code == 0, run.err
    assert "[ 2/2] pf-100" in run.out
    report = Path("results/sakov2012/report")
    table = (report / "tables" / "table.md").read_text()
    assert "| 1.25 | 1.23 |" in table
    assert "| 0.38 | 0.35 |" in table
    assert "/ optimum" not in run.out
    assert not (report / "report.html").exists()


def test_tune_prints_the_best_number_and_draws_its_curve(l63fast: Command) -> None:
    run = l63fast("tune", "--methods", "enkf-10,oi", *CYCLED, "--workers", 1)
    assert run.code == 0, run.err
    assert "inflation" in run.out
    assert "the test split was not opened" in " ".join(run.out.split())
    folder = Path("results/sakov2012-tuning/enkf-10")
    assert {"tuning.png", "tuning.csv"} <= set(verify_directory(folder).files)


RECIPE = ("--recipe", "cycled-gru", "--train", 2, "--val", 3, "--test", 4)


def test_a_recipe_trains_in_cycles_and_scores_in_cycles(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l63fast.learning import export

    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
    recipe = PRESETS["encoders"]["methods"]["gru"]
    monkeypatch.setitem(recipe, "cycles", {**recipe["cycles"], "updates": 5})
    small = ("--epochs", 1, "--batch_size", 4, "--hidden", 4, "--obs_mode", "xy")
    run = l63fast("train", *RECIPE, *small, "--n_bootstrap", 20, "--save_dir", "out")
    assert run.code == 0, run.err
    assert "epoch   1/1" in run.out
    assert "pool        " in run.out
    assert load_encoder("out").settings.operator == "xy"
    result = CycledResult.open("out")
    assert result.settings.data.n_test == 4
    assert result.settings.method.training.loss == "distance"
    assert f"rms         {result.metrics['scores']['rms']:.4f}" in run.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gru"), "--model: expected none with --recipe"),
        (("--n_steps", 100), "--n_steps: expected none with --recipe"),
        (("--config", "mine.toml"), "--config: expected none with --recipe"),
        (("--epochs", 0), "--epochs"),
        (("--sigma", 0), "--sigma: expected a number above 0"),
    ],
)
def test_what_a_recipe_decides_is_not_asked_for(
    l63fast: Command, words: tuple[object, ...], message: str
) -> None:
    Path("mine.toml").write_text("")
    run = l63fast("train", *RECIPE, *words)
    assert run.code == 2
    assert message in run.err
    assert not Path("data").exists()
