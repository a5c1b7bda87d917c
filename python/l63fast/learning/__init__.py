"""Neural encoders, which read a window of observations and correct a background.

The modules, and torch with them, are imported when a name is first used.
"""
# ruff: noqa: F401 - the imports below tell type checkers what __getattr__ loads.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

_HOMES: Final = {
    "ChainSettings": "settings",
    "DifferentiableForecast": "dynamics",
    "Distance": "losses",
    "Encoder": "encoders",
    "EncoderSettings": "settings",
    "MeanSquaredError": "losses",
    "TrainResult": "training",
    "TrainSettings": "settings",
    "Var3D": "losses",
    "Var3DWindow": "losses",
    "build_loss": "losses",
    "save_model": "export",
    "torch_forecast": "dynamics",
    "train": "training",
    "train_cycled": "cycled_training",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from l63fast.learning.cycled_training import train_cycled
    from l63fast.learning.dynamics import DifferentiableForecast, torch_forecast
    from l63fast.learning.encoders import Encoder
    from l63fast.learning.export import save_model
    from l63fast.learning.losses import (
        Distance,
        MeanSquaredError,
        Var3D,
        Var3DWindow,
        build_loss,
    )
    from l63fast.learning.settings import (
        ChainSettings,
        EncoderSettings,
        TrainSettings,
    )
    from l63fast.learning.training import TrainResult, train


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'l63fast.learning' has no attribute {name!r}")
    value = getattr(import_module(f"l63fast.learning.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
