"""The random numbers of a scheme: where it stands in a stream of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from l63fast import _random

__all__ = ["Draws"]


class Draws(NamedTuple):
    """A place in the random stream of one run of a scheme.

    A scheme's methods are pure, so its state carries this instead of a generator: the
    same state gives the same numbers. Those of a trajectory depend on the key, the
    position and the trajectory alone, not on how many others there are.

    Attributes
    ----------
    key : int
        Of the run.
    position : int
        How often numbers have been drawn in it.
    """

    key: int
    position: int = 0

    @classmethod
    def keyed_by(cls, rng: np.random.Generator) -> Draws:
        """Return the start of a stream whose key is one number of a generator."""
        return cls(int(rng.integers(2**63)))

    @property
    def kernel_key(self) -> tuple[int, int]:
        """The key of the numbers that a kernel draws for itself, by position."""
        return _random.kernel_key(self.key, "scheme", "none")

    def normals(
        self, n_trajectories: int, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, Draws]:
        """Return N(0, 1) draws (n_trajectories, *shape), and the place after them."""
        draws = _random.standard_normals(
            self.key, "scheme", "none", n_trajectories, shape, draw=self.position
        )
        return draws, self._replace(position=self.position + 1)
