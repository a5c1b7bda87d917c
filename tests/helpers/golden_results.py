"""Two small finished experiments as tables, and what scores made of them.

`python tests/helpers/golden_results.py` makes them again, after a change that is meant
to change scores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import pandas as pd

from experiment_samples import TINY_GRU, tiny_cycled, tiny_windows
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.results import FACTS, TIMES
from l63fast.experiments.scoring import scores
from l63fast.learning import export
from l63fast.observation import ObservationOperator

__all__ = ["FOLDER", "GOLDEN", "read", "scored"]

FOLDER: Final = Path(__file__).parent / "golden_results"
GOLDEN: Final = {"cycles": "rmse_a", "windows": "rmse_pooled_a"}  # what decides


def read(name: str) -> pd.DataFrame:
    """Return a stored table; an empty text is one, and no missing value."""
    table = pd.read_csv(
        FOLDER / f"{name}.csv", keep_default_na=False, na_values=["nan"]
    )
    more: dict[str, Any] = {fact: float("nan") for fact in FACTS if fact not in table}
    blind = [ObservationOperator(name).is_mirror_blind for name in table["operator"]]
    since = {
        "start": "",
        "mirror_aware": blind,
        "missing": 0.0,
    }  # columns that they do not have
    more |= {name: value for name, value in since.items() if name not in table}
    return table.assign(**more)


def scored(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return scores as they are stored."""
    found = scores(results, measure, n_bootstrap=200)
    found = found.drop(columns=[*TIMES, "missing"])
    return found.assign(ties=found["ties"].str.join("; "))


def _cycles() -> Experiment:
    methods = {
        "climatology": {"scheme": "climatology"},
        "3dvar": {"scheme": "3dvar", "b_scale": 0.1, "B": "climatology"},
        "gru": TINY_GRU,
        "optimum": {"scheme": "optimum", "n_particles": 500, "max_particles": 500},
    }
    vary = {"operator": ["xyz", "x2"], "training_seed": [0, 1]}
    return tiny_cycled(data={"n_test": 30}, vary=vary, methods=methods)


def _windows() -> Experiment:
    methods = {
        "background": {"scheme": "background"},
        "climatology": {"scheme": "climatology"},
        "4dvar": {"scheme": "4dvar", "b_scale": 1.0},
        "optimum": {"scheme": "optimum", "library": 8192},
    }
    vary = {"operator": ["xy", "x2"], "seed": [0, 1]}
    data = {"n_test": 30, "n_steps": 100}
    return tiny_windows(data=data, vary=vary, methods=methods)


def _made() -> None:
    export._WRITE = {"safetensors": export._WRITE["safetensors"]}
    FOLDER.mkdir(exist_ok=True)
    for (name, measure), experiment in zip(
        GOLDEN.items(), (_cycles(), _windows()), strict=True
    ):
        with tempfile.TemporaryDirectory() as root:
            results = experiment.run(root)
        how: dict[str, Any] = {"index": False, "na_rep": "nan", "lineterminator": "\n"}
        results.drop(columns=list(TIMES)).to_csv(FOLDER / f"{name}.csv", **how)
        scored(read(name), measure).to_csv(FOLDER / f"{name}_scores.csv", **how)


if __name__ == "__main__":
    _made()
