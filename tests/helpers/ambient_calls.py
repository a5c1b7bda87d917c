"""Public calls, settings of the process that must not matter, and what calls may move.

`python tests/helpers/ambient_calls.py FOLDER` prints, as JSON, the hashes of calls in
a process that flushes denormal numbers from the beginning, and what they moved.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import locale
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch

import l63fast
from experiment_samples import tiny_cycled, tiny_windows
from l63fast import plotting, verification
from l63fast._arithmetic import is_flushing
from l63fast.experiments.results import TIMES
from l63fast.learning import programs
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import save_model
from l63fast.learning.fixed_point import fixed_point_report
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from learning_samples import CYCLES, GRU, MLP, B, samples
from planted_results import method

Calls = dict[str, Callable[[Path], Any]]
STATES = np.array([[1.0, 2.0, 20.0], [1e-105, -1e-160, 25.0], [0.0, 0.0, 1e-310]])
RESULTS = pd.concat([method("3dvar", 1.0), method("enkf", 0.5)])
SMALL = STATES * 1e-290
TINY = np.tile(STATES * 1e-160, (2, 1, 1))
HALVES = STATES.astype(np.float32)
WINDOW = np.array([[[1.5, 2.5]], [[1e-40, 1e-310]], [[0.0, -1e-42]]])
MATRICES = {"B": np.diag([1e-200, 1.0, 2.0]), "R": np.diag([1e-120, 1.0])}
COVARIANCES: dict[str, Any] = {"B": B, "R": np.eye(2)}
TRAIN = TrainSettings(epochs=2, batch_size=16)


@cache
def twin() -> l63fast.TwinExperiment:
    """Return a twin experiment that takes a moment."""
    settings = l63fast.TwinSettings(
        "xy", n_train=12, n_val=4, n_test=4, n_steps=60, spin_up_time=2.0
    )
    return l63fast.TwinExperiment.generate(settings)


def _trained(model: str = "mlp") -> Encoder:
    settings = dataclasses.replace(MLP, model=model)
    data = samples("xy", 64), samples("xy", 32, seed=1)
    return train(settings, TRAIN, *data).encoder


def _cycled() -> dict[str, Any]:
    settings = dataclasses.replace(TRAIN, epochs=1, batch_size=8)
    done = train_cycled(GRU, settings, CYCLES, twin())
    return {**done.encoder.state_dict(), "history": done.history}


def _odd_one(background: Any, obs_window: Any, hidden: Any) -> Any:
    """Return analyses that show how torch computes: products, new tensors, denormals.

    The state of torch is the last number: whatever a processor makes of it.
    """
    made = torch.ones(3, 3) @ torch.full((3, 3), 1 / 3)
    products = torch.backends.mkldnn.matmul, torch.backends.mkldnn.rnn
    rounded = {part.fp32_precision for part in products} - {"none", "ieee"}
    state = torch.get_default_dtype(), rounded, made.device, torch.get_num_threads()
    number = int.from_bytes(hashlib.sha256(repr(state).encode()).digest()[:2], "big")
    tiny = background.detach() * 1e-40
    return torch.nn.functional.linear(background, made) + number + tiny * 1e38, hidden


def _own() -> Any:
    return l63fast.EncoderFunction.own(_odd_one, "xy")(STATES, WINDOW)


def _encoder() -> Encoder:
    settings = EncoderSettings("gru", "xy", window=1, hidden=8)
    built = build_encoder(settings, Normaliser.fit(samples("xy", 64, window=1), "xy"))
    with torch.no_grad():
        for weight in built.parameters():
            weight.copy_(torch.linspace(-0.3, 0.3, weight.numel()).view(weight.shape))
    return built.eval()


@cache
def encoder() -> Encoder:
    """Return an encoder that moves its background."""
    return _encoder()


def _saved(folder: Path, formats: tuple[str, ...]) -> dict[str, Any]:
    (folder / "-".join(formats)).mkdir(exist_ok=True)
    return save_model(encoder(), folder / "-".join(formats), {}, formats=formats)


def _loaded(folder: Path, format: str, written: str) -> Any:
    path = folder / written
    function = l63fast.load_encoder(path, format=format, trust=True)
    return function(STATES, WINDOW)


def _scheme(name: str, **options: Any) -> l63fast.EnKF:
    return getattr(l63fast, name)("xy", **COVARIANCES, **options)


def _figure(folder: Path) -> bytes:
    truth, times = l63fast.simulate(STATES[:1], 20), np.arange(21.0)
    estimates = truth[:, ::10] + 0.1
    figure = plotting.attractor(
        *(truth, estimates, estimates), truth_times=times, times=times[::10]
    )
    plotting.save_figure(figure, folder, "figure")
    return (folder / "figure.png").read_bytes()


def _files(folder: Path) -> dict[str, bytes]:
    twin().save(folder / "twin")
    return {
        path.name: path.read_bytes()
        for path in sorted((folder / "twin").iterdir())
        if path.is_file()
    }


def _scores() -> Any:
    rng = np.random.default_rng(0)
    truth, analysis = rng.normal(size=(2, 6, 8, 3))
    members = rng.normal(size=(6, 8, 5, 3))
    return (
        verification.score(analysis, truth, n_bootstrap=50),
        verification.rmse(TINY, np.zeros_like(TINY)),
        verification.compare(
            *verification.trajectory_means(analysis, truth).T[:2].copy()
        ),
        verification.crps(members, truth),
    )


def _experiments(folder: Path) -> list[Any]:
    """Return the results of experiments in cycles and in windows."""
    found = [
        experiment.run(folder / experiment.protocol.name)
        for experiment in (tiny_cycled("pf"), tiny_windows("gru"))
    ]
    tables = [results.drop(columns=list(TIMES)) for results in found]
    return [table.select_dtypes("float").to_numpy() for table in tables]


def _report(folder: Path) -> dict[str, bytes]:
    """Return the files of a report in which there is no time of the clock."""
    page = l63fast.report(tiny_cycled("pf").run(folder / "reported"))
    timed = ("cost.png", "cost.svg", "provenance.csv", "table.md")
    files = [path for path in sorted(page.parent.glob("*/*")) if path.name not in timed]
    return {path.name: path.read_bytes() for path in files}


def _stepped(scheme: Any) -> Any:
    """Return what the three methods of a scheme make of hard states."""
    state = scheme.initial(STATES.copy(), np.random.default_rng(1))
    state = scheme.forecast(state, 2)
    return scheme.analyse(state, WINDOW[:, : max(scheme.window, 1)])


# What each public name is called with; classes by what is done with them. What a call
# needs from another stands before it.
CALLS: Calls = {
    "simulate": lambda _: l63fast.simulate(STATES, 20),
    "simulate numba": lambda _: l63fast.simulate(STATES, 20, backend="numba"),
    "forecast": lambda _: l63fast.forecast(HALVES, 3),
    "tangent_linear": lambda _: l63fast.tangent_linear(STATES, SMALL, 3),
    "adjoint": lambda _: l63fast.adjoint(STATES, SMALL, 3),
    "propagator": lambda _: l63fast.propagator(STATES, 3, backend="numba"),
    "spin_up": lambda _: l63fast.spin_up(4, seed=1, time=1.0),
    "climatology": lambda _: l63fast.climatology(TINY[0]),
    "lyapunov_exponents": lambda _: l63fast.lyapunov_exponents(
        STATES[:1], 200, n_transient=100
    ),
    "observe": lambda _: l63fast.observe(STATES, "x3y2", sigma=1e-310, rng=1),
    "scores": lambda _: (
        l63fast.scores(RESULTS, n_bootstrap=50).select_dtypes("float").to_numpy()
    ),
    "ObservationOperator": lambda _: [
        l63fast.ObservationOperator("x3y2").jacobian(STATES),
        l63fast.ObservationOperator("x3y2")(STATES),
    ],
    "three_d_var": lambda _: l63fast.three_d_var(
        STATES, WINDOW[:, 0], "xy", **MATRICES
    ),
    "three_d_var numba": lambda _: l63fast.three_d_var(
        STATES, WINDOW[:, 0], "xy2", **MATRICES, backend="numba"
    ),
    "variational_cost": lambda _: l63fast.variational_cost(
        STATES, HALVES.astype(float), WINDOW[:, 0], "xy", **MATRICES
    ),
    "ThreeDVar": lambda _: _stepped(_scheme("ThreeDVar")),
    "FourDVar": lambda _: _stepped(_scheme("FourDVar", window=1)),
    "ExtendedKalman": lambda _: _stepped(_scheme("ExtendedKalman")),
    "EnKF": lambda _: [
        _stepped(_scheme("EnKF", n_members=5, variant=variant))
        for variant in ("square_root", "finite_size")
    ],
    "IEnKS": lambda _: _stepped(_scheme("IEnKS", n_members=5, lag=2)),
    "ParticleFilter": lambda _: [
        _stepped(_scheme("ParticleFilter", n_particles=20, backend=backend))
        for backend in ("cpp", "numba")
    ],
    "TwinExperiment": _files,
    "Backgrounds": lambda _: l63fast.Backgrounds.fit(twin()).draw(twin(), "val"),
    "run_cycles": lambda _: [
        l63fast.run_cycles(_scheme(name, **options), twin(), "val")
        for name, options in (("EnKF", {"n_members": 5}), ("FourDVar", {"window": 2}))
    ],
    "tune_inflation": lambda _: l63fast.tune_inflation(
        _scheme("EnKF", n_members=5), twin(), inflations=(1.0, 1.1, 1.21)
    ),
    "tune_b_scale": lambda _: l63fast.tune_b_scale(
        STATES[None], WINDOW[None, :, 0], STATES[None], "xy", **COVARIANCES
    ),
    "tune_cycled": lambda _: l63fast.tune_cycled(
        lambda scale: l63fast.ThreeDVar("xy", scale, 1.0), twin(), (0.1, 1.0, 10.0)
    ),
    "compare": lambda _: (
        l63fast.compare({"enkf": _scheme("EnKF", n_members=5)}, twin(), n_bootstrap=20)
        .results.drop(columns=list(TIMES))
        .select_dtypes("float")
        .to_numpy()
    ),
    "DifferentiableForecast": lambda _: l63fast.DifferentiableForecast(3)(
        torch.from_numpy(STATES.copy())
    ),
    "verification": lambda _: _scores(),
    "EncoderFunction": lambda _: [
        _own(),
        l63fast.EncoderFunction.of(encoder())(STATES, WINDOW),
    ],
    "Encoder": lambda _: build_encoder(MLP, Normaliser.identity("xy")).state_dict(),
    "fixed_point_report": lambda _: fixed_point_report(
        encoder(), samples("xy", 8, window=1)
    ),
    "save_model": lambda folder: _saved(folder, ("torchscript",)),
    "load_encoder": lambda folder: [
        _loaded(folder, format, "torchscript")
        for format in ("safetensors", "torchscript")
    ],
    "NeuralAnalysis": lambda _: l63fast.run_cycles(
        l63fast.NeuralAnalysis(l63fast.EncoderFunction.of(encoder())), twin(), "val"
    ),
    "write_analyse_inputs": lambda folder: l63fast.write_analyse_inputs(
        folder / "inputs.nc", STATES, WINDOW
    ),
    "write_cycle_inputs": lambda folder: l63fast.write_cycle_inputs(
        folder / "cycle.nc",
        l63fast.NeuralAnalysis(l63fast.EncoderFunction.of(encoder())),
        twin(),
    ),
    "train": lambda _: _trained().state_dict(),
    "train gru": lambda _: _trained("gru").state_dict(),
    "train_cycled": lambda _: _cycled(),
    "Experiment": _experiments,
}


# The same, of calls that take their time.
LONG_CALLS: Calls = {
    "plotting": _figure,
    "report": _report,
    "save_model pt2": lambda folder: _saved(folder, ("pt2", "onnx")),
    "load_encoder pt2": lambda folder: [
        _loaded(folder, format, "pt2-onnx") for format in ("pt2", "onnx")
    ],
}


def digest(value: Any) -> str:
    """Return a hash of every bit of a result."""
    found = hashlib.sha256()
    for part in _parts(value):
        found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield repr((value.dtype, value.device)).encode()
        value = value.detach().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield repr((value.dtype, value.shape)).encode() + value.tobytes()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name.startswith("seconds"):
                continue
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, dict):
        for key in value:
            yield repr(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _parts(one)
    else:
        yield value if isinstance(value, bytes) else repr(value).encode()


def _precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch's two ways to set it disagree
        return "mixed"


def process_state() -> dict[str, Any]:
    """Return everything that belongs to the whole process, or to this thread."""
    backends = torch.backends
    return {
        "torch random state": torch.get_rng_state().numpy().tobytes(),
        "numpy random state": repr(np.random.get_state()),  # noqa: NPY002
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "torch threads": torch.get_num_threads(),
        "matmul precision": _precision(),
        "products": [
            part.fp32_precision
            for part in (
                *(backends, backends.mkldnn, backends.mkldnn.matmul),
                *(backends.mkldnn.rnn, backends.cuda.matmul, backends.cudnn.rnn),
            )
        ],
        "autocast": torch.is_autocast_enabled("cpu"),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "flushing": is_flushing(),
        "errstate": np.geterr(),
        "environment": dict(os.environ),
        "warning filters": list(warnings.filters),
        "warnings shown by": warnings.showwarning,
        "rcParams": dict(matplotlib.rcParams),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "logger": logging.getLogger(programs._NOISY).level,
        "collector": gc.isenabled(),
        "cores": sorted(os.sched_getaffinity(0)),
        "path": list(sys.path),
    }


@contextmanager
def _value(get: Callable[[], Any], put: Callable[[Any], Any], new: Any) -> Iterator:
    before = get()
    put(new)
    try:
        yield
    finally:
        put(before)


def contexts(folder: Path) -> dict[str, Any]:
    """Return contexts in which every call must give the same bits."""
    dtype = torch.get_default_dtype, torch.set_default_dtype
    precision = (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    )
    products = torch.backends.mkldnn
    return {
        "float64": _value(*dtype, torch.float64),
        "meta": torch.device("meta"),
        "medium": _value(*precision, "medium"),
        "bfloat16": _value(
            lambda: products.fp32_precision,
            lambda value: setattr(products, "fp32_precision", value),
            "bf16",
        ),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "inference": torch.inference_mode(),
        "threads": _value(torch.get_num_threads, torch.set_num_threads, 2),
        "flush": _value(is_flushing, torch.set_flush_denormal, True),
        "raise": np.errstate(all="raise"),
        "folder": _value(os.getcwd, os.chdir, folder),
        "locale": _value(
            lambda: locale.setlocale(locale.LC_ALL),
            lambda name: locale.setlocale(locale.LC_ALL, name),
            "C.UTF-8",
        ),
    }


def run(calls: Calls, folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the hash of each call, or its error, and what of the process it moved."""
    bits, moved = {}, {}
    for name, call in calls.items():
        before = process_state()
        try:
            bits[name] = digest(call(folder))
        except Exception as error:
            bits[name] = f"{type(error).__name__}: {error}"
        after = process_state()
        moved[name] = [key for key in before if before[key] != after[key]]
    return bits, {name: keys for name, keys in moved.items() if keys}


if __name__ == "__main__":
    for library in ("netCDF4", "scipy.special", "scipy.sparse"):
        import_module(library)  # what these add to the process is their own matter
    torch.set_flush_denormal(True)
    print(json.dumps(run(CALLS, Path(sys.argv[1]))))
