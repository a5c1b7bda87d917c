"""Every finished cell of an experiment, of whatever kind, in one tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.errors import ResultError
from l63fast.experiments.cycled.encoders import TrainedEncoder
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.names import case_notes, method_names
from l63fast.experiments.optimum import OptimumResult
from l63fast.experiments.result import Result
from l63fast.experiments.source import Source

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CASE", "FACTS", "MEANS", "TIMES", "open_results", "results_of"]

# What the methods of one comparison were given.
CASE: Final = ("operator", "sigma", "interval", "case")
# Time means of one trajectory: of the instantaneous root mean square error over x, y, z
# and of its square, of the analyses and of the nearer of each and its mirror image.
MEANS: Final = ("rmse_a", "mse_a", "mirror_rmse_a", "mirror_mse_a")
# Numbers of a whole cell, the same in each of its rows; NaN where it has none.
TIMES: Final = (
    *("seconds_per_cycle", "seconds_per_analysis", "training_seconds", "resumed"),
)
FACTS: Final = (
    *("p95", "sign_flips", "diverged", "truth_lost", "spread_ratio"),
    "innovation_ratio",
    *("innovation_low", "innovation_high", "crps", "effective_size", "cost_ratio"),
    *("tuned", "settled", *TIMES),
)
_BASELINES: Final = ("climatology", "background")
_STATES: Final = {"3D-Var": "3dvar", "4D-Var": "4dvar"}
_KEYS: Final = ("method", "label", "role", "scheme", "cell", "states", "parameter")


def open_results(folder: str | Path) -> pd.DataFrame:
    """Return the error of every method on every test trajectory of an experiment.

    The files are verified against their manifests; nothing that they name is imported.

    Parameters
    ----------
    folder : path
        Of an experiment.

    Returns
    -------
    DataFrame
        A row per case, method, seed, training and trajectory. Columns: those of
        `CASE`; `method`, the key of the method in its experiment, and `label`, its name
        in tables; `role` ("method", "baseline", "optimum"), as the method states it,
        and `scheme`; `cell`, its folder, and `states`, which of the states in it are
        meant; `parameter`, what was tuned; `seed` of the data, `training` (seed; -1 for
        what is not trained), `data` (hash of the test split); `trajectory`; `MEANS`;
        `FACTS`.

    Raises
    ------
    DataFileError
        If the folder is none of an experiment, or no cell in it can be read.
    ResultError
        If cells of one case and seed come from different data.
    """
    return results_of(Source.open(folder).results)


def results_of(results: Sequence[Any]) -> pd.DataFrame:
    """Return what `open_results` does, of cells that were opened before."""
    import pandas as pd

    windows = [result for result in results if isinstance(result, Result)]
    names, notes = method_names(windows), case_notes(windows)
    tables = []
    for result in results:
        data = result.settings.data
        common = {
            "operator": data.operator,
            "sigma": data.sigma,
            "interval": data.steps_per_cycle * data.dt,
            "cell": result.directory.name,
            "parameter": "",
            "seed": data.seed,
            "training": -1,
            "data": str(result.metrics["data"].get("test")),
            **dict.fromkeys(FACTS, math.nan),
        }
        for columns, means in _methods(result, windows, names, notes):
            table = pd.DataFrame(means, columns=list(MEANS))
            table = table.assign(**common | columns).rename_axis("trajectory")
            tables.append(table.reset_index())
    order = [*CASE, *_KEYS, "seed", "training", "data", "trajectory", *MEANS, *FACTS]
    frame = pd.concat(tables, ignore_index=True)[order]
    for (*_, seed), rows in frame.groupby([*CASE, "seed"], sort=False):
        first = rows.drop_duplicates("data")["cell"].tolist()
        if len(first) > 1:
            raise ResultError(
                f"{' and '.join(first)}: come from different data of seed {seed} and "
                "cannot be compared"
            )
    # 3D-Var and the like stand in the cell of every encoder, and count once.
    once = [*CASE, "method", "seed", "training", "data", "trajectory"]
    return frame.drop_duplicates(once, ignore_index=True)


Columns = dict[str, Any]


def _methods(
    result: Any,
    windows: Sequence[Result],
    names: Mapping[int, str],
    notes: Mapping[int, str],
) -> Iterator[tuple[Columns, np.ndarray]]:
    """Yield the columns of each method of a cell, and its means (n_trajectories, 4)."""
    if isinstance(result, CycledResult):
        yield _cycled(result)
    elif isinstance(result, OptimumResult):
        columns = dict.fromkeys(("method", "label", "role", "scheme"), "optimum")
        facts = {"states": "", "settled": float(result.settled)}
        for case in {
            notes[id(e)] for e in windows if result.settings.is_of(e.settings)
        }:
            yield {**columns, **facts, "case": case}, result.trajectories
    else:
        for states, means in result.trajectory_means.items():
            yield _window(result, states, names[id(result)], notes[id(result)]), means


def _cycled(result: CycledResult) -> tuple[Columns, np.ndarray]:
    method, metrics, seconds = (
        result.settings.method,
        result.metrics,
        result.timing["seconds"],
    )
    data = result.settings.data
    columns: Columns = {
        "case": "" if data.R is None else f"R {[list(row) for row in data.R]}",
        "method": result.settings.method_key,
        "label": metrics["label"],
        "role": method.role,
        "scheme": method.scheme,
        "states": "analysis",
        "p95": metrics["scores"]["p95"],
        "sign_flips": metrics["scores"]["sign_flip_rate"],
        "seconds_per_cycle": seconds["per_cycle"],
        "seconds_per_analysis": seconds["per_analysis"],
    }
    if method.role != "baseline":  # climatology defines when another has diverged
        columns["diverged"] = metrics["scores"]["divergence_rate"]
        status = metrics["status"]
        columns["truth_lost"] = status["diverged"] / sum(status.values())
    if isinstance(method, TrainedEncoder):
        columns["training"] = method.training.seed
        columns["training_seconds"] = seconds["tuning"]
        columns["resumed"] = float(seconds.get("tuning_resumed", False))
    for name, of in (("spread_ratio", "spread"), ("innovation_ratio", "innovation")):
        if of in metrics:
            columns[name] = metrics[of]["ratio"]
    if "innovation" in metrics:
        low, high = metrics["innovation"]["ci95"]["ratio"]
        columns |= {"innovation_low": low, "innovation_high": high}
    if "crps" in metrics:
        columns["crps"] = metrics["crps"]["crps"]
    if "effective_size" in metrics:
        columns["effective_size"] = metrics["effective_size"]
    if "tuning" in metrics or "convergence" in metrics:
        columns["parameter"] = metrics["parameter"]["name"]
        columns["tuned"] = metrics["parameter"]["value"]
    if "convergence" in metrics:
        columns["settled"] = float(metrics["convergence"]["settled"])
    floats = {k: float(v) for k, v in columns.items() if k in FACTS and v is not None}
    return columns | floats, np.stack(list(result.trajectories.values()), axis=1)


def _window(result: Result, states: str, name: str, case: str) -> Columns:
    scores = result.metrics["scores"][states]
    columns: Columns = {
        "case": case,
        "states": states,
        "method": _STATES.get(states, states),
        "label": states,
        "role": "baseline" if states in _BASELINES else "method",
        "scheme": _STATES.get(states, states),
        "p95": float(scores["p95"]),
        "sign_flips": float(scores["sign_flip_rate"]),
    }
    if columns["role"] == "method":
        columns["diverged"] = float(scores["divergence_rate"])
    if states == "analysis":
        seconds = result.timing["seconds"]
        columns |= {
            "method": name.lower().replace(", ", "-").replace("=", ""),
            "label": name,
            "scheme": "encoder",
            "training": result.settings.training.seed,
            "training_seconds": seconds.get("training and export", math.nan),
        }
        if "cost" in result.metrics:
            columns["cost_ratio"] = float(result.metrics["cost"]["ratio"])
    return columns
