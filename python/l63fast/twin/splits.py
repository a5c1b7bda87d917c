"""Splits of a twin experiment: simulated, or made from the user's arrays.

The innovations y - h(x_t) show whether given observations belong to their truth.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks, _random
from l63fast._summary import OneScreen
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import forecast, model_errors, simulate, spin_up
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin.datasets import twin_dataset
from l63fast.twin.gaps import with_times
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings

if TYPE_CHECKING:
    import xarray

GENERATED: Final = "generated"
FROM_ARRAYS: Final = "from arrays"
UNCHECKED: Final = "from arrays, whose alignment was not checked"
SLACK: Final = 2.0  # factor on the variance, since R of given data is an estimate
_HASH_SCHEMA: Final = 1
_TAIL: Final = 30.0  # -log of the probability of a false alarm, 1e-13
_BETTER: Final = 6.0  # standard errors by which a shifted pairing must fit better
_ENOUGH: Final = 50  # least number of observations for a comparison of means
_ROUNDING: Final = 4.0 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False, repr=False)
class Split(OneScreen):
    """Trajectories of one split; its arrays are read-only.

    Attributes
    ----------
    name : str
        "train", "val" or "test".
    truth : (n, n_saved, 3) float64
        Entry 0 is the initial state.
    observations : (n, n_obs, m) float64
        NaN where a value was not observed.
    observation_steps : (n_obs,) int64
        Model step of each observation; at a regular interval the first is
        `steps_per_cycle`.
    hash : str
        sha256 of settings, truth and observations.
    settings : TwinSettings
    R : (m, m) float64
        Covariance of the observation error.
    origin : str
        As in `TwinExperiment`.
    """

    name: str
    truth: np.ndarray
    observations: np.ndarray
    observation_steps: np.ndarray
    hash: str
    settings: TwinSettings
    R: np.ndarray
    origin: str

    @property
    def save_every(self) -> int:
        """Model steps between the saved states of the truth."""
        return self.settings.save_every

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
    def timed_observations(self) -> np.ndarray:
        """Observations with the time since the previous one, (n, n_obs, m + 1)."""
        return with_times(self.observations, self.settings.cycle_times)

    @property
    def parameters(self) -> np.ndarray:
        """True sigma, rho and beta of each trajectory, (n, 3)."""
        return drawn_parameters(self.settings, self.name, n=self.n_trajectories)

    @property
    def previous_truth(self) -> np.ndarray:
        """True state one cycle before each observation, (n, n_obs, 3)."""
        before = self.observation_steps - self.settings.cycle_steps
        return self.truth[:, before // self.save_every]

    @property
    def n_missing(self) -> int:
        """Number of values that were not observed."""
        return int(np.isnan(self.observations).sum())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled state; arrays are read-only again."""
        vars(self).update(state)
        for array in (self.truth, self.observations, self.observation_steps, self.R):
            array.setflags(write=False)

    def _summary(self) -> dict[str, Any]:
        rows = {**super()._summary(), "operator": self.settings.operator_name}
        return {name: value for name, value in rows.items() if name != "settings"}

    def to_xarray(self) -> xarray.Dataset:
        """Return truth, observations and R as a dataset, as in a file.

        The truth has the dimensions trajectory, time (time units) and component;
        observations have trajectory, observation_time and observed.
        """
        return twin_dataset(
            self.truth,
            self.observations,
            self.settings,
            self.R,
            self.origin,
            split=self.name,
            split_sha256=self.hash,
        )


def make_split(
    name: str,
    truth: np.ndarray,
    observations: np.ndarray,
    settings: TwinSettings,
    R: np.ndarray,
    origin: str = GENERATED,
) -> Split:
    """Return a split with its hash; the arrays are made read-only."""
    steps = settings.observed_steps
    for array in (truth, observations, steps):
        array.setflags(write=False)
    digest = _hash(name, truth, observations, settings, R)
    return Split(name, truth, observations, steps, digest, settings, R, origin)


def _hash(
    name: str,
    truth: np.ndarray,
    observations: np.ndarray,
    settings: TwinSettings,
    R: np.ndarray,
) -> str:
    """Return the sha256 of the content of a split, not of the bytes of a file.

    The sizes of the other splits do not enter: the hash of the training data must not
    change with the size of the test set.
    """
    content: dict[str, Any] = settings.to_dict()
    for other in SPLIT_NAMES:
        del content[f"n_{other}"]
    head = {
        "schema": _HASH_SCHEMA,
        "split": name,
        "settings": content,
        "R": R.tolist(),
        "shapes": [list(truth.shape), list(observations.shape)],
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for array in (truth, observations):
        # Little-endian, so that the hash does not depend on the machine.
        digest.update(np.ascontiguousarray(array, dtype="<f8").data)
    return digest.hexdigest()


def generated_splits(
    settings: TwinSettings, R: np.ndarray, n_threads: int | None, backend: str
) -> dict[str, Split]:
    """Return the three splits, if there is memory for all of them."""
    n = sum(settings.n_trajectories(name) for name in SPLIT_NAMES)
    _checks.memory("n_train + n_val + n_test", n * bytes_per_trajectory(settings))
    splits = {}
    for name in SPLIT_NAMES:
        part = settings.n_trajectories(name)
        truth, observations = generated_part(
            settings, name, part, n_threads=n_threads, backend=backend
        )
        splits[name] = make_split(name, truth, observations, settings, R)
    return splits


def bytes_per_trajectory(settings: TwinSettings) -> int:
    """Return the bytes of memory that a trajectory needs while it is made."""
    obs_dim = as_operator(settings.operator).obs_dim
    values = settings.n_saved * 3 + 3 * settings.n_obs * obs_dim
    if settings.Q != 0.0:
        values += 9 * settings.n_model_errors
    if settings.missing:
        values += 2 * settings.n_obs * obs_dim
    return 8 * values


def generated_part(
    settings: TwinSettings,
    split: str,
    n: int,
    *,
    first: int = 0,
    n_threads: int | None = None,
    backend: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return truth (n, n_saved, 3) and observations (n, n_obs, m) of a part of a split.

    The part is trajectories `first` to `first + n - 1`. Trajectory i depends only on
    (seed, split, i), and not on the size of the split.
    """
    place: dict[str, Any] = {"split": split, "first": first}
    model: dict[str, Any] = {
        "dt": settings.dt,
        "parameters": settings.parameters,
        "n_threads": n_threads,
        "backend": backend,
    }
    if settings.parameters_spread:
        model["parameters"] = drawn_parameters(settings, n=n, **place)
    initial = spin_up(
        n, seed=settings.seed, time=settings.spin_up_time, **place, **model
    )
    model["save_every"] = settings.save_every
    if settings.Q == 0.0:
        truth = simulate(initial, settings.n_steps, **model)
    else:
        truth = _with_model_error(initial, settings, place, model)
    stride = settings.steps_per_cycle // settings.save_every
    at: Any = slice(stride, None, stride)  # takes no copy of the truth
    if settings.is_irregular:
        at = settings.observed_steps // settings.save_every
    perfect = as_operator(settings.operator)(truth[:, at])
    _checks.finite("operator: h(truth)", perfect)
    observations = perfect + drawn_observation_errors(settings, n=n, **place)
    if settings.missing:
        shape, seed = observations.shape[1:], settings.seed
        draws = _random.uniforms(seed, "missing", split, n, shape, first=first)
        observations[draws < settings.missing] = np.nan
    return truth, observations


def _with_model_error(
    initial: np.ndarray,
    settings: TwinSettings,
    place: dict[str, Any],
    model: dict[str, Any],
) -> np.ndarray:
    """Return trajectories with a model error N(0, Q) after each cycle or step."""
    errors = drawn_model_errors(settings, n=len(initial), **place)
    truth = np.empty((len(initial), settings.n_saved, 3))
    if settings.Q_per_step:
        save_every = model.pop("save_every")
        truth[:, 0] = state = initial
        for step in range(1, settings.n_steps + 1):
            state = forecast(state, 1, **model) + errors[:, step - 1]
            if step % save_every == 0:
                truth[:, step // save_every] = state
        return truth
    state, ends = initial, settings.observed_steps.tolist()
    for k, (start, end) in enumerate(pairwise([0, *ends])):
        first, last = start // settings.save_every, end // settings.save_every
        truth[:, first : last + 1] = simulate(state, end - start, **model)
        # Before the next cycle starts, so that the model propagates the error.
        truth[:, last] += errors[:, k]
        state = truth[:, last]
    n_rest = settings.n_steps - ends[-1]
    truth[:, settings.n_saved - 1 - n_rest // settings.save_every :] = simulate(
        state, n_rest, **model
    )
    return truth


def drawn_observation_errors(
    settings: TwinSettings, split: str, *, n: int, first: int = 0
) -> np.ndarray:
    """Return the observation errors of n trajectories, (n, n_obs, obs_dim)."""
    shape = settings.n_obs, as_operator(settings.operator).obs_dim
    noise = _random.standard_normals(
        settings.seed, "observation", split, n, shape, first=first
    )
    return np.asarray(settings.observation_errors(noise))


def drawn_model_errors(
    settings: TwinSettings, split: str, *, n: int, first: int = 0
) -> np.ndarray:
    """Return the model errors of n trajectories, (n, n_obs, 3) or (n, n_steps, 3)."""
    shape = (settings.n_model_errors or settings.n_obs, 3)
    normals = _random.standard_normals(
        settings.seed, "model_error", split, n, shape, first=first
    )
    return model_errors(normals, settings.model_error_covariance)


def drawn_parameters(
    settings: TwinSettings, split: str, *, n: int, first: int = 0
) -> np.ndarray:
    """Return sigma, rho and beta of n trajectories, (n, 3)."""
    draws = _random.uniforms(settings.seed, "parameters", split, n, (3,), first=first)
    return settings.drawn_parameters(draws)


def observation_covariance(R: Any, settings: TwinSettings) -> np.ndarray:
    """Return R (m, m) in float64; by default that of the settings."""
    default = settings.observation_covariance
    size = len(default)
    if R is None or np.array_equal(
        R, default
    ):  # sigma = 0 is allowed here, though R = 0 is no covariance
        return default
    return _checks.covariance("R", R, size=size, dtype=np.dtype(np.float64), shape=())


def given_splits(
    truth: np.ndarray,
    observations: Any,
    settings: TwinSettings,
    R: np.ndarray,
    *,
    check: bool,
) -> dict[str, Split]:
    """Return train, val and test, cut in this order, and checked if `check`.

    NaN is accepted where `settings.missing` is above 0, infinity never.
    """
    operator = as_operator(settings.operator)
    shape = (len(truth), settings.n_obs, operator.obs_dim)
    note = f" for truth {truth.shape}, both with trajectories first"
    array = _checks.array("observations", observations, shape=shape, note=note)
    check_values("observations", array, missing=settings.missing > 0.0)
    array[np.isnan(array)] = np.nan  # one NaN: its other bits are in no hash
    sizes = [settings.n_trajectories(name) for name in SPLIT_NAMES]
    if sum(sizes) != len(truth):
        raise ArgumentValueError(
            f"n_train + n_val + n_test: expected the {len(truth)} trajectories of "
            f"truth, got {' + '.join(map(str, sizes))} = {sum(sizes)}"
        )
    splits, origin = {}, FROM_ARRAYS if check else UNCHECKED
    for name, size, end in zip(SPLIT_NAMES, sizes, np.cumsum(sizes), strict=True):
        part = slice(end - size, end)
        split = make_split(name, truth[part], array[part], settings, R, origin)
        problem = misalignment(split, operator, R, slack=SLACK) if check else None
        if problem is not None:
            raise ArgumentValueError(
                f"observations: do not belong to the truth ({name} split): {problem}; "
                "if they do, give their true R, or check=False"
            )
        splits[name] = split
    return splits


def check_values(name: str, observations: np.ndarray, *, missing: bool) -> None:
    """Refuse infinity, and NaN if values may not be missing."""
    no_value = np.isnan(observations)
    if no_value.any() and not missing:
        first = tuple(int(i) for i in np.argwhere(no_value)[0])
        raise ArgumentValueError(
            f"{name}: expected finite values, or missing='nan' for values that were "
            f"not observed, got {no_value.sum()} NaN, the first at index {first}"
        )
    _checks.finite(name, np.where(no_value, 0.0, observations))


def misalignment(
    split: Split, operator: ObservationOperator, R: np.ndarray, *, slack: float = 1.0
) -> str | None:
    """Return why observations do not belong to the truth, or None if they do.

    There are two tests. (1) The normalised squared innovations d^T R^-1 d / m have the
    mean 1. Their means over all trajectories and over each one are compared with an
    exact bound of the chi-squared tail (Laurent & Massart 2000, lemma 1). It is left
    out for data that were simulated with another law than the normal one. (2)
    Observations that are shifted by a time or a trajectory must not fit better. This
    test needs no R.

    Parameters
    ----------
    split : Split
    operator : ObservationOperator
    R : (m, m)
        Covariance of the observation error.
    slack : float
        Factor allowed on the variance, for data whose R is an estimate.
    """
    squares, degrees = _squared_innovations(split, operator, R)
    if not split.settings.noise.is_normal:
        return _better_shift(split, operator, R)
    overall = float(squares.sum() / degrees.sum())
    if not overall <= slack * _bound(degrees.sum()):
        return (
            "the innovations y - h(truth) have "
            f"{_times(overall)} the standard deviation that R says"
        )
    degrees = np.maximum(degrees, 1)  # a trajectory may have no value at all
    by_trajectory = squares / degrees
    excess = by_trajectory / _bound(degrees, len(by_trajectory))
    worst = int(np.argmax(excess))
    if not excess[worst] <= slack:
        return (
            f"the innovations of trajectory {worst} have "
            f"{_times(float(by_trajectory[worst]))} the standard deviation that R says"
        )
    return _better_shift(split, operator, R)


def _times(ratio: float) -> str:
    return f"{np.sqrt(ratio):.3g} times"


def _bound(degrees: Any, n_tests: int = 1) -> Any:
    # P(chi^2_n / n >= 1 + 2 sqrt(t) + 2 t) <= exp(-n t); for several tests the union
    # bound adds log(n_tests).
    tail = (_TAIL + np.log(n_tests)) / degrees
    return 1.0 + 2.0 * np.sqrt(tail) + 2.0 * tail


def _squared_innovations(
    split: Split, operator: ObservationOperator, R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of d^T R^-1 d of the trajectories (n,), and of their values (n,).

    R is increased by the variance of rounding. Of missing values the rows of d and the
    rows and columns of R are left out.
    """
    expected = operator(split.truth_at_observations)
    innovations = split.observations - expected
    largest = max(float(np.abs(expected).max()), 1.0)
    # With sigma = 0 only rounding errors of h(truth) are left.
    widened = R + (_ROUNDING * largest) ** 2 * np.eye(len(R))
    present = ~np.isnan(innovations)
    squares: np.ndarray = np.zeros(present.shape[:2])
    patterns = np.unique(present.reshape(-1, len(R)), axis=0)
    for pattern in patterns[patterns.any(axis=1)]:
        rows = (present == pattern).all(axis=-1)
        weight = np.linalg.inv(widened[np.ix_(pattern, pattern)])
        squares[rows] = _squares(innovations[rows][:, pattern], weight)
    return squares.sum(axis=1), present.sum(axis=(1, 2))


def _better_shift(
    split: Split, operator: ObservationOperator, R: np.ndarray
) -> str | None:
    weight = _weight(R)
    positions = split.observation_steps // split.save_every
    missing = np.isnan(split.observations)
    fitting = _squares(split.observations - operator(split.truth[:, positions]), weight)
    # Common mistakes: one saved time or one cycle too early or too late, and
    # observations of the neighbouring trajectory.
    cycles = np.diff(positions, prepend=0)
    after = np.append(cycles[1:], cycles[-1])
    shifts: list[tuple[str, int, Any]]
    shifts = [("-1 saved times", 0, -1), ("+1 saved times", 0, 1)]
    shifts += [("-1 observations", 0, -cycles), ("+1 observations", 0, after)]
    if split.n_trajectories > 1:
        shifts += [("-1 trajectories", -1, 0), ("+1 trajectories", 1, 0)]
    for shift, trajectories, times in shifts:
        moved = positions + times
        inside = (moved >= 0) & (moved < split.truth.shape[1])
        other = np.roll(operator(split.truth[:, moved[inside]]), trajectories, axis=0)
        shifted = _squares(split.observations[:, inside] - other, weight)
        gain = (fitting[:, inside] - shifted)[~missing[:, inside].all(axis=-1)]
        if gain.size < _ENOUGH:
            continue
        if gain.mean() > _BETTER * gain.std() / np.sqrt(gain.size):
            return f"the observations fit the truth better moved by {shift}"
    return None


def _weight(R: np.ndarray) -> np.ndarray:
    return np.linalg.inv(R) if R.any() else np.eye(len(R))


def _squares(differences: np.ndarray, weight: np.ndarray) -> np.ndarray:
    differences = np.where(np.isnan(differences), 0.0, differences)
    return np.asarray(((differences @ weight) * differences).sum(axis=-1))
