"""Scores of analyses against the truth, with intervals over trajectories."""

from l63fast.verification.measures import (
    MEASURES,
    instantaneous_rms,
    pool,
    rms,
    skill,
)
from l63fast.verification.scores import (
    CLIMATOLOGICAL_RMS,
    Scores,
    paired_difference,
    score,
)

__all__ = [
    "CLIMATOLOGICAL_RMS",
    "MEASURES",
    "Scores",
    "instantaneous_rms",
    "paired_difference",
    "pool",
    "rms",
    "score",
    "skill",
]
