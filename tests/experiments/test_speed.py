"""The short benchmark: cases, ceilings, the command, its files and its figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cli_runs import Command
from l63fast import plotting
from l63fast._kernels import backend_info, limits
from l63fast._kernels.limits import Work
from l63fast.errors import ArgumentValueError
from l63fast.experiments import speed
from l63fast.experiments.speed import (
    Case,
    SpeedRow,
    analysis_problem,
    kernel_benchmark,
    measure_speed,
    measured,
    speed_cases,
)
from l63fast.storage import read_manifest

TINY = ("--scale", "0.002")
ROW = SpeedRow("forecast", "steps", 1e9, 2e9, "arithmetic")
WHERE = {"processor": "one", "instruction set": "x86-64-v4", "date": "2026-01-02"}


def test_the_cases_are_the_costly_functions_and_run() -> None:
    names = []
    for case in speed_cases(0.002):
        names.append(case.name.partition(",")[0].partition(" ")[0])
        assert np.isfinite(case.run()).all()
        assert case.amount >= 1
        assert all(cost > 0.0 for cost in case.needs.values())
    assert names == ["forecast"] * 2 + ["simulate"] * 3 + ["3D-Var"] * 3


def test_a_sample_of_the_problem_is_found_by_plain_gauss_newton() -> None:
    problem = analysis_problem(50, "x2")
    state = problem.solve()
    assert state.shape == (50, 3)
    u_b, y = problem.background[:, 0], problem.observation[:, 0]
    u, b = u_b, problem.B[0, 0]
    for _ in range(problem.n_iter):
        d = 2.0 * u
        u = u_b + b * d * (y - u**2 + d * (u - u_b)) / (d * d * b + 1.0)
    np.testing.assert_allclose(state[:, 0], u, rtol=0, atol=1e-9)


def test_the_tightest_ceiling_counts(monkeypatch) -> None:
    times = {"case": 2.0, "fma": 1.0, "divide": 1.0}
    monkeypatch.setattr(speed, "in_turns", lambda calls, seconds: times)
    work = Work(lambda: None, 1000.0)
    monkeypatch.setattr(limits, "instruction_work", lambda kind, single: work)
    case = Case("c", "steps", lambda: None, 60.0, {"fma": 10.0, "divide": 20.0})
    row = measured(case, seconds=0.0)
    if backend_info().name == "cpp":
        assert row == SpeedRow("c", "steps", 30.0, 50.0, "division")
        assert row.share == pytest.approx(0.6)


def test_without_the_extension_there_are_rates_and_no_ceilings(monkeypatch) -> None:
    info = backend_info("numba")
    monkeypatch.setattr(speed, "backend_info", lambda: info)
    case = Case("c", "steps", lambda: None, 60.0, {"fma": 10.0})
    row = measured(case, seconds=0.0)
    assert (row.ceiling, row.share, row.bound) == (None, None, "")
    assert "| c | " in kernel_benchmark([row], WHERE).markdown


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, float("nan")])
def test_a_scale_outside_its_range_is_refused(scale) -> None:
    with pytest.raises(ArgumentValueError, match="scale: expected"):
        measure_speed(scale)


@pytest.mark.slow
def test_rows_are_told_as_they_are_done() -> None:
    told: list[SpeedRow] = []
    rows = measure_speed(0.002, told.append)
    assert told == rows
    assert all(row.rate > 0.0 for row in rows)


def test_the_command_writes_a_table_numbers_and_a_figure(l63fast: Command) -> None:
    run = l63fast("benchmark", *TINY)
    assert run.code == 0, run.err
    for word in ("forecast, float64", "simulate, new array", "3D-Var of x²", "reached"):
        assert word in run.out
    folder = Path("results/benchmark")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json", "speed.json", "speed.md", "speed.png", "speed.svg",
    }  # fmt: skip
    assert read_manifest(folder).kind == "benchmark"
    content = json.loads((folder / "speed.json").read_text())
    assert content["machine"]["l63fast"]
    assert len(content["rows"]) == 8
    assert (folder / "speed.md").read_text().count("\n|") == 9


def test_quiet_is_quiet(l63fast: Command, monkeypatch) -> None:
    monkeypatch.setattr(speed, "measure_speed", lambda *arguments: [ROW])
    run = l63fast("benchmark", *TINY, "--quiet")
    assert (run.code, run.out) == (0, "")
    assert read_manifest(Path("results/benchmark")).kind == "benchmark"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--scale", "0"), 2, "error: --scale: expected a number above 0, got 0.0\n"),
        (("--scale", "2"), 2, "--scale"),
        (("--save_dir", "/"), 1, "expected a directory of its own"),
        (("--sav_dir", "a"), 2, "--save_dir"),
    ],
)
def test_nonsense_is_refused_before_anything_is_measured(
    l63fast: Command, monkeypatch, words, code, expected
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(speed, "measure_speed", never)
    run = l63fast("benchmark", *words)
    assert run.code == code
    assert expected in run.err
    assert list(Path().iterdir()) == []


def test_a_dry_run_measures_and_writes_nothing(l63fast: Command) -> None:
    run = l63fast("benchmark", "--dry_run")
    assert (run.code, run.out) == (0, "would measure and write results/benchmark\n")
    assert list(Path().iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(
    l63fast: Command, monkeypatch
) -> None:
    monkeypatch.setattr(speed, "measure_speed", lambda *arguments: [ROW])
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    run = l63fast("benchmark", *TINY, "--save_dir", "mine", "--quiet")
    assert run.code == 1
    assert "thesis.txt" in run.err
    assert Path("mine/thesis.txt").read_text() == "years of work"


def drawn(rows):
    fig = plotting.speed_bars(rows, title="one core")
    FigureCanvasAgg(fig).draw()
    return fig


def test_bars_are_shares_and_the_ceiling_is_marked() -> None:
    fig = drawn(
        {
            "forecast": (1.5e9, 2e9, "arithmetic"),
            "simulate": (0.9e9, 1e9, "writes"),
            "no ceiling": (5e6, None, ""),
        }
    )
    (ax,) = fig.axes
    assert [bar.get_width() for bar in ax.patches] == [75.0, 90.0]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "forecast", "simulate", "no ceiling",
    ]  # fmt: skip
    assert [t.get_text() for t in ax.texts] == [
        "1,500 of 2,000 M/s", "900 of 1,000 M/s", "5 M/s",
    ]  # fmt: skip
    assert ax.lines[0].get_xdata()[0] == 100.0
    box = fig.bbox
    for text in [*ax.texts, *ax.get_yticklabels()]:
        extent = text.get_window_extent()
        assert extent.x0 >= box.x0
        assert extent.x1 <= box.x1


def test_a_bar_beyond_the_ceiling_is_inside_the_axes() -> None:
    (ax,) = drawn({"forecast": (3e9, 2e9, "arithmetic")}).axes
    assert ax.get_xlim()[1] > 150.0


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ArgumentValueError, match="rows: expected at least one"):
        plotting.speed_bars({}, title="one core")


def test_a_benchmark_replaces_only_a_benchmark(tmp_path) -> None:
    for _ in range(2):
        kernel_benchmark([ROW], WHERE).write(tmp_path / "speed")
    assert read_manifest(tmp_path / "speed").kind == "benchmark"
