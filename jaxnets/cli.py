"""The command `jaxnets`.  JAX is imported only once a command runs: `--help` answers at once."""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

ABOUT = "Neural-network layers and losses in JAX, each with a hand-written, structured Jacobian."


@dataclasses.dataclass
class Common:
    """A model with random numbers, on a batch of data."""

    input: str | None = None
    """Shape of one example of a described model, as 3x10x20.  Default: 8."""
    batch: int | None = None
    """Number of examples.  Default: 4."""
    seed: int = 0
    """Seed of parameters and data."""
    dtype: Literal["float64", "float32"] = "float64"
    """Floating-point type of parameters and data."""


@dataclasses.dataclass
class Layers:
    """Every layer and loss with the formulae of its Jacobians."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclasses.dataclass
class Shapes(Common):
    """The layers of a model: dimensions, formulae and structure of every Jacobian, from shapes alone."""

    model: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder) or a description: "linear(60) relu linear(10) log_softmax"."""
    loss: bool = False
    """Include the average loss."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclasses.dataclass
class Compare(Common):
    """Every Jacobian of a model or layer, hand-written against autodiff and finite differences.

    Exit status 1 where one does not agree.
    """

    what: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder), a description, a layer by name, or "all"."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass
class Train:
    """Train a network of the practicum; metrics, checkpoints and pictures go to a folder.

    Exit status 1 where training meets NaN or infinity, 130 at Ctrl-C, which saves first.
    """

    task: tyro.conf.Positional[str] = ""
    """spiral, regression, digits or mnist."""
    output: str | None = None
    """Folder to write to.  Default: runs/TASK, or the first of runs/TASK-2, runs/TASK-3, … that is free."""
    model: str | None = None
    """A description of another model: "linear(60) relu linear(3) log_softmax"."""
    epochs: int | None = None
    """Passes over the training set.  Default: the task's."""
    batch_size: int | None = None
    """Examples a step; 0 for all of them.  Default: the task's."""
    learning_rate: float | None = None
    """Learning rate at the beginning.  Default: the task's."""
    gradient: Literal["autodiff", "manual"] = "autodiff"
    """By jax.grad, or by the hand-written rules."""
    seed: int = 0
    """Seed of parameters, data, split, order and dropout."""
    resume: bool = False
    """Go on from the newest checkpoint in the folder."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass
class Evaluate:
    """A trained classifier on the examples that its training held out: accuracy, confusion matrix, calibration."""

    checkpoint: tyro.conf.Positional[str] = ""
    """A folder that `jaxnets train` wrote, or one of its checkpoints."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass
class Space:
    """What random linear maps, tanh and random networks do to the plane."""

    output: str | None = None
    """Folder for the pictures.  Default: runs/space, or the first of runs/space-2, … that is free."""
    seed: int = 0
    """Seed of the points and maps."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass
class Tricks:
    """The practical tricks, measured: a table, a picture and a finding each."""

    name: tyro.conf.Positional[str] = "all"
    """A trick by name, or all."""
    output: str | None = None
    """Folder for the pictures.  Default: runs/tricks, or the first of runs/tricks-2, … that is free."""
    seeds: int = 5
    """How often each is repeated."""
    quick: bool = False
    """Small networks and few epochs: does it run at all?"""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclasses.dataclass
class Report(Common):
    """One self-contained page on a model: its graph, every module's formula, code and Jacobian, and how they compare."""

    model: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder) or a description: "linear(60) relu linear(10) log_softmax"."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """File to write."""


@dataclasses.dataclass
class Explore:
    """The same page in the browser, with live JAX behind it: other models, sizes and seeds, one training step at a time."""

    model: tyro.conf.Positional[str] = "spiral"
    """What to begin with: a preset or a description."""
    input: str | None = None
    """Shape of one example of a described model, as 3x10x20.  Default: 8."""
    port: int = 0
    """Port on 127.0.0.1.  Default: one that is free."""
    browser: bool = True
    """Open the page in a browser."""


@dataclasses.dataclass
class Guide:
    """The guide, a page at a time."""

    page: tyro.conf.Positional[str] = ""
    """A page by name.  Default: their names."""


@dataclasses.dataclass
class Reference:
    """Every public name with its signature and documentation."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """HTML file to write.  Default: print as text."""


Command = (
    Annotated[Layers, tyro.conf.subcommand("layers")]
    | Annotated[Shapes, tyro.conf.subcommand("shapes")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Space, tyro.conf.subcommand("space")]
    | Annotated[Tricks, tyro.conf.subcommand("tricks")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Explore, tyro.conf.subcommand("explore")]
    | Annotated[Guide, tyro.conf.subcommand("guide")]
    | Annotated[Reference, tyro.conf.subcommand("reference")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for a failed comparison or training, 2 for bad input, 130 if
    interrupted."""
    try:
        command = _parse(sys.argv[1:] if arguments is None else arguments)
        return RUN[type(command)](command)
    except _UsageError as error:
        print(f"jaxnets: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if str(stop):  # training says where it saved its state
            print(f"jaxnets: {stop}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _UsageError(Exception):
    """Bad input, said in one line."""


def _parse(arguments):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Command, prog="jaxnets", args=arguments, description=ABOUT)
    except SystemExit as stop:
        if not stop.code:
            sys.exit(0)
        words = re.sub(r"[│╭╮╰╯─]+|\x1b\[[\d;]*m", " ", said.getvalue()).split()
        text = re.split(r" For full helptext| Argument helptext| Got errors", " ".join(words))[0]
        raise _UsageError(text.removeprefix("Parsing error ").removeprefix("Unrecognized options ")) from None


def _setup(command: Common):
    """JAX at the chosen precision."""
    import jax

    jax.config.update("jax_enable_x64", command.dtype == "float64")


def _print(*tables):
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=160)
    for table in tables:
        console.print(table)


def _print_json(data):
    from .show.formats import for_json

    print(json.dumps(for_json(data), ensure_ascii=False, indent=1, allow_nan=False))


def _show(found, as_json: bool) -> int:
    if as_json:
        _print_json(found.to_json())
    else:
        _print(found)
    return 0


def _layers(command: Layers) -> int:
    from .catalogue import catalogue

    return _show(catalogue(), command.json)


def _input_shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,6}(x\d{1,6})*", text) or "0" in text.split("x"):
        raise _UsageError(f"--input {text!r}: write a shape of positive sizes, as 3x10x20")
    return tuple(int(n) for n in text.split("x"))


def _problem(command, text, abstract=False):
    from .learn.spec import problem

    batch = 4 if command.batch is None else command.batch
    with _usage():
        return problem(text, _input_shape(command.input), batch, command.seed, command.dtype, abstract)


def _shapes(command: Shapes) -> int:
    if not command.model:
        raise _UsageError("shapes: which MODEL?  A preset (mynet, spiral, digits, autoencoder) or a description")
    _setup(command)
    from .show.tabulate import tabulate

    found = _problem(command, command.model, abstract=True)
    return _show(tabulate(found.loss if command.loss else found.network, found.params, found.x), command.json)


def _compare(command: Compare) -> int:
    if not command.what:
        raise _UsageError("compare: which MODEL or LAYER?  A preset, a description, the name of a layer, or all")
    _setup(command)
    from .catalogue import LAYERS
    from .learn.spec import presets

    names = [*LAYERS, *presets()] if command.what == "all" else [command.what]
    ok, collected = True, []
    for name in names:
        for report in _comparisons(command, name):
            ok = ok and report.ok
            if command.json:
                collected.append(report.to_json())
            else:
                _print(report, "")
    if command.json:
        _print_json({"ok": ok, "comparisons": collected})
    elif len(names) > 1:
        print("all Jacobians agree" if ok else "some Jacobians differ")
    return 0 if ok else 1


def _comparisons(command: Compare, name: str):
    import jax

    from .catalogue import LAYERS, example
    from .show.compare import compare

    if name in LAYERS:
        if command.input is not None or command.batch is not None:
            raise _UsageError(
                f"compare {name}: a layer by name has arguments of its own; --input and --batch are for models"
            )
        layer = LAYERS[name]
        arguments, config = example(layer, jax.random.key(command.seed), command.dtype)
        yield compare(functools.partial(layer, **config), *arguments, title=f"layer {name}")
        return
    found = _problem(command, name)
    yield compare(found.network, found.params, found.x, title=f"{name}: the network on {found.source}")
    yield compare(found.loss, found.params, found.x, title=f"{name}: its average loss")


def _train(command: Train) -> int:
    from .errors import NonFiniteError

    if not command.task:
        raise _UsageError(f"train: which TASK?  {', '.join(_practicum().RECIPES)}")
    if command.resume and command.output is None:
        raise _UsageError("train: --resume goes on in a folder: say which with --output")
    options = dataclasses.asdict(command)
    for name in ("task", "json", "output"):
        del options[name]
    try:
        with _usage():
            folder = _folder(command.output, command.task)
            report = _practicum().train(command.task, output=folder, progress=sys.stderr.isatty(), **options)
    except NonFiniteError as error:
        print(f"jaxnets: {error}", file=sys.stderr)
        return 1
    return _show(report, command.json)


def _evaluate(command: Evaluate) -> int:
    if not command.checkpoint:
        raise _UsageError("evaluate: which CHECKPOINT?  A folder that `jaxnets train` wrote")
    with _usage():
        return _show(_practicum().evaluate(command.checkpoint), command.json)


def _space(command: Space) -> int:
    with _usage():
        folder = _folder(command.output, "space") if command.pictures else None
        return _show(_practicum().space(folder, seed=command.seed), command.json)


def _tricks(command: Tricks) -> int:
    from .course.tricks import TRICKS, run

    collected = []
    with _usage():
        folder = _folder(command.output, "tricks") if command.pictures else None
        for name in TRICKS if command.name == "all" else [command.name]:
            finding = run(name, seeds=command.seeds, quick=command.quick, output=folder)
            if command.json:
                collected.append(finding.to_json())
            else:
                _print(finding, "")
    if command.json:
        _print_json(collected)
    return 0


def _report(command: Report) -> int:
    if not command.model:
        raise _UsageError("report: which MODEL?  A preset (mynet, spiral, digits, autoencoder) or a description")
    _setup(command)
    from .report.report import report

    return _write(command.output, report(_problem(command, command.model)))


def _explore(command: Explore) -> int:
    from .learn.spec import problem
    from .report.explorer import explore

    with _usage():
        problem(command.model, _input_shape(command.input), abstract=True)  # refused here, not in the browser
        explore(command.port, command.model, command.browser, command.input or "")
    return 0


def _guide(command: Guide) -> int:
    from rich.markdown import Markdown

    from .reference import pages

    known = pages()
    if not command.page:
        _print("pages: " + ", ".join(known))
    elif command.page not in known:
        raise _UsageError(f"guide: no page '{command.page}'; pages: {', '.join(known)}")
    else:
        _print(Markdown(known[command.page]))
    return 0


def _reference(command: Reference) -> int:
    from .reference import reference, reference_html

    if command.output is not None:
        return _write(command.output, reference_html())
    print(reference())
    return 0


def _write(path: Path, text: str) -> int:
    """Write a file whole or not at all, and tell its name."""
    from .files import aside

    with _usage(), aside(path) as part:
        Path(part).write_text(text, encoding="utf-8")
    print(path)
    return 0


def _practicum():
    from .course import practicum

    return practicum


def _folder(output: str | None, name: str) -> Path:
    """The folder to write to: as asked, or the first that is free, so that nothing is overwritten."""
    if output is not None:
        return Path(output)
    names = (f"{name}-{i}" if i > 1 else name for i in itertools.count(1))
    return next(path for path in (Path("runs", name) for name in names) if not path.exists())


@contextlib.contextmanager
def _usage():
    """Errors of the library about what it was given, in one line."""
    from .errors import DTypeError

    try:
        yield
    except (ValueError, DTypeError, OverflowError, ModuleNotFoundError, OSError) as error:
        raise _UsageError(" ".join(str(error).split())) from None


RUN: dict[type, Callable[..., int]] = {
    Layers: _layers,
    Shapes: _shapes,
    Compare: _compare,
    Train: _train,
    Evaluate: _evaluate,
    Space: _space,
    Tricks: _tricks,
    Report: _report,
    Explore: _explore,
    Guide: _guide,
    Reference: _reference,
}

if __name__ == "__main__":
    sys.exit(main())
