"""Named cycled experiments, as tables of a TOML file; nothing about them is special."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["CYCLED"]

Tables = dict[str, Any]

# Inflation of the extended Kalman filter: that of P in a unit of time, 180, here of
# standard deviations in each forecast.
_EXTKF_INFLATION: Final = 180.0 ** (0.25 / 2.0)


def _references(b_scale: float) -> Tables:
    """Return the schemes with a constant B; `b_scale` is the published one of C."""
    return {
        "climatology": {"scheme": "climatology"},
        "oi": {"scheme": "oi"},
        "3dvar-c": {"scheme": "3dvar", "B": "climatology", "b_scale": b_scale},
        "3dvar": {"scheme": "3dvar"},
    }


def _enkf(
    n_members: int,
    inflation: float = 1.0,
    *,
    variant: str = "square_root",
    rotation: bool = True,
) -> Tables:
    return {
        "scheme": "enkf",
        "n_members": n_members,
        "variant": variant,
        "rotation": rotation,
        "inflation": inflation,
    }


_DATA: Final[Tables] = {"n_train": 100, "n_val": 50, "n_test": 200}
_CYCLE: Final[Tables] = {
    "n_cycles": 1000,
    "burn_in": 16.0,
    "initial_spread": math.sqrt(2.0),
}
_SAKOV2012: Final[Tables] = {
    "data": {
        **_DATA,
        "operator": "xyz",
        "sigma": math.sqrt(2.0),
        "steps_per_cycle": 25,
    },
    "cycle": _CYCLE,
}

CYCLED: Final[dict[str, Tables]] = {
    # DAPPER, mods/Lorenz63/sakov2012.py, after Sakov, Oliver & Bertino (2012).
    "sakov2012": {
        **_SAKOV2012,
        "methods": {
            **_references(b_scale=0.1),
            "4dvar-4": {"scheme": "4dvar", "window": 4, "b_scale": 0.25},
            "4dvar-8": {"scheme": "4dvar", "window": 8, "b_scale": 0.5},
            "extkf": {"scheme": "extkf", "inflation": _EXTKF_INFLATION},
            "enkf-3": _enkf(3, 1.30, rotation=False),
            "enkf-10": _enkf(10, 1.02),
            "enkf-s-10": _enkf(10, 1.04, variant="stochastic"),
            "enkf-100": _enkf(100, 1.01, variant="stochastic"),
            "enkf-n-3": _enkf(3, variant="finite_size", rotation=False),
            "enkf-n-10": _enkf(10, variant="finite_size"),
            "pf-100": {
                "scheme": "pf",
                "n_particles": 100,
                "regularisation": 2.4,
                "threshold": 0.3,
            },
            "pf-800": {
                "scheme": "pf",
                "n_particles": 800,
                "regularisation": 0.9,
            },
            "pf-4000": {
                "scheme": "pf",
                "n_particles": 4000,
                "regularisation": 0.7,
                "threshold": 0.05,
            },
        },
    },
    # DAPPER, mods/Lorenz63/wiljes2017.py, after de Wiljes, Reich & Stannat (2018).
    "wiljes2017": {
        "data": {
            **_DATA,
            "operator": "x",
            "sigma": math.sqrt(8.0),
            "steps_per_cycle": 12,
        },
        "cycle": _CYCLE,
        "methods": {
            **_references(b_scale=0.3),
            "4dvar-4": {"scheme": "4dvar", "window": 4, "b_scale": 0.25},
            "4dvar-8": {"scheme": "4dvar", "window": 8, "b_scale": 0.25},
            "extkf": {"scheme": "extkf"},
            "enkf-30": _enkf(30, 1.04),
            "enkf-n-5": _enkf(5, variant="finite_size", rotation=False),
            "enkf-n-30": _enkf(30, variant="finite_size"),
            "pf-35": {
                "scheme": "pf",
                "n_particles": 35,
                "regularisation": 1.4,
                "threshold": 0.3,
            },
            "pf-1000": {
                "scheme": "pf",
                "n_particles": 1000,
                "regularisation": 0.7,
            },
            "pf-4000": {
                "scheme": "pf",
                "n_particles": 4000,
                "regularisation": 0.5,
            },
        },
    },
    # Revach et al. (2022), KalmanNet, section IV.D: linear observations, noisy model.
    "knet": {
        "experiment": {
            "sigmas": [1.0, 10**-0.5, 0.1, 10**-1.5, 0.01],
            "model_error": 0.01,
            "measure": "decibel",
        },
        "data": {
            "n_train": 20,
            "n_val": 20,
            "n_test": 100,
            "operator": "xyz",
            "steps_per_cycle": 2,
        },
        "cycle": {"n_cycles": 2000, "burn_in": 4.0, "initial_spread": 0.05},
        "methods": {
            "extkf": {"scheme": "extkf", "inflation": 1.0},
            "enkf-20": {"scheme": "enkf", "n_members": 20},
            "pf-10000": {
                "scheme": "pf",
                "n_particles": 10_000,
                "regularisation": 0.0,
            },
        },
    },
    # The study that this package starts from: an observation at every step.
    "seed": {
        "experiment": {
            "operators": ["x", "xy"],
            "sigmas": [0.05, 0.1, 0.5, 1.0],
        },
        "data": {
            **_DATA,
            "steps_per_cycle": 1,
        },
        "cycle": {"n_cycles": 400, "burn_in": 4.0, "initial_spread": 0.5},
        "methods": {
            "3dvar": {"scheme": "3dvar"},
            "enkf-20": {"scheme": "enkf", "n_members": 20},
            "optimum": {"scheme": "optimum"},
        },
    },
    # Operators, errors and intervals, each with the distance to the optimum.
    "grid": {
        "experiment": {
            "operators": ["x", "xy", "xyz", "x2"],
            "sigmas": [0.1, 0.5, 1.0],
            "intervals": [10, 25],
        },
        "data": {"n_train": 100, "n_val": 200, "n_test": 100},
        "cycle": {"n_cycles": 500, "burn_in": 16.0, "initial_spread": 1.0},
        "methods": {
            "3dvar": {"scheme": "3dvar"},
            "enkf-20": {"scheme": "enkf", "n_members": 20},
            "optimum": {"scheme": "optimum"},
        },
    },
}
