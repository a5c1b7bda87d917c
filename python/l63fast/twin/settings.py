"""The settings of a twin experiment, validated when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks, _random
from l63fast._user_code import is_own
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin.gaps import drawn_steps, observation_times, share, steps_between
from l63fast.twin.noise import ErrorLaw

SPLIT_NAMES: Final = ("train", "val", "test")
_LEFT_OUT: Final = (
    *("Q", "R", "missing", "interval", "observation_steps"),
    *("noise", "Q_per_step", "parameters_spread"),
)
_LARGEST_SIGMA: Final = 1e100  # its square is still finite


@dataclass(frozen=True)
class TwinSettings:
    """Settings of a twin experiment, validated when they are made.

    Attributes
    ----------
    operator : str or ObservationOperator
        Name of the observation operator, such as "xy" or "x2", or one of your own; for
        experiments "module:function" as well.
    n_train, n_val, n_test : int
        Trajectories of each split.
    n_steps : int
        Model steps of each trajectory.
    dt : float
        Time step (time units).
    steps_per_cycle : int
        Model steps between observations, 10 by default; the first observation is at
        this step. With `interval` or `observation_steps` it is their mean, rounded, and
        no other value is accepted.
    sigma : float
        Standard deviation of the observation error; 0 gives perfect observations.
    save_every : int
        Model steps between saved states; divides `steps_per_cycle` and `n_steps`.
    spin_up_time : float
        Time before each trajectory (time units).
    seed : int
        Key of all random numbers of the experiment; may be given as a SeedSequence or a
        Generator.
    parameters : Lorenz63
    Q : float or (3, 3)
        Covariance of the model error added to the truth at the end of each cycle; a
        number is the variance of each component. 0 means a perfect model.
    R : float or (obs_dim, obs_dim), optional
        Covariance of the observation error, or the variance of each observed value;
        `sigma` must then be the root of the mean variance. By default sigma^2 I.
    missing : float
        Probability, below 1, that a value is not observed: it is then NaN. Values are
        dropped independently of each other; the errors of the others do not change.
        For your own data, the share of their values that is missing.
    interval : (float, float), optional
        The times between observations (time units) are drawn uniformly from this
        range, once for all trajectories, and rounded to steps.
    observation_steps : tuple of int, optional
        Model step of each observation, in rising order from 1 on.
    noise : ErrorLaw
        The law of the observation errors, by default the normal one.
    Q_per_step : bool
        Add the model error at the end of each model step instead of each cycle.
    parameters_spread : float or (3,)
        Above 0, each trajectory has its own parameters: each of them is drawn uniformly
        from its value in `parameters` plus or minus this share of it. Three shares are
        those of sigma, rho and beta.
    """

    if TYPE_CHECKING:
        operator: str | ObservationOperator = "xy"
    else:
        operator: Any = "xy"  # of a TOML file, which is read by this, or checked below
    n_train: int = 1000
    n_val: int = 500
    n_test: int = 500
    n_steps: int = 1000
    dt: float = 0.01
    if TYPE_CHECKING:
        steps_per_cycle: int = 10
    else:
        steps_per_cycle: int | None = None  # it follows from the settings at the end
    sigma: float = 1.0
    save_every: int = 1
    spin_up_time: float = 20.0
    seed: int = 0
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    Q: float | tuple[tuple[float, ...], ...] = 0.0
    R: tuple[tuple[float, ...], ...] | None = None
    missing: float = 0.0
    interval: tuple[float, ...] | None = None
    observation_steps: tuple[int, ...] | None = field(default=None, repr=False)
    noise: ErrorLaw = field(default_factory=ErrorLaw)
    Q_per_step: bool = False
    parameters_spread: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        operator = as_operator(self.operator)
        n_observed = _n_observed(operator, self.R)
        checked: dict[str, Any] = {"seed": _checks.seed("seed", self.seed)}
        # A named operator is kept as its name, as in files.
        checked["operator"] = operator if operator.source_hash else operator.name
        for name in ("n_train", "n_val", "n_test", "n_steps", "save_every"):
            checked[name] = _checks.count(name, getattr(self, name), minimum=1)
        checked["dt"], _ = _checks.time_step("dt", self.dt, allow_large=False)
        for name, most in (("sigma", _LARGEST_SIGMA), ("spin_up_time", None)):
            value = getattr(self, name)
            checked[name] = _checks.real(name, value, minimum=0.0, maximum=most)
        _checks.instance("parameters", self.parameters, Lorenz63)
        checked["Q"] = model_error(self.Q)
        checked["R"] = _observation_error(self.R, n_observed, checked["sigma"])
        checked["missing"] = share("missing", self.missing)
        spread = checked["parameters_spread"] = _spread(self.parameters_spread)
        if spread and self.parameters.taylor is not None:
            raise ArgumentValueError(
                "parameters_spread: expected 0 with steps by a Taylor polynomial, got "
                f"{spread}"
            )
        _checks.instance("noise", self.noise, ErrorLaw)
        checked["Q_per_step"] = _checks.boolean("Q_per_step", self.Q_per_step)
        times = self.steps_per_cycle, self.interval, self.observation_steps
        checked |= observation_times(
            *times, n_steps=checked["n_steps"], dt=checked["dt"]
        )
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_steps()

    def _check_steps(self) -> None:
        if self.steps_per_cycle > self.n_steps:
            raise ArgumentValueError(
                f"steps_per_cycle: expected at most n_steps = {self.n_steps} (there "
                f"would be no observation), got {self.steps_per_cycle}"
            )
        every = {"steps_per_cycle": self.steps_per_cycle, "n_steps": self.n_steps}
        if self.is_irregular:
            # Any step may be observed if the times are drawn.
            common = math.gcd(*self.observation_steps or (1,))
            every["the steps of all observations"] = common
            del every["steps_per_cycle"]
        for name, value in every.items():
            if value % self.save_every:
                raise ArgumentValueError(
                    f"save_every: expected a divisor of {name} = {value}, got "
                    f"{self.save_every}"
                )

    @property
    def is_irregular(self) -> bool:
        """Whether the times between observations differ."""
        return (self.interval or self.observation_steps) is not None

    @property
    def observed_steps(self) -> np.ndarray:
        """Model step of each observation, (n_obs,) int64."""
        if self.interval is not None:
            return drawn_steps(self.interval, self.dt, self.n_steps, self.seed)
        if self.observation_steps is not None:
            return np.array(self.observation_steps, dtype=np.int64)
        cycles = np.arange(1, self.n_steps // self.steps_per_cycle + 1, dtype=np.int64)
        return cycles * self.steps_per_cycle

    @property
    def cycle_steps(self) -> np.ndarray:
        """Model steps from the previous observation, the first from 0, (n_obs,)."""
        return np.diff(self.observed_steps, prepend=0)

    def drawn_cycle_steps(self, n: int, *, seed: int, draw: int) -> np.ndarray:
        """Return the model steps of n new cycles (n,), for a training.

        Their law is that of the data: given times are drawn from the given intervals.
        """
        if not self.is_irregular:
            return np.full(n, self.steps_per_cycle, dtype=np.int64)
        draws = _random.uniforms(seed, "interval", "train", 1, (n,), draw=draw)[0]
        if self.interval is not None:
            return steps_between(self.interval, self.dt, draws)
        steps = self.cycle_steps
        return np.asarray(steps[(draws * len(steps)).astype(np.int64)])

    @property
    def irregular(self) -> str:
        """The times between observations in words; "" if they are regular."""
        if not self.is_irregular:
            return ""
        return "intervals of {:.4g} to {:.4g}".format(*self._interval_ends)

    @property
    def gaps(self) -> str:
        """Irregular times and missing values in words; "" where there are none."""
        share = f"{100.0 * self.missing:.4g} % missing" if self.missing else ""
        return ", ".join(filter(None, (self.irregular, share)))

    @property
    def implied(self) -> tuple[str, ...]:
        """Names of the settings that tables leave out."""
        cycle = ("steps_per_cycle",) if self.is_irregular else ()
        zero = ("missing", "Q_per_step", "parameters_spread")
        normal = ("noise",) if self.noise.is_normal else ()
        return (*cycle, *(name for name in zero if not getattr(self, name)), *normal)

    @property
    def cycle_times(self) -> np.ndarray:
        """Time since the previous observation (n_obs,) (time units)."""
        return self.cycle_steps * self.dt

    @property
    def interval_width(self) -> float:
        """Longest minus shortest time between observations (time units)."""
        low, high = self._interval_ends if self.is_irregular else (0.0, 0.0)
        return high - low

    @property
    def _interval_ends(self) -> tuple[float, ...]:
        if self.interval is not None:
            return self.interval
        times = self.cycle_times
        return float(times.min()), float(times.max())

    def require_no_gaps(self, name: str, who: str) -> None:
        """Refuse missing values and irregular times, for those who cannot use them."""
        if self.gaps:
            raise ArgumentValueError(
                f"{name}: expected all values at regular times for {who}, got "
                f"data with {self.gaps}"
            )

    @property
    def operator_name(self) -> str:
        """Name of the observation operator, also of one of your own."""
        return as_operator(self.operator).name

    @property
    def n_saved(self) -> int:
        """Number of saved states of a trajectory, the initial one included."""
        return self.n_steps // self.save_every + 1

    @property
    def n_obs(self) -> int:
        """Number of observation times of a trajectory."""
        if self.is_irregular:
            return len(self.observed_steps)
        return self.n_steps // self.steps_per_cycle

    @property
    def model_error_covariance(self) -> np.ndarray:
        """Q as a matrix (3, 3)."""
        Q = np.asarray(self.Q, dtype=np.float64)
        return Q if Q.ndim else Q * np.eye(3)

    @property
    def cycle_error_covariance(self) -> np.ndarray:
        """Covariance (3, 3) of the sum of the model errors of a cycle."""
        n_errors = self.steps_per_cycle if self.Q_per_step else 1
        return n_errors * self.model_error_covariance

    @property
    def n_model_errors(self) -> int:
        """Number of model errors of a trajectory."""
        if self.Q == 0.0:
            return 0
        return self.n_steps if self.Q_per_step else self.n_obs

    @property
    def beyond_the_usual(self) -> str:
        """Laws of errors and parameters, and the steps, in words; "" if the usual."""
        shares = np.atleast_1d(100.0 * np.asarray(self.parameters_spread)).tolist()
        order = self.parameters.steps_by
        spread = f"parameters +-{', '.join(f'{share:.4g}' for share in shares)} %"
        return ", ".join(
            filter(
                None,
                (
                    self.noise.describe(),
                    spread * bool(self.parameters_spread),
                    "model error at each step" * self.Q_per_step,
                    f"steps by {order}" * (self.parameters.taylor is not None),
                ),
            )
        )

    @property
    def observation_covariance(self) -> np.ndarray:
        """R as a matrix (obs_dim, obs_dim)."""
        if self.R is not None:
            return np.asarray(self.R, dtype=np.float64)
        return self.sigma**2 * np.eye(as_operator(self.operator).obs_dim)

    def observation_errors(self, normals: np.ndarray) -> np.ndarray:
        """Return errors by their law, made from N(0, 1) draws (..., obs_dim)."""
        normals = self.noise.standardised(normals)
        if self.R is None:
            errors = np.asarray(self.sigma * normals)
        else:
            errors = normals @ np.linalg.cholesky(self.observation_covariance).T
        return errors + self.noise.bias if self.noise.bias else errors

    def drawn_parameters(self, draws: np.ndarray) -> np.ndarray:
        """Return sigma, rho and beta (n, 3), made from uniform draws (n, 3)."""
        nominal = np.array(self.parameters.as_tuple())
        spread = np.asarray(self.parameters_spread)
        return np.asarray(nominal * (1.0 + spread * (2.0 * draws - 1.0)))

    def n_trajectories(self, split: str) -> int:
        """Return the number of trajectories of a split."""
        split = _checks.choice("split", split, SPLIT_NAMES)
        return int(getattr(self, f"n_{split}"))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON and TOML.

        Settings such as Q, R and those of gaps are left out where they have their
        defaults, so that such data keep the hashes and files that they had before there
        were such settings. An operator of your own is stored as
        its name and the hash of its source.
        """
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        content["parameters"] = self.parameters.to_dict()
        content["noise"] = self.noise.to_dict()
        operator = as_operator(self.operator)
        content["operator"] = operator.name
        if operator.source_hash is not None:
            content["operator_source"] = operator.source_hash
        return {k: v for k, v in content.items() if k not in _LEFT_OUT or v}

    @classmethod
    def from_dict(
        cls,
        content: Mapping[str, Any],
        operator: ObservationOperator | str | None = None,
    ) -> TwinSettings:
        """Return the settings from plain values; unknown and missing keys are refused.

        Only the settings that `to_dict` leaves out may be missing.

        Parameters
        ----------
        content : mapping
            As returned by `to_dict`.
        operator : ObservationOperator or its name, optional
            The operator that `content` names; an operator of your own must be given.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If a setting is not valid; the message names its key.
        """
        if not isinstance(content, Mapping):
            raise ArgumentTypeError(
                f"settings: expected a table of settings, got {type(content).__name__}"
            )
        wanted = {item.name for item in fields(cls)}
        plain = {key: content[key] for key in content if key != "operator_source"}
        if wrong := sorted(wanted ^ {*plain, *_LEFT_OUT}):
            raise ArgumentValueError(
                f"settings: expected the keys {', '.join(sorted(wanted))}; missing or "
                f"unknown: {', '.join(map(str, wrong))}"
            )
        try:
            parameters = Lorenz63(**content["parameters"])
        except TypeError as error:
            raise ArgumentTypeError(f"parameters: {error}") from error
        try:
            plain["noise"] = ErrorLaw(**content.get("noise", {}))
        except TypeError as error:
            raise ArgumentTypeError(f"noise: {error}") from error
        plain["operator"] = operator_of(content, operator)
        return cls(**{**plain, "parameters": parameters})


def operator_of(
    content: Mapping[str, Any], given: ObservationOperator | str | None
) -> ObservationOperator | str:
    """Return the operator of settings that were made by `TwinSettings.to_dict`.

    Raises
    ------
    ArgumentValueError
        If it is the user's own and not given, or differs from the given one.
    """
    name: str = content["operator"]
    source = content.get("operator_source")
    if given is None and source is None:
        return name
    expected = f"the operator {name!r}"
    if source is not None:
        expected = f"your own {expected[4:]} with the source of sha256 {source}"
    if given is None:
        named = f"ObservationOperator({name!r}).imported()"
        made = named if is_own(name) else "ObservationOperator.custom"
        raise ArgumentValueError(
            f"operator: expected {expected}, which these data were made with, got "
            f"none; make it with {made} and give it as operator=... (--operator)"
        )
    given = as_operator(given)
    if (given.name, given.source_hash) != (name, source):
        got = "" if given.source_hash is None else f" of sha256 {given.source_hash}"
        raise ArgumentValueError(
            f"operator: expected {expected}, which these data were made with, got "
            f"{given.name!r}{got}"
        )
    return given


def _spread(value: Any) -> float | tuple[float, ...]:
    """Return one share for all parameters, or one for each."""
    name = "parameters_spread"
    if np.ndim(value) == 0:
        return share(name, value)
    shares = tuple(share(name, one) for one in value)
    if len(shares) != 3:
        raise ArgumentValueError(f"{name}: expected 1 or 3 shares, got {len(shares)}")
    return shares if len(set(shares)) > 1 else shares[0]


def model_error(Q: Any) -> float | tuple[tuple[float, ...], ...]:
    """Return a variance, or a covariance as nested tuples; 0 if there is no error."""
    if np.ndim(Q) == 0:
        return _checks.real("Q", Q, minimum=0.0)
    float64 = np.dtype(np.float64)
    matrix = _checks.covariance(
        "Q", Q, size=3, dtype=float64, shape=(), semidefinite=True
    )
    if not matrix.any():
        return 0.0
    return tuple(tuple(row) for row in matrix.tolist())


def _n_observed(operator: ObservationOperator, R: Any) -> int:
    """Return obs_dim; what R says of it where the operator is not imported yet."""
    is_name = operator.is_own and operator.source_hash is None
    return len(np.atleast_1d(R)) if is_name else operator.obs_dim


def _observation_error(
    R: Any, size: int, sigma: float
) -> tuple[tuple[float, ...], ...] | None:
    """Return a covariance as nested tuples; None if it is sigma^2 I."""
    if R is None:
        return None
    matrix = _checks.covariance("R", R, size=size, dtype=np.dtype(np.float64), shape=())
    root = float(np.sqrt(matrix.trace() / size))
    if not np.isclose(sigma, root, rtol=1e-6):
        raise ArgumentValueError(
            f"sigma: expected {root:.10g}, the root of the mean variance of R, got "
            f"{sigma:g}"
        )
    if np.array_equal(matrix, sigma**2 * np.eye(size)):
        return None
    return tuple(tuple(row) for row in matrix.tolist())
