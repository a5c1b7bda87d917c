"""What may be given: seeds of any kind, lists of numbers, variances, DataArrays."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import l63fast as l63
from l63fast import verification
from l63fast.assimilation.agreement import Setup
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.learning.encoders import build_encoder
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings, TrainSettings

TWIN = l63.TwinExperiment.generate(
    l63.TwinSettings("xy", sigma=0.5, n_train=4, n_val=1, n_test=20, n_steps=60)
)
STATES = TWIN.test.truth
SEEN = TWIN.test.observations
ENSEMBLE = l63.EnKF.for_twin(TWIN, B=np.eye(3), n_members=5)
ENCODER = EncoderSettings("mlp", "xy", window=1, hidden=4)
MEMBERS = STATES[:, :, None] + np.random.default_rng(0).normal(size=(20, 61, 6, 3))
MEANS = np.random.default_rng(1).uniform(0.5, 1.0, size=(20, 2))

SEEDED = {
    "spin_up": lambda seed: l63.spin_up(3, seed=seed, time=0.1),
    "observe": lambda seed: l63.observe(STATES, "xy", sigma=1.0, rng=seed),
    "TwinSettings": lambda seed: l63.TwinSettings(seed=seed).seed,
    "TrainSettings": lambda seed: TrainSettings(seed=seed).seed,
    "run_cycles": lambda seed: l63.run_cycles(ENSEMBLE, TWIN, seed=seed).analysis,
    "build_encoder": lambda seed: next(
        build_encoder(ENCODER, Normaliser.identity("xy"), seed=seed).parameters()
    ).detach(),
    "score": lambda seed: verification.score(
        MEMBERS[:, :, 0], STATES, seed=seed
    ).ci95["rmse_a"],
    "crps": lambda seed: verification.crps(MEMBERS, STATES, seed=seed),
    "rank_histogram": lambda seed: verification.rank_histogram(
        MEMBERS, STATES, seed=seed
    ).low,
    "compare": lambda seed: verification.compare(*MEANS.T, seed=seed).ratio_ci95,
    "Repetitions": lambda seed: verification.Repetitions.of(
        {"a": MEANS[None, :, 0]}, seed=seed
    ).resampled,
}  # fmt: skip


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_may_be_an_int_a_sequence_or_a_generator(name):
    made = SEEDED[name]
    by_int, again = made(7), made(np.int64(7))
    assert np.array_equal(by_int, again)
    sequence = np.random.SeedSequence(7)
    by_sequence = made(sequence)
    assert np.array_equal(by_sequence, made(sequence))
    assert not np.array_equal(by_sequence, made(np.random.SeedSequence(8)))
    rng = np.random.default_rng(7)
    first, second = made(rng), made(rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, made(np.random.default_rng(7)))
    for wrong, error in ((1.5, ArgumentTypeError), (-1, ArgumentValueError)):
        with pytest.raises(error, match=r"^(seed|rng): expected"):
            made(wrong)


def test_comparisons_take_each_of_them():
    schemes = {"enkf": ENSEMBLE}
    one, other = (
        l63.compare(schemes, TWIN, seed=np.random.SeedSequence(k), n_bootstrap=10)
        for k in (1, 2)
    )
    assert not np.array_equal(one.board["score"], other.board["score"])
    again = l63.scores(one.results, n_bootstrap=10, seed=np.random.default_rng(3))
    assert np.array_equal(again["score"], one.board["score"])


def test_lists_of_numbers_are_states_and_observations():
    x, y = [1, 2, 20], [[1.5, 2], [0, 1]]
    assert np.array_equal(l63.forecast(x, 5), l63.forecast(np.array(x, float), 5))
    assert l63.ObservationOperator("xz2")((1, 2, 3)).tolist() == [1.0, 9.0]
    assert l63.ObservationOperator("x2").jacobian([1, 2, 3]).tolist() == [[2, 0, 0]]
    found = l63.three_d_var([x, x], y, "xy", B=np.eye(3).tolist(), R=np.eye(2).tolist())
    wanted = l63.three_d_var(
        np.array([x, x], float), np.array(y), "xy", B=np.eye(3), R=np.eye(2)
    )
    assert np.array_equal(found.state, wanted.state)
    single = l63.three_d_var(np.ones(3, "f4"), [1, 2], "xy", B=np.eye(3), R=np.eye(2))
    assert single.state.dtype == np.float32
    one = l63.AssimilationDataset([x], [y], [x], [0], [1])
    assert one.obs_window.shape == (1, 2, 2)
    run = l63.run_cycles(ENSEMBLE, TWIN, initial=STATES[:, 0].tolist())
    assert np.array_equal(
        run.analysis, l63.run_cycles(ENSEMBLE, TWIN, initial=STATES[:, 0]).analysis
    )


def test_a_number_is_a_variance_wherever_a_covariance_is_taken():
    x, y = STATES[:, 10], SEEN[:, 0]
    found = l63.three_d_var(x, y, "xy", B=2, R=0.25)
    wanted = l63.three_d_var(x, y, "xy", B=2 * np.eye(3), R=0.25 * np.eye(2))
    assert found.state.tobytes() == wanted.state.tobytes()
    cost = l63.variational_cost(x, x, y, "xy", B=2, R=0.25)
    assert np.array_equal(
        cost, l63.variational_cost(x, x, y, "xy", B=2 * np.eye(3), R=0.25 * np.eye(2))
    )
    scheme = l63.EnKF("xy", 4.0, 0.25, n_members=5, Q=0.0)
    assert scheme.B.tolist() == (4 * np.eye(3)).tolist()
    assert scheme.R.tolist() == (0.25 * np.eye(2)).tolist()
    assert scheme.Q is None
    l63.run_cycles(scheme, TWIN)  # whose R is the same
    settings = l63.TwinSettings("xy", sigma=0.5, R=0.25)
    assert settings == l63.TwinSettings("xy", sigma=0.5)
    own = l63.TwinExperiment.from_arrays(
        STATES, SEEN, operator="xy", sigma=0.5, dt=0.01, steps_per_cycle=10,
        n_train=10, n_val=5, n_test=5, R=0.3,
    )  # fmt: skip
    assert own.R.tolist() == (0.3 * np.eye(2)).tolist()
    with pytest.raises(ArgumentValueError, match=r"R: .* got smallest eigenvalue -1"):
        l63.three_d_var(x, y, "xy", B=1, R=-1)


def test_a_scheme_of_ones_own_may_state_a_variance():
    class Own:
        made_for = Setup(operator="xy", R=0.25)
        window = 1
        initial, forecast, analyse = (
            getattr(ENSEMBLE, name) for name in ("initial", "forecast", "analyse")
        )

    l63.run_cycles(Own(), TWIN)
    Own.made_for = Setup(operator="xy", R=0.3)
    with pytest.raises(ArgumentValueError, match=r"expected R 0.25 I as in the data"):
        l63.run_cycles(Own(), TWIN)


def test_a_data_array_is_read_by_the_names_of_its_dimensions():
    truth = TWIN.test.to_xarray().truth
    turned = truth.transpose("component", "time", "trajectory").isel(
        component=[2, 0, 1]
    )
    last = turned.isel(time=-1)
    assert np.array_equal(l63.forecast(last, 5), l63.forecast(STATES[:, -1], 5))
    assert verification.rmse(turned, truth) == 0.0
    seen = TWIN.test.to_xarray().observation.transpose("observed", ...)
    found = l63.three_d_var(last, seen.isel(observation_time=-1), "xy", B=1.0, R=0.25)
    wanted = l63.three_d_var(STATES[:, -1], SEEN[:, -1], "xy", B=1.0, R=0.25)
    assert np.array_equal(found.state, wanted.state)
    members = xr.DataArray(MEMBERS, dims=("trajectory", "time", "member", "component"))
    assert verification.crps(members.transpose("component", "member", ...), truth)[
        0
    ] == pytest.approx(verification.crps(MEMBERS, STATES)[0])


@pytest.mark.parametrize(
    ("states", "error", "sentence"),
    [
        (xr.DataArray(np.ones((2, 3)), dims=("a", "b")), ArgumentValueError,
         r"state: expected an xarray.DataArray with a dimension 'component' \(or "
         r"'observed', for observations\), got the dimensions \('a', 'b'\)"),
        (xr.Dataset({"a": 1.0}), ArgumentTypeError,
         "state: expected an array, got an xarray.Dataset; take one of its variables"),
        (xr.DataArray(np.ones((3, 2)), dims=("trajectory", "component")),
         ArgumentValueError, r"state: expected \(..., 3\), got \(3, 2\)"),
    ],
)  # fmt: skip
def test_a_data_array_without_those_names_is_refused(states, error, sentence):
    with pytest.raises(error, match=sentence):
        l63.forecast(states, 1)
