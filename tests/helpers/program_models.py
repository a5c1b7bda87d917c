"""Exported encoders and inputs for the C++ programs, and how these refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from encoder_programs import Programs
from l63fast.assimilation.program_files import write_analyse_inputs
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.export import save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from learning_samples import samples

GRU = EncoderSettings("gru", "xy", 2, 16, 3)


def program_encoder(
    settings: EncoderSettings, data: AssimilationDataset | None = None
) -> Encoder:
    """Return an encoder that nobody trained, yet that moves what it is given."""
    operator = settings.operator
    data = data or samples(operator, 200, window=settings.window)
    built = build_encoder(settings, Normaliser.fit(data, operator))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        built.head.outer.weight.normal_(std=0.05)
    return built


def saved(settings: EncoderSettings, folder: Path) -> dict[str, Any]:
    """Export it as TorchScript; return the model card."""
    folder.mkdir(exist_ok=True)
    card = {"interval": 0.1}
    return save_model(program_encoder(settings), folder, card, formats=("torchscript",))


def refused(
    programs: Programs,
    model: Path,
    inputs: Path,
    *words: str,
    code: int = 1,
    program: str = "analyse",
) -> str:
    """Check that a program fails in good order and writes nothing; what it said."""
    out = inputs.with_name("out.nc")
    done = programs.run(program, model, inputs, out, *words)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ")
    assert not out.exists()
    return done.stderr


def written_inputs(folder: Path) -> Path:
    """Write seven windows for `GRU`; return the file."""
    data = samples("xy", 7)
    write_analyse_inputs(folder / "in.nc", data.background, data.obs_window)
    return folder / "in.nc"
