"""The model that schemes forecast with, where it is not that of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast._user_code import file_name
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import Lorenz63
from l63fast.twin.settings import TwinSettings, model_error

_SAME = 1e-6  # relative difference of two times that are equal


@dataclass(frozen=True)
class ForecastModel:
    """The model that schemes forecast with; None means: as the truth.

    Attributes
    ----------
    parameters : Lorenz63, optional
    dt : float, optional
        Time step (time units); divides the times between observations.
    Q : float or (3, 3), optional
        Covariance of the model error that schemes add to each forecast; a number is
        the variance of each component.
    """

    parameters: Lorenz63 | None = None
    dt: float | None = None
    Q: float | tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.parameters is not None:
            _checks.instance("parameters", self.parameters, Lorenz63)
        if self.dt is not None:
            dt, _ = _checks.time_step("dt", self.dt, allow_large=False)
            object.__setattr__(self, "dt", dt)
        if self.Q is not None:
            object.__setattr__(self, "Q", model_error(self.Q))

    @property
    def is_perfect(self) -> bool:
        """Whether it is the model of the truth, in all that is given here."""
        return self == ForecastModel()

    def arguments(self, data: TwinSettings) -> dict[str, Any]:
        """Return time step and parameters, as `forecast` takes them."""
        parameters = data.parameters if self.parameters is None else self.parameters
        return {"dt": self.dt or data.dt, "parameters": parameters}

    def error_covariance(self, data: TwinSettings) -> np.ndarray:
        """Return Q as a matrix (3, 3)."""
        if self.Q is None:
            return data.cycle_error_covariance
        Q = np.asarray(self.Q, dtype=np.float64)
        return Q if Q.ndim else Q * np.eye(3)

    def steps(self, data: TwinSettings, n_steps: Any) -> Any:
        """Return the steps of this model in `n_steps` steps of the truth.

        Parameters
        ----------
        data : TwinSettings
        n_steps : int, or array of int

        Raises
        ------
        ArgumentValueError
            If they are not a whole number of its steps.
        """
        if self.dt is None:
            return n_steps
        times = np.asarray(n_steps) * data.dt
        own = np.rint(times / self.dt).astype(np.int64)
        wrong = np.abs(own * self.dt - times) > _SAME * times
        if wrong.any():
            raise ArgumentValueError(
                "dt: expected a step that divides the time between observations, "
                f"{times[wrong].flat[0]:.10g}, got {self.dt:.10g}"
            )
        return own if own.ndim else int(own)

    def describe(self, data: TwinSettings) -> str:
        """Return how the model differs from that of the truth; "" if it does not."""
        pairs = []
        if self.parameters is not None:
            own, true = self.parameters, data.parameters
            if (own.taylor, true.taylor) != (None, None):
                pairs.append(("steps by", own.steps_by, true.steps_by))
            if not pairs or own.as_tuple() != true.as_tuple():
                values = _shown(own.as_tuple()), _shown(true.as_tuple())
                pairs.append(("parameters", *values))
        if self.dt is not None:
            pairs.append(("dt", f"{self.dt:g}", f"{data.dt:g}"))
        if self.Q is not None:
            pairs.append(("Q", _shown(self.Q), _shown(data.Q)))
        return ", ".join(f"{name} {own} (truth {true})" for name, own, true in pairs)

    @property
    def tag(self) -> str:
        """The model in the name of a case; "" for that of the truth."""
        parts = []
        if (own := self.parameters) is not None:
            order = own.taylor
            if order is None or own.as_tuple() != Lorenz63().as_tuple():
                parts.append("p" + "_".join(f"{v:.6g}" for v in own.as_tuple()))
            parts += [] if order is None else [f"taylor{order}"]
        if self.dt is not None:
            parts.append(f"dt{self.dt:.6g}")
        if self.Q is not None:
            parts.append(f"Q{self.Q:.6g}" if isinstance(self.Q, float) else "Q")
        return file_name("_".join(["model", *parts])) if parts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return what is given as plain values, for JSON and TOML."""
        own = self.parameters and self.parameters.to_dict()
        content = {**vars(self), "parameters": own}
        return {name: value for name, value in content.items() if value is not None}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"({', '.join(_shown(part) for part in value)})"
