"""Settings of encoders and of their training; reading them costs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from l63fast import _checks
from l63fast._user_code import is_own
from l63fast.errors import ArgumentValueError
from l63fast.learning.own_model import model_name
from l63fast.observation import ObservationOperator, as_operator

# The names of the classes in `readers.ENCODERS`, `readers.CARRIED` and
# `losses.LOSSES`, for those who must know them without importing torch; a test holds
# the lists together.
ENCODER_NAMES: Final = ("mlp", "gru", "lstm")
CARRIED_NAMES: Final = ("gru", "lstm")
LOSS_NAMES: Final = ("mse", "distance", "var3d", "var3d_window")
MEMORIES: Final = ("window", "carried")
ANALYSIS_TIMES: Final = ("last", "first")
ITERATIONS: Final = ("fixed_point", "legacy")
OPTIMISERS: Final = ("adam", "muon")
SCHEDULES: Final = ("cosine", "constant")
DEVICES: Final = ("cpu", "cuda")
_NUMBERED_GPU: Final = re.compile(r"cuda:\d{1,3}")

MAX_HIDDEN: Final = 4096
MAX_WINDOW: Final = 4096
MAX_ITERATIONS: Final = 100


@dataclass(frozen=True)
class EncoderSettings:
    """What decides an encoder's architecture, and so the shapes of its weights.

    Attributes
    ----------
    model : str
        "mlp", "gru" or "lstm": how the window of observations is read; or a torch
        module of your own, a class or its name "package.module:Class", which is the
        whole encoder. The name is what is kept.
    operator : str or ObservationOperator
        Name of the observation operator, or one of your own, of which the encoder
        learns by examples: no program contains its h.
    window : int
        Observations in the window, L; the last is at analysis time.
    hidden : int
        Width of the head and of a GRU; the other readers are made as wide as gives
        them the parameters of that GRU. A model of your own is given it.
    n_iterations : int
        Iterations of the learned fixed point, K.
    memory : str
        "window": each analysis starts afresh and knows no more than its window.
        "carried": a GRU or LSTM keeps its hidden state from one cycle to the next;
        the window may then be 1.
    analysis_at : str
        The observation of the window at whose time the analysis is: "last", or
        "first" for an encoder that also sees what was observed later.
    iteration : str
        What the next iteration starts from: "fixed_point", from the background and the
        increment so far; or "legacy", from the analysis so far in the place of the
        background, which takes the same observations for new ones each time.

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
        if self.is_own and (self.n_iterations, self.iteration) != (1, "fixed_point"):
            raise ArgumentValueError(
                f"n_iterations: expected 1, and no other iteration, for {self.model}, "
                f"which is called once, got {self.n_iterations} ({self.iteration})"
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

    @property
    def is_own(self) -> bool:
        """Whether the model is one of the user's own."""
        return is_own(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, an operator of your own as a table."""
        operator = as_operator(self.operator).to_table()
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "operator": operator
        }

    @property
    def folds(self) -> bool:
        """Whether the encoder works in folded coordinates: where no sign is seen."""
        return as_operator(self.operator).is_mirror_blind


@dataclass(frozen=True)
class OwnSettings:
    """What a cycle must know of somebody's own function in place of an encoder.

    Attributes
    ----------
    operator : str or ObservationOperator
    window : int
        Observations in its window, L; the last is at analysis time.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a value is not as described.
    """

    operator: str | ObservationOperator
    window: int = 1
    n_iterations: ClassVar[int] = 1
    analysis_at: ClassVar[str] = "last"

    def __post_init__(self) -> None:
        as_operator(self.operator)
        _checks.count("window", self.window, minimum=1, maximum=MAX_WINDOW)


@dataclass(frozen=True)
class TrainSettings:
    """What decides a training run, besides the encoder and the data.

    Attributes
    ----------
    loss : str
        "mse", "distance" (both mirror-aware where the operator cannot see the sign),
        "var3d", or "var3d_window" for an analysis at the window's first observation.
    epochs : int
        Passes over the training samples; a cosine schedule ends with the last.
    batch_size : int
        Samples of a step; of training in cycles: trajectories that run side by side.
    learning_rate : float
        The largest one, reached after the warm-up.
    warm_up : float
        Share of all steps in which the learning rate grows from zero.
    schedule : str
        What follows: "cosine", to zero at the last step, or "constant".
    warm_restarts : int
        How often the cosine begins anew, from half of where it began before.
    averaging : float
        Decay per step of the moving average of the weights that is validated and
        kept; 0: the weights themselves.
    optimiser : str
        "adam", or "muon": orthogonal steps for the weight matrices, Adam for the rest.
    matrix_rate : float
        Learning rate of those steps relative to Adam's.
    window_growth : float
        Share of all steps in which the window of "var3d_window" grows from its first
        observation to the whole.
    clip : float
        Largest norm of the gradient of the loss relative to the background's.
    patience : int
        Epochs without a better validation loss after which training stops.
    mirror : bool
        Whether each sample of a fixed set is replaced by its mirror image with
        probability 1/2; not for an operator of your own without `mirror_signs`.
    jitter : float
        Standard deviation of noise on what is seen of a fixed set, drawn anew for each
        step, in units of the background's and the innovation's spread; a set of a
        thousand samples needs about 1, one of a million none.
    seed : int
        Of the initial weights and of the order of the samples; a SeedSequence or a
        Generator is taken too and gives one.
    threads : int
        Threads torch computes with; they are part of what decides the bits.
    device : str
        Where torch computes in training: "cpu", or "cuda" or "cuda:1" for a GPU, whose
        results are not repeatable to the bit. The encoder is on the CPU afterwards.

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
    """How an encoder learns in cycles: from forecasts of its own analyses.

    Attributes
    ----------
    updates : int
        Steps of the optimiser in an epoch.
    unroll : int
        Cycles between two of them, through which gradients pass.
    first_unroll : int
        The same at the start; it grows evenly to `unroll`.
    growth : float
        Share of all updates in which it grows.
    through_model : float
        Share of all updates after which gradients pass through the forecasts as well
        as through the memory; 1: never.
    restarts : float
        Probability that a trajectory begins anew, at each update.
    start_sigma : float
        Standard deviation of the estimate's error where it begins.

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
        _checks.count("first_unroll", self.first_unroll, minimum=1, maximum=self.unroll)
        for name in ("growth", "through_model", "restarts"):
            _checks.real(name, getattr(self, name), minimum=0.0, maximum=1.0)
        _checks.real("start_sigma", self.start_sigma, minimum=0.0)
