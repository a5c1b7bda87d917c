"""One function per figure: NumPy arrays in, a matplotlib Figure out."""

import l63fast.plotting._backend  # noqa: F401, before anything of matplotlib
from l63fast.plotting._style import looks as method_looks
from l63fast.plotting._style import save_figure
from l63fast.plotting.diagnostics import (
    Excerpt,
    Increments,
    error_maps,
    failure_panels,
    failure_shares,
    gain_comparison,
    increment_histograms,
)
from l63fast.plotting.error_curves import (
    ErrorGrowth,
    ParameterEstimates,
    error_against_time,
    error_distribution,
    error_since_observed,
    forecast_growth,
    horizon,
    parameter_estimates,
)
from l63fast.plotting.fitting import (
    convergence,
    pit_histograms,
    rank_histograms,
    spread_against_error,
    training_curves,
    tuning_curve,
    validation_curves,
)
from l63fast.plotting.motion import animation, save_animation
from l63fast.plotting.scores import (
    MethodScore,
    method_claims,
    method_scores,
    overview,
    score_against_cost,
    scores_across,
)
from l63fast.plotting.speed import growth_curves, speed_bars
from l63fast.plotting.trajectories import attractor, panels, select_cases

__all__ = [
    "ErrorGrowth",
    "Excerpt",
    "Increments",
    "MethodScore",
    "ParameterEstimates",
    "animation",
    "attractor",
    "convergence",
    "error_against_time",
    "error_distribution",
    "error_maps",
    "error_since_observed",
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
    "parameter_estimates",
    "pit_histograms",
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
