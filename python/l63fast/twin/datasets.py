"""Trajectories as self-describing xarray datasets, in memory and in files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.observation import as_operator
from l63fast.twin.settings import TwinSettings

if TYPE_CHECKING:
    import xarray

SCHEMA: Final = 1
_SPLIT_TITLES: Final = {"train": "training", "val": "validation", "test": "test"}


def twin_dataset(
    truth: np.ndarray,
    observations: np.ndarray,
    settings: TwinSettings,
    R: np.ndarray,
    origin: str,
    **more: str,
) -> xarray.Dataset:
    """Return trajectories of a twin experiment as a dataset, with R and the origin.

    Parameters
    ----------
    truth : (n, n_saved, 3)
    observations : (n, n_obs, m)
    settings : TwinSettings
    R : (m, m)
    origin : str
        As in `TwinExperiment`.
    **more
        Other attributes, such as `split`.
    """
    if settings.missing:
        n_missing = int(np.isnan(observations).sum())
        counts = {"n_given": observations.size - n_missing, "n_missing": n_missing}
    else:
        counts = {}
    of = f", {_SPLIT_TITLES[more['split']]} split" if "split" in more else ""
    attributes = {
        **common_attributes(settings),
        "title": f"Lorenz-63 twin experiment{of}",
        "history": f"l63fast.TwinExperiment, {origin}",
        "comment": "Trajectories are independent; observation k belongs to the "
        "truth at model step observation_step[k]; splits share no random stream.",
        **more,
        **counts,
        "origin": origin,
        "configuration": json.dumps(settings.to_dict(), sort_keys=True),
    }
    trajectory = np.arange(len(truth), dtype=np.int64)
    dataset = trajectory_dataset(truth, observations, trajectory, settings, attributes)
    meaning = names("covariance of the observation error")
    dataset["R"] = (("observed", "observed_too"), R, meaning)
    return dataset


def trajectory_dataset(
    truth: np.ndarray,
    observations: np.ndarray,
    trajectory: np.ndarray,
    settings: TwinSettings,
    attributes: dict[str, Any],
) -> xarray.Dataset:
    """Return trajectories as a dataset with coordinates and descriptions.

    Parameters
    ----------
    truth : (n, n_saved, 3)
    observations : (n, n_obs, m)
    trajectory : (n,) int64
        Index of each trajectory in its split.
    settings : TwinSettings
    attributes : dict
        Attributes of the dataset.
    """
    import xarray as xr

    operator = as_operator(settings.operator)
    saved = np.arange(settings.n_saved, dtype=np.int64) * settings.save_every
    steps = settings.observed_steps
    gaps = "; NaN: not observed" if settings.missing else ""
    return xr.Dataset(
        {
            "truth": (
                ("trajectory", "time", "component"),
                truth,
                names("true state of Lorenz-63"),
            ),
            "observation": (
                ("trajectory", "observation_time", "observed"),
                observations,
                names(
                    f"observations y = h(truth) + N(0, R), h = {operator.name}{gaps}"
                ),
            ),
        },
        coords={
            "trajectory": ("trajectory", trajectory, names("trajectory")),
            "time": ("time", saved * settings.dt, names("non-dimensional time")),
            "observation_time": (
                "observation_time",
                steps * settings.dt,
                names("non-dimensional time of the observations"),
            ),
            "observation_step": (
                "observation_time",
                steps,
                names("model step of the observations"),
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


_STATE: Final = ("component",)
_OBSERVED: Final = ("observed",)
_ESTIMATES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "truth": (_STATE, "true state"),
    "background": (_STATE, "background, before the analysis"),
    "analysis": (_STATE, "analysis"),
    "observations": (_OBSERVED, "observations y = h(truth) + N(0, R), h = {h}"),
    "status": ((), "0 converged; see l63fast.Status"),
    "spread": (_STATE, "standard deviation of the analysis error, as claimed"),
    "innovation": (_OBSERVED, "innovation y - h(background)"),
    "innovation_covariance": (
        (*_OBSERVED, "observed_too"),
        "covariance of the innovation, as claimed",
    ),
    "members": (("member", *_STATE), "analysis ensemble"),
    "effective_size": ((), "effective number of particles"),
    "smoothed": (_STATE, "state given later observations too"),
}


def estimates_dataset(
    values: Mapping[str, Any], times: np.ndarray, settings: TwinSettings, **more: str
) -> xarray.Dataset:
    """Return the estimates of a method on a split as a dataset.

    Parameters
    ----------
    values : mapping of str to (n_trajectories, n_times, ...)
        By the names of `CycleResult` and `Estimates`; None and other names are left
        out.
    times : (n_times,)
        Times of the analyses (time units).
    settings : TwinSettings
    **more
        Other attributes, such as `title`.
    """
    import xarray as xr

    variables = {
        name: (
            ("trajectory", "time", *dims),
            values[name],
            names(what.format(h=settings.operator_name)),
        )
        for name, (dims, what) in _ESTIMATES.items()
        if values.get(name) is not None
    }
    coordinates = {
        "time": ("time", times, names("non-dimensional time")),
        "component": list("xyz"),
        "observed": list(as_operator(settings.operator).labels),
    }
    return xr.Dataset(variables, coordinates, {**common_attributes(settings), **more})


def names(long_name: str) -> dict[str, str]:
    """Return the attributes of a dimensionless variable."""
    return {"long_name": long_name, "units": "1"}


def common_attributes(settings: TwinSettings) -> dict[str, Any]:
    """Return the attributes that every file of trajectories has."""
    # No date here: timing.json has it, so that equal results give equal files.
    source = as_operator(settings.operator).source_hash
    times: dict[str, Any] = {"steps_per_cycle": settings.steps_per_cycle}
    if settings.is_irregular:
        times = {"interval": settings.interval} if settings.interval else {}
    if settings.missing:
        times["missing"] = settings.missing
    return {
        "Conventions": "CF-1.11",
        "source": f"l63fast {package_version()}",
        "references": "Lorenz (1963), J. Atmos. Sci. 20, 130-141",
        "schema": SCHEMA,
        "operator": settings.operator_name,
        **({"operator_source_sha256": source} if source else {}),
        "sigma": settings.sigma,
        "dt": settings.dt,
        **times,
        "seed": settings.seed,
    }


def package_version() -> str:
    """Return the version of this package."""
    try:
        return version("l63fast")
    except PackageNotFoundError:
        return "(not installed)"
