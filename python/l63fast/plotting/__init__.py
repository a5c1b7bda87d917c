"""One function per figure: NumPy arrays in, a matplotlib Figure out."""

from l63fast.plotting._style import looks as method_looks
from l63fast.plotting.comparison import overview
from l63fast.plotting.cost import score_against_cost
from l63fast.plotting.ensembles import convergence, rank_histograms
from l63fast.plotting.error_curves import error_against_time, error_distribution
from l63fast.plotting.error_map import error_maps
from l63fast.plotting.failures import Excerpt, failure_panels, failure_shares
from l63fast.plotting.fitting import training_curves, tuning_curve, validation_curves
from l63fast.plotting.gains import gain_comparison
from l63fast.plotting.growth import growth_curves
from l63fast.plotting.horizon import ErrorGrowth, forecast_growth, horizon
from l63fast.plotting.increments import Increments, increment_histograms
from l63fast.plotting.methods import (
    MethodScore,
    method_claims,
    method_scores,
)
from l63fast.plotting.motion import animation
from l63fast.plotting.phase_space import attractor
from l63fast.plotting.reliability import spread_against_error
from l63fast.plotting.saving import save_animation, save_figure
from l63fast.plotting.scores_across import scores_across
from l63fast.plotting.speed import speed_bars
from l63fast.plotting.trajectories import panels, select_cases

__all__ = [
    "ErrorGrowth",
    "Excerpt",
    "Increments",
    "MethodScore",
    "animation",
    "attractor",
    "convergence",
    "error_against_time",
    "error_distribution",
    "error_maps",
    "failure_panels",
    "failure_shares",
    "forecast_growth",
    "gain_comparison",
    "growth_curves",
    "horizon",
    "increment_histograms",
    "method_claims",
    "method_looks",
    "method_scores",
    "overview",
    "panels",
    "rank_histograms",
    "save_animation",
    "save_figure",
    "score_against_cost",
    "scores_across",
    "select_cases",
    "speed_bars",
    "spread_against_error",
    "training_curves",
    "tuning_curve",
    "validation_curves",
]
