"""The ceilings: the loops do the work they report, at every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast import _core
from l63fast._kernels import cpp, load_kernels
from l63fast._kernels.limits import (
    WRITES,
    MachineLimits,
    instruction_work,
    machine_limits,
    register_lanes,
    write_work,
)
from l63fast.errors import ArgumentValueError, BackendError, MemoryLimitError

LEVELS = cpp.levels()
KINDS = cpp.INSTRUCTIONS


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("single", [False, True])
def test_the_count_of_instructions_grows_with_the_rounds(level, kind, single) -> None:
    kernels = load_kernels("cpp", level=level)
    counts = [
        kernels.instructions(kind, single=single, rounds=rounds) for rounds in (1, 2, 7)
    ]
    assert counts[0] > 0
    assert counts == [counts[0], 2 * counts[0], 7 * counts[0]]


@pytest.mark.parametrize("level", [v for v in LEVELS if v.endswith(("v3", "v4"))])
def test_a_round_of_rk4_is_its_41_instructions_on_every_chain(level) -> None:
    kernels = load_kernels("cpp", level=level)
    a_step = kernels.instructions("rk4", single=False, rounds=1)
    assert a_step == 41 * kernels.instructions("add", single=False, rounds=1)


@pytest.mark.parametrize("level", LEVELS)
def test_register_lanes_are_those_of_the_level(level) -> None:
    expected = {"x86-64-v3": 4, "x86-64-v4": 8}
    assert register_lanes(level) == expected.get(level, 2)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", WRITES)
def test_a_write_fills_all_of_its_memory(level, kind, monkeypatch) -> None:
    filled: list[np.ndarray] = []
    kernels = load_kernels("cpp", level=level)
    original = type(kernels).fill

    def watched(self, out, *, non_temporal):
        out[:] = -1.0
        original(self, out, non_temporal=non_temporal)
        filled.append(out)
        assert non_temporal == (kind == "stream")

    monkeypatch.setattr(type(kernels), "fill", watched)
    work = write_work(kind, 10 * 4096 + 63, level=level)
    work.run()
    (out,) = filled
    assert out.nbytes == work.amount == 10 * 4096
    assert out.ctypes.data % 64 == 0
    assert np.unique(out).tolist() == [1.5]


def test_fresh_memory_is_new_at_every_call() -> None:
    work = write_work("fresh_4k", 2**20)
    first, second = work.run(), work.run()
    assert isinstance(first, np.ndarray)
    assert isinstance(second, np.ndarray)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    "wrong", [np.zeros(9), np.zeros(32)[1:9], np.zeros(16)[::2], np.zeros(8, "f4")]
)
def test_memory_that_is_not_whole_lines_is_refused(wrong) -> None:
    with pytest.raises((ValueError, TypeError)):
        _core.fill(wrong, True, _core.levels()[-1])


def test_machine_limits_are_rates_that_make_sense_together() -> None:
    limits = machine_limits(n_bytes=2**20, seconds=0.05)
    assert isinstance(limits, MachineLimits)
    assert limits.level == LEVELS[-1]
    rates = [getattr(limits, kind) for kind in (*KINDS, *WRITES)]
    assert all(rate > 1e6 for rate in rates)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(BackendError, match="level"):
        machine_limits(level="x86-64-v9", n_bytes=64, seconds=0.0)
    with pytest.raises(ArgumentValueError, match="kind: expected one of fma"):
        instruction_work("sqrt")
    with pytest.raises(ArgumentValueError, match="kind: expected one of stream"):
        write_work("slowly", 64)
    with pytest.raises(ArgumentValueError, match="n_bytes: expected at least 64"):
        write_work("stream", 63)
    with pytest.raises(MemoryLimitError, match="n_bytes: needs"):
        write_work("stream", 2**60)
