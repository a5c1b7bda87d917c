"""What an observation does to an ensemble: gain, transforms, rotation, inflation.

All of it happens in the space of the observations and of the state, at most 3 x 3:
the N x N transforms of the literature act on the anomalies as the small matrices here
do, exactly, whatever N is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from l63fast.observation import ObservationOperator

_ROUNDS: Final = 5
_PER_ROUND: Final = 33
_LARGEST_INFLATION: Final = 100.0


class Observed(NamedTuple):
    """An ensemble, and what the observations see of it, in units of their error.

    Observation space is whitened by the Cholesky factor of R.

    Attributes
    ----------
    mean : (n, 3)
    anomalies : (n, n_members, 3)
    seen : (n, n_members, m)
        Anomalies of the observed ensemble h(E).
    seen_covariance : (n, m, m)
        Of those; I is the covariance of the observation error.
    cross_covariance : (n, 3, m)
        Of the state with what is seen of it.
    weights : (n, m, m)
        Inverse of the covariance claimed for innovations, (seen_covariance + I)^-1.
    innovation : (n, m)
        y - mean of h(E).
    root : (m, m)
        The lower Cholesky factor of R, from here back to the observations.
    """

    mean: np.ndarray
    anomalies: np.ndarray
    seen: np.ndarray
    seen_covariance: np.ndarray
    cross_covariance: np.ndarray
    weights: np.ndarray
    innovation: np.ndarray
    root: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the state, (n, 3, 3)."""
        return _products(self.anomalies, self.anomalies)

    @property
    def squared_innovation(self) -> np.ndarray:
        """The innovation's square (n,) in units of the covariance claimed for it."""
        weighted = _column(self.weights, self.innovation)
        return np.asarray((self.innovation * weighted).sum(axis=-1))


def ensemble_mean(members: np.ndarray) -> np.ndarray:
    """Return the mean (n, r) of members (n, n_members, r)."""
    n_members = members.shape[1]
    # A product is ten times faster than `mean` along an axis that is not the last.
    return np.asarray((np.full((1, n_members), 1.0 / n_members) @ members)[:, 0])


def whitening(R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower Cholesky factor of R (m, m), and its inverse transposed."""
    root = np.linalg.cholesky(R)
    return root, np.linalg.inv(root).T


def observe_members(
    members: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    root: np.ndarray,
    whiten: np.ndarray,
) -> Observed:
    """Return members (n, n_members, 3) beside their observation (n, m).

    The last two are those of `whitening`.
    """
    mean = ensemble_mean(members)
    observed = operator(members)
    observed_mean = ensemble_mean(observed)
    seen = (observed - observed_mean[:, None]) @ whiten
    anomalies = members - mean[:, None]
    covariance = _products(seen, seen)
    # One that overflowed would stop the whole batch; its other numbers tell of it.
    covariance[~np.isfinite(covariance)] = 0.0
    return Observed(
        mean=mean,
        anomalies=anomalies,
        seen=seen,
        seen_covariance=covariance,
        cross_covariance=_products(anomalies, seen),
        weights=_weights(covariance),
        innovation=(observation - observed_mean) @ whiten,
        root=root,
    )


def analysed_mean(ensemble: Observed) -> np.ndarray:
    """Return x + K (y - mean of h(E)), (n, 3), K from the covariances of the ensemble.

    K = cov(x, h(x)) (cov(h(x)) + R)^-1, as in Evensen (2003), equation 46.
    """
    weights = _column(ensemble.weights, ensemble.innovation)
    increment = _column(ensemble.cross_covariance, weights)
    return np.asarray(ensemble.mean + increment)


def perturbed_anomalies(ensemble: Observed, normals: np.ndarray) -> np.ndarray:
    """Return anomalies (n, n_members, 3), each drawn to a perturbed observation.

    Burgers, van Leeuwen & Evensen (1998). The perturbations, made of N(0, 1) draws
    (n, n_members, m), are centred, so that they leave the mean alone; their sample
    covariance still is R on average.
    """
    perturbations = normals - ensemble_mean(normals)[:, None]
    weights = (ensemble.seen + perturbations) @ ensemble.weights
    return np.asarray(
        ensemble.anomalies - weights @ transposed(ensemble.cross_covariance)
    )


def symmetric_anomalies(ensemble: Observed) -> np.ndarray:
    """Return the anomalies (n, n_members, 3) after the symmetric square-root update.

    T A with T = (I + Y R^-1 Y^T / (N - 1))^-1/2, N x N (Hunt, Kostelich & Szunyogh
    2007, section 2.3). Y has m columns, so T differs from I in m directions only:
    T A = A - Y G Y^T A / (N - 1), and in the axes in which Y is uncorrelated G is
    diagonal with entries 1 / (1 + c + sqrt(1 + c)), c the variance that is seen.
    """
    variance, axes = _principal(ensemble.seen_covariance)
    total = 1.0 + variance
    scaled = (ensemble.seen @ axes) / (total + np.sqrt(total))[:, None]
    weights = scaled @ transposed(axes)
    return np.asarray(
        ensemble.anomalies - weights @ transposed(ensemble.cross_covariance)
    )


def rotated_anomalies(ensemble: Observed, normals: np.ndarray) -> np.ndarray:
    """Return analysed anomalies (n, n_members, 3) after a random rotation.

    The rotation is uniform among those that keep the mean (Sakov & Oke 2008). It turns
    the three columns of A into three others that are uniform among all with the same
    A^T A, so they are made directly from the analysis covariance and N(0, 1) draws
    (n, n_members, 3): no transform is needed before, nor an N x N rotation. Three
    members have anomalies in a plane, and use the first two columns of the draws.
    """
    cross = ensemble.cross_covariance
    explained = cross @ ensemble.weights @ transposed(cross)
    covariance = ensemble.covariance - explained
    rank = min(3, normals.shape[1] - 1)
    centred = normals[..., :rank] - ensemble_mean(normals[..., :rank])[:, None]
    drawn = np.linalg.cholesky(_products(centred, centred))
    wanted = _cholesky(covariance) if rank == 3 else _planar_root(covariance)
    turned = np.linalg.solve(transposed(drawn), transposed(wanted))
    return np.asarray(centred @ turned)


def _planar_root(covariance: np.ndarray) -> np.ndarray:
    """Return roots (n, 3, 2) of the covariances of three members, which span a plane.

    A Cholesky factor would need its third column where the plane is at right angles to
    one of the first two axes. What has overflowed is NaN.
    """
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    variance, axes = _principal(np.where(finite[:, None, None], covariance, 0.0))
    root = axes[..., 1:] * np.sqrt(variance[:, None, 1:])
    return np.where(finite[:, None, None], root, np.nan)


def _cholesky(covariance: np.ndarray) -> np.ndarray:
    """Return lower factors of (n, 3, 3); a direction without variance gets zeros.

    An ensemble collapses onto the attractor: its smallest variance can be below the
    rounding of the largest.
    """
    factor = np.zeros_like(covariance)
    for j in range(3):
        left = covariance[:, j:, j] - _column(factor[:, j:, :j], factor[:, j, :j])
        pivot = np.sqrt(np.maximum(left[:, 0], 0.0))
        safe = np.where(pivot > 0.0, pivot, 1.0)
        factor[:, j:, j] = np.where(pivot[:, None] > 0.0, left / safe[:, None], 0.0)
    return factor


def adapted_inflation(ensemble: Observed, prior_certainty: float = 1.0) -> np.ndarray:
    """Return the prior inflation (n,) that the finite-size filter EnKF-N finds.

    The dual form of Bocquet, Raanes & Hannart (2015): zeta minimises D =
    d^T (R + Y^T Y / zeta)^-1 d + a zeta - b log(zeta), and the prior anomalies grow by
    sqrt((N - 1) / zeta). As in DAPPER's `EnKF_N`, a = eps / c and b = c N, where eps =
    1 + 1/N, and both are multiplied by the prior's certainty. With c = 1 the mode of
    the prior is below an inflation of 1, so that observations which say nothing shrink
    the ensemble at each analysis. The mode correction (their equation 36) moves it
    towards 1: c = mode^(w/2), with w the weight of the prior in the analysis, which is
    1 / (1 + variance seen), averaged over the N directions of the ensemble.

    Parameters
    ----------
    ensemble : Observed
    prior_certainty : float
        Factor on the terms of the prior, xN in DAPPER.
    """
    n_members = ensemble.seen.shape[1]
    variance, axes = _principal(ensemble.seen_covariance)
    squares = _row(ensemble.innovation, axes)[:, None] ** 2
    spread = (n_members - 1) * variance[:, None]
    eps = 1.0 + 1.0 / n_members
    # Of the square of the inflation where c = 1: 1 - 1/N^2.
    mode = eps * (n_members - 1) / n_members
    prior_weight = 1.0 - (variance / (1.0 + variance)).sum(axis=-1) / n_members
    correction = mode ** (0.5 * prior_weight)
    linear = (prior_certainty * eps / correction)[:, None]
    logarithmic = (prior_certainty * n_members * correction)[:, None]
    # D can have two minima, so the lowest is sought on a grid in log(zeta), then on
    # finer ones around it. Above the mode of the prior every term grows.
    high = np.log(logarithmic / linear)[:, 0]
    low = np.full(len(squares), np.log((n_members - 1) / _LARGEST_INFLATION**2))
    places = np.linspace(0.0, 1.0, _PER_ROUND)
    for _ in range(_ROUNDS):
        log_zeta = low[:, None] + (high - low)[:, None] * places
        zeta = np.exp(log_zeta)
        misfit = (squares * zeta[..., None] / (zeta[..., None] + spread)).sum(axis=-1)
        cost = misfit + linear * zeta - logarithmic * log_zeta
        best = np.argmin(cost, axis=1)
        rows = np.arange(len(best))
        low = log_zeta[rows, np.maximum(best - 1, 0)]
        high = log_zeta[rows, np.minimum(best + 1, _PER_ROUND - 1)]
    return np.asarray(np.sqrt((n_members - 1) * np.exp(-0.5 * (low + high))))


def bounded_inflation(
    ensemble: Observed, factor: np.ndarray, climatology: np.ndarray
) -> np.ndarray:
    """Return the inflations (n,) up to `factor` that the climatology allows.

    An analysis knows at least what the climatology C (3, 3) does: its covariance after
    the inflation exceeds C in no direction. Few members and one surprising observation
    ask for so much inflation that the components which are not observed leave the
    attractor, where the covariance of the ensemble says nothing. The bound never
    shrinks an ensemble, even one that is already wider than C.

    With anomalies A and seen anomalies Y, both divided by sqrt(N - 1), the analysis
    covariance is A^T (I / f^2 + Y R^-1 Y^T)^-1 A. By the Schur complement it is at most
    C where 1 / f^2 is at least the largest eigenvalue of A C^-1 A^T - Y R^-1 Y^T.
    """
    whiten = np.linalg.inv(np.linalg.cholesky(climatology)).T
    both = np.concatenate([ensemble.anomalies @ whiten, ensemble.seen], axis=-1)
    signs = np.repeat([1.0, -1.0], [3, ensemble.seen.shape[-1]])
    # The eigenvalues other than 0 of L J L^T, N x N, are those of the root's L^T J L.
    products = _products(both, both)
    products[~np.isfinite(products)] = 0.0  # as in `observe_members`
    variance, axes = _principal(products)
    root = axes * np.sqrt(variance)[:, None]
    largest = np.linalg.eigvalsh(transposed(root) @ (signs[:, None] * root))[:, -1]
    # Where it is 1 or more, the ensemble as it comes is the bound.
    return np.asarray(np.minimum(factor, 1.0 / np.sqrt(np.clip(largest, 1e-30, 1.0))))


def inflated(ensemble: Observed, factor: np.ndarray) -> Observed:
    """Return the ensemble with its anomalies grown by a factor (n,) each."""
    by_member = factor[:, None, None]
    covariance = by_member**2 * ensemble.seen_covariance
    return ensemble._replace(
        anomalies=by_member * ensemble.anomalies,
        seen=by_member * ensemble.seen,
        seen_covariance=covariance,
        cross_covariance=by_member**2 * ensemble.cross_covariance,
        weights=_weights(covariance),
    )


def _weights(seen_covariance: np.ndarray) -> np.ndarray:
    return np.linalg.inv(seen_covariance + np.eye(seen_covariance.shape[-1]))


def _principal(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return variances (n, m), none below 0, and axes (n, m, m) of covariances."""
    variance, axes = np.linalg.eigh(covariance)
    return np.maximum(variance, 0.0), axes


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the covariances of anomalies (n, n_members, r) and (n, n_members, c)."""
    return np.asarray(transposed(left) @ right / (left.shape[1] - 1))


def transposed(matrices: np.ndarray) -> np.ndarray:
    """Return the transposes of (..., r, c) matrices."""
    return np.swapaxes(matrices, -1, -2)


def _column(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def _row(vectors: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    return np.asarray((vectors[..., None, :] @ matrices)[..., 0, :])
