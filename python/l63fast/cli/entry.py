"""The application, its entry point, and how errors reach the user."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any, Final

import typer

from l63fast.cli import (
    benchmark,
    doctor,
    experiment,
    export,
    report,
    results,
    simulate,
    train,
)
from l63fast.cli.app import app
from l63fast.cli.mistakes import UsageError, in_one_line
from l63fast.errors import ArgumentTypeError, ArgumentValueError, L63Error, L63Warning

__all__ = ["main"]

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130
COMMANDS: Final = (
    *(simulate.simulate, train.train, results.evaluate, results.visualize),
    *(experiment.experiment, report.report, export.export),
    *(benchmark.benchmark, doctor.doctor),
)


def main(command: str | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 misused, 130 interrupted.

    Parameters
    ----------
    command : str, optional
        The one command that a script of `src/` stands for.
    """
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that knows ASCII only
        sys.stdout.reconfigure(errors="backslashreplace")
    order = [body.__name__ for body in COMMANDS]
    app.registered_commands.sort(key=lambda entry: order.index(str(entry.name)))
    whole: Any = typer.main.get_command(app)
    program = None if command is None else f"python {sys.argv[0]}"
    chosen = whole if command is None else whole.commands[command]
    try:
        code = chosen.main(prog_name=program or "l63fast", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UsageError as error:
        if error.format_message():
            _fail(in_one_line(error), MISUSED)
        sys.exit(MISUSED)  # nothing was typed, and the help was printed
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except (ArgumentValueError, ArgumentTypeError) as error:
        _fail(error, MISUSED)
    except L63Error as error:
        _fail(error, FAILED)
    except OSError as error:
        known = error.filename is not None and error.strerror is not None
        _fail(f"{error.filename}: {error.strerror}" if known else error, FAILED)


def _fail(error: Exception | str, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def _show_warning(
    message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    if issubclass(category, L63Warning):
        print(f"warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *where[:3]), file=sys.stderr)
