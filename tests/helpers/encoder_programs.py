"""Builds the C++ programs that run encoders, and calls them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from builds import REPOSITORY, built, configured

SOURCE = REPOSITORY / "cpp" / "torchscript"


@dataclass(frozen=True)
class Programs:
    """The build folder with `analyse` and `cycle`."""

    folder: Path

    def run(
        self, name: str, *words: object, file_size: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, however it ends."""
        command = [str(self.folder / name), *map(str, words)]
        if file_size is not None:
            command = ["prlimit", f"--fsize={file_size}", *command]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)


def built_programs(folder: Path, core_prefix: Path, **options: str) -> Programs:
    """Return the programs, built against an installed core and Python's torch."""
    import torch

    torch_prefix = Path(torch.utils.cmake_prefix_path)
    if not (torch_prefix / "Torch").is_dir():
        pytest.skip(f"this torch has no libtorch for CMake in {torch_prefix}")
    return Programs(
        built(
            configured(
                folder,
                SOURCE,
                CMAKE_PREFIX_PATH=f"{core_prefix};{torch_prefix}",
                Python3_EXECUTABLE=sys.executable,
                **options,
            )
        )
    )
