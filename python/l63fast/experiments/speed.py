"""The speed of the costly functions, compared with the limits of the machine."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks, plotting
from l63fast._kernels import backend_info, limits
from l63fast._timing import in_turns, one_core
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.experiments.describe import Table, microseconds
from l63fast.experiments.results import versions, write_text
from l63fast.lorenz63 import forecast, simulate, spin_up
from l63fast.observation import ObservationOperator
from l63fast.storage import result_directory, write_json

if TYPE_CHECKING:
    from l63fast.learning.encoder_speed import EncoderTimes

DT: Final = 0.01
STEP_INSTRUCTIONS: Final = 41  # in one RK4 step, in the fixed order of the kernels
STEP_BYTES: Final = 24  # one stored state in float64
N_ITERATIONS: Final = 10
# Number of multiplications and additions, fused where possible, in one Gauss-Newton
# iteration for x2, x2y2 and x2y2z2, in the space of the observed columns of B, without
# safeguard and status. Each iteration has one division too.
ANALYSIS_INSTRUCTIONS: Final = {1: 8, 2: 28, 3: 63}
_SPREAD: Final = 0.5  # standard deviation of the background error, in each component
_CORRELATION: Final = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, -0.1], [0.1, -0.1, 1.0]])
_EXTRA: Final = "onnxruntime"  # the times of encoders depend on its version
_SECONDS: Final = 1.5  # time spent on each function
_BOUNDS: Final = {
    "rk4": "arithmetic",
    "fma": "arithmetic",
    "divide": "division",
    "stream": "writes",
    "fresh_2m": "first touch",
}
_HEADINGS: Final = ("one core", "rate", "ceiling", "reached", "bound by")
_CAPTION: Final = (
    "processor time per analysis in microseconds, medians. Alone: the program itself "
    "on one window; the other columns: through `load_encoder`, by number of windows in "
    "a call. Gain: time of eager over time of the format."
)


@dataclass(frozen=True)
class Case:
    """A call that is timed, and the instructions and bytes that it needs.

    Attributes
    ----------
    name, unit : str
        Name of the case, and the unit of its work, such as "steps".
    run : callable
    amount : float
        Number of units in one call.
    needs : mapping of str to float
        Vector instructions or bytes per unit, by the limit that they are measured
        against ("rk4", "stream", ...). The limit with the lowest rate is the ceiling.
    single : bool
        Whether it computes in single precision.
    """

    name: str
    unit: str
    run: Callable[[], Any]
    amount: float
    needs: Mapping[str, float]
    single: bool = False


@dataclass(frozen=True)
class SpeedRow:
    """A measured rate and its ceiling (units per second; None without C++)."""

    name: str
    unit: str
    rate: float
    ceiling: float | None
    bound: str

    @property
    def share(self) -> float | None:
        """Ratio of the rate to the ceiling."""
        return None if self.ceiling is None else self.rate / self.ceiling


@dataclass(frozen=True, eq=False)
class AnalysisProblem:
    """A 3D-Var problem: backgrounds (n, 3), observations (n, m), operator, B and R."""

    background: np.ndarray
    observation: np.ndarray
    operator: ObservationOperator
    B: np.ndarray
    R: np.ndarray
    n_iter: int

    def solve(self, *, backend: str = "auto", n_threads: int = 1) -> np.ndarray:
        """Return the analyses (n, 3) after `n_iter` iterations.

        A sample takes fewer only if its step becomes zero.
        """
        given = (self.background, self.observation, self.operator)
        options: dict[str, Any] = {"n_threads": n_threads, "backend": backend}
        options |= {"max_iter": self.n_iter, "tol": 1e-300, "multi_start": False}
        return np.asarray(three_d_var(*given, B=self.B, R=self.R, **options).state)


def analysis_problem(
    n_samples: int, operator: str, n_iter: int = N_ITERATIONS
) -> AnalysisProblem:
    """Return a 3D-Var problem with |x|, |y| > 4, where Gauss-Newton converges."""
    every = spin_up(4 * n_samples + 100, seed=1, time=5.0)
    truth = every[(np.abs(every[:, :2]) > 4.0).all(axis=1)][:n_samples]
    h, rng = ObservationOperator(operator), np.random.default_rng(0)
    B = _SPREAD**2 * _CORRELATION
    background = truth + rng.normal(size=truth.shape) @ np.linalg.cholesky(B).T
    noise = rng.normal(size=(len(truth), h.obs_dim))
    observation = np.ascontiguousarray(h(truth)) + noise
    return AnalysisProblem(background, observation, h, B, np.eye(h.obs_dim), n_iter)


def speed_cases(scale: float = 1.0) -> Iterator[Case]:
    """Yield the cases of the benchmark; each is made when it is requested.

    Parameters
    ----------
    scale : float
        Fraction of the usual sizes.
    """

    def scaled(size: int) -> int:
        return max(int(size * scale), 1)

    lanes = limits.register_lanes() if backend_info().name == "cpp" else 1
    n_members, n_trajectories = scaled(10_240), scaled(8_192)
    states = spin_up(max(n_members, n_trajectories), seed=0, time=5.0)
    n_steps = scaled(500)
    for dtype, width in ((np.float64, lanes), (np.float32, 2 * lanes)):
        members, single = states[:n_members].astype(dtype), dtype == np.float32
        call = partial(forecast, members, n_steps, dt=DT, n_threads=1)
        amount, needs = float(n_members * n_steps), {"rk4": STEP_INSTRUCTIONS / width}
        name = f"forecast, {members.dtype.name}"
        yield Case(name, "steps", call, amount, needs, single)
    n_steps = scaled(800)
    by_member = np.ones((n_trajectories, n_steps + 1, 3))
    by_time = by_member.reshape(n_steps + 1, n_trajectories, 3).transpose(1, 0, 2)
    run = partial(simulate, states[:n_trajectories], n_steps, dt=DT, n_threads=1)
    for name, out, write in (
        ("by member", by_member, "stream"),
        ("by time", by_time, "stream"),
        ("new array", None, "fresh_2m"),
    ):
        needs = {"rk4": STEP_INSTRUCTIONS / lanes, write: float(STEP_BYTES)}
        amount = float(n_trajectories * n_steps)
        yield Case(f"simulate, {name}", "steps", partial(run, out=out), amount, needs)
    del by_member, by_time, out  # several hundred megabytes
    for operator in ("x2", "x2y2", "x2y2z2"):
        problem = analysis_problem(scaled(100_000), operator)
        n_fma = N_ITERATIONS * ANALYSIS_INSTRUCTIONS[problem.operator.obs_dim]
        needs = {"fma": n_fma / lanes, "divide": N_ITERATIONS / lanes}
        name = f"3D-Var of {', '.join(problem.operator.labels)}"
        amount = float(len(problem.background))
        yield Case(name, "analyses", problem.solve, amount, needs)


def measured(case: Case, *, seconds: float, n_bytes: int = 2**28) -> SpeedRow:
    """Return the rate of a case and its lowest ceiling, measured in turns."""
    works: dict[str, limits.Work] = {}
    for kind in case.needs if backend_info().name == "cpp" else ():
        if kind in limits.WRITES:
            works[kind] = limits.write_work(kind, n_bytes)
        else:
            works[kind] = limits.instruction_work(kind, single=case.single)
    calls = {"case": case.run} | {kind: work.run for kind, work in works.items()}
    times = in_turns(calls, seconds=seconds)
    rate = case.amount / times["case"]
    allowed = {k: w.amount / times[k] / case.needs[k] for k, w in works.items()}
    kind = min(allowed, key=allowed.__getitem__, default="")
    bound = _BOUNDS.get(kind, "")
    return SpeedRow(case.name, case.unit, rate, allowed.get(kind), bound)


def measure_speed(
    scale: float = 1.0, note: Callable[[SpeedRow], None] = lambda row: None
) -> list[SpeedRow]:
    """Return the rate and the ceiling of each costly function, on one core.

    Parameters
    ----------
    scale : float
        Fraction of the usual sizes and time, in (0, 1].
    note : callable
        Receives each row when it is finished.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If `scale` is not a number in (0, 1].
    """
    scale = _checks.real("scale", scale, above=0.0, maximum=1.0)
    n_bytes = max(int(2**28 * scale), 2**20)
    rows = []
    with one_core():
        for case in speed_cases(scale):
            rows.append(measured(case, seconds=_SECONDS * scale, n_bytes=n_bytes))
            note(rows[-1])
    return rows


def machine() -> dict[str, str]:
    """Return machine, date and software of a benchmark."""
    info = backend_info()
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        for line in re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)[:1]:
            processor = line.strip()
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "backend": info.name,
        "instruction set": info.instruction_set,
    }


def one_sentence(where: Mapping[str, str]) -> str:
    """Return machine and date of a benchmark in one line, for captions."""
    return (
        f"one core of {where['processor']}, {where['instruction set']}, {where['date']}"
    )


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The result of a benchmark, to print and to write.

    Attributes
    ----------
    kind, name : str
        Kind of the result folder, and name of the files in it.
    table : Table
    note : str
        Text below the table in the terminal.
    caption : str
        Text below the table in the Markdown file.
    content : dict
        Content of the JSON file.
    figure : Figure
    """

    kind: str
    name: str
    table: Table
    note: str
    caption: str
    content: Mapping[str, Any]
    figure: Any

    @property
    def markdown(self) -> str:
        """The table with its caption."""
        return f"{self.table.markdown()}\n\n{self.caption}\n"

    def rich(self) -> Any:
        """Return the table for a terminal."""
        from rich.console import Group

        return Group(self.table.rich(), *filter(None, [self.note]))

    def write(self, directory: Path) -> None:
        """Write the result into a folder as JSON, Markdown, PNG and SVG.

        Raises
        ------
        ResultError, LockedError
            If the folder holds other files than an earlier benchmark, or cannot be
            written.
        """
        with result_directory(directory, kind=self.kind) as folder:
            write_json(folder / f"{self.name}.json", self.content)
            write_text(folder, f"{self.name}.md", self.markdown)
            plotting.save_figure(self.figure, folder, self.name)


def kernel_benchmark(rows: Sequence[SpeedRow], where: Mapping[str, str]) -> Benchmark:
    """Return rates and ceilings, measured on the machine `where`, as a benchmark."""
    lines = []
    for row in rows:
        ceiling = share = ""
        if row.ceiling is not None and row.share is not None:
            ceiling, share = _millions(row.ceiling), f"{100.0 * row.share:.0f} %"
        rate = f"{_millions(row.rate)} M {row.unit}/s"
        lines.append((row.name, rate, ceiling, share, row.bound))
    sentence = one_sentence(where)
    bars = {row.name: (row.rate, row.ceiling, row.bound) for row in rows}
    shown = [asdict(row) | {"share": row.share} for row in rows]
    return Benchmark(
        *("benchmark", "speed", Table(_HEADINGS, lines, words=(0, 4)), ""),
        f"Lower quartile of the rounds on {sentence}; {_made()}.",
        {"machine": dict(where) | versions(), "rows": shown},
        plotting.speed_bars(bars, title=sentence),
    )


def _millions(rate: float) -> str:
    return f"{rate / 1e6:,.0f}" if rate >= 1e8 else f"{rate / 1e6:.3g}"


def encoder_benchmark(
    rows: Mapping[str, EncoderTimes], title: str, where: Mapping[str, str]
) -> Benchmark:
    """Return the times of an encoder in each format as a benchmark."""
    from l63fast.learning.encoder_speed import EAGER

    eager = rows[EAGER]
    batches, lines = list(eager.per_window), []
    for kind, times in rows.items():
        alone = (microseconds(times.latency), f"{eager.latency / times.latency:.2f}")
        cells = [""] * (len(batches) + 1)
        if times.per_window:
            last = batches[-1]
            cells = [microseconds(times.per_window[n]) for n in batches]
            cells.append(f"{eager.per_window[last] / times.per_window[last]:.2f}")
        lines.append((kind, *alone, *cells))
    header = ("format", "alone", "gain", *(f"{n:,}" for n in batches), "gain")
    curves = {k: dict(t.per_window) for k, t in rows.items() if t.per_window}
    figure = plotting.growth_curves(
        {"windows in one call": curves}, ylabel="time per analysis (µs)", scale=1e6
    )
    times_of = {kind: asdict(times) for kind, times in rows.items()}
    made = dict(where) | versions(_EXTRA)
    note = f"{title}; {_CAPTION}"
    return Benchmark(
        *("encoder benchmark", "encoders", Table(header, lines), note),
        f"{note} Made with {_made()}.",
        {"encoder": title, "machine": made, "rows": times_of},
        figure,
    )


def _made() -> str:
    packages = versions(_EXTRA)
    return ", ".join(f"{name} {number}" for name, number in packages.items())
