"""The two protocols of an experiment, single windows and cycles, and their results."""

from __future__ import annotations

import dataclasses
import math
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
from l63fast.assimilation.scheme import Analysis, KalmanSettings, Scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import LIMITS, MEASURES, SCALES, Tuning, tune
from l63fast.experiments.data import SavedSettings
from l63fast.experiments.settings_file import Checked, limited, refuse
from l63fast.learning.data import AssimilationDataset, windows
from l63fast.lorenz63 import forecast
from l63fast.twin import (
    ForecastModel,
    TwinExperiment,
    TwinSettings,
    estimates_dataset,
)
from l63fast.verification import (
    PointScores,
    nearer,
    score_marginals,
    score_members,
    score_mixtures,
    trajectory_means,
)

if TYPE_CHECKING:
    import xarray

# Columns of the scores of estimated distributions, as `PointScores.columns` has them.
DISTRIBUTION: Final = ("crps", "energy", "log_score", "covered_50", "covered_90")
_LARGEST_ENSEMBLES: Final = 2**28  # bytes of members kept for ranks and the CRPS
_LONGEST: Final = 10**9  # steps of a trajectory, before its length is known
_NORMAL_90: Final = 1.6448536269514722  # quantile of 0.95
_MOST_MEMBERS: Final = 2**22  # members of all windows that are analysed at once


@dataclass(frozen=True, eq=False)
class Estimates:
    """Backgrounds and analyses of a method on a split, at the scored times.

    Attributes
    ----------
    truth, background, analysis : (n_trajectories, n_times, 3)
    observations : (n_trajectories, n_times, obs_dim)
        Observations at the analysis times.
    times : (n_times,)
        Time since the start of a trajectory (time units).
    status : (n_trajectories, n_times) int8
        Values of `Status`.
    spread, innovation, innovation_covariance, members, components, effective_size,
    particle_scores, smoothed, smoother_lag, parameters, parameters_spread
        As in `CycleResult`; None where the method has none.
    members_are_drawn : bool
        Whether the members are a sample of the estimated distribution.
    true_parameters : (n_trajectories, 3) or None
    seconds_per_cycle : float
        Wall time (seconds) of forecast and analysis per trajectory and cycle; in
        windows, that of everything that one analysis needs.
    seconds_per_analysis : float or None
        The part of it that `analyse` took, where it is known.
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
    members_are_drawn: bool = True
    components: np.ndarray | None = None
    effective_size: np.ndarray | None = None
    particle_scores: PointScores | None = None
    smoothed: np.ndarray | None = None
    smoother_lag: int = 0
    parameters: np.ndarray | None = None
    parameters_spread: np.ndarray | None = None
    true_parameters: np.ndarray | None = None
    seconds_per_cycle: float = float("nan")
    seconds_per_analysis: float | None = None

    def trajectory_columns(self, *, blind: bool) -> dict[str, np.ndarray]:
        """Return the time means of each trajectory, as the columns of a `results.csv`.

        The columns of `PointScores` are NaN where the method estimates no distribution.
        Means of smoothed states, where there are some, leave out the last
        `smoother_lag` times.
        """
        columns = {}
        last = self.truth.shape[1] - self.smoother_lag
        for end, states, n in (
            ("a", self.analysis, None), ("f", self.background, None),
            ("s", self.smoothed, last),
        ):  # fmt: skip
            if states is None:
                continue
            means = trajectory_means(states[:, :n], self.truth[:, :n])
            for i, name in enumerate(("rmse", "mse", "mirror_rmse", "mirror_mse")):
                columns[f"{name}_{end}"] = means[:, i]
        scores = self.distribution_scores(blind=blind)
        if scores is None:
            columns |= dict.fromkeys(DISTRIBUTION, np.full(len(means), np.nan))
        else:
            columns |= scores.columns()
        return columns | self._parameter_columns()

    def _parameter_columns(self) -> dict[str, np.ndarray]:
        """Return the errors of estimated parameters: over all times, and at the last.

        `half_width_...` is half the width of the normal interval of 90 % at the last
        time, which holds the truth where |`last_...`| is smaller.
        """
        if self.parameters is None or self.true_parameters is None:
            return {}
        errors = self.parameters - self.true_parameters[:, None]
        last, half = errors[:, -1], self.parameters_half_width[:, -1]
        columns = {}
        for i, name in enumerate(("sigma", "rho", "beta")):
            columns[f"rmse_{name}"] = np.sqrt((errors[..., i] ** 2).mean(axis=1))
            columns[f"last_{name}"] = last[:, i]
            columns[f"half_width_{name}"] = half[:, i]
        return columns

    @property
    def parameters_half_width(self) -> np.ndarray:
        """Half the width of the normal 90 % intervals of the parameters, (..., 3)."""
        assert self.parameters_spread is not None
        return _NORMAL_90 * self.parameters_spread

    def distribution_scores(self, *, blind: bool) -> PointScores | None:
        """Return the scores of the estimated distributions; None if there are none.

        They are those of the weighted particles or of the mixture of normals, else of
        the members where they were kept and drawn, else of normal marginals with the
        given mean and spread. Where the observations do not show the sign (`blind`)
        only particles and mixtures are scored: given the sign, with the nearer image of
        the truth.
        """
        if self.particle_scores is not None:
            return self.particle_scores
        components, truth = self.components, self.truth
        if components is not None:
            if blind:  # given the sign: the first component alone
                components = components[..., :1].copy()
                components["weight"] = 1.0
                truth = nearer(truth, components["mean"][..., 0, :])
            return score_mixtures(components, truth)
        if blind:
            return None
        has_sample = self.members_are_drawn or self.spread is None
        if self.members is not None and self.members.shape[2] > 1 and has_sample:
            return score_members(self.members, truth)
        if self.spread is not None:
            return score_marginals(self.analysis, self.spread, truth)
        return None

    def to_xarray(self, data: TwinSettings, title: str) -> xarray.Dataset:
        """Return truth, observations and states as a dataset with names and units."""
        kept = ("truth", "background", "analysis", "observations", "status", "spread")
        values = {name: getattr(self, name) for name in kept}
        return estimates_dataset(values, self.times, data, title=title, split="test")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method that was fitted without the test split and is ready to run.

    Attributes
    ----------
    scheme : Scheme or None
        The scheme that a protocol runs; None where `estimate` replaces it.
    label : str
        Name of the method in tables.
    knows_parameters : bool
        In cycles: whether the scheme is given the parameters of each trajectory.
    start : {"last", "first"}
        In windows: the observation at whose time the background is given. A scheme that
        starts at the first one is cycled through the window, to the last one.
    parameter, value : str, float
        Name and value of the number that can be tuned; "" and NaN if there is none.
    tuning : Tuning or None
        The tuning of this number; None where its value was given.
    facts : dict
        Other results of the fit for `metrics.json`, such as "convergence" or
        "training".
    judge : callable or None
        Takes the problem, the estimates on the test split and their scores; returns
        metrics that only this method has.
    estimate : callable or None
        Takes the problem and the name of a split, returns `Estimates`.
    export : callable or None
        Writes the files of the method, such as a model, into a folder.
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
    knows_parameters: bool = False


@dataclass(frozen=True)
class Windows(Checked):
    """Single analyses of L observations, each with a background drawn for it.

    3D-Var and encoders get the background at the time of the last observation. 4D-Var
    and filters get it at the time of the first one and then go through the window; a
    filter starts with members drawn from N(background, B_f).

    Attributes
    ----------
    window : int
        Number L of observations in a window.
    background : str
        Kind of background, one of `l63fast.assimilation.backgrounds.KINDS`.
    b_scale : float, optional
        Factor b in B = b B_f, where B_f is the error covariance of these backgrounds
        and B that of 3D-Var and of the variational losses; by default tuned on the
        validation split.
    stride : int
        Observations from the end of one window to the end of the next.
    start : int
        Smallest number of observations up to the end of the first window. With the same
        `start`, windows of different lengths are scored at the same times.
    """

    name: ClassVar[str] = "windows"
    measure: ClassVar[str] = "rmse_pooled_a"
    window: int = limited(10, _checks.count, minimum=1)
    background: str = limited("forecast", _checks.choice, allowed=KINDS)
    b_scale: float | None = limited(None, above=0.0)
    stride: int = limited(1, _checks.count, minimum=1)
    start: int = limited(1, _checks.count, minimum=1)

    def completed(self, data: TwinSettings, **changes: Any) -> TwinSettings:
        """Return settings of data with changes, if the windows fit into a trajectory.

        Raises
        ------
        ConfigurationError
            If a trajectory has fewer observations than a window.
        """
        data = dataclasses.replace(data, **changes)
        most = (
            f"at most the {data.n_obs} observations of a trajectory (n_steps = "
            f"{data.n_steps}, steps_per_cycle = {data.steps_per_cycle})"
        )
        for name, n in (("window", self.window), ("start", self.start)):
            refuse(n > data.n_obs, f"windows.{name}", most, n)
        return data

    def describe(self) -> str:
        """Return the protocol in one line."""
        return f"windows     {self.window} observations, background {self.background}"

    def last_observations(self, data: TwinSettings) -> np.ndarray:
        """Return the index of the last observation of each window."""
        return np.arange(max(self.window, self.start) - 1, data.n_obs, self.stride)

    def by_steps(
        self, data: TwinSettings, n_cycles: int
    ) -> dict[tuple[int, ...], list[int]]:
        """Return the windows by the model steps of their last cycles.

        Such windows can be analysed together: at regular times, all of them. A window
        is its index in `last_observations`.
        """
        steps = data.cycle_steps.tolist()
        groups: dict[tuple[int, ...], list[int]] = {}
        for k, last in enumerate(self.last_observations(data)):
            key = tuple(steps[last + 1 - n_cycles : last + 1])
            groups.setdefault(key, []).append(k)
        return groups

    def run(
        self,
        problem: Problem,
        fitted: Fitted,
        split: str,
        *,
        keep_members: bool,
        score_particles: bool,
    ) -> Estimates:
        """Return the estimates of a method for every window of a split."""
        twin, scheme = problem.twin, fitted.scheme
        assert scheme is not None
        unfit = "none that knows parameters, in windows"
        refuse(fitted.knows_parameters, "methods", unfit, fitted.label)
        check_agreement("scheme", getattr(scheme, "made_for", Setup()), Setup.of(twin),
                        imperfect_model=True)  # fmt: skip
        data, part = twin.settings, twin.split(split)
        last = self.last_observations(data)
        first = last - (self.window - 1)
        reads_gaps = getattr(scheme, "reads_gaps", False)
        given = part.timed_observations if reads_gaps else part.observations
        seen = windows(given, self.window)[:, first]
        at = first if fitted.start == "first" else last
        start = problem.drawn(split)[:, at]
        rng = _random.generator(data.seed, "scheme", split)
        # Many windows at once are fast, but all of their members must fit into memory.
        sizes = (getattr(scheme, name, 1) for name in ("n_members", "n_particles"))
        size = max(_MOST_MEMBERS // max(sizes), 1)
        began = perf_counter()
        kept: dict[str, Any] = {}
        for true_steps, times in self.by_steps(data, self.window - 1).items():
            steps = tuple(twin.model.steps(data, n) for n in true_steps)
            flat = seen[:, times].reshape(-1, *seen.shape[2:])
            from_ = start[:, times].reshape(-1, 3)
            analyses = [
                self._analysed(
                    problem, fitted, from_[k : k + size], flat[k : k + size], steps, rng
                )
                for k in range(0, len(flat), size)
            ]  # fmt: skip
            for name in (one.name for one in dataclasses.fields(Analysis)):
                parts = [getattr(analysis, name) for analysis in analyses]
                if parts[0] is not None and (keep_members or name != "members"):
                    values = np.concatenate(parts)
                    shape = seen.shape[:2] + values.shape[1:]
                    kept.setdefault(name, np.empty(shape, values.dtype))[:, times] = (
                        values.reshape(len(seen), len(times), *values.shape[1:])
                    )
        seconds = (perf_counter() - began) / math.prod(seen.shape[:2])
        kept |= {"analysis": kept["state"], "seconds_per_cycle": seconds}
        return problem.estimates(split, scheme, last, kept)

    def _analysed(
        self,
        problem: Problem,
        fitted: Fitted,
        background: np.ndarray,
        observations: np.ndarray,
        steps: tuple[int, ...],
        rng: np.random.Generator,
    ) -> Analysis:
        """Return the analysis at the last of the observations (n, L, obs_dim).

        `steps` are the L - 1 numbers of model steps between them.
        """
        scheme: Any = fitted.scheme
        if isinstance(scheme, FourDVar):
            return self._four_d_var(problem, scheme, background, observations, steps)
        state = scheme.initial(background, rng)
        if fitted.start == "last" or scheme.window == self.window:
            analysis: Analysis
            _, analysis = scheme.analyse(state, observations[:, -scheme.window :])
            return analysis
        for k in range(self.window):
            if k:
                state = scheme.forecast(state, steps[k - 1])
            state, analysis = scheme.analyse(state, observations[:, k : k + 1])
        return analysis

    def _four_d_var(
        self,
        problem: Problem,
        scheme: FourDVar,
        background: np.ndarray,
        observations: np.ndarray,
        steps: tuple[int, ...],
    ) -> Analysis:
        """Return the analysis of 4D-Var over the whole window, with one minimisation.

        The innovations and their covariance are left out: B is the covariance at the
        start of the window, not at the last observation.
        """
        end = forecast(background, sum(steps), on_divergence="nan", **problem.model)
        # In cycles each observation has a background of its own. Here only the first
        # one is used.
        backgrounds = np.repeat(background[:, None], len(steps), axis=1)
        state = WindowState(end, backgrounds, steps)
        _, analysis = scheme.analyse(state, observations)
        return dataclasses.replace(
            analysis, innovation=None, innovation_covariance=None
        )


@dataclass(frozen=True)
class Cycles(Checked):
    """Forecasts and analyses in turn: each background is the method's own forecast.

    Attributes
    ----------
    n_cycles : int
        Number of scored cycles of each trajectory; for saved data at most the number
        that they have.
    burn_in : float
        Time before the scored cycles (time units). `burn_in` of `run_cycles` and
        `compare` is a number of cycles instead.
    initial_spread : float
        Standard deviation of the error of the first background, in each component.
    lag : int
        Score also states smoothed with this number of later observations (`rmse_s`), of
        methods that can give them; below `n_cycles`.
    """

    name: ClassVar[str] = "cycles"
    measure: ClassVar[str] = "rmse_a"
    n_cycles: int = limited(1000, _checks.count, minimum=1)
    burn_in: float = limited(16.0, minimum=0.0)
    initial_spread: float = limited(1.5, above=0.0)
    lag: int = limited(0, _checks.count)

    def __post_init__(self) -> None:
        super().__post_init__()
        most = f"less than the {self.n_cycles} scored cycles"
        refuse(self.lag >= self.n_cycles, "cycles.lag", most, self.lag)

    @property
    def prior(self) -> np.ndarray:
        """Error covariance (3, 3) of the first background."""
        return self.initial_spread**2 * np.eye(3)

    def burn_in_cycles(self, data: TwinSettings) -> int:
        """Return the number of cycles of the burn-in, rounded up."""
        if not data.is_irregular:
            return -(-round(self.burn_in / data.dt) // data.steps_per_cycle)
        starts = data.observed_steps - data.cycle_steps
        return int(np.count_nonzero(starts < round(self.burn_in / data.dt)))

    def within(self, data: TwinSettings) -> Cycles:
        """Return these cycles with at most as many as saved data have.

        Raises
        ------
        ConfigurationError
            If the burn-in is longer than a trajectory.
        """
        n_cycles, burn_in = data.n_obs, self.burn_in_cycles(data)
        most = f"less than the {data.n_steps * data.dt:g} time units of a trajectory"
        refuse(burn_in >= n_cycles, "cycles.burn_in", most, self.burn_in)
        n_cycles = min(self.n_cycles, n_cycles - burn_in)
        return dataclasses.replace(self, n_cycles=n_cycles)

    def completed(self, data: TwinSettings, **changes: Any) -> TwinSettings:
        """Return settings of data with changes and with the length of the cycles.

        States are stored once a cycle, or at every step if times are drawn. Saved data
        and data with given times of observation keep their length.

        Raises
        ------
        ConfigurationError
            If saved data have too few cycles.
        """
        if isinstance(data, SavedSettings):
            most = "no more than the data have after the burn-in"
            refuse(self != self.within(data), "cycles.n_cycles", most, self.n_cycles)
            return data
        # First a length that is always allowed: `burn_in_cycles` needs checked steps.
        given = data.observation_steps
        n_steps = _LONGEST if given is None else given[-1]
        data = dataclasses.replace(data, **changes, n_steps=n_steps, save_every=1)
        if given is not None:
            most = "no more than there are times of observation after the burn-in"
            n_cycles = self.within(data).n_cycles
            refuse(self.n_cycles > n_cycles, "cycles.n_cycles", most, self.n_cycles)
            return data
        if data.interval is not None:
            n_cycles = math.ceil(self.burn_in / data.interval[0]) + self.n_cycles
            enough = (n_cycles + 1) * math.ceil(data.interval[1] / data.dt)
            data = dataclasses.replace(data, n_steps=enough)
            last = self.burn_in_cycles(data) + self.n_cycles - 1
            return dataclasses.replace(data, n_steps=int(data.observed_steps[last]))
        steps = data.steps_per_cycle
        n_steps = (self.burn_in_cycles(data) + self.n_cycles) * steps
        return dataclasses.replace(data, n_steps=n_steps, save_every=steps)

    def describe(self) -> str:
        """Return the protocol in one line."""
        smoothed = f", smoothed with {self.lag} more" if self.lag else ""
        return (
            f"cycles      {self.n_cycles} scored after {self.burn_in:g} time units, "
            f"from truth + N(0, {self.initial_spread**2:.3g} I){smoothed}"
        )

    def first_background(self, twin: TwinExperiment, split: str) -> np.ndarray:
        """Return the first background (n_trajectories, 3), the same for all methods."""
        truth, seed = twin.split(split).initial_state, twin.settings.seed
        return perturbed(truth, self.prior, seed=seed, split_name=split)

    def run(
        self,
        problem: Problem,
        fitted: Fitted,
        split: str,
        *,
        keep_members: bool,
        score_particles: bool,
    ) -> Estimates:
        """Return the estimates of a method in the scored cycles of a split."""
        twin, scheme = problem.twin, fitted.scheme
        assert scheme is not None
        if fitted.knows_parameters:
            unfit, steps = "none that knows parameters by Taylor steps", fitted.label
            refuse(problem.model["parameters"].taylor, "methods", unfit, steps)
            own: Any = scheme
            scheme = dataclasses.replace(own, parameters=twin.split(split).parameters)
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
            score_particles=score_particles,
            # The optimum forecasts with the model of the truth.
            imperfect_model=not twin.model.is_perfect,
        )
        return problem.estimates(split, scheme, result.scored, vars(result))


Protocol = Windows | Cycles
Fit = TypeVar("Fit")
PROTOCOLS: Final[dict[str, type[Any]]] = {p.name: p for p in (Windows, Cycles)}


@dataclass(frozen=True)
class Work:
    """Folder of checkpoints and progress functions of a long fit.

    Attributes
    ----------
    folder : Path or None
        Folder of the checkpoints.
    resume : bool
        Continue from the checkpoints in the folder.
    say : callable
        Receives a line of text about the progress.
    epoch : callable
        Receives the record of each epoch of a training, and the number of epochs.
    """

    folder: Path | None = None
    resume: bool = False
    say: Callable[[str], None] = lambda line: None
    epoch: Callable[[dict[str, Any], int], None] = lambda row, n_epochs: None


@dataclass(frozen=True, eq=False)
class Problem:
    """The data of a case, and fits that all of its methods share.

    Attributes
    ----------
    twin : TwinExperiment
    protocol : Windows or Cycles
    kind : {"rmse_a", "rmse_pooled_a"}
        The score that tuning minimises.
    work : Work
    """

    twin: TwinExperiment
    protocol: Protocol
    kind: str
    work: Work = field(default_factory=Work)

    @property
    def model(self) -> dict[str, Any]:
        """Time step and parameters of the model that methods forecast with."""
        return self.twin.model.arguments(self.twin.settings)

    def model_steps(self, n_steps: int) -> int:
        """Return the steps of this model in `n_steps` steps of the truth."""
        own: int = self.twin.model.steps(self.twin.settings, n_steps)
        return own

    @property
    def with_true_model(self) -> Problem:
        """The problem of a method that forecasts with the model of the truth."""
        return dataclasses.replace(self, twin=self.twin.with_model(ForecastModel()))

    @property
    def lag(self) -> int:
        """Number of later observations of smoothed states; 0: there are none."""
        return self.protocol.lag if isinstance(self.protocol, Cycles) else 0

    @property
    def filter(self) -> dict[str, Any]:
        """Arguments of every filter: operator, B, R, Q, lag and the model."""
        twin, protocol = self.twin, self.protocol
        B = protocol.prior if isinstance(protocol, Cycles) else self.backgrounds.B
        Q = twin.model.error_covariance(twin.settings)
        given = {"operator": twin.operator, "B": B, "R": twin.R, "Q": Q}
        return {**given, "smoother_lag": self.lag, **self.model}

    def _once(self, name: str, fit: Callable[[], Fit]) -> Fit:
        """Return a fit that all methods of a case share, made when first needed.

        The last fits are cached by the hashes of the data. `fit` uses this problem's
        twin, since the files of an equal twin may have been removed.
        """
        hashes = tuple(sorted(self.twin.hashes.items()))
        fits = _fits(hashes, self.protocol, self.kind, self.twin.model)
        if name not in fits:
            fits[name] = fit()
        fit_result: Fit = fits[name]
        return fit_result

    @property
    def cycled_errors(self) -> CycledErrors:
        """Cycled 3D-Var with the tuned error covariance of its own forecasts."""
        return self._once("cycled", lambda: estimate_cycled_errors(self.twin))

    @property
    def backgrounds(self) -> Backgrounds:
        """The backgrounds of windows, fitted without the test split."""
        assert isinstance(self.protocol, Windows)
        kind = self.protocol.background
        return self._once("backgrounds", lambda: Backgrounds.fit(self.twin, kind))

    @property
    def forecast_covariance(self) -> np.ndarray:
        """Error covariance (3, 3) of the backgrounds, for 4D-Var and for losses."""
        if isinstance(self.protocol, Cycles):
            return self.cycled_errors.background
        return self.backgrounds.B

    @property
    def window_tuning(self) -> Tuning:
        """Tuning of the scale of B for 3D-Var in windows, on the validation split."""

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
        """Return backgrounds, observations and truth of each window of a split."""
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
        self,
        split: str,
        scheme: Scheme[Any] | None,
        places: Any,
        values: Mapping[str, Any],
        n: int | None = None,
    ) -> Estimates:
        """Return `Estimates` with these values, and truth and observations added.

        Parameters
        ----------
        split : str
        scheme : Scheme or None
            The scheme that has made them.
        places : slice or array of int
            The observations that are scored.
        values : mapping
            Values by the names of fields; other names are ignored.
        n : int, optional
            The first n trajectories; by default all.
        """
        data, part = self.twin.settings, self.twin.split(split)
        own = {one.name for one in dataclasses.fields(Estimates)}
        if values.get("parameters") is not None:
            values = {**values, "true_parameters": part.parameters[:n]}
        return Estimates(
            truth=part.truth_at_observations[:n, places],
            observations=part.observations[:n, places],
            times=_times(data)[places],
            # The mean of a Kalman ensemble is the analysis, without the sampling error
            # that the fair CRPS subtracts: of three members it would fall below that of
            # the posterior.
            members_are_drawn=not isinstance(scheme, KalmanSettings),
            **{name: value for name, value in values.items() if name in own},
        )

    def run(self, fitted: Fitted, split: str, *, judged: bool = False) -> Estimates:
        """Return the estimates of a fitted method on a split.

        `judged`: with all that the scores of its estimated distributions need.
        """
        if fitted.estimate is not None:
            return fitted.estimate(self, split)
        data = self.twin.settings
        n_states = data.n_trajectories(split) * data.n_obs
        return self.protocol.run(
            self,
            fitted,
            split,
            keep_members=judged and has_small_ensembles(fitted.scheme, n_states),
            score_particles=judged,
        )

    def score(self, fitted: Fitted) -> tuple[float, Estimates]:
        """Return score and estimates on the validation split.

        The score is mirror-aware where the observations do not show the sign.
        """
        estimates = self.run(fitted, "val")
        blind = self.twin.operator.is_mirror_blind
        rate = MEASURES[self.kind]
        return rate(estimates.analysis, estimates.truth, mirror_aware=blind), estimates

    def smoothed_score(self, estimates: Estimates) -> float:
        """Return the score of smoothed states, as `score` that of analyses."""
        assert estimates.smoothed is not None
        kept = slice(estimates.truth.shape[1] - estimates.smoother_lag)
        blind, rate = self.twin.operator.is_mirror_blind, MEASURES[self.kind]
        smoothed, truth = estimates.smoothed[:, kept], estimates.truth[:, kept]
        return rate(smoothed, truth, mirror_aware=blind)

    def tuned(
        self,
        base: Fitted,
        field_name: str,
        scheme_of: Callable[[float], Scheme[Any]],
        given: float | None,
        values: Any = SCALES,
        limits: tuple[float, float] = LIMITS,
    ) -> Fitted:
        """Return a method with a given value of its parameter, or with the tuned one.

        Parameters
        ----------
        base : Fitted
            The method without a scheme.
        field_name : str
            Name of the parameter.
        scheme_of : callable
            Takes a value of the parameter, returns the scheme.
        given : float or None
            The value; None tunes it on the validation split.
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


def _times(data: TwinSettings) -> np.ndarray:
    """Return the times of the observations, (n_obs,) (time units)."""
    if data.is_irregular:
        return data.observed_steps * data.dt
    # By one product each, as in results of earlier versions.
    return np.arange(1, data.n_obs + 1) * (data.steps_per_cycle * data.dt)


def has_small_ensembles(scheme: Any, n_states: int) -> bool:
    """Return whether a scheme has members that fit into memory for n_states states."""
    size = getattr(scheme, "n_members", 0) * 24 * n_states
    return 0 < size <= _LARGEST_ENSEMBLES


@lru_cache(maxsize=1)
def _fits(
    hashes: tuple[tuple[str, str], ...],
    protocol: Protocol,
    kind: str,
    model: ForecastModel,
) -> dict[str, Any]:
    """Return the cached fits of a case by name; only those of the last case are kept.

    The hashes stand for the twin, which cannot be a key.
    """
    return {}
