"""Error covariances of tuned 3D-Var in its cycle: of its forecasts and its analyses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from l63fast import _random
from l63fast.assimilation.cycled_tuning import tune_cycled_b_scale
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import Tuning
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import second_moment, symmetrised
from l63fast.twin import TwinExperiment
from l63fast.verification import nearer

__all__ = ["CycledErrors", "error_covariance", "estimate_cycled_errors", "perturbed"]

MAX_ITERATIONS: Final = 30
TRACE_TOLERANCE: Final = 0.02
_BURN_IN_SHARE: Final = 5  # the first fifth of a trajectory forgets how it started
_MIN_SAMPLES: Final = 20


@dataclass(frozen=True, eq=False)
class CycledErrors:
    """What the cycle of tuned 3D-Var does, measured on the training split.

    Attributes
    ----------
    scheme : ThreeDVar
        The tuned scheme.
    background, analysis : (3, 3)
        Error covariances of its forecasts, B_f, and of its analyses, P_a.
    n_iterations : int
        How often B_f was estimated anew before its trace settled.
    tuning : Tuning
        Of the scale of B_f, on the validation split.
    """

    scheme: ThreeDVar
    background: np.ndarray
    analysis: np.ndarray
    n_iterations: int
    tuning: Tuning


def error_covariance(
    estimate: np.ndarray, truth: np.ndarray, *, mirror_aware: bool = False
) -> np.ndarray:
    """Return the second moment (3, 3) of estimate - truth, symmetrised with S.

    Parameters
    ----------
    estimate, truth : (..., 3)
    mirror_aware : bool
        Measure each error to the nearer of the truth and its mirror image.
    """
    judged = nearer(estimate, truth) if mirror_aware else estimate
    return symmetrised(second_moment(judged - truth))


def perturbed(
    truth: np.ndarray, covariance: np.ndarray, *, seed: int, split_name: str
) -> np.ndarray:
    """Return truth + N(0, covariance), truth (n, ..., 3), keyed by trajectory."""
    noise = _random.standard_normals(
        seed, "background", split_name, len(truth), truth.shape[1:]
    )
    return np.asarray(truth + noise @ np.linalg.cholesky(covariance).T)


def estimate_cycled_errors(
    twin: TwinExperiment, *, n_threads: int | None = None, backend: str = "auto"
) -> CycledErrors:
    """Return the error covariances of 3D-Var, cycled and tuned for this twin.

    B starts as the climatological covariance C and becomes the error covariance of the
    forecasts that it leads to, again and again, until its trace changes by less than
    2 %; its scale is then tuned on the validation split. That beats a tuned multiple of
    C (by 12 % in rms for x2, 1 % for xy) except where x alone is observed (by -1 %),
    and it settles within about five rounds from anywhere.

    Parameters
    ----------
    twin : TwinExperiment
        Its training and validation splits are read; the test split is not.

    Raises
    ------
    ArgumentValueError
        If the training split is too small for a covariance.
    """
    train = twin.split("train")
    n, n_obs = train.observations.shape[:2]
    burn_in = n_obs // _BURN_IN_SHARE
    if n * (n_obs - burn_in) < _MIN_SAMPLES:
        raise ArgumentValueError(
            f"twin: expected at least {_MIN_SAMPLES} training analyses to estimate a "
            f"covariance from, got {n * (n_obs - burn_in)}"
        )
    scheme = ThreeDVar.for_twin(
        twin, B=twin.climatology.covariance, n_threads=n_threads, backend=backend
    )
    scheme, analysis, n_iterations = _iterated(scheme, twin, burn_in)
    tuning = tune_cycled_b_scale(
        scheme, twin, burn_in=burn_in, initial=_start(twin, "val", analysis)
    )
    scheme = replace(scheme, B=tuning.scale * scheme.B)
    background, analysis = _errors(scheme, twin, analysis, burn_in)
    return CycledErrors(scheme, background, analysis, n_iterations, tuning)


def _iterated(
    scheme: ThreeDVar, twin: TwinExperiment, burn_in: int
) -> tuple[ThreeDVar, np.ndarray, int]:
    """Return the scheme whose B is its own B_f, its P_a, and the rounds it took."""
    analysis = scheme.B
    for n_iterations in range(1, MAX_ITERATIONS + 1):
        background, analysis = _errors(scheme, twin, analysis, burn_in)
        change = np.trace(background) / np.trace(scheme.B) - 1.0
        scheme = replace(scheme, B=background)
        if abs(change) < TRACE_TOLERANCE:
            return scheme, analysis, n_iterations
    return scheme, analysis, MAX_ITERATIONS


def _errors(
    scheme: ThreeDVar, twin: TwinExperiment, start: np.ndarray, burn_in: int
) -> tuple[np.ndarray, np.ndarray]:
    initial = _start(twin, "train", start)
    result = run_cycles(scheme, twin, "train", burn_in=burn_in, initial=initial)
    truth = twin.split("train").truth_at_observations[:, result.scored]
    blind = twin.operator.is_mirror_blind
    return (
        error_covariance(result.background, truth, mirror_aware=blind),
        error_covariance(result.analysis, truth, mirror_aware=blind),
    )


def _start(twin: TwinExperiment, split_name: str, covariance: np.ndarray) -> np.ndarray:
    truth = twin.split(split_name).initial_state
    seed = twin.settings.seed
    return perturbed(truth, covariance, seed=seed, split_name=split_name)
