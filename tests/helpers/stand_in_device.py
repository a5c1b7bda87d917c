"""A device that no machine lacks: torch's "meta", made to behave as a GPU does.

Its tensors have no values, but everything else of a device of its own: what mixes them
with the CPU's is refused, as CUDA refuses it, and values come back by a copy alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["DEVICE", "StandIn"]

DEVICE = torch.device("meta")
_CPU = torch.device("cpu")
# These read the one and write the other; CUDA takes indices from the CPU as well.
_COPIES = ("aten::_to_copy", "aten::to")
_CROSSING = (*_COPIES, "aten::copy_", "aten::index")


class StandIn(TorchDispatchMode):
    """While it is on, tensors on `DEVICE` compute apart from those of the CPU.

    Attributes
    ----------
    n_calls : int
        Operations that have computed on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse to mix devices; give a value where one is asked for."""
        kwargs = kwargs or {}
        name = func._schema.name
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = any(t.device == DEVICE for t in given)
        self.n_calls += there
        if name not in _CROSSING:  # numbers without a shape go where they are needed
            found = {t.device.type for t in given if t.dim()}
            assert len(found) < 2, f"{name}: tensors on {' and '.join(sorted(found))}"
        if there and name == "aten::_local_scalar_dense":
            return args[0].new_ones((), device="cpu").item()
        if there and name == "aten::nanmedian":  # has no form without values
            return args[0].new_empty(())
        if there and name in _COPIES and kwargs.get("device") == _CPU:
            dtype = kwargs.get("dtype") or args[0].dtype
            return torch.full(args[0].shape, 0.01).to(dtype)
        if name == "aten::copy_" and args[0].device != args[1].device:
            return args[0]
        return func(*args, **kwargs)
