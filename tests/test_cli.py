"""The command line: spelling, precedence, exit codes, messages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_runs import Command
from l63fast.cli import entry, options
from l63fast.cli.declare import CONTEXT, OPTIONS

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
        (("experiment", "--models", "gru,gur"), "--models: expected one of mlp, gru"),
        (("experiment", "--operators", "x,x"), "--operators: expected"),
        (("experiment", "--n_iterations", "3,a"), "--n_iterations: expected"),
        (("experiment", "--operators", "zx"), "--operators: expected x, y, z"),
        (("experiment", "--n_cycles", "3"), "--n_cycles: unknown table [cycle] in"),
        (("experiment", "--methods", "oi"), "--methods: expected a cycled experiment"),
        (("experiment", "nosuch"), "sakov2012"),
        (("experiment", "sakov2012", "--methods", "no"), "--methods: sakov2012 has no"),
        (("experiment", "sakov2012", "--epochs", "3"), "--epochs: a cycled experiment"),
        (("experiment", "sakov2012", "--models", "gru"), "--models: unknown key"),
        (("experiment", "sakov2012", "--n_steps", "9"), "--n_steps: a cycled exp"),
        (("experiment", "sakov2012", "--operators", "zx"), "--operators: expected x"),
        (("experiment", "grid", "--sigma", "1", "--sigmas", "1"), "--sigma: is varied"),
        (("experiment", "grid", "--sigmas", "0.3,a"), "--sigmas: expected number"),
        (
            ("experiment", "grid", "--intervals", "0"),
            "--intervals: expected at least 1",
        ),
        (("tune", "--methods", "oi"), "expected one with a number to tune"),
        (("experiment", "sakov2012", "--sigmas", ""), "--sigmas: expected at least"),
        (("experiment", "sakov2012", "--methods", ","), "--methods: expected at least"),
        (("experiment", "grid", "--intervals", "10,²"), "--intervals: expected"),
        (("tune", "quick"), "expected one of sakov2012"),
        (("visualize",), "--result_dir: expected"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_that_names_the_flag(
    l63fast: Command, words: tuple[str, ...], expected: str
) -> None:
    run = l63fast(*words)
    assert run.code == 2
    assert expected in run.err
    assert "Traceback" not in run.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--n_traj", 10, "--train", 5, "--val", 4), "do not add up to --n_traj 10"),
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


def cycled(l63fast: Command, *words: object) -> dict[str, Any]:
    run = l63fast("experiment", *words, "--print_config")
    assert run.code == 0, run.err
    return tomllib.loads(run.out)


def test_one_value_and_an_axis_overrule_each_other(l63fast: Command) -> None:
    settings = cycled(l63fast, "grid", "--sigma", 0.3)
    assert settings["data"]["sigma"] == 0.3
    assert settings["experiment"]["sigmas"] == []
    assert settings["experiment"]["intervals"] == [10, 25]
    settings = cycled(l63fast, "encoders", "--seed", 7)
    assert settings["methods"]["gru"]["training"]["seed"] == 7
    assert "training" not in settings["methods"]["3dvar"]
    settings = cycled(l63fast, "sakov2012", "--model_error", 0)
    assert settings["data"]["sigma"] == pytest.approx(2**0.5)
    settings = cycled(l63fast, "sakov2012", "--operators", "x,xy", "--seed", 4)
    assert settings["experiment"]["operators"] == ["x", "xy"]
    assert "operator" not in settings["data"]
    assert settings["data"]["seed"] == 4


def test_a_printed_experiment_is_a_whole_one(l63fast: Command) -> None:
    printed = l63fast("experiment", "wiljes2017", "--print_config").out
    Path("mine.toml").write_text(printed)
    run = l63fast("experiment", "--config", "mine.toml", "--dry_run")
    assert run.code == 0, run.err
    assert "experiment  mine: climatology, oi" in run.out
    assert (
        l63fast("experiment", "--config", "mine.toml", "--print_config").out == printed
    )
    few = ("--methods", "oi,pf-1000")
    out = l63fast("experiment", "--config", "mine.toml", *few, "--dry_run").out
    assert "experiment  mine: oi, pf-1000: 2 cells" in out


def test_defaults_below_file_below_flags(l63fast: Command) -> None:
    Path("mine.toml").write_text('[data]\nsigma = 2.0\noperator = "x"\n')
    out = l63fast(
        "train", "--config", "mine.toml", "--sigma", 0.5, "--print_config"
    ).out
    settings = tomllib.loads(out)
    assert settings["data"]["sigma"] == 0.5
    assert settings["data"]["operator"] == "x"
    assert settings["data"]["n_train"] == 1000


@pytest.mark.parametrize("name", ["train", "experiment"])
def test_printed_settings_are_a_file_that_gives_the_same(
    l63fast: Command, name: str
) -> None:
    first = l63fast(name, "--hidden", 17, "--sigma", 0.3, "--print_config").out
    Path("again.toml").write_text(first)
    assert l63fast(name, "--config", "again.toml", "--print_config").out == first


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
        # A preset of encoders would be calibrated, which takes seconds.
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

    monkeypatch.setattr("l63fast.experiments.data.make_data", interrupted)
    assert l63fast("simulate").code == 130


def test_doctor_says_what_runs_and_why(l63fast: Command) -> None:
    run = l63fast("doctor")
    assert run.code == 0
    for word in ("backend", "instruction set", "reason", "threads", "torch", "numpy"):
        assert f"\n{word} " in f"\n{run.out}"
    assert "\ndenormals       kept\n" in run.out
    assert "\ngolden forecast the expected bits\n" in run.out


@pytest.mark.promise("G3", "denormals and the bits of a forecast")
def test_doctor_fails_where_numbers_are_wrong(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l63fast.cli.doctor.FORECAST_BITS", "0" * 16)
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


@pytest.mark.parametrize("name", ["experiment", "tune"])
def test_no_default_is_shown_where_a_preset_decides(name: str) -> None:
    shown = {o.name: o.default for o in OPTIONS[name] if o.target is not None}
    assert shown
    assert set(shown.values()) == {None}
