"""The report as files: one page that needs nothing else, tables, figures, bad input."""

from __future__ import annotations

import csv
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runs import Command
from experiment_samples import tiny_cycled
from l63fast.errors import ArgumentValueError, DataFileError
from l63fast.experiments import report as module
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.report import page as page_module
from l63fast.experiments.report import report, write_report
from l63fast.experiments.report.page import SECTIONS
from l63fast.experiments.results import Source, open_results
from l63fast.storage import verify_directory


class Page(HTMLParser):
    """Every tag with its attributes, and all text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(reported: Path) -> Page:
    return Page((reported / "report" / "report.html").read_text("utf-8"))


def test_the_page_refers_to_nothing_outside_itself(reported: Path, page: Page) -> None:
    addresses = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert len(addresses) > 20
    assert all(address.startswith(("data:", "#")) for address in addresses)
    text = (reported / "report" / "report.html").read_text("utf-8")
    outside = set(re.findall(r"https?://[^\s'\"<>%)]+", text))
    assert {a for a in outside if "www.w3.org" not in a} == set()
    assert "@import" not in text
    [policy] = [m for m in page.all("meta") if "http-equiv" in m]
    assert "default-src 'none'" in policy["content"]


def test_every_section_is_there_and_says_something(page: Page) -> None:
    assert [a["id"] for a in page.all("section")] == list(SECTIONS)
    assert {a["href"] for a in page.all("a")} == {f"#{key}" for key in SECTIONS}
    names = [a["id"] for a in page.all("figure")]
    assert len(names) == len(set(names)) == len(page.all("img"))
    expected = {"scores_by_sigma", "cost", "animation", "gain_xy", "ranks_xy"}
    expected |= {f"{n}_{o}" for o in ("xy", "x2") for n in ("panels", "error_map")}
    assert expected <= set(names)
    assert "gain_x2" not in names
    assert all(img["alt"] for img in page.all("img"))


def test_it_opens_with_the_answer(page: Page) -> None:
    start = page.text.index("of 4 cases")
    assert start < page.text.index("Leaderboard", page.text.index("Provenance"))
    assert "95\u00a0%, bootstrap over trajectories" in page.text


def test_panels_say_what_their_numbers_and_curves_are(page: Page) -> None:
    # The excerpts of a tiny experiment are as long as its cycles, and all shown.
    text = " ".join(page.text.split())
    assert "time means of the error (rms) of background and analysis over 1.9 " in text
    assert "units around it. The background is the forecast from each analysis" in text
    assert "time means of the mirror-aware error (rms) of background" in text


def test_no_table_has_an_empty_column(reported: Path) -> None:
    text = (reported / "report" / "report.html").read_text("utf-8")
    tables = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert len(tables) == 3
    for table in tables:
        lines = [
            [
                re.sub("<.*?>", "", cell).strip()
                for cell in re.findall("<td.*?</td>", line)
            ]
            for line in table.split("</tr>")[:-1]
        ]
        assert all(map(any, zip(*lines, strict=True)))


def test_the_page_is_small_and_its_lines_are_where_they_were(reported: Path) -> None:
    # Two operators, twelve cells; a page of sixteen methods has six times as much.
    assert (reported / "report" / "report.html").stat().st_size < 2_000_000
    path = 'd="M 12.34 0.5 \nL 12.4 1000.26 \nM 3 -4.04 \nL 0.04 2"'
    steps = re.sub(r'd="(M [^A-KN-Za-z"]+)"', page_module._relative_path, path)
    numbers = re.findall(r"-?\d*\.?\d+", steps.removeprefix("d="))
    moves = np.array(numbers, dtype=float).reshape(-1, 2)
    places = np.cumsum(moves, axis=0)
    expected = [[12.34, 0.5], [12.4, 1000.26], [3.0, -4.04], [0.04, 2.0]]
    np.testing.assert_allclose(places, expected, atol=0.051)
    # Marks of one look are those of one path; another look is another path.
    mark = '<use xlink:href="#m1" x="{0}.5" y="7" style="fill: {1}"/>'.format
    marks = "\n".join([mark(1, "red"), mark(2, "red"), mark(3, "blue")])
    one = re.sub(page_module._MARKS, page_module._marks_as_path, marks)
    assert 'd="M 1.5 7 L 2.5 7"' in one
    assert one.count("<use") == one.count("<path") + 1 == 2
    assert one.endswith(mark(3, "blue"))


def test_the_page_says_how_all_of_it_is_made_again(
    reported: Path, page: Page, tmp_path: Path
) -> None:
    assert "l63fast experiment --config tiny.toml" in page.text
    again = Experiment.from_toml(reported / "tiny.toml")
    cells = {cell.name: cell for cell in again.cells()}
    results = Source.open(reported).cells
    assert cells == {name: result.settings for name, result in results.items()}
    # Beside cells of another run the file would say half of it.
    shutil.copytree(reported / "xy_s1-enkf", tmp_path / "stranger")
    (tmp_path / "tiny.toml").write_text("an older one")
    again.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stranger"]


def test_all_of_it_is_on_disk_too(reported: Path, page: Page) -> None:
    files = set(verify_directory(reported / "report").files)
    tables = {"scores.csv", "results.csv", "scores.tex", "table.md", "provenance.csv"}
    assert {f"tables/{name}" for name in tables} <= files
    for figure in page.all("figure"):
        kinds = ("gif",) if figure["id"] == "animation" else ("png", "svg")
        assert {f"figures/{figure['id']}.{kind}" for kind in kinds} <= files
    text = (reported / "report" / "tables" / "scores.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 12
    assert {row["operator"] for row in rows} == {"xy", "x2"}
    assert {row["role"] for row in rows} == {"method", "optimum"}


def test_every_cell_and_its_data_are_named(reported: Path, page: Page) -> None:
    cells = {p.parent.name for p in reported.glob("*/config.toml")}
    assert len(cells) == 12
    for cell in cells:
        assert cell in page.text
    for package in ("l63fast", "numpy", "torch", "python", "machine"):
        assert package in page.text


@pytest.fixture
def bare(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an experiment of one case, of which no figure is drawn."""
    monkeypatch.setattr(page_module, "_CHAPTERS", {})
    copy, others = tmp_path / "tiny", ("report", "x2*", "*s1*")
    shutil.copytree(reported, copy, ignore=shutil.ignore_patterns(*others))
    return copy


def test_what_is_missing_is_said_and_not_hidden(bare: Path) -> None:
    broken = bare / "xy_s0.5-enkf" / "metrics.json"
    broken.write_bytes(broken.read_bytes()[:-9])
    path, source = write_report(bare, {"xy_s0.5-best": "it was stopped"})
    text = Page(path.read_text("utf-8")).text
    assert "xy_s0.5-best is left out: it was stopped" in text
    assert "xy_s0.5-enkf is left out: " in text
    assert set(source.left_out) == {"xy_s0.5-best", "xy_s0.5-enkf"}


def test_every_section_says_something_of_a_method_that_is_lost(tmp_path: Path) -> None:
    lost = {"scheme": "enkf", "n_members": 4, "inflation": 1e200}
    tiny_cycled("oi", "pf", methods={"enkf": lost}).run(tmp_path)
    text = report(tmp_path / "tiny").read_text("utf-8")
    assert "No method has a finite score" in Page(text).text
    for section in re.findall(r"<section id=.*?</section>", text, re.DOTALL):
        assert re.search('<img|<table|class="(missing|answer)"', section), section


def test_the_report_is_the_same_but_for_the_hour(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other was written by another process, with all of its figures.
    some = {n: page_module._CHAPTERS[n] for n in ("scores", "training")}
    monkeypatch.setattr(page_module, "_CHAPTERS", some)
    path = report(open_results(reported), tmp_path / "again")
    assert path == tmp_path / "again" / "report.html"
    before = verify_directory(reported / "report").files
    after = verify_directory(tmp_path / "again").files
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"report.html"}
    assert len(after) > 12


def test_a_report_stands_beside_the_cells_of_its_results(bare: Path) -> None:
    assert report(open_results(bare)) == bare / "report" / "report.html"
    planted = open_results(bare)
    planted.attrs.clear()
    with pytest.raises(
        ArgumentValueError, match="without the folder of the experiment"
    ):
        report(planted)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "expected the folder of an experiment, got nothing"),
        (lambda p: p.write_text("x"), "expected the folder of an experiment, got a"),
        (lambda p: p.mkdir(), "got one without cells"),
        (lambda p: (p / "mine").mkdir(parents=True), "got one without cells"),
        (lambda p: (p / "a" / "report").mkdir(parents=True), "choose one of a in it"),
    ],
)
def test_a_folder_that_is_no_experiment_is_refused(
    make: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "place"
    make(path)  # type: ignore[operator]
    with pytest.raises(DataFileError, match=words) as caught:
        Source.open(path)
    assert "\n" not in str(caught.value)


def test_a_cell_is_told_from_its_experiment(reported: Path) -> None:
    with pytest.raises(
        DataFileError, match=f"of a cell; the experiment is .*{reported.name}"
    ):
        Source.open(reported / "xy_s1-enkf")


def test_an_experiment_of_damaged_cells_is_refused(
    reported: Path, tmp_path: Path
) -> None:
    shutil.copytree(reported / "xy_s1-enkf", tmp_path / "all" / "one")
    (tmp_path / "all" / "one" / "metrics.json").write_text("{}")
    with pytest.raises(DataFileError, match=r"no cell can be read: .*metrics\.json"):
        Source.open(tmp_path / "all")


def test_the_command_says_where_it_is_or_why_not(l63fast: Command, bare: Path) -> None:
    run = l63fast("report", "nowhere")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: nowhere: expected the folder of an experiment")
    assert l63fast("report").code == 2
    run = l63fast("report", bare)
    assert (run.code, run.err) == (0, "")
    assert "report in " in run.out
    (bare / "xy_s0.5-best" / "metrics.json").write_text("{}")
    run = l63fast("report", bare, "--quiet")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("left out: xy_s0.5-best: ")
    assert len(run.err.splitlines()) == 1


FEW = ("--train", 6, "--val", 4, "--test", 5, "--n_cycles", 12, "--burn_in", 1)


@pytest.mark.parametrize("wanted", [True, False])
def test_an_experiment_ends_with_its_report(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    asked: list[tuple[Path, Any]] = []

    def write(folder: Path, failures: Any) -> Any:
        asked.append((folder, failures))
        raise DataFileError("the disk is gone")

    monkeypatch.setattr(module, "write_report", write)
    words = ("sakov2012", "--methods", "oi", *FEW, "--workers", 1)
    run = l63fast("experiment", *words, *(() if wanted else ("--no_report",)))
    assert "optimal interp." in run.out
    assert asked == ([(Path("results/sakov2012"), {})] if wanted else [])
    assert run.code == int(wanted)
    assert run.err == ("no report: the disk is gone\n" if wanted else "")
