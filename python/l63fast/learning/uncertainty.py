"""The distribution that an encoder estimates: a mixture of normals around its analysis.

The head has further outputs for it. In a tensor a mixture of k normals is (n, k, 13):
weight, mean, and the rows of a matrix A with the covariance A A^T, in physical units.
This is the layout of `verification.NORMAL`.
"""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from l63fast.learning.settings import EncoderSettings
from l63fast.verification import NORMAL

_FACTOR: Final = 6  # numbers of a Cholesky factor


def n_outputs(settings: EncoderSettings) -> int:
    """Return the number of outputs of the head beside the increment.

    A Gaussian has a Cholesky factor. A mixture has also a weight and either nothing
    more, where its second component is the mirror image of the first, or a second
    factor and the distance between both means.
    """
    if settings.uncertainty == "gaussian":
        return _FACTOR
    return _FACTOR + 1 if settings.folds else 2 * _FACTOR + 1 + 3


def places() -> Tensor:
    """Return a constant (7, 9) of `mixture_of`: few large operations are faster.

    Its first row is the unit matrix as nine numbers, the next three put numbers below
    the diagonal, and the last three a number in all places of a row.
    """
    at = torch.zeros(7, 9)
    at[0, [0, 4, 8]] = 1.0
    at[[1, 2, 3], [3, 6, 7]] = 1.0
    for row in range(3):
        at[4 + row, 3 * row : 3 * row + 3] = 1.0
    return at


def mixture_of(
    analysis: Tensor, outputs: Tensor, scale: Tensor, places: Tensor, folds: bool
) -> Tensor:
    """Return the mixture (n, k, 13) of an analysis (n, 3) and outputs of the head.

    Outputs of zero give standard deviations of `scale`, the size of increments.

    Parameters
    ----------
    analysis : (n, 3)
        Mean of the only component or of a mixture; mean of the first one if it folds.
    outputs : (n, n_outputs)
    scale : (3,)
    places : (7, 9)
        From `places`.
    folds : bool
        Whether the encoder works in folded coordinates. The factor is then in these
        coordinates, and a second component is the mirror image.
    """
    factor = _factor(outputs[:, :6], scale, places)
    if folds:
        factor = _unfolded(factor.reshape(-1, 3, 3), analysis).reshape(-1, 9)
    one = torch.ones_like(outputs[:, :1])
    if outputs.shape[1] == 6:
        return torch.cat([one, analysis, factor], 1).unsqueeze(1)
    weight = torch.sigmoid(outputs[:, 6:7] + 1.0)
    if folds:
        mirror = torch.tensor([-1.0, -1.0, 1.0], dtype=scale.dtype, device=scale.device)
        first, second = analysis, analysis * mirror
        other = factor * (mirror @ places[4:])
    else:
        apart = outputs[:, 13:16] * scale
        first, second = analysis + (1.0 - weight) * apart, analysis - weight * apart
        # Wider than the first, so that the two do not learn the same.
        other = 2.0 * _factor(outputs[:, 7:13], scale, places)
    parts = [
        torch.cat([weight, first, factor], 1),
        torch.cat([one - weight, second, other], 1),
    ]
    return torch.stack(parts, 1)


def _factor(outputs: Tensor, scale: Tensor, places: Tensor) -> Tensor:
    """Return Cholesky factors (n, 9): a diagonal times one with a diagonal of 1."""
    size = scale * torch.exp(6.0 * torch.tanh(outputs[:, :3] / 6.0))
    below = outputs[:, 3:6].clamp(-30.0, 30.0)
    return torch.addmm(places[0], below, places[1:4]) * (size @ places[4:7])


def _unfolded(factor: Tensor, state: Tensor) -> Tensor:
    """Return factors in x, y and z of factors in the coordinates of `fold`.

    Doubling the angle a keeps the distance from the z axis. So the derivative of the
    state maps the direction away from that axis, (cos 2a, sin 2a), to (cos a, sin a),
    and half of the direction around it, (-sin 2a, cos 2a), to (-sin a, cos a).
    """
    x, y = state[:, 0:1], state[:, 1:2]
    radius = (x * x + y * y + 1e-12).sqrt()
    c, s = x / radius, y / radius
    cos, sin = c * c - s * s, 2.0 * c * s
    away = cos * factor[:, 0] + sin * factor[:, 1]
    around = 0.5 * (cos * factor[:, 1] - sin * factor[:, 0])
    rows = [c * away - s * around, s * away + c * around, factor[:, 2]]
    return torch.stack(rows, 1)


def as_components(mixture: np.ndarray) -> np.ndarray:
    """Return mixtures (..., k, 13) as an array (..., k) of `verification.NORMAL`."""
    values = np.ascontiguousarray(mixture, dtype=np.float64)
    return values.view(NORMAL)[..., 0]


def as_mixture(components: np.ndarray) -> Tensor:
    """Return the tensor (n, k, 13) of components (n, k)."""
    values = np.ascontiguousarray(components).view(np.float64)
    return torch.from_numpy(values.reshape(*components.shape, 13).astype(np.float32))


def directions(like: Tensor) -> Tensor:
    """Return the directions (9, 3) of `crps`: x, y, z, and those half-way between two.

    The variances along them determine all correlations, which those of x, y and z do
    not. With each direction its mirror image is among them.
    """
    half = math.sqrt(0.5)
    pairs = [
        [half, half, 0.0],
        [half, -half, 0.0],
        [half, 0.0, half],
        [half, 0.0, -half],
        [0.0, half, half],
        [0.0, half, -half],
    ]
    axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    return torch.tensor(axes + pairs, dtype=like.dtype, device=like.device)


def crps(mixture: Tensor, truth: Tensor) -> Tensor:
    """Return the sum (n,) of the CRPS of mixtures (n, k, 13) along `directions`.

    Source: Grimit, Gneiting, Berrocal & Johnson (2006), equation 5; of one component
    Gneiting & Raftery (2007), equation 21.
    """
    along = directions(mixture).t()
    weight, mean = mixture[..., 0:1], mixture[..., 1:4] @ along
    sigma = (_factors(mixture).transpose(2, 3) @ along).square().sum(2).sqrt()
    truth = truth @ along
    score = (weight * _mean_distance(truth[:, None] - mean, sigma)).sum(1)
    # Half the mean distance of two draws: of one component each, and of two of them.
    score = score - (weight.square() * sigma).sum(1) / math.sqrt(math.pi)
    k = mixture.shape[1]
    for i in range(k):
        for j in range(i):
            both = (sigma[:, i].square() + sigma[:, j].square()).sqrt()
            pairs = _mean_distance(mean[:, i] - mean[:, j], both)
            score = score - weight[:, i] * weight[:, j] * pairs
    total: Tensor = score.sum(1)
    return total


def log_score(mixture: Tensor, truth: Tensor) -> Tensor:
    """Return minus the logarithm (n,) of the density of mixtures at the truth."""
    weight, mean = mixture[..., 0], mixture[..., 1:4]
    a, b, c = _factors(mixture).unbind(-1)
    across, apart = torch.linalg.cross(b, c), truth[:, None] - mean
    det = (a * across).sum(-1)
    # The inverse of a factor by Cramer's rule.
    rows = torch.stack([across, torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -2)
    square = ((rows @ apart[..., None])[..., 0] / det[..., None]).square().sum(-1)
    each = weight.log() - 0.5 * square - det.abs().log() - 1.5 * math.log(2 * math.pi)
    return -torch.logsumexp(each, 1)


def _factors(mixture: Tensor) -> Tensor:
    return mixture[..., 4:].reshape(*mixture.shape[:2], 3, 3)


def _mean_distance(d: Tensor, sigma: Tensor) -> Tensor:
    """Return E |d + sigma Z| for a standard normal Z."""
    z = d / sigma
    density = torch.exp(-0.5 * z.square()) * (2.0 / math.sqrt(2.0 * math.pi))
    return d * torch.erf(z / math.sqrt(2.0)) + sigma * density
