"""The commands at work on tiny data: what they print, write, refuse and resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_runs import Command, Run, make_command, run_in
from experiment_samples import FLAGS, SIZES, contents
from l63fast.cli import output, train
from l63fast.experiments import figures
from l63fast.experiments.report import page
from l63fast.experiments.results import Result
from l63fast.experiments.settings_file import merged, preset_tables
from l63fast.learning import export
from l63fast.learning.export import load_encoder
from l63fast.storage import verify_directory

SMALL = ("--n_bootstrap", 20, "--workers", 1, "--no_report")


@pytest.fixture(scope="module", autouse=True)
def weights_only() -> Iterator[None]:
    """Leave out the programs of trained encoders, which take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
        yield


@pytest.fixture
def l63fast(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    monkeypatch.chdir(tmp_path)
    return make_command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """Return a folder where an encoder was trained, and what that printed."""
    folder = tmp_path_factory.mktemp("trained")
    run = run_in(folder, "train", "--model", "mlp", "--obs_mode", "x", *FLAGS)
    return folder, run


def test_train_makes_the_data_it_lacks_and_says_so(trained: tuple[Path, Run]) -> None:
    folder, run = trained
    assert run.code == 0, run.err
    assert "data in     data/x (not found: simulated now)" in run.out
    assert "epoch   2/2" in run.out
    assert "next: l63fast visualize --result_dir results/mlp_x" in run.out
    settings = Result.open(folder / "results/mlp_x").settings
    assert (settings.method.model, settings.data.operator) == ("mlp", "x")


def test_train_ends_with_the_scores_and_whether_it_beats_tuned_3d_var(
    trained: tuple[Path, Run],
) -> None:
    folder, run = trained
    scores = Result.open(folder / "results/mlp_x").metrics["scores"]
    [line] = [line for line in run.out.splitlines() if " MLP, L=3 " in line]
    assert f" {scores['rmse_pooled_a']:.3f} " in line
    [verdict] = [line for line in run.out.splitlines() if "tuned 3D-Var: " in line]
    assert verdict.startswith("The encoder ")


def test_a_result_names_what_makes_it_again(trained: tuple[Path, Run]) -> None:
    folder, _ = trained
    made = "results/mlp_x"
    words = ("--config", f"{made}/config.toml", "--save_dir", "a b/é")
    run = run_in(folder, "train", *words)
    assert run.code == 0, run.err
    assert "data in     data/x (found)" in run.out
    assert contents(folder / "a b/é") == contents(folder / made)


def test_evaluate_prints_the_table_and_the_verdict(trained: tuple[Path, Run]) -> None:
    run = run_in(trained[0], "evaluate", "--result_dir", "results/mlp_x")
    assert run.code == 0, run.err
    assert " 3D-Var " in run.out
    assert "the stored scores, to the last digit" in run.out


def test_train_takes_the_data_as_they_are(l63fast: Command) -> None:
    l63fast("simulate", *SIZES, "--sigma", 0.5, "--seed", 3, "--data", "mine")
    words = ("train", "--data", "mine", *FLAGS)
    assert "with sigma 0.5; seed 3" in l63fast(*words, "--dry_run").out
    printed = l63fast(*words, "--print_config").out
    assert "\nsigma = 0.5\n" in printed
    assert "\nn_train = 12\n" in printed


def test_data_too_short_for_the_window_are_named(l63fast: Command) -> None:
    l63fast("simulate", *SIZES, "--data", "mine")
    run = l63fast("train", "--data", "mine", "--dry_run")
    assert run.code == 2
    assert run.err.startswith("error: mine: windows.window: expected at most the 6 obs")
    run = l63fast("train", "--data", "mine", "--window", 10, "--dry_run")
    assert run.err.startswith("error: --window: expected at most the 6 observations")


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
    l63fast: Command, trained: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "draw_figures", lambda result: [Path("drawn.png")])
    assert l63fast("simulate", *SIZES, "--quiet").out == ""
    result = trained[0] / "results/mlp_x"
    assert l63fast("evaluate", "--result_dir", result, "--quiet").out == ""
    assert l63fast("visualize", "--result_dir", result, "--quiet").out == ""
    assert l63fast("visualize", "--result_dir", result).out == "drawn.png\n"


def test_a_stopped_training_is_resumed_by_the_same_command(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = l63fast("train", *FLAGS, "--save_dir", "whole", "--quiet")
    assert (run.code, run.out, run.err) == (0, "", "")
    with monkeypatch.context() as patch:

        def stop(row: object, n_epochs: int) -> None:
            raise KeyboardInterrupt

        patch.setattr(output, "describe_epoch", stop)
        run = l63fast("train", *FLAGS, "--save_dir", "r", "--resume")
    assert run.code == 130
    assert "there is no stopped run to resume: starting" in run.out
    assert "the same command with --resume continues" in run.out
    run = l63fast("train", *FLAGS, "--save_dir", "r", "--resume", "--seed", 1)
    assert run.code == 1
    assert "seed 0, not 1" in run.err
    run = l63fast("train", *FLAGS, "--save_dir", "r", "--resume")
    assert run.code == 0
    assert "no stopped run" not in run.out
    assert "epoch   1/2" not in run.out
    assert "epoch   2/2" in run.out
    assert run.out.count("resumed after epoch 1 of 2\n") == 1
    assert contents(Path("r")) == contents(Path("whole"))


@pytest.mark.promise("D2", "exit code 1")
def test_experiment_ends_with_a_table_and_names_failures(l63fast: Command) -> None:
    words = ("--methods", "3dvar,mlp", "--operators", "x,x2", "--n_iterations", 1)
    sizes = (*FLAGS, "--workers", 1, "--results", "out", "--no_report")
    run = l63fast("experiment", *words, *sizes)
    assert run.code == 0, run.err
    assert "[ 4/4] x2-mlp-k1" in run.out
    assert "x² observed with σ = 1 every 0.1 time units" in run.out
    assert " MLP, L=3 " in run.out
    (Path("out") / "quick" / "x-3dvar" / "mine").write_text("a stranger")
    run = l63fast("experiment", *words, *sizes, "--only", "x-*d*")
    assert run.code == 1
    assert "\nonly        1 of 4 cells\n" in run.out
    assert "failed: x-3dvar: " in run.err
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
    assert l63fast("train", *FLAGS, "--config", "some.toml", "--dry_run").code == 0
    Path("other.toml").write_text("[data.parameters]\nrho = 27.0\n")
    run = l63fast("train", *FLAGS, "--config", "other.toml", "--dry_run")
    assert run.code == 2
    assert "parameters" in run.err


def test_training_without_observation_error_is_refused_before_data_are_made(
    l63fast: Command,
) -> None:
    run = l63fast("train", *FLAGS, "--sigma", 0)
    assert run.code == 2
    assert run.err.startswith("error: --sigma: expected a number above 0")
    assert not Path("data").exists()
    assert l63fast("simulate", *SIZES, "--sigma", 0).code == 0


def test_an_experiment_replaces_one_of_other_settings_only_when_told(
    l63fast: Command,
) -> None:
    few = ("--methods", "3dvar", "--operators", "x", *SIZES, "--window", 3, *SMALL)
    cell = Path("results/quick/x-3dvar")
    assert l63fast("experiment", *few).code == 0
    before = contents(cell)
    run = l63fast("experiment", *few, "--seed", 3)
    assert run.code == 2
    assert "data.seed is 0, not 3" in run.err
    assert "--name" in run.err
    assert "--overwrite" in run.err
    assert contents(cell) == before
    assert l63fast("experiment", *few, "--seed", 3, "--name", "mine").code == 0
    assert Result.open("results/mine/x-3dvar").settings.data.seed == 3
    run = l63fast("experiment", *few, "--seed", 3, "--overwrite")
    assert run.code == 0, run.err
    assert contents(cell) == contents(Path("results/mine/x-3dvar"))


CYCLED = ("--train", 6, "--val", 4, "--test", 5, "--n_cycles", 12, "--burn_in", 4)


def test_an_experiment_in_cycles_ends_with_measured_beside_published(
    l63fast: Command,
) -> None:
    words = ("sakov2012", "--methods", "oi,pf-100", *CYCLED, *SMALL, "--keep_states")
    run = l63fast("experiment", *words)
    assert run.code == 0, run.err
    assert "[ 2/2] pf-100" in run.out
    report = Path("results/sakov2012/report")
    table = (report / "tables" / "table.md").read_text()
    assert "| 1.25 | 1.23 |" in table
    assert "| 0.38 | 0.35 |" in table
    assert "/ optimum" not in run.out
    assert not (report / "report.html").exists()
    assert (Path("results/sakov2012/oi/estimates.nc")).exists()


def test_tuning_prints_the_best_number_and_draws_its_curve(l63fast: Command) -> None:
    words = ("sakov2012", "--tune_only", "--methods", "enkf-10,oi", *CYCLED)
    run = l63fast("experiment", *words, "--workers", 1)
    assert run.code == 0, run.err
    assert "inflation" in run.out
    assert "the test split was not opened" in " ".join(run.out.split())
    folder = Path("results/sakov2012-tuning")
    assert "figures/tuning_enkf-10.png" in verify_directory(folder / "report").files
    assert not (folder / "oi").exists()
    run = l63fast("visualize", "--result_dir", folder / "enkf-10")
    assert run.code == 1
    assert "expected the states of the test split in estimates.nc" in run.err


RECIPE = ("--recipe", "cycled-gru", "--train", 2, "--val", 3, "--test", 4)


def test_a_recipe_trains_in_cycles_and_scores_in_cycles(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(name: str) -> dict[str, Any]:
        few = {"methods": {"gru": {"cycles": {"updates": 5}}}}
        return merged(preset_tables(name), {**few, "cycles": {"n_cycles": 100}})

    monkeypatch.setattr(train, "preset_tables", short)
    small = ("--epochs", 1, "--batch_size", 4, "--hidden", 4, "--obs_mode", "xy")
    rest = ("--lag", 2, "--n_bootstrap", 20, "--save_dir", "out")
    run = l63fast("train", *RECIPE, *small, *rest)
    assert run.code == 0, run.err
    assert "epoch   1/1" in run.out
    loaded = load_encoder("out").settings
    assert (loaded.operator, loaded.lag) == ("xy", 2)
    result = Result.open("out")
    assert result.settings.data.n_test == 4
    assert result.settings.method.training.loss == "distance"
    assert result.settings.protocol.name == "cycles"
    assert "rmse_s" in run.out
    [line] = [line for line in run.out.splitlines() if " GRU, carried " in line]
    assert f" {result.metrics['scores']['rmse_a']:.3f} " in line
    run = l63fast("evaluate", "--result_dir", "out")
    assert "the stored scores, to the last digit" in run.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gru"), "--model: expected none with --recipe"),
        (("--n_steps", 100), "--n_steps: expected none with --recipe"),
        (("--window", 5), "--window: expected none with --recipe"),
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


def test_a_page_stays_while_it_shows_the_results_of_its_folder(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        page, "_CHAPTERS", {name: lambda _: [] for name in page._CHAPTERS}
    )
    few = ("--operators", "x", *SIZES, "--window", 3, "--n_bootstrap", 20)
    words = ("experiment", "--methods", "3dvar", *few, "--workers", 1)
    assert l63fast(*words).code == 0
    report = Path("results/quick/report/report.html")
    before = report.read_bytes()
    again = l63fast(*words, "--no_report", "--resume")
    assert "is removed" not in again.out
    assert report.read_bytes() == before
    assert "report.html" in verify_directory(report.parent).files
    # Another method changes the results: the old page would not be true.
    other = l63fast(*words, "--methods", "background", "--no_report")
    assert (
        "report.html was of other results and is removed; l63fast report" in other.out
    )
    assert not report.exists()


def test_cells_of_another_experiment_of_that_name_are_mentioned(
    l63fast: Command,
) -> None:
    few = ("--operators", "x", *SIZES, "--window", 3, *SMALL)
    first = l63fast("experiment", "--methods", "background", *few)
    assert "of other methods or settings" not in first.out
    for more in ((), ("--dry_run",)):
        run = l63fast("experiment", "--methods", "climatology", *few, *more)
        said = " ".join(run.out.split())
        assert "holds 1 cell of other methods or settings too (x-background)" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[method]\nscheme = '3dvar'", "method.scheme: expected none, as [method] is"),
        ("[method]\nhidden = 8", "method: expected an encoder among the methods, got"),
        ("[training]\nepochs = 8", "training: expected an encoder among the methods"),
    ],
)
def test_a_table_that_no_method_has_is_refused(
    l63fast: Command, text: str, expected: str
) -> None:
    Path("mine.toml").write_text(text)
    run = l63fast("experiment", "sakov2012", "--config", "mine.toml", "--dry_run")
    assert run.code == 2
    assert run.err.startswith(f"error: mine.toml: {expected}")
    # An encoder that is not chosen has these settings nevertheless.
    words = ("experiment", "encoders", "--config", "mine.toml", "--dry_run")
    if "scheme" not in text:
        assert l63fast(*words, "--methods", "optimum").code == 0
