"""Training samples: backgrounds, windows of observations, and the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._summary import OneScreen
from l63fast.assimilation.agreement import Setup
from l63fast.assimilation.backgrounds import Backgrounds
from l63fast.errors import ArgumentValueError

if TYPE_CHECKING:
    from l63fast.twin import TwinExperiment

_FLOAT64 = np.dtype(np.float64)


class Sample(NamedTuple):
    """One sample: background (3,), obs_window (L, obs_dim) and truth (3,)."""

    background: np.ndarray
    obs_window: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class AssimilationDataset(OneScreen):
    """N samples, trajectory by trajectory and in time order within each.

    Attributes
    ----------
    background : (N, 3) float64
        The background x_b at analysis time.
    obs_window : (N, L, obs_dim) or with gaps (N, L, obs_dim + 1) float64
        L observations; the last in the array is at analysis time. For an analysis at
        the first observation of the window they are in reverse order of time.
    truth : (N, 3) float64
        The truth at analysis time.
    trajectory, time_index : (N,) int64
        Index of the trajectory, and of the observation at analysis time.
    gaps : bool
        Whether observations have gaps: NaN where a value is missing, and the time since
        the previous observation (time units) as the last value.
    made_for : Setup
        The setup of the twin, as far as it is known; an encoder that is trained on the
        samples inherits it.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If shapes do not agree or a value is not finite.
    """

    background: np.ndarray
    obs_window: np.ndarray
    truth: np.ndarray
    trajectory: np.ndarray
    time_index: np.ndarray
    gaps: bool = False
    made_for: Setup = field(default_factory=Setup)

    def __post_init__(self) -> None:
        shape = np.shape(self.obs_window)
        if len(shape) != 3 or shape[1] == 0:
            raise ArgumentValueError(
                f"obs_window: expected (N, L, obs_dim) with L at least 1, got {shape}"
            )
        checked = {
            "background": _checks.states("background", self.background, dtype=_FLOAT64),
            "obs_window": checked_windows(
                self.obs_window, shape[2], gaps=self.gaps, dtype=_FLOAT64
            ),
            "truth": _checks.states("truth", self.truth, dtype=_FLOAT64),
            "trajectory": np.asarray(self.trajectory),
            "time_index": np.asarray(self.time_index),
        }
        for name, array in checked.items():
            object.__setattr__(self, name, array)
            of_states = array if name in ("background", "truth") else array[..., None]
            if name != "obs_window":
                _checks.batch(name, of_states, shape[:1], "obs_window")

    @classmethod
    def from_twin(
        cls,
        twin: TwinExperiment,
        split_name: str,
        backgrounds: Backgrounds | np.ndarray,
        *,
        window: int,
        stride: int = 1,
        analysis_at: str = "last",
        start: int = 1,
        gaps: bool | None = None,
    ) -> AssimilationDataset:
        """Return the samples of one split of a twin experiment.

        Parameters
        ----------
        twin : TwinExperiment
        split_name : str
            "train", "val" or "test".
        backgrounds : Backgrounds or (n_trajectories, n_obs, 3)
            Fitted to a twin of the same setup; or your own backgrounds, one for every
            observation.
        window : int
            Number of observations in a window, all of one trajectory.
        stride : int
            Number of observations from one sample to the next.
        analysis_at : {"last", "first"}
            The observation of the window at analysis time.
        start : int
            The first window ends at this observation (counted from 1) or later.
        gaps : bool, optional
            By default whether the twin has missing values or irregular times.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If an argument is not as described.
        """
        split, gaps = twin.split(split_name), bool(twin.settings.gaps or gaps)
        if isinstance(backgrounds, Backgrounds):
            backgrounds = backgrounds.draw(twin, split_name)
        background = _checks.states("backgrounds", backgrounds, dtype=_FLOAT64)
        _checks.batch(
            "backgrounds",
            background,
            split.observations.shape[:2],
            f"the observations of split {split_name!r}",
        )
        n, n_obs = split.observations.shape[:2]
        window = _checks.count("window", window, minimum=1, maximum=n_obs)
        stride = _checks.count("stride", stride, minimum=1)
        start = _checks.count("start", start, minimum=1, maximum=n_obs)
        at = np.arange(max(window, start) - 1, n_obs, stride)
        seen = split.timed_observations if gaps else split.observations
        read = windows(seen, window)[:, at - (window - 1)]
        if _checks.choice("analysis_at", analysis_at, ("last", "first")) == "first":
            at, read = at - (window - 1), read[:, :, ::-1]
        return cls(
            background=background[:, at].reshape(-1, 3),
            obs_window=np.ascontiguousarray(read).reshape(-1, window, seen.shape[2]),
            truth=split.truth_at_observations[:, at].reshape(-1, 3),
            trajectory=np.repeat(np.arange(n), len(at)),
            time_index=np.tile(at, n),
            gaps=gaps,
            made_for=Setup.of(twin),
        )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.truth)

    def __getitem__(self, index: Any) -> Any:
        """Return one sample for an int, a dataset for a slice or an index array.

        Parameters
        ----------
        index : int, slice, or array of ints (n,) or of bools (N,)

        Returns
        -------
        Sample or AssimilationDataset

        Raises
        ------
        ArgumentValueError
            If it is none of these, or beyond the samples.
        """
        expected = f"index: expected an int, a slice or an array (n,) for {len(self)} "
        try:
            places = np.arange(len(self))[index]
        except IndexError as error:
            raise ArgumentValueError(f"{expected}samples: {error}") from None
        if np.ndim(places) > 1:
            raise ArgumentValueError(f"{expected}samples, got {type(index).__name__}")
        names = ("background", "obs_window", "truth", "trajectory", "time_index")
        values = {name: getattr(self, name)[places] for name in names}
        if np.ndim(places) == 0:
            return Sample(*(values[name] for name in Sample._fields))
        return replace(self, **values)

    def __iter__(self) -> Iterator[Sample]:
        """Return the samples, one by one."""
        return (self[i] for i in range(len(self)))

    def _summary(self) -> dict[str, Any]:
        operator = self.made_for.operator
        known = f"observed: {operator.name}" if operator is not None else "unknown"
        return {**super()._summary(), "made_for": known}

    @property
    def window(self) -> int:
        """Number of observations in a window, L."""
        return int(self.obs_window.shape[1])

    @property
    def obs_dim(self) -> int:
        """Number of values in an observation."""
        return int(self.obs_window.shape[2]) - self.gaps

    @cached_property
    def hash(self) -> str:
        """The sha256 of all shapes and values."""
        digest = hashlib.sha256()
        for array in (self.background, self.obs_window, self.truth):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def checked_windows(
    value: Any, size: int, *, gaps: bool, dtype: np.dtype[Any]
) -> np.ndarray:
    """Return windows (..., L, size); with gaps NaN is accepted, but not as a time."""
    array = _checks.vectors(
        "obs_window", value, size=size, dtype=dtype, only_finite=False
    )
    if np.isfinite(array).all():
        return array
    values = array[..., :-1] if gaps else array
    if not gaps and (n_missing := np.count_nonzero(np.isnan(values))):
        raise ArgumentValueError(
            "obs_window: expected finite values where no flags of presence are read "
            f"(gaps=False), got {n_missing} NaN"
        )
    _checks.finite("obs_window", values, missing="nan")
    _checks.finite("obs_window: times", array[..., -1])
    return array


def windows(observations: np.ndarray, length: int) -> np.ndarray:
    """Return all windows of consecutive observations, as a view.

    Parameters
    ----------
    observations : (n_trajectories, n_obs, obs_dim)
    length : int
        Number of observations in a window, L.

    Returns
    -------
    (n_trajectories, n_obs - L + 1, L, obs_dim)
    """
    view = np.lib.stride_tricks.sliding_window_view(observations, length, axis=1)
    return np.swapaxes(view, -1, -2)
