"""The optimum: what no method can beat that is given the same observations."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, ClassVar, Final

import numpy as np

from l63fast import _checks
from l63fast.assimilation import analogs
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Status
from l63fast.errors import ConfigurationError
from l63fast.experiments.protocols import Estimates, Fitted, Problem, Windows
from l63fast.experiments.settings_file import Checked, limited
from l63fast.storage import (
    content_errors,
    read_file,
    read_json,
    write_bytes,
    write_json,
)
from l63fast.twin import TwinExperiment

_NARROWER: Final = 2.0**-0.5
_ENOUGH: Final = 2  # steps in a row that change nothing
# Backgrounds that say nothing of the state beyond the climate, and those whose errors
# have nothing to do with the observations' of the window. One that was cycled on these
# observations has no simple optimum.
_KNOWN: Final = ("mean", "independent", "none", "forecast", "gauss")
_THINNEST: Final = 10.0  # effective size that all but 5 % of the windows have
_HONEST: Final = 1.05  # error made over the one claimed
_NOTED: Final = 1024  # windows between two notes of progress


@dataclass(frozen=True)
class Optimum(Checked):
    """The mean of what the observations leave possible, as far as it can be computed.

    In cycles it is a particle filter so large that a larger one scores the same: on the
    validation split its size is doubled, and its regularisation lowered where that is
    better, until twice in a row the score moves by less than the tolerance. In windows
    it is the mean of the climate's states, weighted by how well they fit.

    Attributes
    ----------
    n_particles, max_particles : int
        Of cycles: the first size, and the largest.
    tolerance : float
        Of cycles: relative change of the score that counts as none.
    regularisation, threshold : float
        Of cycles: those of the first size, as in `ParticleFilter`.
    rescue : bool
        Of cycles: scatter particles that have lost the truth, as in `ParticleFilter`.
    n_trajectories : int
        Of cycles: of the validation split, the first so many at most, on which sizes
        are compared. Of windows: of the test split, the first so many at most.
    library : int
        Of windows: states of the climate, among which those that fit are found.
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
        """Return the filter at the size where its score has settled, or the posterior.

        What is found on the way is kept in the problem's folder, to go on from.
        """
        if isinstance(problem.protocol, Windows):
            kind = problem.protocol.background
            if kind not in _KNOWN:
                raise ConfigurationError(
                    "methods: the optimum of a window is known for the backgrounds "
                    f"{', '.join(_KNOWN)}, got {kind!r}"
                )
            return Fitted(None, "optimum", estimate=self._windows, judge=_settled)
        found = _Doubling(self, problem).converged()
        last = found["stages"][-1]
        n, width = last["n_particles"], last["regularisation"]
        return Fitted(
            self._filter(problem, n, width),
            f"optimum (N{'=' if found['settled'] else '>'}{n})",
            start="first",
            parameter="regularisation",
            value=width,
            facts={"convergence": found},
        )

    def _filter(self, problem: Problem, n: int, width: float) -> ParticleFilter:
        how: dict[str, Any] = {"threshold": self.threshold, "rescue": self.rescue}
        how |= {**problem.filter, "n_particles": n, "regularisation": width}
        return ParticleFilter(**how)

    def _windows(self, problem: Problem, split: str) -> Estimates:
        """Return the posterior mean of the windows of a split's first trajectories."""
        twin, protocol = problem.twin, problem.protocol
        assert isinstance(protocol, Windows)
        data, samples = twin.settings, problem.samples(split)
        last = protocol.last_observations(data)
        n = min(self.n_trajectories, data.n_trajectories(split))
        size, began = n * len(last), perf_counter()
        background, seen = samples.background[:size], samples.obs_window[:size]
        how = (twin.operator, twin.R, data.steps_per_cycle)
        # What backgrounds say of the states when they were drawn, `lag` cycles before
        # the analysis: estimates (n, 3) and the covariance of their errors, if these
        # are normal and have nothing to do with the observations'.
        drawn, before = problem.backgrounds, None
        covariance, lag = drawn.start_covariance, drawn.drawn_before
        if covariance is not None:
            from l63fast.learning.dynamics import earlier_states

            n_steps = lag * data.steps_per_cycle
            before = earlier_states(background, n_steps, **problem.model)
        evidence = analogs.WindowObservations(seen, *how, before, covariance, lag)
        found = self._posterior(problem, evidence)
        # For the mirror-aware score the mean of one of each mirrored pair is best.
        best = found.folded if twin.operator.is_mirror_blind else found.mean
        shape = (n, len(last), 3)
        spread = np.broadcast_to(np.sqrt(found.variance)[:, None], (size, 3))
        made = {
            "background": background.reshape(shape),
            "analysis": best.reshape(shape),
            "status": np.full(shape[:2], Status.CONVERGED, dtype=np.int8),
            "spread": spread.reshape(shape),
            "effective_size": found.effective_size.reshape(shape[:2]),
            "seconds_per_cycle": (perf_counter() - began) / size,
        }
        return problem.estimates(split, last, made, n)

    def _posterior(
        self, problem: Problem, evidence: analogs.WindowObservations
    ) -> analogs.WindowPosterior:
        """Return the posterior of windows, going on from what a stopped run has kept.

        What is kept is named after all that decides it.
        """
        data, work, size = problem.twin.settings, problem.work, len(evidence.whitened())
        climate = analogs.ClimatologicalPrior(data.dt, data.parameters, data.seed)
        digest = hashlib.sha256(evidence.whitened().tobytes()).hexdigest()[:16]
        kept = work.folder and work.folder / f"posterior_{self.library}_{digest}.npz"
        known = None
        if kept is not None and kept.exists():
            with content_errors(kept):
                known = analogs.WindowPosterior(**np.load(io.BytesIO(read_file(kept))))

        def note(found: analogs.WindowPosterior) -> None:
            if len(found.mean) % _NOTED:
                return
            if kept is not None:
                content = io.BytesIO()
                np.savez(content, **vars(found))
                write_bytes(kept, content.getvalue())
            work.say(f"optimum     {len(found.mean)} of {size} windows")

        return analogs.window_posterior(
            evidence, climate, library=self.library, known=known, report=note
        )


def _settled(
    problem: Problem, found: Estimates, scores: dict[str, Any]
) -> dict[str, Any]:
    """Return whether the states were enough: the error is what is claimed.

    Otherwise the score is an upper bound of the optimum's.
    """
    assert found.spread is not None
    assert found.effective_size is not None
    blind = problem.twin.operator.is_mirror_blind
    name = "mirror_rmse_pooled_a" if blind else "rmse_pooled_a"
    thinnest = float(np.quantile(found.effective_size, 0.05))
    claimed = float(np.sqrt((found.spread**2).mean()))
    honest = scores["ci95"][name][0] < _HONEST * claimed
    settled = bool(thinnest > _THINNEST and honest)
    return {"convergence": {"stages": [], "settled": settled, "thinnest": thinnest}}


class _Doubling:
    """A particle filter whose size is doubled until its score settles.

    More particles need less regularisation: at each size that of the size before is
    tried, and ones smaller by sqrt(2) for as long as they help. One step that changes
    nothing may be chance: x with sigma 1 every 0.1 stood still from 2,000 to 4,000
    particles, 4 % above what 128,000 reach. So two in a row are asked for.
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
        """Return the stages of rising size, and whether the last ones stood still."""
        optimum, n_still = self.optimum, 0
        stages = [self._best(optimum.n_particles, optimum.regularisation)]
        while n_still < _ENOUGH:
            last = stages[-1]
            n = 2 * last["n_particles"]
            if n > optimum.max_particles:
                break
            stages.append(self._best(n, last["regularisation"]))
            still = abs(stages[-1]["score"] / last["score"] - 1.0) < optimum.tolerance
            n_still = n_still + 1 if still else 0
        return {"stages": stages, "settled": n_still == _ENOUGH}

    def _best(self, n: int, width: float) -> dict[str, Any]:
        """Return the stage of a size at which a smaller width helps no more."""
        best = self._stage(n, width)
        while True:
            stage = self._stage(n, _NARROWER * best["regularisation"])
            if not stage["score"] < np.nan_to_num(best["score"], nan=np.inf):
                return best
            best = stage

    def _stage(self, n: int, width: float) -> dict[str, Any]:
        """Return a filter's score and mean effective size on the validation split."""
        key = f"{n} {width!r}"
        if key not in self.known:
            scheme = self.optimum._filter(self.problem, n, width)
            score, found = self.problem.score(Fitted(scheme, "", start="first"))
            assert found.effective_size is not None
            size = float(found.effective_size.mean())
            self.known[key] = [score, size]
            if self.kept is not None:
                write_json(self.kept, self.known)
            self.problem.work.say(f"optimum     {n} particles: {score:.4g}")
        score, size = map(float, self.known[key])
        stage = {"n_particles": n, "regularisation": width}
        return {**stage, "score": score, "effective_size": size}


def _with_validation(problem: Problem, n_trajectories: int) -> Problem:
    """Return a problem with the first trajectories of its validation split.

    They are simulated again: a trajectory does not depend on how many there are.
    """
    settings = problem.twin.settings
    if n_trajectories >= settings.n_val:
        return problem
    few = replace(settings, n_train=1, n_val=n_trajectories, n_test=1)
    return replace(problem, twin=TwinExperiment.generate(few))
