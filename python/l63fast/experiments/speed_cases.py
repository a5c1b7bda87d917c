"""What a benchmark of speed times: calls, their work, and what it needs at least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._kernels import backend_info
from l63fast._kernels.limits import register_lanes
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import forecast, simulate, spin_up
from l63fast.observation import ObservationOperator

__all__ = [
    "ANALYSIS_INSTRUCTIONS",
    "DT",
    "N_ITERATIONS",
    "STEP_BYTES",
    "STEP_INSTRUCTIONS",
    "AnalysisProblem",
    "Case",
    "SpeedSizes",
    "analysis_problem",
    "speed_cases",
]

DT: Final = 0.01
STEP_INSTRUCTIONS: Final = 41  # of one RK4 step, in the order that the kernels promise
STEP_BYTES: Final = 24  # of one stored state in float64
N_ITERATIONS: Final = 10
# Multiplications and additions, fused where they can be, of one bare Gauss-Newton
# iteration for x2, x2y2 and x2y2z2 in the weights of the observed columns of B, without
# safeguard and status; one division comes on top.
ANALYSIS_INSTRUCTIONS: Final = {1: 8, 2: 28, 3: 63}
_OPERATORS: Final = {1: "x2", 2: "x2y2", 3: "x2y2z2"}
_SPREAD: Final = 0.5  # standard deviation of the background error, each component
_CORRELATION: Final = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, -0.1], [0.1, -0.1, 1.0]])


@dataclass(frozen=True)
class SpeedSizes:
    """How much each function is given, and the time to spend on each (seconds)."""

    n_members: int = 10_240
    n_steps: int = 500
    n_trajectories: int = 8_192
    n_saved: int = 800
    n_analyses: int = 100_000
    seconds: float = 1.5

    @classmethod
    def of_scale(cls, scale: float) -> SpeedSizes:
        """Return the sizes times `scale` in (0, 1], and as much less time.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If `scale` is not such a number.
        """
        scale = _checks.real("scale", scale, above=0.0, maximum=1.0)
        whole = cls()
        return cls(
            max(int(whole.n_members * scale), 1),
            max(int(whole.n_steps * scale), 1),
            max(int(whole.n_trajectories * scale), 1),
            max(int(whole.n_saved * scale), 1),
            max(int(whole.n_analyses * scale), 1),
            whole.seconds * scale,
        )


@dataclass(frozen=True)
class Case:
    """A call to time, and what each unit of its work needs of the machine.

    `needs` maps a ceiling ("rk4", "stream", ...) to the vector instructions or bytes
    per unit; the tightest one counts.
    """

    name: str
    unit: str
    run: Callable[[], Any]
    amount: float
    needs: Mapping[str, float]
    single: bool = False


@dataclass(frozen=True, eq=False)
class AnalysisProblem:
    """Backgrounds (n, 3), observations (n, m), and what all samples share."""

    background: np.ndarray
    observation: np.ndarray
    operator: ObservationOperator
    B: np.ndarray
    R: np.ndarray
    n_iter: int

    def solve(self, *, backend: str = "auto", n_threads: int = 1) -> np.ndarray:
        """Return the analyses (n, 3) after exactly `n_iter` iterations at most."""
        analysis = three_d_var(
            self.background,
            self.observation,
            self.operator,
            B=self.B,
            R=self.R,
            max_iter=self.n_iter,
            tol=1e-300,
            multi_start=False,
            n_threads=n_threads,
            backend=backend,
        )
        return np.asarray(analysis.state)


def analysis_problem(
    n_samples: int, operator: str, n_iter: int = N_ITERATIONS
) -> AnalysisProblem:
    """Return 3D-Var with |x| and |y| above 4, where plain Gauss-Newton converges."""
    every = spin_up(4 * n_samples + 100, seed=1, time=5.0)
    truth = every[(np.abs(every[:, :2]) > 4.0).all(axis=1)][:n_samples]
    h, rng = ObservationOperator(operator), np.random.default_rng(0)
    B = _SPREAD**2 * _CORRELATION
    background = truth + rng.normal(size=truth.shape) @ np.linalg.cholesky(B).T
    observation = np.ascontiguousarray(h(truth)) + rng.normal(
        size=(len(truth), h.obs_dim)
    )
    return AnalysisProblem(background, observation, h, B, np.eye(h.obs_dim), n_iter)


def speed_cases(sizes: SpeedSizes) -> Iterator[Case]:
    """Yield what the short benchmark times, the next one made when it is asked for."""
    lanes = register_lanes() if backend_info().name == "cpp" else 1
    states = spin_up(max(sizes.n_members, sizes.n_trajectories), seed=0, time=5.0)
    members = states[: sizes.n_members]
    for dtype, width in ((np.float64, lanes), (np.float32, 2 * lanes)):
        yield Case(
            f"forecast, {np.dtype(dtype).name}",
            "steps",
            partial(forecast, members.astype(dtype), sizes.n_steps, dt=DT, n_threads=1),
            float(members.shape[0] * sizes.n_steps),
            {"rk4": STEP_INSTRUCTIONS / width},
            dtype == np.float32,
        )
    yield from _simulations(states[: sizes.n_trajectories], sizes.n_saved, lanes)
    for m, operator in _OPERATORS.items():
        problem = analysis_problem(sizes.n_analyses, operator)
        needs = {
            "fma": N_ITERATIONS * ANALYSIS_INSTRUCTIONS[m] / lanes,
            "divide": N_ITERATIONS / lanes,
        }
        name = f"3D-Var of {', '.join(problem.operator.labels)}"
        amount = float(len(problem.background))
        yield Case(name, "analyses", problem.solve, amount, needs)


def _simulations(states: np.ndarray, n_steps: int, lanes: int) -> Iterator[Case]:
    arithmetic = {"rk4": STEP_INSTRUCTIONS / lanes}
    amount = float(len(states) * n_steps)
    run = partial(simulate, states, n_steps, dt=DT, n_threads=1)
    by_member = np.ones((len(states), n_steps + 1, 3))
    by_time = by_member.reshape(n_steps + 1, len(states), 3).transpose(1, 0, 2)
    for name, out, write in (
        ("by member", by_member, "stream"),
        ("by time", by_time, "stream"),
        ("new array", None, "fresh_2m"),
    ):
        needs = arithmetic | {write: float(STEP_BYTES)}
        yield Case(f"simulate, {name}", "steps", partial(run, out=out), amount, needs)
