"""Give a twin experiment its backgrounds: one class per kind, drawn by trajectory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.assimilation.cycled_errors import (
    CycledErrors,
    error_covariance,
    estimate_cycled_errors,
    perturbed,
)
from l63fast.assimilation.cycling import run_cycles
from l63fast.errors import ArgumentValueError
from l63fast.twin import TwinExperiment

__all__ = ["KINDS", "Backgrounds"]


_EVERYTHING: Final = ("operator", "interval", "R", "Q", "dt", "parameters")


class _Options(NamedTuple):
    covariance: np.ndarray | None
    n_threads: int | None
    backend: str


@dataclass(frozen=True, eq=False)
class Backgrounds(ABC):
    """Backgrounds of one kind, fitted to the training and validation splits of a twin.

    Attributes
    ----------
    kind : str
        Its name in `KINDS`.
    B : (3, 3)
        Error covariance of these backgrounds on the training split, symmetrised with
        the mirror: the B to give to 3D-Var and to the variational losses.
    made_for : Setup
        Of the twin that they were fitted to, as far as it decides what they are.
    """

    B: np.ndarray
    _: KW_ONLY
    made_for: Setup = field(default_factory=Setup)
    kind: ClassVar[str]

    @staticmethod
    @ieee_arithmetic()
    def fit(
        twin: TwinExperiment,
        kind: str = "forecast",
        *,
        covariance: Any = None,
        n_threads: int | None = None,
        backend: str = "auto",
    ) -> Backgrounds:
        """Return backgrounds of a kind for a twin, whose test split is never opened.

        Parameters
        ----------
        twin : TwinExperiment
        kind : str
            A name in `KINDS`.
        covariance : (3, 3), optional
            Error covariance of the kind "gauss", which alone takes it; by default 2 I.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the kind is unknown, the covariance is none, or the twin is too small.
        """
        chosen = KINDS[_checks.choice("kind", kind, KINDS)]
        if covariance is not None:
            if kind != "gauss":
                raise ArgumentValueError(
                    f"covariance: expected None, as {kind!r} has its own, got one"
                )
            float64 = np.dtype(np.float64)
            covariance = _checks.covariance(
                "covariance", covariance, size=3, dtype=float64, shape=()
            )
        fitted = chosen._fit(twin, _Options(covariance, n_threads, backend))
        setup = Setup.of(twin)
        return replace(
            fitted,
            made_for=Setup(**{name: getattr(setup, name) for name in chosen._knows}),
        )

    # What they owe to the twin: by default its climate, that is, its model.
    _knows: ClassVar[tuple[str, ...]] = ("Q", "dt", "parameters")

    @classmethod
    @abstractmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> Backgrounds:
        """Return backgrounds of this kind for a twin."""

    # Cycles before the analysis at which a background's error is drawn.
    drawn_before: ClassVar[int] = 0

    @property
    def start_covariance(self) -> np.ndarray | None:
        """Covariance of the normal error that a background's is, or was when drawn.

        None where there is none, or where it depends on the observations' errors.
        """
        return None

    @ieee_arithmetic()
    def draw(
        self, twin: TwinExperiment, split_name: str, *, imperfect_model: bool = False
    ) -> np.ndarray:
        """Return backgrounds (n_trajectories, n_obs, 3), valid at the observations.

        The same for the same twin, whatever was drawn before; what is random depends
        on (seed, split, trajectory) only.

        Parameters
        ----------
        twin : TwinExperiment
        split_name : str
            "train", "val" or "test".
        imperfect_model : bool
            Let the twin have another dt, other parameters, another Q or R than the one
            that the backgrounds were fitted to, as in `run_cycles`.

        Raises
        ------
        ArgumentValueError
            If they were fitted to another setup than the twin's.
        """
        check_agreement(
            "backgrounds",
            self.made_for,
            Setup.of(twin),
            imperfect_model=imperfect_model,
        )
        return self._drawn(twin, split_name)

    @abstractmethod
    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        """Return what `draw` gives, for a twin that fits."""


@dataclass(frozen=True, eq=False)
class _Mean(Backgrounds):
    """The climatological mean, whose error covariance is C."""

    kind = "mean"
    mean: np.ndarray

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _Mean:
        return cls(twin.climatology.covariance, twin.climatology.mean)

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        n, n_obs = twin.split(split_name).observations.shape[:2]
        return np.tile(self.mean, (n, n_obs, 1))


@dataclass(frozen=True, eq=False)
class _Independent(Backgrounds):
    """A random state of the training split, whose error covariance is 2 C."""

    kind = "independent"

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _Independent:
        return cls(2.0 * twin.climatology.covariance)

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        states = twin.split("train").truth_at_observations.reshape(-1, 3)
        n, n_obs = twin.split(split_name).observations.shape[:2]
        seed = twin.settings.seed
        places = _random.uniforms(seed, "background", split_name, n, (n_obs,))
        return states[(places * len(states)).astype(np.int64)]


@dataclass(frozen=True, eq=False)
class _Gauss(Backgrounds):
    """The truth plus N(0, B), with B as given."""

    kind = "gauss"
    _knows = ()

    @property
    def start_covariance(self) -> np.ndarray:
        """That of the background itself."""
        return self.B

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _Gauss:
        given = options.covariance
        return cls(2.0 * np.eye(3) if given is None else given)

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        truth = twin.split(split_name).truth_at_observations
        seed = twin.settings.seed
        return perturbed(truth, self.B, seed=seed, split_name=split_name)


@dataclass(frozen=True, eq=False)
class _Forecast(Backgrounds):
    """The truth one cycle earlier plus N(0, P_a), carried forward over the interval.

    P_a is the analysis-error covariance of 3D-Var tuned and cycled for this twin; for
    an operator that cannot tell a state from its mirror image it is that of the nearer
    of the two, so that these backgrounds know the sign.
    """

    kind = "forecast"
    _knows = _EVERYTHING
    drawn_before = 1
    errors: CycledErrors

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _Forecast:
        errors = _estimated(twin, options)
        first_guess = cls(errors.background, errors)
        truth = twin.split("train").truth_at_observations
        B = error_covariance(first_guess._drawn(twin, "train"), truth)
        return replace(first_guess, B=B)

    @property
    def start_covariance(self) -> np.ndarray:
        return self.errors.analysis

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        settings = twin.settings
        start = perturbed(
            twin.split(split_name).previous_truth,
            self.errors.analysis,
            seed=settings.seed,
            split_name=split_name,
        )
        n_steps = self.made_for.steps_per_cycle("backgrounds", twin)
        return self.errors.scheme.forecast(start, n_steps)


@dataclass(frozen=True, eq=False)
class _Cycled(Backgrounds):
    """The forecasts of a running tuned 3D-Var that starts from the truth + N(0, P_a).

    With an operator that cannot tell a state from its mirror image these backgrounds
    lose the sign in time; B is then measured to the nearer of the two.
    """

    kind = "cycled"
    _knows = _EVERYTHING
    errors: CycledErrors

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _Cycled:
        errors = _estimated(twin, options)
        return cls(errors.background, errors)

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        initial = perturbed(
            twin.split(split_name).initial_state,
            self.errors.analysis,
            seed=twin.settings.seed,
            split_name=split_name,
        )
        scheme = self.errors.scheme
        # What may differ `draw` has asked.
        return run_cycles(
            scheme, twin, split_name, initial=initial, imperfect_model=True
        ).background


@dataclass(frozen=True, eq=False)
class _None(Backgrounds):
    """No background: zeros, so that the increment is the state, and B = E[x x^T]."""

    kind = "none"

    @classmethod
    def _fit(cls, twin: TwinExperiment, options: _Options) -> _None:
        mean = twin.climatology.mean
        return cls(twin.climatology.covariance + np.outer(mean, mean))

    def _drawn(self, twin: TwinExperiment, split_name: str) -> np.ndarray:
        n, n_obs = twin.split(split_name).observations.shape[:2]
        return np.zeros((n, n_obs, 3))


def _estimated(twin: TwinExperiment, options: _Options) -> CycledErrors:
    return estimate_cycled_errors(
        twin, n_threads=options.n_threads, backend=options.backend
    )


KINDS: Final[dict[str, type[Backgrounds]]] = {
    chosen.kind: chosen
    for chosen in (_Mean, _Independent, _Gauss, _Forecast, _Cycled, _None)
}
