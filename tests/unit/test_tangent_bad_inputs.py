"""Tangent-linear and adjoint: bad arguments, and what diverges is named."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DivergenceError,
    LargeTimeStepWarning,
)
from l63fast.lorenz63 import adjoint, forecast, spin_up, tangent_linear


def random_vectors(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


ONES = np.ones((4, 3))
BAD_CALLS = [
    ({"state": np.ones((4, 2))}, ArgumentValueError, r"state: expected \(\.\.\., 3\)"),
    ({"state": np.ones((4, 3), int)}, ArgumentTypeError, "state: .* got int64"),
    ({"state": ONES * np.nan}, ArgumentValueError, "state: expected finite values"),
    ({"vectors": np.ones((5, 3))}, ArgumentValueError, r"V: expected \(4, 3\), or k"),
    ({"vectors": np.ones(3)}, ArgumentValueError, r"V: expected .* got \(3,\)"),
    ({"vectors": np.ones((4, 1, 1, 3))}, ArgumentValueError, r"V: expected \(4, 3\)"),
    ({"vectors": np.ones((4, 2))}, ArgumentValueError, r"V: expected \(\.\.\., 3\)"),
    ({"vectors": ONES.astype("f4")}, ArgumentTypeError, "V: expected float64, got"),
    ({"vectors": ONES * np.inf}, ArgumentValueError, "V: expected finite values"),
    ({"vectors": "abc"}, ArgumentTypeError, "V: expected an array"),
    ({"n_steps": -1}, ArgumentValueError, "n_steps: expected at least 0"),
    ({"n_steps": 1.5}, ArgumentTypeError, "n_steps: expected an integer"),
    ({"dt": 0.2}, ArgumentValueError, "dt: expected at most"),
    ({"dt": "0.01"}, ArgumentTypeError, "dt: expected a real number"),
    ({"n_threads": 0}, ArgumentValueError, "n_threads: expected at least 1"),
    ({"backend": "fortran"}, ArgumentValueError, "one of auto, cpp, numba"),
    ({"on_divergence": "clip"}, ArgumentValueError, "one of raise, nan"),
    ({"parameters": (10, 28, 3)}, ArgumentTypeError, "expected Lorenz63, got tuple"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), BAD_CALLS)
@pytest.mark.parametrize("function", [tangent_linear, adjoint])
def test_bad_arguments_get_one_clear_sentence(function, wrong, kind, message) -> None:
    call = {"state": ONES, "vectors": ONES, "n_steps": 3} | wrong
    name = "perturbation" if function is tangent_linear else "gradient"
    with pytest.raises(kind, match=message.replace("V:", f"{name}:")):
        function(call.pop("state"), call.pop("vectors"), call.pop("n_steps"), **call)


def test_a_large_dt_warns_at_the_caller(backend) -> None:
    for function in (tangent_linear, adjoint):
        with pytest.warns(LargeTimeStepWarning) as caught:
            function(ONES, ONES, 2, dt=0.06, backend=backend)
        assert [w.filename for w in caught] == [__file__]


def test_a_diverging_state_is_named_as_by_forecast(backend) -> None:
    state, u = spin_up(30, seed=12), random_vectors((30, 3), 13)
    alone = (tangent_linear(state, u, 50)[1], adjoint(state, u, 50))
    state[4], state[17] = 1e200, [400.0, -400.0, 900.0]
    with pytest.raises(DivergenceError) as expected:
        forecast(state, 50, backend=backend)
    for function, good in zip((tangent_linear, adjoint), alone, strict=True):
        with pytest.raises(DivergenceError) as caught:
            function(state, u, 50, backend=backend)
        assert str(caught.value) == str(expected.value)
        assert caught.value.members.tolist() == expected.value.members.tolist()
        result = function(state, u, 50, backend=backend, on_divergence="nan")
        result = result[1] if function is tangent_linear else result
        members = expected.value.members
        assert np.isnan(result[members]).any(axis=-1).all()
        rest = np.setdiff1d(np.arange(30), members)
        assert result[rest].tobytes() == good[rest].tobytes()


def test_a_vector_that_overflows_is_named_with_its_step(backend) -> None:
    state = spin_up(30, seed=12)
    u = random_vectors((30, 2, 3), 13)
    u[11, 1] *= 1e307
    with pytest.raises(
        DivergenceError, match=r"perturbation: 1 of 30 members"
    ) as caught:
        tangent_linear(state, u, 400, backend=backend)
    assert caught.value.members.tolist() == [11]
    step = caught.value.step
    assert 0 < step < 400
    tangent_linear(state, u, step - 1, backend=backend)
    with pytest.raises(DivergenceError):
        tangent_linear(state, u, step, backend=backend)
    with pytest.raises(DivergenceError, match="gradient: 1 of 30 members") as caught:
        adjoint(state, u, 400, backend=backend)
    step = caught.value.step
    assert 0 < step < 400
    adjoint(forecast(state, step), u, 400 - step, backend=backend)
    with pytest.raises(DivergenceError):
        adjoint(forecast(state, step - 1), u, 401 - step, backend=backend)


@pytest.mark.parametrize("n_steps", [3, 400])
def test_what_is_not_finite_is_the_one_canonical_nan(backend, n_steps: int) -> None:
    state, u = spin_up(30, seed=12), random_vectors((30, 2, 3), 13)
    u[11, 1] *= 1e308
    u[7] *= 2.0**1020
    state[5] = 1e160
    options = {"backend": backend, "on_divergence": "nan"}
    final, carried = tangent_linear(state, u, n_steps, **options)
    back = adjoint(state, u, n_steps, **options)
    for result in (final, carried, back):
        assert not np.isinf(result).any()
        broken = result[np.isnan(result)]
        assert broken.tobytes() == np.full(broken.size, np.nan).tobytes()
        assert np.isfinite(result[np.setdiff1d(np.arange(30), [5, 7, 11])]).all()
    assert np.isnan(final[5]).any()
    assert np.isnan(carried[11, 1]).any()
    assert np.isnan(back[5]).any()
