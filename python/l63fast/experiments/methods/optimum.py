"""The optimum: the posterior mean, which no method with the same observations beats."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, ClassVar, Final

import numpy as np

from l63fast import _checks
from l63fast.assimilation import analogs
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Status
from l63fast.errors import ConfigurationError
from l63fast.experiments.protocols import Estimates, Fitted, Problem, Windows
from l63fast.experiments.settings_file import Checked, limited, refuse
from l63fast.learning.data import windows
from l63fast.storage import (
    content_errors,
    read_file,
    read_json,
    write_bytes,
    write_json,
)
from l63fast.twin import SPLIT_NAMES, TwinExperiment
from l63fast.twin.splits import make_split

_WIDTH_FACTOR: Final = 2.0**-0.5  # between two values of the regularisation
_STILL_STEPS: Final = 2  # doublings in a row that must not change the score
# Backgrounds whose optimum is known. "mean", "independent" and "none" contain nothing
# about the state beyond climatology. The errors of "forecast" and "gauss" do not depend
# on the observation errors in the window. A background that was cycled on the same
# observations would have no simple posterior.
_BACKGROUNDS: Final = ("mean", "independent", "none", "forecast", "gauss")
_MIN_SIZE: Final = 10.0  # effective size that all but 5 % of the windows must have
_MAX_RATIO: Final = 1.05  # of the actual error to the claimed one
_NOTE_EVERY: Final = 1024  # windows between two progress messages and checkpoints


@dataclass(frozen=True)
class Optimum(Checked):
    """The posterior mean given the observations, as exactly as it can be computed.

    It knows the model of the truth, also where methods forecast with another one, and
    the parameters of each trajectory, where they differ.

    In cycles it is a large particle filter. Its size is doubled on the validation
    split, and its regularisation lowered if that helps, until the score changes by less
    than the tolerance twice in a row; with a lag, the score of smoothed states. In
    windows it is computed by importance sampling with climatological states as the
    prior; see `l63fast.assimilation.analogs`.

    Attributes
    ----------
    n_particles, max_particles : int
        First and largest size, in cycles.
    tolerance : float
        Relative change of the score that counts as no change, in cycles.
    regularisation, threshold : float
        As in `ParticleFilter`, in cycles; the regularisation is that of the first size.
    rescue : bool
        As in `ParticleFilter`, in cycles.
    n_trajectories : int
        Largest number of trajectories: in cycles, of the validation split, to compare
        sizes; in windows, of the test split, to score.
    library : int
        Number of climatological states, in windows.
    """

    scheme: ClassVar[str] = "optimum"
    role: ClassVar[str] = "optimum"
    n_particles: int = limited(2000, _checks.count, minimum=2)
    max_particles: int = 32_000
    tolerance: float = limited(0.005, above=0.0)
    regularisation: float = limited(0.7, minimum=0.0)
    threshold: float = limited(0.2, minimum=0.0, maximum=1.0)
    n_trajectories: int = limited(30, _checks.count, minimum=1)
    rescue: bool = limited(True, _checks.boolean)
    library: int = limited(2**18, _checks.count, minimum=2**13)

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.count("max_particles", self.max_particles, minimum=self.n_particles)

    def fit(self, problem: Problem) -> Fitted:
        """Return the filter with the size at which its score has settled.

        In windows, return the posterior mean, which is computed when it is run.
        Intermediate results are kept in the folder of `problem.work`, to be resumed.

        Raises
        ------
        ConfigurationError
            If the optimum for the background of the windows is not known.
        """
        own = bool(problem.twin.settings.parameters_spread)
        if isinstance(problem.protocol, Windows):
            if own:
                raise ConfigurationError(
                    "data.parameters_spread: expected 0 for the optimum in windows, "
                    f"got {problem.twin.settings.parameters_spread}"
                )
            order = problem.model["parameters"].taylor
            needs = "steps by RK4 for the optimum in windows"
            refuse(order is not None, "model.parameters.taylor", needs, order)
            kind = problem.protocol.background
            if kind not in _BACKGROUNDS:
                raise ConfigurationError(
                    "windows.background: expected one for which the optimum is known "
                    f"({', '.join(_BACKGROUNDS)}), got {kind!r}"
                )
            return Fitted(None, "optimum", estimate=self._windows, judge=_settled)
        problem = problem.with_true_model
        convergence = _Doubling(self, problem).converged()
        last = convergence["stages"][-1]
        n, width = last["n_particles"], last["regularisation"]
        return Fitted(
            self._filter(problem, n, width),
            f"optimum (N{'=' if convergence['settled'] else '>'}{n})",
            start="first",
            parameter="regularisation",
            value=width,
            facts={"convergence": convergence},
            knows_parameters=own,
        )

    def _filter(self, problem: Problem, n: int, width: float) -> ParticleFilter:
        arguments: dict[str, Any] = {"threshold": self.threshold, "rescue": self.rescue}
        arguments |= {**problem.filter, "n_particles": n, "regularisation": width}
        return ParticleFilter(**arguments)

    def _windows(self, problem: Problem, split: str) -> Estimates:
        """Return the posterior mean of the windows of a split's first trajectories."""
        twin, protocol = problem.twin, problem.protocol
        assert isinstance(protocol, Windows)
        data, last = twin.settings, protocol.last_observations(twin.settings)
        n, L = min(self.n_trajectories, data.n_trajectories(split)), protocol.window
        # Contiguous, so that means over it are sums in one order.
        backgrounds = np.ascontiguousarray(problem.drawn(split)[:n, last])
        seen = windows(twin.split(split).observations[:n], L)[:, last - (L - 1)]
        # Some backgrounds are forecasts of states that were drawn `lag` cycles before
        # the analysis, with normal errors that do not depend on the observations. Then
        # these states (n, 3) and their error covariance are observations too.
        drawn, began = problem.backgrounds, perf_counter()
        covariance, lag = drawn.start_covariance, drawn.drawn_before
        n_cycles = max(L - 1, 0 if covariance is None else lag)
        spread, best = np.empty_like(backgrounds), np.empty_like(backgrounds)
        effective_size = np.empty(best.shape[:2])
        for steps, times in protocol.by_steps(data, n_cycles).items():
            background, before = backgrounds[:, times].reshape(-1, 3), None
            if covariance is not None:
                from l63fast.learning.dynamics import earlier_states

                n_steps = problem.model_steps(sum(steps[n_cycles - lag :]))
                before = earlier_states(background, n_steps, **problem.model)
            flat = np.ascontiguousarray(seen[:, times]).reshape(-1, *seen.shape[2:])
            each: Any = steps if data.is_irregular else data.steps_per_cycle
            observations = analogs.WindowObservations(
                flat, twin.operator, twin.R, each, before, covariance, lag
            )
            found = self._posterior(problem, observations)
            # The mirror-aware score is best for the mean over one state of each
            # mirrored pair.
            means = found.folded if twin.operator.is_mirror_blind else found.mean
            best[:, times] = means.reshape(n, -1, 3)
            spread[:, times] = np.sqrt(found.variance).reshape(n, -1, 1)
            effective_size[:, times] = found.effective_size.reshape(n, -1)
        made = {
            "background": backgrounds,
            "analysis": best,
            "status": np.full(best.shape[:2], Status.CONVERGED, dtype=np.int8),
            "spread": spread,
            "effective_size": effective_size,
            "seconds_per_cycle": (perf_counter() - began) / effective_size.size,
        }
        return problem.estimates(split, None, last, made, n)

    def _posterior(
        self, problem: Problem, observations: analogs.WindowObservations
    ) -> analogs.WindowPosterior:
        """Return the posterior of the windows; continue from a stopped run.

        The name of the checkpoint contains a hash of everything that it depends on.
        """
        data, work, size = (
            problem.twin.settings,
            problem.work,
            len(observations.whitened()),
        )
        climate = analogs.ClimatologicalPrior(data.dt, data.parameters, data.seed)
        digest = hashlib.sha256(observations.whitened().tobytes()).hexdigest()[:16]
        kept = work.folder and work.folder / f"posterior_{self.library}_{digest}.npz"
        known = None
        if kept is not None and kept.exists():
            with content_errors(kept):
                known = analogs.WindowPosterior(**np.load(io.BytesIO(read_file(kept))))

        def note(posterior: analogs.WindowPosterior) -> None:
            if len(posterior.mean) % _NOTE_EVERY:
                return
            if kept is not None:
                content = io.BytesIO()
                np.savez(content, **vars(posterior))
                write_bytes(kept, content.getvalue())
            work.say(f"optimum     {len(posterior.mean)} of {size} windows")

        return analogs.window_posterior(
            observations, climate, library=self.library, known=known, report=note
        )


def _settled(
    problem: Problem, estimates: Estimates, scores: dict[str, Any]
) -> dict[str, Any]:
    """Return whether there were enough states: the actual error equals the claimed one.

    Otherwise the score is only an upper bound of that of the optimum.
    """
    assert estimates.spread is not None
    assert estimates.effective_size is not None
    blind = problem.twin.operator.is_mirror_blind
    name = "mirror_rmse_pooled_a" if blind else "rmse_pooled_a"
    thinnest = float(np.quantile(estimates.effective_size, 0.05))
    claimed = float(np.sqrt((estimates.spread**2).mean()))
    honest = scores["ci95"][name][0] < _MAX_RATIO * claimed
    settled = bool(thinnest > _MIN_SIZE and honest)
    return {"convergence": {"stages": [], "settled": settled, "thinnest": thinnest}}


class _Doubling:
    """Doubles the size of a particle filter until its score settles.

    More particles need less regularisation: each size starts with the regularisation of
    the size before and divides it by sqrt(2) while this helps. A single doubling
    without change may be chance: with x observed every 0.1 time units with sigma 1, the
    score did not change from 2,000 to 4,000 particles, but was 4 % above that of
    128,000. Therefore two doublings in a row without change are needed.
    """

    def __init__(self, optimum: Optimum, problem: Problem) -> None:
        self.optimum = optimum
        self.problem = _with_validation(problem, optimum.n_trajectories)
        identity = (optimum, problem.protocol, problem.kind, problem.twin.hashes["val"])
        key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        folder = problem.work.folder
        self.kept = folder and folder / f"stages_{key}.json"
        self.known: dict[str, Any] = {}
        if self.kept is not None and self.kept.exists():
            with content_errors(self.kept):
                stages = read_json(self.kept).items()
                self.known = {k: [float(x) for x in pair] for k, pair in stages}

    def converged(self) -> dict[str, Any]:
        """Return the stages by size, and whether the score has settled."""
        optimum, n_still = self.optimum, 0
        stages = [self._best(optimum.n_particles, optimum.regularisation)]
        while n_still < _STILL_STEPS:
            last = stages[-1]
            n = 2 * last["n_particles"]
            if n > optimum.max_particles:
                break
            stages.append(self._best(n, last["regularisation"]))
            still = abs(stages[-1]["score"] / last["score"] - 1.0) < optimum.tolerance
            n_still = n_still + 1 if still else 0
        return {"stages": stages, "settled": n_still == _STILL_STEPS}

    def _best(self, n: int, width: float) -> dict[str, Any]:
        """Return the stage of this size with the best regularisation."""
        best = self._stage(n, width)
        while True:
            stage = self._stage(n, _WIDTH_FACTOR * best["regularisation"])
            if not stage["score"] < np.nan_to_num(best["score"], nan=np.inf):
                return best
            best = stage

    def _stage(self, n: int, width: float) -> dict[str, Any]:
        """Return score and mean effective size of a filter on the validation split."""
        key = f"{n} {width!r}"
        if key not in self.known:
            scheme = self.optimum._filter(self.problem, n, width)
            own = bool(self.problem.twin.settings.parameters_spread)
            fitted = Fitted(scheme, "", start="first", knows_parameters=own)
            score, estimates = self.problem.score(fitted)
            if estimates.smoothed is not None:
                score = self.problem.smoothed_score(estimates)
            assert estimates.effective_size is not None
            size = float(estimates.effective_size.mean())
            self.known[key] = [score, size]
            if self.kept is not None:
                write_json(self.kept, self.known)
            self.problem.work.say(f"optimum     {n} particles: {score:.4g}")
        score, size = map(float, self.known[key])
        stage = {"n_particles": n, "regularisation": width}
        return {**stage, "score": score, "effective_size": size}


def _with_validation(problem: Problem, n_trajectories: int) -> Problem:
    """Return the problem with only the first trajectories of its validation split."""
    twin, n = problem.twin, n_trajectories
    if n >= twin.settings.n_val:
        return problem
    few, val = replace(twin.settings, n_val=n), twin.val
    val = make_split(
        "val", val.truth[:n], val.observations[:n], few, twin.R, twin.origin
    )
    openers = {name: partial(twin.split, name) for name in SPLIT_NAMES}
    openers["val"] = partial(replace, val)
    hashes = {**twin.hashes, "val": val.hash}
    few_twin = TwinExperiment(few, twin.R, twin.origin, hashes, openers)
    return replace(problem, twin=few_twin)
