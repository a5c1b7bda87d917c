"""Lyapunov exponents: a basis of perturbations, carried and made orthogonal again."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.lorenz63.model import DEFAULT_PARAMETERS, Lorenz63
from l63fast.lorenz63.tangent import tangent_linear

# Along no axis or plane that the model keeps: the directions come out ordered.
_START: Final = ((3.0, 2.0, 1.0), (1.0, 3.0, 2.0), (2.0, 1.0, 3.0))


@ieee_arithmetic()
def lyapunov_exponents(
    state: Any,
    n_steps: int,
    *,
    n_transient: int = 1000,
    steps_per_basis: int = 50,
    dt: float = 0.01,
    parameters: Lorenz63 = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
) -> np.ndarray:
    """Return the Lyapunov exponents along each trajectory, (..., 3), largest first.

    Parameters
    ----------
    state : (..., 3) float64 or float32
        States on the attractor.
    n_steps : int
        Steps that are averaged over, at least 1.
    n_transient : int
        Steps before them, in which the basis turns into its directions.
    steps_per_basis : int
        Steps between two orthonormalisations; in 50 steps of 0.01 the basis flattens
        by a factor of about 2,000.

    Returns
    -------
    (..., 3), per time unit: the average over n_steps * dt along each trajectory

    Raises
    ------
    ArgumentValueError, ArgumentTypeError, DivergenceError
        As `tangent_linear`.

    Source: Benettin, Galgani, Giorgilli & Strelcyn (1980), Meccanica 15, 9-30.
    """
    states = _checks.states("state", state)
    n_steps = _checks.count("n_steps", n_steps, minimum=1)
    n_transient = _checks.count("n_transient", n_transient)
    steps_per_basis = _checks.count("steps_per_basis", steps_per_basis, minimum=1)
    start, _ = _orthonormal(np.array(_START, dtype=states.dtype))
    basis = np.broadcast_to(start, (*states.shape, 3))
    growth = np.zeros(states.shape)
    for counted, total in ((False, n_transient), (True, n_steps)):
        for done in range(0, total, steps_per_basis):
            states, basis = tangent_linear(
                states, basis, min(steps_per_basis, total - done), dt=dt,
                parameters=parameters, n_threads=n_threads, backend=backend,
            )  # fmt: skip
            basis, lengths = _orthonormal(basis)
            if counted:
                growth += np.log(lengths)
    return growth / (n_steps * dt)


def _orthonormal(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis (..., k, 3) made orthonormal, and the lengths (..., k) it had.

    Gram-Schmidt over all members at once; NumPy's QR takes them one by one.
    """
    directions: list[np.ndarray] = []
    lengths = []
    for k in range(basis.shape[-2]):
        vector = basis[..., k, :]
        for direction in directions:
            along = np.sum(vector * direction, axis=-1, keepdims=True)
            vector = vector - along * direction
        length = np.sqrt(np.sum(vector * vector, axis=-1, keepdims=True))
        directions.append(vector / length)
        lengths.append(length[..., 0])
    return np.stack(directions, axis=-2), np.stack(lengths, axis=-1)
