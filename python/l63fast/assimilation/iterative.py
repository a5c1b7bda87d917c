"""The iterative ensemble Kalman smoother, which at a lag of one is the iEnKF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation import ensemble_update as update
from l63fast.assimilation.scheme import (
    Analysis,
    Draws,
    KalmanSettings,
    Status,
    first_members,
    forecast_members,
    is_lost,
    observed_values,
    present_whitening,
)
from l63fast.errors import ArgumentValueError
from l63fast.observation import as_operator


class WindowEnsemble(NamedTuple):
    """The ensemble at the start of the window, given all observations so far.

    Attributes
    ----------
    members : (n, n_members, 3)
    steps : tuple of at most `lag` int
        Model steps of each cycle from there to the latest time.
    draws : Draws
    """

    members: np.ndarray
    steps: tuple[int, ...]
    draws: Draws


class _Iterates(NamedTuple):
    """The iterate of each trajectory, at the start and the end of its window.

    Attributes
    ----------
    weights : (n, n_members)
        w; the mean at the start is x_0 + w X_0.
    step : (n, n_members)
        The last change of w, made after the last forecast.
    mean, anomalies : (n, 3), (n, n_members, 3)
        Mean at the end of the last forecast, and its sensitivity to w.
    observed : (n, n_members, m)
        Y, sensitivity of the observed values to w, in units of the observation error.
    variance, axes : (n, m), (n, m, m)
        Principal variances and axes of Y.
    """

    weights: np.ndarray
    step: np.ndarray
    mean: np.ndarray
    anomalies: np.ndarray
    observed: np.ndarray
    variance: np.ndarray
    axes: np.ndarray

    @classmethod
    def zeros(cls, n: int, n_members: int, m: int) -> _Iterates:
        """Return the start of the iteration: the ensemble as it is."""
        shapes = [(n_members,)] * 2 + [(3,), (n_members, 3), (n_members, m)]
        shapes += [(m,), (m, m)]
        return cls(*(np.zeros((n, *one)) for one in shapes))

    def of(self, rows: np.ndarray) -> _Iterates:
        """Return the iterates of some trajectories."""
        return _Iterates(*(values[rows] for values in self))


@dataclass(frozen=True, eq=False, kw_only=True)
class IEnKS(KalmanSettings):
    """The iterative ensemble Kalman smoother; its state is a `WindowEnsemble`.

    The control is the ensemble `lag` cycles before the latest observation; only this
    observation is new (single data assimilation, shift 1). Gauss-Newton steps minimise
    (N - 1) |w|^2 / 2 + |y - h(M(x_0 + w X_0))|^2 / 2, and the symmetric transform
    places the ensemble around each iterate (Bocquet & Sakov 2014). With `lag` 1 it is
    the iEnKF (Sakov, Oliver & Bertino 2012). The model is taken to be perfect.

    Parameters
    ----------
    operator, B, R, Q, smoother_lag, dt, parameters, n_threads, backend
        As in `KalmanSettings`; Q must be zero and the smoother's lag at most `lag`. The
        first members are drawn from N(background, B).
    inflation : float
        Factor on the anomalies at the start of the window, once per cycle.
    n_members : int
        At least 3.
    lag : int
        Number L of cycles in a window.
    rotation : bool
        Rotate these anomalies at random about their mean.
    max_iter : int
        Largest number of Gauss-Newton steps.
    tol : float
        Largest last step in standard deviations of the prior, relative to 1 + that of
        the whole increment.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a setting is not as described.
    """

    n_members: int = 20
    lag: int = 1
    rotation: bool = True
    max_iter: int = 10
    tol: float = 1e-3

    def _checked(self) -> dict[str, Any]:
        checked = super()._checked()
        if checked["Q"] is not None:
            raise ArgumentValueError(
                "Q: expected zeros, since the iEnKS takes its model to be perfect, got "
                f"{checked['Q'].tolist()}"
            )
        lag = _checks.count("lag", self.lag, minimum=1)
        _checks.count("smoother_lag", checked["smoother_lag"], maximum=lag)
        return {
            **checked,
            "n_members": _checks.count("n_members", self.n_members, minimum=3),
            "lag": lag,
            "rotation": _checks.boolean("rotation", self.rotation),
            "max_iter": _checks.count("max_iter", self.max_iter, minimum=1),
            "tol": _checks.real("tol", self.tol, above=0.0),
        }

    @ieee_arithmetic()
    def initial(
        self, background: np.ndarray, rng: np.random.Generator
    ) -> WindowEnsemble:
        """Return members drawn from N(background, B), where the first window starts."""
        members, draws = first_members(background, self.B, self.n_members, rng)
        return WindowEnsemble(members, (), draws)

    @ieee_arithmetic()
    def forecast(self, state: WindowEnsemble, n_steps: int) -> WindowEnsemble:
        """Return the window with one more cycle; a full one loses its first cycle."""
        members, steps = state.members, (*state.steps, n_steps)
        if len(steps) > self.lag:
            members = forecast_members(members, steps[0], **self._model)
            steps = steps[1:]
        return state._replace(members=members, steps=steps)

    @ieee_arithmetic()
    def analyse(
        self, state: WindowEnsemble, obs_window: np.ndarray
    ) -> tuple[WindowEnsemble, Analysis]:
        """Return the window after the latest observation, and the analysis at its end.

        The analysed members are those of the last forecast, moved and transformed by
        the last step. The status is DIVERGED as in `EnKF`. Where no value is present,
        the members stay as they are.
        """
        y, operator = observed_values(obs_window[:, -1]), as_operator(self.operator)
        present, (n, N, _) = ~np.isnan(y), state.members.shape
        draws, normals = state.draws, None
        if self.rotation:
            normals, draws = draws.normals(n, (N, 3))
        with np.errstate(over="ignore", invalid="ignore"):
            first, last, n_iter, going = self._iterated(state, y, present)
            members, at_end = self._updated(state.members, last, normals)
            end = last.mean + update.row(last.step, last.anomalies)
            unobserved = ~present.any(axis=-1)
            members[unobserved] = state.members[unobserved]
            end[unobserved] = first.mean[unobserved]
            at_end[unobserved] = first.anomalies[unobserved]
            good = np.isfinite(members).all((1, 2)) & np.isfinite(at_end).all((1, 2))
            members[~good], end[~good] = np.nan, np.nan
            # The background is the first iterate, an ensemble forecast as in `EnKF`.
            background = first.mean[:, None] + first.anomalies
            innovation, S = update.innovations(y, operator(background), self.R)
            status = np.where(going, Status.MAX_ITER, Status.CONVERGED)
            status = np.where(is_lost(innovation, S), Status.DIVERGED, status)
            squares = update.ensemble_mean(at_end * at_end)
        state = WindowEnsemble(members, state.steps, draws)
        return state, Analysis(
            smoothed=self._smoothed(state),
            state=end,
            status=np.where(good, status, Status.NON_FINITE).astype(np.int8),
            n_iter=np.where(unobserved, 0, n_iter).astype(np.int32),
            cost=np.full(n, np.nan),
            residual=y - operator(end),
            background=first.mean,
            spread=np.sqrt(squares * (N / (N - 1))),
            innovation=innovation,
            innovation_covariance=S,
            members=end[:, None] + at_end,
        )

    def _smoothed(self, state: WindowEnsemble) -> np.ndarray | None:
        """Return the mean `smoother_lag` cycles before the end of the window."""
        n_cycles = len(state.steps) - self.smoother_lag
        if not self.smoother_lag:
            return None
        if n_cycles < 0:
            return np.full((len(state.members), 3), np.nan)
        n_steps = sum(state.steps[:n_cycles])
        members = forecast_members(state.members, n_steps, **self._model)
        return update.ensemble_mean(members)

    def _iterated(
        self, state: WindowEnsemble, y: np.ndarray, present: np.ndarray
    ) -> tuple[_Iterates, _Iterates, np.ndarray, np.ndarray]:
        """Return the first and the last iterates, their number, and those not at rest.

        The first iterate is an ordinary ensemble forecast.
        """
        whiten = update.transposed(present_whitening(self.R, present))
        known = np.where(present, y, 0.0)
        mean = update.ensemble_mean(state.members)
        X = state.members - mean[:, None]
        n, N, _ = X.shape
        at = _Iterates.zeros(n, N, y.shape[1])
        first, n_iter, going = at, np.zeros(n, dtype=np.int32), np.arange(n)
        for iteration in range(self.max_iter):
            now = at.of(going)
            placed = mean[going] + update.row(now.weights, X[going])
            spread = X[going]
            if iteration:
                spread = update.transformed(
                    spread, now.observed, now.variance, now.axes
                )
            later = forecast_members(
                placed[:, None] + spread, sum(state.steps), **self._model
            )
            new = self._stepped(now, later, known[going], whiten[going])
            for values, one in zip(at, new, strict=True):
                values[going] = one
            n_iter[going] += 1
            if not iteration:
                first = at.of(going)
            # In standard deviations of the prior, of which w is N - 1 times smaller.
            scale = np.sqrt(N - 1.0)
            length = scale * np.sqrt((new.step**2).sum(axis=1))
            whole = scale * np.sqrt((new.weights**2).sum(axis=1))
            going = going[length > self.tol * (1.0 + whole)]
            if not going.size:
                break
        moving = np.zeros(n, dtype=np.bool_)
        moving[going] = True
        return first, at, n_iter, moving

    def _stepped(
        self, now: _Iterates, later: np.ndarray, y: np.ndarray, whiten: np.ndarray
    ) -> _Iterates:
        """Return the iterates after the Gauss-Newton step of a forecast ensemble."""
        both = np.concatenate([later, as_operator(self.operator)(later)], axis=-1)
        mean = update.ensemble_mean(both)
        both -= mean[:, None]
        both[..., 3:] = both[..., 3:] @ whiten
        if now.observed.any():
            # Sensitivities to w: the ensemble was placed by the transform T.
            both = update.transformed(
                both, now.observed, now.variance, now.axes, inverse=True
            )
        Y, N = both[..., 3:], both.shape[1]
        variance, axes = update.principal(update.covariances(Y, Y))
        d = update.row(y - mean[:, 3:], whiten)
        # With the Hessian (N - 1) I + Y Y^T, by the Woodbury identity.
        w = now.weights
        gradient = update.column(Y, d) - (N - 1) * w
        along = update.row(update.row(gradient, Y), axes) / ((N - 1) * (1.0 + variance))
        step = (gradient - update.column(Y, update.column(axes, along))) / (N - 1)
        # A step that goes back over more than half of the last one is halved: in long
        # windows the iteration oscillates without this.
        back = (step * now.step).sum(axis=1) < -0.5 * (now.step**2).sum(axis=1)
        step = np.where(back[:, None], 0.5 * step, step)
        state, X = mean[:, :3], both[..., :3]
        return _Iterates(w + step, step, state, X, Y, variance, axes)

    def _updated(
        self, members: np.ndarray, last: _Iterates, normals: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the members at the window's start, and the anomalies at its end."""
        basis = last.observed, last.variance, last.axes
        mean = update.ensemble_mean(members)
        X = members - mean[:, None]
        mean = mean + update.row(last.weights, X)
        anomalies = update.transformed(X, *basis)
        if normals is not None:
            anomalies = update.redrawn(
                update.covariances(anomalies, anomalies), normals
            )
        at_end = self.inflation * update.transformed(last.anomalies, *basis)
        return mean[:, None] + self.inflation * anomalies, at_end
