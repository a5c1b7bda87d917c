"""Whether innovations have the covariance that a scheme claims, H B H^T + R."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import Interval, resample

__all__ = ["InnovationStatistics", "innovation_statistics"]


@dataclass(frozen=True, eq=False)
class InnovationStatistics:
    """Innovations y - h(x_b) as they are, beside what is claimed of them.

    Attributes
    ----------
    mean : (m,)
    covariance : (m, m)
        Their second moment.
    claimed : (m, m)
        Mean of the claimed covariances S.
    ratio : float
        Trace of S^-1 d d^T over m, averaged: 1 if the claim is right at each time,
        above 1 if the scheme trusts itself too much.
    trace_ratio : float
        Trace of `covariance` over that of `claimed`: right on average only.
    ci95 : dict of str to (float, float)
        Bootstrap intervals of ratio and trace_ratio.
    """

    mean: np.ndarray
    covariance: np.ndarray
    claimed: np.ndarray
    ratio: float
    trace_ratio: float
    ci95: dict[str, Interval]


@ieee_arithmetic()
def innovation_statistics(
    innovation: np.ndarray,
    covariance: np.ndarray,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> InnovationStatistics:
    """Return the statistics of innovations beside the covariances claimed for them.

    Parameters
    ----------
    innovation : (n_trajectories, n_times, m)
        NaN and infinity make the statistics that hold them so.
    covariance : (n_trajectories, n_times, m, m)
        Claimed, symmetric and positive definite.
    n_bootstrap, seed : int

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes do not fit.

    Notes
    -----
    Desroziers, Berre, Chapnik & Poli (2005), equation 1; the normalised square is the
    consistency test of Dee (1995).
    """
    d, S = _checked(innovation, covariance)
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    m = d.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        products = d[..., :, None] * d[..., None, :]
        normalised = (d * np.linalg.solve(S, d[..., None])[..., 0]).sum(axis=-1) / m
        made = np.trace(products, axis1=-2, axis2=-1)
        claimed = np.trace(S, axis1=-2, axis2=-1)
        means = np.stack([a.mean(axis=1) for a in (normalised, made, claimed)], axis=1)
        ratios = resample(means, n_bootstrap, seed).apply(
            lambda of: np.stack([of[..., 0], of[..., 1] / of[..., 2]], axis=-1)
        )
        names = ("ratio", "trace_ratio")
        return InnovationStatistics(
            mean=d.mean(axis=(0, 1)),
            covariance=products.mean(axis=(0, 1)),
            claimed=S.mean(axis=(0, 1)),
            ci95={name: ratios.interval(i) for i, name in enumerate(names)},
            **dict(zip(names, ratios.measured.tolist(), strict=True)),
        )


def _checked(innovation: Any, covariance: Any) -> tuple[np.ndarray, np.ndarray]:
    d = _checks.array("innovation", innovation, shape=(None, None, None))
    for axis, name in enumerate(("n_trajectories", "n_times", "obs_dim")):
        _checks.count(f"innovation: {name}", d.shape[axis], minimum=1)
    return d, _checks.array("covariance", covariance, shape=(*d.shape, d.shape[-1]))
