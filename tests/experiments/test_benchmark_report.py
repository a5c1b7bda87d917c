"""The tables of the benchmarks say what the rows hold; rows survive JSON."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from benchmarks import report
from benchmarks.report import draw_growth, page, tables
from benchmarks.rows import Goal, Growth, Limit, Rival, from_json, to_json
from matplotlib.backends.backend_agg import FigureCanvasAgg

from l63fast import plotting
from l63fast.errors import ArgumentValueError

ROWS = [
    Limit("x86-64-v4", "additions", 9e9, "instructions/s"),
    Goal("forecast", 1.8e9, "steps/s", 2e9, "C++", 0.88),
    Goal("simulate", 0.8e9, "steps/s", 2e9, "writes", 0.7),
    Goal("import", 0.03, "s", 0.06, "60 ms", 1.0, at_most=True),
    Goal("slow import", 0.09, "s", 0.06, "60 ms", 1.0, at_most=True),
    Goal("for the record", 5e3, "steps/s", 1e3, "another", 0.0),
    Rival("Final state", "slow", 12_345.0, "steps/s", 1234.5),
    Rival("Final state", "fast", 1.5e9, "steps/s", 1.25),
    Growth("forecast", "members", 10, 2e-9),
    Growth("forecast", "members", 100, 1e-9),
    Growth("forecast", "steps", 10, 1e-9),
]
RUN = {
    "share_of_core": 0.97,
    "machine": {"processor": "one", "cores": "2", "date": "2026-01-02", "numpy": "2.4"},
    "rows": [to_json(row) for row in ROWS],
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_survives_json(row) -> None:
    assert from_json(json.loads(json.dumps(to_json(row)))) == row


def test_every_goal_is_met_missed_or_none() -> None:
    text = tables(ROWS)
    assert "| 2,000 M steps/s | C++ | 90 % | ≥ 88 % | met |" in text
    assert "| writes | 40 % | ≥ 70 % | **missed** |" in text
    assert "| import | 30 ms | 60 ms | 60 ms | 50 % | ≤ 100 % | met |" in text
    assert "| 60 ms | 1.50 times | ≤ 100 % | **missed** |" in text
    assert "| 5 k steps/s | 1 k steps/s | another | 5.00 times |  |  |" in text


def test_peers_are_in_the_order_of_their_speed() -> None:
    text = tables(ROWS)
    assert text.index("| fast | 1,500 M steps/s | 1.25 |") < text.index(
        "| slow | 12.3 k steps/s | 1,234 |"
    )


def test_the_page_names_machine_date_and_versions() -> None:
    text = page(RUN, "images/growth.png")
    assert "one (2 cores), 2026-01-02; numpy 2.4." in text
    assert "(images/growth.png)" in text
    assert "had 97 % of its core" in text
    assert "| additions (instructions) | 9 |" in text
    assert text.startswith("# Speed\n")


def test_the_page_of_another_processor_names_it_and_leaves_the_figure(
    monkeypatch, tmp_path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").write_text("of the first processor")
    file = tmp_path / "run.json"
    file.write_text(json.dumps(RUN))
    monkeypatch.setattr(report, "REPOSITORY", tmp_path)
    given = ["report", f"--json={file}", "--docs", "benchmarks-two"]
    monkeypatch.setattr(sys, "argv", given)
    assert report.main() == 0
    text = (tmp_path / "docs" / "benchmarks-two.md").read_text()
    assert text.startswith("# Speed: one\n")
    assert "growth" not in text
    assert (tmp_path / "docs" / "benchmarks.md").read_text() == "of the first processor"
    assert not (tmp_path / "docs" / "images").exists()


def test_growth_is_drawn_one_panel_per_axis(tmp_path) -> None:
    assert draw_growth(RUN, tmp_path) == tmp_path / "growth.png"
    assert [path.name for path in tmp_path.iterdir()] == ["growth.png"]
    fig = plotting.growth_curves(
        {"members": {"a": {1: 2e-9, 10: 1e-9}}, "steps": {"b": {1: 3e-9}}}
    )
    FigureCanvasAgg(fig).draw()
    left, right = fig.axes
    assert left.get_lines()[0].get_ydata() == pytest.approx([2.0, 1.0])
    assert right.get_lines()[0].get_ydata() == pytest.approx([3.0])
    assert (left.get_xlabel(), right.get_xlabel()) == (
        "number of members", "number of steps",
    )  # fmt: skip
    assert left.get_xscale() == left.get_yscale() == "log"
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_no_curves_are_refused() -> None:
    with pytest.raises(ArgumentValueError, match="panels: expected at least one"):
        plotting.growth_curves({"members": {}})


def test_a_run_that_wrote_nothing_does_not_show_an_earlier_one(
    monkeypatch, tmp_path, capsys
) -> None:
    earlier = tmp_path / "build" / "benchmarks" / "speed.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text(json.dumps(RUN))
    monkeypatch.setattr(report, "REPOSITORY", tmp_path)
    monkeypatch.setattr(
        report.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1)
    )
    monkeypatch.setattr(sys, "argv", ["report"])
    assert report.main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "pytest ended with 1 and no results; it needs pip install" in err
