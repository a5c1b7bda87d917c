"""3D-Var by DAPPER: its Var4D on a window in which the state stays where it is.

DAPPER's own Var3D makes one linear step, whatever is asked for; Var4D makes as many
Gauss-Newton iterations as told. Its cycle is the batch: the model, the identity within
a window, gives the background of the next sample when DAPPER leaves the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l63fast.experiments.speed import AnalysisProblem


class _Backgrounds:
    """The model: the identity for `n_iter` calls, then the next sample's background."""

    def __init__(self, background: np.ndarray, n_iter: int) -> None:
        self.background = background
        self.calls_per_sample = n_iter + 1
        self.n_calls = 0

    def __call__(self, x: Any, t: float, dt: float) -> Any:
        self.n_calls += 1
        sample, within_window = divmod(self.n_calls, self.calls_per_sample)
        return x if within_window else self.background[sample % len(self.background)]


class _Analyses:
    """In place of DAPPER's statistics, which cost time: keeps the analyses alone."""

    def __init__(self, n: int) -> None:
        self.state = np.empty((n, 3))
        self.iters = np.zeros(n)

    def assess(self, k: int, ko: Any = None, faus: Any = None, **found: Any) -> None:
        if faus == "a":
            self.state[ko] = found["mu"]


def dapper_var(problem: AnalysisProblem) -> Callable[[], np.ndarray]:
    """Return the solution, one sample after another; answers are those of Var4D."""
    from dapper.da_methods import Var4D
    from dapper.mods import HiddenMarkovModel, TimeDependentOperator
    from dapper.tools import progressbar
    from dapper.tools.chronos import Chronology
    from dapper.tools.randvars import GaussRV

    progressbar.disable_progbar = True
    x_b, y, h = problem.background, problem.observation, problem.operator
    where, powers = list(h.components), np.array(h.powers)

    def slopes(x: np.ndarray) -> np.ndarray:
        jacobian = np.zeros((len(where), 3))
        jacobian[range(len(where)), where] = powers * x[where] ** (powers - 1)
        return jacobian

    observing = TimeDependentOperator(
        M=len(where), model=lambda x: x[where] ** powers, linear=slopes, noise=problem.R
    )
    observing.noise = observing.Op1.noise  # Var4D asks twice for the operator of a time
    model = _Backgrounds(x_b, problem.n_iter)
    hidden = HiddenMarkovModel(
        {"M": 3, "model": model, "linear": lambda x, t, dt: np.eye(3)},
        TimeDependentOperator(time_dependent=lambda ko: observing),
        Chronology(dt=1.0, dko=1, Ko=len(x_b) - 1),
        GaussRV(mu=x_b[0], C=problem.B),
    )
    method = Var4D(B=problem.B, Lag=1, nIter=problem.n_iter)
    without_statistics = Var4D.assimilate.__wrapped__

    def solve() -> np.ndarray:
        method.stats = _Analyses(len(x_b))
        without_statistics(method, hidden, None, y)
        return method.stats.state

    return solve
