"""Observation operators: grammar, values, derivatives, symmetry, NumPy and torch."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.observation import ObservationOperator, as_operator, observe

EXPONENTS = ["", "1", "2", "3", "4"]
PARTS = [[""] + [c + e for e in EXPONENTS] for c in "xyz"]
NAMES = ["".join(parts) for parts in itertools.product(*PARTS)][1:]
SOME = ["x", "xy", "xyz", "x2", "xz", "x2z", "y3", "z4", "x3y2z4"]
STATES = np.random.default_rng(0).normal(size=(5, 4, 3)) * 10.0


def plain(name: str, state: np.ndarray) -> list[float]:
    """Read the name by hand: the definition the operator is judged by."""
    values = []
    for i, letter in enumerate("xyz"):
        if letter in name:
            after = name[name.index(letter) + 1 :][:1]
            power = int(after) if after.isdigit() else 1
            values.append(np.prod([state[i]] * power))
    return values


def test_every_name_of_the_grammar_is_an_operator():
    assert len(NAMES) == 6**3 - 1
    state = np.array([-1.5, 2.0, 3.0])
    for name in NAMES:
        operator = ObservationOperator(name)
        wanted = plain(name, state)
        assert operator.obs_dim == len(wanted)
        np.testing.assert_allclose(operator(state), wanted, rtol=1e-15)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "w",
        "yx",
        "xx",
        "x0",
        "x5",
        "x22",
        "x-1",
        "2x",
        "X",
        " x",
        "x ",
        "x,y",
        "xy\n",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ArgumentValueError, match="expected x, y, z in that order"):
        ObservationOperator(name)


@pytest.mark.parametrize("name", [None, 3, b"x", ["x"]])
def test_a_name_is_a_string(name):
    with pytest.raises(ArgumentTypeError, match="operator"):
        ObservationOperator(name)


def test_the_operator_as_data():
    operator = ObservationOperator("x2z")
    assert (operator.components, operator.powers) == ((0, 2), (2, 1))
    assert operator.labels == ("x²", "z")
    assert operator == ObservationOperator("x2z")
    assert hash(operator) == hash(ObservationOperator("x2z"))
    assert as_operator("x2z") == as_operator(operator) == operator


@pytest.mark.parametrize(
    ("name", "linear", "blind"),
    [
        ("x", True, False),
        ("xyz", True, False),
        ("z", True, True),
        ("x2", False, True),
        ("x2z", False, True),
        ("x3", False, False),
        ("x2y2z3", False, True),
        ("x2y", False, False),
    ],
)
def test_linearity_and_symmetry(name, linear, blind):
    operator = ObservationOperator(name)
    assert operator.is_linear == linear
    assert operator.is_mirror_blind == blind
    mirrored = STATES * np.array([-1.0, -1.0, 1.0])
    signs = np.array(operator.mirror_signs)
    np.testing.assert_array_equal(operator(mirrored), signs * operator(STATES))
    assert np.array_equal(operator(mirrored), operator(STATES)) == blind


@pytest.mark.parametrize("name", SOME)
def test_the_jacobian_is_the_derivative(name):
    """Central differences, exact to rounding for powers up to 2."""
    operator = ObservationOperator(name)
    jacobian = operator.jacobian(STATES)
    assert jacobian.shape == (5, 4, operator.obs_dim, 3)
    for component in range(3):
        step = np.zeros(3)
        step[component] = 1e-5
        slope = (operator(STATES + step) - operator(STATES - step)) / 2e-5
        np.testing.assert_allclose(
            jacobian[..., component], slope, atol=1e-4, rtol=1e-6
        )
    diagonal = operator.jacobian_diagonal(STATES)
    rows = np.arange(operator.obs_dim)
    picked = jacobian[..., rows, list(operator.components)]
    np.testing.assert_array_equal(diagonal, picked)


def test_the_derivative_at_zero_is_exact():
    zero = np.zeros(3)
    assert ObservationOperator("x2").jacobian(zero).tolist() == [[0.0, 0.0, 0.0]]
    assert ObservationOperator("x").jacobian(zero).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_gives_the_same_bits(name, dtype):
    torch = pytest.importorskip("torch")
    operator = ObservationOperator(name)
    states = STATES.astype(dtype)
    tensor = torch.tensor(states)
    for function in (operator, operator.jacobian_diagonal):
        expected, value = function(states), function(tensor)
        assert value.numpy().dtype == dtype
        np.testing.assert_array_equal(value.numpy(), expected)
    tensor.requires_grad_(True)
    (gradient,) = torch.autograd.grad(operator(tensor).sum(), tensor)
    wanted = operator.jacobian(states).sum(axis=-2)
    np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_inputs_are_neither_changed_nor_returned(name):
    states = STATES.copy()
    operator = ObservationOperator(name)
    value = operator(states)
    value[...] = -1.0
    operator.jacobian(states)
    np.testing.assert_array_equal(states, STATES)


def test_observe_adds_noise_of_sigma():
    states = np.zeros((200, 100, 3))
    noise = observe(states, "xyz", sigma=2.0, rng=1)
    assert noise.std() == pytest.approx(2.0, rel=0.02)
    assert abs(noise.mean()) < 0.05
    np.testing.assert_array_equal(noise, observe(states, "xyz", sigma=2.0, rng=1))
    again = observe(states, "xyz", sigma=2.0, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(noise, again)
    assert not np.array_equal(noise, observe(states, "xyz", sigma=2.0, rng=2))


def test_perfect_observations_and_float32():
    operator = ObservationOperator("x2z")
    perfect = observe(STATES, operator, sigma=0.0, rng=0)
    np.testing.assert_array_equal(perfect, operator(STATES))
    single = observe(STATES.astype(np.float32), operator, sigma=1.0, rng=0)
    assert single.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"states": STATES[..., :2]},
            ArgumentValueError,
            "states: expected",
        ),
        ({"states": STATES * np.nan}, ArgumentValueError, "states: expected finite"),
        ({"states": STATES.astype(int)}, ArgumentTypeError, "states: expected float64"),
        ({"sigma": -1.0}, ArgumentValueError, "sigma: expected at least 0"),
        ({"sigma": np.inf}, ArgumentValueError, "sigma: expected a finite number"),
        (
            {"sigma": 1e39, "states": STATES.astype(np.float32)},
            ArgumentValueError,
            "sigma: expected values within float32, got",
        ),
        (
            {"states": STATES * 1e200, "operator": "x2"},
            ArgumentValueError,
            r"h\(states\): expected finite values, got 20 that are not",
        ),
        ({"sigma": 1.7e308}, ArgumentValueError, "sigma: expected values within float"),
        ({"sigma": "1"}, ArgumentTypeError, "sigma"),
        ({"rng": None}, ArgumentTypeError, "rng"),
        ({"rng": -1}, ArgumentValueError, "rng"),
        ({"operator": "q"}, ArgumentValueError, "operator"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {"states": STATES, "operator": "xy", "sigma": 1.0, "rng": 0, **change}
    with pytest.raises(error, match=message):
        observe(
            arguments["states"],
            arguments["operator"],
            sigma=arguments["sigma"],
            rng=arguments["rng"],
        )


@pytest.mark.parametrize(
    "call", ["__call__", "jacobian", "jacobian_diagonal"], ids=lambda name: name
)
def test_states_that_are_no_array_are_read_or_refused(call):
    function = getattr(ObservationOperator("x2z"), call)
    state = [1.5, 2.0, 3.0]
    assert np.array_equal(function(state), function(np.array(state)))
    labelled = xr.DataArray([[3.0, 2.0, 1.5]], dims=("time", "component"),
                            coords={"component": ["z", "y", "x"]})  # fmt: skip
    assert np.array_equal(function(labelled), function(np.array([state])))
    for given in (pd.DataFrame([state], columns=["x", "y", "z"]), None, "xyz"):
        with pytest.raises(ArgumentTypeError, match=r"^states: expected an array"):
            function(given)


@pytest.mark.parametrize("name", ["x", "xz", "xyz", "x2y2z"])
def test_observations_lie_side_by_side(name):
    states = np.random.default_rng(0).normal(size=(7, 5, 3))
    for view in (states, states[::2], states.swapaxes(0, 1)):
        assert ObservationOperator(name)(view).flags.c_contiguous
