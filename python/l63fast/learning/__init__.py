"""Neural encoders, which read a window of observations and correct a background.

The modules, and torch with them, are imported when a name is first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from l63fast._extras import load

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

# What __getattr__ loads, for type checkers, which take `as` for an export.
if TYPE_CHECKING:
    from l63fast.learning.cycled_training import train_cycled as train_cycled
    from l63fast.learning.dynamics import (
        DifferentiableForecast as DifferentiableForecast,
    )
    from l63fast.learning.dynamics import torch_forecast as torch_forecast
    from l63fast.learning.encoders import Encoder as Encoder
    from l63fast.learning.export import save_model as save_model
    from l63fast.learning.losses import Distance as Distance
    from l63fast.learning.losses import MeanSquaredError as MeanSquaredError
    from l63fast.learning.losses import Var3D as Var3D
    from l63fast.learning.losses import Var3DWindow as Var3DWindow
    from l63fast.learning.losses import build_loss as build_loss
    from l63fast.learning.settings import ChainSettings as ChainSettings
    from l63fast.learning.settings import EncoderSettings as EncoderSettings
    from l63fast.learning.settings import TrainSettings as TrainSettings
    from l63fast.learning.training import TrainResult as TrainResult
    from l63fast.learning.training import train as train


def __getattr__(name: str) -> Any:
    if name == "__all__":
        package = sys.modules[__name__]
        value: Any = [name for name in _HOMES if hasattr(package, name)]
    elif name in _HOMES:
        value = load(f"l63fast.learning.{_HOMES[name]}", name)
    else:
        raise AttributeError(f"module 'l63fast.learning' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
