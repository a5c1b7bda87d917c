"""A model file is data until the caller says it may be a program."""

import dataclasses
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from l63fast.errors import DataFileError, L63Error, ModelFileError
from l63fast.learning import programs
from l63fast.learning.card import CARD, FILES
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from learning_samples import samples

WEIGHTS = FILES["safetensors"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    data = samples("xy", 100)
    settings = EncoderSettings("gru", "xy", window=2, hidden=8)
    built = build_encoder(settings, Normaliser.fit(data, "xy"))
    save_model(built, folder, {}, formats=("torchscript", "pt2"))
    return folder


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def rewrite_card(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((model / CARD).read_text())
    change(card)
    (model / CARD).write_text(json.dumps(card))


def replace_file(model: Path, format: str, data: bytes) -> None:
    """Put other bytes in a file, with a card that agrees with them."""
    (model / FILES[format]).write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    rewrite_card(model, lambda card: card["files"][format].update(sha256=found))


def refused_untouched(
    model: Path, monkeypatch: pytest.MonkeyPatch, match: str, **arguments: Any
) -> None:
    """Check that loading fails and that no byte was given to torch."""

    def opened(data: bytes) -> Any:
        raise AssertionError("the program was opened")

    for format in programs.READ:
        monkeypatch.setitem(programs.READ, format, opened)
    with pytest.raises(ModelFileError, match=match):
        load_encoder(model, **arguments)


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
@pytest.mark.promise("M2", "refused before a byte is interpreted")
@pytest.mark.promise("I10", "TorchScript and .pt2")
def test_programs_need_a_hash_or_trust(
    model: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (model / FILES[format]).read_bytes()
    right = hashlib.sha256(data).hexdigest()
    assert load_encoder(model, format=format, sha256=right) is not None
    assert load_encoder(model, format=format, trust=True) is not None
    refused_untouched(model, monkeypatch, "is a program", format=format)
    refused_untouched(
        model, monkeypatch, "expected sha256", format=format, sha256="0" * 64
    )
    refused_untouched(
        model, monkeypatch, "expected sha256", format=format, sha256="0", trust=True
    )


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
@pytest.mark.promise("M2", "refused before a byte is interpreted")
def test_a_hostile_folder_with_a_consistent_card_is_not_opened(
    model: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file(model, format, b"PK\x03\x04 something hostile")
    refused_untouched(model, monkeypatch, "is a program", format=format)
    yours = "ab" * 32
    refused_untouched(
        model, monkeypatch, "expected sha256", format=format, sha256=yours
    )


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_trusted_file_that_is_no_program_is_an_error(
    model: Path, format: str
) -> None:
    replace_file(model, format, b"PK\x03\x04 neither")
    with pytest.raises(ModelFileError, match=f"is not a {format} program"):
        load_encoder(model, format=format, trust=True)


@pytest.mark.parametrize("format", ["safetensors", "torchscript", "pt2"])
def test_a_changed_file_is_not_that_of_the_card(model: Path, format: str) -> None:
    path = model / FILES[format]
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="not the file of its model card"):
        load_encoder(model, format=format, trust=True)


class Hostile:
    """A pickle that would leave a trace if it were loaded."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.promise("I11", "not opened")
def test_pickles_under_the_name_of_weights_are_refused(model: Path) -> None:
    trace = model / "trace"
    replace_file(model, "safetensors", pickle.dumps(Hostile(trace)))
    with pytest.raises(ModelFileError, match="is not valid safetensors"):
        load_encoder(model)
    torch.save(Hostile(trace), model / "saved")
    replace_file(model, "safetensors", (model / "saved").read_bytes())
    with pytest.raises(ModelFileError, match="got a zip archive"):
        load_encoder(model)
    assert not trace.exists()


def weights_with(model: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    tensors = load((model / WEIGHTS).read_bytes())
    change(tensors)
    data: bytes = save(tensors)
    return data


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("obs_std"), r"missing tensors \['obs_std'\]"),
        (lambda t: t.update(more=torch.ones(2)), r"unknown \['more'\]"),
        (lambda t: t.update(obs_std=torch.ones(3)), "obs_std: expected .*, got"),
        (lambda t: t.update(obs_std=torch.ones(2).double()), "obs_std: expected"),
        (lambda t: t["head.outer.bias"].fill_(np.nan), "head.outer.bias: .* finite"),
        (lambda t: t["state_std"].fill_(np.inf), "state_std: expected finite"),
    ],
)
@pytest.mark.promise("I11", "missing, extra, misshapen, NaN")
def test_tensors_that_do_not_fit_are_named(
    model: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    replace_file(model, "safetensors", weights_with(model, change))
    with pytest.raises(ModelFileError, match=match):
        load_encoder(model)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 8 + b"{}", b"{" * 100])
def test_bytes_that_are_no_safetensors_are_refused(model: Path, data: bytes) -> None:
    replace_file(model, "safetensors", data)
    with pytest.raises(ModelFileError, match="is not valid safetensors"):
        load_encoder(model)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("files"), r"missing keys \['files'\]"),
        (lambda c: c.update(schema=99), "expected schema 1, got 99"),
        (lambda c: c.update(extra=1), r"unknown keys \['extra'\]"),
        (lambda c: c["encoder"].update(hidden=10**9), "hidden: expected at most"),
        (lambda c: c["encoder"].update(window=10**9), "window: expected at most"),
        (lambda c: c["encoder"].update(hidden="8"), "hidden: expected int, got str"),
        (lambda c: c["encoder"].update(model="evil"), "model: expected one of"),
        (lambda c: c["encoder"].update(operator="x9"), "operator: expected"),
        (lambda c: c["encoder"].update(hidden=9), "expected torch.float32"),
        (lambda c: c.update(encoder=[]), "encoder: expected dict, got list"),
        (
            lambda c: c["files"]["safetensors"].update(name="../x"),
            "files.safetensors: expected 'model.safetensors', got '../x'",
        ),
        (lambda c: c["files"].pop("safetensors"), "lists no safetensors file"),
    ],
)
@pytest.mark.promise("I11", "a width of 1e9 among them")
def test_cards_that_make_no_sense_are_refused(
    model: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    rewrite_card(model, change)
    with pytest.raises(ModelFileError, match=match):
        load_encoder(model)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 10**5])
def test_cards_that_are_no_json_table_are_refused(model: Path, text: str) -> None:
    (model / CARD).write_text(text)
    with pytest.raises(ModelFileError, match=r"not valid JSON|expected a table"):
        load_encoder(model)


def test_files_that_are_not_there_are_named(model: Path) -> None:
    with pytest.raises(L63Error, match="format: expected one of"):
        load_encoder(model, format="pickle")
    (model / WEIGHTS).unlink()
    with pytest.raises(DataFileError, match=WEIGHTS):
        load_encoder(model)
    with pytest.raises(DataFileError, match=CARD):
        load_encoder(model / "nowhere")


@pytest.mark.promise("M1", "0 pickle.find_class events")
def test_loading_weights_unpickles_nothing(model: Path) -> None:
    script = (
        "import sys\n"
        "from l63fast.learning.export import load_encoder\n"
        "seen = []\n"
        "hook = lambda name, _: seen.append(name) if 'pickle' in name else None\n"
        "sys.addaudithook(hook)\n"
        "load_encoder(sys.argv[1])\n"
        "assert seen == [], seen\n"
        "import pickle\n"
        "pickle.loads(pickle.dumps(sys.exit))\n"
        "assert seen == ['pickle.find_class'], seen\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_settings_travel_with_the_function(model: Path) -> None:
    loaded = load_encoder(model)
    assert loaded.window == 2
    assert loaded.operator.name == "xy"
    assert dataclasses.asdict(loaded.settings)["hidden"] == 8
    assert loaded.card is not None
    assert loaded.card["hidden_size"] == 0
