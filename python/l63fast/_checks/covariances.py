"""Checks of covariances: symmetric, positive definite."""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast._checks.arrays import as_array, finite, shape_text, within
from l63fast._checks.memory import memory
from l63fast.errors import ArgumentTypeError, ArgumentValueError


def _is_clearly_definite(rows: list[list[float]]) -> bool:
    # One matrix that is exactly symmetric and far from singular, by the pivots of its
    # elimination: a tenth of what NumPy's eigenvalues cost for so small a matrix.
    n = len(rows)
    if any(rows[i][j] != rows[j][i] for i in range(n) for j in range(i)):
        return False
    least = 1e-9 * max(row[i] for i, row in enumerate(rows))
    for i, above in enumerate(rows):
        if not above[i] > least > 0.0:
            return False
        for j in range(i + 1, n):
            factor = above[j] / above[i]
            for k in range(j, n):
                rows[j][k] -= factor * above[k]
    return True


def covariance(
    name: str,
    value: Any,
    *,
    size: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    semidefinite: bool = False,
) -> np.ndarray:
    """Return a covariance, (size, size) or (*shape, size, size), in the given dtype.

    With `semidefinite`, directions without any variance are let through.

    Raises
    ------
    ArgumentValueError
        If a matrix is not symmetric (to 1e-10 of its own largest entry, 1e-5 in
        float32) or, in the given dtype, not positive definite, with the figure that
        says so.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.shape not in ((size, size), (*shape, size, size)):
        one = f"({size}, {size})"
        each = f" or {shape_text((*shape, size, size))}" if shape else ""
        raise ArgumentValueError(
            f"{name}: expected {one}{each}, got {shape_text(array.shape)}"
        )
    if array.ndim > 2:
        memory(name, 4 * array.size * 8)  # the copies of the checks below
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=dtype)
    if cast.ndim == 2 and _is_clearly_definite(cast.tolist()):
        return cast
    wide = array.astype(np.float64)
    finite(name, wide)
    _refuse_skew(name, wide, 1e-10 if array.dtype == np.float64 else 1e-5)
    within(name, wide, cast)
    _refuse_indefinite(name, cast, semidefinite)
    return cast


def _refuse_skew(name: str, matrices: np.ndarray, tolerance: float) -> None:
    skew = np.abs(matrices - np.swapaxes(matrices, -1, -2)).max(axis=(-2, -1))
    bad = skew > tolerance * np.abs(matrices).max(axis=(-2, -1))
    if bad.any():
        raise ArgumentValueError(
            f"{name}: expected a symmetric matrix, got entries that differ from their "
            f"transposes by up to {skew[bad].max():.3g}"
        )


def _refuse_indefinite(name: str, matrices: np.ndarray, semidefinite: bool) -> None:
    # As the kernel gets them: a variance may have been rounded to zero.
    wide = matrices.astype(np.float64)
    smallest = np.linalg.eigvalsh(wide)[..., 0]
    rounding = 1e-12 * np.abs(wide).max(axis=(-2, -1))
    bad = smallest < -rounding if semidefinite else smallest <= 0.0
    if bad.any():
        wanted = "semidefinite" if semidefinite else "definite"
        where = "" if matrices.dtype == np.float64 else f" in {matrices.dtype}"
        raise ArgumentValueError(
            f"{name}: expected a positive {wanted} matrix{where}, got smallest "
            f"eigenvalue {smallest[bad].min():.3g}"
        )
