"""The command line: spelling, precedence, exit codes, messages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_runs import Command, Run
from l63fast import _extras
from l63fast.cli import entry, options
from l63fast.cli.command_line import CONTEXT, OPTIONS
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.settings_file import PRESETS

ROOT = Path(__file__).parents[2]
WROTE = "expected a folder that l63fast wrote"
COMMANDS = [body.__name__ for body in entry.COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(l63fast: Command, name: str, flag: str) -> None:
    run = l63fast(name, flag)
    assert run.code == 0
    assert f"Usage: l63fast {name}" in run.out


def test_help_lists_the_commands_in_the_order_of_use(l63fast: Command) -> None:
    out = l63fast("--help").out
    named = re.findall(rf"^\W*({'|'.join(COMMANDS)})  ", out, re.MULTILINE)
    assert named == COMMANDS
    assert COMMANDS[0] == "simulate"


def test_version(l63fast: Command) -> None:
    run = l63fast("--version")
    assert run.code == 0
    assert run.out.startswith("l63fast ")


def test_both_spellings_mean_the_same(l63fast: Command) -> None:
    snake = l63fast(
        "simulate", "--n_steps", 200, "--steps_per_cycle", 20, "--print_config"
    )
    kebab = l63fast(
        "simulate", "--n-steps", 200, "--steps-per-cycle=20", "--print-config"
    )
    assert snake.code == kebab.code == 0
    assert snake.out == kebab.out
    assert "n_steps = 200" in snake.out


def test_every_flag_is_declared_with_underscores() -> None:
    names = [option.name for option in options.ALL]
    assert len(set(names)) == len(names)
    assert not any("-" in name for name in names)
    assert CONTEXT["token_normalize_func"]("n-traj") == "n_traj"


def test_names_of_choices_are_shown_as_they_are_declared(l63fast: Command) -> None:
    shown = re.sub(r"\s+", "", l63fast("train", "--help").out)
    assert "<cycled-gru|" in shown
    assert "cycled_gru" not in shown
    dashed, underscored = (
        l63fast("experiment", name, "--print_config")
        for name in ("windows-1000", "windows_1000")
    )
    assert dashed.code == underscored.code == 0
    assert dashed.out == underscored.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("simulate", "--n_trai", "5"), "--n_traj"),
        (("train", "--modle", "gru"), "--model"),
        (("simulat",), "simulate"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(
    l63fast: Command, words: tuple[str, ...], hint: str
) -> None:
    run = l63fast(*words)
    assert run.code == 2
    assert hint in run.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "--model", "gur"), "expected one of mlp, gru, lstm"),
        (("train", "--background", "x"), "forecast"),
        (("simulate", "--n_traj", "1"), "--n_traj"),
        (("simulate", "--sigma", "-1"), "--sigma"),
        (("simulate", "--n_steps", "1.5"), "--n_steps"),
        (("simulate", "--seed", "-1"), "--seed"),
        (("simulate", "--dt", "0.5"), "--dt: expected at most 0.1"),
        (("simulate", "--obs_mode", "yx"), "--obs_mode: expected x, y, z"),
        (("train", "--window", "101"), "--window: expected at most the 100"),
        (("train", "--learning_rate", "0"), "--learning_rate: expected"),
        (("train", "--window", "3", "--n_steps", "20"), "--window: expected at most"),
        (("train", "--n_steps", "20"), "--n_steps: window: expected at most the 2"),
        (("train", "--seed", str(2**63)), "--seed: expected at most"),
        (("train", "--recipe", "cycled-gru", "--loss", "var3d_window"), "--loss: exp"),
        (("visualize",), "--result_dir: expected"),
        (("report",), "RESULTS: expected"),
        (("export",), "RESULT: expected"),
        (("export", "x", "--formats", "pickle"), "--formats: expected one of"),
        (("benchmark", "--result_dir", "x"), "--result_dir: expected none without `l"),
        (("benchmark", "encoders", "--analyse", "x"), "--analyse: expected the C++"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_that_names_the_flag(
    l63fast: Command, words: tuple[str, ...], expected: str
) -> None:
    dry = () if words[0] in ("visualize", "report") else ("--dry_run",)
    refused(l63fast(words[0], *dry, *words[1:]), expected)


def refused(run: Run, expected: str) -> None:
    assert run.code == 2, run.out
    assert run.err.startswith("error: ")
    assert expected in run.err
    assert run.err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("quick --sigma -1", "--sigma: expected a number of at least 0, got '-1'"),
        ("quick --hidden 0", "--hidden: expected an integer of at least 1, got '0'"),
        ("quick --epochs x", "--epochs: expected an integer of at least 1, got 'x'"),
        ("quick --window 0", "--window: expected an integer of at least 1, got '0'"),
        ("quick --window 101", "--window: expected at most the 100 observations of"),
        ("quick --windows 5,101", "--windows: expected at most the 100 observations"),
        ("windows --intervals 200", "--intervals: window: expected at most the 1 obs"),
        ("quick --methods foo", "--methods: expected methods of quick (background, "),
        ("quick --methods ,", "--methods: expected at least one, got none"),
        (
            "quick --operators x,x",
            "--operators: expected each value once, got ['x', 'x']",
        ),
        ("quick --operators q", "--operators: expected x, y, z in that order, each"),
        (
            "quick --n_iterations 3,a",
            "--n_iterations: expected a valid integer, got 'a'",
        ),
        ("quick --backgrounds x", "--backgrounds: expected one of mean, independent"),
        ("quick --regimes mean", "--regimes: expected a background and a loss, such"),
        ("quick --seed 9999999999999999999", "--seed: expected at most 9223372036854"),
        ("quick --name ../x", "--name: expected one name without '/'"),
        ("quick --only y*", "--only: expected a pattern that matches a cell, such"),
        ("nosuch", "PRESET: expected one of quick, windows, windows-1000"),
        ("quikc --sigmas 0.5", "PRESET: expected one of quick"),
        ("--sigmas 0.5 quikc", "PRESET: expected one of quick"),
        # What belongs to the other protocol.
        ("quick --n_cycles 3", "--n_cycles: expected settings in cycles, got quick, w"),
        ("sakov2012 --window 5", "--window: expected settings in windows, got sakov20"),
        ("sakov2012 --windows 5,9", "--windows: expected none with cycles, got [5, 9]"),
        ("sakov2012 --n_steps 9", "--n_steps: expected none with [cycles], whose n_cy"),
        ("encoders --loss var3d_window", "--loss: expected a loss of a single analys"),
        # What has no effect on any method.
        ("grid --epochs 3", "--epochs: expected an encoder among the methods, got 3dv"),
        ("grid --losses mse", "--losses: expected an encoder among the methods, got"),
        ("quick --methods 3dvar --hidden 3", "--hidden: expected an encoder among"),
        # What says the same twice.
        ("grid --sigma 1 --sigmas 1", "--sigma: expected none with --sigmas, which v"),
        ("grid --seed 1 --seeds 1", "--seed: expected none with --seeds, which varie"),
        (
            "quick --loss mse --regimes mean:mse",
            "--loss: expected none with --regimes,",
        ),
        (
            "encoders --seeds 1 --training_seeds 1",
            "--training_seeds: expected none with --seeds, which varies it too",
        ),
        ("seed-published --losses mse", "--losses: expected --regimes, as seed-publi"),
        # Lists.
        ("grid --sigmas 0.3,a", "--sigmas: expected a valid number, got 'a'"),
        ("grid --sigmas", "--sigmas"),
        ("grid --intervals 0", "--intervals: expected at least 1, got 0"),
        ("grid --intervals 10,²", "--intervals: expected an integer, got '²'"),
        ("grid --seeds -1", "--seeds: expected at least 0, got -1"),
        ("grid --seeds 0,1.5", "--seeds: expected a valid integer, got '1.5'"),
        ("grid --sigmas ,", "--sigmas: expected at least one, got none"),
        ("seed --sigmas 0.5 1", "--sigmas: expected values separated by commas, 0.5,1"),
        ("--sigmas 0.5 1", "--sigmas: expected values separated by commas, 0.5,1, got"),
        ("--methods oi pf quick", "--methods: expected values separated by commas, oi"),
        # Cycles.
        ("sakov2012 --n_cycles 0", "--n_cycles: expected at least 1, got 0"),
        ("sakov2012 --burn_in -1", "--burn_in: expected at least 0, got -1"),
        ("sakov2012 --tune_only --methods oi", "--methods: expected at least one with"),
        ("sakov2012 --model_error -1", "--model_error: expected at least 0, got -1"),
    ],
)
def test_an_experiment_that_makes_no_sense_is_refused_by_flag(
    l63fast: Command, words: str, expected: str
) -> None:
    refused(l63fast("experiment", "--dry_run", *words.split()), expected)


FILES = {
    "both": "[windows]\n[cycles]\n[methods.oi]\nscheme = 'oi'",
    "cycles": "[cycles]\nn_cycles = 3",
    "scalar": "vary = 3",
    "oi": "[windows]\n[methods.oi]\nscheme = 'oi'",
    "cycle": "[cycle]\n[methods.oi]\nscheme = 'oi'",
    "enkf": "[method]\nscheme = 'enkf'",
    "tuned": "[cell]\ntune_only = true",
    "carried": "[windows]\n[method]\nmemory = 'carried'",
    "first": "[cycles]\n[method]\nanalysis_at = 'first'\nmemory = 'window'",
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("experiment both", "both.toml: expected one of the tables [windows] and"),
        ("train both", "both.toml: expected one of the tables [windows] and [cycles]"),
        ("experiment cycles", "cycles.toml: cycles: expected none with quick, whic"),
        ("train cycles --window 5", "--window: expected settings in windows, got c"),
        ("experiment oi --burn_in 1", "--burn_in: expected settings in cycles, got o"),
        ("experiment scalar --sigmas 1", "scalar.toml: vary: expected a table [vary]"),
        (
            "experiment cycle",
            "cycle.toml: cycle: unknown table [cycle]; did you mean",
        ),
        ("train enkf", "enkf.toml: method.scheme: expected 'encoder', got 'enkf'"),
        ("train tuned", "tuned.toml: cell.tune_only: expected false, as an encoder"),
        ("train carried", "carried.toml: memory: expected 'window' in windows, befor"),
        ("train first", "first.toml: analysis_at: expected 'last' in cycles, where"),
        ("train oi", "oi.toml: methods.oi: unknown table [methods]; did you mean [met"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    l63fast: Command, words: str, expected: str
) -> None:
    command, name, *more = words.split()
    Path(f"{name}.toml").write_text(FILES[name])
    run = l63fast(command, "--dry_run", "--config", f"{name}.toml", *more)
    Path(f"{name}.toml").unlink()
    refused(run, expected)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--n_traj", 10, "--train", 5, "--val", 4), "--n_traj: expected the sum of"),
        (("--n_traj", 10, "--train", 10), "leaves nothing for --val"),
        (("--n_traj", 10, "--val", 20), "leaves nothing for --train"),
    ],
)
def test_sizes_that_do_not_add_up(
    l63fast: Command, words: tuple[object, ...], sentence: str
) -> None:
    run = l63fast("simulate", *words)
    assert run.code == 2
    assert sentence in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ((), (1000, 500)),
        (("--n_traj", 30), (20, 10)),
        (("--n_traj", 30, "--train", 25), (25, 5)),
        (("--n_traj", 30, "--val", 1), (29, 1)),
        (("--train", 7, "--val", 2), (7, 2)),
        (("--n_traj", 1500, "--train", 1000, "--val", 500), (1000, 500)),
    ],
)
def test_n_traj_is_training_and_validation(
    l63fast: Command, words: tuple[object, ...], sizes: tuple[int, int]
) -> None:
    data = tomllib.loads(l63fast("simulate", *words, "--print_config").out)["data"]
    assert (data["n_train"], data["n_val"]) == sizes
    assert data["n_test"] == 500


def printed(l63fast: Command, *words: object) -> dict[str, Any]:
    run = l63fast("experiment", *words, "--print_config")
    assert run.code == 0, run.err
    return tomllib.loads(run.out)


def test_one_value_and_an_axis_overrule_each_other(l63fast: Command) -> None:
    settings = printed(l63fast, "grid", "--sigma", 0.3)
    assert settings["data"]["sigma"] == 0.3
    assert "sigma" not in settings["vary"]
    assert settings["vary"]["interval"] == [10, 25]
    settings = printed(l63fast, "sakov2012", "--model_error", 0)
    assert settings["data"]["sigma"] == pytest.approx(2**0.5)
    settings = printed(l63fast, "sakov2012", "--operators", "x,xy", "--seed", 4)
    assert settings["vary"]["operator"] == ["x", "xy"]
    assert "operator" not in settings["data"]
    assert settings["data"]["seed"] == 4


def test_a_seed_is_that_of_data_and_trainings(l63fast: Command) -> None:
    settings = printed(l63fast, "encoders", "--seed", 7)
    assert settings["data"]["seed"] == 7
    assert settings["methods"]["gru"]["training"]["seed"] == 7
    assert "training" not in settings["methods"]["3dvar"]
    Path("mine.toml").write_text("[vary]\nseed = [1, 2]\n")
    settings = printed(l63fast, "--config", "mine.toml", "--seed", 7)
    assert "seed" not in settings["vary"]
    assert settings["data"]["seed"] == 7


def test_an_axis_takes_the_place_of_those_that_it_varies_too(l63fast: Command) -> None:
    vary = printed(l63fast, "encoders", "--seeds", "0,1")["vary"]
    assert vary == {"seed": [0, 1]}
    whole = l63fast("experiment", "encoders", "--print_config").out
    Path("mine.toml").write_text(whole)
    words = ("--config", "mine.toml", "--seeds", "0,1")
    assert printed(l63fast, *words)["vary"] == vary
    vary = printed(l63fast, "windows-losses", "--regimes", "mean:mse,none:var3d")[
        "vary"
    ]
    assert set(vary) == {"operator", "regime"}


def test_flags_for_encoders_go_into_every_encoder(l63fast: Command) -> None:
    methods = printed(l63fast, "quick", "--hidden", 17, "--epochs", 3)["methods"]
    encoders = [m for m in methods.values() if m["scheme"] == "encoder"]
    assert len(encoders) == 3
    assert all((m["hidden"], m["training"]["epochs"]) == (17, 3) for m in encoders)


@pytest.mark.parametrize("name", PRESETS)
def test_a_printed_experiment_is_a_whole_one(l63fast: Command, name: str) -> None:
    printed = l63fast("experiment", name, "--print_config").out
    Path("mine.toml").write_text(printed)
    again = l63fast("experiment", "--config", "mine.toml", "--print_config")
    assert again.out == printed, again.err
    assert Experiment.from_toml("mine.toml").cells() == Experiment.preset(name).cells()


def test_methods_of_a_file_are_chosen_in_the_order_typed(l63fast: Command) -> None:
    Path("mine.toml").write_text(l63fast("experiment", "seed", "--print_config").out)
    words = ("experiment", "--config", "mine.toml", "--methods", "optimum,3dvar")
    assert "experiment  mine: optimum, 3dvar: " in l63fast(*words, "--dry_run").out


def test_defaults_below_file_below_flags(l63fast: Command) -> None:
    Path("mine.toml").write_text('[data]\nsigma = 2.0\noperator = "x"\n')
    out = l63fast(
        "train", "--config", "mine.toml", "--sigma", 0.5, "--print_config"
    ).out
    settings = tomllib.loads(out)
    assert settings["data"]["sigma"] == 0.5
    assert settings["data"]["operator"] == "x"
    assert settings["data"]["n_train"] == 1000


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("train", "--recipe", "cycled-mlp"),
        ("train", "--loss", "var3d_window", "--obs_mode", "x"),
        ("experiment", "--intervals", "5,10"),
        ("experiment", "encoders", "--losses", "mse,distance"),
        ("experiment", "--tune_only"),
    ],
)
def test_printed_settings_are_a_file_that_gives_the_same(
    l63fast: Command, words: tuple[str, ...]
) -> None:
    more = () if "--tune_only" in words else ("--hidden", 17)
    first = l63fast(*words, *more, "--sigma", 0.3, "--print_config").out
    assert "sigma = 0.3" in first
    Path("again.toml").write_text(first)
    switches = [word for word in words if word == "--tune_only"]
    again = l63fast(words[0], *switches, "--config", "again.toml", "--print_config")
    assert again.out == first


def test_data_of_cycles_are_not_those_of_windows(l63fast: Command) -> None:
    Path("cycles.toml").write_text("[cycles]\n")
    run = l63fast("train", "--config", "cycles.toml", "--dry_run")
    assert "data in     data/cycled_xy_s1_i10 (not found: simulated now)" in run.out


def test_a_mistake_in_the_file_names_the_file(l63fast: Command) -> None:
    Path("bad.toml").write_text("[data]\nn_trian = 3\n")
    run = l63fast("train", "--config", "bad.toml", "--sigma", 2)
    assert run.code == 2
    assert run.err == (
        "error: bad.toml: data.n_trian: unknown key; did you mean 'n_train'?\n"
    )


def test_a_mistaken_flag_is_not_blamed_on_the_file(l63fast: Command) -> None:
    Path("good.toml").write_text("[data]\nn_steps = 50\n")
    run = l63fast("train", "--config", "good.toml", "--window", 6)
    assert run.err.startswith("error: --window: expected at most the 5 observations")
    flag_mends = l63fast("train", "--config", "good.toml", "--window", 5, "--dry_run")
    assert flag_mends.code == 0


def test_missing_things_are_told_without_a_traceback(l63fast: Command) -> None:
    run = l63fast("visualize", "--result_dir", "nowhere")
    assert (run.code, run.err) == (1, f"error: nowhere: does not exist; {WROTE}\n")
    run = l63fast("evaluate", "--result_dir", "nowhere")
    assert run.code == 1


@pytest.mark.parametrize("folder", ["/", ".", "..", "~", "a/.."])
@pytest.mark.promise("I14", "nothing is made")
def test_dangerous_folders_are_refused_before_anything_is_made(
    l63fast: Command, folder: str
) -> None:
    run = l63fast("train", "--save_dir", folder)
    assert run.code == 1
    assert "expected a directory of its own" in run.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("simulate",), "1000 training + 500 validation + 500 test"),
        (("train",), "1000 training + 500 validation + 500 test"),
        (("experiment", "quick"), "1000 training + 500 validation + 500 test"),
        (("experiment", "grid"), "100 training + 200 validation + 100 test"),
    ],
)
def test_a_dry_run_makes_nothing(
    l63fast: Command, words: tuple[str, ...], data: str
) -> None:
    run = l63fast(*words, "--dry_run")
    assert run.code == 0
    assert data in run.out
    assert list(Path().iterdir()) == []
    assert l63fast(*words, "--dry_run", "--quiet").out == ""


def test_an_interrupt_ends_with_130(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l63fast.twin.TwinExperiment.generate", interrupted)
    assert l63fast("simulate").code == 130


def test_doctor_says_what_runs_and_why(l63fast: Command) -> None:
    run = l63fast("doctor")
    assert run.code == 0
    for word in ("backend", "instruction set", "reason", "threads", "torch", "numpy"):
        assert f"\n{word} " in f"\n{run.out}"
    assert "\ndenormals       kept\n" in run.out
    assert "\ngolden forecast the expected bits\n" in run.out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    brought = [extras[name] for name in _extras.EXTRAS]
    for name in re.findall(r"'([\w-]+)\b", str([project["dependencies"], *brought])):
        assert f"\n{name} " in run.out, name


def test_the_package_runs_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "l63fast", "--version"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("l63fast ")


@pytest.mark.promise("G3", "denormals and the bits of a forecast")
def test_doctor_fails_where_numbers_are_wrong(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l63fast.cli.machine.FORECAST_BITS", "0" * 16)
    run = l63fast("doctor")
    assert run.code == 1
    assert "\ngolden forecast other bits (" in run.out
    assert run.err.startswith("error: golden forecast: expected the bits 0000")
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        run = l63fast("doctor")
    finally:
        torch.set_flush_denormal(False)
    assert run.code == 1
    assert "\ndenormals       flushed to zero\n" in run.out
    assert run.err.startswith("error: denormals: expected them to be kept")


def test_help_imports_no_heavy_library() -> None:
    heavy = ("torch", "scipy", "xarray", "matplotlib", "numba", "netCDF4")
    code = (
        "import sys; sys.argv = ['l63fast', '--help']\n"
        "from l63fast.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


def test_no_default_is_shown_where_a_preset_decides() -> None:
    shown = {o.name: o.default for o in OPTIONS["experiment"] if o.target is not None}
    assert shown
    assert set(shown.values()) == {None}
