"""What commands share: the options of a model, errors of one line, tables and JSON, files and folders."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Literal

from ..languages import language_of


class UsageError(Exception):
    """Bad input, described in one line."""


def example_of(command: type) -> str:
    """The command line that the docstring of a command ends with, which its `--help` shows."""
    return (command.__doc__ or "").rpartition("Example: ")[2].strip()


def not_named(command, what: str, choices: str) -> UsageError:
    """The error of a command that was not told what to work on."""
    name = type(command).__name__.lower()
    return UsageError(f"{name}: which {what}?  {choices}, as in: {example_of(type(command))}")


@contextlib.contextmanager
def usage_errors():
    """Turns errors of the library about its arguments into a `UsageError`, and its warnings into lines on stderr."""
    from ..errors import DTypeError

    def show(message, category, *place):
        if category is UserWarning:
            print(f"jaxnets: warning: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    except (ValueError, DTypeError, OverflowError, MemoryError, ModuleNotFoundError, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from None


@contextlib.contextmanager
def working(on: str):
    """Show on stderr what a command does until its end; gives the stage that is the command itself."""
    from rich.console import Console

    moves = sys.stderr.isatty()
    with Console(stderr=True).status("loading JAX") if moves else contextlib.nullcontext():
        from ..learn.progress import display, stage
    with display(), stage(on) as told:
        yield told


Language = Literal["en", "fr"]


def chosen_language(asked: Language | None) -> str:
    """The language that an option asks for, or else the environment."""
    return asked or language_of(os.environ)


@dataclasses.dataclass
class ModelOptions:
    """The options of a model with random parameters on a batch of data."""

    input: str | None = None
    """Shape of one example of a described model, such as 3x10x20.  Default: 8."""
    batch: int | None = None
    """Number of examples.  Default: 4."""
    seed: int = 0
    """Seed for the parameters and the data."""
    dtype: Literal["float64", "float32"] = "float64"
    """Floating-point type of parameters and data."""

    def setup(self):
        """Set JAX to the chosen precision."""
        import jax

        jax.config.update("jax_enable_x64", self.dtype == "float64")

    def problem(self, text, abstract=False):
        """The model that a text describes, with a batch of data and with parameters, or only their shapes if `abstract`."""
        from ..learn.presets import make_problem

        if not -(2**63) <= self.seed < 2**63:
            raise UsageError(f"--seed must be an integer of 64 bits, got {self.seed}")
        batch = 4 if self.batch is None else self.batch
        with usage_errors():
            return make_problem(text, shape_of(self.input), batch, self.seed, self.dtype, abstract)


def shape_of(text: str | None, option: str = "--input", example: str = "3x10x20") -> tuple[int, ...] | None:
    """The shape that a text like 3x10x20 means."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(x[0-9]{1,6})*", text) or "0" in text.split("x"):
        raise UsageError(f"{option} {text!r}: write a shape of positive sizes, such as {option} {example}")
    return tuple(int(n) for n in text.split("x"))


def print_tables(*tables):
    """Print tables as wide as the terminal, or 160 columns wide where there is no terminal."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self):  # rich would end the process
            raise BrokenPipeError

    console = Output() if sys.stdout.isatty() else Output(width=160)
    for table in tables:
        console.print(table)


def print_json(data):
    from ..show.formats import replace_nonfinite

    print(json.dumps(replace_nonfinite(data), ensure_ascii=False, indent=1, allow_nan=False))


def print_result(found, as_json: bool) -> int:
    """Print a result as a table or as JSON, and return the exit status of a command that succeeded."""
    if as_json:
        print_json(found.to_json())
    else:
        print_tables(found)
    return 0


@contextlib.contextmanager
def output_folder(output: str | None, name: str):
    """The folder to write to: the one that was asked for, or else the first free one, so that nothing is overwritten.

    A free one is made at once, so that no other process takes it, too; it is removed if nothing was written to it.
    """
    if output is not None:
        if not output or Path(output).exists() and not Path(output).is_dir():
            raise UsageError(f"--output must name a folder to write to, such as runs/{name}, got {output!r}")
        yield Path(output)
        return
    os.makedirs("runs", exist_ok=True)
    folder = next(path for i in itertools.count(1) if _is_made(path := Path("runs", f"{name}-{i}" if i > 1 else name)))
    try:
        yield folder
    finally:
        for path in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()


def _is_made(folder: Path) -> bool:
    """Make a folder; False if there is something of its name."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def check_file(path: Path):
    """Refuse, before anything is computed, a path to which no file can be written."""
    if path.is_dir():
        raise UsageError(f"--output must name a file, got the folder '{path}'")


def write(path: Path, text: str) -> int:
    """Write a file as a whole or not at all, print its path, and return the exit status."""
    from ..files import written_atomically

    with usage_errors(), written_atomically(path) as part:
        Path(part).write_text(text, encoding="utf-8")
    print(path)
    return 0
