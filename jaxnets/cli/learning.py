"""Commands about learning: `train`, `evaluate`, `predict`, `export`, `space`, `tricks`, `uses`."""

import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .common import (
    UsageError,
    check_file,
    example_of,
    not_named,
    output_folder,
    print_json,
    print_result,
    print_tables,
    shape_of,
    usage_errors,
    working,
    write,
)
from .processes import Group

if TYPE_CHECKING:
    from ..course.experiments.collection import Collection

PictureFormat = Literal["png", "svg", "pdf"]


@dataclasses.dataclass
class Train:
    """Train a network of the practicum, or one on your own data; metrics, checkpoints and pictures go to a folder.

    The exit status is 1 if training meets NaN or infinity, and 130 after Ctrl-C, which first saves the state.  It is 3 if
    another process of a training on several hosts is lost; to go on, start all of them again with --resume.

    Example: jaxnets train digits
    """

    task: tyro.conf.Positional[str] = ""
    """spiral, circles, moons, xor, regression, digits, digits_conv, mnist or text.  Left out with --data."""
    data: str | None = None
    """Your own data in place of a task: FILE.csv, FILE.npz with x and y, or a FOLDER of images with a folder per class."""
    target: str | None = None
    """With --data FILE.csv: the column of the answers."""
    classes: int | None = None
    """With --data: the number of classes, or 0 if the answers are numbers.  Default: what the answers look like."""
    size: str | None = None
    """With --data FOLDER: bring all images to this size, HEIGHTxWIDTH."""
    held_out: float | None = None
    """With --data: the share of the examples that are held out.  Default: 0.2."""
    standardize: bool = True
    """With --data: give features and numbers to predict the mean 0 and the deviation 1."""
    output: str | None = None
    """Folder to write to.  Default: runs/TASK, or the first of runs/TASK-2, runs/TASK-3, … that is free."""
    model: str | None = None
    """A description of another model, such as "linear(60) relu linear(3) log_softmax"."""
    epochs: int | None = None
    """Number of passes over the training set.  Default: that of the task, or of your own data about 1,000 steps."""
    batch_size: int | None = None
    """Number of examples per step; 0 means all of them.  Default: that of the task."""
    learning_rate: float | None = None
    """Learning rate at the beginning.  Default: that of the task."""
    gradient: Literal["autodiff", "manual"] = "autodiff"
    """Take the gradient by jax.grad (autodiff) or by the hand-written rules (manual)."""
    seed: int = 0
    """Seed for the parameters, the data, their split and order, and dropout."""
    resume: bool = False
    """Go on from the newest checkpoint in the folder."""
    allow_changes: bool = False
    """With --resume: go on also with another learning rate, optimizer, loss or penalty than before."""
    devices: int | None = None
    """Number of devices that share each batch.  Where JAX has only a CPU they are virtual: to try it out, not for speed."""
    fsdp: bool = False
    """The devices also share the parameters: each holds its part of them, and of the optimizer's state."""
    processes: int | None = None
    """Number of processes that train together, on as many hosts.  Start all of them, with an --output that all can see."""
    process: int | None = None
    """With --processes: the number of this one, from 0."""
    coordinator: str | None = None
    """With --processes: HOST:PORT where process 0 waits for the others."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    format: PictureFormat = "png"
    """Format of the pictures."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        if self.processes is None and self.process is None and self.coordinator is None:
            return self._run()
        if self.processes is None or self.process is None or self.coordinator is None or self.output is None:
            raise UsageError("train: in several processes each needs --processes, --process, --coordinator and --output")
        return Group(self.coordinator, self.processes, self.process).run(self)

    def run_joined(self, group: Group) -> int:
        """As one process of several: they all train, and the first one tells about it."""
        import jax

        group.join(self.devices)
        self.devices = len(jax.devices())
        self.pictures = self.pictures and group.number == 0
        return self._run()

    def _run(self) -> int:
        from ..course import practicum
        from ..errors import NonFiniteError
        from ..learn.records import WITH_CHANGES

        own = {name: getattr(self, name) for name in ("target", "classes", "held_out") if getattr(self, name) is not None}
        if self.size is not None:
            own["size"] = _size_of(self.size)
        if not self.standardize:
            own["standardize"] = False
        if self.data is None and own:
            raise UsageError(f"train: --{next(iter(own)).replace('_', '-')} is for --data, your own data")
        if self.data is not None and self.task:
            raise UsageError(f"train: either the task '{self.task}' or --data, not both")
        if self.data is None and not self.task:
            raise not_named(self, "TASK, or which --data FILE", ", ".join(practicum.RECIPES))
        if self.data is None and self.task not in practicum.RECIPES:
            raise UsageError(f"train: unknown task '{self.task}'; known: {', '.join(practicum.RECIPES)}")
        title = self.task if self.data is None else practicum.name_of(self.data)
        if self.resume and self.output is None:
            raise UsageError(f"train: --resume goes on in a folder; name it: --output runs/{title}")
        if self.allow_changes and not self.resume:
            raise UsageError("train: --allow-changes is for --resume; say both")
        names = (
            "model",
            "epochs",
            "batch_size",
            "learning_rate",
            "gradient",
            "seed",
            "resume",
            "pictures",
            "format",
            "devices",
            "fsdp",
        )
        options = {name: getattr(self, name) for name in names}
        if self.allow_changes:
            options["resume"] = WITH_CHANGES
        try:
            with usage_errors(), working(f"train {title}"), output_folder(self.output, title) as folder:
                if self.data is None:
                    report = practicum.train(self.task, output=folder, **options)
                else:
                    report = practicum.train_on(self.data, output=folder, **own, **options)
        except NonFiniteError as error:
            print(f"jaxnets: {error}", file=sys.stderr)
            return 1
        return print_result(report, self.json)


def _check_run(command):
    """Refuse what is no folder, and tell how there comes to be one."""
    wanted = "A folder that `jaxnets train` or jn.fit wrote"
    if not command.checkpoint:
        raise not_named(command, "CHECKPOINT", wanted)
    if not Path(command.checkpoint).is_dir():
        name = type(command).__name__.lower()
        raise UsageError(
            f"{name}: no folder '{command.checkpoint}'.  {wanted} is needed; one is made by: {example_of(Train)}"
        )


def _size_of(text: str) -> tuple[int, ...]:
    found = shape_of(text, "--size", "28x28") or ()
    if len(found) != 2:
        raise UsageError(f"--size {text!r}: write HEIGHTxWIDTH, such as 28x28")
    return found


@dataclasses.dataclass
class Evaluate:
    """Evaluate a trained network on held-out examples or on a file: accuracy, confusion matrix, calibration; RMSE and R².

    Example: jaxnets evaluate runs/digits
    """

    checkpoint: tyro.conf.Positional[str] = ""
    """A folder that `jaxnets train` or `jn.fit` wrote, or one of its checkpoints."""
    data: str | None = None
    """A file or folder to evaluate on, which is read as that of the training was.  Default: what the training held out."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        from ..course import practicum

        _check_run(self)
        with usage_errors(), working(f"evaluate {self.checkpoint}"):
            found = practicum.evaluate(self.checkpoint, self.data)
        return print_result(found, self.json)


@dataclasses.dataclass
class Predict:
    """Predict with a trained network: one line of CSV for each example of a file or folder.

    Example: jaxnets predict runs/flowers new.csv -o predictions.csv
    """

    checkpoint: tyro.conf.Positional[str] = ""
    """A folder that `jaxnets train` or `jn.fit` wrote, or one of its checkpoints."""
    file: tyro.conf.Positional[str] = ""
    """FILE.csv, FILE.npz with x, or a FOLDER of images; answers are not needed."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write to.  Default: the terminal."""

    def run(self) -> int:
        from ..course import practicum

        _check_run(self)
        if not self.file:
            raise UsageError(f"predict: for which FILE?  Say: jaxnets predict {shlex.quote(self.checkpoint)} FILE")
        if self.output is not None:
            check_file(self.output)
        with usage_errors(), working(f"predict {self.file}"):
            found = practicum.predict_file(self.checkpoint, self.file)
        text = found.to_csv()
        if self.output is not None:
            return write(self.output, text)
        sys.stdout.write(text)
        return 0


@dataclasses.dataclass
class Export:
    """Write a trained network to a file: a function that JAX alone can call (.jax), or its parameters (.safetensors).

    Example: jaxnets export runs/digits -o digits.jax
    """

    checkpoint: tyro.conf.Positional[str] = ""
    """A folder that `jaxnets train` or `jn.fit` wrote, or one of its checkpoints."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write to: NAME.jax or NAME.safetensors."""

    def run(self) -> int:
        _check_run(self)
        if self.output is None:
            raise UsageError(f"export: to which file?  Say: jaxnets export {shlex.quote(self.checkpoint)} -o model.jax")
        check_file(self.output)
        with usage_errors(), working(f"export {self.checkpoint}"):
            from ..learn import export, restore

            model, params, config = restore(self.checkpoint)
            export(model, params, self.output, like=config)
        print(self.output)
        return 0


@dataclasses.dataclass
class Space:
    """Show what random linear maps, tanh and random networks do to the plane.

    Example: jaxnets space
    """

    output: str | None = None
    """Folder for the pictures.  Default: runs/space, or the first of runs/space-2, … that is free."""
    seed: int = 0
    """Seed for the points and the maps."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    format: PictureFormat = "png"
    """Format of the pictures."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        from ..course import practicum

        made = output_folder(self.output, "space") if self.pictures else contextlib.nullcontext()
        with usage_errors(), working("space"), made as folder:
            found = practicum.space(folder, seed=self.seed, format=self.format)
        return print_result(found, self.json)


@dataclasses.dataclass
class Measured:
    """The options of commands that measure experiments over several seeds, and how they are carried out."""

    name: tyro.conf.Positional[str] = ""
    """The name of one, or "all", which takes some minutes.  Without it they are listed."""
    output: str | None = None
    """Folder for the pictures.  Default: runs/COMMAND, or the first of runs/COMMAND-2, … that is free."""
    seeds: int = 5
    """Number of repetitions of each experiment."""
    quick: bool = False
    """Take small networks and few epochs, only to see that everything runs."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    format: PictureFormat = "png"
    """Format of the pictures."""
    json: bool = False
    """Print JSON instead of tables."""

    def collection(self) -> "Collection":
        """The experiments, imported only when they are wanted."""
        raise NotImplementedError

    def run(self) -> int:
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for a spread between them, got {self.seeds}")
        if not self.name:
            return print_result(self.collection(), self.json)
        command, collected = type(self).__name__.lower(), []
        made = output_folder(self.output, command) if self.pictures else contextlib.nullcontext()
        with usage_errors(), working(f"{command} {self.name}") as told, made as folder:
            experiments = self.collection()
            from ..learn.progress import paused

            if self.name == "all":
                told.total, told.unit = len(experiments), experiments.kind
            for name in experiments if self.name == "all" else [self.name]:
                if self.name == "all":
                    told.next_part(name)
                found = experiments.measure(name, seeds=self.seeds, quick=self.quick, output=folder, format=self.format)
                if self.json:
                    collected.append(found.to_json())
                else:
                    with paused():
                        print_tables(found, "")
        if self.json:
            print_json(collected)
        elif folder is not None:
            print(f"pictures and numbers: {folder}")
        return 0


@dataclasses.dataclass
class Tricks(Measured):
    """Measure practical tricks, or list them: each gives a table, a picture and a finding.

    Example: jaxnets tricks l2 --quick
    """

    def collection(self) -> "Collection":
        from ..course.tricks import TRICKS

        return TRICKS


@dataclasses.dataclass
class Uses(Measured):
    """Measure on digits what Jacobians are used for, or list it: each gives a table, a picture and a finding.

    Example: jaxnets uses calibration --quick
    """

    def collection(self) -> "Collection":
        from ..course.uses import USES

        return USES
