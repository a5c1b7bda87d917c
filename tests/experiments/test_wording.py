"""Tables and sentences: planted scores, ties, losses, and what is not known."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import pytest

from l63fast.experiments import published as module
from l63fast.experiments.published import Published
from l63fast.experiments.scoring import Summary
from l63fast.experiments.tables import (
    caption,
    columns_of,
    escaped,
    latex,
    lost_between,
    markdown,
)
from l63fast.experiments.wording import answer, overview, sentences
from planted_results import N, method, summary

THREE = method("3dvar", 1.0, label="3D-Var", scheme="3dvar")
OPTIMUM = method("optimum", 0.25, role="optimum", settled=1.0)
GRU = method("gru", 0.3, label="GRU", scheme="encoder", trainings=3)
LSTM = method("lstm", 0.3, label="LSTM", scheme="encoder", noise=0.05, trainings=3)
OTHER: dict[str, Any] = {"operator": "x", "sigma": 0.5, "interval": 0.25}


def lost(table: pd.DataFrame) -> pd.DataFrame:
    """Return results of which a tenth of the trajectories is not finite."""
    table = table.copy()
    table.loc[:7, ["rmse_a", "mse_a"]] = math.nan
    return table.assign(diverged=0.1)


def text_of(found: Summary) -> str:
    """Return the sentences on the first case."""
    return "\n".join(next(iter(sentences(found).values())))


def told(*methods: pd.DataFrame, measure: str = "rmse_a") -> tuple[str, str]:
    found = summary(*methods, measure=measure)
    return answer(found), text_of(found)


def test_a_clear_winner_stands_with_its_margins_and_intervals() -> None:
    short, text = told(THREE, OPTIMUM, GRU)
    assert short == "GRU wins: 70.0 % below tuned 3D-Var and 1.20 times the optimum."
    assert text.startswith("GRU scores rmse_a 0.300 (0.28")
    assert ", 70.0 % below tuned 3D-Var (69.8–70.2 %)." in text
    assert (
        "which the optimum minimises, is 1.20 (1.19–1.21) times that of the op" in text
    )
    assert "Next: 3D-Var, 233.3 % above GRU (23" in text


def test_a_tie_is_said_and_names_both() -> None:
    short, text = told(THREE, OPTIMUM, GRU, LSTM)
    assert "are not distinguishable and score best" in short
    assert {"GRU", "LSTM"} <= set(short.replace(":", " ").split())
    assert "the 95 % interval includes 1." in text
    assert "wins" not in short


def test_networks_of_one_training_tie_within_what_trainings_differ_by() -> None:
    pair = [
        method(name, score, label=name, noise=0.001, trainings=1)
        for name, score in (("GRU", 0.3), ("LSTM", 0.303))
    ]
    short, text = told(THREE, *pair)
    assert short.startswith("GRU and LSTM are not distinguishable")
    assert "less than two trainings of the same network can (2 %)" in text
    assert "GRU ¹" in markdown(summary(*pair))
    assert "¹: trained once" in caption(summary(*pair))
    assert "¹" not in caption(summary(THREE, GRU))


def test_a_method_that_diverged_is_counted_and_never_best() -> None:
    enkf = lost(method("enkf", 0.2, label="EnKF, N=3"))
    short, text = told(enkf, THREE, OPTIMUM)
    assert short.startswith("3D-Var wins")
    assert f"EnKF, N=3 diverged on 8 of {N} trajectories." in text
    short, text = told(enkf)
    assert short == "No method has a finite score."
    assert text.endswith(f"EnKF, N=3 diverged on 8 of {N} trajectories.")


def test_rare_losses_are_told_with_their_share_and_the_median() -> None:
    enkf = method("enkf", 0.3, label="EnKF")
    enkf.loc[3, ["rmse_a", "mse_a"]] = 9.0, 81.0
    found = summary(enkf, THREE)
    text = text_of(found)
    assert answer(found).startswith("3D-Var has the first rank; EnKF scores lower")
    assert "EnKF has no rank: a few trajectories make its score. 1 of 80 is" in text
    assert " * | " in markdown(found)
    assert "| EnKF | 1.2 % (0.032–6.8) | " in markdown(found)
    assert answer(summary(enkf)) == "No method has a rank: rare losses make all scores."


RARE = method("enkf", 0.1, label="EnKF")
RARE.loc[3, ["rmse_a", "mse_a"]] = 8.0, 64.0


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ((THREE, GRU, LSTM, RARE), "LSTM and GRU share the first rank: 70.0 % below"),
        ((lost(GRU), RARE), "rare losses make all scores that are finite."),
        ((lost(GRU), LSTM), "LSTM wins."),
        ((GRU, LSTM, THREE.assign(**OTHER), GRU.assign(**OTHER)),
         "GRU scores best in 1 of 2 cases; in 1 of 2 cases the best is not dist"),
        ((RARE, THREE, THREE.assign(**OTHER), GRU.assign(**OTHER)),
         "GRU scores best in 1 of 2 cases; in 1 of 2 cases no winner is certain"),
        ((GRU, THREE.assign(**OTHER), GRU.assign(**OTHER)),
         "GRU scores best in 1 of 2 cases; in 1 of 2 cases there is only one method."),
        ((lost(GRU), THREE.assign(**OTHER), GRU.assign(**OTHER)),
         "GRU scores best in 1 of 2 cases; in 1 of 2 cases no method has a rank."),
    ],
)  # fmt: skip
def test_the_headline_says_what_the_table_says(
    methods: tuple[pd.DataFrame, ...], said: str
) -> None:
    found = summary(*methods)
    assert said in answer(found)
    winners = [row.label for rows in found.cases for row in rows if row.wins]
    for row in found.rows:
        wins = any(
            f"{row.label} {verb}" in answer(found) for verb in ("wins", "scores b")
        )
        assert wins == (row.label in winners)


def test_a_share_of_all_is_100_per_cent() -> None:
    enkf = method("enkf", 0.3, label="EnKF", n=3)
    enkf[["rmse_a", "mse_a"]] = 9.0, 81.0
    [row] = summary(enkf).cases[0]
    assert lost_between(row) == "29.2–100"


def test_nobody_wins_where_rare_losses_make_a_lower_score() -> None:
    enkf = method("enkf", 0.3, label="EnKF")
    enkf.loc[3, ["rmse_a", "mse_a"]] = 2.0, 4.0
    found = summary(enkf, THREE)
    assert found.cases[0][0].label == "EnKF"
    assert answer(found) == (
        "3D-Var has the first rank; EnKF scores lower but has no rank, because a few "
        "trajectories make such a score."
    )
    cases = summary(enkf, THREE, enkf.assign(**OTHER), THREE.assign(**OTHER))
    assert "scores best" not in answer(cases)


def test_without_an_optimum_or_with_a_beaten_one_the_distance_is_unknown() -> None:
    _, text = told(THREE, GRU)
    assert "is not known: the experiment has no optimum for the same" in text
    short, text = told(THREE, method("optimum", 0.4, role="optimum"), GRU)
    assert short == "GRU wins: 70.0 % below tuned 3D-Var."
    assert "is not known: a method beats the computed optimum." in text


def test_the_optimum_bounds_no_method_that_begins_at_another_observation() -> None:
    optimum = method("optimum", 0.4, role="optimum", start="last")
    three = THREE.assign(start="last")
    short, text = told(three, optimum, GRU.assign(start="first"))
    assert short == "GRU wins: 70.0 % below tuned 3D-Var."
    assert "the optimum is that of methods with another background." in text
    stranger = optimum.assign(start="last", data="another")
    _, text = told(three, stranger, GRU.assign(start="last"))
    assert "the experiment has no optimum for the same trajectories." in text
    # Planted: with the background of the others it would have beaten the optimum.
    _, text = told(three, optimum, GRU.assign(start="last"))
    assert "is not known: a method beats the computed optimum." in text


def test_a_network_that_loses_to_3d_var_is_named() -> None:
    worse = method("worse", 1.3, label="worse GRU", scheme="encoder", trainings=1)
    enkf = method("enkf", 1.3, label="EnKF")
    _, text = told(THREE, worse, enkf)
    assert "Worse GRU loses to tuned 3D-Var: 30.0 % above it (" in text
    assert "EnKF loses" not in text
    assert "loses" not in told(THREE, GRU)[1]


@pytest.mark.parametrize(
    ("methods", "said"),
    [((THREE,), "3D-Var is the only method."),
     ((OPTIMUM,), "No method competes: there are only baselines and the optimum."),
     ((THREE, THREE.assign(**OTHER)),
      "Each of the 2 cases has only one method: no comparison.")],
)  # fmt: skip
def test_nobody_wins_alone(methods: tuple[pd.DataFrame, ...], said: str) -> None:
    assert told(*methods)[0] == said


def test_an_optimum_that_had_not_settled_is_only_a_bound() -> None:
    _, text = told(GRU, OPTIMUM.assign(settled=0.0))
    assert "still improving with its size, so the true ratio is larger" in text


def test_one_trajectory_decides_nothing() -> None:
    short, text = told(method("A", 0.3, n=1), method("B", 0.6, n=1))
    assert short == (
        "A and B are not distinguishable: a single trajectory gives no interval."
    )
    assert "Not distinguishable from B: a single trajectory" in text


def test_scores_in_decibel_differ_and_have_no_ratio() -> None:
    kf = method("extkf", 0.1, label="KF")
    short, text = told(kf, THREE, measure="decibel")
    assert short == "KF wins: 20.00 dB below tuned 3D-Var."
    assert "Next: 3D-Var, 20.00 dB above KF (" in text
    assert "KF scores a mean squared error of −19." in text
    tied = [method(n, 0.3, label=n, noise=0.3) for n in ("A", "B")]
    text = told(*tied, measure="decibel")[1]
    assert re.search(r"paired difference \+0\.\d\d dB \(−0\.\d\d to \+\d", text), text


def test_several_cases_are_counted_with_the_range_of_their_margins() -> None:
    again = [
        THREE.assign(**OTHER),
        method("gru", 0.5, label="GRU", trainings=3, **OTHER),
    ]
    found = summary(THREE, GRU, *again)
    assert [rows[0].operator for rows in found.cases] == ["xyz", "x"]
    assert answer(found) == "GRU scores best in 2 of 2 cases."
    assert overview(found) == [
        "Where GRU is best, its error is 0.30–0.50 times that of tuned 3D-Var."
    ]


def test_a_case_that_is_tied_is_won_by_nobody() -> None:
    pair = [GRU.assign(**OTHER), LSTM.assign(**OTHER)]
    found = summary(THREE, GRU, *pair)
    assert answer(found) == (
        "GRU scores best in 1 of 2 cases; in 1 of 2 cases the best is not "
        "distinguishable from another."
    )
    assert len(overview(found)) == 1
    twice = summary(GRU, LSTM, *pair)
    assert answer(twice) == (
        "In 2 of 2 cases the best is not distinguishable from another."
    )


def test_published_scores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Published("a file", {}, {}, file=1.0, rerun=1.05)
    monkeypatch.setattr(module, "published_for", lambda settings: known)
    found = summary(THREE, GRU)
    text = text_of(found)
    assert "1 of 2 methods are within their range; outside: GRU (lower)." in text
    assert "| 1 | 1.05 | within |" in markdown(found)


def test_the_latex_table_has_rules_bold_and_a_dagger() -> None:
    text = latex(summary(THREE, OPTIMUM, GRU, LSTM), "planted: 100 %")
    lines = text.splitlines()
    assert lines[0] == "% planted: 100 %"
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    assert r"\begin{tabular}{rlrrrrr}" in text
    assert r"\textbf" not in text  # neither of two that tie is the best
    for tied in ("GRU", "LSTM"):
        assert rf"1= & {tied}\textsuperscript{{\dag}}" in text
    [three] = [line for line in lines if line.startswith("3 & 3D-Var")]
    assert three.endswith(r"&  & 4.00 \\")
    assert text.count("{") == text.count("}")
    alone = latex(summary(THREE, OPTIMUM, GRU), "planted")
    assert r"\textbf{1} & \textbf{GRU} & \textbf{" in alone


@pytest.mark.parametrize(
    ("plain", "latex"),
    [("50 %", r"50 \%"), ("a_b & c", r"a\_b \& c"), ("−1–2", "$-$1--2"),
     ("x²", "x$^2$"), ("σ", r"$\sigma$"), ("\\", r"\textbackslash{}")],
)  # fmt: skip
def test_what_latex_would_take_for_its_own_is_escaped(plain: str, latex: str) -> None:
    assert escaped(plain) == latex


def test_ranks_below_a_score_without_rank_are_ranges_and_none_is_the_best() -> None:
    found = summary(RARE, GRU, LSTM, THREE)
    text = markdown(found)
    for line in ("|  | EnKF | ", "| 1–2= | GRU | ", "| 1–2= | LSTM | ", "| 3–4 | 3D"):
        assert line in text
    assert "2–3: the rank without and with such methods" in text
    assert r"\dag}" not in latex(found, "planted")
    # A score without rank changes nothing above it.
    text = markdown(summary(method("pf", 0.05, label="PF"), RARE, GRU))
    assert [line[:7] for line in text.splitlines()[4:7]] == [
        "| 1 | P",
        "|  | En",
        "| 2–3 |",
    ]


def test_many_cases_are_lines_and_methods_columns() -> None:
    sigmas = (0.1, 0.2, 0.5, 1.0, 2.0)
    cases = [m.assign(sigma=s) for s in sigmas for m in (THREE, GRU, LSTM, OPTIMUM)]
    text = markdown(summary(*cases))
    lines = [line for line in text.splitlines() if line.startswith("| 0.2 |")]
    assert len(lines) == 3  # scores, and ratios to 3D-Var and to the optimum
    assert lines[0].endswith("gru = lstm |") or lines[0].endswith("lstm = gru |")
    assert "| σ | optimum | " in text


def test_methods_of_one_label_are_told_apart_by_their_keys() -> None:
    found = summary(THREE, method("mine", 0.5, label="3D-Var"))
    assert [row.label for row in found.cases[0]] == ["3D-Var [mine]", "3D-Var [3dvar]"]
    titles = [column.title for column in columns_of(found, found.cases[0])]
    assert titles == ["rank", "method", "rmse_a", "95 %", "rmse_pooled_a", "/ 3D-Var"]
