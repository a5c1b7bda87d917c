"""Settings of encoders and of their training; this module does not import torch."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from l63fast import _checks
from l63fast._user_code import is_own
from l63fast.errors import ArgumentValueError
from l63fast.learning.own_model import model_name
from l63fast.observation import ObservationOperator, as_operator

# The names of the classes in `readers.ENCODERS`, `readers.CARRIED` and
# `losses.LOSSES`, written again because those modules import torch; a test compares
# both lists.
ENCODER_NAMES: Final = ("mlp", "gru", "lstm")
CARRIED_NAMES: Final = ("gru", "lstm")
LOSS_NAMES: Final = (
    *("mse", "distance", "var3d", "var3d_window"),
    *("crps", "log_score"),
)
TRUE_LOSSES: Final = ("mse", "distance")  # of a state, given the truth
# Losses of estimated distributions, and the kinds of these.
DISTRIBUTION_LOSSES: Final = ("crps", "log_score")
UNCERTAINTIES: Final = ("none", "gaussian", "mixture")
MEMORIES: Final = ("window", "carried")
ANALYSIS_TIMES: Final = ("last", "first")
ITERATIONS: Final = ("fixed_point", "legacy")
OPTIMISERS: Final = ("adam", "muon")
SCHEDULES: Final = ("cosine", "constant")
DEVICES: Final = ("cpu", "cuda")
_NUMBERED_GPU: Final = re.compile(r"cuda:\d{1,3}")

# Settings of encoders that files leave out where they have their defaults, as files do
# that are older than these settings; checkpoints leave out two more.
ADDED: Final = ("estimates_parameters", "equivariant")

MAX_HIDDEN: Final = 4096
MAX_WINDOW: Final = 4096
MAX_ITERATIONS: Final = 100


@dataclass(frozen=True)
class EncoderSettings:
    """The architecture of an encoder, which decides the shapes of its weights.

    Attributes
    ----------
    model : str
        "mlp", "gru" or "lstm", which reads the window of observations; or a torch
        module of your own, which is the whole encoder: a class, kept as its name
        "package.module:Class".
    operator : str or ObservationOperator
        Name of the observation operator, or one of your own.
    window : int
        Number of observations in the window, L.
    hidden : int
        Width of the head and of a GRU. An MLP or LSTM gets the width that gives it the
        same number of parameters. A model of your own receives the number.
    n_iterations : int
        Iterations of the learned fixed point, K.
    memory : str
        "window": an analysis depends on its background and window only. "carried": a
        GRU or LSTM keeps its hidden state from cycle to cycle; the window may be 1.
    analysis_at : str
        Time of the analysis: the "last" observation of the window, or the "first" one
        for an encoder that also uses later observations.
    iteration : str
        "fixed_point": an iteration starts from the background and the increment so far;
        "legacy": from the analysis so far, in the place of the background, so each
        iteration assimilates the same observations again.
    gaps : bool
        Whether it reads observations with gaps: the windows are (L, obs_dim + 1), NaN
        where a value is missing, and the last value is the time since the previous
        observation (time units). Trainings set it if the data have gaps.
    uncertainty : str
        What it estimates besides the analysis: "none"; "gaussian", the covariance of a
        normal distribution; "mixture", two normals with weights. Where the operator
        cannot see the sign of (x, y), these are the state and its mirror image.
    estimates_parameters : bool
        Whether a carried memory also gives estimates of sigma, rho and beta.
    lag : int
        Later observations of smoothed states, in cycles: with a lag above 0 a second
        network reads the analyses of `lag` more cycles; 0: there is none.
    equivariant : bool
        Whether the mirror image (-x, -y, z) of everything it has read gives the mirror
        image of the analysis, as with the equations; for a carried memory.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a value is not as described.
    """

    model: str = "gru"
    operator: str | ObservationOperator = "xy"
    window: int = 10
    hidden: int = 64
    n_iterations: int = 1
    memory: str = "window"
    analysis_at: str = "last"
    iteration: str = "fixed_point"
    gaps: bool = False
    uncertainty: str = "none"
    estimates_parameters: bool = False
    lag: int = 0
    equivariant: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", model_name(self.model))
        if not self.is_own:
            _checks.choice("model", self.model, (*ENCODER_NAMES, "module:Class"))
        operator = as_operator(self.operator)
        kept = operator if operator.is_own else operator.name
        object.__setattr__(self, "operator", kept)
        _checks.count("window", self.window, minimum=1, maximum=MAX_WINDOW)
        _checks.count("hidden", self.hidden, minimum=1, maximum=MAX_HIDDEN)
        _checks.count(
            "n_iterations", self.n_iterations, minimum=1, maximum=MAX_ITERATIONS
        )
        _checks.choice("memory", self.memory, MEMORIES)
        _checks.choice("analysis_at", self.analysis_at, ANALYSIS_TIMES)
        _checks.choice("iteration", self.iteration, ITERATIONS)
        _checks.boolean("gaps", self.gaps)
        _checks.choice("uncertainty", self.uncertainty, UNCERTAINTIES)
        if self.is_own and self.is_uncertain:
            raise ArgumentValueError(
                f"uncertainty: expected 'none' for {self.model}, a model of your own, "
                f"got {self.uncertainty!r}"
            )
        unfit = self.is_own or self.is_uncertain or self.memory != "carried"
        if _checks.boolean("estimates_parameters", self.estimates_parameters) and unfit:
            raise ArgumentValueError(
                "estimates_parameters: expected False but for a gru or lstm with "
                "memory 'carried' and uncertainty 'none', got True"
            )
        if self.is_own and (self.n_iterations, self.iteration) != (1, "fixed_point"):
            raise ArgumentValueError(
                f"n_iterations, iteration: expected 1 and 'fixed_point' for "
                f"{self.model}, which is called once, got {self.n_iterations} and "
                f"{self.iteration!r}"
            )
        if self.memory == "carried" and not (
            self.is_own or self.model in CARRIED_NAMES
        ):
            raise ArgumentValueError(
                f"memory: expected 'window' for model {self.model!r}, got 'carried': "
                f"only {' and '.join(CARRIED_NAMES)} have a memory to carry"
            )
        if self.memory == "carried" and self.analysis_at == "first":
            raise ArgumentValueError(
                "analysis_at: expected 'last' with memory 'carried', got 'first'"
            )
        if self.memory == "carried" and self.iteration == "legacy":
            raise ArgumentValueError(
                "iteration: expected 'fixed_point' with memory 'carried', got 'legacy'"
            )
        unfit = unfit or operator.is_mirror_blind or not operator.has_mirror_signs
        if _checks.boolean("equivariant", self.equivariant) and unfit:
            raise ArgumentValueError(
                "equivariant: expected False but for a gru or lstm with memory "
                "'carried', uncertainty 'none' and an operator that shows the sign of "
                f"(x, y), got True for {operator.name!r}"
            )
        _checks.count("lag", self.lag, maximum=MAX_WINDOW)
        if self.lag and not self.can_smooth:
            raise ArgumentValueError(
                "lag: expected 0 for a model of your own, an uncertainty or an "
                f"analysis at the first observation, got {self.lag}"
            )

    @property
    def is_own(self) -> bool:
        """Whether the model is one of the user's own."""
        return is_own(self.model)

    @property
    def is_uncertain(self) -> bool:
        """Whether the encoder estimates a distribution."""
        return self.uncertainty != "none"

    @property
    def can_smooth(self) -> bool:
        """Whether a smoother can be trained for such an encoder."""
        return not (self.is_own or self.is_uncertain) and self.analysis_at == "last"

    def check_loss(self, loss: str) -> None:
        """Refuse a loss of distributions for an encoder without one, and vice versa.

        Raises
        ------
        ArgumentValueError
            If they do not fit.
        """
        if self.is_uncertain != (loss in DISTRIBUTION_LOSSES):
            expected = [n for n in LOSS_NAMES if self.is_uncertain == (
                n in DISTRIBUTION_LOSSES)]  # fmt: skip
            raise ArgumentValueError(
                f"loss: expected {' or '.join(map(repr, expected))} for uncertainty "
                f"{self.uncertainty!r}, got {loss!r}"
            )
        if self.lag and loss not in TRUE_LOSSES:
            raise ArgumentValueError(
                f"loss: expected {' or '.join(map(repr, TRUE_LOSSES))} for a smoother "
                f"with lag {self.lag}, got {loss!r}"
            )

    def to_dict(self, added: Collection[str] = ADDED) -> dict[str, Any]:
        """Return the settings as plain values, an operator of your own as a table.

        Settings of `added` are left out where they have their defaults, as in files
        that are older than these settings.
        """
        pairs = ((f, getattr(self, f.name)) for f in fields(self))
        values = {f.name: v for f, v in pairs if f.name not in added or v != f.default}
        return values | {"operator": as_operator(self.operator).to_table()}

    @property
    def observation_size(self) -> int:
        """Number of values of an observation in a window: obs_dim, and its time."""
        return as_operator(self.operator).obs_dim + self.gaps

    @property
    def folds(self) -> bool:
        """Whether the encoder uses folded coordinates: if h cannot see the sign."""
        return as_operator(self.operator).is_mirror_blind


@dataclass(frozen=True)
class OwnSettings:
    """Settings of a user's function that takes the place of an encoder in cycles.

    Attributes
    ----------
    operator : str or ObservationOperator
    window : int
        Number of observations in its window, L; the last is at analysis time.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a value is not as described.
    """

    operator: str | ObservationOperator
    window: int = 1
    n_iterations: ClassVar[int] = 1
    analysis_at: ClassVar[str] = "last"
    gaps: ClassVar[bool] = False

    @property
    def observation_size(self) -> int:
        """Number of values of an observation."""
        return as_operator(self.operator).obs_dim

    def __post_init__(self) -> None:
        as_operator(self.operator)
        _checks.count("window", self.window, minimum=1, maximum=MAX_WINDOW)


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run.

    Attributes
    ----------
    loss : str
        "mse", "distance" (both mirror-aware where the operator cannot see the sign),
        "var3d", or "var3d_window" for an analysis at the window's first observation;
        for an encoder with an uncertainty "crps" or "log_score".
    epochs : int
        Passes over the training samples; a cosine schedule ends with the last.
    batch_size : int
        Samples per step; in training in cycles the number of trajectories.
    learning_rate : float
        The largest learning rate, reached after the warm-up.
    warm_up : float
        Share of all steps in which the learning rate rises from zero.
    schedule : str
        Learning rate after the warm-up: "cosine" (to zero) or "constant".
    warm_restarts : int
        Number of restarts of the cosine, each from half the rate of the last one.
    averaging : float
        Decay per step of a moving average of the weights, which is validated and kept;
        0: no average.
    optimiser : str
        "adam", or "muon": orthogonal steps for the weight matrices, Adam for the rest.
    matrix_rate : float
        Learning rate of the orthogonal steps relative to Adam's.
    window_growth : float
        Share of all steps in which the window of "var3d_window" grows from one
        observation to all.
    clip : float
        Largest norm of the gradient of (loss / mean loss of the background).
    patience : int
        Training stops after so many epochs without a lower validation loss.
    mirror : bool
        Replace each sample of a dataset by its mirror image with probability 1/2; not
        for an operator of your own without `mirror_signs`.
    jitter : float
        Standard deviation of noise added to backgrounds and observations of a dataset,
        new in each step, in units of their `background_std` and `innovation_std`; 1 for
        a thousand samples, 0 for a million.
    seed : int
        Seed of the initial weights and the order of the samples; also a SeedSequence
        or a Generator, from which one is drawn.
    threads : int
        Number of torch's threads; the trained weights depend on it in the last bits.
    device : str
        Device of the training: "cpu", or "cuda" or "cuda:1" for a GPU, whose results do
        not repeat bit for bit. The trained encoder is on the CPU.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a value is not as described.
    """

    loss: str = "mse"
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1.2e-2
    warm_up: float = 0.05
    clip: float = 1.0
    patience: int = 10
    mirror: bool = True
    jitter: float = 0.0
    seed: int = 0
    threads: int = 1
    warm_restarts: int = 0
    averaging: float = 0.0
    optimiser: str = "adam"
    matrix_rate: float = 6.0
    window_growth: float = 0.3
    schedule: str = "cosine"
    device: str = "cpu"

    def __post_init__(self) -> None:
        _checks.choice("loss", self.loss, LOSS_NAMES)
        _checks.count("epochs", self.epochs, minimum=1, maximum=10**6)
        _checks.count("batch_size", self.batch_size, minimum=1, maximum=2**31)
        _checks.real("learning_rate", self.learning_rate, above=0.0, maximum=10.0)
        _checks.real("warm_up", self.warm_up, minimum=0.0, maximum=0.9)
        _checks.real("clip", self.clip, above=0.0)
        _checks.count("patience", self.patience, minimum=1)
        _checks.boolean("mirror", self.mirror)
        _checks.real("jitter", self.jitter, minimum=0.0, maximum=10.0)
        object.__setattr__(self, "seed", _checks.seed("seed", self.seed))
        _checks.count("threads", self.threads, minimum=1, maximum=_checks.MAX_THREADS)
        _checks.count("warm_restarts", self.warm_restarts, maximum=100)
        _checks.real("averaging", self.averaging, minimum=0.0, maximum=0.999999)
        _checks.choice("optimiser", self.optimiser, OPTIMISERS)
        _checks.choice("schedule", self.schedule, SCHEDULES)
        numbered = isinstance(self.device, str) and _NUMBERED_GPU.fullmatch(self.device)
        if not numbered:
            _checks.choice("device", self.device, DEVICES)
        _checks.real("matrix_rate", self.matrix_rate, above=0.0, maximum=1000.0)
        _checks.real("window_growth", self.window_growth, minimum=0.0, maximum=1.0)


@dataclass(frozen=True)
class ChainSettings:
    """Settings of training in cycles, from forecasts of the encoder's own analyses.

    Attributes
    ----------
    updates : int
        Updates of the weights per epoch.
    unroll : int
        Cycles per update, through which gradients pass.
    first_unroll : int
        Cycles per update at the start; the number grows linearly to `unroll`.
    growth : float
        Share of all updates in which it grows.
    through_model : float
        Share of all updates after which gradients pass through the forecasts as well
        as through the memory; 1: never.
    restarts : float
        Probability that a trajectory restarts, at each update.
    start_sigma : float
        Standard deviation of the error of the estimate at a restart.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a value is not as described.
    """

    updates: int = 250
    unroll: int = 16
    first_unroll: int = 4
    growth: float = 0.3
    through_model: float = 0.25
    restarts: float = 0.02
    start_sigma: float = 1.5

    def __post_init__(self) -> None:
        _checks.count("updates", self.updates, minimum=1, maximum=10**6)
        _checks.count("unroll", self.unroll, minimum=1, maximum=4096)
        _checks.count("first_unroll", self.first_unroll, minimum=1)
        if self.first_unroll > self.unroll:  # a default of either may be what is wrong
            raise ArgumentValueError(
                f"first_unroll: expected at most unroll = {self.unroll}, got "
                f"{self.first_unroll}"
            )
        for name in ("growth", "through_model", "restarts"):
            _checks.real(name, getattr(self, name), minimum=0.0, maximum=1.0)
        _checks.real("start_sigma", self.start_sigma, minimum=0.0)
