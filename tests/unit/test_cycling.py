"""The loop over cycles: what a scheme is given, when, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment, TwinSettings
from oracles import linear_analysis

B = np.array([[1.0, 0.8, 0.0], [0.8, 1.5, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def twin():
    return TwinExperiment.generate(
        TwinSettings(operator="xy", n_train=20, n_val=4, n_test=6, n_steps=120)
    )


@dataclass(frozen=True)
class Diary:
    """A scheme that writes down what it is given; its state counts model steps."""

    window: int = 1
    spread: np.ndarray | None = None
    seen: list = field(default_factory=list)

    def initial(self, background, rng):
        return 0, background

    def forecast(self, state, n_steps):
        return state[0] + n_steps, state[1]

    def analyse(self, state, obs_window):
        steps, estimate = state
        self.seen.append((steps, obs_window.copy(), estimate))
        n = len(estimate)
        return (steps, estimate + 1.0), Analysis(
            state=estimate + 1.0,
            status=np.full(n, steps % 7, dtype=np.int8),
            n_iter=np.zeros(n, dtype=np.int32),
            cost=np.zeros(n),
            residual=obs_window[:, -1],
            background=estimate,
            spread=self.spread,
        )


def test_cycles_of_3d_var_are_those_of_a_loop_by_hand(twin):
    split = twin.split("test")
    result = run_cycles(ThreeDVar("xy", B, twin.R), twin, "test")
    estimate = np.tile(twin.climatology.mean, (6, 1))
    assert result.analysis.shape == result.background.shape == (6, 12, 3)
    for c in range(12):
        estimate = forecast(estimate, 10)
        np.testing.assert_allclose(result.background[:, c], estimate, atol=1e-7)
        estimate = linear_analysis(
            estimate, split.observations[:, c], twin.operator, B, twin.R
        )
        np.testing.assert_allclose(result.analysis[:, c], estimate, atol=1e-7)
    assert (result.status == Status.CONVERGED).all()
    assert result.spread is None
    assert result.members is None
    H = np.eye(3)[:2]
    S = np.broadcast_to(H @ B @ H.T + twin.R, (6, 12, 2, 2))
    np.testing.assert_allclose(result.innovation_covariance, S, rtol=1e-12)
    d = split.observations - result.background[..., :2]
    np.testing.assert_allclose(result.innovation, d, rtol=1e-12)
    assert 0.0 < result.seconds_per_analysis < 1.0


def test_analyses_are_valid_when_the_observations_are():
    exact = TwinExperiment.generate(
        TwinSettings(operator="xyz", n_train=4, n_val=2, n_test=3, sigma=1e-4,
                     n_steps=80, steps_per_cycle=8)
    )  # fmt: skip
    result = run_cycles(ThreeDVar("xyz", B, exact.R), exact, "test", burn_in=2)
    truth = exact.split("test").truth_at_observations
    assert np.abs(result.analysis - truth[:, result.scored]).max() < 1e-3
    assert np.abs(result.background - truth[:, result.scored]).max() < 1e-1
    assert np.abs(result.analysis - truth[:, 1:-1]).max() > 1.0


def test_burn_in_and_n_cycles_choose_among_the_same_cycles(twin):
    scheme = ThreeDVar("xy", B, twin.R)
    everything = run_cycles(scheme, twin, "test")
    part = run_cycles(scheme, twin, "test", burn_in=3, n_cycles=5)
    assert part.scored == slice(3, 8)
    np.testing.assert_array_equal(part.analysis, everything.analysis[:, 3:8])
    np.testing.assert_array_equal(part.background, everything.background[:, 3:8])
    assert part.status.shape == (6, 5)


def test_a_window_holds_the_latest_observations_and_the_warm_up_comes_before(twin):
    scheme, warm_up = Diary(window=4), Diary()
    start = np.zeros((6, 3))
    observations = twin.split("test").observations
    result = run_cycles(scheme, twin, "test", initial=start, warm_up=warm_up)
    assert [steps for steps, _, _ in warm_up.seen] == [10, 20, 30]
    for c, (_, obs_window, _) in enumerate(warm_up.seen):
        np.testing.assert_array_equal(obs_window, observations[:, c : c + 1])
    assert len(scheme.seen) == 9
    for c, (steps, obs_window, estimate) in enumerate(scheme.seen):
        assert steps == 10 * (c + 1)
        np.testing.assert_array_equal(obs_window, observations[:, c : c + 4])
        np.testing.assert_array_equal(estimate, np.full((6, 3), 3.0 + c))
    assert result.first_cycle == 3
    np.testing.assert_array_equal(result.analysis[:, 0], np.full((6, 3), 4.0))


def test_spread_and_status_are_kept_where_a_scheme_gives_them(twin):
    spread = np.arange(18.0).reshape(6, 3)
    result = run_cycles(Diary(spread=spread), twin, "test", burn_in=2)
    np.testing.assert_array_equal(result.spread[:, 4], spread)
    expected = 10 * (3 + np.arange(10)) % 7
    np.testing.assert_array_equal(result.status[0], expected)


def test_a_trajectory_that_diverges_is_kept_and_marked(twin):
    scheme = ThreeDVar("xy", B, twin.R)
    initial = twin.split("test").initial_state.copy()
    healthy = run_cycles(scheme, twin, "test", initial=initial)
    initial[2] = 1e200
    result = run_cycles(scheme, twin, "test", initial=initial)
    assert (result.status[2] == Status.NON_FINITE).all()
    assert np.isnan(result.analysis[2]).all()
    others = np.arange(6) != 2
    np.testing.assert_array_equal(result.analysis[others], healthy.analysis[others])
    np.testing.assert_array_equal(result.status[others], healthy.status[others])


def test_what_cannot_be_run_is_refused(twin):
    scheme = ThreeDVar("xy", B, twin.R)
    with pytest.raises(ArgumentValueError, match=r"burn_in \(cycles\): .* 12 left"):
        run_cycles(scheme, twin, burn_in=12)
    with pytest.raises(ArgumentTypeError, match=r"burn_in \(cycles\): expected an int"):
        run_cycles(scheme, twin, burn_in=2.0)
    with pytest.raises(ArgumentValueError, match="n_cycles: expected at most 9"):
        run_cycles(scheme, twin, burn_in=3, n_cycles=10)
    with pytest.raises(ArgumentTypeError, match="n_cycles: expected an integer"):
        run_cycles(scheme, twin, n_cycles=2.0)
    with pytest.raises(ArgumentValueError, match="warm_up: expected a scheme"):
        run_cycles(Diary(window=3), twin)
    with pytest.raises(ArgumentValueError, match="one with a window of 2"):
        run_cycles(Diary(window=3), twin, warm_up=Diary(window=2))
    with pytest.raises(ArgumentValueError, match="initial: expected leading shape"):
        run_cycles(scheme, twin, initial=np.zeros((5, 3)))
    with pytest.raises(ArgumentValueError, match=r"^split_name: expected one of train"):
        run_cycles(scheme, twin, "testing")
    verbs = "expected a scheme with window, initial, forecast, analyse, got"
    with pytest.raises(ArgumentTypeError, match=f"^scheme: {verbs} TwinExp.* without"):
        run_cycles(twin, scheme)
    with pytest.raises(ArgumentTypeError, match=f"^scheme: {verbs} str without window"):
        run_cycles("3dvar", twin)
    with pytest.raises(ArgumentTypeError, match=r"^scheme: .*got the class ThreeDVar$"):
        run_cycles(ThreeDVar, twin)
    with pytest.raises(ArgumentTypeError, match=r"^twin: expected TwinExperiment, got"):
        run_cycles(scheme, scheme)
    with pytest.raises(ArgumentTypeError, match=f"^warm_up: {verbs} str"):
        run_cycles(Diary(window=3), twin, warm_up="3dvar")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda state, analysis: (state, state), r"analyse .*, got \(tuple, tuple\)"),
        (lambda state, analysis: analysis, "analyse .*, got Analysis from Wrong"),
        (lambda state, analysis: analysis.state, "analyse .*, got ndarray from Wrong"),
        (lambda state, analysis: None, "analyse .*, got NoneType from Wrong"),
        (
            lambda state, analysis: (state, replace(analysis, background=None)),
            "a background, as cycles compare it with the truth, got None",
        ),
    ],
)
def test_what_analyse_returns_is_checked(twin, given, sentence):
    class Wrong(Diary):
        def analyse(self, state, obs_window):
            return given(*super().analyse(state, obs_window))

    class AtOnce(Wrong):
        def run(self, state, observations, n_steps):
            return self.analyse(state, observations[:, :1])

    with pytest.raises(ArgumentTypeError, match=f"^scheme: expected .*{sentence}"):
        run_cycles(Wrong(), twin)
    at_once = sentence.replace("analyse", "run").replace("Wrong", "AtOnce")
    with pytest.raises(ArgumentTypeError, match=f"^scheme: expected .*{at_once}"):
        run_cycles(AtOnce(), twin)


def test_a_scheme_that_does_whole_runs_gives_what_its_cycles_do(twin):
    particles = ParticleFilter("xy", B, twin.R, n_particles=50, n_members=5)
    whole = run_cycles(particles, twin, burn_in=3, n_cycles=5)
    steps = run_cycles(particles, twin, burn_in=3, n_cycles=5, keep_members=True)
    assert steps.members.shape == (6, 5, 5, 3)
    assert whole.members is None
    for name in ("analysis", "background", "spread", "status", "effective_size"):
        assert np.array_equal(getattr(whole, name), getattr(steps, name)), name
    assert whole.scored == steps.scored == slice(3, 8)
    assert whole.seconds_per_analysis is None
    assert steps.seconds_per_analysis < steps.seconds_per_cycle
