"""New scores of a trained encoder and of references, on its own or on other data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.errors import DataFileError, ResultError
from l63fast.experiments import results
from l63fast.experiments.methods import METHODS, TrainedEncoder
from l63fast.experiments.protocols import Windows
from l63fast.experiments.run_cell import problem_of, threads_of
from l63fast.experiments.scoring import scores
from l63fast.experiments.settings import MEASURES
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment


def reevaluate(
    directory: Path,
    *,
    data: Path | None = None,
    split: str = "test",
    model: Callable[..., Any] | None = None,
    operator: ObservationOperator | None = None,
) -> tuple[pd.DataFrame, str]:
    """Return scores of an exported encoder and of references, and a sentence.

    Parameters
    ----------
    directory : Path
        The result folder of a training.
    data : Path, optional
        Folder of a twin experiment; by default that of the training.
    split : {"test", "val"}
    model : callable, optional
        As in `load_encoder`.
    operator : ObservationOperator, optional
        The operator of the data, if it is your own.

    Returns
    -------
    DataFrame
        The table of `scores` with the encoder, tuned 3D-Var, climatology, and in
        windows the background.
    str
        The data, and in the case of its own test split whether the stored scores were
        reproduced.

    Raises
    ------
    DataFileError, ModelFileError
        If a file is missing or damaged, or it is not the result of an encoder.
    ResultError
        If the data folder of the training now holds other data.
    ArgumentValueError
        If the data are observed by another operator or in another interval.
    """
    from l63fast.learning.export import load_encoder

    result = results.Result.open(directory)
    cell = result.settings
    if not isinstance(cell.method, TrainedEncoder):
        raise DataFileError(
            f"{directory}: expected the result of an encoder, got one of "
            f"{cell.method.scheme}"
        )
    folder = Path(result.timing["data"]) if data is None else data
    twin = TwinExperiment.load(folder, operator=operator)
    given = twin.operator if twin.operator.is_own else None
    encoder = load_encoder(directory, model=model, operator=given)
    if not encoder.settings.gaps:
        twin.settings.require_no_gaps(str(folder), "an encoder without flags")
    differences = check_agreement(
        str(directory),
        encoder.made_for,
        Setup.of(twin.with_model(cell.model)),
        imperfect_model=True,
    )
    is_own = dict(twin.hashes) == result.metrics["data"]
    if data is None and not is_own:
        raise ResultError(
            f"{folder}: expected the data on which {directory} was trained, got other "
            "data; choose a folder with --data"
        )
    problem = problem_of(cell, twin)
    names = ["climatology", "3dvar"]
    names += ["background"] if isinstance(cell.protocol, Windows) else []
    own_key = f"{cell.key} (encoder)" if cell.key in names else cell.key
    common = results.columns_of(result) | dict.fromkeys(results.FACTS, math.nan)
    common["training"] = -1
    roles = {own_key: "method"} | {name: METHODS[name].role for name in names}
    tables = []
    with threads_of(cell):
        fitted = {own_key: cell.method.as_trained(encoder, problem)}
        fitted |= {name: METHODS[name]().fit(problem) for name in names}
        for key, method in fitted.items():
            own = {"method": key, "label": method.label, "role": roles[key]}
            table = results.trajectory_table(cell, problem.run(method, split))
            tables.append(table.assign(**(common | own)))
    trajectories = results.joined(tables)
    board = scores(trajectories, cell.measure, **asdict(cell.scores))
    blind = twin.operator.is_mirror_blind
    board.attrs["measure"] = MEASURES[cell.measure].shown(blind)
    board.attrs["encoder"] = own_key
    if not is_own:
        others = "".join(f"; trained for {one}" for one in differences)
        return board, f"on {folder}, which the encoder was not trained on{others}"
    if split != "test":
        return board, f"on {folder}, the data of the result"
    again = tables[0][list(results.MEANS)].to_numpy()
    worst = np.abs(again - result.trajectories[list(results.MEANS)].to_numpy()).max()
    precision = "to the last digit" if worst == 0.0 else f"to within {worst:.2g}"
    return board, f"on {folder}: the stored scores, {precision}"


def verdict_on_3dvar(board: pd.DataFrame) -> str:
    """Return a sentence that compares the encoder of `reevaluate` with 3D-Var."""
    row: Any = board[board["method"] == board.attrs["encoder"]].iloc[0]
    low, high = row["ratio_to_3dvar_low"], row["ratio_to_3dvar_high"]
    ratio = f"{row['ratio_to_3dvar']:.3f} times its error (95 %: {low:.3f}–{high:.3f})"
    verb = "loses to" if low > 1.0 else "is not distinguishable from"
    verb = "beats" if high < 1.0 else verb
    return f"The encoder {verb} tuned 3D-Var: {ratio}."
