"""Batched 3D-Var by Gauss-Newton in other libraries, each in the form that suits it.

All do the same work: a fixed number of iterations from the background,
x <- x_b + B H^T (H B H^T + R)^-1 (y - h(x) + H (x - x_b)), one B and R for all. None
guards its steps or reports how a sample ended, as ours does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.peers import Peer
from benchmarks.peers.dapper_analysis import dapper_var
from benchmarks.peers.numba_analysis import numba_bare, numba_whole
from l63fast.experiments.speed import AnalysisProblem

Matrix = list[list[float]]
Shared = tuple[tuple[int, ...], tuple[int, ...], Matrix, Matrix, int]
Repeat = Callable[[int, Callable[[Any], Any], Any], Any]
Solve = Callable[[], np.ndarray]


def solve_symmetric(S: list[list[Any]], r: list[Any]) -> list[Any]:
    """Return S^-1 r by the adjugate, S symmetric with at most 3 rows of arrays."""
    if len(r) == 1:
        return [r[0] / S[0][0]]
    if len(r) == 2:
        scale = 1 / (S[0][0] * S[1][1] - S[0][1] * S[0][1])
        return [
            (S[1][1] * r[0] - S[0][1] * r[1]) * scale,
            (S[0][0] * r[1] - S[0][1] * r[0]) * scale,
        ]
    a = S[1][1] * S[2][2] - S[1][2] * S[1][2]
    b = S[0][2] * S[1][2] - S[0][1] * S[2][2]
    c = S[0][1] * S[1][2] - S[0][2] * S[1][1]
    d = S[0][0] * S[2][2] - S[0][2] * S[0][2]
    e = S[0][1] * S[0][2] - S[0][0] * S[1][2]
    f = S[0][0] * S[1][1] - S[0][1] * S[0][1]
    scale = 1 / (S[0][0] * a + S[0][1] * b + S[0][2] * c)
    return [
        (a * r[0] + b * r[1] + c * r[2]) * scale,
        (b * r[0] + d * r[1] + e * r[2]) * scale,
        (c * r[0] + e * r[1] + f * r[2]) * scale,
    ]


def closed_form(
    shared: Shared, background: Any, observation: Any, repeat: Repeat
) -> list[Any]:
    """Return the components of the analysis; one array each, no matrix per sample.

    `repeat(n, f, w)` applies f n times to w, a list of arrays: the weights of the
    observed columns of B that the state has moved along.
    """
    where, powers, B, R, n_iter = shared
    every = range(len(where))
    u_b = [background[:, c] for c in where]

    def iterate(weight: list[Any]) -> list[Any]:
        u = [u_b[i] + along(B[where[i]], where, weight) for i in every]
        d = [powers[i] * u[i] ** (powers[i] - 1) for i in every]
        r = [
            observation[:, i] - u[i] ** powers[i] + d[i] * (u[i] - u_b[i])
            for i in every
        ]
        S = [
            [d[i] * d[j] * B[where[i]][where[j]] + R[i][j] for j in every]
            for i in every
        ]
        return [d[i] * v for i, v in enumerate(solve_symmetric(S, r))]

    weight = repeat(n_iter, iterate, [u * 0 for u in u_b])
    return [background[:, c] + along(B[c], where, weight) for c in range(3)]


def shared_by_all(problem: AnalysisProblem) -> Shared:
    """Return components, powers, B, R and the number of iterations as plain numbers."""
    h = problem.operator
    B, R = problem.B.tolist(), problem.R.tolist()
    return h.components, h.powers, B, R, problem.n_iter


def plain_repeat(n: int, function: Callable[[Any], Any], value: Any) -> Any:
    for _ in range(n):
        value = function(value)
    return value


def along(row: list[float], where: tuple[int, ...], weight: list[Any]) -> Any:
    """Return the move of one component: its row of B times the weights."""
    total = row[where[0]] * weight[0]
    for c, w in zip(where[1:], weight[1:], strict=True):
        total = total + row[c] * w
    return total


def numpy_closed_form(problem: AnalysisProblem, block: int = 8192) -> Solve:
    shared = shared_by_all(problem)

    def solve() -> np.ndarray:
        state = np.empty_like(problem.background)
        for i in range(0, len(state), block):
            rows = slice(i, i + block)
            parts = closed_form(
                shared,
                problem.background[rows],
                problem.observation[rows],
                plain_repeat,
            )
            for c in range(3):
                state[rows, c] = parts[c]
        return state

    return solve


def batched_solve(
    problem: AnalysisProblem, solve: Callable[..., Any], to: Callable[..., Any]
) -> Any:
    """Return the analyses by one matrix per sample and a library's batched solver."""
    where, powers = list(problem.operator.components), to(problem.operator.powers)
    x_b, y = to(problem.background), to(problem.observation)
    columns, R = to(problem.B[:, where]), to(problem.R)
    u_b = x_b[:, where]
    u = u_b
    weight = u_b * 0
    for _ in range(problem.n_iter):
        d = powers * u ** (powers - 1)
        r = y - u**powers + d * (u - u_b)
        S = d[:, :, None] * columns[where] * d[:, None, :] + R
        weight = d * solve(S, r[..., None])[..., 0]
        u = u_b + weight @ columns[where]
    return x_b + weight @ columns.T


def numpy_batched_solve(problem: AnalysisProblem) -> Solve:
    return lambda: batched_solve(problem, np.linalg.solve, np.asarray)


def torch_batched_solve(problem: AnalysisProblem) -> Solve:
    import torch

    def solve() -> np.ndarray:
        with torch.inference_mode():
            return batched_solve(problem, torch.linalg.solve, torch.as_tensor).numpy()

    return solve


def torch_compiled(problem: AnalysisProblem) -> Solve:
    """All iterations in one kernel, by the compiler that torch.compile calls."""
    import torch

    shared = shared_by_all(problem)
    compiled = torch.compile(
        lambda x_b, y: torch.stack(closed_form(shared, x_b, y, plain_repeat), -1),
        dynamic=False,
    )
    x_b, y = torch.from_numpy(problem.background), torch.from_numpy(problem.observation)

    def solve() -> np.ndarray:
        with torch.inference_mode():
            return compiled(x_b, y).numpy()

    try:
        solve()
    except Exception as error:  # whatever its compiler raises
        pytest.skip(f"torch.compile fails here: {str(error).splitlines()[0]}")
    return solve


def jax_closed_form(problem: AnalysisProblem) -> Solve:
    import jax

    jax.config.update("jax_enable_x64", True)

    def repeat(n: int, function: Callable[[Any], Any], value: Any) -> Any:
        return jax.lax.fori_loop(0, n, lambda _, w: function(w), value)

    shared = shared_by_all(problem)
    compiled = jax.jit(
        lambda x_b, y: jax.numpy.stack(closed_form(shared, x_b, y, repeat), -1)
    )
    return lambda: np.asarray(compiled(problem.background, problem.observation))


PEERS: Final = [
    Peer("Numba, closed form in blocks, same output", numba_whole, ("numba",)),
    Peer("Numba, closed form in blocks, state alone", numba_bare, ("numba",)),
    Peer("torch.compile, closed form", torch_compiled, ("torch",)),
    Peer("jax, closed form", jax_closed_form, ("jax",)),
    Peer("NumPy, closed form in blocks", numpy_closed_form),
    Peer("torch, batched linalg.solve", torch_batched_solve, ("torch",)),
    Peer("NumPy, batched linalg.solve", numpy_batched_solve),
    Peer(
        "DAPPER, Var4D on a window without time", dapper_var, ("dapper.da_methods",), 50
    ),
]
