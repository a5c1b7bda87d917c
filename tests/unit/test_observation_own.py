"""An observation operator of the user's own, in everything that takes one."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import own_sensors
from l63fast import plotting
from l63fast.assimilation.analogs import WindowObservations
from l63fast.assimilation.backgrounds import Backgrounds
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import VARIANTS, EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.kalman import (
    ClimatologicalMean,
    ExtendedKalman,
    OptimalInterpolation,
)
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.program_files import write_cycle_inputs
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import ThreeDVar, three_d_var, variational_cost
from l63fast.assimilation.tuning import tune_b_scale
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments.experiment import Experiment
from l63fast.lorenz63 import spin_up
from l63fast.observation import ObservationOperator, observe
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.twin.shards import ShardSettings

custom = ObservationOperator.custom
STATES = spin_up(200, seed=3)
B = np.array([[2.0, 1.5, 0.3], [1.5, 3.0, -0.4], [0.3, -0.4, 1.0]])
SIZES = {"n_train": 40, "n_val": 10, "n_test": 10, "n_steps": 200}


def saturating(states: np.ndarray) -> np.ndarray:
    return 10.0 * np.tanh(states[..., :1] / 10.0)


def slope(states: np.ndarray) -> np.ndarray:
    jacobian = np.zeros((*states.shape[:-1], 1, 3))
    jacobian[..., 0, 0] = 1.0 / np.cosh(states[..., 0] / 10.0) ** 2
    return jacobian


def square(states: np.ndarray) -> np.ndarray:
    return states[..., :1] ** 2


SENSOR = custom(saturating, obs_dim=1, name="sensor")


def copy_of(name: str, **options: Any) -> ObservationOperator:
    """Return the operator of a name as one of the user's own."""
    named = ObservationOperator(name)
    how = {"obs_dim": named.obs_dim, "name": f"my-{name}"} | options
    return custom(lambda states: named(states), **how)


@cache
def twin_of(operator: ObservationOperator | str) -> TwinExperiment:
    return TwinExperiment.generate(TwinSettings(operator=operator, **SIZES))


def problem(name: str, n: int = 200) -> dict[str, Any]:
    h, rng = ObservationOperator(name), np.random.default_rng(0)
    return {
        "background": STATES[:n] + rng.normal(size=(n, 3)) @ np.linalg.cholesky(B).T,
        "observation": observe(STATES[:n], h, sigma=1.0, rng=rng),
        "B": B,
        "R": np.eye(h.obs_dim) + 0.1,
    }


def test_it_says_what_it_is() -> None:
    assert (SENSOR.obs_dim, SENSOR.labels, SENSOR.is_linear) == (1, ("sensor",), False)
    assert not SENSOR.is_mirror_blind
    assert copy_of("xy").labels == ("my-xy_1", "my-xy_2")
    blind = custom(square, obs_dim=1, name="square", mirror_signs=[1])
    assert blind.is_mirror_blind
    assert blind.mirror_signs == (1,)
    assert not copy_of("x2z").is_mirror_blind
    with pytest.raises(ArgumentValueError, match="mirror_signs: expected to be given"):
        _ = SENSOR.mirror_signs
    assert "custom" in repr(SENSOR)


def test_name_and_source_decide_what_is_equal() -> None:
    again = custom(saturating, slope, obs_dim=1, name="sensor")
    assert again == SENSOR
    assert hash(again) == hash(SENSOR)
    assert pickle.loads(pickle.dumps(SENSOR)) == SENSOR
    assert custom(saturating, obs_dim=1, name="another") != SENSOR
    assert custom(square, obs_dim=1, name="sensor") != SENSOR
    assert ObservationOperator("x") != SENSOR


def test_code_without_source_has_a_hash_of_its_own() -> None:
    def made(text: str) -> str | None:
        names: dict[str, Any] = {}
        exec(f"def h(s):\n    return [s[..., {text}] for _ in 'a'][0]", names)
        return custom(names["h"], obs_dim=1, name="made").source_hash

    assert made("1:2") == made("1:2")
    assert made("1:2") != made("2:3")
    one, two = (custom(f, obs_dim=3, name="ufunc") for f in (np.sin, np.cos))
    assert one != two


def test_values_and_derivatives_are_those_of_the_function() -> None:
    given = custom(saturating, slope, obs_dim=1, name="sensor")
    np.testing.assert_array_equal(SENSOR(STATES), saturating(STATES))
    np.testing.assert_allclose(SENSOR.jacobian(STATES), slope(STATES), atol=1e-9)
    np.testing.assert_array_equal(given.jacobian(STATES), slope(STATES))
    powers = ObservationOperator("x2y3z")
    np.testing.assert_allclose(
        copy_of("x2y3z").jacobian(STATES), powers.jacobian(STATES), rtol=1e-8, atol=1e-7
    )
    single = STATES.astype(np.float32)
    assert SENSOR(single).dtype == SENSOR.jacobian(single).dtype == np.float32
    assert SENSOR(np.array([1, 2, 3])).dtype == np.float64
    seen = observe(STATES, SENSOR, sigma=0.0, rng=0)
    np.testing.assert_array_equal(seen, saturating(STATES))


def changing(states: np.ndarray) -> np.ndarray:
    states *= 2.0
    return states[..., :1]


def scalar_tanh(states: np.ndarray) -> np.ndarray:
    return np.array([math.tanh(states[..., 0])])


REFUSED = {
    "h: expected a function, got int": {"h": 3},
    "jacobian: expected a function, got list": {"jacobian": [1]},
    r"h: expected \(4, 2, 2\) for states \(4, 2, 3\), got \(4, 2, 1\)": {"obs_dim": 2},
    r"h: expected \(4, 2, 1\).*got \(2, 3\)": {"h": lambda s: s[0]},
    "h: expected values that depend on their own state alone": {
        "h": lambda s: s[..., :1] - s[..., :1].mean()
    },
    "h: expected real numbers, got complex128": {"h": lambda s: 1j * s[..., :1]},
    "h: expected finite values": {"h": lambda s: s[..., :1] * np.nan},
    r"^h: .*\.\.\., 3\) that leaves them as they are, got ValueError": {"h": changing},
    r"^jacobian: .* that leaves them as they are, got Va": {"jacobian": changing},
    r"^h: .* of NumPy arrays \(\.\.\., 3\), got TypeError for \(4": {"h": scalar_tanh},
    r"^h: .* of NumPy arrays \(\.\.\., 3\), got IndexError for \(3,\)": {
        "h": lambda s: s[:, :, :1]
    },
    r"^jacobian: .* of NumPy arrays \(\.\.\., 3\), got KeyError": {
        "jacobian": lambda s: {}["x"]
    },
    "jacobian: expected the derivative of h": {"jacobian": lambda s: 1.1 * slope(s)},
    r"jacobian: expected \(4, 2, 1, 3\)": {"jacobian": lambda s: slope(s)[..., 0]},
    "obs_dim: expected at least 1": {"obs_dim": 0},
    "name: expected one of its own, got 'x2'": {"name": "x2"},
    "name: expected one name without": {"name": "a/b"},
    r"mirror_signs: expected h\(-x, -y, z\)": {"mirror_signs": [1]},
    "mirror_signs: expected 1 of 1 or -1": {"mirror_signs": [1, -1]},
}


@pytest.mark.parametrize("says", REFUSED)
def test_a_function_that_is_not_as_described_is_refused(says: str) -> None:
    good = {"h": saturating, "obs_dim": 1, "name": "sensor"}
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=says):
        custom(**good | REFUSED[says])


@pytest.mark.parametrize("name", ["x", "xy", "x2", "z2"])
def test_three_d_var_finds_the_minimum_of_the_kernels(name: str) -> None:
    given = problem(name)
    own = three_d_var(operator=copy_of(name), **given)
    kernel = three_d_var(operator=name, **given)
    assert (own.status == Status.CONVERGED).all()
    np.testing.assert_allclose(own.state, kernel.state, atol=1e-7)
    np.testing.assert_allclose(own.cost, kernel.cost, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(own.residual, kernel.residual, atol=1e-5)
    cost = variational_cost(own.state, operator=copy_of(name), **given)
    np.testing.assert_allclose(own.cost, cost, rtol=1e-9, atol=1e-12)


def test_three_d_var_takes_shapes_and_types_as_the_kernels_do() -> None:
    given = problem("x2", n=8)
    scales = np.linspace(1.0, 2.0, 8)[:, None, None]
    given |= {"B": scales * B, "R": scales * given["R"]}
    flat = three_d_var(operator=copy_of("x2"), **given)
    shaped = {
        name: value.reshape(2, 4, *value.shape[1:]) for name, value in given.items()
    }
    folded = three_d_var(operator=copy_of("x2"), **shaped)
    np.testing.assert_array_equal(folded.state.reshape(8, 3), flat.state)
    one = {name: value[3] for name, value in given.items()}
    alone = three_d_var(operator=copy_of("x2"), **one)
    np.testing.assert_array_equal(alone.state, flat.state[3])
    single = {name: value.astype(np.float32) for name, value in given.items()}
    found = three_d_var(operator=copy_of("x2"), **single)
    assert found.state.dtype == found.cost.dtype == np.float32
    np.testing.assert_allclose(found.state, flat.state, rtol=1e-4)


def test_three_d_var_does_many_samples_in_blocks(monkeypatch) -> None:
    given = problem("x2", n=20)
    whole = three_d_var(operator=copy_of("x2"), **given)
    monkeypatch.setattr("l63fast.assimilation.three_d_var._BLOCK", 7)
    parts = three_d_var(operator=copy_of("x2"), **given)
    np.testing.assert_array_equal(parts.state, whole.state)
    none = {"background": np.empty((0, 3)), "observation": np.empty((0, 1))}
    assert three_d_var(operator=copy_of("x2"), **given | none).state.shape == (0, 3)


def test_nothing_unconverged_is_called_converged() -> None:
    given = problem("x")
    given["observation"] = SENSOR(STATES) + np.linspace(-3.0, 3.0, 200)[:, None]
    for max_iter in (0, 1, 3, 20):
        found = three_d_var(operator=SENSOR, max_iter=max_iter, **given)
        gradient = []
        for j in range(3):
            step = 1e-5 * np.eye(3)[j]
            after, before = (
                variational_cost(found.state + sign * step, operator=SENSOR, **given)
                for sign in (1, -1)
            )
            gradient.append((after - before) / 2e-5)
        steep = np.abs(gradient).max(axis=0) > 1e-5
        assert not (steep & (found.status == Status.CONVERGED)).any()
        if max_iter == 0:
            np.testing.assert_array_equal(found.state, given["background"])
            assert (found.status == Status.MAX_ITER).all()
    assert (found.status == Status.CONVERGED).all()
    assert (found.n_iter > 0).all()


def test_a_saddle_is_no_minimum() -> None:
    given = {
        "background": np.zeros((1, 3)),
        "observation": np.array([[50.0]]),
        "B": np.eye(3),
        "R": np.eye(1),
    }
    stuck = three_d_var(operator=copy_of("x2"), multi_start=False, **given)
    assert stuck.status == [Status.MAX_ITER]
    found = three_d_var(operator=copy_of("x2"), **given)
    assert found.status == [Status.CONVERGED]
    expected = three_d_var(operator="x2", **given)
    np.testing.assert_allclose(found.state, expected.state, atol=1e-7)


def test_a_state_without_a_value_does_not_spoil_its_neighbours() -> None:
    height = custom(lambda s: np.log(s[..., 2:]), obs_dim=1, name="log-z")
    background = np.array([[1.0, 1.0, 20.0], [1.0, 1.0, -50.0]])
    found = three_d_var(background, np.array([[3.2], [3.2]]), height, B=B, R=np.eye(1))
    np.testing.assert_array_equal(found.status, [Status.CONVERGED, Status.NON_FINITE])
    assert np.isnan(found.state[1]).all()
    alone = three_d_var(background[:1], np.array([[3.2]]), height, B=B, R=np.eye(1))
    np.testing.assert_array_equal(found.state[0], alone.state[0])


SCHEMES: dict[str, Callable[[TwinExperiment], Any]] = {
    "mean": ClimatologicalMean.for_twin,
    "oi": OptimalInterpolation.for_twin,
    "3dvar": lambda twin: ThreeDVar.for_twin(twin, B=B),
    "ekf": lambda twin: ExtendedKalman.for_twin(twin, B=B, inflation=1.1),
    "4dvar": lambda twin: FourDVar.for_twin(twin, B=B, window=3),
    "pf": lambda twin: ParticleFilter.for_twin(
        twin, B=B, n_particles=100, backend="numba", folded=False
    ),
} | {
    variant: lambda twin, variant=variant: EnKF.for_twin(twin, B=B, variant=variant)
    for variant in VARIANTS
}


@pytest.mark.parametrize("name", ["x", "x2"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_does_what_it_does_with_a_named_operator(
    scheme: str, name: str
) -> None:
    own, named = (
        run_cycles(SCHEMES[scheme](twin), twin, n_cycles=4)
        for twin in (twin_of(copy_of(name)), twin_of(name))
    )
    np.testing.assert_allclose(own.analysis, named.analysis, atol=1e-5)
    np.testing.assert_array_equal(own.status, named.status)
    if named.innovation is not None:
        np.testing.assert_allclose(own.innovation, named.innovation, atol=1e-4)
        np.testing.assert_allclose(
            own.innovation_covariance, named.innovation_covariance, rtol=1e-5, atol=1e-4
        )


def test_lost_particles_are_rescued_along_the_gradient_of_h() -> None:
    found = []
    for operator in ("x2", copy_of("x2")):
        scheme = ParticleFilter(
            operator=operator, B=B, R=np.eye(1), n_particles=50, backend="numba",
            folded=False,
        )  # fmt: skip
        state = scheme.initial(STATES[:5], np.random.default_rng(1))
        state, analysis = scheme.analyse(state, np.full((5, 1, 1), 900.0))
        assert (analysis.status == Status.DIVERGED).all()
        found.append(state.states)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_filters_of_the_sensor_beat_what_knows_no_observation() -> None:
    twin = twin_of(SENSOR)
    truth = twin.test.truth_at_observations

    def error(name: str) -> float:
        analysis = run_cycles(
            SCHEMES[name](twin), twin, initial=twin.test.initial_state
        )
        return float(np.sqrt(np.mean((analysis.analysis - truth) ** 2)))

    mean, var, enkf, particles = map(error, ("mean", "3dvar", "square_root", "pf"))
    assert max(enkf, particles) < var < 0.5 * mean


@pytest.mark.slow
def test_backgrounds_and_tuning_take_it() -> None:
    own, named = (
        Backgrounds.fit(twin) for twin in (twin_of(copy_of("x")), twin_of("x"))
    )
    np.testing.assert_allclose(own.B, named.B, rtol=1e-6)
    with pytest.raises(ArgumentValueError, match=r"'my-x' \(source of sha256 "):
        own.draw(twin_of("x"), "val")
    twin = twin_of("x")
    given = own.draw(twin_of(copy_of("x")), "val"), twin.val.observations
    how = {"truth": twin.val.truth_at_observations, "B": named.B, "R": twin.R}
    scales = [
        tune_b_scale(*given, operator=h, **how).scale for h in (copy_of("x"), "x")
    ]
    assert scales[0] == scales[1]


def test_evidence_of_windows_takes_it() -> None:
    path = np.stack([STATES[:5], STATES[5:10]], axis=1)
    y = np.zeros((5, 2, 1))
    one, other = (
        WindowObservations(y, h, np.eye(1), steps=10).whitened_path(path)
        for h in (copy_of("x2"), ObservationOperator("x2"))
    )
    np.testing.assert_array_equal(one, other)


def test_a_twin_has_the_observations_of_its_h() -> None:
    own, named = twin_of(copy_of("x2")), twin_of("x2")
    np.testing.assert_array_equal(own.test.observations, named.test.observations)
    assert own.test.hash != named.test.hash
    settings = own.settings
    assert settings.operator_name == "my-x2"
    assert replace(settings, seed=1).operator == copy_of("x2")
    content = settings.to_dict()
    assert content["operator_source"] == copy_of("x2").source_hash
    assert TwinSettings.from_dict(content, copy_of("x2")) == settings
    assert TwinSettings(operator=ObservationOperator("x2")).operator == "x2"


def test_truth_without_a_value_of_h_is_refused() -> None:
    # Defined where it is tried, and not on all of the attractor.
    edge = custom(lambda s: np.where(s[..., :1] > 16, np.nan, 1.0), obs_dim=1, name="e")
    with pytest.raises(ArgumentValueError, match=r"h\(truth\): expected finite values"):
        TwinExperiment.generate(TwinSettings(operator=edge, **SIZES | {"n_train": 200}))


def test_own_arrays_are_checked_against_it() -> None:
    twin = twin_of(SENSOR)
    truth = np.concatenate([twin.train.truth, twin.val.truth, twin.test.truth])
    y = np.concatenate([s.observations for s in (twin.train, twin.val, twin.test)])
    how = {"sigma": 1.0, "dt": 0.01, "steps_per_cycle": 10}
    sizes = {name: SIZES[name] for name in ("n_train", "n_val", "n_test")}
    own = TwinExperiment.from_arrays(truth, y, operator=SENSOR, **how, **sizes)
    assert own.operator == SENSOR
    with pytest.raises(ArgumentValueError, match="do not belong to the truth"):
        TwinExperiment.from_arrays(truth, y, operator=copy_of("x"), **how, **sizes)


def test_a_saved_twin_asks_for_its_operator(tmp_path) -> None:
    twin = twin_of(SENSOR)
    twin.save(tmp_path / "twin")
    attributes = xr.open_dataset(tmp_path / "twin" / "test.nc").attrs
    assert attributes["operator"] == "sensor"
    assert attributes["operator_source_sha256"] == SENSOR.source_hash
    loaded = TwinExperiment.load(tmp_path / "twin", operator=SENSOR)
    np.testing.assert_array_equal(loaded.test.observations, twin.test.observations)
    assert loaded.settings == twin.settings
    needs = f"operator: expected your own operator 'sensor'.*{SENSOR.source_hash}.*got"
    with pytest.raises(ArgumentValueError, match=f"{needs} none; make it with"):
        TwinExperiment.load(tmp_path / "twin")
    other = custom(square, obs_dim=1, name="sensor")
    with pytest.raises(ArgumentValueError, match=f"{needs} 'sensor' of sha256"):
        TwinExperiment.load(tmp_path / "twin", operator=other)
    twin_of("x").save(tmp_path / "named")
    assert TwinExperiment.load(tmp_path / "named", operator="x").operator.name == "x"
    with pytest.raises(ArgumentValueError, match="expected the operator 'x',"):
        TwinExperiment.load(tmp_path / "named", operator=SENSOR)


NOT_YET: dict[str, Callable[[], Any]] = {
    "for shards, got 'sensor'": lambda: ShardSettings(TwinSettings(operator=SENSOR), 1),
    "for the C\\+\\+ programs, got 'sensor'": lambda: write_cycle_inputs(
        "inputs.nc", ThreeDVar.for_twin(twin_of(SENSOR), B=B), twin_of(SENSOR)
    ),
    "for jacobian_diagonal, got 'sensor'": lambda: SENSOR.jacobian_diagonal(STATES),
    "backend: expected 'auto' or 'numba' for the operator 'sensor'": lambda: (
        ParticleFilter(operator=SENSOR, B=B, R=np.eye(1), backend="cpp")
    ),
    "at the top level of the module of its h.*, got 'my-x'; l63fast.c": lambda: (
        Experiment.preset("quick").updated(data={"operator": copy_of("x")})
    ),
    "operator: expected NumPy states": lambda: SENSOR(torch.ones(3)),
    r"got the name of one of your own.*; \.imported\(\) does": lambda: (
        TwinExperiment.from_arrays(
            np.ones((3, 11, 3)),
            np.ones((3, 1, 1)),
            operator=ObservationOperator("satmod:h"),
            **{"sigma": 1.0, "dt": 0.01, "steps_per_cycle": 10},
            **{"n_train": 1, "n_val": 1, "n_test": 1},
        )
    ),
}


@pytest.mark.parametrize("says", NOT_YET)
def test_what_does_not_take_it_says_so(says: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=says):
        NOT_YET[says]()


NAMED: dict[str, Any] = {
    "own_sensors:h": own_sensors.h,
    "own_sensors:xy": own_sensors.xy,
    "own_sensors:for_both": custom(own_sensors.for_both, obs_dim=1, name="both"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_stands_for_what_it_is_imported_as(name: str) -> None:
    named = ObservationOperator(name)
    assert (named.name, named.labels) == (name, (name,))
    assert not named.is_linear
    for unknown in (lambda: named(STATES), lambda: named.obs_dim, named.jacobian):
        with pytest.raises(ArgumentValueError, match="got the name of one of your own"):
            unknown(*[STATES] * (unknown == named.jacobian))
    with pytest.raises(ArgumentValueError, match="got the name of one of your own"):
        _ = named.is_mirror_blind
    found, given = named.imported(), NAMED[name]
    assert (found.name, found.is_own) == (name, True)
    h = given if isinstance(given, ObservationOperator) else custom(
        given, obs_dim=1, name="h"
    )  # fmt: skip
    np.testing.assert_array_equal(found(STATES), h(STATES))
    np.testing.assert_array_equal(found.jacobian(STATES), h.jacobian(STATES))
    assert found.source_hash == h.source_hash
    assert found.has_mirror_signs == h.has_mirror_signs
    assert found.imported() is found
    described = found.by_name()
    assert described == found
    assert ObservationOperator.from_table(found.to_table()) == described
    assert described.labels == found.labels
    assert described.is_mirror_blind == found.is_mirror_blind
    with pytest.raises(ArgumentValueError, match="got the name of one of your own"):
        described(STATES)
    assert described.imported()(STATES).shape == found(STATES).shape
    # What was made in Python is found at the top level of its module.
    is_lone = isinstance(given, ObservationOperator) and given.name == "both"
    assert h.by_name().name == ("own_sensors:for_both" if is_lone else name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_sensors:nix", "'own_sensors:nix': AttributeError"),
        ("no_such_module:h", "'no_such_module:h': ModuleNotFoundError"),
        ("own_sensors:np", "to be a function h, or what .*custom makes, got <module"),
        ("own_sensors:_XY", r"custom makes, got ObservationOperator\(name='xy'\)"),
        ("own_sensors:not_an_h", r"h: expected \(2, obs_dim\) for .*, got \(\)$"),
        ("own_nets:Net", "h: expected a function of states .*TypeError"),
    ],
)
def test_a_name_that_stands_for_no_operator_is_refused(
    name: str, sentence: str
) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=sentence):
        ObservationOperator(name).imported()


def test_another_source_is_refused_when_a_name_is_imported() -> None:
    table = ObservationOperator("own_sensors:h").imported().to_table()
    assert isinstance(table, dict)
    other = ObservationOperator.from_table(table | {"source_sha256": "abc"})
    with pytest.raises(ArgumentValueError, match="as it was, of sha256 abc, got"):
        other.imported()


TABLE = {"name": "a:h", "source_sha256": "abc", "obs_dim": 1}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"more": 1}, "expected a name, or a table of name, obs_dim, source_sha256"),
        ({"obs_dim": 0}, "operator.obs_dim: expected at least 1, got 0"),
        ({"name": 3}, "expected name and source_sha256, got 3, 'abc'"),
        ({"mirror_signs": [2]}, "mirror_signs: expected 1 of 1 or -1"),
    ],
)
def test_a_table_that_is_none_of_an_operator_is_refused(
    changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=sentence):
        ObservationOperator.from_table(TABLE | changed)
    assert ObservationOperator.from_table(TABLE).obs_dim == 1


def test_panels_are_drawn_without_it() -> None:
    states, times = STATES[:20].reshape(2, 10, 3), np.arange(10.0)
    fig = plotting.panels(
        states, states + 1.0, states, SENSOR(states), truth_times=times, times=times,
        operator=SENSOR, titles=["one", "two"],
    )  # fmt: skip
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels == ["truth", "background", "analysis"]
