"""Cycled runs of any scheme: forecast and analysis in turn, for many trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast._progress import Progress, Say, shown
from l63fast._summary import OneScreen
from l63fast.assimilation.agreement import Difference, Setup, check_agreement
from l63fast.assimilation.scheme import (
    Analysis,
    Scheme,
    check_analysed,
    check_scheme,
    status_counts,
)
from l63fast.errors import ArgumentValueError
from l63fast.twin import (
    SPLIT_NAMES,
    ForecastModel,
    TwinExperiment,
    TwinSettings,
    estimates_dataset,
)
from l63fast.verification import (
    NORMAL,
    PointScores,
    draw_members,
    nearer,
    score_members,
)

if TYPE_CHECKING:
    import xarray


class CyclePlan(NamedTuple):
    """The plan of a cycled run.

    Attributes
    ----------
    background : (n_trajectories, 3)
        The first background, valid at step 0.
    ready : int
        Index of the first observation that the scheme assimilates; the warm-up
        assimilates those before.
    first : int
        Index of the first observation whose cycle is scored.
    n_cycles : int
        Number of scored cycles.
    warm_up : Scheme or None
        None where `ready` is 0.
    steps, warm_up_steps : list of int
        Model steps of each cycle, of the scheme and the warm-up, each with its own dt.
    differences : tuple of Difference
        Differences between the schemes' assumptions and the truth of the twin.
    """

    background: np.ndarray
    ready: int
    first: int
    n_cycles: int
    warm_up: Scheme[Any] | None
    steps: list[int]
    warm_up_steps: list[int]
    differences: tuple[Difference, ...]


def plan_cycles(
    scheme: Scheme[Any],
    twin: TwinExperiment,
    split_name: str,
    *,
    n_cycles: int | None,
    burn_in: int,
    initial: np.ndarray | None,
    warm_up: Scheme[Any] | None,
    imperfect_model: bool | None,
) -> CyclePlan:
    """Return the plan of a run with these arguments of `run_cycles`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If there are too few observations, a warm-up is missing, or a scheme was made
        for another setup.
    """
    check_scheme("scheme", scheme)
    _checks.instance("twin", twin, TwinExperiment)
    _checks.choice("split_name", split_name, SPLIT_NAMES)
    n, n_obs = twin.split(split_name).observations.shape[:2]
    # A window of L observations is full at observation L - 1.
    ready = 0 if getattr(scheme, "window_grows", False) else scheme.window - 1
    first, n_cycles = _scored_cycles(n_obs, n_cycles, burn_in, ready)
    if n_cycles <= (lag := getattr(scheme, "smoother_lag", 0)):
        raise ArgumentValueError(
            f"n_cycles: expected more than the smoother's lag of {lag}, got {n_cycles}"
        )
    if initial is None:
        initial = np.tile(twin.climatology.mean, (n, 1))
    background = _checks.states("initial", initial)
    _checks.batch("initial", background, (n,), f"split {split_name!r}")
    if ready:
        if warm_up is not None:
            check_scheme("warm_up", warm_up)
        _check_warm_up(warm_up, scheme.window)
    encoder = getattr(getattr(scheme, "made_for", None), "encoder", None)
    if encoder is not None and not getattr(scheme, "reads_gaps", False):
        twin.settings.require_no_gaps("twin", "an encoder without flags of presence")
    steps, differences = _agreed("scheme", scheme, twin, imperfect_model)
    # The warm-up may have another dt, and then needs another number of steps.
    warm_up_steps = steps
    if ready:
        warm_up_steps, more = _agreed("warm_up", warm_up, twin, imperfect_model)
        differences += more
    return CyclePlan(
        background,
        ready,
        first,
        n_cycles,
        warm_up if ready else None,
        steps,
        warm_up_steps,
        differences,
    )


def _agreed(
    name: str, scheme: Any, twin: TwinExperiment, imperfect_model: bool | None
) -> tuple[list[int], tuple[Difference, ...]]:
    """Return the model steps of each cycle, and the differences that are allowed."""
    made_for = getattr(scheme, "made_for", Setup())
    _checks.instance(f"{name}.made_for", made_for, Setup)
    differences = check_agreement(
        name, made_for, Setup.of(twin), imperfect_model=imperfect_model
    )
    if not twin.model.is_perfect:
        truth = Setup.of(twin.with_model(ForecastModel()))
        differences = check_agreement(name, made_for, truth, imperfect_model=True)
    return made_for.cycle_steps(name, twin), differences


def _scored_cycles(
    n_obs: int, n_cycles: int | None, burn_in: int, ready: int
) -> tuple[int, int]:
    name = "burn_in (cycles)"
    first = max(_checks.count(name, burn_in), ready)
    if first >= n_obs:
        raise ArgumentValueError(
            f"{name}: expected at least one of {n_obs} left to score, got {first} "
            "before it"
        )
    if n_cycles is None:
        return first, n_obs - first
    return first, _checks.count("n_cycles", n_cycles, minimum=1, maximum=n_obs - first)


def _check_warm_up(warm_up: Scheme[Any] | None, window: int) -> None:
    if warm_up is None or warm_up.window != 1:
        given = "None" if warm_up is None else f"one with a window of {warm_up.window}"
        raise ArgumentValueError(
            f"warm_up: expected a scheme that needs one observation, for the cycles "
            f"before there are {window} observations, got {given}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class CycleResult(OneScreen):
    """The scored cycles of a scheme, for all trajectories of a split.

    Attributes
    ----------
    background, analysis : (n_trajectories, n_cycles, 3)
    spread : (n_trajectories, n_cycles, 3) or None
        None where the scheme does not estimate its own error.
    innovation : (n_trajectories, n_cycles, obs_dim) or None
    innovation_covariance : (n_trajectories, n_cycles, obs_dim, obs_dim) or None
        As estimated by the scheme.
    members : (n_trajectories, n_cycles, n_members, 3) or None
        The analysis ensembles, with `keep_members`.
    components : (n_trajectories, n_cycles, k) or None
        The estimated distributions as mixtures of normals; see `Analysis`.
    effective_size : (n_trajectories, n_cycles) or None
        Effective number of weighted particles.
    particle_scores : PointScores or None
        With `score_particles`: scores of the weighted particles before resampling,
        (n_trajectories, n) at n of the cycles, equally spaced.
    smoothed : (n_trajectories, n_cycles, 3) or None
        The states at these cycles given `smoother_lag` later observations, of a
        smoother; NaN in the last `smoother_lag` cycles, which have fewer.
    status : (n_trajectories, n_cycles) int8
        A `Status` per analysis.
    parameters, parameters_spread : (n_trajectories, n_cycles, 3) or None
        Estimates of sigma, rho and beta, and their standard deviations.
    first_cycle : int
        Index of the observation assimilated in the first of these cycles.
    seconds_per_cycle : float
        Time of forecast and analysis per trajectory and cycle, with the burn-in.
    seconds_per_analysis : float or None
        The part of it in `analyse`; None where the scheme has a method `run`.
    imperfect_model : tuple of Difference
        Differences between the schemes' assumptions and the twin.
    settings : TwinSettings
        Settings of the twin.
    split_name : str
    smoother_lag : int
        0 without a smoother.
    """

    background: np.ndarray
    analysis: np.ndarray
    spread: np.ndarray | None
    innovation: np.ndarray | None
    innovation_covariance: np.ndarray | None
    members: np.ndarray | None
    components: np.ndarray | None
    effective_size: np.ndarray | None
    particle_scores: PointScores | None
    status: np.ndarray
    parameters: np.ndarray | None
    parameters_spread: np.ndarray | None
    first_cycle: int
    seconds_per_cycle: float
    seconds_per_analysis: float | None
    imperfect_model: tuple[Difference, ...]
    settings: TwinSettings
    split_name: str
    smoothed: np.ndarray | None = None
    smoother_lag: int = 0

    @property
    def scored(self) -> slice:
        """Slice of a trajectory's observations that belongs to these cycles."""
        return slice(self.first_cycle, self.first_cycle + self.status.shape[1])

    def draw_members(self, n: int, seed: _checks.Seed = 0) -> np.ndarray:
        """Return members (n_trajectories, n_cycles, n, 3) of `components`, drawn.

        Raises
        ------
        ArgumentTypeError
            If the scheme gives no such distributions.
        """
        return draw_members(self.components, n, seed)

    def to_xarray(self) -> xarray.Dataset:
        """Return the cycles as a dataset, with all values that the scheme gives.

        Dimensions are trajectory, time (time units), component, observed and member.
        The times are those of the twin's `to_xarray`, so that
        ``result.to_xarray().analysis - twin.test.to_xarray().truth`` is the error.
        """
        data = self.settings
        steps = data.observed_steps[self.scored]
        more = {"title": f"Analysis cycles over the {self.split_name} split"}
        if self.imperfect_model:
            more["imperfect_model"] = ", ".join(map(str, self.imperfect_model))
        dataset = estimates_dataset(
            vars(self), steps * data.dt, data, split=self.split_name, **more
        )
        return dataset.assign_coords(trajectory=np.arange(len(self.status)))

    def _summary(self) -> dict[str, Any]:
        differences = ", ".join(map(str, self.imperfect_model)) or "no"
        of = f"{self.settings.operator_name}, sigma {self.settings.sigma:g}"
        shown = {"status": status_counts(self.status), "imperfect_model": differences}
        return {**super()._summary(), **shown, "settings": f"observed: {of}"}


@ieee_arithmetic()
def run_cycles(
    scheme: Scheme[Any],
    twin: TwinExperiment,
    split_name: str = "test",
    *,
    n_cycles: int | None = None,
    burn_in: int = 0,
    initial: np.ndarray | None = None,
    warm_up: Scheme[Any] | None = None,
    seed: _checks.Seed | None = None,
    keep_members: bool = False,
    score_particles: bool | int = False,
    imperfect_model: bool = False,
    progress: Progress = False,
) -> CycleResult:
    """Return backgrounds and analyses of a scheme that is cycled over a split.

    If a scheme has a method `run`, which does many cycles in one call with the same
    results, it is used, except with `keep_members`.

    Parameters
    ----------
    scheme : Scheme
    twin : TwinExperiment
    split_name : str
        "train", "val" or "test".
    n_cycles : int, optional
        Number of scored cycles; by default as many as there are observations.
    burn_in : int
        Number of cycles before these, which are not scored. In `[cycles]` of an
        experiment, `burn_in` is a time instead (time units).
    initial : (n_trajectories, 3), optional
        First background, valid at step 0; by default the climatological mean.
    warm_up : Scheme, optional
        For a scheme with a window of L observations: does the first L - 1 cycles, which
        are not scored. A scheme with `window_grows` needs none.
    seed : int, SeedSequence or Generator, optional
        For schemes that draw random numbers; by default the seed of the twin.
    keep_members : bool
        Also return the ensembles, which may be large.
    score_particles : bool or int
        Score the weighted particles of a particle filter, which are too many to be
        kept: in as many cycles, equally spaced, as have this number of particles in
        all, or one cycle in 25; True stands for 4e7, which takes some ten seconds.
    imperfect_model : bool
        Allow the schemes another dt, other parameters, another Q or R than the twin
        and its model; the result records the differences from the truth. The operator
        must be the twin's, and so must the interval that an encoder was trained for.
    progress : bool or callable
        Show each cycle on standard error; a callable is given each line.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If there are too few observations, a warm-up is missing, or a scheme was made
        for another setup.
    """
    plan = plan_cycles(
        scheme,
        twin,
        split_name,
        n_cycles=n_cycles,
        burn_in=burn_in,
        initial=initial,
        warm_up=warm_up,
        imperfect_model=imperfect_model,
    )
    background, split = plan.background, twin.split(split_name)
    observations = split.observations
    seed = twin.settings.seed if seed is None else _checks.seed("seed", seed)
    # One stream per split: tuning on the validation split does not change the test run.
    rng = _random.generator(seed, "scheme", split_name)
    if plan.warm_up is not None:
        # The last analysis of the warm-up is the first background of the scheme.
        before = range(plan.ready)
        for cycle in _cycles(
            plan.warm_up, background, observations, before, plan.warm_up_steps, rng
        ):
            background = cycle.analysis.state
    if getattr(scheme, "reads_gaps", False):
        observations = split.timed_observations
    cycles = range(plan.ready, plan.first + plan.n_cycles)
    keep_members = _checks.boolean("keep_members", keep_members)
    scoring = None
    if score_particles is not False:
        most = _MOST_SCORED if score_particles is True else score_particles
        most = _checks.count("score_particles", most, minimum=1)
        truth = split.truth_at_observations
        scoring = _ParticleScoring.of(scheme, truth, plan, seed, most)
    is_regular = len(set(plan.steps)) == 1
    lag = getattr(scheme, "smoother_lag", 0)
    # `run` gives no members and no smoothed states, starts with the first observation,
    # and has one interval.
    may_run = is_regular and not (keep_members or plan.ready or lag)
    if hasattr(scheme, "run") and may_run:
        seen = observations[:, : cycles.stop]
        values = _run_at_once(scheme, background, seen, plan, rng, scoring)
    else:
        running = _cycles(
            scheme, background, observations, cycles, plan.steps, rng, scoring
        )
        shape = (len(background), plan.n_cycles)
        with shown(progress) as say:
            values = _recorded(running, shape, plan.first, keep_members, lag, say)
    if scoring is not None:
        values["particle_scores"] = scoring.together()
    return CycleResult(
        **values,
        first_cycle=plan.first,
        imperfect_model=plan.differences,
        settings=twin.settings,
        split_name=split_name,
        smoother_lag=lag,
    )


_MOST_SCORED: Final = 40_000_000  # particles of all cycles that are scored
_RAREST: Final = 25  # cycles of which one is, where particles are too many for this


@dataclass(frozen=True)
class _ParticleScoring:
    """Scores the weighted particles of some cycles, equally spaced."""

    truth: np.ndarray
    cycles: range
    seed: int
    found: list[PointScores]

    @classmethod
    def of(
        cls, scheme: Any, truth: np.ndarray, plan: CyclePlan, seed: int, most: int
    ) -> _ParticleScoring | None:
        """Return None for a scheme without weighted particles."""
        if not hasattr(scheme, "weighted"):
            return None
        size = len(truth) * plan.n_cycles * scheme.n_particles
        every = min(math.ceil(size / most), _RAREST)
        end = plan.first + plan.n_cycles
        return cls(truth, range(plan.first, end, every), seed, [])

    def __call__(self, scheme: Any, state: Any, seen: np.ndarray, cycle: int) -> None:
        """Score the particles of a cycle, given the state before its analysis."""
        if cycle not in self.cycles:
            return
        states, weights = scheme.weighted(state, seen)
        truth = self.truth[:, cycle]
        if scheme.folded:
            # The distribution given the sign, as the mirror-aware scores judge it.
            mean = (weights[..., None] * states).sum(axis=1)
            truth = nearer(truth, mean)
        self.found.append(score_members(states, truth, weights, seed=self.seed + cycle))

    def together(self) -> PointScores:
        """Return the scores of all cycles, the cycle as second axis."""
        columns = zip(*self.found, strict=True)
        return PointScores(*(np.stack(values, axis=1) for values in columns))


class _Cycle(NamedTuple):
    observation: int
    analysis: Analysis
    seconds: float  # of forecast and analysis
    seconds_of_analysis: float


def _cycles(
    scheme: Scheme[Any],
    background: np.ndarray,
    observations: np.ndarray,
    cycles: range,
    steps: list[int],
    rng: np.random.Generator,
    scoring: _ParticleScoring | None = None,
) -> Iterator[_Cycle]:
    state = scheme.initial(background, rng)
    for latest in cycles:
        began = perf_counter()
        state = scheme.forecast(state, steps[latest])
        forecast = perf_counter() - began
        # A growing window is shorter in the first cycles.
        oldest = max(latest + 1 - scheme.window, 0)
        obs_window = observations[:, oldest : latest + 1]
        if scoring is not None:
            scoring(scheme, state, obs_window, latest)
        began = perf_counter()
        found = scheme.analyse(state, obs_window)
        seconds = perf_counter() - began
        check_analysed(scheme, found)
        state, analysis = found
        yield _Cycle(latest, analysis, forecast + seconds, seconds)


_ALWAYS_GIVEN: Final = ("state", "background", "status")
_SOMETIMES_GIVEN: Final = (
    "spread",
    "innovation",
    "innovation_covariance",
    "effective_size",
    "components",
    "smoothed",
    "parameters",
    "parameters_spread",
)


def _recorded(
    running: Iterator[_Cycle],
    shape: tuple[int, int],
    first: int,
    keep_members: bool,
    lag: int,
    say: Say,
) -> dict[str, Any]:
    names = (*_ALWAYS_GIVEN, *_SOMETIMES_GIVEN, *(("members",) if keep_members else ()))
    kept: dict[str, np.ndarray] = {}
    seconds = []
    for cycle in running:
        seconds.append((cycle.seconds, cycle.seconds_of_analysis))
        say(f"cycle {cycle.observation + 1} of {first + shape[1]}")
        for name in names:
            value = getattr(cycle.analysis, name)
            place = cycle.observation - first - lag * (name == "smoothed")
            if value is None or place < 0:
                continue
            if name not in kept:
                kept[name] = _empty(name, shape, value)
            kept[name][:, place] = value
    if "smoothed" in kept:
        kept["smoothed"][:, shape[1] - lag :] = np.nan
    per_cycle, per_analysis = np.mean(seconds, axis=0) / shape[0]
    return _values(kept, float(per_cycle), float(per_analysis))


def _run_at_once(
    scheme: Any,
    background: np.ndarray,
    observations: np.ndarray,
    plan: CyclePlan,
    rng: np.random.Generator,
    scoring: _ParticleScoring | None,
) -> dict[str, Any]:
    """Do all cycles by `run`, which is interrupted where particles are scored."""
    state, steps = scheme.initial(background, rng), plan.steps[0]
    parts: list[Analysis] = []
    seconds, done = 0.0, 0
    scored = scoring.cycles if scoring else ()
    for until in (*scored, observations.shape[1]):
        if until > done:
            began = perf_counter()
            found = scheme.run(state, observations[:, done:until], steps)
            seconds += perf_counter() - began
            check_analysed(scheme, found, "run")
            state, done = found[0], until
            parts.append(found[1])
        if scoring is not None and until in scored:
            seen = observations[:, until : until + 1]
            scoring(scheme, scheme.forecast(state, steps), seen, until)
    kept = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=1)
        for name in (*_ALWAYS_GIVEN, *_SOMETIMES_GIVEN)
        if getattr(parts[0], name) is not None
    }
    size = kept["status"].size
    kept = {name: values[:, plan.first :] for name, values in kept.items()}
    return _values(kept, seconds / size, None)


def _values(
    kept: dict[str, np.ndarray],
    seconds_per_cycle: float,
    seconds_per_analysis: float | None,
) -> dict[str, Any]:
    """Return the values of a `CycleResult` that the scheme gives."""
    return {
        **dict.fromkeys((*_SOMETIMES_GIVEN, "members", "particle_scores")),
        **{name: values for name, values in kept.items() if name != "state"},
        "analysis": kept["state"],
        "seconds_per_cycle": seconds_per_cycle,
        "seconds_per_analysis": seconds_per_analysis,
    }


def _empty(name: str, shape: tuple[int, int], value: np.ndarray) -> np.ndarray:
    # Shape and size are known only when the scheme has given its first value.
    full = (*shape, *value.shape[1:])
    _checks.memory(f"run_cycles: {name}", value.itemsize * math.prod(full))
    kinds = {"status": np.dtype(np.int8), "components": NORMAL}
    return np.empty(full, dtype=kinds.get(name, np.dtype(np.float64)))
