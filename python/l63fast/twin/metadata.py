"""What a split says about itself in its netCDF file."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.observation import ObservationOperator
from l63fast.twin.settings import TwinSettings
from l63fast.twin.split import Split

if TYPE_CHECKING:
    import xarray

__all__ = [
    "SCHEMA",
    "common_attributes",
    "package_version",
    "split_dataset",
    "trajectory_dataset",
]

SCHEMA: Final = 1
_SPLIT_TITLES: Final = {"train": "training", "val": "validation", "test": "test"}


def split_dataset(
    split: Split, settings: TwinSettings, R: np.ndarray, origin: str
) -> xarray.Dataset:
    """Return a split as a dataset: data, coordinates and what they mean."""
    trajectory = np.arange(split.n_trajectories, dtype=np.int64)
    dataset = trajectory_dataset(
        split.truth, split.observations, trajectory, settings, {}
    )
    dataset["R"] = (
        ("observed", "observed_too"),
        R,
        _names("covariance of the observation error"),
    )
    return dataset.assign_attrs(_attributes(split, settings, origin))


def trajectory_dataset(
    truth: np.ndarray,
    observations: np.ndarray,
    trajectory: np.ndarray,
    settings: TwinSettings,
    attributes: dict[str, Any],
) -> xarray.Dataset:
    """Return trajectories as a dataset: data, coordinates and what they mean.

    Parameters
    ----------
    truth : (n, n_saved, 3)
    observations : (n, n_obs, m)
    trajectory : (n,) int64
        The index of each in its split.
    settings : TwinSettings
    attributes : dict
        Of the whole dataset.
    """
    import xarray as xr

    operator = ObservationOperator(settings.operator)
    saved = np.arange(settings.n_saved, dtype=np.int64) * settings.save_every
    cycles = np.arange(1, settings.n_obs + 1, dtype=np.int64)
    steps = cycles * settings.steps_per_cycle
    return xr.Dataset(
        {
            "truth": (
                ("trajectory", "time", "component"),
                truth,
                _names("true state of Lorenz-63"),
            ),
            "observation": (
                ("trajectory", "observation_time", "observed"),
                observations,
                _names(f"observations y = h(truth) + N(0, R), h = {settings.operator}"),
            ),
        },
        coords={
            "trajectory": ("trajectory", trajectory, _names("trajectory")),
            "time": ("time", saved * settings.dt, _names("non-dimensional time")),
            "observation_time": (
                "observation_time",
                steps * settings.dt,
                _names("non-dimensional time of the observations"),
            ),
            "observation_step": (
                "observation_time",
                steps,
                _names("model step of the observations"),
            ),
            "component": ("component", list("xyz"), {"long_name": "state component"}),
            "observed": (
                "observed",
                list(operator.labels),
                {"long_name": "observed quantity"},
            ),
        },
        attrs=attributes,
    )


def _names(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}


def _attributes(split: Split, settings: TwinSettings, origin: str) -> dict[str, Any]:
    return {
        **common_attributes(settings),
        "title": f"Lorenz-63 twin experiment, {_SPLIT_TITLES[split.name]} split",
        "history": f"l63fast.TwinExperiment, {origin}",
        "comment": "Trajectories are independent; observation k belongs to the "
        "truth at model step observation_step[k]; splits share no random stream.",
        "split": split.name,
        "split_sha256": split.hash,
        "origin": origin,
        "configuration": json.dumps(settings.to_dict(), sort_keys=True),
    }


def common_attributes(settings: TwinSettings) -> dict[str, Any]:
    """Return what every file of trajectories says about itself."""
    # No date here: times stand in timing.json, so that equal results are equal files.
    return {
        "Conventions": "CF-1.11",
        "source": f"l63fast {package_version()}",
        "references": "Lorenz (1963), J. Atmos. Sci. 20, 130-141",
        "schema": SCHEMA,
        "operator": settings.operator,
        "sigma": settings.sigma,
        "dt": settings.dt,
        "steps_per_cycle": settings.steps_per_cycle,
        "seed": settings.seed,
    }


def package_version() -> str:
    """Return the version that writes."""
    try:
        return version("l63fast")
    except PackageNotFoundError:
        return "(not installed)"
