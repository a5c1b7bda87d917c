"""Steps by a Taylor polynomial with a constant matrix, a model beside RK4, in NumPy.

With dx/dt = A(x) x a step is x -> sum over k <= J of (A(x) dt)^k / k! x, where A(x) is
that of the start of the step (Revach et al. 2022, KalmanNet, section IV.D). Its terms
are v_0 = x and v_k = dt / k A(x) v_(k-1). All operations are by element, so that the
bits of a member depend neither on the other members nor on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels.jobs import (
    AnalysisJob,
    FilteredParticles,
    FilterJob,
    IntegrateJob,
    TangentJob,
)


@dataclass(frozen=True)
class TaylorKernels:
    """The kernels of a backend, whose model makes such steps.

    Attributes
    ----------
    order : int
        J, at least 1.
    base : Kernels
        Of the backend; they analyse, resample and add noise.
    """

    order: int
    base: Any

    @ieee_arithmetic()
    @np.errstate(over="ignore", invalid="ignore")
    def integrate(self, job: IntegrateJob, n_threads: int) -> int:
        """Fill the job's `out`; return the number of non-finite members."""
        state = job.initial.T
        for k in range(job.out.shape[1]):
            for _ in range(job.save_every):
                state = _sum(self._terms(state, job))
            job.out[:, k] = state.T
        return _n_diverged(job.out)

    @ieee_arithmetic()
    @np.errstate(over="ignore", invalid="ignore")
    def tangent(
        self, job: TangentJob, n_threads: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return states and perturbations after n_steps, and how many are NaN."""
        (sigma, rho, beta), state = job.parameters, job.state.T
        vectors = job.vectors.transpose(2, 0, 1)
        for _ in range(job.n_steps):
            terms, d = self._terms(state, job), vectors
            x, dx = state[0][:, None], vectors[0]
            for k, term in enumerate(terms[:-1], 1):
                # d(A v) = A dv + dA v, where only the x in A changes.
                (_, v, w), (a, b, c) = term[..., None], d
                rows = (
                    sigma * (b - a),
                    rho * a - b - x * c - dx * w,
                    x * b - beta * c + dx * v,
                )
                d = np.stack(rows) * (job.dt / k)
                vectors = vectors + d
            state = _sum(terms)
        later, carried = _rows(state.T), _rows(vectors.transpose(1, 2, 0))
        return later, carried, _n_diverged(later, carried)

    @ieee_arithmetic()
    @np.errstate(over="ignore", invalid="ignore")
    def adjoint(self, job: TangentJob, n_threads: int) -> tuple[np.ndarray, int]:
        """Return gradients (n, k, 3) at the start, and how many are not finite."""
        sigma, rho, beta = job.parameters
        states = [job.state.T]
        for _ in range(job.n_steps - 1):
            states.append(_sum(self._terms(states[-1], job)))
        gradient = job.vectors.transpose(2, 0, 1)
        for state in reversed(states):
            terms, x, of_term = self._terms(state, job), state[0][:, None], gradient
            of_x: Any = 0.0
            for k in range(self.order, 0, -1):  # the transpose of `tangent`
                _, v, w = terms[k - 1][..., None]
                a, b, c = of_term * (job.dt / k)
                of_x = of_x + (v * c - w * b)
                rows = (rho * b - sigma * a, sigma * a - b + x * c, -x * b - beta * c)
                of_term = gradient + np.stack(rows)
            of_term[0] += of_x
            gradient = of_term
        carried = _rows(gradient.transpose(1, 2, 0))
        return carried, _n_diverged(carried)

    def filter_particles(self, job: FilterJob, n_threads: int) -> FilteredParticles:
        """Return the particles after the job, and the results of its analyses."""
        if job.n_steps is None:
            done: FilteredParticles = self.base.filter_particles(job, n_threads)
            return done
        seen, steps, parts = job.observation, job.n_steps, []
        for k in range(1 if seen is None else seen.shape[1]):
            states = np.array(job.states)
            if steps and states.size:
                initial = job.states.reshape(-1, 3)
                out = states.reshape(-1, 1, 3)
                forecast = IntegrateJob(initial, out, steps, job.dt, job.parameters)
                self.integrate(forecast, n_threads)
            # A forecast of no steps: the kernel only adds noise.
            job = job._replace(states=states, n_steps=0)
            if seen is not None:
                one = np.ascontiguousarray(seen[:, k : k + 1])
                job = job._replace(observation=one)
            parts.append(self.base.filter_particles(job, n_threads))
            stage = job.first_stage + (1 if seen is None else 2)
            states, log_weights = parts[-1][:2]
            job = job._replace(
                states=states, log_weights=log_weights, first_stage=stage
            )
        series = zip(*(part[2:] for part in parts), strict=True)
        joined = (np.concatenate(values, axis=1) for values in series)
        return FilteredParticles(*parts[-1][:2], *joined)

    def analyse(self, job: AnalysisJob, n_threads: int) -> tuple[np.ndarray, ...]:
        """Return state, status, n_iter, cost and residual."""
        found: tuple[np.ndarray, ...] = self.base.analyse(job, n_threads)
        return found

    def _terms(self, state: np.ndarray, job: Any) -> list[np.ndarray]:
        """Return the terms v_0 to v_J of a step that begins at states (3, n)."""
        sigma, rho, beta = job.parameters
        x, terms = state[0], [state]
        for k in range(1, self.order + 1):
            u, v, w = terms[-1]
            rows = sigma * (v - u), rho * u - v - x * w, x * v - beta * w
            terms.append(np.stack(rows) * (job.dt / k))
        return terms


def _sum(terms: list[np.ndarray]) -> np.ndarray:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _rows(array: np.ndarray) -> np.ndarray:
    return np.array(array, order="C")


def _n_diverged(*results: np.ndarray) -> int:
    """Replace non-finite values by NaN; return how many members have one."""
    bad = np.zeros(len(results[0]), dtype=bool)
    for result in results:
        broken = ~np.isfinite(result)
        result[broken] = np.nan
        bad |= broken.any(axis=tuple(range(1, broken.ndim)))
    return int(np.count_nonzero(bad))
