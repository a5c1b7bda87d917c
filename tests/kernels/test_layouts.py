"""Arrays of any layout: the bits of contiguous ones, inputs unchanged, no alias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bad_calls import misaligned
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import Lorenz63, forecast, simulate

# Exact in both types, zeros of both signs and denormals of float64 among them.
VALUES = st.one_of(
    st.integers(-64, 64).map(lambda i: i / 4),
    st.sampled_from([0.0, -0.0, 1e-310, -1e-40]),
)
DTYPES = st.sampled_from([np.float64, np.float32])
SHAPES = st.lists(st.integers(0, 5), max_size=2).map(tuple)
BACKENDS = st.sampled_from(["cpp", "numba"])


def spread_out(array: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Return a view with gaps, backwards where a step is negative."""
    shape = [n * abs(step) for n, step in zip(array.shape, steps, strict=True)]
    wide = np.full(shape, np.nan, array.dtype)
    view = wide[tuple(slice(None, None, step) for step in steps)]
    view[...] = array
    return view


def read_only(array: np.ndarray) -> np.ndarray:
    view = array[...]
    view.flags.writeable = False
    return view


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": misaligned,
    "gaps": lambda a: spread_out(a, (2,) * a.ndim),
    "backwards": lambda a: spread_out(a, (-1,) * a.ndim),
    "both": lambda a: spread_out(a, (-3,) * (a.ndim - 1) + (2,)),
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape) if a.shape[0] else a,
    "masked": np.ma.masked_array,
}


@st.composite
def laid_out(draw: st.DrawFn, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape))
    values = draw(st.lists(VALUES, min_size=size, max_size=size))
    array = np.array(values, dtype).reshape(shape)
    array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
    return read_only(array) if draw(st.booleans()) else array


def plain(array: np.ndarray) -> np.ndarray:
    """Return a contiguous copy in the native byte order."""
    return np.array(np.asarray(array), array.dtype.newbyteorder("="), order="C")


@settings(deadline=None, max_examples=150)
@given(data=st.data(), shape=SHAPES, dtype=DTYPES, backend=BACKENDS)
@pytest.mark.promise("B1", "150 random layouts, equal bytes")
@pytest.mark.promise("B2", "bytes equal before and after, nothing shared")
def test_integration_of_any_layout(data, shape, dtype, backend) -> None:
    states = data.draw(laid_out((*shape, 3), dtype))
    parameters = Lorenz63(beta=data.draw(st.sampled_from([8 / 3, 0.0, -0.0])))
    before = plain(states).tobytes()
    for function in (forecast, simulate):
        given = function(states, 6, parameters=parameters, backend=backend)
        expected = function(plain(states), 6, parameters=parameters)
        assert given.dtype == dtype
        assert given.tobytes() == expected.tobytes()
        assert plain(states).tobytes() == before
        assert not np.shares_memory(given, states)


@settings(deadline=None, max_examples=80)
@given(data=st.data(), shape=SHAPES, dtype=DTYPES, backend=BACKENDS)
@pytest.mark.promise("B1", "80 random layouts, equal bytes")
@pytest.mark.usefixtures("numba_kernels")
def test_analysis_of_any_layout(data, shape, dtype, backend) -> None:
    background = data.draw(laid_out((*shape, 3), dtype))
    observation = data.draw(laid_out((*shape, 2), dtype))
    each = data.draw(st.booleans()) and 0 not in shape
    layout = LAYOUTS[data.draw(st.sampled_from(["Fortran", "gaps", "big-endian"]))]
    B = layout(np.tile(np.eye(3) + 0.25, (*shape, 1, 1) if each else (1, 1)))
    R = layout(np.tile(np.eye(2) + 0.125, (*shape, 1, 1) if each else (1, 1)))
    inputs = (background, observation, B, R)
    before = [plain(array).tobytes() for array in inputs]
    given = three_d_var(background, observation, "x2z", B=B, R=R, backend=backend)
    x_b, y, B, R = map(plain, inputs)
    expected = three_d_var(x_b, y, "x2z", B=B, R=R)
    for name in ("state", "status", "n_iter", "cost", "residual"):
        mine, theirs = getattr(given, name), getattr(expected, name)
        assert mine.tobytes() == theirs.tobytes(), name
        assert not any(np.shares_memory(mine, array) for array in inputs), name
    assert [plain(array).tobytes() for array in inputs] == before


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_no_iterations_give_a_copy_of_the_background(backend: str) -> None:
    background = np.ones((4, 3))
    analysis = three_d_var(
        background, np.ones((4, 1)), "x2", B=np.eye(3), R=np.eye(1), max_iter=0,
        backend=backend,
    )  # fmt: skip
    assert np.array_equal(analysis.state, background)
    assert not np.shares_memory(analysis.state, background)
