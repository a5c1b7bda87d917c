"""How the learned fixed point behaves: residual, contraction and error by iteration."""

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
    """Iterations of an encoder over a dataset, beyond the K it was trained with.

    Attributes
    ----------
    residual : (n_iterations,)
        Root mean square of |x_{k+1} - x_k| over the samples, k from 0; between the
        nearer of the state and its mirror image where the operator cannot see which.
    contraction : (n_iterations - 1,)
        Ratio of each residual to the one before; below 1 the iteration contracts.
    rmse : (n_iterations + 1,)
        Error of x_k over all components; mirror-aware where the operator cannot see
        the sign. The first is the background's.
    """

    residual: np.ndarray
    contraction: np.ndarray
    rmse: np.ndarray


@pinned()
def fixed_point_report(
    encoder: Encoder, data: AssimilationDataset, *, n_iterations: int | None = None
) -> FixedPointReport:
    """Return how an encoder's iterates move and what they gain.

    Parameters
    ----------
    encoder : Encoder
    data : AssimilationDataset
    n_iterations : int, optional
        How far to iterate; by default twice the encoder's K, at least 3.

    Raises
    ------
    ArgumentValueError
        If the data are of another operator or interval than the encoder.
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
            found = encoder.iterates(background, obs_window, hidden, n_iterations)
            for k, estimate in enumerate(found):
                square = squared_error(estimate, truth, mirror_aware=blind)
                error[k] += float(square.double().sum())
                if k:
                    step = squared_error(estimate, found[k - 1], mirror_aware=blind)
                    moved[k - 1] += float(step.double().sum())
    residual = np.sqrt(moved / len(data))
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = residual[1:] / residual[:-1]
    return FixedPointReport(residual, contraction, np.sqrt(error / (3 * len(data))))
