"""Models made to do harm, and how they come beside a card that fits."""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l63fast.learning.card import CARD, FILES
from l63fast.learning.programs import _deprecations_silenced

SECRET = b"secret"


class _Hostile(nn.Module):
    """Does nothing bad when loaded; leaves the inputs as they are."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        return background, hidden


class WritesAtLoad(_Hostile):
    @torch.jit.export
    def __getstate__(self) -> str:
        return self.path

    @torch.jit.export
    def __setstate__(self, state: str) -> None:
        self.training = False
        written = torch.from_file(state, True, 4, dtype=torch.uint8)
        self.path = state + str(written.sum().item())


class WritesInForward(_Hostile):
    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        written = torch.from_file(self.path, True, 4, dtype=torch.uint8)
        return background + written.sum(), hidden


class ReadsAFile(_Hostile):
    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        read = torch.from_file(self.path, False, 3, dtype=torch.uint8)
        return torch.zeros_like(background) + read, hidden


class AllocatesTerabytes(_Hostile):
    @torch.jit.export
    def __getstate__(self) -> str:
        return self.path

    @torch.jit.export
    def __setstate__(self, state: str) -> None:
        self.path = state
        self.training = bool(torch.ones([1 << 44]).sum() > 0)


class NeverEnds(_Hostile):
    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.path = ""
        while state > 0:
            state = 3 - state
        self.training = state > 0


PROGRAMS = {
    kind.__name__: kind
    for kind in (
        WritesAtLoad,
        WritesInForward,
        ReadsAFile,
        AllocatesTerabytes,
        NeverEnds,
    )
}


class Pickle:
    """A pickle that leaves a trace if it is loaded."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def hostile_torchscript(name: str, trace: Path) -> bytes:
    """Return a program that would write or read `trace`, take all memory or time."""
    buffer = io.BytesIO()
    with _deprecations_silenced():
        torch.jit.save(torch.jit.script(PROGRAMS[name](str(trace))), buffer)
    return buffer.getvalue()


def hostile_pt2(genuine: bytes, trace: Path) -> bytes:
    """Return a torch.export program whose sample inputs are a pickle that writes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(genuine)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            is_pickle = name.endswith("sample_inputs/model.pt")
            new.writestr(name, saved_pickle(trace) if is_pickle else old.read(name))
    return out.getvalue()


def plant(model: Path, format: str, data: bytes) -> str:
    """Put other bytes in a model's file, its card agreeing; return their sha256."""
    (model / FILES[format]).write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    card = json.loads((model / CARD).read_text())
    card["files"][format].update(sha256=found, size=len(data))
    (model / CARD).write_text(json.dumps(card))
    return found


def pickled(trace: Path) -> bytes:
    """Return a plain pickle that leaves a trace."""
    return pickle.dumps(Pickle(trace))


def saved_pickle(trace: Path) -> bytes:
    """Return the same in torch's own archive, as torch.load would open it."""
    out = io.BytesIO()
    torch.save(Pickle(trace), out)
    return out.getvalue()
