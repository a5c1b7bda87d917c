"""The analysis step of ensemble Kalman filters: gain, transforms, rotation, inflation.

Everything is computed with matrices of the size of the state and the observations, at
most 3 x 3. The N x N transforms of the literature act on the anomalies exactly as the
small matrices here do, for any number of members N.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from l63fast.observation import ObservationOperator

_ROUNDS: Final = 5
_PER_ROUND: Final = 33
_LARGEST_INFLATION: Final = 100.0


class Observed(NamedTuple):
    """An ensemble and its observed values, in units of the observation error.

    Observation space is whitened by the Cholesky factor of R, so that R becomes I.

    Attributes
    ----------
    mean : (n, 3)
    anomalies : (n, n_members, 3)
    observed_anomalies : (n, n_members, m)
        Anomalies of the observed ensemble h(E), Y.
    covariance : (n, 3, 3)
    observed_covariance : (n, m, m)
        Covariance of h(E).
    cross_covariance : (n, 3, m)
        Covariance of the state with h(E).
    weights : (n, m, m)
        Inverse of the innovation covariance, (observed_covariance + I)^-1.
    innovation : (n, m)
        y - mean of h(E).
    root : (m, m)
        Lower Cholesky factor of R, which maps back to the units of the observations.
    """

    mean: np.ndarray
    anomalies: np.ndarray
    observed_anomalies: np.ndarray
    covariance: np.ndarray
    observed_covariance: np.ndarray
    cross_covariance: np.ndarray
    weights: np.ndarray
    innovation: np.ndarray
    root: np.ndarray

    @property
    def squared_innovation(self) -> np.ndarray:
        """The squared innovation d^T S^-1 d, (n,), with S its estimated covariance."""
        weighted = column(self.weights, self.innovation)
        return np.asarray((self.innovation * weighted).sum(axis=-1))


def ensemble_mean(members: np.ndarray) -> np.ndarray:
    """Return the mean (n, r) of members (n, n_members, r)."""
    n_members = members.shape[1]
    # A matrix product is ten times faster than `mean` along an axis that is not the
    # last.
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
    """Return members (n, n_members, k) with their values in observation space.

    Parameters
    ----------
    members : (n, n_members, k)
        The states observed are the first three columns; the others are updated too.
    observation : (n, m)
    operator : ObservationOperator
    root, whiten : (m, m)
        As returned by `whitening`; `whiten` may be one per sample (n, m, m), with zeros
        in the columns of missing values, which then change nothing.
    """
    # State and observed values side by side: one product instead of three.
    k = members.shape[-1]
    both = np.concatenate([members, operator(members[..., :3])], axis=-1)
    mean = ensemble_mean(both)
    both -= mean[:, None]
    both[..., k:] = both[..., k:] @ whiten
    products = covariances(both, both)
    # `eigh` fails for the whole batch where one covariance overflowed. The other values
    # of that sample are not finite either, and so mark it.
    observed_covariance = products[:, k:, k:].copy()
    observed_covariance[~np.isfinite(observed_covariance)] = 0.0
    d = observation - mean[:, k:]
    return Observed(
        mean=mean[:, :k],
        anomalies=both[..., :k],
        observed_anomalies=both[..., k:],
        covariance=products[:, :k, :k],
        observed_covariance=observed_covariance,
        cross_covariance=products[:, :k, k:],
        weights=_weights(observed_covariance),
        innovation=d @ whiten if whiten.ndim == 2 else row(d, whiten),
        root=root,
    )


def analysed_mean(ensemble: Observed) -> np.ndarray:
    """Return the analysed mean x + K (y - mean of h(E)), (n, 3).

    K = cov(x, h(x)) (cov(h(x)) + R)^-1 with the covariances of the ensemble; Evensen
    (2003), equation 46.
    """
    weights = column(ensemble.weights, ensemble.innovation)
    increment = column(ensemble.cross_covariance, weights)
    return np.asarray(ensemble.mean + increment)


def perturbed_anomalies(ensemble: Observed, normals: np.ndarray) -> np.ndarray:
    """Return anomalies (n, n_members, 3) after an update with perturbed observations.

    Source: Burgers, van Leeuwen & Evensen (1998). The perturbations, N(0, 1) draws (n,
    n_members, m), are centred so that they do not change the mean; the expectation of
    their sample covariance is still R.
    """
    perturbations = normals - ensemble_mean(normals)[:, None]
    # The new anomaly of member i is A_i - K (Y_i + e_i); the sign of e_i is arbitrary.
    weights = (ensemble.observed_anomalies + perturbations) @ ensemble.weights
    return np.asarray(
        ensemble.anomalies - weights @ transposed(ensemble.cross_covariance)
    )


def symmetric_anomalies(ensemble: Observed) -> np.ndarray:
    """Return the anomalies (n, n_members, 3) after the symmetric square-root update.

    The update is T A with T = (I + Y R^-1 Y^T / (N - 1))^-1/2, N x N (Hunt, Kostelich &
    Szunyogh 2007, section 2.3). Y has m columns, so T differs from I in m directions
    only: T A = A - Y G Y^T A / (N - 1). In the axes in which Y is uncorrelated, G is
    diagonal with the entries 1 / (1 + c + sqrt(1 + c)), where c is the variance of Y.
    """
    variance, axes = principal(ensemble.observed_covariance)
    total = 1.0 + variance
    scaled = (ensemble.observed_anomalies @ axes) / (total + np.sqrt(total))[:, None]
    weights = scaled @ transposed(axes)
    return np.asarray(
        ensemble.anomalies - weights @ transposed(ensemble.cross_covariance)
    )


def rotated_anomalies(ensemble: Observed, normals: np.ndarray) -> np.ndarray:
    """Return analysed anomalies (n, n_members, 3) after a random rotation.

    The rotation is uniform among all rotations that keep the mean (Sakov & Oke 2008).
    The rotated anomalies are then uniform among all matrices A with the same A^T A. So
    they are computed directly from the analysis covariance and N(0, 1) draws (n,
    n_members, 3), without a transform and an N x N rotation. Three members span a plane
    only, and use two columns of the draws.
    """
    cross = ensemble.cross_covariance
    explained = cross @ ensemble.weights @ transposed(cross)
    return redrawn(ensemble.covariance - explained, normals)


def redrawn(covariance: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return random anomalies (n, n_members, 3) with these covariances (n, 3, 3)."""
    rank = min(3, normals.shape[1] - 1)
    centred = normals[..., :rank] - ensemble_mean(normals[..., :rank])[:, None]
    # The draws have the covariance D D^T (D is `drawn`) and must get W W^T (`wanted`):
    # they are multiplied by D^-T W^T.
    drawn = np.linalg.cholesky(covariances(centred, centred))
    wanted = _cholesky(covariance) if rank == 3 else _planar_root(covariance)
    return np.asarray(centred @ _back_substituted(drawn, wanted))


def rotated(anomalies: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return anomalies (n, n_members, k) after a random rotation that keeps the mean.

    Here the rotation itself is made, from draws (n, n_members - 1, n_members - 1), so
    that states of several times are rotated alike.
    """
    n_members = anomalies.shape[1]
    Q, R = np.linalg.qr(normals)
    Q = (
        Q * np.sign(np.diagonal(R, axis1=1, axis2=2))[:, None]
    )  # uniform (Mezzadri 2007)
    ones = np.column_stack([np.ones(n_members), np.eye(n_members, n_members - 1)])
    basis = np.linalg.qr(ones)[0][:, 1:]  # of the anomalies, whose sum is zero
    return np.asarray(basis @ (Q @ (basis.T @ anomalies)))


def _back_substituted(lower: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return L^-T W^T of L (n, r, r), lower triangular, and W (n, 3, r)."""
    turned = np.empty_like(transposed(wanted), order="C")
    for i in reversed(range(lower.shape[-1])):
        row = wanted[:, :, i].copy()
        for j in range(i + 1, lower.shape[-1]):
            row -= lower[:, j, i, None] * turned[:, j]
        turned[:, i] = row / lower[:, i, i, None]
    return turned


def _planar_root(covariance: np.ndarray) -> np.ndarray:
    """Return roots (n, 3, 2) of covariances of rank 2, those of three members.

    A Cholesky factor would need its third column where the plane of the members is
    orthogonal to one of the first two axes. Non-finite covariances give NaN.
    """
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    variance, axes = principal(np.where(finite[:, None, None], covariance, 0.0))
    root = axes[..., 1:] * np.sqrt(variance[:, None, 1:])
    return np.where(finite[:, None, None], root, np.nan)


def _cholesky(covariance: np.ndarray) -> np.ndarray:
    """Return lower Cholesky factors (n, 3, 3); a direction without variance gets zeros.

    Ensembles collapse onto the attractor, so their smallest variance can be below the
    rounding errors of the largest.
    """
    factor = np.zeros_like(covariance)
    for j in range(3):
        left = covariance[:, j:, j] - column(factor[:, j:, :j], factor[:, j, :j])
        pivot = np.sqrt(np.maximum(left[:, 0], 0.0))
        safe = np.where(pivot > 0.0, pivot, 1.0)
        factor[:, j:, j] = np.where(pivot[:, None] > 0.0, left / safe[:, None], 0.0)
    return factor


def transformed(
    anomalies: np.ndarray,
    observed: np.ndarray,
    variance: np.ndarray,
    axes: np.ndarray,
    *,
    inverse: bool = False,
) -> np.ndarray:
    """Return T A or T^-1 A, T = (I + Y Y^T / (N - 1))^-1/2 as in `symmetric_anomalies`.

    Parameters
    ----------
    anomalies : (n, n_members, k)
    observed : (n, n_members, m)
        Y, in units of the observation error.
    variance, axes : (n, m), (n, m, m)
        Principal variances and axes of Y.
    inverse : bool
    """
    total = 1.0 + variance
    root = np.sqrt(total)
    # In a direction of variance c, T - I is -c / (1 + c + sqrt(1 + c)), and T^-1 - I is
    # c / (1 + sqrt(1 + c)).
    share = 1.0 / (1.0 + root) if inverse else -1.0 / (total + root)
    directions = observed @ axes
    along = share[..., None] * covariances(directions, anomalies)
    return np.asarray(anomalies + directions @ along)


def innovations(
    observation: np.ndarray, observed: np.ndarray, R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return innovations y - mean of h(E), (n, m), and their covariances (n, m, m).

    Parameters
    ----------
    observation : (n, m)
    observed : (n, n_members, m)
        h(E).
    R : (m, m)
    """
    mean = ensemble_mean(observed)
    around = observed - mean[:, None]
    return observation - mean, covariances(around, around) + R


def adapted_inflation(ensemble: Observed, prior_certainty: float = 1.0) -> np.ndarray:
    """Return the prior inflation (n,) of the finite-size filter EnKF-N.

    In the dual form of Bocquet, Raanes & Hannart (2015) zeta minimises
        D = d^T (R + Y^T Y / zeta)^-1 d + a zeta - b log(zeta),
    and the prior anomalies are multiplied by sqrt((N - 1) / zeta). As in DAPPER's
    `EnKF_N`, a = eps / c and b = c N with eps = 1 + 1/N, both multiplied by the
    certainty of the prior. With c = 1 the mode of the prior is an inflation below 1, so
    that observations without information would shrink the ensemble in each analysis.
    The mode correction (their equation 36) moves the mode towards 1: c = mode^(w/2),
    where w is the weight of the prior in the analysis, 1 / (1 + variance of Y) averaged
    over the N directions.

    Parameters
    ----------
    ensemble : Observed
    prior_certainty : float
        Factor on the terms of the prior, xN in DAPPER.
    """
    n_members = ensemble.observed_anomalies.shape[1]
    variance, axes = principal(ensemble.observed_covariance)
    squares = row(ensemble.innovation, axes)[:, None] ** 2
    spread = (n_members - 1) * variance[:, None]
    eps = 1.0 + 1.0 / n_members
    # Mode of the squared inflation for c = 1: 1 - 1/N^2.
    mode = eps * (n_members - 1) / n_members
    prior_weight = 1.0 - (variance / (1.0 + variance)).sum(axis=-1) / n_members
    correction = mode ** (0.5 * prior_weight)
    linear = (prior_certainty * eps / correction)[:, None]
    logarithmic = (prior_certainty * n_members * correction)[:, None]
    # D can have two minima. So the lowest is searched on a grid in log(zeta), then on
    # finer grids around the best point. Above the mode of the prior every term of D
    # increases.
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
    """Return inflations (n,), at most `factor`, that the climatology allows.

    An analysis is never less certain than the climatology C (3, 3): the inflated
    analysis covariance may exceed C in no direction. Few members and one surprising
    observation lead to so large an inflation that unobserved components leave the
    attractor, where the ensemble covariance has no meaning. The bound never shrinks an
    ensemble, even one that is wider than C.

    With anomalies A and observed anomalies Y, both divided by sqrt(N - 1), the analysis
    covariance is A^T (I / f^2 + Y R^-1 Y^T)^-1 A. By the Schur complement it is at most
    C where 1 / f^2 is at least the largest eigenvalue of A C^-1 A^T - Y R^-1 Y^T.
    """
    whiten = np.linalg.inv(np.linalg.cholesky(climatology)).T
    both = np.concatenate(
        [ensemble.anomalies[..., :3] @ whiten, ensemble.observed_anomalies], axis=-1
    )
    signs = np.repeat([1.0, -1.0], [3, ensemble.observed_anomalies.shape[-1]])
    # With L = [A, Y] and J = diag(I, -I) that matrix is L J L^T, N x N. Its non-zero
    # eigenvalues are those of root^T J root, where root root^T = L^T L.
    products = covariances(both, both)
    products[~np.isfinite(products)] = 0.0  # as in `observe_members`
    variance, axes = principal(products)
    root = axes * np.sqrt(variance)[:, None]
    largest = np.linalg.eigvalsh(transposed(root) @ (signs[:, None] * root))[:, -1]
    # An eigenvalue of 1 or more allows no inflation, but does not shrink the ensemble.
    return np.asarray(np.minimum(factor, 1.0 / np.sqrt(np.clip(largest, 1e-30, 1.0))))


def inflated(ensemble: Observed, factor: np.ndarray) -> Observed:
    """Return the ensemble with its anomalies multiplied by factors (n,)."""
    by_member = factor[:, None, None]
    covariance = by_member**2 * ensemble.observed_covariance
    return ensemble._replace(
        anomalies=by_member * ensemble.anomalies,
        observed_anomalies=by_member * ensemble.observed_anomalies,
        covariance=by_member**2 * ensemble.covariance,
        observed_covariance=covariance,
        cross_covariance=by_member**2 * ensemble.cross_covariance,
        weights=_weights(covariance),
    )


def _weights(observed_covariance: np.ndarray) -> np.ndarray:
    return _inverse(observed_covariance + np.eye(observed_covariance.shape[-1]))


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of positive definite matrices (n, m, m), by S = L D L^T.

    LAPACK is called matrix by matrix, which takes longer for so small ones.
    With l the first column of L below the diagonal and T the inverse of the remaining
    block, the inverse is [[1 / S_00 + l.T l, -(T l)^T], [-T l, T]], as in
    small_matrix.hpp.
    """
    out = np.empty_like(matrices)
    out[:, 0, 0] = 1.0 / matrices[:, 0, 0]
    if matrices.shape[-1] > 1:
        row = matrices[:, 0, 1:]
        below = row * out[:, 0, :1]
        rest = _inverse(matrices[:, 1:, 1:] - below[:, :, None] * row[:, None])
        moved = column(rest, below)
        out[:, 0, 0] += np.einsum("ni,ni->n", below, moved)
        out[:, 0, 1:] = out[:, 1:, 0] = -moved
        out[:, 1:, 1:] = rest
    return out


def principal(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (n, m), set to at least 0, and eigenvectors (n, m, m).

    `eigh` fails for the whole batch where one covariance overflowed: that one gets
    zeros.
    """
    finite = np.isfinite(covariance)
    if not finite.all():
        covariance = np.where(finite.all((1, 2))[:, None, None], covariance, 0.0)
    if covariance.shape[-1] == 1:
        return np.maximum(covariance[..., 0], 0.0), np.ones_like(covariance)
    variance, axes = np.linalg.eigh(covariance)
    return np.maximum(variance, 0.0), axes


def covariances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the covariances of anomalies (n, n_members, r) and (n, n_members, c)."""
    return np.asarray(transposed(left) @ right / (left.shape[1] - 1))


def transposed(matrices: np.ndarray) -> np.ndarray:
    """Return the transposes of (..., r, c) matrices."""
    return np.swapaxes(matrices, -1, -2)


def column(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the products A v of matrices (n, r, c) and vectors (n, c)."""
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def row(vectors: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return the products v^T A of vectors (n, r) and matrices (n, r, c)."""
    return np.asarray((vectors[..., None, :] @ matrices)[..., 0, :])
