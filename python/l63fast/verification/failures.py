"""What went wrong where an analysis is far from the truth."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.measures import mean_squares, pair
from l63fast.verification.scores import CLIMATOLOGICAL_RMS

__all__ = ["FAR_OFF", "Failure", "classify_failures"]

FAR_OFF: Final = CLIMATOLOGICAL_RMS / 2.0  # half of what no observation at all scores
_MIRRORED: Final = 0.5


class Failure(IntEnum):
    """How an analysis failed, if it did; the words are those of tables and figures."""

    NONE = 0
    SIGN_FLIP = 1
    WRONG_LOBE = 2
    SAME_LOBE = 3
    NOT_FINITE = 4

    @property
    def words(self) -> str:
        """What tables and figures call it."""
        return _WORDS[self]


_WORDS: Final = {
    Failure.NONE: "near the truth",
    Failure.SIGN_FLIP: "sign flip",
    Failure.WRONG_LOBE: "wrong lobe",
    Failure.SAME_LOBE: "right lobe, far off",
    Failure.NOT_FINITE: "divergence",
}


@ieee_arithmetic()
def classify_failures(
    analysis: np.ndarray, truth: np.ndarray, *, far_off: float = FAR_OFF
) -> np.ndarray:
    """Return a `Failure` for each analysis (n_trajectories, n_times) int8.

    An analysis fails where the root mean square of its error over the components is
    above `far_off`. That is a sign flip where its mirror image is at most half as far
    from the truth; else the wrong lobe where x has the wrong sign.

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)
    far_off : float
        By default half the error of climatology, 3.8.
    """
    analysis, truth = pair(analysis, truth)
    far_off = _checks.real("far_off", far_off, above=0.0)
    plain, mirrored = mean_squares(analysis, truth)
    finite = np.isfinite(plain)
    with np.errstate(invalid="ignore"):
        failed = finite & (plain > far_off**2)
        flipped = mirrored < _MIRRORED**2 * plain
        other_side = np.sign(analysis[..., 0]) != np.sign(truth[..., 0])
    kinds = np.full(plain.shape, Failure.NONE, dtype=np.int8)
    kinds[failed] = Failure.SAME_LOBE
    kinds[failed & other_side] = Failure.WRONG_LOBE
    kinds[failed & flipped] = Failure.SIGN_FLIP
    kinds[~finite] = Failure.NOT_FINITE
    return kinds
