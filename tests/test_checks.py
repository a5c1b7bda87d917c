"""Argument checks: what passes, what is refused, and what the message says."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l63fast import _checks
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    L63Error,
    MemoryLimitError,
)

NAN, INF = float("nan"), float("inf")
F64 = np.dtype(np.float64)
GOOD = np.arange(12.0).reshape(4, 3)


def refused(check, *arguments, error, message="name", **options) -> None:
    with pytest.raises(error, match=message) as caught:
        check("name", *arguments, **options)
    assert str(caught.value).startswith("name"), "the message names the argument"
    assert isinstance(caught.value, L63Error)


# Scalars


@pytest.mark.parametrize("value", [0, 5, np.int64(5), np.uint8(5), 2**62])
def test_counts_pass_as_int(value):
    assert _checks.count("n", value) == value
    assert type(_checks.count("n", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 1.0, 1.5, "1", None, NAN, [1], 1j])
def test_a_count_is_an_integer(value):
    refused(_checks.count, value, error=ArgumentTypeError, message="an integer")


def test_counts_have_bounds():
    refused(_checks.count, -1, error=ArgumentValueError, message="at least 0, got -1")
    refused(_checks.count, 0, minimum=1, error=ArgumentValueError, message="at least 1")
    refused(_checks.count, 9, maximum=8, error=ArgumentValueError, message="at most 8")
    refused(_checks.count, 2**62 + 1, error=ArgumentValueError, message="at most")


@pytest.mark.parametrize("value", [-1, 2**63])
def test_seeds_have_bounds(value):
    refused(_checks.seed, value, error=ArgumentValueError)
    assert _checks.seed("seed", 2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize("value", [1, 1.5, np.float32(0.5), np.float64(2), np.int8(1)])
def test_reals_pass_as_float(value):
    assert _checks.real("a", value) == float(value)
    assert type(_checks.real("a", value)) is float


@pytest.mark.parametrize("value", ["0.01", None, True, 1j, [1.0], np.ones(1)])
def test_a_real_is_a_number(value):
    refused(_checks.real, value, error=ArgumentTypeError, message="a real number")


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (NAN, {}, "a finite number, got nan"),
        (INF, {"minimum": 0.0}, "a finite number"),
        (-INF, {"maximum": 0.0}, "a finite number"),
        (-0.1, {"minimum": 0.0}, "at least 0, got -0.1"),
        (0.0, {"above": 0.0}, "a number above 0"),
        (1.1, {"maximum": 1.0}, "at most 1"),
    ],
)
def test_reals_have_bounds(value, bounds, message):
    refused(_checks.real, value, error=ArgumentValueError, message=message, **bounds)


@given(st.floats(min_value=0.0, max_value=1e300))
def test_a_real_within_its_bounds_is_returned_exactly(value):
    assert _checks.real("a", value, minimum=0.0) == value


@pytest.mark.parametrize("value", [0, 1, "yes", None, np.int64(1), [True]])
def test_only_true_and_false_are_booleans(value):
    refused(_checks.boolean, value, error=ArgumentTypeError, message="True or False")
    assert _checks.boolean("b", np.True_) is True


def test_choices_name_what_is_allowed():
    assert _checks.choice("c", "a", ["a", "b"]) == "a"
    refused(_checks.choice, "c", ["a", "b"], error=ArgumentValueError, message="a, b")
    refused(_checks.choice, 3, ["a", "b"], error=ArgumentTypeError, message="a, b")
    refused(
        _checks.choice, None, {"a": 1}, error=ArgumentTypeError, message="of a, got"
    )


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ArgumentValueError) as caught:
        _checks.path("p", "x\n" * 500)
    assert len(str(caught.value)) < 200


def test_generators_and_seeds():
    rng = np.random.default_rng(0)
    assert _checks.generator("rng", rng) is rng
    assert _checks.generator("rng", 3).random() == np.random.default_rng(3).random()
    refused(_checks.generator, -1, error=ArgumentValueError)
    for value in (None, 1.0, True, "seed", np.random.RandomState(0)):
        refused(_checks.generator, value, error=ArgumentTypeError)


def test_instances():
    _checks.instance("p", Path("a"), Path)
    refused(
        _checks.instance, "a", Path, error=ArgumentTypeError, message="Path, got str"
    )


def test_threads():
    assert _checks.threads("n", None) == len(os.sched_getaffinity(0))
    assert _checks.threads("n", 2) == 2
    assert _checks.threads("n", 100_000) == _checks.MAX_THREADS
    refused(_checks.threads, 0, error=ArgumentValueError)
    refused(_checks.threads, -1, error=ArgumentValueError)
    refused(_checks.threads, 1.5, error=ArgumentTypeError)


@pytest.mark.parametrize("dt", [0.0, -0.01, NAN, INF, 0.1000001, 0.12, 0.25, 1.0])
def test_bad_time_steps_are_refused(dt):
    refused(_checks.time_step, dt, allow_large=False, error=ArgumentValueError)


def test_time_steps_that_deserve_a_warning():
    assert _checks.time_step("dt", 0.05, allow_large=False) == (0.05, False)
    assert _checks.time_step("dt", 0.051, allow_large=False) == (0.051, True)
    assert _checks.time_step("dt", 0.1, allow_large=False) == (0.1, True)
    assert _checks.time_step("dt", 0.12, allow_large=True) == (0.12, True)
    refused(_checks.time_step, "0.01", allow_large=True, error=ArgumentTypeError)


# Arrays


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
    refused(_checks.states, tensor, error=ArgumentTypeError, message="detach first")


@settings(max_examples=50)
@given(st.integers(0, 3), st.integers(0, 2), st.sampled_from([NAN, INF, -INF]))
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
        (doubled, "no two entries in one place"),
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


# Memory, paths, names


def test_memory_is_asked_for_before_work(monkeypatch):
    free = _checks.available_memory()
    assert free > 2**20
    _checks.memory("n", 2**20)
    refused(
        _checks.memory, 2**61, error=MemoryLimitError, message=f"needs {2**61} bytes"
    )
    with pytest.raises(MemoryError):
        _checks.memory("n", 10**30)


def test_the_memory_of_a_container_counts(monkeypatch):
    lines = {
        "/proc/meminfo": ["MemAvailable: 8388608 kB"],
        "/sys/fs/cgroup/memory.max": [str(3 * 2**30)],
        "/sys/fs/cgroup/memory.current": [str(2**30)],
    }
    module = importlib.import_module("l63fast._checks.memory")
    monkeypatch.setattr(module, "_lines", lambda path: lines.get(path, []))
    assert _checks.available_memory() == 2 * 2**30
    lines["/sys/fs/cgroup/memory.max"] = ["max"]
    assert _checks.available_memory() == 8 * 2**30


def test_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert _checks.path("p", "~/a b/ü") == Path("/somewhere/a b/ü")
    assert _checks.path("p", Path("a")) == Path("a")
    for value in ("", "  ", "a\nb", "a\0b", "~nobody-by-this-name/x"):
        refused(_checks.path, value, error=ArgumentValueError)
    for value in (None, 3, b"a", ["a"]):
        refused(_checks.path, value, error=ArgumentTypeError)


@pytest.mark.parametrize(
    "value",
    ["", " ", ".", "..", "../x", "a/b", "/", "a\nb", "a\0", "x" * 300, "é" * 101],
)
def test_bad_file_names_are_refused(value):
    refused(_checks.file_name, value, error=ArgumentValueError)


def test_good_file_names_pass():
    for value in ("gru_xy", "mit Raum", "ü", ".hidden", "x" * 200):
        assert _checks.file_name("name", value) == value
    refused(_checks.file_name, Path("a"), error=ArgumentTypeError)
