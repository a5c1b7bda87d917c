"""Every exported format analyses as the encoder does, whatever the batch."""

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builds import HELPERS
from encoder_parity import check_parity, inputs, moving_encoder
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BackendError,
    ModelFileError,
    ResultError,
)
from l63fast.learning import export, programs
from l63fast.learning.card import CARD, FILES
from l63fast.learning.encoders import Encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.inference import EncoderFunction
from learning_samples import samples

FORMATS = ("safetensors", "torchscript", "pt2")
CASES = [("gru", "xy"), ("lstm", "x2z", "carried")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Encoder, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("model")
    built = moving_encoder(*request.param)
    return built, folder, save_model(built, folder, {"interval": 0.1}, formats=FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_formats_agree_with_eager(
    exported: tuple[Encoder, Path, dict[str, Any]], format: str
) -> None:
    built, folder, _ = exported
    check_parity(built, load_encoder(folder, format=format, trust=True))


@pytest.mark.parametrize(
    "case",
    [CASES[0], pytest.param(CASES[1], marks=pytest.mark.slow)],
    ids="-".join,
)
def test_onnx_agrees_with_eager_and_states_its_window(
    case: tuple[str, ...], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    built = moving_encoder(*case)
    card = save_model(built, tmp_path, {}, formats=("onnx",))
    assert set(card["files"]) == {"safetensors", "onnx"}
    assert any("fixed in model.pt2, in model.onnx" in note for note in card["notes"])
    check_parity(built, load_encoder(tmp_path, format="onnx", trust=True))
    data = (tmp_path / FILES["onnx"]).read_bytes()
    assert b".py" not in data  # no stack traces, which tell of this machine
    window = onnx.load_from_string(data).graph.input[1]
    sizes = [axis.dim_value for axis in window.type.tensor_type.shape.dim]
    assert sizes == [0, 4, len(built.obs_mean)]  # 0: free
    with pytest.raises(ModelFileError, match="is a program"):
        load_encoder(tmp_path, format="onnx")


def test_every_format_of_an_equivariant_encoder_mirrors(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    built = moving_encoder("lstm", "xz", "carried", window=1, equivariant=True)
    save_model(built, tmp_path, {}, formats=(*FORMATS, "onnx"))
    background, seen, _ = (part.double().numpy() for part in inputs(built, 40, 1))
    for format in (*FORMATS, "onnx"):
        loaded = load_encoder(tmp_path, format=format, trust=True)
        mirror, signs = np.array([-1.0, -1.0, 1.0]), np.array([-1.0, 1.0])
        analysis = loaded(background, seen)
        image = loaded(background * mirror, seen * signs) * mirror
        np.testing.assert_allclose(analysis, image, rtol=0, atol=1e-5)
        assert np.abs(analysis - background).max() > 0.1
    assert load_encoder(tmp_path).settings.equivariant


def test_a_graph_of_another_window_is_refused() -> None:
    helper = pytest.importorskip("onnx").helper
    n_by_3 = helper.make_tensor_value_info("background", 1, ["n", 3])
    for axes in (["n", "L", 2], [1, 4, 2], ["n", 5, 2]):
        window = helper.make_tensor_value_info("obs_window", 1, axes)
        graph = helper.make_graph([], "graph", [n_by_3, window], [])
        with pytest.raises(ModelFileError, match=r"obs_window: expected \(n, 4, 2\)"):
            programs._check_shapes(graph, [(3,), (4, 2)])


def test_a_format_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentValueError, match="formats: expected one of"):
        save_model(moving_encoder("mlp", "x"), tmp_path, {}, formats=("pickle",))


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    encoder, folder = moving_encoder("mlp", "x"), tmp_path / "new" / "model"
    save_model(encoder, folder, {}, formats=())
    assert load_encoder(folder).operator.name == "x"
    file = folder / CARD
    with pytest.raises(ResultError, match="cannot make the directory: File exists"):
        save_model(encoder, file, {}, formats=())


def test_without_torchscript_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "HAS_SCRIPTS", False)  # as on Python 3.14
    encoder = moving_encoder("gru", "x")
    card = save_model(encoder, tmp_path, {})
    assert list(card["files"]) == ["safetensors"]
    assert "torch writes TorchScript up to Python 3.13" in card["notes"][-1]
    assert load_encoder(tmp_path).operator.name == "x"
    with pytest.raises(BackendError, match=r"up to Python 3.13"):
        save_model(encoder, tmp_path, {}, formats=("torchscript",))


def test_the_card_tells_what_the_files_are(
    exported: tuple[Encoder, Path, dict[str, Any]],
) -> None:
    built, folder, card = exported
    assert json.loads((folder / CARD).read_text()) == card
    # What is left out is as in the cards of earlier versions.
    left_out = {"estimates_parameters": False, "equivariant": False}
    assert card["encoder"] | left_out == dataclasses.asdict(built.settings)
    assert not left_out.keys() & card["encoder"].keys()
    assert card["inputs"]["obs_window"]["shape"] == ["n", 4, len(built.obs_mean)]
    assert card["normaliser_hash"] == built.data_hash != ""
    assert card["training"] == {"interval": 0.1}
    assert tuple(card["files"]) == FORMATS
    for kind in FORMATS:
        data = (folder / FILES[kind]).read_bytes()
        entry = card["files"][kind]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["size"] == len(data)
        assert entry["parity_error"] < 1e-5


def test_equal_encoders_give_equal_files(
    exported: tuple[Encoder, Path, dict[str, Any]], tmp_path: Path
) -> None:
    built, _, card = exported
    assert save_model(built, tmp_path, {"interval": 0.1}, formats=FORMATS) == card


def test_pt2_tells_nothing_of_this_machine(
    exported: tuple[Encoder, Path, dict[str, Any]],
) -> None:
    _, folder, _ = exported
    with zipfile.ZipFile(io.BytesIO((folder / FILES["pt2"]).read_bytes())) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert b".py" not in everything


def test_a_file_that_differs_from_the_encoder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(built: Encoder) -> bytes:
        return export.programs.torchscript_bytes(moving_encoder("gru", "xyz"))

    built = moving_encoder("gru", "xyz")
    with torch.no_grad():
        built.head.outer.bias.add_(1e-3)
    monkeypatch.setitem(export._WRITE, "torchscript", other)
    with pytest.raises(ModelFileError, match="expected the analyses of the encoder"):
        save_model(built, tmp_path, {})
    assert not (tmp_path / CARD).exists()


@pytest.mark.promise("I12", "by name")
def test_bad_inputs_are_refused_by_name() -> None:
    analyse = EncoderFunction.of(moving_encoder("gru", "xy"))
    data = samples("xy", 5, window=4)
    good, window = data.background, data.obs_window
    with pytest.raises(ArgumentValueError, match="background: expected"):
        analyse(good[:, :2], window)
    with pytest.raises(ArgumentValueError, match="obs_window: expected"):
        analyse(good, window[:, :3])
    with pytest.raises(ArgumentValueError, match="obs_window: expected"):
        analyse(good[:4], window)
    with pytest.raises(ArgumentValueError, match="obs_window: expected"):
        analyse(good, window[..., :1])
    bad = window.copy()
    bad[2, 1, 0] = np.nan
    with pytest.raises(ArgumentValueError, match="obs_window: expected finite"):
        analyse(good, bad)
    with pytest.raises(ArgumentTypeError, match="background: expected float64"):
        analyse(good.astype(int), window)
    with pytest.raises(ArgumentValueError, match="hidden: expected"):
        analyse.step(good, window, np.zeros((5, 2), dtype=np.float32))
    with pytest.raises(ArgumentTypeError, match="hidden: expected"):
        analyse.step(good, window, np.zeros((5, 0), dtype=int))


def test_leading_axes_and_inputs_are_kept() -> None:
    analyse = EncoderFunction.of(moving_encoder("mlp", "xy"))
    data = samples("xy", 24, window=4)
    flat = analyse(data.background, data.obs_window)
    copies = data.background.copy(), data.obs_window.copy()
    folded = analyse(
        data.background.reshape(4, 6, 3), data.obs_window.reshape(4, 6, 4, 2)
    )
    assert np.array_equal(folded.reshape(24, 3), flat)
    assert np.array_equal(copies[0], data.background)
    assert np.array_equal(copies[1], data.obs_window)
    single = analyse(
        data.background.astype(np.float32), data.obs_window.astype(np.float32)
    )
    assert single.dtype == np.float32


ALONE = """
import hashlib
from encoder_parity import moving_encoder
from l63fast.learning.programs import torchscript_bytes
print(hashlib.sha256(torchscript_bytes(moving_encoder("mlp", "x"))).hexdigest())
"""


def test_torchscript_does_not_depend_on_what_was_scripted_before() -> None:
    programs.torchscript_bytes(moving_encoder("mlp", "xy"))
    mine = programs.torchscript_bytes(moving_encoder("mlp", "x"))
    alone = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE],
        cwd=HELPERS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert alone.stdout.strip() == hashlib.sha256(mine).hexdigest()


def test_an_export_that_was_disturbed_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A thread that holds frames of the trace, as profilers do, has torch refuse.
    built, whole = moving_encoder("mlp", "x"), torch.export.export
    refusals = iter([RuntimeError("We found a fake tensor in the exported program's")])

    def disturbed(*args: Any, **kwargs: Any) -> torch.export.ExportedProgram:
        for refusal in refusals:
            raise refusal
        return whole(*args, **kwargs)

    undisturbed = programs.pt2_bytes(built)
    monkeypatch.setattr(torch.export, "export", disturbed)
    assert programs.pt2_bytes(built) == undisturbed
    refusals = iter([RuntimeError("another reason")])
    with pytest.raises(RuntimeError, match="another reason"):
        programs.pt2_bytes(built)
