"""One function per figure: NumPy arrays in, a matplotlib Figure out."""

from l63fast.plotting.comparison import overview
from l63fast.plotting.ensembles import convergence, rank_histograms
from l63fast.plotting.error_curves import error_against_time, error_distribution
from l63fast.plotting.fitting import training_curves, tuning_curve
from l63fast.plotting.growth import growth_curves
from l63fast.plotting.methods import (
    MethodScore,
    method_claims,
    method_scores,
    scores_by_sigma,
)
from l63fast.plotting.motion import animation
from l63fast.plotting.phase_space import attractor
from l63fast.plotting.saving import save_animation, save_figure
from l63fast.plotting.speed import speed_bars
from l63fast.plotting.trajectories import panels, select_cases

__all__ = [
    "MethodScore",
    "animation",
    "attractor",
    "convergence",
    "error_against_time",
    "error_distribution",
    "growth_curves",
    "method_claims",
    "method_scores",
    "overview",
    "panels",
    "rank_histograms",
    "save_animation",
    "save_figure",
    "scores_by_sigma",
    "select_cases",
    "speed_bars",
    "training_curves",
    "tuning_curve",
]
