"""Checks of arrays: shape, dtype, layout, finite values; outputs; covariances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from l63fast._checks.values import instance, memory, shown
from l63fast.errors import ArgumentTypeError, ArgumentValueError

FLOATS: Final = (np.dtype(np.float64), np.dtype(np.float32))


def float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return float64 or float32 as a dtype; refuse any other."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise ArgumentTypeError(
            f"{name}: expected float64 or float32, got {shown(value)}"
        ) from None
    if dtype not in FLOATS:
        raise ArgumentTypeError(f"{name}: expected float64 or float32, got {dtype}")
    return dtype


def vectors(
    name: str,
    value: Any,
    *,
    size: int,
    dtype: np.dtype[Any] | None = None,
    only_finite: bool = True,
) -> np.ndarray:
    """Return a C-contiguous, native-endian (..., size) array of finite floats.

    Only the layout is changed, never the dtype. Torch CPU tensors are accepted through
    the array protocol, and DataArrays by the names of their dimensions. Lists of
    numbers become `dtype`, or float64. With `only_finite=False` non-finite values are
    accepted: a caller whose result would show them calls `finite` only then, which
    saves a pass over the array.
    """
    if _is_ready(value, size, dtype):
        if only_finite:
            finite(name, value)
        return value  # type: ignore[no-any-return]
    array = as_array(name, by_names(name, value))
    if isinstance(value, (list, tuple)) and array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            array = array.astype(np.float64 if dtype is None else dtype)
    if array.ndim < 1 or array.shape[-1] != size:
        raise ArgumentValueError(
            f"{name}: expected (..., {size}), got {shape_text(array.shape)}"
        )
    wanted = array.dtype.newbyteorder("=")
    if wanted not in FLOATS:
        raise ArgumentTypeError(
            f"{name}: expected float64 or float32, got {array.dtype}"
        )
    if dtype is not None and wanted != dtype:
        raise ArgumentTypeError(f"{name}: expected {dtype}, got {array.dtype}")
    memory(name, _bytes_of_copy(array, wanted))
    contiguous = np.require(array, dtype=wanted, requirements=["C", "A"])
    if only_finite:
        finite(name, contiguous)
    return contiguous


def _is_ready(value: Any, size: int, dtype: np.dtype[Any] | None) -> bool:
    # The usual case, recognised in a third of a microsecond: more would slow short
    # calls.
    if type(value) is not np.ndarray or value.shape[-1:] != (size,):
        return False
    given, flags = value.dtype, value.flags
    return (
        given in FLOATS
        and (dtype is None or given == dtype)
        and flags.c_contiguous
        and flags.aligned
    )


def _bytes_of_copy(array: np.ndarray, dtype: np.dtype[Any]) -> int:
    """Return the bytes of a contiguous copy, 0 where none is needed.

    A broadcast axis takes no memory itself, but its copy may be huge.
    """
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    return 0 if fits else array.size * dtype.itemsize


def states(
    name: str,
    value: Any,
    *,
    dtype: np.dtype[Any] | None = None,
    only_finite: bool = True,
) -> np.ndarray:
    """Return states as a C-contiguous (..., 3) array of finite floats, as `vectors`."""
    return vectors(name, value, size=3, dtype=dtype, only_finite=only_finite)


def vectors_of(name: str, value: Any, states: np.ndarray) -> np.ndarray:
    """Return vectors, one per state (..., 3) or k per state (..., k, 3)."""
    array = vectors(name, value, size=3, dtype=states.dtype)
    leading = states.shape[:-1]
    if array.shape != states.shape and array.shape[:-2] != leading:
        raise ArgumentValueError(
            f"{name}: expected {shape_text(states.shape)}, or k of them on an axis "
            f"before the last, for states of that shape, got {shape_text(array.shape)}"
        )
    return array


def by_names(name: str, value: Any, *, leading: tuple[str, ...] = ()) -> Any:
    """Return an xarray.DataArray as an array, its component axis last.

    Other objects are returned unchanged. Labelled components are put in the order x, y,
    z.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : object
    leading : tuple of str
        Dimensions that come first, in this order; the others keep their order.
    """
    if type(value).__module__.partition(".")[0] != "xarray":
        return value
    if not hasattr(value, "to_numpy"):
        raise ArgumentTypeError(
            f"{name}: expected an array, got an xarray.{type(value).__name__}"
            "; take one of its variables"
        )
    last = [dim for dim in value.dims if dim in ("component", "observed")]
    if len(last) != 1:
        raise ArgumentValueError(
            f"{name}: expected an xarray.DataArray with a dimension 'component' (or "
            f"'observed', for observations), got the dimensions {value.dims}"
        )
    labels = value.coords["component"].to_numpy() if "component" in value.coords else ()
    if sorted(map(str, labels)) == ["x", "y", "z"]:
        value = value.sel(component=["x", "y", "z"])
    first = [dim for dim in leading if dim in value.dims]
    rest = [dim for dim in value.dims if dim not in (*first, *last)]
    return value.transpose(*first, *rest, *last).to_numpy()


def array(
    name: str, value: Any, *, shape: tuple[int | None, ...], note: str = ""
) -> np.ndarray:
    """Return a float64 array of this shape (`None`: any size); NaN is accepted.

    `note` stands behind the shape in the message, where that alone may not help.
    """
    given = as_array(name, value)
    fits = given.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, given.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise ArgumentValueError(
            f"{name}: expected ({wanted}){note}, got {shape_text(given.shape)}"
        )
    if given.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {given.dtype}")
    return given.astype(np.float64)


def output(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Iterable[Any],
) -> np.ndarray:
    """Return a given output array.

    Refused are another shape or dtype, read-only and misaligned arrays, and arrays that
    overlap an input or themselves.
    """
    instance(name, value, np.ndarray)
    if isinstance(value, np.ma.MaskedArray):  # what is masked would look unwritten
        raise ArgumentTypeError(f"{name}: expected a plain array, got a masked one")
    array: np.ndarray = value
    problem = None
    if array.shape != shape:
        problem = f"shape {shape_text(shape)}, got {shape_text(array.shape)}"
    elif array.dtype != dtype:
        problem = f"{dtype}, got {array.dtype}"
    elif not array.flags.writeable:
        problem = "a writeable array, got a read-only one"
    elif not array.flags.aligned:
        problem = "an aligned array, got a misaligned one"
    elif any(np.shares_memory(array, np.asarray(given)) for given in inputs):
        problem = "memory of its own, got an array that overlaps the input"
    elif _overlaps_itself(array):
        problem = f"no two entries at the same address, got strides {array.strides}"
    if problem is not None:
        raise ArgumentValueError(f"{name}: expected {problem}")
    return array


def _overlaps_itself(array: np.ndarray) -> bool:
    # Axes by growing stride: each stride must be larger than the span of the axes
    # before.
    axes = [
        (abs(stride), length)
        for stride, length in zip(array.strides, array.shape, strict=True)
        if length > 1
    ]
    span = array.itemsize
    for stride, length in sorted(axes):
        if stride < span:
            return True
        span = stride * (length - 1) + span
    return False


def as_array(name: str, value: Any) -> np.ndarray:
    """Return anything like an array as one; what would be read wrongly is refused."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        n_masked = np.count_nonzero(np.ma.getmaskarray(value))
        raise ArgumentTypeError(f"{name}: expected no masked values, got {n_masked}")
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(
        value, "columns"
    ):
        raise ArgumentTypeError(
            f"{name}: expected an array, got a {type(value).__name__}: give its "
            "columns in order, df[['x', 'y', 'z']].to_numpy()"
        )
    if getattr(value, "requires_grad", False):
        raise ArgumentTypeError(
            f"{name}: expected an array without gradient; detach the tensor first"
        )
    if not isinstance(value, np.ndarray) and isinstance(value, (str, bytes)):
        raise ArgumentTypeError(f"{name}: expected an array, got {shown(value)}")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(
            f"{name}: expected an array of floats, got {type(value).__name__} ({error})"
        ) from None
    if array.dtype.hasobject and array.ndim == 0:  # None or another object
        raise ArgumentTypeError(
            f"{name}: expected an array of floats, got {shown(value)}"
        )
    return array


def shape_text(shape: tuple[int, ...]) -> str:
    return str(tuple(int(n) for n in shape))


def finite(name: str, array: np.ndarray, *, missing: str = "raise") -> None:
    """Refuse infinity, and NaN except where `missing` is "nan".

    The message gives the number of such values and the first index.
    """
    good = np.isfinite(array) if missing == "raise" else ~np.isinf(array)
    if good.all():
        return
    first = tuple(int(i) for i in np.argwhere(~good)[0])
    raise ArgumentValueError(
        f"{name}: expected finite values, got {np.count_nonzero(~good)} that are not, "
        f"the first at index {first} ({array[first]})"
    )


def within(name: str, given: np.ndarray, cast: np.ndarray) -> None:
    """Refuse values that became infinite in a cast to a smaller dtype."""
    if not np.isfinite(cast).all():
        raise ArgumentValueError(
            f"{name}: expected values within {cast.dtype}, got "
            f"{float(np.abs(given).max()):.3g}"
        )


def batch(name: str, array: np.ndarray, shape: tuple[int, ...], of: str) -> None:
    """Refuse an array whose leading axes differ from those of another argument."""
    if array.shape[:-1] != shape:
        raise ArgumentValueError(
            f"{name}: expected leading shape {shape_text(shape)} as in {of}, "
            f"got {shape_text(array.shape[:-1])}"
        )


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

    A single number v is a variance and stands for v times the identity matrix. With
    `semidefinite` directions without variance are accepted.

    Raises
    ------
    ArgumentValueError
        If a matrix is not symmetric (to 1e-10 of its largest entry, 1e-5 in float32)
        or, in the given dtype, not positive definite; the message gives the largest
        difference or the smallest eigenvalue.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.ndim == 0:
        array = array * np.eye(size)
    if array.shape not in ((size, size), (*shape, size, size)):
        one = f"({size}, {size})"
        each = f" or {shape_text((*shape, size, size))}" if shape else ""
        raise ArgumentValueError(
            f"{name}: expected {one}{each}, got {shape_text(array.shape)}"
        )
    if array.ndim > 2:
        memory(name, 4 * array.size * 8)  # the copies of the checks below
    if array.dtype == dtype and array.flags.c_contiguous:
        cast = array
    else:
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype=dtype)
    if cast.ndim == 2 and _is_clearly_definite(cast.tolist()):
        return cast
    wide = array.astype(np.float64)
    finite(name, wide)
    _refuse_asymmetric(name, wide, 1e-10 if array.dtype == np.float64 else 1e-5)
    within(name, wide, cast)
    _refuse_indefinite(name, cast, semidefinite)
    return cast


def _is_clearly_definite(rows: list[list[float]]) -> bool:
    # Whether one matrix is exactly symmetric and far from singular, by the pivots of
    # Gaussian elimination. For so small a matrix this takes a tenth of the time of
    # NumPy's eigenvalues.
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


def _refuse_asymmetric(name: str, matrices: np.ndarray, tolerance: float) -> None:
    skew = np.abs(matrices - np.swapaxes(matrices, -1, -2)).max(axis=(-2, -1))
    bad = skew > tolerance * np.abs(matrices).max(axis=(-2, -1))
    if bad.any():
        raise ArgumentValueError(
            f"{name}: expected a symmetric matrix, got entries that differ from their "
            f"transposes by up to {skew[bad].max():.3g}"
        )


def _refuse_indefinite(name: str, matrices: np.ndarray, semidefinite: bool) -> None:
    # Checked after the cast, as the kernel gets them: a variance may have become zero.
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
