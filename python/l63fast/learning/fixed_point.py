"""Convergence of the learned fixed point: residual, contraction, error by iteration.

An iteration x_{k+1} = G(x_k) converges if G contracts: if each step |x_{k+1} - x_k| is
smaller than the one before by a factor below 1. An encoder is trained for K iterations
only; the report runs more of them and shows whether they converge, and to what error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from l63fast import _checks
from l63fast.assimilation.agreement import check_agreement
from l63fast.learning.batches import as_batch
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.encoders import Encoder
from l63fast.learning.losses import squared_error
from l63fast.learning.pinned import pinned

_CHUNK = 512


@dataclass(frozen=True, eq=False)
class FixedPointReport:
    """Iterations of an encoder on a dataset, beyond the K of its training.

    Attributes
    ----------
    residual : (n_iterations,)
        Root mean square of |x_{k+1} - x_k| over the samples, k from 0. Residual and
        rmse are mirror-aware where the operator cannot see the sign.
    contraction : (n_iterations - 1,)
        Ratio of each residual to the one before; below 1 the iteration contracts.
    rmse : (n_iterations + 1,)
        Root mean square error of x_k over samples and components. The first is that
        of the background.
    """

    residual: np.ndarray
    contraction: np.ndarray
    rmse: np.ndarray


@pinned()
def fixed_point_report(
    encoder: Encoder, data: AssimilationDataset, *, n_iterations: int | None = None
) -> FixedPointReport:
    """Return residuals, contraction and errors of an encoder's iterations.

    Parameters
    ----------
    encoder : Encoder
    data : AssimilationDataset
    n_iterations : int, optional
        By default twice the encoder's K, at least 3.

    Raises
    ------
    ArgumentValueError
        If the encoder was made for another operator or interval than the data.
    """
    check_agreement("encoder", encoder.made_for, data.made_for, imperfect_model=True)
    if n_iterations is None:
        n_iterations = max(3, 2 * encoder.n_iterations)
    n_iterations = _checks.count("n_iterations", n_iterations, minimum=1)
    blind, everything = encoder.folds, as_batch(data)
    moved, error = np.zeros(n_iterations), np.zeros(n_iterations + 1)
    with torch.inference_mode():
        for start in range(0, len(data), _CHUNK):
            background, obs_window, truth = (
                values[start : start + _CHUNK] for values in everything
            )
            hidden = encoder.initial_hidden(len(truth))
            iterates = encoder.iterates(background, obs_window, hidden, n_iterations)
            for k, estimate in enumerate(iterates):
                square = squared_error(estimate, truth, mirror_aware=blind)
                error[k] += float(square.double().sum())
                if k:
                    before = iterates[k - 1]
                    step = squared_error(estimate, before, mirror_aware=blind)
                    moved[k - 1] += float(step.double().sum())
    residual = np.sqrt(moved / len(data))
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = residual[1:] / residual[:-1]
    return FixedPointReport(residual, contraction, np.sqrt(error / (3 * len(data))))
