"""Simulate: every state of an ensemble, in an array that is used again or a new one."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import pytest

from benchmarks.levels import levels
from benchmarks.peers import jax_loops, numba_loops, solvers, stepwise
from benchmarks.rows import Goal, Rival
from l63fast._kernels.limits import write_work
from l63fast.experiments.speed import DT, STEP_BYTES
from l63fast.lorenz63 import simulate

N_STEPS: Final = 800
N_MEMBERS: Final = 10_240
N_PEER_STEPS: Final = 400
N_PEER_MEMBERS: Final = 8_192
PEERS: Final = [
    *numba_loops.SIMULATE,
    *solvers.SIMULATE,
    *jax_loops.SIMULATE,
    *stepwise.SIMULATE,
]
MODERN: Final = [level for level in levels() if level.endswith(("v3", "v4"))]

run = partial(simulate, dt=DT, n_threads=1)


@pytest.fixture(scope="module")
def members(states):
    return np.ascontiguousarray(states[:N_MEMBERS])


def same_bits(trajectory: np.ndarray, members: np.ndarray, n_steps: int) -> bool:
    """Whether the first members are what Numba makes of them, bit for bit."""
    some = run(members[:100], n_steps, backend="numba")
    return trajectory[:100].tobytes() == some.tobytes()


def measured(timed, members, out, work):
    """Return the rate of storing every state, that of the writes, and the result."""
    done = timed(lambda: run(members, N_STEPS, out=out), limit=work.run)
    rate = len(members) * N_STEPS / done.seconds
    return rate, work.amount / done.against["limit"] / STEP_BYTES, done.result


@pytest.mark.parametrize(
    ("order", "name", "goal"),
    [((1, 0, 2), "time first", 0.88), ((0, 1, 2), "member first", 0.7)],
)
@pytest.mark.parametrize("level", MODERN)
def test_reused_array(
    timed, record, instruction_set, members, level, order, name, goal
):
    instruction_set(level)
    shape = np.array([len(members), N_STEPS + 1, 3])[list(order)]
    out = np.ones(shape).transpose(np.argsort(order))
    work = write_work("stream", 2**28, level=level)
    rate, ceiling, trajectory = measured(timed, members, out, work)
    assert same_bits(trajectory, members, N_STEPS)
    what = f"simulate, reused array, {name}, {level}"
    record(Goal(what, rate, "steps/s", ceiling, "non-temporal writes", goal))


@pytest.mark.skipif(not levels(), reason="the C++ extension is not installed")
@pytest.mark.parametrize(
    ("pages", "name", "goal"),
    [("fresh_2m", "2 MiB", 0.9), ("fresh_4k", "4 KiB", 0.0)],
)
def test_new_array(timed, record, members, pages, name, goal):
    work = write_work(pages, len(members) * (N_STEPS + 1) * STEP_BYTES)
    rate, ceiling, trajectory = measured(timed, members, None, work)
    assert same_bits(trajectory, members, N_STEPS)
    limit = f"first touch, {name} pages"
    record(Goal("simulate, new array", rate, "steps/s", ceiling, limit, goal))


@pytest.mark.peer
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer(timed, record, members, peer):
    function = peer.made(N_PEER_STEPS, DT)
    theirs = members[: min(N_PEER_MEMBERS, peer.n_members)]
    ours = members[:N_PEER_MEMBERS]
    into = np.zeros((N_PEER_STEPS + 1, 3, len(theirs)))
    out = np.zeros((N_PEER_STEPS + 1, len(ours), 3)).transpose(1, 0, 2)
    # One time unit: longer, and rounding errors have grown by more than is told apart.
    short = slice(0, 101)
    np.testing.assert_allclose(
        function(theirs, into)[short].transpose(2, 0, 1),
        run(theirs, 100),
        rtol=0,
        atol=peer.atol,
    )
    done = timed(
        lambda: function(theirs, into), ours=lambda: run(ours, N_PEER_STEPS, out=out)
    )
    rate = len(theirs) * N_PEER_STEPS / done.seconds
    our_rate = len(ours) * N_PEER_STEPS / done.against["ours"]
    group = f"Every state stored, {N_PEER_STEPS} steps of {N_PEER_MEMBERS:,} members"
    record(Rival(group, peer.name, rate, "steps/s", our_rate / rate))
