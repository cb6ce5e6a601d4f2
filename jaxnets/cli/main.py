"""The table of commands, and how a command ends: its exit status, and one line for bad input."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, get_args

import tyro

from .common import UsageError
from .jacobians import Compare, Layers, Shapes
from .learning import Evaluate, Export, Predict, Space, Train, Tricks, Uses
from .pages import Examples, Explore, Guide, Reference, Report

LEAST_COLUMNS = 20
ABOUT = "Neural-network layers and losses in JAX, each with a hand-written, structured Jacobian."

Command = (
    Annotated[Layers, tyro.conf.subcommand("layers")]
    | Annotated[Shapes, tyro.conf.subcommand("shapes")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Space, tyro.conf.subcommand("space")]
    | Annotated[Tricks, tyro.conf.subcommand("tricks")]
    | Annotated[Uses, tyro.conf.subcommand("uses")]
    | Annotated[Examples, tyro.conf.subcommand("examples")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Explore, tyro.conf.subcommand("explore")]
    | Annotated[Guide, tyro.conf.subcommand("guide")]
    | Annotated[Reference, tyro.conf.subcommand("reference")]
)
COMMANDS = {command.__name__.lower(): command for command, _ in map(get_args, get_args(Command))}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    It is 0 for success, 1 for a failed comparison or training, 2 for bad input, 3 where another process of a training was
    lost, and 130 after Ctrl-C.
    """
    return status_of(lambda: _parse(sys.argv[1:] if arguments is None else arguments).run())


def status_of(run: Callable[[], int]) -> int:
    """The exit status that a command returns, or that belongs to its error, which is printed in one line."""
    if sys.stdout is None:
        print("jaxnets: the standard output is closed", file=sys.stderr)
        return 2
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # where the output cannot show a letter
    try:
        status = run()
        sys.stdout.flush()
        return status
    except (UsageError, MemoryError) as error:  # of memory: what was asked for is too large
        print(f"jaxnets: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if str(stop):  # a training says where it saved its state
            print(f"jaxnets: {stop}", file=sys.stderr)
        return 130
    except OSError as error:
        with contextlib.suppress(io.UnsupportedOperation):  # what waits to be written is lost
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read the output has gone
            return 0
        print(f"jaxnets: {error}", file=sys.stderr)
        return 2


def _parse(arguments):
    said = io.StringIO()
    if os.environ.get("COLUMNS", "").isdigit() and int(os.environ["COLUMNS"]) < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)  # tyro's help never ends in fewer than 7
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Command, prog="jaxnets", args=arguments, description=ABOUT)
    except SystemExit as stop:
        if not stop.code:
            sys.exit(0)
        words = re.sub(r"[│╭╮╰╯─]+|-{3,}|\x1b\[[\d;]*m", " ", said.getvalue()).split()
        text = re.split(r" For full helptext| Argument helptext| Got errors", " ".join(words))[0]
        for start in ("Parsing error ", "Value error ", "Error parsing ", "Invalid choice ", "Unrecognized options "):
            text = text.removeprefix(start)
        command = [word for word in arguments[:1] if word in COMMANDS]
        raise UsageError(f"{text.removesuffix('.')}; see: {' '.join(['jaxnets', *command, '--help'])}") from None
