"""The encoder: a network that corrects a background by a learned fixed point.

3D-Var solves x_a = x_b + K (y - h(x_a) + H (x_a - x_b)): the analysis stands on both
sides, so it is a fixed point, found by iterating from x_a = x_b. An encoder iterates in
the same way, with a network g in the place of the formula. In each of its K iterations
g sees what the last increment has left of the innovation, y - h(x_b + delta_k). The
background stays an input of g: an iteration that sees the latest state alone and
contracts would keep a part of the background's error.
"""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l63fast import _checks, _random
from l63fast.assimilation.agreement import Setup
from l63fast.errors import ArgumentValueError
from l63fast.learning.normaliser import Normaliser, fold, nearer_image, unfold
from l63fast.learning.own_model import OwnModel
from l63fast.learning.own_operator import observing
from l63fast.learning.pinned import pinned
from l63fast.learning.readers import CARRIED, ENCODERS, Reader, Sizes
from l63fast.learning.settings import EncoderSettings
from l63fast.learning.smoother import Smoother
from l63fast.learning.uncertainty import mixture_of, n_outputs, places
from l63fast.observation import as_operator

_LOG_UNIT = 0.1  # of estimated log(p / p_0)


class Head(nn.Module):
    """The network g, which gives the next increment from the current one.

    All inputs and the output are scaled to order one. Background and context do not
    change during the iterations, so their part of the first layer is computed once, by
    `static_features`.
    """

    def __init__(self, n_innovations: int, context_size: int, hidden: int):
        super().__init__()
        # The names of the layers are keys of the weights in model files.
        self.fixed = nn.Linear(3 + context_size, hidden)
        self.moving = nn.Linear(3 + n_innovations, hidden, bias=False)
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, 3)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def static_features(self, background: Tensor, context: Tensor) -> Tensor:
        """Return the part (n, hidden) of the first layer that all iterations share."""
        static: Tensor = self.fixed(torch.cat([background, context], 1))
        return static

    def forward(self, static: Tensor, increment: Tensor, innovation: Tensor) -> Tensor:
        """Return the next increment (n, 3)."""
        iterated = self.moving(torch.cat([increment, innovation], 1))
        first = nn.functional.silu(static + iterated)
        next_increment: Tensor = self.outer(nn.functional.silu(self.inner(first)))
        return next_increment


class UncertainHead(Head):
    """A head with further outputs, from which a distribution is made.

    They are zero before the training.
    """

    def __init__(self, n_innovations: int, context_size: int, hidden: int, size: int):
        super().__init__(n_innovations, context_size, hidden)
        self.uncertainty = nn.Linear(hidden, size)
        nn.init.zeros_(self.uncertainty.weight)
        nn.init.zeros_(self.uncertainty.bias)

    def both(
        self, static: Tensor, increment: Tensor, innovation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next increment (n, 3) and the further outputs (n, size)."""
        iterated = self.moving(torch.cat([increment, innovation], 1))
        first = nn.functional.silu(static + iterated)
        features = nn.functional.silu(self.inner(first))
        return self.outer(features), self.uncertainty(features)


class Encoder(nn.Module):
    """Corrects a background with a window of observations.

    The analysis is x_b + delta_K, where delta_0 = 0 and
    delta_{k+1} = g(x_b, delta_k, window, y - h(x_b + delta_k)); y is the last
    observation of the window. States and observations are in physical units; the
    scales are buffers. With a carried memory one step of the recurrent cell reads the
    window together with x_b and y - h(x_b). The iteration "legacy" is
    x_{k+1} = x_k + g(x_k, 0, window, y - h(x_k)): each analysis is the next background,
    so the same observations are assimilated K times.

    With `gaps` a missing value is 0 in the network's inputs, as is its innovation, and
    the inputs of each observation also hold the time since the previous one, in units
    of the mean interval, and for each value 1 where it is present, otherwise 0.

    Where the operator cannot tell a state from its mirror image, background and
    increments are in the coordinates of `fold`, and the analysis is the mirror image
    that is nearer to x_b. In x and y themselves this analysis jumps where x_b is
    equally far from both images; a network would give a state between the two.

    An equivariant encoder sees the mirror image of background, observations and memory
    where x_b < 0, and returns that of what it finds. So it has to learn one wing of the
    attractor only. In the mirror image of a memory the second half of each part has the
    other sign.

    Parameters
    ----------
    settings : EncoderSettings
    normaliser : Normaliser
        Fitted on the training split.
    own : OwnModel, optional
        Makes the module of an `OwnEncoder`.

    Attributes
    ----------
    made_for : Setup
        The setup of the training data, as far as it is known.
    """

    state_mean: Tensor
    state_std: Tensor
    obs_mean: Tensor
    obs_std: Tensor
    increment_std: Tensor
    innovation_std: Tensor
    components: Tensor
    powers: Tensor
    obs_signs: Tensor

    @pinned()
    def __init__(
        self,
        settings: EncoderSettings,
        normaliser: Normaliser,
        own: OwnModel | None = None,
    ):
        super().__init__()
        operator = as_operator(settings.operator)
        self.settings, self.own = settings, own
        self.data_hash = normaliser.data_hash
        self.made_for = Setup(operator=operator)
        self.n_iterations = settings.n_iterations
        self.hidden_size = self._build(settings, own)
        if settings.estimates_parameters:
            self.of_parameters = nn.Linear(self.hidden_size, 6)
            nn.init.zeros_(self.of_parameters.weight)
            nn.init.zeros_(self.of_parameters.bias)
        self.carries = settings.memory == "carried"
        self.feeds_back = settings.iteration == "legacy"
        self.folds, self.equivariant = settings.folds, settings.equivariant
        self.gaps, self.obs_dim = settings.gaps, operator.obs_dim
        for name in _SCALES:
            value = np.asarray(getattr(normaliser, name), dtype=np.float32)
            self.register_buffer(name, torch.from_numpy(value.copy()))
        # The operator as data; it follows from the settings and is not a weight.
        components = torch.tensor(operator.components, dtype=torch.long)
        self.register_buffer("components", components, persistent=False)
        powers = torch.tensor(operator.powers, dtype=torch.long)
        self.register_buffer("powers", powers, persistent=False)
        self.largest_power = max(operator.powers, default=1)
        self.reads_slope = _reads_slope(settings)
        self.n_parts = 2 if settings.model == "lstm" else 1  # of a hidden state
        # Signs under the mirror image; the time since an observation keeps its own.
        signs = operator.mirror_signs if self.equivariant else (1,) * self.obs_dim
        seen = torch.tensor([*signs, *(1,) * self.gaps], dtype=torch.float32)
        self.register_buffer("obs_signs", seen, persistent=False)
        self.smoother = self._smoother() if settings.lag else None

    def _smoother(self) -> Smoother:
        n_seen = (len(self.obs_mean) + self.gaps * self.obs_dim) * self.settings.window
        n_innovations = self.obs_dim * (2 if self.reads_slope else 1)
        n_inputs = 3 + n_innovations + n_seen + self.hidden_size
        return Smoother(n_inputs, self.settings.hidden)

    def _build(self, settings: EncoderSettings, own: OwnModel | None) -> int:
        """Create the trainable layers, and return the size of the hidden state."""
        self.reader, self.head = _parts(settings, matched_width(settings))
        return self.reader.hidden_size

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the analysis and the next hidden state.

        Parameters
        ----------
        background : (n, 3)
        obs_window : (n, L, obs_dim)
        hidden : (n, hidden_size)
            From `initial_hidden`, or from the last call.
        """
        where, background, obs_window, hidden = self.turned(
            background, obs_window, hidden
        )
        start = self.coordinates(background)
        static, later = self.read(start, obs_window, hidden)
        increment = torch.zeros_like(start)
        for k in range(self.n_iterations):
            if self.feeds_back and k > 0:
                start, increment = start + increment, torch.zeros_like(start)
                static, _ = self.read(start, obs_window, hidden)
            increment = self.correct(start, obs_window, static, increment)
        analysis = self.state(start + increment, background)
        return self.mirrored(analysis, where), self.mirrored_memory(later, where)

    def turned(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return where x_b < 0 (n, 1), and the inputs, there of the mirror image."""
        where = background[:, :1] < 0.0
        if self.equivariant:
            image = obs_window * self.obs_signs
            obs_window = torch.where(where[:, None], image, obs_window)
        background = self.mirrored(background, where)
        return where, background, obs_window, self.mirrored_memory(hidden, where)

    def mirrored(self, states: Tensor, where: Tensor) -> Tensor:
        """Return states (n, 3), of an equivariant encoder mirrored where (n, 1)."""
        if not self.equivariant:
            return states
        image = torch.cat([-states[:, :2], states[:, 2:]], 1)
        return torch.where(where, image, states)

    def mirrored_memory(self, hidden: Tensor, where: Tensor) -> Tensor:
        """Return memories (n, hidden_size), mirrored likewise."""
        if not self.equivariant:
            return hidden
        parts = hidden.reshape(-1, self.n_parts, self.hidden_size // self.n_parts)
        kept = parts.shape[2] - parts.shape[2] // 2
        image = torch.cat([parts[:, :, :kept], -parts[:, :, kept:]], 2)
        return torch.where(where, image.flatten(1), hidden)

    def coordinates(self, states: Tensor) -> Tensor:
        """Return states (n, 3) in the coordinates that the encoder works in."""
        return fold(states) if self.folds else states

    def state(self, coordinates: Tensor, background: Tensor) -> Tensor:
        """Return the state (n, 3) with these coordinates that is nearer to x_b."""
        if not self.folds:
            return coordinates
        return nearer_image(unfold(coordinates), background)

    def read(
        self, start: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the static features of the head, and the next hidden state."""
        seen, scaled, innovation = self.inputs(start, obs_window)
        if self.carries:
            seen = torch.cat([seen.flatten(1), scaled, innovation], 1)
        context, hidden = self.reader(seen, hidden)
        return self.head.static_features(scaled, context), hidden

    def inputs(
        self, start: Tensor, obs_window: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return window, background and innovation, scaled to order one."""
        seen = (obs_window - self.obs_mean) / self.obs_std
        if self.gaps:
            missing = seen[:, :, : self.obs_dim].isnan()
            present = (~missing).to(seen.dtype)
            seen = torch.cat([seen.nan_to_num(0.0), present], 2)
        scaled = (start - self.state_mean) / self.state_std
        return seen, scaled, self.innovation(start, obs_window)

    def correct(
        self, start: Tensor, obs_window: Tensor, static: Tensor, increment: Tensor
    ) -> Tensor:
        """Return delta_{k+1} for delta_k, both (n, 3) in the encoder's coordinates."""
        scaled = self.innovation(start + increment, obs_window)
        output: Tensor = self.head(static, increment / self.increment_std, scaled)
        return output * self.increment_std

    def innovation(self, coordinates: Tensor, obs_window: Tensor) -> Tensor:
        """Return the scaled innovation (n, obs_dim), or (n, 2 obs_dim) with its slope.

        With d = (y - h(x)) / c, c its scale in the training data, this is d. If h is
        nonlinear and the memory is carried, the worth of an innovation depends on the
        slope h'(x). With s the scale of increments and a = h'(x) s / c, the values are
        then d / sqrt(1 + a^2), the innovation divided by its own standard deviation,
        and a d / (1 + a^2), the increment of a scalar Kalman filter in units of s. Both
        stay of order one for every slope; the product d h'(x) does not, and made
        training in cycles unstable. In folded coordinates a = |h'(x)| s / c.
        """
        states = unfold(coordinates) if self.folds else coordinates
        observed = obs_window[:, -1, : self.obs_dim]
        scaled = (observed - self.observe(states)) / self.innovation_std
        if self.gaps:
            scaled = torch.where(observed.isnan(), torch.zeros_like(scaled), scaled)
        if not self.reads_slope:
            return scaled
        s = self.increment_std.index_select(0, self.components)
        a = self.slope(states) * s / self.innovation_std
        if self.folds:
            a = a.abs()
        spread = (1.0 + a.square()).sqrt()
        normalised = scaled / spread
        return torch.cat([normalised, a / spread * normalised], 1)

    def slope(self, states: Tensor) -> Tensor:
        """Return h'(states), (n, obs_dim)."""
        observed = states.index_select(1, self.components)
        value = self.powers.to(states.dtype) * torch.ones_like(observed)
        for power in range(2, self.largest_power + 1):
            value = torch.where(self.powers >= power, value * observed, value)
        return value

    def observe(self, states: Tensor) -> Tensor:
        """Return h(states), (n, obs_dim) for states (n, 3)."""
        observed = states.index_select(1, self.components)
        value = observed
        for power in range(2, self.largest_power + 1):
            value = torch.where(self.powers >= power, value * observed, value)
        return value

    @torch.jit.unused
    def smooth(
        self,
        backgrounds: Tensor,
        obs_windows: Tensor,
        hidden: Tensor,
        analyses: Tensor,
    ) -> Tensor:
        """Return the states of some cycles given the observations of all of them.

        Parameters
        ----------
        backgrounds, analyses : (n_cycles, n, 3)
        obs_windows : (n_cycles, n, L, obs_dim)
        hidden : (n_cycles, n, hidden_size)
            The hidden state after each analysis.

        Returns
        -------
        (n_cycles, n, 3)
        """
        assert self.smoother is not None
        shape = backgrounds.shape[:2]
        last = analyses.flatten(0, 1)
        start, analysed = map(self.coordinates, (backgrounds.flatten(0, 1), last))
        window, *scaled = self.inputs(start, obs_windows.flatten(0, 1))
        seen = torch.cat([*scaled, window.flatten(1), hidden.flatten(0, 1)], 1)
        increments = (analysed - start) / self.increment_std
        corrections: Tensor = self.smoother(
            seen.view(*shape, -1), increments.view(*shape, 3)
        )
        smoothed = analysed + corrections.flatten(0, 1) * self.increment_std
        return self.state(smoothed, last).view(*shape, 3)

    @torch.jit.export
    def initial_hidden(self, n: int) -> Tensor:
        """Return the hidden state (n, hidden_size) for the first analysis: zeros."""
        like = self.state_mean
        return torch.zeros(n, self.hidden_size, dtype=like.dtype, device=like.device)

    @torch.jit.unused
    def log_parameters(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return log(p / p_0) (n, 3) as estimated in a memory, and its deviations.

        p are sigma, rho and beta, and p_0 the nominal ones of the data.
        """
        mean, spread = self.of_parameters(hidden).chunk(2, 1)
        return _LOG_UNIT * mean, _LOG_UNIT * spread.clamp(-6.0, 2.0).exp()

    @torch.jit.unused
    def iterates(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor, n: int
    ) -> Tensor:
        """Return the iterates x_0 = x_b to x_n, (n + 1, n_samples, 3)."""
        states = [background]
        where, background, obs_window, hidden = self.turned(
            background, obs_window, hidden
        )
        start = self.coordinates(background)
        static, _ = self.read(start, obs_window, hidden)
        increment = torch.zeros_like(start)
        for k in range(n):
            if self.feeds_back and k:
                start, increment = start + increment, torch.zeros_like(start)
                static, _ = self.read(start, obs_window, hidden)
            increment = self.correct(start, obs_window, static, increment)
            state = self.state(start + increment, background)
            states.append(self.mirrored(state, where))
        return torch.stack(states)


_SCALES = (
    "state_mean",
    "state_std",
    "obs_mean",
    "obs_std",
    "increment_std",
    "innovation_std",
)


class EncoderOfOwnOperator(Encoder):
    """An encoder with an observation operator h of the user's own.

    It is not an input how steep h is, also where h is nonlinear. It cannot be exported
    as a program (TorchScript, pt2, ONNX), because a program cannot contain that h.
    """

    def __init__(self, settings: EncoderSettings, normaliser: Normaliser):
        super().__init__(settings, normaliser)
        self._h = observing(as_operator(settings.operator))

    def observe(self, states: Tensor) -> Tensor:
        """Return h(states), (n, obs_dim) for states (n, 3)."""
        return self._h(states)


class UncertainEncoder(Encoder):
    """An encoder that also returns a distribution around its analysis.

    Its third output is a mixture of normals (n, k, 13), see `uncertainty`. The analysis
    is the mean of the mixture, or of the first component if the encoder folds.
    """

    places: Tensor

    def _build(self, settings: EncoderSettings, own: OwnModel | None) -> int:
        """Create the trainable layers, and return the size of the hidden state."""
        self.register_buffer("places", places(), persistent=False)
        return super()._build(settings, own)

    def forward(  # type: ignore[override]
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return analysis, next hidden state, and the mixture of normals."""
        start = self.coordinates(background)
        static, later = self.read(start, obs_window, hidden)
        increment, outputs = torch.zeros_like(start), start
        for k in range(self.n_iterations):
            if self.feeds_back and k > 0:
                start, increment = start + increment, torch.zeros_like(start)
                static, _ = self.read(start, obs_window, hidden)
            scaled = self.innovation(start + increment, obs_window)
            moved = increment / self.increment_std
            moved, outputs = self.head.both(static, moved, scaled)  # type: ignore[operator]
            increment = moved * self.increment_std
        analysis = self.state(start + increment, background)
        return analysis, later, self.mixture(analysis, outputs)

    def mixture(self, analysis: Tensor, outputs: Tensor) -> Tensor:
        """Return the mixture (n, k, 13) of an analysis and outputs of the head."""
        scale = self.increment_std
        return mixture_of(analysis, outputs, scale, self.places, self.folds)


class UncertainEncoderOfOwnOperator(UncertainEncoder, EncoderOfOwnOperator):
    """An encoder with both."""


class OwnEncoder(Encoder):
    """A torch module of the user's own in the place of reader, head and iterations.

    The module is made by ``make(operator, window, hidden)``. It takes and returns the
    same tensors as `forward` of an `Encoder`, in physical units. Its attribute
    `hidden_size` (0 if it has none) is the size of its hidden state.
    """

    def _build(self, settings: EncoderSettings, own: OwnModel | None) -> int:
        if own is None:
            raise ArgumentValueError(f"own: expected {settings.model}, got None")
        given = as_operator(settings.operator), settings.window, settings.hidden
        try:
            module = own.make(*given)
        except Exception as error:  # whatever the user's code raises
            made = "(operator, window, hidden) to make it"
            raise self._refused(made, repr(error)) from error
        if not isinstance(module, nn.Module):
            raise self._refused("a torch module", type(module).__name__)
        self.module = module
        size: Any = getattr(module, "hidden_size", 0)
        if type(size) is not int or size < 0:
            raise self._refused("hidden_size to be a number of 0 or more", repr(size))
        if (memory := "carried" if size else "window") != settings.memory:
            expected = f"memory {memory!r}, as its hidden_size is {size}"
            raise self._refused(expected, repr(settings.memory))
        return size

    def check(self) -> None:
        """Call a copy of the module twice and check what it returns.

        Raises
        ------
        ArgumentValueError
            If shapes or dtypes are wrong, if no parameter takes part in the analysis,
            or if the two analyses differ.
        """
        module, window = copy.deepcopy(self.module), self.settings.window
        background, hidden = self.state_mean.repeat(2, 1), self.initial_hidden(2)
        given = background, self.obs_mean.repeat(2, window, 1), hidden
        shapes = "forward({}, {}, {})".format(*(tuple(part.shape) for part in given))
        try:
            outputs = [module(*(part.clone() for part in given)) for _ in range(2)]
        except Exception as error:  # whatever the user's code raises
            raise self._refused(f"{shapes} to return", repr(error)) from error
        kinds, wanted = map(_described, (outputs[0], (background, hidden)))
        if kinds != wanted:
            raise self._refused(f"analysis and hidden {wanted} from {shapes}", kinds)
        if not outputs[0][0].requires_grad:
            raise self._refused(
                "an analysis that depends on its parameters", "one that does not"
            )
        if not all(bool(part.isfinite().all()) for part in outputs[0]):
            raise self._refused("a finite analysis and hidden state", "NaN or infinity")
        if not all(map(torch.equal, *outputs)):
            raise self._refused(
                "the same analysis twice", "two different ones, as with dropout"
            )

    def _refused(self, expected: str, got: str) -> ArgumentValueError:
        name = self.settings.model
        return ArgumentValueError(f"model: {name}: expected {expected}, got {got}")

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the analysis and the next hidden state, as the module gives them."""
        analysis, later = self.module(background, obs_window, hidden)
        return analysis, later


def _described(output: Any) -> str:
    """Return shapes and dtypes of a tuple of tensors; of anything else its type."""
    if isinstance(output, Tensor):
        return f"{tuple(output.shape)} of {output.dtype}"
    if not isinstance(output, tuple):
        return type(output).__name__
    return f"({', '.join(map(_described, output))})"


def build_encoder(
    settings: EncoderSettings,
    normaliser: Normaliser,
    *,
    seed: _checks.Seed = 0,
    own: OwnModel | None = None,
) -> Encoder:
    """Return an untrained encoder whose weights depend on the seed alone.

    `own` makes the module where the settings name a model of the user's own.

    Raises
    ------
    ArgumentValueError
        If that module cannot be made, or does not return what an encoder returns.
    """
    seed = _checks.seed("seed", seed)
    key = int(_random.generator(seed, "training").integers(2**62))
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the generators of the GPUs.
        torch.default_generator.manual_seed(key)
        if not settings.is_own:
            by_own_h = as_operator(settings.operator).is_own
            kind = EncoderOfOwnOperator if by_own_h else Encoder
            if settings.is_uncertain:
                kind = UncertainEncoderOfOwnOperator if by_own_h else UncertainEncoder
            return kind(settings, normaliser)
        encoder = OwnEncoder(settings, normaliser, own)
        encoder.check()
        return encoder


def n_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def matched_width(settings: EncoderSettings) -> int:
    """Return the reader's width whose parameter count is nearest to the GRU's.

    Architectures of equal size can be compared. The outputs for an uncertainty are not
    counted, so that the width does not depend on it.
    """
    settings = replace(settings, uncertainty="none")
    if settings.model == "gru":
        return settings.hidden

    def count(model: str, width: int) -> int:
        with torch.device("meta"):
            reader, head = _parts(settings, width, model)
        return n_parameters(reader) + n_parameters(head)

    budget = count("gru", settings.hidden)
    return _nearest(lambda width: count(settings.model, width), budget)


def _parts(
    settings: EncoderSettings, width: int, model: str | None = None
) -> tuple[Reader, Head]:
    operator = as_operator(settings.operator)
    obs_dim = operator.obs_dim
    n_innovations = 2 * obs_dim if _reads_slope(settings) else obs_dim
    kinds = CARRIED if settings.memory == "carried" else ENCODERS
    kind = kinds[model or settings.model]
    n_seen = settings.observation_size + settings.gaps * obs_dim
    sizes = Sizes(n_seen, settings.window, width, settings.hidden, n_innovations)
    reader = kind(sizes)
    widths = n_innovations, reader.context_size, settings.hidden
    if settings.is_uncertain:
        return reader, UncertainHead(*widths, n_outputs(settings))
    return reader, Head(*widths)


def _reads_slope(settings: EncoderSettings) -> bool:
    """Return whether the slope of h is an input: for powers, with a carried memory."""
    is_nonlinear = max(as_operator(settings.operator).powers, default=1) > 1
    return is_nonlinear and settings.memory == "carried"


def _nearest(count: Callable[[int], int], budget: int) -> int:
    """Return the width whose count is nearest to the budget, by bisection."""
    high = 1
    while count(high) < budget:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    if low == 0 or count(high) - budget < budget - count(low):
        return high
    return low
