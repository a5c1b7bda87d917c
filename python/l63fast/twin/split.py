"""One split of a twin experiment: truth, observations, and the hash of both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from l63fast.twin.settings import TwinSettings

__all__ = ["Split", "make_split", "split_hash"]

_HASH_SCHEMA: Final = 1
_SIZES: Final = ("n_train", "n_val", "n_test")


@dataclass(frozen=True, eq=False)
class Split:
    """Trajectories of one split; its arrays are read-only.

    Attributes
    ----------
    name : str
        "train", "val" or "test".
    truth : (n, n_saved, 3) float64
        Entry 0 is the initial state.
    observations : (n, n_obs, m) float64
    observation_steps : (n_obs,) int64
        Model step of each observation; the first is `steps_per_cycle`.
    save_every : int
        Model steps between the saved states of the truth.
    hash : str
        sha256 over settings, truth and observations.
    """

    name: str
    truth: np.ndarray
    observations: np.ndarray
    observation_steps: np.ndarray
    save_every: int
    hash: str

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories."""
        return int(self.truth.shape[0])

    @property
    def initial_state(self) -> np.ndarray:
        """True state at step 0, (n, 3)."""
        return self.truth[:, 0]

    @property
    def truth_at_observations(self) -> np.ndarray:
        """True state at each observation, (n, n_obs, 3)."""
        return self.truth[:, self.observation_steps // self.save_every]

    @property
    def previous_truth(self) -> np.ndarray:
        """True state one cycle before each observation, (n, n_obs, 3)."""
        cycle = self.observation_steps[0]
        return self.truth[:, (self.observation_steps - cycle) // self.save_every]


def make_split(
    name: str,
    truth: np.ndarray,
    observations: np.ndarray,
    settings: TwinSettings,
    R: np.ndarray,
) -> Split:
    """Return a split with its hash; the arrays are made read-only."""
    cycle = settings.steps_per_cycle
    steps = cycle * np.arange(1, settings.n_obs + 1, dtype=np.int64)
    for array in (truth, observations, steps):
        array.setflags(write=False)
    digest = split_hash(name, truth, observations, settings, R)
    return Split(name, truth, observations, steps, settings.save_every, digest)


def split_hash(
    name: str,
    truth: np.ndarray,
    observations: np.ndarray,
    settings: TwinSettings,
    R: np.ndarray,
) -> str:
    """Return the sha256 of a split: what it is made of, not the bytes of a file.

    The sizes of the other splits are left out: a hash of the training data must not
    change with the test set.
    """
    content: dict[str, Any] = settings.to_dict()
    for size in _SIZES:
        del content[size]
    head = {
        "schema": _HASH_SCHEMA,
        "split": name,
        "settings": content,
        "R": R.tolist(),
        "shapes": [list(truth.shape), list(observations.shape)],
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for array in (truth, observations):
        digest.update(np.ascontiguousarray(array, dtype="<f8").data)
    return digest.hexdigest()
