"""Counter-based random streams: a draw depends only on its key and its position."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

PURPOSES: Final = {
    "initial": 0,
    "observation": 1,
    "background": 2,
    "model_error": 3,
    "bootstrap": 4,
    "training": 5,
    "scheme": 6,
    "missing": 7,
    "interval": 8,
    "parameters": 9,
}
SPLITS: Final = {"none": 0, "train": 1, "val": 2, "test": 3}

_WORDS_PER_BLOCK: Final = 4  # Philox4x64 makes four 64-bit words per counter value


def _sequence(
    seed: int, purpose: str, split: str, draw: int | None = None
) -> np.random.SeedSequence:
    # A spawn_key and not a list of entropy, since SeedSequence(1) equals
    # SeedSequence([1, 0]).
    key = (PURPOSES[purpose], SPLITS[split])
    return np.random.SeedSequence(seed, spawn_key=key if draw is None else (*key, draw))


def _bit_generator(
    seed: int, purpose: str, split: str, draw: int | None = None
) -> np.random.Philox:
    sequence = _sequence(seed, purpose, split, draw)
    return np.random.Philox(key=sequence.generate_state(2, np.uint64))


def kernel_key(seed: int, purpose: str, split: str) -> tuple[int, int]:
    """Return the key of the compiled core's Philox 4x32-10: two 32-bit words."""
    first, second = _sequence(seed, purpose, split).generate_state(2, np.uint32)
    return int(first), int(second)


def generator(seed: int, purpose: str, split: str = "none") -> np.random.Generator:
    """Return a NumPy generator of one stream, for draws in sequence."""
    return np.random.Generator(_bit_generator(seed, purpose, split))


def uniforms(
    seed: int,
    purpose: str,
    split: str,
    n_trajectories: int,
    shape: tuple[int, ...],
    *,
    first: int = 0,
    draw: int | None = None,
) -> np.ndarray:
    """Return uniforms in (0, 1) for trajectories ``first`` to ``first + n - 1``.

    The counter is the trajectory. So the numbers of a trajectory do not depend on how
    many others are drawn, and any split into chunks or workers gives the same values.

    Parameters
    ----------
    seed : int
    purpose, split : str
        Names in ``PURPOSES`` and ``SPLITS``; each pair has its own stream.
    n_trajectories : int
    shape : tuple of int
        Shape of one trajectory's draws.
    first : int
        Index of the first trajectory.
    draw : int, optional
        Number of the draw, such as the cycle; each number has its own stream.

    Returns
    -------
    (n_trajectories, *shape) float64
    """
    per_trajectory = math.prod(shape)
    blocks = -(-per_trajectory // _WORDS_PER_BLOCK)
    bits = _bit_generator(seed, purpose, split, draw)
    bits.advance(first * blocks)
    raw = bits.random_raw(n_trajectories * blocks * _WORDS_PER_BLOCK)
    words = raw.reshape(n_trajectories, blocks * _WORDS_PER_BLOCK)[:, :per_trajectory]
    # The top 52 bits plus one half: never 0 or 1, and symmetric about 1/2.
    centred = (words >> np.uint64(12)).astype(np.float64, order="C")
    centred += 0.5
    centred *= 2.0**-52
    return centred.reshape(n_trajectories, *shape)


def standard_normals(
    seed: int,
    purpose: str,
    split: str,
    n_trajectories: int,
    shape: tuple[int, ...],
    *,
    first: int = 0,
    draw: int | None = None,
) -> np.ndarray:
    """Return N(0, 1) draws: the normal quantiles of `uniforms` with these arguments."""
    from scipy.special import ndtri  # imported here: `import l63fast` loads NumPy only

    draws = uniforms(
        seed, purpose, split, n_trajectories, shape, first=first, draw=draw
    )
    return np.asarray(ndtri(draws))
