"""What analyses cost by the function that 3D-Var minimises, beside its minimum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from l63fast.assimilation.three_d_var import variational_cost
from l63fast.experiments.config import ScoreSettings
from l63fast.observation import ObservationOperator
from l63fast.verification import compare

__all__ = ["cost_beside_three_d_var"]


def cost_beside_three_d_var(
    estimates: Mapping[str, np.ndarray],
    operator: ObservationOperator,
    settings: ScoreSettings,
    *,
    B: np.ndarray,
    R: np.ndarray,
) -> dict[str, object]:
    """Return the mean cost J of analyses over that of 3D-Var on the same samples.

    1 is what an encoder reaches at best that was trained with the loss `var3d`.

    Parameters
    ----------
    estimates : dict of (n_trajectories, n_times, 3)
        "background", "3D-Var", "analysis"; and "observations" (..., obs_dim).
    operator : ObservationOperator
    settings : ScoreSettings
    B, R : (3, 3) and (obs_dim, obs_dim)
        Those of 3D-Var and of the loss.

    Returns
    -------
    dict
        "analysis" and "3D-Var", mean costs; "ratio" and its 95 % interval "ci95",
        paired, over trajectories.
    """
    means = {
        name: variational_cost(
            estimates[name].astype(np.float64),
            estimates["background"].astype(np.float64),
            estimates["observations"].astype(np.float64),
            operator,
            B=B,
            R=R,
        ).mean(axis=1)
        for name in ("analysis", "3D-Var")
    }
    found = compare(
        means["analysis"],
        means["3D-Var"],
        measure="rms",  # a mean over trajectories, and no root
        **settings.bootstrap,
    )
    costs = {name: float(values.mean()) for name, values in means.items()}
    return {**costs, "ratio": found.ratio, "ci95": found.ratio_ci95}
