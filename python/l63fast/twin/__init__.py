"""Twin experiments: a known truth and observations of it, in three splits."""

from l63fast.twin.datasets import estimates_dataset
from l63fast.twin.experiment import TwinExperiment
from l63fast.twin.forecast_model import ForecastModel
from l63fast.twin.noise import ErrorLaw
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.shards import ShardSettings, open_shards
from l63fast.twin.splits import Split, drawn_model_errors, drawn_observation_errors

__all__ = [
    "SPLIT_NAMES",
    "ErrorLaw",
    "ForecastModel",
    "ShardSettings",
    "Split",
    "TwinExperiment",
    "TwinSettings",
    "drawn_model_errors",
    "drawn_observation_errors",
    "estimates_dataset",
    "open_shards",
]
