"""Neural encoders as methods of an experiment, trained on windows or in cycles."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from l63fast import _checks, _random
from l63fast._user_code import is_own, short_name
from l63fast.assimilation.agreement import Setup
from l63fast.assimilation.scheme import Analysis
from l63fast.assimilation.three_d_var import three_d_var, variational_cost
from l63fast.errors import ArgumentValueError
from l63fast.experiments.methods.classical import FreeForecast
from l63fast.experiments.protocols import Cycles, Estimates, Fitted, Problem, Windows
from l63fast.experiments.settings_file import Checked, limited, merged
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.own_model import OwnModel, model_name
from l63fast.learning.settings import (
    ADDED,
    CARRIED_NAMES,
    TRUE_LOSSES,
    ChainSettings,
    EncoderSettings,
    TrainSettings,
)
from l63fast.observation import ObservationOperator
from l63fast.storage import write_bytes
from l63fast.twin import TwinExperiment
from l63fast.verification import compare

if TYPE_CHECKING:
    from l63fast.learning.inference import EncoderFunction
    from l63fast.learning.training import TrainResult

HISTORY: Final = "history.csv"
_FRESH_WINDOWS: Final = 10  # windows in each trajectory that is simulated for training

_RECIPE: Final = Path(__file__).with_name("in_cycles.toml")


def recipe(protocol: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default settings of an encoder in this protocol."""
    is_uncertain = table.get("uncertainty", "none") != "none"
    own = {"training": {"loss": "crps"}} if is_uncertain else {}
    if protocol != Cycles.name:
        return own
    carried = table.get("model", TrainedEncoder.model) in CARRIED_NAMES
    memory = "carried" if carried else "window"
    common = tomllib.loads(_RECIPE.read_text("utf-8"))
    return merged({"memory": memory, "window": 1, **common}, own)


@dataclass(frozen=True)
class TrainedEncoder(Checked):
    """A neural encoder that is trained for the data and protocol of the experiment.

    In cycles with a `lag` a smoother is trained after it (`EncoderSettings.lag`), but
    not with an uncertainty, a variational loss or a model of your own.

    Attributes
    ----------
    model, hidden, n_iterations, memory, iteration
        As in `EncoderSettings`. A model of your own is given by name and imported when
        it is trained.
    window : int, optional
        Number of observations in the input, in cycles; windows have their own length.
    analysis_at : {"last", "first"}, optional
        As in `EncoderSettings`, for windows; by default as the loss needs it.
    uncertainty : {"none", "gaussian", "mixture"}
        As in `EncoderSettings`; the loss is then "crps" or "log_score".
    estimates_parameters : bool
        As in `EncoderSettings`, in cycles, for data with a `parameters_spread`.
    equivariant : bool
        As in `EncoderSettings`, in cycles.
    training : TrainSettings
    cycles : ChainSettings
        Settings of the training in cycles.
    fresh : int
        Number of trajectories that are simulated for each epoch in windows, instead of
        the training split; 0 uses the training split.
    source_sha256 : str, optional
        Hash of the source of a model of your own. The result records it, and another
        source is refused; a settings file does not need it.
    """

    scheme: ClassVar[str] = "encoder"
    role: ClassVar[str] = "method"
    model: str = "gru"
    window: int | None = None
    hidden: int = 64
    n_iterations: int = 1
    memory: str = "window"
    iteration: str = "fixed_point"
    analysis_at: str | None = None
    uncertainty: str = "none"
    estimates_parameters: bool = False
    equivariant: bool = False
    training: TrainSettings = field(default_factory=TrainSettings)
    cycles: ChainSettings = field(default_factory=ChainSettings)
    fresh: int = limited(0, _checks.count)
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", model_name(self.model))
        settings = self._settings("x", self.window or 1, self.analysis_at or "last")
        settings.check_loss(self.training.loss)

    @property
    def implied(self) -> tuple[str, ...]:
        """Names of the settings that tables leave out."""
        return tuple(name for name in ADDED if not getattr(self, name))

    def settings(
        self, operator: ObservationOperator | str, protocol: Windows | Cycles
    ) -> EncoderSettings:
        """Return the settings of the encoder for an operator and a protocol.

        Raises
        ------
        ArgumentValueError
            If a setting does not fit the protocol.
        """
        of_a_window = self.training.loss == "var3d_window"
        analysis_at = self.analysis_at or ("first" if of_a_window else "last")

        def refuse(refused: bool, name: str, expected: str) -> None:
            if refused:
                got = attrgetter(name)(self)
                raise ArgumentValueError(f"{name}: expected {expected}, got {got!r}")

        if isinstance(protocol, Cycles):
            window = self.window or 1
            single = "a loss of a single analysis in cycles"
            refuse(of_a_window, "training.loss", single)
            there = "'last' in cycles, where the next forecast starts"
            refuse(analysis_at == "first", "analysis_at", there)
        else:
            window = protocol.window
            none = f"none, or {window} as in the windows"
            refuse(self.window not in (None, window), "window", none)
            past = "'window' in windows, before which nothing was observed"
            refuse(self.memory == "carried", "memory", past)
            first = "'first' for the loss 'var3d_window'"
            refuse(of_a_window and analysis_at != "first", "analysis_at", first)
        settings = self._settings(operator, window, analysis_at)
        can_smooth = settings.can_smooth and self.training.loss in TRUE_LOSSES
        if isinstance(protocol, Cycles) and can_smooth:
            settings = dataclasses.replace(settings, lag=protocol.lag)
        return settings

    def _settings(
        self, operator: ObservationOperator | str, window: int, at: str
    ) -> EncoderSettings:
        own = {f.name for f in dataclasses.fields(EncoderSettings)} & set(vars(self))
        values: dict[str, Any] = {name: getattr(self, name) for name in own}
        values |= {"operator": operator, "window": window, "analysis_at": at}
        return EncoderSettings(**values)

    def imported(self) -> TrainedEncoder:
        """Return these settings after the import of a model of your own, with its hash.

        Raises
        ------
        ArgumentValueError
            If it cannot be imported, or its source does not have the given hash.
        """
        own = OwnModel.imported(self.model)
        source_sha256 = None if own is None else own.source_sha256
        if self.source_sha256 not in (None, source_sha256):
            raise ArgumentValueError(
                f"source_sha256: expected {source_sha256}, the hash of the present "
                f"source of {self.model}, got {self.source_sha256}"
            )
        return dataclasses.replace(self, source_sha256=source_sha256)

    def describe(self, protocol: Windows | Cycles) -> list[str]:
        """Return two lines about the model and its training."""
        settings, training = self.settings("x", protocol), self.training
        more = f", {settings.n_iterations} iterations" * (settings.n_iterations > 1)
        more += " (legacy)" * (self.iteration == "legacy")
        more += f", uncertainty {self.uncertainty}" * settings.is_uncertain
        n, size, unroll = training.epochs, training.batch_size, self.cycles.unroll
        what = f"at most {n} epochs, batch {size}"
        if isinstance(protocol, Cycles):
            n *= self.cycles.updates
            what = f"{n} updates of {size} trajectories, {unroll} cycles each"
        return [
            f"model       {self.model}, {self.hidden} hidden, memory {self.memory}, "
            f"window of {settings.window}{more}",
            f"training    loss {training.loss}, {what}, learning rate "
            f"{training.learning_rate:g}, seed {training.seed}",
        ]

    def fit(self, problem: Problem) -> Fitted:
        """Return the trained encoder of the best epoch."""
        from l63fast.learning.inference import EncoderFunction
        from l63fast.learning.programs import require_scripts

        require_scripts()  # otherwise the export would fail after the training
        settings = self.settings(problem.twin.operator, problem.protocol)
        in_windows, work = isinstance(problem.protocol, Windows), problem.work
        train = self._trained_on_windows if in_windows else self._trained_in_cycles
        trained = train(
            settings,
            problem,
            directory=work.folder,
            resume=work.resume,
            report=lambda row: work.epoch(row, self.training.epochs),
            progress=work.say,
        )
        best, n_epochs = trained.best_epoch, len(trained.history)
        work.say(f"trained     {n_epochs} epochs, the best was {best}")
        updates = None if in_windows else n_epochs * self.cycles.updates
        training: dict[str, Any] = {"epochs": n_epochs, "best_epoch": best}
        training["updates"] = updates
        if trained.smoother:
            training["smoother"] = min(trained.smoother, key=itemgetter("val_loss"))
        report = self._fixed_point(trained, problem, settings)
        return dataclasses.replace(
            self.as_trained(EncoderFunction.of(trained.encoder), problem),
            facts={"training": training, **report},
            judge=_cost if in_windows and self.training.loss == "var3d" else None,
            export=lambda folder: self._exported(trained, folder, problem),
        )

    def as_trained(self, function: EncoderFunction, problem: Problem) -> Fitted:
        """Return an encoder that is already trained, ready to run."""
        from l63fast.learning.inference import NeuralAnalysis

        settings = self.settings(problem.twin.operator, problem.protocol)
        label = self._label(settings, problem.protocol)
        if settings.analysis_at == "first":
            scheme = _AtStart(function, problem, settings.window)
            return Fitted(scheme, label, start="first")
        return Fitted(NeuralAnalysis.for_twin(problem.twin, encoder=function), label)

    def _label(self, settings: EncoderSettings, protocol: Windows | Cycles) -> str:
        memory = "carried" if self.memory == "carried" else f"L={settings.window}"
        usual = "mse" if isinstance(protocol, Windows) else "distance"
        usual = "crps" if settings.is_uncertain else usual
        loss, n = self.training.loss, self.n_iterations
        more = [f"K={n}" * (n != 1), "legacy" * (self.iteration == "legacy")]
        more += [self.uncertainty * settings.is_uncertain]
        more += ["with parameters" * self.estimates_parameters]
        more += ["equivariant" * self.equivariant]
        name = short_name(self.model) if is_own(self.model) else self.model.upper()
        parts = [name, memory, *more, loss * (loss != usual)]
        return ", ".join(filter(None, parts))

    def _trained_in_cycles(
        self, settings: EncoderSettings, problem: Problem, **work: Any
    ) -> TrainResult:
        from l63fast.learning.cycled_training import train_cycled

        twin, B = problem.twin, problem.forecast_covariance
        return train_cycled(settings, self.training, self.cycles, twin, B=B, **work)

    def _trained_on_windows(
        self, settings: EncoderSettings, problem: Problem, **work: Any
    ) -> TrainResult:
        from l63fast.learning.dynamics import DifferentiableForecast
        from l63fast.learning.training import train

        at, model = settings.analysis_at, None
        if self.training.loss == "var3d_window":
            steps = problem.model_steps(problem.twin.settings.steps_per_cycle)
            model = DifferentiableForecast(steps, **problem.model)
        samples: Any = (
            _simulation(problem, self.fresh, self.training.seed, settings)
            if self.fresh
            else problem.samples("train", analysis_at=at)
        )
        validation = problem.samples("val", analysis_at=at)
        work |= {"B": problem.window_covariance, "R": problem.twin.R, "model": model}
        return train(settings, self.training, samples, validation, **work)

    def _fixed_point(
        self, trained: TrainResult, problem: Problem, settings: EncoderSettings
    ) -> dict[str, Any]:
        """Return the convergence of the iterations on the validation split, if any."""
        if settings.n_iterations == 1 or not isinstance(problem.protocol, Windows):
            return {}
        from l63fast.learning.fixed_point import fixed_point_report

        samples = problem.samples("val", analysis_at=settings.analysis_at)
        return {"fixed_point": asdict(fixed_point_report(trained.encoder, samples))}

    def _exported(self, trained: TrainResult, folder: Path, problem: Problem) -> None:
        """Write the model with its model card, and the history of the training."""
        import pandas as pd

        from l63fast.learning.card import CARD, WRITTEN
        from l63fast.learning.export import save_model

        twin, protocol, training = problem.twin, problem.protocol, self.training
        splits, background, more = ["val"], "its own forecasts", {}
        if isinstance(protocol, Windows):
            splits, background = ["train", "val"], protocol.background
            more = {"background_covariance": problem.backgrounds.B.tolist()}
        made_for: dict[str, Any] = {
            "data": {name: twin.hashes[name] for name in splits},
            "sigma": twin.settings.sigma,
            "background": background,
            **{"loss": training.loss, "seed": training.seed, **more},
        }
        if not twin.model.is_perfect:
            made_for["model"] = twin.model.describe(twin.settings)
        if gaps := twin.settings.gaps:
            made_for["gaps"] = gaps
        card = save_model(trained.encoder, folder, made_for)
        missing = [kind for kind in WRITTEN if kind not in card["files"]]
        if missing:
            problem.work.say(f"not written {', '.join(missing)}; {CARD} says why")
        rows = pd.DataFrame(trained.history)
        text = rows.to_csv(index=False, na_rep="nan", lineterminator="\n")
        write_bytes(folder / HISTORY, text.encode())


class _AtStart(FreeForecast):
    """An encoder that analyses a window's start, followed by a forecast to its end."""

    def __init__(
        self, function: EncoderFunction, problem: Problem, window: int
    ) -> None:
        super().__init__(problem)
        self.window, self.function, self.made_for = window, function, function.made_for
        n_steps = (window - 1) * problem.twin.settings.steps_per_cycle
        self.n_steps = problem.model_steps(n_steps)
        self.reads_gaps, self.dt = function.settings.gaps, problem.model["dt"]

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the state at the end of the window, given all of its observations."""
        analysed = self.function(state, np.ascontiguousarray(obs_window[:, ::-1]))
        n_steps = self.n_steps
        if self.reads_gaps:  # all windows of a call have the same times
            n_steps = round(float(obs_window[0, 1:, -1].sum()) / self.dt)
            obs_window = obs_window[..., :-1]
        end, background = (self.forecast(s, n_steps) for s in (analysed, state))
        return end, self.described(end, background, obs_window, n_iter=1)


def _simulation(
    problem: Problem, n_trajectories: int, seed: int, settings: EncoderSettings
) -> Callable[[int], AssimilationDataset]:
    """Return a function that simulates the samples of an epoch (from 0).

    They are the training split of a twin experiment with the same settings, except for
    the length of the trajectories and the seed, which depends on `seed` and the epoch,
    and given times of observation, which are drawn from the given intervals.
    Backgrounds are drawn in the same way as those of the problem.
    """
    data, window = problem.twin.settings, settings.window
    steps, n_obs = data.steps_per_cycle, window + _FRESH_WINDOWS - 1
    sizes: dict[str, Any] = {"n_train": n_trajectories, "n_val": 1, "n_test": 1}
    if not data.is_irregular:
        sizes |= {"n_steps": n_obs * steps, "save_every": steps}
        data = dataclasses.replace(data, **sizes)

    # The mean interval of a few drawn times is not that of the law.
    backgrounds = problem.backgrounds
    if data.is_irregular:
        any_interval = dataclasses.replace(backgrounds.made_for, interval=None)
        backgrounds = dataclasses.replace(backgrounds, made_for=any_interval)

    def simulated(epoch: int) -> AssimilationDataset:
        draw = _random.uniforms(seed, "training", "train", 1, (1,), first=epoch, draw=0)
        own: dict[str, Any] = {"seed": int(draw[0, 0] * 2.0**52)}
        if data.is_irregular:
            drawn_steps = data.drawn_cycle_steps(n_obs, seed=seed, draw=epoch)
            own |= _irregular(drawn_steps.cumsum()) | sizes
        twin = TwinExperiment.generate(dataclasses.replace(data, **own))
        twin = twin.with_model(problem.twin.model)
        samples = AssimilationDataset.from_twin(
            twin,
            "train",
            backgrounds,
            window=window,
            analysis_at=settings.analysis_at,
            gaps=bool(data.gaps),
        )
        return dataclasses.replace(samples, made_for=Setup.of(problem.twin))

    return simulated


def _irregular(steps: np.ndarray) -> dict[str, Any]:
    """Return settings of a twin experiment with these steps of observation."""
    given = {"observation_steps": steps, "n_steps": int(steps[-1]), "save_every": 1}
    return {**given, "interval": None, "steps_per_cycle": None}


def _cost(
    problem: Problem, estimates: Estimates, scores: dict[str, Any]
) -> dict[str, Any]:
    """Return the ratio of the mean cost J to that of 3D-Var on the same windows.

    1 is the best value that an encoder with the loss `var3d` can reach.
    """
    twin, B = problem.twin, problem.window_covariance
    given = (estimates.background, estimates.observations, twin.operator)
    best = three_d_var(*given, B=B, R=twin.R).state
    ours, least = (
        variational_cost(states, *given, B=B, R=twin.R).mean(axis=1)
        for states in (estimates.analysis, best)
    )
    ratio = compare(ours, least, measure="rmse_a")  # of means over trajectories
    means = {"analysis": float(ours.mean()), "3dvar": float(least.mean())}
    return {"cost": {**means, "ratio": ratio.ratio, "ci95": ratio.ratio_ci95}}
