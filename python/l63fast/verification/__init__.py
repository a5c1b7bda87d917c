"""Scores of analyses and ensembles, with intervals over trajectories."""

from l63fast.verification.comparison import (
    Comparison,
    compare,
    paired_difference,
)
from l63fast.verification.ensembles import (
    RankHistogram,
    SpreadSkill,
    crps,
    rank_histogram,
    spread_skill,
)
from l63fast.verification.failures import FAR_OFF, Failure, classify_failures
from l63fast.verification.innovations import (
    InnovationStatistics,
    innovation_statistics,
)
from l63fast.verification.measures import (
    MEASURES,
    instantaneous_rms,
    nearer,
    rmse,
    rmse_pooled,
    skill,
)
from l63fast.verification.repetitions import MethodScore, Rank, Repetitions
from l63fast.verification.scores import (
    CLIMATOLOGICAL_RMS,
    Scores,
    decibel,
    score,
    trajectory_means,
)

__all__ = [
    "CLIMATOLOGICAL_RMS",
    "FAR_OFF",
    "MEASURES",
    "Comparison",
    "Failure",
    "InnovationStatistics",
    "MethodScore",
    "Rank",
    "RankHistogram",
    "Repetitions",
    "Scores",
    "SpreadSkill",
    "classify_failures",
    "compare",
    "crps",
    "decibel",
    "innovation_statistics",
    "instantaneous_rms",
    "nearer",
    "paired_difference",
    "rank_histogram",
    "rmse",
    "rmse_pooled",
    "score",
    "skill",
    "spread_skill",
    "trajectory_means",
]
