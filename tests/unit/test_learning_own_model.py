"""A torch module of the user's own as an encoder: checked, trained, kept, read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import linecache
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from l63fast.errors import ArgumentTypeError, ArgumentValueError, ModelFileError
from l63fast.learning.card import CARD, FILES
from l63fast.learning.cycled_training import train_cycled
from l63fast.learning.encoders import Encoder, build_encoder, n_parameters
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.own_model import OwnModel
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from l63fast.twin import TwinExperiment
from learning_samples import CYCLES, TWIN, samples
from own_nets import ByNumPy, Memory, Net, wide

BRIEF = TrainSettings(epochs=2, batch_size=16)


def encoder(make: Callable[..., Any], **more: Any) -> Encoder:
    settings = EncoderSettings(make, "xy", window=2, hidden=4, **more)  # type: ignore[arg-type]
    normaliser = Normaliser.fit(samples("xy", 50), "xy")
    return build_encoder(settings, normaliser, seed=1, own=OwnModel.of(make))


class Wrong(Net):
    """What a test lets return something else."""

    given: ClassVar[list[Any]] = []

    def forward(self, background: Tensor, obs_window: Tensor, hidden: Tensor) -> Any:
        return self.given[0](self, background, hidden)


def not_a_module(operator: Any, window: int, hidden: int) -> int:
    return 3


def of_other_arguments(obs_dim: int) -> Net:
    raise AssertionError


def in_float64(*sizes: Any) -> nn.Module:
    return Net(*sizes).double()


def with_dropout(*sizes: Any) -> nn.Module:
    net = Memory(*sizes)
    net.outer = nn.Sequential(nn.Dropout(), net.outer)  # type: ignore[assignment]
    return net


def test_the_name_is_kept_and_the_module_starts_from_the_seed() -> None:
    built = encoder(Net)
    assert built.settings.model == "own_nets:Net"
    assert n_parameters(built) == (7 * 4 + 4) + (4 * 3 + 3)
    again = encoder(Net).state_dict()
    assert all(torch.equal(again[k], v) for k, v in built.state_dict().items())
    assert n_parameters(encoder(wide)) == (7 * 8 + 8) + (8 * 3 + 3)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            lambda self, x, hidden: (x[:, :2], hidden),
            r"analysis and hidden \(\(2, 3\) of torch.float32, \(2, 0\) of "
            r"torch.float32\) from forward\(\(2, 3\), \(2, 2, 2\), \(2, 0\)\), "
            r"got \(\(2, 2\) of torch.float32, \(2, 0\) of torch.float32\)$",
        ),
        (
            lambda self, x, hidden: (x.double(), hidden),
            r"got \(\(2, 3\) of torch.float64",
        ),
        (lambda self, x, hidden: (x, x), r"got .*, \(2, 3\) of torch.float32\)$"),
        (lambda self, x, hidden: x, r"got \(2, 3\) of torch.float32$"),
        (lambda self, x, hidden: (x.tolist(), hidden), r"got \(list, \(2, 0\)"),
        (
            lambda self, x, hidden: (x, hidden),
            "depends on its parameters, got one that does not",
        ),
        (
            lambda self, x, hidden: (self.outer.bias * x * math.nan, hidden),
            "expected a finite analysis and hidden state, got NaN or infinity$",
        ),
        (lambda self, x, hidden: x @ x, r"to return, got RuntimeError\(.mat1"),
    ],
)
def test_what_a_module_returns_is_checked_by_a_trial_call(
    given: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "given", [given])
    with pytest.raises(ArgumentValueError, match=f"^model: .*:Wrong: .*{sentence}"):
        encoder(Wrong)


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (not_a_module, ArgumentValueError, "expected a torch module, got int"),
        (of_other_arguments, ArgumentValueError, "to make it, got TypeError"),
        (in_float64, ArgumentValueError, r"to return, got RuntimeError\(.*dtype"),
        (Memory, ArgumentValueError, "own_nets:Memory: expected memory 'carried'"),
    ],
)
def test_what_makes_no_module_for_the_settings_is_refused(
    make: Any, kind: Any, sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        encoder(make)


def test_a_module_that_draws_is_refused() -> None:
    with pytest.raises(
        ArgumentValueError, match="the same analysis twice, got two different ones"
    ):
        encoder(with_dropout, memory="carried")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_iterations": 2}, "n_iterations, iteration: expected 1 .* own_nets:Net"),
        ({"iteration": "legacy"}, r"got 1 and 'legacy'"),
        (
            {"model": nn.Linear(3, 3)},
            "a class or function .*got an instance of Linear",
        ),
        ({"model": lambda *sizes: None}, "at the top level of a module, got .*lambda"),
        (
            {"model": "own_nets.Net"},
            "gru, lstm, module:Class, got 'own_nets.Net'",
        ),
    ],
)
def test_settings_that_an_own_model_cannot_have(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=sentence):
        EncoderSettings(**{"model": "own_nets:Net", **settings})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_nets:Nix", "'own_nets:Nix': AttributeError"),
        ("no_such_module:Net", "ModuleNotFoundError"),
        ("own_nets:torch", "a class or function .* got <module"),
    ],
)
def test_a_name_that_cannot_be_imported(name: str, sentence: str) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=sentence):
        OwnModel.imported(name)


def test_a_class_without_a_source_is_refused() -> None:
    with pytest.raises(ArgumentValueError, match="whose source can be read"):
        OwnModel.of(type("Absent", (), {"__module__": "own_nets"}))


CELL = """
import torch
from own_nets import Net

class Other(Net):
    def forward(self, *given):
        return super().forward(*given)


class Mine(Net):
    width = {width}

    @torch.no_grad()
    def forward(self, *given):
        return super().forward(*given)
"""


def written_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, file: str, *, width: int, source: bool = True
) -> Any:
    """Return a class of a cell; as there, its module has no file."""
    cell, main = CELL.format(width=width), ModuleType("__main__")
    if source:
        lines = (len(cell), None, cell.splitlines(keepends=True), file)
        monkeypatch.setitem(linecache.cache, file, lines)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(cell, file, "exec"), vars(main))
    return vars(main)["Mine"]


def test_a_class_of_a_notebook_has_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    made = written_in_a_notebook(monkeypatch, "<cell 1>", width=1)
    own = OwnModel.of(made)
    assert own == OwnModel.imported("__main__:Mine")
    lines = CELL.format(width=1).splitlines(keepends=True)
    text = "".join(lines[lines.index("class Mine(Net):\n") :])
    assert own.source_sha256 == hashlib.sha256(text.encode()).hexdigest()
    changed = written_in_a_notebook(monkeypatch, "<cell 2>", width=2)
    assert OwnModel.of(changed).source_sha256 != own.source_sha256
    unknown = written_in_a_notebook(monkeypatch, "<cell 3>", width=1, source=False)
    with pytest.raises(ArgumentValueError, match="got __main__:Mine"):
        OwnModel.of(unknown)


def test_modules_of_the_current_folder_are_found_and_the_path_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in_the_folder.py").write_text("def make():\n    pass\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    own = OwnModel.imported("in_the_folder:make")
    del sys.modules["in_the_folder"]
    assert own is not None
    assert own.name == "in_the_folder:make"
    assert sys.path == before


@pytest.mark.parametrize(
    ("make", "memory", "averaging"),
    [(Net, "window", 0.9), (Memory, "carried", 0.0), (wide, "window", 0.0)],
)
def test_it_learns_in_cycles(make: Any, memory: str, averaging: float) -> None:
    twin = TwinExperiment.generate(TWIN)
    settings = EncoderSettings(make, "xy", window=2, hidden=8, memory=memory)
    training = dataclasses.replace(BRIEF, optimiser="muon", averaging=averaging)
    trained = train_cycled(settings, training, CYCLES, twin).encoder
    fresh = build_encoder(
        trained.settings, Normaliser.identity("xy"), own=OwnModel.of(make)
    )
    moved = {
        name
        for name, weight in fresh.named_parameters()
        if not torch.equal(weight, trained.get_parameter(name))
    }
    assert moved == {name for name, _ in trained.named_parameters()}


def with_norm(*sizes: Any) -> nn.Module:
    net = Net(*sizes)
    net.inner = nn.Sequential(nn.BatchNorm1d(7), net.inner)  # type: ignore[assignment]
    return net


def test_what_a_batch_norm_has_seen_is_kept_with_averaged_weights() -> None:
    data, settings = samples("xy", 64), EncoderSettings(with_norm, "xy", 2, 4)  # type: ignore[arg-type]
    averaged = dataclasses.replace(BRIEF, averaging=0.9)
    trained: Any = train(settings, averaged, data, data).encoder
    best_epoch_steps = trained.module.inner[0].num_batches_tracked
    assert best_epoch_steps in (4, 8)  # of four steps in an epoch


def test_it_learns_in_windows_and_a_stopped_training_goes_on(tmp_path: Path) -> None:
    data, settings = samples("xy", 200), EncoderSettings("own_nets:Net", "xy", 2, 8)
    longer = dataclasses.replace(BRIEF, epochs=12, learning_rate=3e-2)
    whole = train(settings, longer, data, data, directory=tmp_path)
    assert whole.history[-1]["val_loss"] < 0.9 * whole.history[0]["val_loss"]

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(settings, longer, data, data, directory=folder, report=stop)
    resumed = train(settings, longer, data, data, directory=folder, resume=True)
    assert resumed.history == whole.history
    other = dataclasses.replace(settings, model="own_nets:ByNumPy")
    with pytest.raises(ModelFileError, match=r"source_sha256 .*, not "):
        train(other, longer, data, data, directory=folder, resume=True)


def test_a_file_is_read_with_the_class_of_the_caller_alone(tmp_path: Path) -> None:
    built = encoder(Memory, memory="carried").eval()
    formats = ("torchscript", "pt2")
    card = save_model(built, tmp_path, {}, formats=formats)
    assert set(card["files"]) == {"safetensors", *formats}
    assert card["encoder"]["model"] == "own_nets:Memory"
    assert card["n_parameters"] == n_parameters(built)
    with pytest.raises(ModelFileError, match=r"load_encoder\(path, model=Memory\)"):
        load_encoder(tmp_path)
    state, window = np.ones((5, 3)), np.ones((5, 2, 2))
    expected = load_encoder(tmp_path, model=Memory)(state, window)
    assert not np.array_equal(expected, state)
    for kind in ("torchscript", "pt2"):
        found = load_encoder(tmp_path, format=kind, trust=True)(state, window)
        assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ModelFileError, match="as it was trained, with source sha256"):
        load_encoder(tmp_path, model=Net)
    content = json.loads((tmp_path / CARD).read_text())
    content["training"]["source_sha256"] = "changed"
    (tmp_path / CARD).write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="trust=True accepts"):
        load_encoder(tmp_path, model=Memory)
    assert load_encoder(tmp_path, model=Memory, trust=True).window == 2


def test_a_class_for_a_model_of_the_package_is_refused(tmp_path: Path) -> None:
    settings = EncoderSettings("mlp", "xy", 2, 4)
    built = build_encoder(settings, Normaliser.identity("xy"))
    save_model(built, tmp_path, {}, formats=["safetensors"])
    with pytest.raises(ModelFileError, match="model: expected mlp as it was"):
        load_encoder(tmp_path, model=Net)


def test_what_cannot_be_a_program_keeps_its_weights(tmp_path: Path) -> None:
    built = encoder(ByNumPy)
    card = save_model(built, tmp_path, {})
    assert set(card["files"]) == {"safetensors"}
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {CARD, FILES["safetensors"]}
    said = card["notes"][-1]
    assert said.startswith("own_nets:ByNumPy cannot be written as torchscript: ")
    assert str(tmp_path) not in said
    with pytest.raises(ModelFileError, match="cannot be written as torchscript"):
        save_model(built, tmp_path, {}, formats=["torchscript"])
    assert load_encoder(tmp_path, model=ByNumPy).window == 2
