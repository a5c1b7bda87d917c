"""What l63fast promises, and the page docs/promises.md made from the tests' markers.

Run it after a marker has changed: `python tests/helpers/promises.py`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proof_record import RECORD

TESTS: Final = Path(__file__).resolve().parents[1]
PAGE: Final = TESTS.parent / "docs" / "promises.md"

NUMBERS: Final = {
    "N1": "the same bits for any thread count, batch size and chunking",
    "N2": "the same bits from C++ at every instruction set and from Numba",
    "N3": "nothing non-finite is hidden",
    "N4": "a bad dt is refused even when the result stays finite",
    "N5": "3D-Var says per sample how it ended",
    "N6": "random numbers do not depend on threads, chunks, workers or split sizes",
    "N7": "training is repeatable and resume is exact",
}
CALLS: Final = {
    "B1": "no array is half-used or silently copied",
    "B2": "inputs never change; outputs never alias inputs unless `out=`",
    "B3": "the GIL is released; 16 Python threads at once give serial bits",
    "B4": "Ctrl-C works in a long native call",
    "B5": "a fork after use does not hang",
    "B6": "a request too large is refused before work starts",
    "B7": "no memory error, undefined behaviour or race",
}
FILES: Final = {
    "F1": "a result directory is always a complete old or a complete new one",
    "F2": "corruption is always found",
    "F3": "disk full, read-only, quota: a clean error, the old result intact",
    "F4": "only what l63fast made is ever deleted",
    "F5": "two runs into one folder: the second is refused, no stale lock",
    "F6": "leftovers of killed runs are swept at the next start",
    "F7": "hours of cycles in one process: memory and descriptors stay flat",
}
MODELS: Final = {
    "M1": "our own models need neither pickle nor TorchScript to be used in Python",
    "M2": "TorchScript and .pt2 are treated as programs",
}
LEAKAGE: Final = {
    "L1": "splits share nothing",
    "L2": "statistics come from the training split only",
    "L3": "training does not depend on the test split",
    "L4": "observations belong to their truth",
}
CLUSTER: Final = {
    "D1": "a worker killed changes nothing",
    "D2": "a poisoned task is named, the rest finishes",
    "D3": "closed by default: loopback only, no dashboard",
}
PROCESS: Final = {
    "G1": "no call changes what belongs to the process or the thread",
    "G2": "no setting of the process or the thread changes a result",
    "G3": "what is built wrong does not build, or doctor says so",
    "G6": "what must agree is compared: scheme, encoder, backgrounds, data",
}
CONTENT: Final = {
    "C1": "content with a right hash is still only content",
}
ENVIRONMENTS: Final = {
    "E1": "unusual environments: what is asked for works, or one sentence says why",
}
BAD_INPUT: Final = {
    "I01": "simulate, forecast: shapes, dtypes, layouts, numbers, `out`",
    "I02": "environment variables with nonsense",
    "I03": "a processor without AVX2",
    "I04": "three_d_var: covariances, sizes, NaN, operators, tolerances, outliers",
    "I05": "sizes, seeds, windows and sigma of a data set",
    "I06": "a data file truncated, flipped, foreign, a FIFO, a device, unreadable",
    "I07": "training: NaN loss, a checkpoint of another run, disk full midway",
    "I08": "training: learning rate, batch size, epochs that make no sense",
    "I09": "save_every that does not divide n_steps",
    "I10": "a program without or with a wrong hash",
    "I11": "pickles under another name, bad headers, missing or misshapen tensors",
    "I12": "wrong width or NaN into a model",
    "I13": "C++: a model file missing, empty, of one byte, a directory",
    "I14": "command line: /, home, ~, ., .., a repository, a mount point",
    "I15": "command line: empty names, 300 characters, newline, NUL",
    "I16": "command line: spaces and unicode in paths work",
    "I17": "configuration: unknown, duplicate and mistyped keys, NaN, no regular file",
    "I18": "a result without a manifest; results of different data compared",
    "I19": "a scheduler that cannot be reached",
    "I20": "damaged or hostile bytes of any kind: a documented error, no crash",
}
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Numbers": NUMBERS,
    "Calls": CALLS,
    "Files": FILES,
    "Models": MODELS,
    "Leakage": LEAKAGE,
    "Cluster": CLUSTER,
    "Process": PROCESS,
    "Content": CONTENT,
    "Environments": ENVIRONMENTS,
    "Bad input": BAD_INPUT,
}
PROMISES: Final = {
    name: text for group in GROUPS.values() for name, text in group.items()
}
# Promised and not yet proved by a test of this repository.
OPEN: Final[frozenset[str]] = frozenset()

_INTRODUCTION: Final = """# What l63fast promises, and the tests that prove it

Made from the markers of the tests by `python tests/helpers/promises.py`; a test
compares. A promise without a test is open. The figure is what the test holds. Tests
whose figure is "measured" in *every run* are those of `pytest`; the long ones run with

    L63FAST_PROOFS=tests/helpers/proofs.json pytest -m "slow and promise"

which also records what they measured, and when; `python tests/helpers/promises.py`
then makes this page. Variables of the environment make them thorough, as they were for
this page:

| variable | default | thorough | |
|---|---|---|---|
| `L63FAST_KILLS` | 100 | 1000 | kill -9, over six jobs that write |
| `L63FAST_FLIPS` | 10000 | 10000 | single bits, over every kind of file |
| `L63FAST_FUZZ_SECONDS` | 60 | 600 | for each of eight kinds of file |
| `L63FAST_SOAK_MINUTES` | 1 | 60 | of cycles in one process |

The curve of the hour of cycles, made by
`python tests/helpers/soak_script.py 60 soak.png`:

![Memory of a process that cycles three filters for an hour](images/soak.png)
"""


@dataclass(frozen=True)
class Proof:
    """A test that proves a promise, the figure it holds, and whether it is slow."""

    promise: str
    figure: str
    test: str
    slow: bool


def proofs() -> list[Proof]:
    """Return what the markers of all test files say, in the order of the promises."""
    found = [proof for path in sorted(TESTS.glob("*/test_*.py")) for proof in _of(path)]
    return sorted(found, key=lambda proof: (_place(proof.promise), proof.slow))


def _place(name: str) -> int:
    return list(PROMISES).index(name) if name in PROMISES else -1


def _of(path: Path) -> Iterator[Proof]:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        slow = any("mark.slow" in ast.unparse(d) for d in node.decorator_list)
        # A parameter that is slow leaves the others in the default run.
        slow &= not any("pytest.param" in ast.unparse(d) for d in node.decorator_list)
        slow |= _whole_file_is_slow(tree)
        for decorator in node.decorator_list:
            if ast.unparse(decorator).startswith("pytest.mark.promise("):
                assert isinstance(decorator, ast.Call)
                name, figure = (ast.literal_eval(value) for value in decorator.args)
                yield Proof(name, figure, f"{path.name}::{node.name}", slow)


def _whole_file_is_slow(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "pytestmark"
        and "mark.slow" in ast.unparse(node.value)
        for node in tree.body
    )


def page(date: str) -> str:
    """Return docs/promises.md as it should be on a date."""
    lines = [_INTRODUCTION, f"Date: {date}", ""]
    known, record = proofs(), recorded()
    for title, group in GROUPS.items():
        lines += [
            f"## {title}",
            "",
            "| | promise | test | figure | measured |",
            "|---|---|---|---|---|",
        ]
        for name, text in group.items():
            mine = [proof for proof in known if proof.promise == name]
            lines += [
                f"| {name} | {text} | `{proof.test}` | {proof.figure} | "
                f"{measured(proof, record)} |"
                for proof in mine
            ] or [f"| {name} | {text} | **open** | | |"]
        lines.append("")
    return "\n".join(lines)


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    """Return what slow tests measured: by test, then by its parameters."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(RECORD.read_text())
    return found


def measured(proof: Proof, record: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return what a proof measured and when."""
    if not proof.slow and proof.test not in record:
        return "every run"
    runs = record.get(proof.test, {}).values()
    if not runs:
        return "not recorded"
    said = "; ".join(dict.fromkeys(run["measured"] for run in runs))
    return f"{said} ({min(run['date'] for run in runs)})"


def without_date(text: str) -> str:
    """Return the page without the one line that may differ."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("Date: "))


if __name__ == "__main__":
    PAGE.write_text(page(datetime.now(UTC).date().isoformat()))
