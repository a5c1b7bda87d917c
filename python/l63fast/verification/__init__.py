"""Scores of analyses and ensembles, with intervals over trajectories."""

from l63fast.verification.ensembles import (
    RankHistogram,
    SpreadSkill,
    crps,
    rank_histogram,
    spread_skill,
)
from l63fast.verification.innovations import (
    InnovationStatistics,
    innovation_statistics,
)
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
    "InnovationStatistics",
    "RankHistogram",
    "Scores",
    "SpreadSkill",
    "crps",
    "innovation_statistics",
    "instantaneous_rms",
    "paired_difference",
    "pool",
    "rank_histogram",
    "rms",
    "score",
    "skill",
    "spread_skill",
]
