"""Laws of observation errors other than the normal one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.twin.gaps import share

_LEAST: Final = 1e-300  # keeps a quantile finite


@dataclass(frozen=True)
class ErrorLaw:
    """The law of observation errors, by default N(0, R).

    Schemes do not know it: they still assume N(0, R).

    Attributes
    ----------
    student_t : float, optional
        Degrees of freedom, above 2, of a Student t distribution in place of the normal
        one; the errors keep the covariance R.
    outliers : float
        Probability, below 1, that an error is multiplied by `outlier_factor`.
    outlier_factor : float
    bias : float
        Added to each observed value.
    """

    student_t: float | None = None
    outliers: float = 0.0
    outlier_factor: float = 10.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "outliers": share("outliers", self.outliers),
            "outlier_factor": _checks.real("factor", self.outlier_factor, above=0.0),
            "bias": _checks.real("bias", self.bias),
        }
        if self.student_t is not None:
            checked["student_t"] = _checks.real("student_t", self.student_t, above=2.0)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if not np.isfinite(self.outlier_factor**2):
            raise ArgumentValueError(
                f"outlier_factor: expected at most 1e150, got {self.outlier_factor:g}"
            )

    @property
    def is_normal(self) -> bool:
        """Whether it is the normal law without bias."""
        return self.student_t is None and not self.outliers and not self.bias

    def standardised(self, normals: np.ndarray) -> np.ndarray:
        """Return errors without bias, in units of their standard deviation.

        They are made from N(0, 1) draws, each from one: an outlier is a draw whose
        probability u is below that of outliers, and u is then uniform again when it is
        stretched to (0, 1).
        """
        if self.student_t is None and not self.outliers:
            return normals
        from scipy.special import ndtr, ndtri, stdtrit  # imported here, as in _random

        u, p = ndtr(normals), self.outliers
        is_outlier = u < p
        u = np.where(is_outlier, u / p if p else u, (u - p) / (1.0 - p))
        u = np.clip(u, _LEAST, 1.0 - 2.0**-53)
        errors = ndtri(u)
        if (df := self.student_t) is not None:
            errors = stdtrit(df, u) * np.sqrt((df - 2.0) / df)
        return np.asarray(np.where(is_outlier, self.outlier_factor, 1.0) * errors)

    def describe(self) -> str:
        """Return the law in words; "" for the normal one."""
        parts = [f"Student t ({self.student_t:g})"] if self.student_t else []
        if self.outliers:
            many = f"{100.0 * self.outliers:.4g} % outliers"
            parts.append(f"{many} ({self.outlier_factor:g} times)")
        parts += [f"bias {self.bias:g}"] if self.bias else []
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values; none for the normal law."""
        return {} if self.is_normal else asdict(self)
