"""The answer of a report: planted scores, ties, divergence, and what is not known."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray

from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.reporting.answer import findings
from l63fast.experiments.reporting.entries import Case, Entry
from l63fast.experiments.reporting.error_pictures import attractor
from l63fast.experiments.reporting.latex import escaped, latex_table
from l63fast.experiments.reporting.pictures import Chapter
from l63fast.experiments.reporting.records import records
from l63fast.experiments.reporting.score_pictures import samples
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.reporting.tables import standings
from l63fast.experiments.reporting.wording import (
    headline,
    overview,
    score_of,
    sentences,
)

CASE = Case("xy", 1.0, 0.1)
OTHER = Case("x", 0.5, 0.25)
N = 100


def result(**metrics: Any) -> Any:
    """Return what an entry reads of its result."""
    scores = ScoreSettings(n_bootstrap=200, seed=0)
    return SimpleNamespace(metrics=metrics, settings=SimpleNamespace(scores=scores))


def entry(
    method: str,
    score: float,
    *,
    noise: float = 0.01,
    seed: int = 1,
    case: Case = CASE,
    n: int = N,
    **more: Any,
) -> Entry:
    """Return a method whose error is `score` on every trajectory, but for noise."""
    hard = np.random.default_rng(0).normal(1.0, 0.2, n)
    own = np.random.default_rng(seed).normal(1.0, noise, n)
    rms = score * hard * own / (hard * own).mean()
    blocks = {"the same": np.stack([rms, rms**2], axis=1)[None]}
    low, high = 0.96 * score, 1.04 * score
    given: dict[str, Any] = {
        "role": "method",
        "scheme": "enkf",
        "measure": "rms",
        "numbers": {"diverged": 0.0},
        "results": (result(),),
        **more,
    }
    rms_mean = float(rms.mean())
    pool = math.sqrt(float((rms**2).mean()))
    return Entry(case, method, score=rms_mean, low=low, high=high, rms=rms_mean,
                 pool=pool, blocks=blocks, **given)  # fmt: skip


THREE = entry("3D-Var", 1.0, scheme="3dvar", seed=2)
OPTIMUM = entry("optimum", 0.25, role="optimum", scheme="optimum", seed=3)
GRU = entry("GRU", 0.3, scheme="encoder", seed=4)
TWIN = entry("LSTM", 0.3, scheme="encoder", seed=5, noise=0.05)
LOST = entry("EnKF, N=3", math.nan, numbers={"diverged": 0.07}, seed=6)


def told(*entries: Entry) -> tuple[str, str]:
    found = findings(entries)
    return headline(found), "\n".join(sentences(found[0]))


def test_a_clear_winner_stands_with_its_margins_and_intervals() -> None:
    short, text = told(THREE, OPTIMUM, GRU)
    assert short == "GRU wins: 70 % below tuned 3D-Var and 1.20 times the optimum."
    assert f"GRU scores rms {score_of(GRU)}, 70 % below tuned 3D-Var (70–70 %)." in text
    assert "Its pool, which the optimum minimises, is 1.20 (1.20–1.20) times" in text
    assert "Next: 3D-Var, 233 % above GRU (" in text


def test_a_tie_is_said_and_names_both() -> None:
    short, text = told(THREE, OPTIMUM, GRU, TWIN)
    assert "are not distinguishable and score best" in short
    assert {"GRU", "LSTM"} <= set(short.replace(":", " ").split())
    assert "the 95 % interval includes 1." in text
    assert "wins" not in short


def test_the_optimum_and_baselines_do_not_compete() -> None:
    climate = entry("climatology", 0.1, role="baseline", scheme="climatology")
    short, _ = told(climate, OPTIMUM, THREE)
    assert short == "3D-Var wins: 4.00 times the optimum."


def test_a_method_that_diverged_is_counted_and_never_best() -> None:
    short, text = told(LOST, THREE, OPTIMUM)
    assert short.startswith("3D-Var wins")
    assert "EnKF, N=3 diverged on 7 of 100 trajectories." in text
    short, text = told(LOST)
    assert short == "Every method diverged."
    assert text == "EnKF, N=3 diverged on 7 of 100 trajectories."


def test_without_an_optimum_the_distance_is_said_to_be_unknown() -> None:
    _, text = told(THREE, GRU)
    assert "How far this is from the optimum is not known" in text


def test_an_optimum_that_had_not_settled_is_only_a_bound() -> None:
    moving = entry("optimum", 0.25, role="optimum", scheme="optimum",
                   results=(result(convergence={"settled": False}),))  # fmt: skip
    _, text = told(GRU, moving)
    assert "still improving with its size, so the true distance is larger" in text


def test_one_trajectory_decides_nothing() -> None:
    few = [entry("A", 0.3, n=1, seed=1), entry("B", 0.6, n=1, seed=2)]
    short, text = told(*few)
    assert short == (
        "A and B are not distinguishable: a single trajectory gives no interval."
    )
    assert "Not distinguishable from B: a single trajectory" in text


def test_methods_on_different_data_are_not_compared() -> None:
    stranger = entry("EnKF", 0.9, seed=9)
    moved = dataclasses.replace(
        stranger, blocks={"another": stranger.blocks["the same"]}
    )
    assert math.isnan(moved.against(THREE).ratio)


def test_a_method_tried_on_the_first_trajectories_is_compared_on_those() -> None:
    few = dataclasses.replace(GRU, blocks={"the same": GRU.blocks["the same"][:, :20]})
    ours, theirs = (e.blocks["the same"][0, :20, 0].mean() for e in (GRU, THREE))
    assert few.against(THREE).ratio == pytest.approx(ours / theirs)


def test_scores_in_decibel_differ_and_have_no_ratio() -> None:
    pair = [
        entry(name, score, measure="dB", seed=seed, scheme=scheme)
        for name, score, seed, scheme in (
            ("KF", 0.1, 1, "extkf"), ("3D-Var", 1.0, 2, "3dvar"),
        )
    ]  # fmt: skip
    short, text = told(*pair)
    assert short == "KF wins: 20.00 dB below tuned 3D-Var."
    assert "Next: 3D-Var, 20.00 dB above KF (" in text


def test_several_cases_are_counted_with_the_range_of_their_margins() -> None:
    again = [
        entry("3D-Var", 1.0, scheme="3dvar", case=OTHER, seed=2),
        entry("GRU", 0.5, scheme="encoder", case=OTHER, seed=4),
    ]
    found = findings([THREE, GRU, *again])
    assert [finding.case for finding in found] == [CASE, OTHER]
    assert headline(found) == "GRU scores best in 2 of 2 cases."
    assert overview(found) == [
        "Where GRU is best, its error is 0.30–0.50 times that of tuned 3D-Var."
    ]


def test_a_case_that_is_tied_is_won_by_nobody() -> None:
    pair = [
        entry(name, 0.3, scheme="encoder", case=OTHER, seed=seed, noise=0.2)
        for name, seed in (("GRU", 4), ("LSTM", 5))
    ]
    found = findings([THREE, GRU, *pair])
    assert headline(found) == (
        "GRU scores best in 1 of 2 cases; in 1 the best is not distinguishable from "
        "another."
    )
    assert headline([found[1], found[1]]) == (
        "In 2 of 2 cases the best is not distinguishable from another."
    )
    assert len(overview(found)) == 1


def test_an_optimum_that_is_beaten_is_said_to_be_none() -> None:
    beaten = entry("not settled", 0.4, role="not settled", scheme="optimum", seed=3)
    short, text = told(THREE, beaten, GRU)
    assert short == "GRU wins: 70 % below tuned 3D-Var."
    assert "is not known: a method beats the particle filter that was to be it" in text


def test_networks_of_one_training_tie_within_what_trainings_differ_by() -> None:
    pair = [
        entry(name, score, scheme="encoder", seed=seed, noise=0.001, n_trainings=1)
        for name, score, seed in (("GRU", 0.3, 4), ("LSTM", 0.303, 5))
    ]
    short, text = told(THREE, *pair)
    assert short.startswith("GRU and LSTM are not distinguishable")
    assert "less than two trainings of one network do (2 %)" in text


def test_published_scores_are_counted() -> None:
    numbers = {"diverged": 0.0, "file": 0.9, "rerun": 1.1}
    inside = entry("3D-Var", 1.0, scheme="3dvar", numbers=numbers, verdict="within")
    above = entry("EnKF", 0.8, numbers=numbers, verdict="lower")
    _, text = told(inside, above)
    assert "1 of 2 methods are within their range; outside: EnKF (lower)." in text


def subject(*entries: Entry) -> Subject:
    return Subject(SimpleNamespace(name="planted", results=[]), entries)  # type: ignore[arg-type]


def test_the_latex_table_has_rules_bold_and_a_dagger() -> None:
    rows = standings(subject(THREE, OPTIMUM, GRU, TWIN))
    text = latex_table(rows, "planted: 100 %")
    lines = text.splitlines()
    assert lines[0] == "% planted: 100 %"
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    assert r"\begin{tabular}{rlrrrr}" in text
    assert r"\textbf" not in text  # neither of two that tie is the best
    for tied in (GRU, TWIN):
        assert rf"1= & {tied.method}\textsuperscript{{\dag}}" in text
    [three] = [line for line in lines if line.startswith("3 & 3D-Var")]
    assert three.endswith(r"&  & 4.00 \\")
    assert text.count("{") == text.count("}")
    alone = latex_table(standings(subject(THREE, OPTIMUM, GRU)), "planted")
    assert r"\textbf{1} & \textbf{GRU} & \textbf{" in alone


@pytest.mark.parametrize(
    ("plain", "latex"),
    [("50 %", r"50 \%"), ("a_b & c", r"a\_b \& c"), ("−1–2", "$-$1--2"),
     ("x²", "x$^2$"), ("σ", r"$\sigma$"), ("\\", r"\textbackslash{}")],
)  # fmt: skip
def test_what_latex_would_take_for_its_own_is_escaped(plain: str, latex: str) -> None:
    assert escaped(plain) == latex


def test_the_records_hold_every_number_with_its_interval() -> None:
    rows = {r["method"]: r for r in records(standings(subject(THREE, OPTIMUM, GRU)))}
    assert list(rows) == ["optimum", "GRU", "3D-Var"]
    gru = rows["GRU"]
    assert (gru["rank"], gru["ties"]) == (1, "")
    assert (rows["3D-Var"]["rank"], rows["optimum"]["rank"]) == (2, None)
    assert gru["over_three_d_var"] == pytest.approx(0.3, rel=0.02)
    assert gru["over_three_d_var_low"] < 0.3 < gru["over_three_d_var_high"]
    assert gru["n_trajectories"] == N
    assert math.isnan(rows["3D-Var"]["over_three_d_var"])


def test_a_method_that_was_tried_on_fewer_trajectories_is_named() -> None:
    many = result(n_trajectories=500, n_times=40)
    few = result(n_trajectories=25, n_times=40)
    best = entry("optimum", 0.25, role="optimum", seed=3, results=(few,))
    methods = [entry(name, 0.3, results=(many,)) for name in ("GRU", "LSTM")]
    assert (
        samples([best, *methods])
        == "500 test trajectories (optimum: 25), 40 analyses each."
    )
    assert samples(methods) == "500 test trajectories, 40 analyses each."


def test_errors_are_mapped_beside_those_of_the_optimum() -> None:
    def maps(square: float, n: int = 100) -> xarray.Dataset:
        there, edges = ("x", "z"), np.arange(3.0)
        return xarray.Dataset(
            {
                "map_square": (there, np.full((2, 2), square)),
                "map_count": (there, np.array([[n, n], [n, 3]])),
                "map_x_edge": ("edge", edges),
                "map_z_edge": ("edge", edges),
            },
            attrs={"n_trajectories": 3, "n_times": 101},
        )

    def chapter(*entries: Entry, n: int = 100) -> Chapter:
        [finding] = findings(entries)
        found = {e.method: maps(4.0 if e is GRU else 1.0, n) for e in entries}
        subject: Any = SimpleNamespace(
            featured=[finding],
            suffix=lambda case: "",
            diagnosed=lambda *_, having: dict(found),
        )
        return attractor(subject)

    both = chapter(OPTIMUM, GRU)
    assert [p.name for p in both.pictures] == ["error_map", "error_ratio"]
    assert "grey: fewer than 30 analyses" in both.pictures[1].caption
    [mesh] = both.pictures[1].figure.axes[0].collections
    ratios = np.ma.masked_invalid(mesh.get_array())
    assert ratios.compressed().tolist() == [2.0, 2.0, 2.0]
    assert [p.name for p in chapter(THREE, GRU).pictures] == ["error_map"]
    assert [p.name for p in chapter(OPTIMUM, GRU, n=3).pictures] == ["error_map"]
