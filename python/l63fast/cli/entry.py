"""The application, its entry point, and the output of errors."""

from __future__ import annotations

import io
import os
import sys
import warnings
from difflib import get_close_matches
from itertools import takewhile
from typing import Annotated, Any, Final, get_args

import typer

from l63fast.cli.command_line import CONTEXT, OPTIONS, Option
from l63fast.cli.experiment import experiment, report
from l63fast.cli.machine import benchmark, doctor, installed
from l63fast.cli.output import complain
from l63fast.cli.results import evaluate, export, visualize
from l63fast.cli.simulate import simulate
from l63fast.cli.train import train
from l63fast.errors import ArgumentTypeError, ArgumentValueError, L63Error, L63Warning

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130
COMMANDS: Final[tuple[Any, ...]] = (
    *(simulate, train, evaluate, visualize, experiment, report, export, benchmark),
    doctor,
)
# Typer has its own copy of click's errors in newer versions, and neither is public.
_UsageError: Final[Any] = typer.BadParameter.__base__
_KINDS: Final = {int: "an integer", float: "a number"}
_app = typer.Typer(name="l63fast", no_args_is_help=True, context_settings=CONTEXT)
for _body in COMMANDS:
    _app.command(context_settings=CONTEXT)(_body)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"l63fast {installed('l63fast')}")
        raise typer.Exit


@_app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Data-assimilation experiments on the Lorenz-63 system.

    Options may be written with _ or -: --n_traj and --n-traj are the same.
    """


def main(command: str | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 misused, 130 interrupted.

    Parameters
    ----------
    command : str, optional
        The command that a script in `src/` runs.
    """
    for name in ("stdout", "stderr"):  # rich fails where one of them is closed
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # for terminals with ASCII only
        sys.stdout.reconfigure(errors="backslashreplace")
    whole: Any = typer.main.get_command(_app)
    program = None if command is None else f"python {sys.argv[0]}"
    chosen = whole if command is None else whole.commands[command]
    try:
        code = chosen.main(prog_name=program or "l63fast", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _UsageError as error:
        if error.format_message():
            _fail(_in_one_line(error), MISUSED)
        sys.exit(MISUSED)  # no command was typed; typer has printed the help
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
    complain(f"error: {error}")
    sys.exit(code)


def _show_warning(
    message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    text = f"warning: {message}"
    if not issubclass(category, L63Warning):
        text = warnings.formatwarning(message, category, *where[:3])
    complain(text)


def _in_one_line(error: Any) -> str:
    """Return the message of a usage error in one line, with a hint to `--help`."""
    context, param = error.ctx, getattr(error, "param", None)
    program = "l63fast" if context is None else context.command_path
    options = () if context is None else OPTIONS.get(str(context.command.name), ())
    option = next((o for o in options if param and o.name == param.name), None)
    text = _spaced(error, options, option)
    if text is None and option is None:
        text = str(error.format_message()).rstrip(".")
    elif text is None and option is not None:
        flag = option.name.upper() if option.positional else f"--{option.name}"
        text = f"{flag}: expected {_expected(option)}, got {_typed(option)!r}"
    return f"{text} (see {program} --help)"


def _spaced(error: Any, options: Any, option: Option | None) -> str | None:
    """Return the message about a list that was typed with spaces, or None."""
    names: tuple[str, ...] = ()
    if option is not None and option.positional:
        names = get_args(option.kind)
        if get_close_matches(_typed(option), names):
            return None  # a misspelled choice
    elif "unexpected extra argument" not in error.format_message():
        return None
    lists = {o.name for o in options if o.read is not None}
    words = sys.argv[1:]
    for k, word in enumerate(words):
        rest = words[k + 1 :]
        values = list(takewhile(lambda w: w[:1] != "-" and w not in names, rest))
        name = word.replace("-", "_").removeprefix("__")
        if word.startswith("--") and name in lists and len(values) > 1:
            return (
                f"--{name}: expected values separated by commas, {','.join(values)}, "
                f"got {' '.join(values)!r}"
            )
    return None


def _expected(option: Option) -> str:
    names = get_args(option.kind)
    if names:
        return f"one of {', '.join(str(name) for name in names)}"
    limits = [
        f"{word} {limit:g}"
        for word, limit in (("at least", option.minimum), ("at most", option.maximum))
        if limit is not None
    ]
    kind = _KINDS.get(option.kind, f"a {getattr(option.kind, '__name__', 'value')}")
    return f"{kind} of {' and '.join(limits)}" if limits else kind


def _typed(option: Option) -> str:
    """Return the typed value of an option, the last one if there are several."""
    switches = {o.name for some in OPTIONS.values() for o in some if o.kind is bool}
    values: dict[str, str] = {}
    free = []  # the command and its positional arguments
    words = iter(sys.argv[1:])
    for word in words:
        name, equals, value = _flag(word), "=" in word, word.partition("=")[2]
        if not word.startswith("-"):
            free.append(word)
        elif equals or name in switches:
            values[name] = value
        else:
            values[name] = next(words, "")
    return "".join(free[1:2]) if option.positional else values.get(option.name, "")


def _flag(word: str) -> str:
    """Return the name of the option in a word such as `--n-traj=5`."""
    return word.partition("=")[0].replace("-", "_").removeprefix("__")
