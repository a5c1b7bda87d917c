"""Two small finished experiments as tables, and what scores made of them.

`python tests/golden_results.py` makes them again, after a change that is meant to
change scores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cycled_samples import tiny_cycled
from experiment_samples import TINY
from l63fast.experiments.config import merged
from l63fast.experiments.presets import experiment_from_tables
from l63fast.experiments.results import TIMES, open_results
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.scoring import scores
from l63fast.learning import export

__all__ = ["FOLDER", "GOLDEN", "read", "scored"]

FOLDER: Final = Path(__file__).parent / "golden_results"
GOLDEN: Final = {"cycles": "rmse_a", "windows": "rmse_pooled_a"}  # what decides


def read(name: str) -> pd.DataFrame:
    """Return a stored table; an empty text is one, and no missing value."""
    table = pd.read_csv(
        FOLDER / f"{name}.csv", keep_default_na=False, na_values=["nan"]
    )
    return table.assign(**dict.fromkeys(TIMES, float("nan")))


def scored(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return scores as they are stored."""
    found = scores(results, measure, n_bootstrap=200).drop(columns=list(TIMES))
    return found.assign(ties=found["ties"].str.join("; "))


def _cycles() -> Any:
    gru = {
        "scheme": "encoder",
        "hidden": 4,
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.003},
        "cycles": {"updates": 2, "unroll": 3, "first_unroll": 2},
    }
    methods = {
        "climatology": {"scheme": "climatology"},
        "3dvar": {"scheme": "3dvar", "b_scale": 0.1, "B": "climatology"},
        "gru": gru,
        "optimum": {"scheme": "optimum", "n_particles": 500, "max_particles": 500},
    }
    axes = {"operators": ["xyz", "x2"], "training_seeds": [0, 1]}
    return tiny_cycled(data={"n_test": 30}, experiment=axes, methods=methods)


def _windows() -> Any:
    axes = {
        "models": ["mlp", "gru"],
        "operators": ["xy", "x2"],
        "n_iterations": [1],
        "seeds": [0, 1],
        "optimum": 8192,
    }
    tables = merged(TINY, {"data": {"n_test": 30}, "experiment": axes})
    tables["data"]["n_steps"] = 100
    return experiment_from_tables("windows", tables, source="a golden experiment")


def _made() -> None:
    export._WRITE = {"safetensors": export._WRITE["safetensors"]}
    FOLDER.mkdir(exist_ok=True)
    for (name, measure), experiment in zip(
        GOLDEN.items(), (_cycles(), _windows()), strict=True
    ):
        with tempfile.TemporaryDirectory() as root:
            outcome = run_experiment(experiment, Path(root))
            assert outcome.failures == {}
            results = open_results(Path(root) / experiment.name)
        how: dict[str, Any] = {"index": False, "na_rep": "nan", "lineterminator": "\n"}
        results.drop(columns=list(TIMES)).to_csv(FOLDER / f"{name}.csv", **how)
        scored(read(name), measure).to_csv(FOLDER / f"{name}_scores.csv", **how)


if __name__ == "__main__":
    _made()
