"""Schemes side by side in one call: the numbers are those by hand; a table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import l63fast
import own_sensors
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.kalman import ClimatologicalMean
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments.results import CASE, FACTS, MEANS, METHOD_COLUMNS
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import compare as paired
from l63fast.verification import score_marginals, trajectory_means

TWIN = TwinExperiment.generate(
    TwinSettings("xyz", n_train=5, n_val=1, n_test=12, n_steps=600, steps_per_cycle=10)
)
C = TWIN.climatology.covariance
SCHEMES = {
    "static": ThreeDVar.for_twin(TWIN, B=0.05 * C),
    "ensemble": EnKF.for_twin(TWIN, B=C, n_members=10, inflation=1.05),
}


@pytest.fixture(scope="module")
def found():
    return l63fast.compare(SCHEMES, TWIN, burn_in=30, n_bootstrap=200)


class Silent:
    """A scheme of one's own that never looks at an observation."""

    window = 1

    def initial(self, background, rng):
        return background

    def forecast(self, state, n_steps):
        return l63fast.forecast(state, n_steps)

    def analyse(self, state, obs_window):
        n = len(state)
        status = np.full(n, Status.CONVERGED, np.int8)
        return state, Analysis(
            state, status, np.zeros(n, np.int32), np.zeros(n), 0 * obs_window[:, -1],
            background=state,
        )  # fmt: skip


def test_scores_and_paired_ratio_are_those_of_the_verification(found):
    truth = TWIN.test.truth_at_observations[:, 30:]
    means = {}
    for name, scheme in SCHEMES.items():
        run = l63fast.run_cycles(scheme, TWIN, burn_in=30)
        assert np.array_equal(run.analysis, found.runs[name].analysis)
        means[name] = trajectory_means(run.analysis, truth)[:, 0]
    by_hand = paired(means["ensemble"], means["static"], measure="rmse_a",
                     n_bootstrap=200)  # fmt: skip
    board = found.board.set_index("method")
    for name, values in means.items():
        assert board.loc[name, "score"] == pytest.approx(values.mean(), rel=1e-12)
    row = board.loc["ensemble"]
    assert found.versus == "static"
    assert row["ratio_to_3dvar"] == pytest.approx(by_hand.ratio, rel=1e-12)
    ends = (row["ratio_to_3dvar_low"], row["ratio_to_3dvar_high"])
    assert ends == pytest.approx(by_hand.ratio_ci95, rel=1e-12)
    assert list(board["rank"]) == [1, 2]


def test_the_frame_is_that_of_results_and_can_be_scored_again(found):
    columns = {
        *CASE,
        *METHOD_COLUMNS,
        *MEANS,
        *FACTS,
        "seed",
        "training",
        "data",
        "crps",
    }
    assert columns <= set(found.results)
    assert len(found.results) == 2 * TWIN.settings.n_test
    again = l63fast.scores(found.results, "rmse_pooled_a", "ensemble", n_bootstrap=50)
    assert set(again["method"]) == set(SCHEMES)
    facts = found.board.set_index("method").loc["ensemble"]
    assert 0.3 < facts["spread_ratio"] < 3.0
    assert facts["seconds_per_cycle"] > 0.0
    # Its members are no sample: they are scored as the normals they stand for.
    run = found.runs["ensemble"]
    assert run.members is not None
    assert run.spread is not None
    truth = TWIN.test.truth_at_observations[:, run.scored]
    of_normals = score_marginals(run.analysis, run.spread, truth).crps.mean(axis=1)
    rows = found.results.query("method == 'ensemble'")
    np.testing.assert_allclose(rows["crps"], of_normals, rtol=1e-12)


def test_it_is_text_in_a_notebook_as_well(found, monkeypatch):
    text = repr(found)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert repr(found) == text


def test_it_prints_as_a_table_of_one_screen_and_draws_a_figure(found):
    text, html = repr(found), found._repr_html_()
    assert len(text.splitlines()) < 12
    assert max(map(len, text.splitlines())) <= 80
    for row in found.board.itertuples():
        assert f"{row.score:.3f}" in text
        assert f"<td>{row.score:.3f}</td>" in html
    assert f"{found.board.iloc[0].ratio_to_3dvar:.3f} (" in text
    [ax] = found.figure().axes
    assert ax.get_xlabel() == "rmse_a (line: 95 % interval)"
    assert [label.get_text() for label in ax.get_yticklabels()] == list(
        found.board["label"]
    )
    doubted = dataclasses.replace(found, board=found.board.assign(rare_losses=True))
    [ax] = doubted.figure().axes
    assert ax.get_yticklabels()[0].get_text() == f"{found.board['label'].iloc[0]} *"
    assert ax.get_xlabel().endswith("*: rare losses)")


def test_all_schemes_are_scored_on_the_cycles_that_the_longest_window_leaves():
    class Patient(Silent):
        window = 4

    found = l63fast.compare(
        {"own <1>": Silent(), "patient": Patient()},
        TWIN,
        initial=TWIN.test.initial_state,
        warm_up=Silent(),
        n_cycles=5,
        n_bootstrap=20,
    )
    assert [run.scored for run in found.runs.values()] == [slice(3, 8)] * 2
    assert list(found.board["score"]) == [0.0, 0.0]
    assert "own &lt;1&gt;" in found._repr_html_()


def test_a_single_short_trajectory_is_enough():
    small = TwinSettings("x2", n_train=3, n_val=1, n_test=1, n_steps=30)
    twin = TwinExperiment.generate(small)
    schemes = {
        "3dvar": ThreeDVar("x2", 1.0, 1.0),
        "pf": ParticleFilter.for_twin(twin, B=9.0, n_particles=20),
    }
    found = l63fast.compare(schemes, twin, measure="decibel", n_bootstrap=20)
    assert found.board.attrs["measure"] == "mirror-aware decibel"
    assert len(repr(found).splitlines()) == 6
    assert "nan" not in repr(found)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_scheme_that_diverges_has_no_rank_and_is_named():
    class Lost(Silent):
        def forecast(self, state, n_steps):
            return np.full_like(state, np.nan)

    found = l63fast.compare(
        {"lost": Lost(), "static": SCHEMES["static"]}, TWIN, n_bootstrap=20
    )
    line = next(line for line in repr(found).splitlines() if "lost  " in line[5:20])
    assert "not finite" in line
    assert "nan" not in repr(found)


@pytest.mark.parametrize(
    ("schemes", "more", "error", "sentence"),
    [
        ([1], {}, ArgumentTypeError, "schemes: expected a mapping of names to schemes"),
        ({}, {}, ArgumentValueError, "schemes: expected at least one scheme, got none"),
        ({1: SCHEMES["static"]}, {}, ArgumentTypeError, "expected names, got the key"),
        ({"a": 3}, {}, ArgumentTypeError,
         r"schemes\['a'\]: expected a scheme with window, .*, got int without window"),
        ({"a": EnKF}, {}, ArgumentTypeError, r"^schemes\['a'\]: .* got the class EnKF"),
        (SCHEMES, {"versus": "x"}, ArgumentValueError, "versus: expected one of stat"),
        (SCHEMES, {"measure": "rms"}, ArgumentValueError, "measure: expected one of"),
        (SCHEMES, {"burn_in": 60}, ArgumentValueError, r"burn_in \(cycles\): exp"),
        (SCHEMES | {"b": EnKF.for_twin(TWIN, B=C, R=2 * np.eye(3), n_members=5)}, {},
         ArgumentValueError, r"schemes\['b'\]: scheme: expected R 1 I as in the data"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(schemes, more, error, sentence):
    with pytest.raises(error, match=sentence):
        l63fast.compare(schemes, TWIN, **more)


def test_an_operator_of_the_users_own_stands_in_a_table():
    def h(states):
        return 10.0 * np.tanh(states[..., :1] / 10.0)

    own = l63fast.ObservationOperator.custom(h, obs_dim=1, name="sensor")
    settings = {"n_train": 20, "n_val": 2, "n_test": 6, "n_steps": 300, "sigma": 0.5}
    twin = l63fast.TwinExperiment.generate(l63fast.TwinSettings(own, **settings))
    B = twin.climatology.covariance
    schemes = {
        "3dvar": l63fast.ThreeDVar.for_twin(twin, B=0.1 * B),
        "enkf": l63fast.EnKF.for_twin(twin, B=B, n_members=20, inflation=1.05),
    }
    found = l63fast.compare(schemes, twin, burn_in=5, n_bootstrap=20)
    assert "sensor observed" in repr(found)
    run, scored = found.runs["enkf"], found.board.set_index("method")["score"]
    truth = twin.test.truth_at_observations[:, run.scored]
    error = np.sqrt(((run.analysis - truth) ** 2).mean(axis=-1)).mean()
    assert scored["enkf"] == pytest.approx(error, rel=1e-12)


def test_an_operator_of_the_users_own_that_is_mirror_blind_is_as_the_square():
    boards = []
    for operator in (own_sensors.x2, "x2"):
        settings = {"n_train": 20, "n_val": 2, "n_test": 6, "n_steps": 200}
        settings |= {"operator": operator}
        twin = l63fast.TwinExperiment.generate(l63fast.TwinSettings(**settings))
        schemes = {
            "mean": ClimatologicalMean.for_twin(twin),
            "enkf": EnKF.for_twin(twin, B=C, n_members=10),
        }
        found = l63fast.compare(schemes, twin, burn_in=5, n_bootstrap=20)
        assert "mirror-aware rmse_a" in repr(found)
        assert found.results["mirror_aware"].all()
        boards.append(found.board[["method", "score", "low", "high"]])
    pd.testing.assert_frame_equal(*boards, rtol=1e-6)
