"""Twin experiments: a known truth, observations of it, three splits."""

from l63fast.twin.experiment import TwinExperiment
from l63fast.twin.generation import drawn_model_errors, drawn_observation_errors
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.shards import open_shards
from l63fast.twin.split import Split

__all__ = [
    "SPLIT_NAMES",
    "Split",
    "TwinExperiment",
    "TwinSettings",
    "drawn_model_errors",
    "drawn_observation_errors",
    "open_shards",
]
