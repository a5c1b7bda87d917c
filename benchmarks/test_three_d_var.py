"""3D-Var: a batch of analyses, one B and one R for all, a fixed number of iterations.

The samples have observed components away from zero and good backgrounds, so that
plain Gauss-Newton, which is all that the peers do, finds the minimum too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from benchmarks.levels import levels
from benchmarks.peers.analysis import PEERS
from benchmarks.rows import Goal, Rival
from l63fast._kernels.limits import instruction_work, register_lanes
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import variational_cost
from l63fast.experiments.speed import (
    ANALYSIS_INSTRUCTIONS,
    N_ITERATIONS,
    analysis_problem,
)

N_SAMPLES: Final = 50_000
# Analyses per second asked for where a core issues 6.6e9 fma of eight values a second;
# elsewhere in proportion to the values that it multiplies and adds.
ASKED: Final = {"x2": 120e6, "x2y2": 100e6, "x2y2z2": 52e6}
ASKED_AT: Final = 8 * 6.6e9
LINEAR: Final = ("x", "xy", "xyz")
MODERN: Final = [level for level in levels() if level.endswith(("v3", "v4"))]


@pytest.fixture(scope="module", params=ASKED)
def problem(request):
    return analysis_problem(N_SAMPLES, request.param)


def first(problem, n):
    """Return the problem of the first n samples alone."""
    return replace(
        problem, background=problem.background[:n], observation=problem.observation[:n]
    )


def check(answer, problem, state):
    """Compare a peer's answer with ours, and what it says of it with what it is."""
    if not isinstance(answer, Analysis):
        np.testing.assert_allclose(answer, state, rtol=0, atol=1e-7)
        return
    check(answer.state, problem, state)
    y, h, x_b = problem.observation, problem.operator, problem.background
    cost = variational_cost(answer.state, x_b, y, h, B=problem.B, R=problem.R)
    np.testing.assert_allclose(answer.cost, cost, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(answer.residual, y - h(answer.state), atol=1e-7)
    assert set(answer.status) <= {Status.CONVERGED, Status.MAX_ITER}
    assert (answer.n_iter[answer.status == Status.MAX_ITER] == N_ITERATIONS).all()
    assert (answer.n_iter > 0).all()


@pytest.fixture(scope="module")
def reference(problem):
    return problem.solve(backend="numba")


@pytest.mark.parametrize("level", MODERN)
def test_ten_iterations(timed, record, instruction_set, problem, reference, level):
    instruction_set(level)
    works = {kind: instruction_work(kind, level=level) for kind in ("fma", "divide")}
    done = timed(
        lambda: problem.solve(backend="cpp"),
        **{kind: work.run for kind, work in works.items()},
    )
    assert done.result.tobytes() == reference.tobytes()
    rate = N_SAMPLES / done.seconds
    lanes, h = register_lanes(level), problem.operator
    values = {k: w.amount / done.against[k] * lanes for k, w in works.items()}
    arithmetic = values["fma"] / (N_ITERATIONS * ANALYSIS_INSTRUCTIONS[h.obs_dim])
    asked = ASKED[h.name] * values["fma"] / ASKED_AT
    what = f"3D-Var of {', '.join(h.labels)}, {level}"
    ceilings = (
        (asked, "what is asked for at this fma rate", 1.0),
        (arithmetic, "multiply-adds of the bare iteration", 0.0),
        (values["divide"] / N_ITERATIONS, "one division an iteration", 0.0),
    )
    for ceiling, name, goal in ceilings:
        record(Goal(what, rate, "analyses/s", ceiling, name, goal))


@pytest.mark.parametrize("operator", LINEAR)
def test_linear(timed, record, operator):
    linear = analysis_problem(N_SAMPLES, operator, 1)
    done = timed(linear.solve, numba=lambda: linear.solve(backend="numba"))
    assert done.result.tobytes() == linear.solve(backend="numba").tobytes()
    rates = N_SAMPLES / done.seconds, N_SAMPLES / done.against["numba"]
    what = f"3D-Var of {', '.join(linear.operator.labels)}, linear"
    record(Goal(what, rates[0], "analyses/s", rates[1], "Numba fallback", 0.0))


@pytest.mark.peer
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer(timed, record, problem, reference, peer):
    n = min(N_SAMPLES, peer.n_members)
    function = peer.made(first(problem, n))
    check(function(), first(problem, n), reference[:n])
    done = timed(function, ours=problem.solve)
    rate, our_rate = n / done.seconds, N_SAMPLES / done.against["ours"]
    observed = ", ".join(problem.operator.labels)
    group = f"3D-Var of {observed}, {N_ITERATIONS} iterations, {N_SAMPLES:,} analyses"
    record(Rival(group, peer.name, rate, "analyses/s", our_rate / rate))
