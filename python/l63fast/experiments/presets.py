"""Named experiments, as the tables of a TOML file; nothing about them is special."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from l63fast.experiments.config import merged
from l63fast.experiments.cycled.encoder_presets import ENCODERS, RECIPES
from l63fast.experiments.cycled.presets import CYCLED
from l63fast.experiments.kind import Experiment

__all__ = [
    "DEFAULT",
    "OF_WINDOWS",
    "PRESETS",
    "RECIPES",
    "experiment_from_tables",
    "with_preset",
]

Tables = dict[str, Any]

# The study that this package starts from, whole: three encoders on three operators at
# four noise levels, one analysis from one window.
_STUDY: Final[Tables] = {
    "experiment": {
        "models": ["mlp", "gru", "lstm"],
        "operators": ["x", "xy", "x2"],
        "sigmas": [0.05, 0.1, 0.5, 1.0],
        "optimum": 2**18,
    },
    "data": {
        "n_train": 1000,
        "n_val": 500,
        "n_test": 500,
        "n_steps": 200,
        "steps_per_cycle": 1,
    },
    "samples": {"stride": 5},
    "model": {"window": 5, "hidden": 64, "n_iterations": 1},
    "training": {
        "epochs": 30,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "patience": 30,
    },
}
STUDY: Final[dict[str, Tables]] = {
    # As published: backgrounds that know nothing of the truth, or none at all.
    "seed-published": merged(
        _STUDY,
        {
            "experiment": {"regimes": ["mean:var3d", "independent:var3d", "none:mse"]},
            "background": {"b_scale": 1.0},
        },
    ),
    # As it should be: the background is a forecast, the truth is what is learned.
    "seed-forecast": merged(
        _STUDY, {"background": {"kind": "forecast"}, "training": {"loss": "mse"}}
    ),
}

# What a window tells of a state: three encoders at equal budget, on fresh simulations,
# beside the optimum of the same windows.
_WINDOWS: Final[Tables] = {
    "experiment": {
        "models": ["mlp", "gru", "lstm"],
        "operators": ["x", "xy", "xyz", "x2"],
        "optimum": 2**18,
        "optimum_trajectories": 500,
    },
    "data": {"n_train": 1000, "n_val": 200, "n_test": 500, "n_steps": 200},
    "background": {"kind": "gauss"},
    "samples": {"fresh": 9000},
    "model": {"window": 10, "n_iterations": 1},
    "training": {
        "epochs": 48,
        "batch_size": 512,
        "learning_rate": 4e-3,
        "warm_up": 0.02,
        "clip": 0.3,
        "patience": 1000,
        "averaging": 0.995,
        "optimiser": "muon",
    },
}

# The same from a thousand windows and no more: one of each trajectory, its noise fixed,
# what the encoder sees of them jittered so that it does not learn them by heart.
_FEW_WINDOWS: Final = merged(
    _WINDOWS,
    {
        "experiment": {"operators": ["xyz"], "optimum_trajectories": 5000},
        "data": {"n_val": 1000, "n_test": 5000, "n_steps": 100},
        "samples": {"fresh": 0},
        "training": {"epochs": 400, "batch_size": 250, "jitter": 1.4},
    },
)

# The losses on an equal footing. Iterations, as one pass is not enough for the cost of
# 3D-Var where h bends; five observations, as for the 4D-Var that is compared with.
_LOSSES: Final = merged(
    _WINDOWS,
    {
        "experiment": {"losses": ["mse", "var3d", "var3d_window"], "optimum": 0},
        "model": {"window": 5, "n_iterations": 3},
    },
)

DEFAULT: Final = "quick"
PRESETS: Final[dict[str, Tables]] = {
    # The encoders of this package in one table, a few minutes on two cores.
    "quick": {
        "experiment": {
            "models": ["mlp", "gru", "lstm"],
            "operators": ["x", "xy", "x2"],
            "n_iterations": [3, 1],
        },
        "training": {"epochs": 10},
    },
    "windows": _WINDOWS,
    "windows-1000": _FEW_WINDOWS,
    "windows-losses": _LOSSES,
    **STUDY,
    **CYCLED,
    **ENCODERS,
}
# Those that train encoders for single windows; the others cycle schemes.
OF_WINDOWS: Final = tuple(name for name, t in PRESETS.items() if "methods" not in t)


def with_preset(name: str, tables: Mapping[str, Any]) -> Tables:
    """Return tables laid over those of a preset.

    Tables that say `[methods]` themselves are whole: they replace those of the preset.
    """
    preset = deepcopy(PRESETS[name])
    axes = tables.get("experiment", {})
    if isinstance(axes, Mapping) and "seeds" in axes:  # which repeat trainings as well
        preset.get("experiment", {}).pop("training_seeds", None)
    if "methods" in tables:
        preset.pop("methods", None)
    elif "methods" not in preset:
        _give_way(preset, tables)
    return merged(preset, tables)


def _give_way(preset: Tables, tables: Mapping[str, Any]) -> None:
    """Drop what a preset varies and tables fix, and the reverse."""
    from l63fast.experiments.matrix import VARIED

    for axis, places in VARIED.items():
        for section, key in (place.split(".") for place in places):
            given = tables.get(section, {})
            if isinstance(given, Mapping) and key in given:
                preset.get("experiment", {}).pop(axis, None)
            if axis in tables.get("experiment", {}):
                preset.get(section, {}).pop(key, None)


def experiment_from_tables(
    name: str, tables: Mapping[str, Any], *, source: str
) -> Experiment:
    """Return an experiment: a cycled one if there are `[methods]`, else of encoders.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    if "methods" in tables:
        from l63fast.experiments.cycled import reading

        return reading.experiment_from_tables(name, tables, source=source)
    from l63fast.experiments.encoder_experiment import encoders_from_tables

    return encoders_from_tables(name, tables, source=source)
