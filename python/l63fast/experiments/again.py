"""Scores a finished result again: its exported model on its own data or on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.errors import ResultError
from l63fast.experiments.evaluation import MEASURES, evaluate
from l63fast.experiments.problem import Problem
from l63fast.experiments.result import Result
from l63fast.learning.export import load_encoder
from l63fast.twin import TwinExperiment

__all__ = ["evaluate_again"]


def evaluate_again(
    directory: Path, *, data: Path | None = None, split: str = "test"
) -> tuple[dict[str, Any], str]:
    """Return the metrics of an exported model, and a sentence on the stored ones.

    Parameters
    ----------
    directory : Path
        The result folder.
    data : Path, optional
        Folder of a twin experiment; the one it was trained on by default.
    split : str
        "test" or "val".

    Raises
    ------
    DataFileError, ModelFileError
        If something is missing or damaged.
    ResultError
        If the folder that the result was trained on now holds other data.
    ArgumentValueError
        If the data are observed by another operator or in another interval.
    """
    result = Result.open(directory)
    folder = Path(result.timing["data"]) if data is None else data
    twin = TwinExperiment.load(folder)
    settings = result.settings
    encoder = load_encoder(directory)
    differences = check_agreement(
        str(directory), encoder.made_for, Setup.of(twin), imperfect_model=True
    )
    own = dict(twin.hashes) == result.metrics["data"]
    if data is None and not own:
        raise ResultError(
            f"{folder}: no longer holds the data that {directory} was trained on; "
            "choose a folder with --data"
        )
    problem = Problem.prepare(twin, settings)
    samples = problem.samples(split)
    analysis = encoder(samples.background, samples.obs_window)
    estimates = problem.estimates(split, samples, analysis)
    scores = evaluate(estimates, settings.data.operator, settings.scores)
    metrics = {"split": split, **scores}
    if not own:
        others = "".join(f"; trained for {one}" for one in differences)
        return metrics, f"on {folder}, which the encoder was not trained on{others}"
    return metrics, _verdict(result, metrics, folder)


def _verdict(result: Result, metrics: dict[str, Any], folder: Path) -> str:
    if metrics["split"] != "test":
        return f"on {folder}, the data of the result"
    stored, found = result.metrics["scores"], metrics["scores"]
    worst = max(
        abs(float(stored[name][m]) - found[name][m])
        for name in stored
        for m in MEASURES
    )
    if worst == 0.0:
        return f"on {folder}: the stored scores, to the last digit"
    return f"on {folder}: the stored scores to within {worst:.2g}"
