"""What single windows say of a state, and the climate that it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from l63fast.lorenz63 import Lorenz63, mirror, simulate, spin_up
from l63fast.observation import ObservationOperator

__all__ = ["STEPS_BEFORE", "Climate", "Evidence"]

_SNAPSHOT_STEPS: Final = 25
_SNAPSHOTS: Final = 64
_ANCESTOR: Final = 2  # snapshots from a state to where it was before
STEPS_BEFORE: Final = _ANCESTOR * _SNAPSHOT_STEPS


@dataclass(frozen=True)
class Climate:
    """Where states come from: the attractor of a model, every state with its mirror.

    Attributes
    ----------
    dt : float
        Time step (time units).
    parameters : Lorenz63
    seed : int
    """

    dt: float
    parameters: Lorenz63
    seed: int

    def states(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n states (n, 3), n even, and each `STEPS_BEFORE` steps earlier."""
        n_members = -(-n // (2 * _SNAPSHOTS))
        start = spin_up(
            n_members, seed=self.seed, dt=self.dt, parameters=self.parameters
        )
        n_snapshots = _SNAPSHOTS + _ANCESTOR
        path = self.carried(start, n_snapshots - 1, _SNAPSHOT_STEPS)
        halves = (
            part.reshape(-1, 3)[: n // 2]
            for part in (path[:, _ANCESTOR:], path[:, :-_ANCESTOR])
        )
        later, earlier = (np.concatenate([half, mirror(half)]) for half in halves)
        return later, earlier

    def carried(self, states: np.ndarray, n_cycles: int, n_steps: int) -> np.ndarray:
        """Return states (n, 3) and where they are after each cycle, (n, 1 + c, 3)."""
        return simulate(
            states,
            n_cycles * n_steps,
            save_every=n_steps,
            dt=self.dt,
            parameters=self.parameters,
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of windows, and how exactly.

    Attributes
    ----------
    observations : (n, L, m)
        One each cycle, the last at analysis time.
    operator : ObservationOperator
    R : (m, m)
    n_steps : int
        Model steps of a cycle.
    earlier : (n, 3), optional
        Estimates of the states `lag` cycles before the last observation, with errors
        that have nothing to do with the observations'.
    P : (3, 3), optional
        Covariance of their errors.
    lag : int
    """

    observations: np.ndarray
    operator: ObservationOperator
    R: np.ndarray
    n_steps: int
    earlier: np.ndarray | None = None
    P: np.ndarray | None = None
    lag: int = 1

    @property
    def n_cycles(self) -> int:
        """Cycles from the first state that matters to the analysis."""
        lag = 0 if self.earlier is None else self.lag
        return max(int(self.observations.shape[1]) - 1, lag)

    @property
    def knows_no_sign(self) -> bool:
        """Whether a state and its mirror image fit equally well."""
        return self.operator.is_mirror_blind and self.earlier is None

    def seen(self) -> np.ndarray:
        """Return the evidence (n, D), each value in units of its error."""
        return self._whitened(self.observations, self.earlier)

    def of(self, path: np.ndarray) -> np.ndarray:
        """Return what it would be without error for paths (n, 1 + n_cycles, 3)."""
        h = self.operator(path[:, -self.observations.shape[1] :])
        at = path[:, path.shape[1] - 1 - self.lag]
        return self._whitened(h, None if self.earlier is None else at)

    def _whitened(self, h: np.ndarray, earlier: np.ndarray | None) -> np.ndarray:
        parts = [_scaled(h, self.R).reshape(len(h), -1)]
        if earlier is not None and self.P is not None:
            parts.append(_scaled(earlier, self.P))
        return np.concatenate(parts, axis=1)


def _scaled(values: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return values @ np.linalg.inv(np.linalg.cholesky(covariance)).T
