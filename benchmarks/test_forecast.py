"""Forecast: the final state of an ensemble, nothing stored in between."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import pytest

from benchmarks.levels import levels
from benchmarks.peers import jax_loops, numba_loops, solvers, stepwise
from benchmarks.rows import Goal, Rival
from l63fast._kernels.limits import instruction_work, register_lanes
from l63fast.experiments.speed import DT, STEP_INSTRUCTIONS
from l63fast.lorenz63 import forecast

N_STEPS: Final = 1_000  # of the long calls
N_SHORT: Final = 10
N_MEMBERS_SHORT: Final = 4_096
N_PEER_STEPS: Final = 100
N_PEER_MEMBERS: Final = 50_000
PEERS: Final = [
    *numba_loops.FORECAST,
    *solvers.FORECAST,
    *jax_loops.FORECAST,
    *stepwise.FORECAST,
]
MODERN: Final = [level for level in levels() if level.endswith(("v3", "v4"))]

run = partial(forecast, dt=DT, n_threads=1)


def same_bits(final: np.ndarray, states: np.ndarray, n_steps: int) -> bool:
    """Whether the first members are what Numba makes of them, bit for bit."""
    some = states[:500]
    return final[:500].tobytes() == run(some, n_steps, backend="numba").tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("level", MODERN)
def test_long_calls(timed, record, instruction_set, states, level, dtype):
    instruction_set(level)
    single = dtype == np.float32
    lanes = register_lanes(level) * (2 if single else 1)
    members = states.astype(dtype)
    works = {
        kind: instruction_work(kind, level=level, single=single)
        for kind in ("fma", "rk4")
    }
    done = timed(
        lambda: run(members, N_STEPS, backend="cpp"),
        **{kind: work.run for kind, work in works.items()},
    )
    assert same_bits(done.result, members, N_STEPS)
    rate = members.shape[0] * N_STEPS / done.seconds
    for kind, name, goal in (
        ("fma", "41 instructions at the fma rate", 0.88),
        ("rk4", "the same with additions in pipes of their own", 0.0),
    ):
        ceiling = works[kind].amount / done.against[kind] * lanes / STEP_INSTRUCTIONS
        what = f"forecast, {np.dtype(dtype).name}, {level}"
        record(Goal(what, rate, "steps/s", ceiling, name, goal))


def test_short_calls(timed, record, states):
    few = states[:N_MEMBERS_SHORT]

    def calls() -> np.ndarray:
        """Make the steps of one long call by calls in a row, as filters do."""
        for _ in range(N_STEPS // N_SHORT):
            final = run(few, N_SHORT)
        return final

    # One call alone, after 50 ms of anything else, even of sleep, finds cold caches:
    # on a Xeon it takes three times as long as in a row.
    done = timed(calls, long=lambda: run(few, N_STEPS))
    assert same_bits(done.result, few, N_SHORT)
    n = len(few) * N_STEPS
    short, long = n / done.seconds, n / done.against["long"]
    what = f"forecast, {N_SHORT} steps a call on {N_MEMBERS_SHORT:,} members"
    record(Goal(what, short, "steps/s", long, f"{N_STEPS:,} steps a call", 0.8))


@pytest.mark.skipif(not levels(), reason="the C++ extension is not installed")
def test_numba_fallback(timed, record, states):
    done = timed(
        lambda: run(states, N_PEER_STEPS, backend="numba"),
        cpp=lambda: run(states, N_PEER_STEPS, backend="cpp"),
    )
    assert done.result.tobytes() == run(states, N_PEER_STEPS).tobytes()
    amount = len(states) * N_PEER_STEPS
    rates = amount / done.seconds, amount / done.against["cpp"]
    what = "forecast, Numba fallback, defaults"
    record(Goal(what, rates[0], "steps/s", rates[1], "C++", 0.65))


def test_two_threads(timed, record, all_cores, states):
    if all_cores < 2:
        pytest.skip("there is one core")
    done = timed(
        lambda: run(states, N_STEPS, n_threads=2), one=lambda: run(states, N_STEPS)
    )
    assert same_bits(done.result, states, N_STEPS)
    amount = len(states) * N_STEPS
    rates = amount / done.seconds, amount / done.against["one"]
    record(Goal("forecast, two threads", rates[0], "steps/s", rates[1], "one", 1.9))


@pytest.mark.peer
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer(timed, record, states, peer):
    function = peer.made(N_PEER_STEPS, DT)
    members = states[: min(N_PEER_MEMBERS, peer.n_members)]
    reference = run(members, N_PEER_STEPS)
    np.testing.assert_allclose(function(members), reference, rtol=0, atol=peer.atol)
    ours = states[:N_PEER_MEMBERS]
    done = timed(lambda: function(members), ours=lambda: run(ours, N_PEER_STEPS))
    rate = len(members) * N_PEER_STEPS / done.seconds
    our_rate = len(ours) * N_PEER_STEPS / done.against["ours"]
    group = f"Final state, {N_PEER_STEPS} steps of {N_PEER_MEMBERS:,} members"
    record(Rival(group, peer.name, rate, "steps/s", our_rate / rate))
