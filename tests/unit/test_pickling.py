"""Schemes, twins, datasets and encoders survive a pickle, as between processes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import l63fast as l63
from encoder_parity import moving_encoder
from l63fast.errors import ArgumentTypeError
from l63fast.learning.export import save_model
from l63fast.learning.programs import onnx_from
from l63fast.twin import Split

TWIN = l63.TwinExperiment.generate(
    l63.TwinSettings("xy", n_train=4, n_val=2, n_test=3, n_steps=80)
)
C = TWIN.climatology.covariance
ENCODER = moving_encoder("gru", "xy", window=2)
FUNCTION = l63.EncoderFunction.of(ENCODER)
WINDOW = TWIN.test.truth_at_observations[:, 1], TWIN.test.observations[:, :2]
STATIC = l63.ThreeDVar.for_twin(TWIN, B=C)
SCHEMES = [
    STATIC,
    l63.FourDVar.for_twin(TWIN, B=C, window=2),
    l63.ExtendedKalman.for_twin(TWIN, B=C),
    l63.EnKF.for_twin(TWIN, B=C, n_members=4),
    l63.ParticleFilter.for_twin(TWIN, B=C, n_particles=20),
    l63.NeuralAnalysis.for_twin(TWIN, encoder=FUNCTION),
]


def copied(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
def test_a_scheme_cycles_as_it_did(scheme):
    before, after = (
        l63.run_cycles(one, TWIN, warm_up=STATIC) for one in (scheme, copied(scheme))
    )
    assert before.analysis.tobytes() == after.analysis.tobytes()
    assert copied(after).analysis.tobytes() == after.analysis.tobytes()


def test_a_twin_is_the_same_and_as_safe_from_writing():
    twin = copied(TWIN)
    assert twin.hashes == TWIN.hashes
    assert twin.test.hash == TWIN.test.hash
    assert twin.settings == TWIN.settings
    for array in (twin.R, twin.Q, twin.test.truth, twin.test.observations):
        assert not array.flags.writeable
    with pytest.raises(TypeError):
        twin.hashes["test"] = ""
    assert not copied(TWIN.test).truth.flags.writeable


def test_a_twin_on_disk_travels_without_the_splits_that_nobody_read(tmp_path):
    TWIN.save(tmp_path / "twin")
    data = pickle.dumps(l63.TwinExperiment.load(tmp_path / "twin"))
    assert len(data) < TWIN.train.truth.nbytes / 2
    opened = pickle.loads(data).val
    assert isinstance(opened, Split)
    assert np.array_equal(opened.truth, TWIN.val.truth)


def test_datasets_backgrounds_and_comparisons():
    data = l63.AssimilationDataset.from_twin(
        TWIN, "train", l63.Backgrounds.fit(TWIN, "gauss"), window=2
    )
    assert copied(data).hash == data.hash
    drawn = copied(l63.Backgrounds.fit(TWIN, "gauss")).draw(TWIN, "val")
    assert np.array_equal(drawn, l63.Backgrounds.fit(TWIN, "gauss").draw(TWIN, "val"))
    found = l63.compare({"3dvar": STATIC}, TWIN, n_bootstrap=10)
    assert repr(copied(found)) == repr(found)


def test_a_loaded_encoder_analyses_as_it_did(tmp_path):
    save_model(ENCODER, tmp_path, {}, formats=[])
    function = l63.load_encoder(tmp_path)
    again = copied(function)
    assert again(*WINDOW).tobytes() == function(*WINDOW).tobytes()
    assert again.card == function.card


def test_an_onnx_graph_is_pickled_as_its_bytes():
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx.helper")
    kind = helper.TensorProto.FLOAT
    background, window, analysis = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, shape in (
            ("background", ["n", 3]), ("obs_window", ["n", 2, 2]), ("analysis", None)
        )
    )  # fmt: skip
    twice = helper.make_node("Add", ["background", "background"], ["analysis"])
    graph = helper.make_graph([twice], "twice", [background, window], [analysis])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    program = onnx_from(model.SerializeToString())
    function = copied(l63.EncoderFunction.own(program, "xy", window=2))
    assert np.allclose(function(*WINDOW), 2.0 * WINDOW[0])


def test_a_program_that_cannot_be_pickled_says_so(tmp_path):
    save_model(ENCODER, tmp_path, {}, formats=["torchscript"])
    scripted = l63.load_encoder(tmp_path, format="torchscript", trust=True)
    traced = torch.fx.symbolic_trace(nn.Identity())  # what a .pt2 file is loaded as
    other = l63.EncoderFunction(traced, ENCODER.settings, card={"files": {}})
    for function in (scripted, other):
        with pytest.raises(ArgumentTypeError, match="load the format 'safetensors'"):
            pickle.dumps(function)
