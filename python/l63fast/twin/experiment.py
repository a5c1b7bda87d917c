"""Twin experiments: generated or made from arrays; saved, and loaded by split."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from l63fast import _checks, storage
from l63fast._arithmetic import ieee_arithmetic
from l63fast._summary import OneScreen
from l63fast.errors import ArgumentTypeError
from l63fast.lorenz63 import Climatology, Lorenz63, climatology
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin import files
from l63fast.twin.datasets import names, twin_dataset
from l63fast.twin.forecast_model import ForecastModel
from l63fast.twin.own_data import trajectories, warn_of_another_model
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.splits import (
    FROM_ARRAYS,
    GENERATED,
    UNCHECKED,
    Split,
    generated_splits,
    given_splits,
    observation_covariance,
)

if TYPE_CHECKING:
    import xarray


class TwinExperiment(OneScreen):
    """Truth and observations of Lorenz-63 in three independent splits.

    Made by `generate`, `from_arrays` or `load`.

    Attributes
    ----------
    settings : TwinSettings
    operator : ObservationOperator
    R : (m, m) float64
        Covariance of the observation error.
    Q : (3, 3) float64
        Covariance of the model error that the truth gets once a cycle; zero for a
        perfect model.
    model : ForecastModel
        The model that schemes forecast with, by default that of the truth.
    origin : str
        "generated", "from arrays", or "from arrays, whose alignment was not checked".
    hashes : mapping of str to str
        sha256 of each split, known without reading its data.
    """

    def __init__(
        self,
        settings: TwinSettings,
        R: np.ndarray,
        origin: str,
        hashes: Mapping[str, str],
        openers: Mapping[str, Callable[[], Split]],
    ) -> None:
        self.settings = settings
        self.operator = as_operator(settings.operator)
        self.R = R
        self.R.setflags(write=False)
        self.Q = settings.cycle_error_covariance
        self.Q.setflags(write=False)
        self.model = ForecastModel()
        self.origin = origin
        self.hashes = MappingProxyType(dict(hashes))
        # Splits are opened on demand: training and tuning must not read the test split.
        self._openers = dict(openers)
        self._splits: dict[str, Split] = {}

    @classmethod
    @ieee_arithmetic()
    def generate(
        cls,
        settings: TwinSettings,
        *,
        n_threads: int | None = None,
        backend: str = "auto",
    ) -> TwinExperiment:
        """Return a simulated experiment.

        The truth of a trajectory depends only on (seed, split, trajectory). So do its
        observation errors, which have their own random stream. The first 100 of 1,000
        trajectories are therefore the same as those of an experiment with 100.

        Raises
        ------
        MemoryLimitError
            If all splits together need more memory than is free.
        """
        _checks.instance("settings", settings, TwinSettings)
        R = observation_covariance(None, settings)
        splits = generated_splits(settings, R, n_threads, backend)
        return cls._of(splits, settings, R, GENERATED)

    @classmethod
    @ieee_arithmetic()
    def from_arrays(
        cls,
        truth: Any,
        observations: Any,
        *,
        operator: ObservationOperator | str,
        sigma: float | None = None,
        dt: float,
        steps_per_cycle: int | None = None,
        observation_steps: Any = None,
        missing: str | None = None,
        n_train: int | None = None,
        n_val: int | None = None,
        n_test: int | None = None,
        save_every: int = 1,
        gap: float = 10.0,
        R: Any = None,
        parameters: Lorenz63 | None = None,
        check: bool = True,
    ) -> TwinExperiment:
        """Return an experiment on your own data.

        Parameters
        ----------
        truth : (n, n_saved, 3), or (n_saved, 3) of one run, or these by split
            One state every `save_every` steps of `dt`; entry 0 is at step 0. A single
            run is cut in time into blocks of equal length. Your own splits are a
            mapping with the keys "train", "val" and "test".
        observations : (n, n_obs, m), or (n_obs, m), or these by split
            At steps `steps_per_cycle`, 2 `steps_per_cycle`, ... up to the last, or at
            `observation_steps`.
        sigma : float
            Standard deviation of y - h(truth); by default that of R, the root of its
            mean variance. One of the two is needed.
        observation_steps : (n_obs,) int
            Step of each observation, in rising order from 1 on; of a single run, whose
            blocks then have the times of all of them, with NaN where a block has none.
        missing : "nan", optional
            NaN in the observations means that a value was not observed. Without it, NaN
            is an error.
        n_train, n_val, n_test : int
            Trajectories, or blocks of a single run, of each split in this order. Their
            sum is n. Not given with your own splits.
        gap : float
            Time (time units) that is left out between the splits of a single run, so
            that they are independent.
        R : float or (m, m), optional
            Covariance of y - h(truth), which includes a bias and errors of h; sigma^2 I
            by default.
        check : bool
            Refuse observations whose y - h(truth) are much larger than R says, or that
            fit the truth better when shifted by a time or a trajectory. With False they
            are accepted (outliers, heavy tails), and `origin` says so. With True there
            is also a warning if the truth does not follow the model.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If an argument is not as described, or observations and truth do not match.
        """
        save_every = _checks.count("save_every", save_every, minimum=1)
        if observation_steps is None:
            name = "steps_per_cycle"
            if steps_per_cycle is None:
                raise ArgumentTypeError(
                    f"{name}: expected the steps of dt between two observations, or "
                    "observation_steps, the step of each, got none"
                )
            steps_per_cycle = _checks.count(name, steps_per_cycle, minimum=1)
        if missing is not None:
            _checks.choice("missing", missing, ("nan",))
        given = trajectories(
            truth,
            observations,
            {"n_train": n_train, "n_val": n_val, "n_test": n_test},
            dt=_checks.real("dt", dt, above=0.0),
            steps_per_cycle=steps_per_cycle,
            observation_steps=observation_steps,
            save_every=save_every,
            gap=gap,
            missing=missing is not None,
        )
        truth, observations = given.truth, given.observations
        if given.missing:
            observations = _checks.array(
                "observations", observations, shape=(None,) * 3
            )
        settings = TwinSettings(
            operator=operator,
            **given.sizes,
            n_steps=(truth.shape[1] - 1) * save_every,
            dt=dt,
            steps_per_cycle=steps_per_cycle,  # type: ignore[arg-type]
            sigma=_deviation(sigma, R, as_operator(operator)),
            save_every=save_every,
            parameters=Lorenz63() if parameters is None else parameters,
            missing=float(np.isnan(observations).mean()) if given.missing else 0.0,
            observation_steps=given.steps,
        )
        covariance = observation_covariance(R, settings)
        check = _checks.boolean("check", check)
        splits = given_splits(truth, observations, settings, covariance, check=check)
        if check:
            truths = {name: split.truth for name, split in splits.items()}
            warn_of_another_model(truths, save_every, dt, settings.parameters)
        origin = FROM_ARRAYS if check else UNCHECKED
        return cls._of(splits, settings, covariance, origin)

    @classmethod
    def _of(
        cls,
        splits: dict[str, Split],
        settings: TwinSettings,
        R: np.ndarray,
        origin: str,
    ) -> TwinExperiment:
        hashes = {name: split.hash for name, split in splits.items()}
        openers = {name: partial(splits.__getitem__, name) for name in splits}
        return cls(settings, R, origin, hashes, openers)

    def split(self, name: str) -> Split:
        """Return a split; a split on disk is read and checked at its first use.

        Raises
        ------
        DataFileError
            If its file is damaged, its data do not have its hash, or its observations
            do not belong to its truth.
        """
        name = _checks.choice("name", name, SPLIT_NAMES)
        if name not in self._splits:
            self._splits[name] = self._openers[name]()
        return self._splits[name]

    @property
    def train(self) -> Split:
        """The training split; all statistics come from it."""
        return self.split("train")

    @property
    def val(self) -> Split:
        """The validation split, for tuning and early stopping."""
        return self.split("val")

    @property
    def test(self) -> Split:
        """The test split, for the final scores."""
        return self.split("test")

    def with_model(self, model: ForecastModel) -> TwinExperiment:
        """Return the same data, for schemes that forecast with another model.

        Truth, observations, climatology and hashes stay as they are. `for_twin`,
        backgrounds, tuning and trainings in cycles use the model, and `run_cycles`
        records how it differs from that of the truth.

        Raises
        ------
        ArgumentValueError
            If the time step of the model does not divide the time between observations.
        """
        _checks.instance("model", model, ForecastModel)
        model.steps(self.settings, self.settings.cycle_steps)
        other = copy.copy(self)  # with the splits that are open already
        other.model = model
        return other

    @property
    def observation_steps(self) -> np.ndarray:
        """Model step of each observation, (n_obs,)."""
        return self.settings.observed_steps

    @cached_property
    def climatology(self) -> Climatology:
        """Mean and covariance of the training truth, symmetrised."""
        return climatology(self.train.truth)

    def to_xarray(self) -> xarray.Dataset:
        """Return the trajectories of all splits as a dataset; all splits are read.

        Dimensions and attributes are those of `Split.to_xarray`. The coordinate `split`
        says to which split a trajectory belongs.
        """
        splits = [self.split(name) for name in SPLIT_NAMES]
        truth, observations = (
            np.concatenate([getattr(split, name) for split in splits])
            for name in ("truth", "observations")
        )
        hashes = {f"{name}_sha256": digest for name, digest in self.hashes.items()}
        dataset = twin_dataset(
            truth, observations, self.settings, self.R, self.origin, **hashes
        )
        of = np.repeat(SPLIT_NAMES, [split.n_trajectories for split in splits])
        return dataset.assign_coords(split=("trajectory", of, names("split")))

    def __getstate__(self) -> dict[str, Any]:
        """Return the pickled state; splits on disk that were not read stay on disk."""
        return {**vars(self), "hashes": dict(self.hashes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled state; arrays are read-only again."""
        vars(self).update(state, hashes=MappingProxyType(state["hashes"]))
        for array in (self.R, self.Q):
            array.setflags(write=False)

    def _summary(self) -> dict[str, Any]:
        data = self.settings
        every = f"every {data.steps_per_cycle * data.dt:g} time units"
        times = ("" if data.is_irregular else every, data.gaps)
        return {
            **{
                name: f"{data.n_trajectories(name)} trajectories"
                for name in SPLIT_NAMES
            },
            "truth": f"{data.n_saved} states in {data.n_steps * data.dt:g} time units",
            "observations": ", ".join([str(data.n_obs), *filter(None, times)]),
            "operator": self.operator.name,
            **{"R": self.R, "Q": self.Q, "dt": data.dt, "seed": data.seed},
            "parameters": data.parameters,
            **({} if self.model.is_perfect else {"model": self.model.describe(data)}),
            "origin": self.origin,
        }

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> None:
        """Write the experiment to a directory, completely or not at all.

        Raises
        ------
        ResultError, LockedError
            As in `storage.result_directory`.
        """
        splits = [self.split(name) for name in SPLIT_NAMES]
        index = files.Index(self.settings, self.R, self.origin, dict(self.hashes))
        with storage.result_directory(
            path, replace=replace, kind=files.KIND
        ) as directory:
            files.write_splits(directory, splits, index)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        operator: ObservationOperator | str | None = None,
    ) -> TwinExperiment:
        """Return the experiment in a directory; its splits are read at their first use.

        Parameters
        ----------
        path : str or path
        operator : ObservationOperator or its name, optional
            The operator that the data were made with. An operator of your own must be
            given: files hold its name and the sha256 of its source, not the function.

        Raises
        ------
        DataFileError
            If the directory is missing, damaged, has another schema, or holds no twin
            experiment.
        ArgumentValueError
            If an operator of your own is missing, or another operator is given.
        """
        directory = _checks.path("path", path).absolute()  # splits are read later
        index, manifest = files.read_index(directory, operator)
        openers = {
            name: partial(files.open_split, directory, manifest, index, name)
            for name in SPLIT_NAMES
        }
        return cls(*index, openers)


def _deviation(sigma: float | None, R: Any, operator: ObservationOperator) -> float:
    """Return sigma, by default the root of the mean variance of R."""
    if sigma is not None:
        return sigma
    if R is None:
        raise ArgumentTypeError("sigma: expected a number, or a covariance R, got none")
    size, dtype = operator.obs_dim, np.dtype(np.float64)
    matrix = _checks.covariance("R", R, size=size, dtype=dtype, shape=())
    return float(np.sqrt(matrix.trace() / size))
