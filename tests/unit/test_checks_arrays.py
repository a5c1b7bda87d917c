"""Checks of arrays: layouts, dtypes, shapes, outputs, covariances."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks_help import refused
from l63fast import _checks
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
)

NAN, INF = float("nan"), float("inf")
F64 = np.dtype(np.float64)
GOOD = np.arange(12.0).reshape(4, 3)


LAYOUTS = {
    "contiguous": GOOD,
    "Fortran order": np.asfortranarray(GOOD),
    "strided": np.repeat(GOOD, 2, axis=0)[::2],
    "reversed": GOOD[::-1, ::-1][::-1, ::-1],
    "big-endian": GOOD.astype(">f8"),
    "broadcast": np.broadcast_to(GOOD[:1], (4, 3)),
    "read-only": np.frombuffer(GOOD.tobytes()).reshape(4, 3),
    "misaligned": np.frombuffer(b"x" + GOOD.tobytes(), offset=1).reshape(4, 3),
    "list": GOOD.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_values(layout):
    given_array = LAYOUTS[layout]
    array = _checks.states("name", given_array)
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.dtype == F64
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, np.asarray(given_array, dtype=F64))


def test_a_good_array_is_not_copied():
    assert np.shares_memory(_checks.states("name", GOOD), GOOD)


def test_exact_values_survive():
    values = np.array([1e-310, -0.0, 5e-324])
    array = _checks.states("name", values.astype(">f8"))
    assert array.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", [int, bool, complex, object, "U4", np.float16, "g"])
def test_other_dtypes_are_refused(dtype):
    if np.dtype(dtype) == F64:
        pytest.skip("long double is float64 here")
    refused(_checks.states, np.zeros((2, 3), dtype), error=ArgumentTypeError)


def test_a_structured_array_is_refused():
    array = np.zeros((2, 3), [("x", float)])
    refused(_checks.states, array, error=ArgumentTypeError)


def test_the_dtype_can_be_asked_for():
    single = GOOD.astype(np.float32)
    assert _checks.states("name", single).dtype == np.float32
    refused(
        _checks.states,
        single,
        dtype=F64,
        error=ArgumentTypeError,
        message="float64, got",
    )


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (5, 2), (0,)])
def test_other_shapes_are_refused(shape):
    refused(
        _checks.states, np.zeros(shape), error=ArgumentValueError, message=r"\.\.\., 3"
    )


def test_empty_batches_pass():
    assert _checks.states("name", np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    "value", ["text", b"bytes", None, object(), [[1.0], [1.0, 2.0]]]
)
def test_what_is_no_array_is_refused(value):
    refused(_checks.states, value, error=ArgumentTypeError)


def test_a_table_whose_columns_have_names_is_refused():
    table = pd.DataFrame(GOOD, columns=["z", "y", "x"])
    says = r"^name: expected an array, got a DataFrame: .* df\[\['x', 'y', 'z'\]\]\.to"
    for check in (_checks.states, partial(_checks.array, shape=(None, 3))):
        with pytest.raises(ArgumentTypeError, match=says):
            check("name", table)


def test_masked_values_are_refused_and_counted():
    masked = np.ma.masked_less(GOOD, 2.0)
    refused(
        _checks.states, masked, error=ArgumentTypeError, message="masked values, got 2"
    )
    assert _checks.states("name", np.ma.masked_less(GOOD, -1.0)).shape == (4, 3)


def test_tensors_pass_unless_they_carry_a_gradient():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(GOOD)
    np.testing.assert_array_equal(_checks.states("name", tensor), GOOD)
    tensor.requires_grad_(True)
    refused(
        _checks.states, tensor, error=ArgumentTypeError, message="detach the tensor"
    )


@settings(max_examples=50)
@given(st.integers(0, 3), st.integers(0, 2), st.sampled_from([NAN, INF, -INF]))
@pytest.mark.promise("N3", "count, member and component named")
def test_one_bad_value_is_located(row, column, bad):
    array = GOOD.copy()
    array[row, column] = bad
    refused(
        _checks.finite,
        array,
        error=ArgumentValueError,
        message=rf"got 1 that are not, the first at index \({row}, {column}\)",
    )


def test_scored_arrays_let_nan_through():
    array = _checks.array("name", [[1, 2, NAN]], shape=(None, 3))
    assert array.dtype == F64
    assert np.isnan(array[0, 2])
    refused(
        _checks.array,
        np.zeros((2, 3)),
        shape=(None, 2),
        error=ArgumentValueError,
        message=r"expected \(n, 2\), got \(2, 3\)",
    )
    refused(_checks.array, np.zeros(3), shape=(None, 3), error=ArgumentValueError)
    refused(_checks.array, np.zeros(3, complex), shape=(3,), error=ArgumentTypeError)


def test_batches_must_agree():
    _checks.batch("name", np.zeros((4, 5, 2)), (4, 5), "background")
    refused(
        _checks.batch,
        np.zeros((4, 2)),
        (5,),
        "background",
        error=ArgumentValueError,
        message=r"\(5,\) as in background, got \(4,\)",
    )


def test_float_dtypes():
    assert _checks.float_dtype("d", "float32") == np.float32
    for value in (int, "float16", "nonsense", 3.5):
        refused(_checks.float_dtype, value, error=ArgumentTypeError)


def output(value: object, source: np.ndarray = GOOD) -> np.ndarray:
    return _checks.output("name", value, (4, 3), F64, [source])


def test_outputs_that_fit_are_returned_themselves():
    out = np.empty((4, 3))
    assert output(out) is out
    view = np.empty((3, 4)).T
    assert output(view) is view


@pytest.mark.promise("B1", "table of `out`")
def test_outputs_that_do_not_fit_are_refused():
    frozen = np.empty((4, 3))
    frozen.setflags(write=False)
    misaligned = np.frombuffer(bytearray(97), offset=1).reshape(4, 3)
    doubled = np.lib.stride_tricks.as_strided(np.empty(3), (4, 3), (0, 8))
    cases = [
        (np.empty((3, 3)), "shape"),
        (np.empty((4, 3), np.float32), "float64, got float32"),
        (np.empty((4, 3), ">f8"), "float64"),
        (frozen, "read-only"),
        (misaligned, "misaligned"),
        (doubled, "no two entries at the same address"),
    ]
    for value, message in cases:
        with pytest.raises(ArgumentValueError, match=message):
            output(value)
    source = np.empty((8, 3))
    with pytest.raises(ArgumentValueError, match="overlaps the input"):
        output(source[2:6], source[:4])
    with pytest.raises(ArgumentTypeError):
        output([[0.0] * 3] * 4)


# Covariances


def covariance(value, **options):
    return _checks.covariance(
        "name", value, **{"size": 2, "dtype": F64, "shape": (5,), **options}
    )


def test_covariances_pass():
    one = covariance([[2, 1], [1, 2]])
    assert one.dtype == F64
    each = covariance(np.broadcast_to(np.eye(2), (5, 2, 2)))
    assert each.flags.c_contiguous
    assert covariance(np.eye(2), dtype=np.dtype(np.float32)).dtype == np.float32
    nearly = np.array([[1.0, 0.5 + 1e-11], [0.5, 1.0]])
    covariance(nearly)
    assert covariance(np.zeros((0, 2, 2)), shape=(0,)).shape == (0, 2, 2)
    for flat in (np.zeros((2, 2)), [[1, 1], [1, 1]], [[0, 0], [0, 3]]):
        covariance(flat, semidefinite=True)
    with pytest.raises(ArgumentValueError, match="positive semidefinite matrix, got"):
        covariance([[1, 0], [0, -1e-9]], semidefinite=True)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.eye(3), ArgumentValueError, r"expected \(2, 2\) or \(5, 2, 2\)"),
        (np.broadcast_to(np.eye(2), (4, 2, 2)), ArgumentValueError, "expected"),
        ([[1.0, 0.5], [0.4, 1.0]], ArgumentValueError, "symmetric.* up to 0.1"),
        ([[1.0, 2.0], [2.0, 1.0]], ArgumentValueError, "smallest eigenvalue -1"),
        ([[1.0, 1.0], [1.0, 1.0]], ArgumentValueError, "positive definite"),
        (np.zeros((2, 2)), ArgumentValueError, "positive definite"),
        ([[NAN, 0.0], [0.0, 1.0]], ArgumentValueError, "finite"),
        ([[1j, 0.0], [0.0, 1.0]], ArgumentTypeError, "real numbers"),
        ("eye", ArgumentTypeError, "array"),
    ],
)
def test_bad_covariances_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        covariance(value)


def test_a_covariance_is_checked_as_the_kernel_gets_it():
    float32 = np.dtype(np.float32)
    for tiny in (1e-50 * np.eye(2), np.diag([1.0, 1e-50])):
        covariance(tiny)
        message = "name: expected a positive definite matrix in float32, got smallest"
        with pytest.raises(ArgumentValueError, match=message):
            covariance(tiny, dtype=float32)
        covariance(tiny, dtype=float32, semidefinite=True)
    with pytest.raises(
        ArgumentValueError, match=r"name: .* within float32, got 1e\+50"
    ):
        covariance(1e50 * np.eye(2), dtype=float32)
    nearly_singular = [[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]]
    covariance(nearly_singular)
    with pytest.raises(ArgumentValueError, match="definite matrix in float32"):
        covariance(nearly_singular, dtype=float32)


def test_a_matrix_is_symmetric_by_its_own_measure():
    skew = [[1.0, 0.9], [-0.9, 1.0]]
    for large in (1e12 * np.eye(2), np.eye(2)):
        with pytest.raises(ArgumentValueError, match=r"symmetric.* up to 1\.8"):
            covariance([large, skew, large, large, large])
    negative = np.diag([1.0, -1e-9])
    with pytest.raises(ArgumentValueError, match="semidefinite matrix, got"):
        covariance([1e12 * np.eye(2), negative], shape=(2,), semidefinite=True)


@given(st.lists(st.floats(-1.0, 1.0), min_size=9, max_size=9), st.integers(-8, 8))
@settings(max_examples=200, deadline=None)
def test_only_positive_definite_matrices_pass(entries, exponent):
    matrix = np.reshape(entries, (3, 3))
    matrix = (matrix + matrix.T) * 10.0**exponent
    smallest = np.linalg.eigvalsh(matrix)[0]
    try:
        covariance(matrix, size=3)
    except ArgumentValueError:
        assert smallest <= 0
    else:
        assert smallest > 0


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("where", [(0, 0), (1, 1), (2, 2), (0, 2)])
def test_a_covariance_is_finite_wherever_one_looks(value, where):
    matrix = np.eye(3)
    matrix[where] = matrix[where[::-1]] = value
    with pytest.raises(ArgumentValueError, match="finite"):
        covariance(matrix, size=3)
