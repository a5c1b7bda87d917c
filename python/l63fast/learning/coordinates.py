"""Coordinates that a state shares with its mirror image: folding, and the way back."""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

import torch
from torch import Tensor

__all__ = ["facing", "fold", "unfold"]


def fold(states: Tensor) -> Tensor:
    """Return states (n, 3) with the angle around the z axis doubled.

    With (x, y) = r (cos a, sin a) these are r cos 2a, r sin 2a and z: the same for the
    state and its mirror image (-x, -y, z), and continuous where either of them turns
    into the other. Differences grow at most twofold.
    """
    x, y, z = states[:, 0], states[:, 1], states[:, 2]
    radius = (x * x + y * y + 1e-12).sqrt()  # differentiable on the z axis too
    return torch.stack([(x * x - y * y) / radius, 2.0 * x * y / radius, z], 1)


def unfold(folded: Tensor) -> Tensor:
    """Return one of the two states (n, 3) that fold to these coordinates."""
    p, q, z = folded[:, 0], folded[:, 1], folded[:, 2]
    radius = (p * p + q * q + 1e-12).sqrt()
    # Half the angle of (p, q), from whichever side of it loses no digits. Not |p|,
    # whose derivative at 0 is 0 in torch: what starts there would never leave.
    to_the_right = p >= 0.0
    near = radius + torch.where(to_the_right, p, -p)
    x = torch.where(to_the_right, near, q)
    y = torch.where(to_the_right, q, near)
    scale = (0.5 * radius / near).sqrt()
    return torch.stack([scale * x, scale * y, z], 1)


def facing(states: Tensor, others: Tensor) -> Tensor:
    """Return each state (n, 3), or its mirror image if that is nearer to the other."""
    agreement = states[:, 0] * others[:, 0] + states[:, 1] * others[:, 1]
    sign = torch.where(agreement < 0.0, -1.0, 1.0).to(states.dtype)
    return torch.stack([sign * states[:, 0], sign * states[:, 1], states[:, 2]], 1)
