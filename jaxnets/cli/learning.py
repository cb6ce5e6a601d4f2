"""Commands about learning: `train`, `evaluate`, `space`, `tricks`."""

import contextlib
import dataclasses
import os
import sys
from typing import Literal

import tyro

from .common import (
    UsageError,
    example_of,
    not_named,
    output_folder,
    print_json,
    print_result,
    print_tables,
    usage_errors,
    working,
)


@dataclasses.dataclass
class Train:
    """Train a network of the practicum; metrics, checkpoints and pictures go to a folder.

    The exit status is 1 if training meets NaN or infinity, and 130 after Ctrl-C, which first saves the state.

    Example: jaxnets train digits
    """

    task: tyro.conf.Positional[str] = ""
    """spiral, regression, digits, digits_conv, mnist or text."""
    output: str | None = None
    """Folder to write to.  Default: runs/TASK, or the first of runs/TASK-2, runs/TASK-3, … that is free."""
    model: str | None = None
    """A description of another model, such as "linear(60) relu linear(3) log_softmax"."""
    epochs: int | None = None
    """Number of passes over the training set.  Default: that of the task."""
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
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        from ..course import practicum
        from ..errors import NonFiniteError
        from ..learn.records import WITH_CHANGES

        if not self.task:
            raise not_named(self, "TASK", ", ".join(practicum.RECIPES))
        if self.task not in practicum.RECIPES:
            raise UsageError(f"train: unknown task '{self.task}'; known: {', '.join(practicum.RECIPES)}")
        if self.resume and self.output is None:
            raise UsageError(f"train: --resume goes on in a folder; name it: --output runs/{self.task}")
        if self.allow_changes and not self.resume:
            raise UsageError("train: --allow-changes is for --resume; say both")
        options = dataclasses.asdict(self)
        for name in ("task", "json", "output", "allow_changes"):
            del options[name]
        if self.allow_changes:
            options["resume"] = WITH_CHANGES
        try:
            with usage_errors(), working(f"train {self.task}"), output_folder(self.output, self.task) as folder:
                report = practicum.train(self.task, output=folder, **options)
        except NonFiniteError as error:
            print(f"jaxnets: {error}", file=sys.stderr)
            return 1
        return print_result(report, self.json)


@dataclasses.dataclass
class Evaluate:
    """Evaluate a trained classifier on held-out examples: accuracy, confusion matrix, calibration.

    Example: jaxnets evaluate runs/digits
    """

    checkpoint: tyro.conf.Positional[str] = ""
    """A folder that `jaxnets train` wrote, or one of its checkpoints."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        from ..course import practicum

        if not self.checkpoint:
            raise not_named(self, "CHECKPOINT", "A folder that `jaxnets train` wrote")
        if not os.path.lexists(self.checkpoint):
            raise UsageError(f"evaluate: no folder {self.checkpoint!r}; one is made by: {example_of(Train)}")
        with usage_errors(), working(f"evaluate {self.checkpoint}"):
            found = practicum.evaluate(self.checkpoint)
        return print_result(found, self.json)


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
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        from ..course import practicum

        made = output_folder(self.output, "space") if self.pictures else contextlib.nullcontext()
        with usage_errors(), working("space"), made as folder:
            found = practicum.space(folder, seed=self.seed)
        return print_result(found, self.json)


@dataclasses.dataclass
class Tricks:
    """Measure practical tricks, or list them: each gives a table, a picture and a finding.

    Example: jaxnets tricks l2 --quick
    """

    name: tyro.conf.Positional[str] = ""
    """The name of a trick, or "all", which takes some minutes.  Without it the tricks are listed."""
    output: str | None = None
    """Folder for the pictures.  Default: runs/tricks, or the first of runs/tricks-2, … that is free."""
    seeds: int = 5
    """Number of repetitions of each experiment."""
    quick: bool = False
    """Take small networks and few epochs, only to see that everything runs."""
    pictures: bool = True
    """Make the pictures, which needs the extra plot."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for a spread between them, got {self.seeds}")
        if not self.name:
            from ..course.tricks import TrickList

            return print_result(TrickList(), self.json)
        collected = []
        title = "tricks" if self.name == "all" else f"trick {self.name}"
        made = output_folder(self.output, "tricks") if self.pictures else contextlib.nullcontext()
        with usage_errors(), working(title) as told, made as folder:
            from ..course.tricks import TRICKS, measure_trick
            from ..learn.progress import paused

            if self.name == "all":
                told.total, told.unit = len(TRICKS), "trick"
            for name in TRICKS if self.name == "all" else [self.name]:
                if self.name == "all":
                    told.next_part(name)
                result = measure_trick(name, seeds=self.seeds, quick=self.quick, output=folder)
                if self.json:
                    collected.append(result.to_json())
                else:
                    with paused():
                        print_tables(result, "")
        if self.json:
            print_json(collected)
        elif folder is not None:
            print(f"pictures and numbers: {folder}")
        return 0
