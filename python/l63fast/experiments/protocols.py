"""How methods meet the data: in windows that stand alone, or in their own cycles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import numpy as np

from l63fast import _checks, _random
from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.assimilation.backgrounds import (
    KINDS,
    Backgrounds,
    CycledErrors,
    estimate_cycled_errors,
    perturbed,
)
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.four_d_var import FourDVar, WindowState
from l63fast.assimilation.scheme import Analysis, Scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import LIMITS, MEASURES, SCALES, Tuning, tune
from l63fast.experiments.data import SavedSettings
from l63fast.experiments.settings_file import Checked, limited, refuse
from l63fast.learning.data import AssimilationDataset, windows
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment, TwinSettings, estimates_dataset
from l63fast.verification import crps_means, crps_means_of_normal, trajectory_means

if TYPE_CHECKING:
    import xarray

_LARGEST_ENSEMBLES: Final = 2**28  # bytes of members kept for ranks and the CRPS
_MOST_MEMBERS: Final = 2**22  # of ensembles that are carried through windows at once


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a method made of a split, at the times that are scored.

    Attributes
    ----------
    truth, background, analysis : (n_trajectories, n_times, 3)
    observations : (n_trajectories, n_times, obs_dim)
        At the analysis times.
    times : (n_times,)
        Since the start of a trajectory (time units).
    status : (n_trajectories, n_times) int8
    spread, innovation, innovation_covariance, members, effective_size
        As in `CycleResult`; None where the method has none.
    seconds_per_cycle : float
        Wall time of forecast and analysis, per trajectory and cycle; of a window, of
        all that is done for one analysis.
    seconds_per_analysis : float or None
        The part of it inside `analyse`, where that is known.
    """

    truth: np.ndarray
    observations: np.ndarray
    times: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    status: np.ndarray
    spread: np.ndarray | None = None
    innovation: np.ndarray | None = None
    innovation_covariance: np.ndarray | None = None
    members: np.ndarray | None = None
    effective_size: np.ndarray | None = None
    seconds_per_cycle: float = float("nan")
    seconds_per_analysis: float | None = None

    def trajectory_columns(self, *, blind: bool) -> dict[str, np.ndarray]:
        """Return time means by trajectory, as the columns of a `results.csv`.

        The CRPS is that of the members where they were kept, otherwise of the normal
        distribution of mean and spread; NaN without a spread, and where the operator is
        blind to the sign, so that a distribution has two halves.
        """
        columns = {}
        for end, states in (("a", self.analysis), ("f", self.background)):
            means = trajectory_means(states, self.truth)
            for i, name in enumerate(("rmse", "mse", "mirror_rmse", "mirror_mse")):
                columns[f"{name}_{end}"] = means[:, i]
        if self.members is not None and not blind:
            crps = crps_means(self.members, self.truth)
        elif self.spread is not None and not blind:
            crps = crps_means_of_normal(self.analysis, self.spread, self.truth)
        else:
            crps = np.full(len(self.truth), np.nan)
        return {**columns, "crps": crps}

    def to_xarray(self, data: TwinSettings, title: str) -> xarray.Dataset:
        """Return truth, observations and states as a dataset that explains itself."""
        kept = ("truth", "background", "analysis", "observations", "status", "spread")
        values = {name: getattr(self, name) for name in kept}
        return estimates_dataset(values, self.times, data, title=title, split="test")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method ready to run, and how it was fitted without the test split.

    Attributes
    ----------
    scheme : Scheme or None
        What a protocol runs.
    label : str
        What tables call it.
    start : {"last", "first"}
        Of windows: the observation at whose time the scheme is given its background.
        From the first it goes through the window, to the last.
    parameter, value : str, float
        Name and value of the number that can be tuned; "" and NaN if there is none.
    tuning : Tuning or None
        None where the number was given.
    facts : dict
        What else the fit found, as plain values: "convergence", "training" and so on.
    judge : callable or None
        Takes problem, estimates of the test split and their scores, as plain values;
        gives more of these that only this method has.
    estimate : callable or None
        Takes problem and split and gives `Estimates`, in place of running a scheme.
    export : callable or None
        Writes what should be kept of the method into a folder.
    """

    scheme: Scheme[Any] | None
    label: str
    start: str = "last"
    parameter: str = ""
    value: float = float("nan")
    tuning: Tuning | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    judge: Callable[[Problem, Estimates, dict[str, Any]], dict[str, Any]] | None = None
    estimate: Callable[[Problem, str], Estimates] | None = None
    export: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Windows(Checked):
    """Single analyses: of L observations, with a background drawn for each.

    3D-Var and encoders are given the background at the time of the last observation.
    4D-Var and filters are given that at the first: they begin there, a filter with
    members drawn from N(background, B_f), and go through the window.

    Attributes
    ----------
    window : int
        Observations that a method may see, L.
    background : str
        One of `l63fast.assimilation.backgrounds.KINDS`.
    b_scale : float, optional
        What multiplies the error covariance B_f of these backgrounds to give the B of
        3D-Var and of the variational losses; tuned on the validation split by default.
    stride : int
        Observations from the end of one window to the end of the next.
    start : int
        Observations before and in the first window, at least; a common one lets
        windows of different lengths be scored at the same times.
    """

    name: ClassVar[str] = "windows"
    measure: ClassVar[str] = "rmse_pooled_a"
    window: int = limited(10, _checks.count, minimum=1)
    background: str = limited("forecast", _checks.choice, allowed=KINDS)
    b_scale: float | None = limited(None, above=0.0)
    stride: int = limited(1, _checks.count, minimum=1)
    start: int = limited(1, _checks.count, minimum=1)

    def completed(self, data: TwinSettings, **changes: Any) -> TwinSettings:
        """Return the data with changes, which these windows have to fit into."""
        data = dataclasses.replace(data, **changes)
        n_obs = data.n_steps // data.steps_per_cycle
        most = (
            f"at most the {n_obs} observations of a trajectory (n_steps = "
            f"{data.n_steps}, steps_per_cycle = {data.steps_per_cycle})"
        )
        for name, n in (("window", self.window), ("start", self.start)):
            refuse(n > n_obs, f"windows.{name}", most, n)
        return data

    def describe(self) -> str:
        """Return what is done, in one line."""
        return f"windows     {self.window} observations, background {self.background}"

    def last_observations(self, data: TwinSettings) -> np.ndarray:
        """Return the index of the last observation of each window."""
        return np.arange(max(self.window, self.start) - 1, data.n_obs, self.stride)

    def run(
        self, problem: Problem, fitted: Fitted, split: str, *, keep_members: bool
    ) -> Estimates:
        """Return what a method makes of every window of a split."""
        twin, scheme = problem.twin, fitted.scheme
        assert scheme is not None
        check_agreement("scheme", getattr(scheme, "made_for", Setup()), Setup.of(twin),
                        imperfect_model=True)  # fmt: skip
        data, part = twin.settings, twin.split(split)
        last = self.last_observations(data)
        first = last - (self.window - 1)
        seen = windows(part.observations, self.window)[:, first]
        flat = seen.reshape(-1, *seen.shape[2:])
        at = first if fitted.start == "first" else last
        start = problem.drawn(split)[:, at].reshape(-1, 3)
        rng = _random.generator(data.seed, "scheme", split)
        sizes = (getattr(scheme, name, 1) for name in ("n_members", "n_particles"))
        size = max(_MOST_MEMBERS // max(sizes), 1)
        began = perf_counter()
        found = [
            self._analysed(
                problem, fitted, start[k : k + size], flat[k : k + size], rng
            )
            for k in range(0, len(flat), size)
        ]
        kept: dict[str, Any] = {
            "seconds_per_cycle": (perf_counter() - began) / len(flat)
        }
        for name in (one.name for one in dataclasses.fields(Analysis)):
            parts = [getattr(analysis, name) for analysis in found]
            if parts[0] is not None and (keep_members or name != "members"):
                values = np.concatenate(parts)
                kept[name] = values.reshape(*seen.shape[:2], *values.shape[1:])
        return problem.estimates(split, last, {**kept, "analysis": kept["state"]})

    def _analysed(
        self,
        problem: Problem,
        fitted: Fitted,
        background: np.ndarray,
        observations: np.ndarray,
        rng: np.random.Generator,
    ) -> Analysis:
        """Return the analysis at the last of observations (n, L, obs_dim)."""
        scheme: Any = fitted.scheme
        if isinstance(scheme, FourDVar):
            return self._four_d_var(problem, scheme, background, observations)
        state = scheme.initial(background, rng)
        if fitted.start == "last" or scheme.window == self.window:
            analysis: Analysis
            _, analysis = scheme.analyse(state, observations[:, -scheme.window :])
            return analysis
        for k in range(self.window):
            if k:
                state = scheme.forecast(state, problem.twin.settings.steps_per_cycle)
            state, analysis = scheme.analyse(state, observations[:, k : k + 1])
        return analysis

    def _four_d_var(
        self,
        problem: Problem,
        scheme: FourDVar,
        background: np.ndarray,
        observations: np.ndarray,
    ) -> Analysis:
        """Return the minimum over the whole window, without those of shorter ones.

        What it claims of its innovations is left out: its B is of the window's start.
        """
        n, steps = self.window - 1, problem.twin.settings.steps_per_cycle
        end = forecast(background, n * steps, on_divergence="nan", **problem.model)
        # Of the backgrounds before the last, only the first is that of the window.
        backgrounds = np.repeat(background[:, None], n, axis=1)
        state = WindowState(end, backgrounds, (steps,) * n)
        _, analysis = scheme.analyse(state, observations)
        return dataclasses.replace(
            analysis, innovation=None, innovation_covariance=None
        )


@dataclass(frozen=True)
class Cycles(Checked):
    """Forecast and analysis in turn: every background is the method's own forecast.

    Attributes
    ----------
    n_cycles : int
        Scored cycles of each trajectory; of saved data at most those that they have.
    burn_in : float
        Time before those (time units), of which nothing is scored.
    initial_spread : float
        Standard deviation of the first background's error, in every component.
    """

    name: ClassVar[str] = "cycles"
    measure: ClassVar[str] = "rmse_a"
    n_cycles: int = limited(1000, _checks.count, minimum=1)
    burn_in: float = limited(16.0, minimum=0.0)
    initial_spread: float = limited(1.5, above=0.0)

    @property
    def prior(self) -> np.ndarray:
        """Covariance (3, 3) of the first background's error."""
        return self.initial_spread**2 * np.eye(3)

    def burn_in_cycles(self, data: TwinSettings) -> int:
        """Return the cycles that the burn-in takes, the last of them whole."""
        return -(-round(self.burn_in / data.dt) // data.steps_per_cycle)

    def within(self, data: TwinSettings) -> Cycles:
        """Return the cycles that data have which are saved already."""
        n_cycles, burn_in = data.n_obs, self.burn_in_cycles(data)
        most = f"less than the {data.n_steps * data.dt:g} time units of a trajectory"
        refuse(burn_in >= n_cycles, "cycles.burn_in", most, self.burn_in)
        n_cycles = min(self.n_cycles, n_cycles - burn_in)
        return dataclasses.replace(self, n_cycles=n_cycles)

    def completed(self, data: TwinSettings, **changes: Any) -> TwinSettings:
        """Return the data with changes, of the cycles' length, stored once in each.

        Data that are saved already are as long as they are.
        """
        if isinstance(data, SavedSettings):
            most = "no more than the data have after the burn-in"
            refuse(self != self.within(data), "cycles.n_cycles", most, self.n_cycles)
            return data
        steps = changes.get("steps_per_cycle", data.steps_per_cycle)
        # What fits any number of steps comes first, as burn-in needs them checked.
        changes |= {"n_steps": steps, "save_every": 1}
        data = dataclasses.replace(data, **changes)
        n_cycles = self.burn_in_cycles(data) + self.n_cycles
        return dataclasses.replace(data, n_steps=n_cycles * steps, save_every=steps)

    def describe(self) -> str:
        """Return what is done, in one line."""
        return (
            f"cycles      {self.n_cycles} scored after {self.burn_in:g} time units, "
            f"from truth + N(0, {self.initial_spread**2:.3g} I)"
        )

    def first_background(self, twin: TwinExperiment, split: str) -> np.ndarray:
        """Return what every method begins with on a split (n_trajectories, 3)."""
        truth, seed = twin.split(split).initial_state, twin.settings.seed
        return perturbed(truth, self.prior, seed=seed, split_name=split)

    def run(
        self, problem: Problem, fitted: Fitted, split: str, *, keep_members: bool
    ) -> Estimates:
        """Return the scored cycles of a method on a split."""
        twin, scheme = problem.twin, fitted.scheme
        assert scheme is not None
        needs = scheme.window > 1 and not getattr(scheme, "window_grows", False)
        result = run_cycles(
            scheme,
            twin,
            split,
            n_cycles=self.n_cycles,
            burn_in=self.burn_in_cycles(twin.settings),
            initial=self.first_background(twin, split),
            warm_up=problem.cycled_errors.scheme if needs else None,
            keep_members=keep_members,
        )
        return problem.estimates(split, result.scored, vars(result))


Protocol = Windows | Cycles
Fit = TypeVar("Fit")
PROTOCOLS: Final[dict[str, type[Any]]] = {p.name: p for p in (Windows, Cycles)}


@dataclass(frozen=True)
class Work:
    """What a fit that takes long may use.

    Attributes
    ----------
    folder : Path or None
        For what a fit that is stopped can go on from.
    resume : bool
        Go on from there.
    say : callable
        Takes a line about what was done.
    epoch : callable
        Takes the record of each epoch of a training, and how many there will be.
    """

    folder: Path | None = None
    resume: bool = False
    say: Callable[[str], None] = lambda line: None
    epoch: Callable[[dict[str, Any], int], None] = lambda row, n_epochs: None


@dataclass(frozen=True, eq=False)
class Problem:
    """What every method of a case is given, the same for all of them.

    Attributes
    ----------
    twin : TwinExperiment
    protocol : Windows or Cycles
    kind : {"rmse_a", "rmse_pooled_a"}
        By which of the two methods are tuned.
    work : Work
    """

    twin: TwinExperiment
    protocol: Protocol
    kind: str
    work: Work = field(default_factory=Work)

    @property
    def model(self) -> dict[str, Any]:
        """The model as the schemes take it: that of the truth."""
        settings = self.twin.settings
        return {"dt": settings.dt, "parameters": settings.parameters}

    @property
    def filter(self) -> dict[str, Any]:
        """What every filter takes: operator, B, R, Q and the model."""
        twin, protocol = self.twin, self.protocol
        B = protocol.prior if isinstance(protocol, Cycles) else self.backgrounds.B
        given = {"operator": twin.operator, "B": B, "R": twin.R, "Q": twin.Q}
        return {**given, **self.model}

    def _once(self, name: str, fit: Callable[[], Fit]) -> Fit:
        """Return what is fitted once for all methods of a case, when first asked for.

        It is fitted to this problem's twin: the files of an equal one may be gone.
        """
        hashes = tuple(sorted(self.twin.hashes.items()))
        fits = _fits(hashes, self.protocol, self.kind)
        if name not in fits:
            fits[name] = fit()
        found: Fit = fits[name]
        return found

    @property
    def cycled_errors(self) -> CycledErrors:
        """3D-Var in its cycle, with the covariance of its own forecasts, tuned."""
        return self._once("cycled", lambda: estimate_cycled_errors(self.twin))

    @property
    def backgrounds(self) -> Backgrounds:
        """Those of windows, fitted without the test split."""
        assert isinstance(self.protocol, Windows)
        kind = self.protocol.background
        return self._once("backgrounds", lambda: Backgrounds.fit(self.twin, kind))

    @property
    def forecast_covariance(self) -> np.ndarray:
        """Error covariance (3, 3) of the backgrounds: what 4D-Var and losses take."""
        if isinstance(self.protocol, Cycles):
            return self.cycled_errors.background
        return self.backgrounds.B

    @property
    def window_tuning(self) -> Tuning:
        """Of the scale of B of 3D-Var in windows, on the validation split."""

        def scaled(scale: float) -> ThreeDVar:
            return ThreeDVar.for_twin(self.twin, B=scale * self.backgrounds.B)

        def tuned() -> Tuning:
            tuning = self.tuned(Fitted(None, "3D-Var"), "b", scaled, None).tuning
            assert tuning is not None
            return tuning

        return self._once("window_tuning", tuned)

    @property
    def window_covariance(self) -> np.ndarray:
        """The B (3, 3) of 3D-Var and of the variational losses, in windows."""
        assert isinstance(self.protocol, Windows)
        given = self.protocol.b_scale
        scale = self.window_tuning.scale if given is None else given
        return scale * self.backgrounds.B

    def drawn(self, split: str) -> np.ndarray:
        """Return backgrounds of windows (n_trajectories, n_obs, 3) for a split."""
        return self._once(
            f"drawn {split}", lambda: self.backgrounds.draw(self.twin, split)
        )

    def samples(self, split: str, *, analysis_at: str = "last") -> AssimilationDataset:
        """Return what an encoder is given of a split, window by window."""
        assert isinstance(self.protocol, Windows)
        return AssimilationDataset.from_twin(
            self.twin,
            split,
            self.drawn(split),
            window=self.protocol.window,
            stride=self.protocol.stride,
            start=self.protocol.start,
            analysis_at=analysis_at,
        )

    def estimates(
        self, split: str, places: Any, values: Mapping[str, Any], n: int | None = None
    ) -> Estimates:
        """Return values beside the truth at some observations of n trajectories.

        Values that `Estimates` has no place for are left out.
        """
        data, part = self.twin.settings, self.twin.split(split)
        interval = data.steps_per_cycle * data.dt
        own = {one.name for one in dataclasses.fields(Estimates)}
        return Estimates(
            truth=part.truth_at_observations[:n, places],
            observations=part.observations[:n, places],
            times=np.arange(1, data.n_obs + 1)[places] * interval,
            **{name: value for name, value in values.items() if name in own},
        )

    def run(
        self, fitted: Fitted, split: str, *, keep_members: bool = False
    ) -> Estimates:
        """Return what a fitted method makes of a split."""
        if fitted.estimate is not None:
            return fitted.estimate(self, split)
        data = self.twin.settings
        n_states = data.n_trajectories(split) * data.n_obs
        keep = keep_members and has_small_ensembles(fitted.scheme, n_states)
        return self.protocol.run(self, fitted, split, keep_members=keep)

    def score(self, fitted: Fitted) -> tuple[float, Estimates]:
        """Return the score on the validation split, mirror-aware where it must be."""
        found = self.run(fitted, "val")
        blind = self.twin.operator.is_mirror_blind
        rate = MEASURES[self.kind]
        return rate(found.analysis, found.truth, mirror_aware=blind), found

    def tuned(
        self,
        base: Fitted,
        field_name: str,
        scheme_of: Callable[[float], Scheme[Any]],
        given: float | None,
        values: Any = SCALES,
        limits: tuple[float, float] = LIMITS,
    ) -> Fitted:
        """Return a method with the number that was given, or the best of some values.

        Parameters
        ----------
        base : Fitted
            Without its scheme.
        field_name : str
            What the number is called.
        scheme_of : callable
            Takes the number, gives the scheme.
        given : float or None
            None: tune it, on the validation split.
        values, limits
            As in `tune`.
        """

        def fitted(value: float) -> Fitted:
            return dataclasses.replace(
                base, scheme=scheme_of(value), parameter=field_name, value=value
            )

        if given is not None:
            return fitted(given)
        tuning = tune(lambda v: self.score(fitted(v))[0], values, limits=limits)
        return dataclasses.replace(fitted(tuning.scale), tuning=tuning)


def has_small_ensembles(scheme: Any, n_states: int) -> bool:
    """Whether a scheme has members, few enough to keep those of so many states."""
    size = getattr(scheme, "n_members", 0) * 24 * n_states
    return 0 < size <= _LARGEST_ENSEMBLES


@lru_cache(maxsize=1)
def _fits(
    hashes: tuple[tuple[str, str], ...], protocol: Protocol, kind: str
) -> dict[str, Any]:
    """Return the fits of a case by name; the last one's are kept for the next cell.

    The twin is known by its hashes.
    """
    return {}
