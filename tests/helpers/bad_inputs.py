"""What simulate, forecast and three_d_var do with bad and odd input, as a table.

Run as a script it makes every call, in a process that may crash without harm, and
prints a line of JSON per case.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from bad_calls import (
    STATES,
    Call,
    Case,
    analysis,
    as_contiguous,
    both,
    ended,
    folded,
    in_gaps,
    into_itself,
    is_background,
    last,
    misaligned,
    parameters,
    read_only,
    repeated,
    square,
    state,
    stored,
    with_value,
)
from l63fast import _checks
from l63fast._checks import values
from l63fast.assimilation.scheme import Status
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DivergenceError,
    MemoryLimitError,
)
from l63fast.lorenz63 import forecast

VE, TE, ME = ArgumentValueError, ArgumentTypeError, MemoryLimitError
NAN, INF = float("nan"), float("inf")
SKEW = np.eye(3) + 0.25 * np.eye(3, k=1)
TYPES = ["i8", "?", "c16", "O", "U3", "f2", "f8,f8"]
SIZES = [2**31, 2**32, 2**58]

INTEGRATION = [
    Case("shape (n,)", state(np.ones(4)), VE, r"expected (..., 3), got (4,)"),
    Case("shape ()", state(np.float64(1)), VE, r"expected (..., 3), got ()"),
    Case("last axis 2", state(np.ones((5, 2))), VE, "got (5, 2)"),
    Case("last axis 4", state(np.ones((5, 4))), VE, "got (5, 4)"),
    Case("n = 0", state(np.ones((0, 3))), holds=lambda r: r.size == 0),
    Case("n = 0, shape", stored(initial_state=np.ones((0, 3))),
         holds=lambda r: r.shape == (0, 11, 3)),
    Case("float32 stays", state(np.ones((4, 3), "f4")),
         holds=lambda r: r.dtype == np.float32),
    *[Case(f"dtype {t}", state(np.zeros((4, 3), t)), TE, "expected float64 or float32")
      for t in TYPES],
    Case("a list of int", state([[1, 2, 3]]), holds=lambda r: r.dtype == np.float64),
    Case("a list of words", state([["1", "2", "3"]]), TE, "got <U1"),
    Case("a ragged list", state([[1, 2, 3], [4]]), TE, "expected an array of floats"),
    Case("a list with NaN", state([[1, NAN, 3]]), VE, "the first at index (0, 1)"),
    Case("a string", state("abc"), TE, "expected an array, got 'abc'"),
    Case("None", state(None), TE, "expected an array of floats, got None"),
    Case("dtype asked for", both(dtype="float32"), TE, "expected float32, got float64"),
    Case("dtype int8", both(dtype="int8"), TE, "dtype: expected float64 or float32"),
    Case("dtype unknown", both(dtype="rubbish"), TE, "dtype: expected float64 or"),
    Case("big-endian", state(STATES.astype(">f8")), holds=as_contiguous),
    Case("Fortran order", state(np.asfortranarray(STATES)), holds=as_contiguous),
    Case("strided", state(in_gaps(STATES)), holds=as_contiguous),
    Case("reversed", state(STATES[::-1].copy()[::-1]), holds=as_contiguous),
    Case("misaligned", state(misaligned(STATES)), holds=as_contiguous),
    Case("broadcast, stride 0", state(repeated(4)),
         holds=lambda r: len(np.unique(r[:, -1])) <= 3),
    Case("torch CPU tensor", state(torch.from_numpy(STATES.copy())),
         holds=as_contiguous),
    Case("requires_grad", state(torch.ones(2, 3, requires_grad=True)), TE,
         "otherwise detach"),
    Case("masked values", state(np.ma.masked_equal(STATES, STATES[1, 1])), TE,
         "expected no masked values, got 1"),
    Case("mask without masked values", state(np.ma.masked_array(STATES)),
         holds=as_contiguous),
    Case("out read-only", stored(out=read_only((4, 11, 3))), VE, "writeable"),
    Case("out of wrong shape", stored(out=np.ones((4, 11, 2))), VE,
         "out: expected shape (4, 11, 3), got (4, 11, 2)"),
    Case("out of wrong dtype", stored(out=np.ones((4, 11, 3), "f4")), VE, "float32"),
    Case("out big-endian", stored(out=np.ones((4, 11, 3), ">f8")), VE, "got >f8"),
    Case("out overlaps the input", [into_itself], VE, "overlaps the input"),
    Case("out overlaps itself", stored(out=folded()), VE, "no two entries at the same"),
    Case("out misaligned", stored(out=misaligned(np.ones((4, 11, 3)))), VE, "aligned"),
    Case("out no array", stored(out=[[1.0]]), TE, "out: expected ndarray, got list"),
    Case("NaN at member 3", state(with_value((3, 1), NAN)), VE,
         "expected finite values, got 1 that are not, the first at index (3, 1) (nan)"),
    Case("infinity at member 3", state(with_value((3, 0), INF)), VE, "(3, 0) (inf)"),
    Case("1e200", state(with_value((3, 0), 1e200)), DivergenceError, "members [3]"),
    Case("1e-310 is not flushed", last(state=np.array([0, 0, 1e-310]), n_steps=1),
         holds=lambda r: 0.97e-310 < r[2] < 0.98e-310),
    Case("-0.0 in entry 0", stored(initial_state=np.full(3, -0.0)),
         holds=lambda r: bool(np.signbit(r[0]).all())),
    Case("dt 0", both(dt=0), VE, "dt: expected a number above 0, got 0.0"),
    Case("dt negative", both(dt=-0.01), VE, "dt: expected a number above 0"),
    Case("dt NaN", both(dt=NAN), VE, "dt: expected a finite number, got nan"),
    Case("dt infinite", both(dt=INF), VE, "dt: expected a finite number"),
    Case("dt a string", both(dt="0.01"), TE, "dt: expected a real number, got '0.01'"),
    Case("dt None", both(dt=None), TE, "dt: expected a real number, got None"),
    Case("dt wrong yet finite", both(dt=0.12), VE, "dt: expected at most 0.1"),
    Case("n_steps -1", both(n_steps=-1), VE, "n_steps: expected at least 0, got -1"),
    Case("n_steps 0, stored", stored(n_steps=0),
         holds=lambda r: np.array_equal(r, STATES[:, None])),
    Case("n_steps 0", last(n_steps=0), holds=lambda r: np.array_equal(r, STATES)),
    Case("n_steps 1.5", both(n_steps=1.5), TE, "n_steps: expected an integer, got 1.5"),
    Case("n_steps True", both(n_steps=True), TE, "n_steps: expected an integer"),
    Case("n_steps a string", both(n_steps="3"), TE, "n_steps: expected an integer"),
    Case("n_steps np.int64", both(n_steps=np.int64(10)), holds=as_contiguous),
    Case("n_steps 2**63", both(n_steps=2**63), VE, "n_steps: expected at most"),
    Case("save_every 0", stored(save_every=0), VE, "save_every: expected at least 1"),
    Case("save_every 3 of 10", stored(save_every=3), VE,
         "save_every: expected a divisor of n_steps = 10, got 3"),
    *[Case(f"{n} steps stored", stored(initial_state=np.ones(3), n_steps=n), ME)
      for n in (*SIZES, 2**61, 2**63 - 1)],
    *[Case(f"{n} members", state(repeated(n)), ME) for n in SIZES],
    Case("n_threads 0", both(n_threads=0), VE, "n_threads: expected at least 1"),
    Case("n_threads -1", both(n_threads=-1), VE, "n_threads: expected at least 1"),
    Case("n_threads 1.5", both(n_threads=1.5), TE, "n_threads: expected an integer"),
    Case("n_threads 100000", both(n_threads=100_000), holds=as_contiguous),
    Case("n_threads 100000, really started",
         last(state=np.ones((100_000, 3)), n_steps=100, n_threads=100_000),
         holds=lambda r: r.shape == (100_000, 3)),
    *[Case(f"{name} {value}", parameters(**{name: value}), VE,
           f"{name}: expected a finite number")
      for name in ("sigma", "rho", "beta") for value in (NAN, INF)],
    Case("sigma a string", parameters(sigma="10"), TE, "sigma: expected a real number"),
    Case("parameters a string", both(parameters="28"), TE, "expected Lorenz63"),
    Case("two parameters", both(parameters=(10, 28)), VE, "expected (..., 3)"),
    Case("unknown backend", both(backend="fortran"), VE, "one of auto, cpp, numba"),
    Case("backend None", both(backend=None), TE, "one of auto, cpp, numba, got None"),
    Case("on_divergence", both(on_divergence="clip"), VE, "one of raise, nan"),
    Case("allow_large_dt 1", both(allow_large_dt=1), TE, "expected True or False"),
]  # fmt: skip

THREE_D_VAR = [
    Case("B not symmetric", analysis(B=SKEW), VE, "B: expected a symmetric matrix, got "
         "entries that differ from their transposes by up to 0.25"),
    Case("B negative", analysis(B=-np.eye(3)), VE, "smallest eigenvalue -1"),
    Case("B singular", analysis(B=np.zeros((3, 3))), VE, "smallest eigenvalue 0"),
    Case("B with NaN", analysis(B=np.full((3, 3), NAN)), VE, "B: expected finite"),
    Case("B with infinity", analysis(B=np.diag([1, 1, INF])), VE, "B: expected finite"),
    Case("B of wrong size", analysis(B=np.eye(2)), VE, "B: expected (3, 3) or"),
    Case("B for another batch", analysis(B=np.ones((5, 3, 3))), VE, "got (5, 3, 3)"),
    Case("one B of four not definite", analysis(
        B=np.eye(3) * np.array([1, 1, -2, 1])[:, None, None]), VE, "eigenvalue -2"),
    Case("B a string", analysis(B="one"), TE, "B: expected"),
    Case("B complex", analysis(B=np.eye(3) * 1j), TE, "B: expected real numbers"),
    Case("R not symmetric", analysis(R=SKEW[:2, :2]), VE, "R: expected a symmetric"),
    Case("R negative", analysis(R=-np.eye(2)), VE, "R: expected a positive definite"),
    Case("R with NaN", analysis(R=np.full((2, 2), NAN)), VE, "R: expected finite"),
    Case("R a number", analysis(R=2), holds=ended(Status.CONVERGED)),
    Case("R 0", analysis(R=0.0), VE, "R: expected a positive definite matrix"),
    Case("R of variances", analysis(R=[1.0, 2.0]), VE, "R: expected (2, 2)"),
    Case("R of another obs_dim", analysis(R=np.eye(3)), VE, "R: expected (2, 2)"),
    Case("obs_dim", analysis(observation=np.ones((4, 3))), VE, "expected (..., 2)"),
    Case("batch sizes", analysis(observation=np.ones((5, 2))), VE,
         "observation: expected leading shape (4,) as in background, got (5,)"),
    Case("y with NaN", analysis(observation=with_value((3, 1), NAN, (4, 2))), VE,
         "observation: expected finite values, got 1"),
    Case("y in float32", analysis(observation=np.ones((4, 2), "f4")), TE, "float64"),
    Case("x_b infinite", analysis(background=np.full((4, 3), INF)), VE, "got 12 that"),
    *[Case(f"unknown operator {name!r}", analysis(operator=name), VE,
           "operator: expected x, y, z in that order")
      for name in ("yx", "x5", "x0", "xx", "", "w", "X", "x-1", "x22")],
    Case("operator 3", analysis(operator=3), TE, "operator: expected a name"),
    Case("x2 with x_b = 0", square(background=np.zeros((4, 3))),
         holds=ended(Status.CONVERGED)),
    Case("x2 with y < 0", square(observation=np.full((4, 1), -9.0)),
         holds=ended(Status.CONVERGED)),
    Case("tol 0", square(tol=0), VE, "tol: expected a number above 0"),
    Case("tol negative", square(tol=-1e-3), VE, "tol: expected a number above 0"),
    Case("tol NaN", square(tol=NAN), VE, "tol: expected a finite number"),
    Case("tol 1e-300", square(tol=1e-300), holds=ended(Status.MAX_ITER)),
    Case("max_iter 0", square(max_iter=0), holds=is_background),
    Case("max_iter 0, status", analysis(max_iter=0), holds=ended(Status.MAX_ITER)),
    Case("max_iter negative", square(max_iter=-1), VE, "max_iter: expected at least 0"),
    Case("max_iter 2.5", square(max_iter=2.5), TE, "max_iter: expected an integer"),
    Case("max_iter 2**31", square(max_iter=2**31), VE, "max_iter: expected at most"),
    Case("an outlier of 1e150", square(
        observation=np.array([[9], [9], [1e150], [9]])),
        holds=lambda r: r.state[[0, 1]].tobytes() == r.state[[1, 3]].tobytes()),
    Case("empty batch", square(background=np.ones((0, 3)), observation=np.ones((0, 1))),
         holds=lambda r: r.state.shape == (0, 3) and r.status.shape == (0,)),
    *[Case(f"{n} samples", square(background=repeated(n), observation=repeated(n, 1)),
           ME) for n in SIZES],
    Case("n_threads -1", square(n_threads=-1), VE, "n_threads: expected at least 1"),
    Case("n_threads 100000", square(n_threads=100_000), holds=ended(Status.CONVERGED)),
    Case("multi_start 1", square(multi_start=1), TE, "expected True or False"),
    Case("unknown backend", square(backend="c"), VE, "one of auto, cpp, numba"),
]  # fmt: skip

CASES = {
    **{f"integration: {case.clause}": case for case in INTEGRATION},
    **{f"three_d_var: {case.clause}": case for case in THREE_D_VAR},
}


def outcome(made: Call, case: Case, backend: str) -> dict[str, Any]:
    """Return what one call did: how it ended, what it said, how long it took."""
    began = time.thread_time()  # a loaded machine may not schedule us
    try:
        result = made(backend)
    except Exception as error:
        seconds = time.thread_time() - began
        names = [kind.__name__ for kind in type(error).__mro__]
        return {"ended": names, "said": str(error), "seconds": seconds}
    good = case.holds is not None and bool(case.holds(result))
    return {"ended": ["result"], "said": "as promised" if good else repr(result)}


def main(names: Iterable[str]) -> None:
    # The same machine everywhere: 2**31 states must not fit, nor be tried.
    values._available_in_machine = lambda: 2**33
    assert _checks.available_memory() <= 2**33
    for backend in ("cpp", "numba"):
        forecast(STATES, 1, backend=backend)  # what is loaded once is loaded now
    for name in names:
        if name == "crash":
            os.abort()
        case = CASES[name]
        done = [
            {"backend": backend, **outcome(made, case, backend)}
            for backend in ("cpp", "numba")
            for made in case.calls
        ]
        print(json.dumps({"case": name, "outcomes": done}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
