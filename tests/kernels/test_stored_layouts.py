"""Storing every step: any layout and place, streamed or not, and no byte beside it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import golden
from l63fast._kernels import IntegrateJob, Kernels, cpp, load_kernels
from l63fast.lorenz63 import Lorenz63, simulate

PARAMETERS = Lorenz63().as_tuple()
MOST, LONGEST = 330, 60
NEVER, ALWAYS = 2**62, 0  # sizes in bytes from which outputs are streamed


@cache
def trajectories(dtype: type, every: int = 1) -> np.ndarray:
    """Numba's result, member by member independent of the batch."""
    out = np.empty((MOST, LONGEST, 3), dtype)
    states = golden.states(MOST, dtype)
    integrate(load_kernels("numba"), states, out, every)
    return out


def integrate(
    kernels: Kernels,
    states: np.ndarray,
    out: np.ndarray,
    every: int = 1,
    n_threads: int = 1,
) -> int:
    job = IntegrateJob(states, out, every, 0.01, PARAMETERS)
    return kernels.integrate(job, n_threads)


def _rows(n: int, n_saved: int, gap: int, buffer: np.ndarray) -> np.ndarray:
    rows = buffer[: n_saved * (3 * n + gap)].reshape(n_saved, 3 * n + gap)
    return rows[:, : 3 * n].reshape(n_saved, n, 3).transpose(1, 0, 2)


def _trajectories(n: int, n_saved: int, gap: int, buffer: np.ndarray) -> np.ndarray:
    paths = buffer[: n * (3 * n_saved + gap)].reshape(n, 3 * n_saved + gap)
    return paths[:, : 3 * n_saved].reshape(n, n_saved, 3)


# How an (n, n_saved, 3) array lies in a buffer of numbers.
LAYOUTS: dict[str, Callable[[int, int, np.ndarray], np.ndarray]] = {
    "trajectories": lambda n, k, b: _trajectories(n, k, 0, b),
    "trajectories apart": lambda n, k, b: _trajectories(n, k, 3 + n % 7, b),
    "trajectories backwards": lambda n, k, b: _trajectories(n, k, 0, b)[::-1],
    "every other trajectory": lambda n, k, b: _trajectories(2 * n, k, 0, b)[::2],
    "rows": lambda n, k, b: _rows(n, k, 0, b),
    "rows apart": lambda n, k, b: _rows(n, k, 1 + n % 9, b),
    "rows of whole lines": lambda n, k, b: _rows(n, k, -3 * n % 16, b),
    "rows backwards": lambda n, k, b: _rows(n, k, 0, b)[::-1],
    "time backwards": lambda n, k, b: _rows(n, k, 0, b)[:, ::-1],
    "components apart": lambda n, k, b: (
        b[: 3 * k * n].reshape(3, k, n).transpose(2, 1, 0)
    ),
}


def cases(layout: str) -> Iterator[tuple[int, int, int]]:
    """Members, saved states and place in a cache line: every size, places in turn."""
    lengths = (1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 48, 57, 60)
    sizes = (*range(1, 71), 127, 128, 129, 161, 255, 256, 257, 320, MOST)
    for i, n in enumerate(sizes):
        yield n, lengths[i % len(lengths)], i * 5 % 16
        yield n, lengths[i * 7 % len(lengths)], i * 11 % 16


@pytest.fixture(params=cpp.levels())
def level(request: pytest.FixtureRequest) -> str:
    return request.param


def kernels(level: str, streamed_from: int) -> Kernels:
    found = load_kernels("cpp", level=level)
    assert isinstance(found, cpp.CppKernels)
    return replace(found, streamed_from=streamed_from)


@pytest.mark.parametrize("streamed_from", [ALWAYS, NEVER], ids=["streamed", "stored"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gets_the_same_bits_and_its_neighbours_stay(
    level: str, dtype: type, layout: str, streamed_from: int
) -> None:
    found = kernels(level, streamed_from)
    expected = trajectories(dtype)
    states = golden.states(MOST, dtype)
    guard = dtype(-12345.5)
    space = np.empty(2 * MOST * (3 * LONGEST + 16) + 64, dtype)
    start = -space.ctypes.data % 64 // space.itemsize
    for n, n_saved, place in cases(layout):
        size = 2 * n * (3 * n_saved + 16) + 16 * n_saved
        buffer = space[start : start + place + size + 16][: len(space) - start]
        buffer[:] = guard
        out = LAYOUTS[layout](n, n_saved, buffer[place:])
        assert integrate(found, states[:n].copy(), out) == 0
        written = buffer.copy()
        buffer[:] = guard
        out[:] = expected[:n, :n_saved]
        assert written.tobytes() == buffer.tobytes(), (n, n_saved, place)


@pytest.mark.parametrize("layout", ["trajectories", "rows", "rows of whole lines"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_diverged_members_are_found_in_streamed_output(
    level: str, dtype: type, layout: str
) -> None:
    states = golden.states(MOST, dtype)
    bad = [0, 3, 64, 199, 327, 329]
    states[bad] = 1e19 if dtype is np.float32 else 1e200
    space = np.empty(2 * MOST * (3 * LONGEST + 16), dtype)
    out = LAYOUTS[layout](MOST, LONGEST, space[5:])
    assert integrate(kernels(level, ALWAYS), states, out) == len(bad)
    expected = np.empty((MOST, LONGEST, 3), dtype)
    integrate(load_kernels("numba"), states, expected)
    assert np.ascontiguousarray(out).tobytes() == expected.tobytes()


@pytest.mark.parametrize("layout", ["trajectories", "rows", "rows apart"])
@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_share_streamed_output(layout: str, n_threads: int) -> None:
    n, n_saved, every = 1013, 25, 100  # more steps than run without a thread
    states = golden.states(n, np.float64)
    expected = np.empty((n, n_saved, 3))
    best = cpp.levels()[-1]
    integrate(kernels(best, NEVER), states, expected, every)
    out = LAYOUTS[layout](n, n_saved, np.empty(2 * n * (3 * n_saved + 16)))
    integrate(kernels(best, ALWAYS), states, out, every, n_threads)
    assert np.ascontiguousarray(out).tobytes() == expected.tobytes()


def test_an_output_larger_than_the_caches_equals_its_parts() -> None:
    states = golden.states(1013, np.float64)
    whole = simulate(states, 400)
    assert whole.nbytes > load_kernels("cpp").streamed_from
    time_major = np.empty((401, 1013, 3)).transpose(1, 0, 2)
    simulate(states, 400, out=time_major)
    parts = [simulate(part, 400) for part in np.array_split(states, 40)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    assert np.ascontiguousarray(time_major).tobytes() == whole.tobytes()
    assert whole.flags.owndata
    assert whole.flags.writeable
    assert np.array_equal(pickle.loads(pickle.dumps(whole)), whole)
