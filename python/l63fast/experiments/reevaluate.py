"""Scores a trained encoder again, beside references: on its own data or on others."""

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
    """Return scores of an exported model and of references, and a sentence on them.

    Parameters
    ----------
    directory : Path
        The result folder.
    data : Path, optional
        Folder of a twin experiment; the one it was trained on by default.
    split : str
        "test" or "val".
    model : callable, optional
        As in `load_encoder`.
    operator : ObservationOperator, optional
        That of the data, where it is one of your own.

    Returns
    -------
    DataFrame
        As `scores` gives it: of the encoder, of tuned 3D-Var, of the climatology, and
        in windows of the background.
    str

    Raises
    ------
    DataFileError, ModelFileError
        If something is missing or damaged, or the result is of no encoder.
    ResultError
        If the folder that the result was trained on now holds other data.
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
    differences = check_agreement(
        str(directory), encoder.made_for, Setup.of(twin), imperfect_model=True
    )
    is_own = dict(twin.hashes) == result.metrics["data"]
    if data is None and not is_own:
        raise ResultError(
            f"{folder}: no longer holds the data that {directory} was trained on; "
            "choose a folder with --data"
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
    found = results.joined(tables)
    board = scores(found, cell.measure, **asdict(cell.scores))
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
    how = "to the last digit" if worst == 0.0 else f"to within {worst:.2g}"
    return board, f"on {folder}: the stored scores, {how}"


def verdict_on_3dvar(board: pd.DataFrame) -> str:
    """Return whether the encoder of `reevaluate` is better, in one sentence."""
    row: Any = board[board["method"] == board.attrs["encoder"]].iloc[0]
    low, high = row["ratio_to_3dvar_low"], row["ratio_to_3dvar_high"]
    ratio = f"{row['ratio_to_3dvar']:.3f} times its error (95 %: {low:.3f}–{high:.3f})"
    said = "loses to" if low > 1.0 else "is not distinguishable from"
    said = "beats" if high < 1.0 else said
    return f"The encoder {said} tuned 3D-Var: {ratio}."
