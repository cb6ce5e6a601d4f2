"""What is kept and shown of a training: history, log, checkpoints, progress; and Ctrl-C."""

import contextlib
import dataclasses
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.multihost_utils import sync_global_devices

from ..errors import CheckpointError
from ..files import locked, written_atomically
from . import checkpoint
from .descent import State
from .description import checked_description
from .pieces import is_spread
from .progress import Stage, display, stage

WITH_CHANGES = "with changes"  # the word of `resume` that allows other settings


def since_best(history: list[dict]) -> int:
    """How many epochs ago the best one was, by the loss of the validation set if there is one."""
    values = [metrics.get("validation_loss", metrics["loss"]) for metrics in history]
    return len(values) - 1 - values.index(min(values))


def exhausted(history: list[dict], patience: int | None) -> bool:
    return patience is not None and bool(history) and since_best(history) >= patience


@dataclasses.dataclass
class Records:
    """The log and the checkpoints of a run: written by one process, read by all."""

    log: Path | None
    folder: Path | None
    keep: int
    config: dict
    _went_on_from: Path | None = None

    @contextmanager
    def begun(self, state: State, resume: bool | str, shardings=None) -> Iterator[tuple[State, list[dict]]]:
        """The state and history to go on from; the log holds just that history then.

        Until the end no other training can write to the folder or to the log.
        """
        self._check()
        with self._locked():
            yield self._begin(state, resume, shardings)

    def _begin(self, state: State, resume: bool | str, shardings=None) -> tuple[State, list[dict]]:
        if jax.process_count() > 1:  # the first may still be saving the end of a run before this one
            sync_global_devices("fit")
        history: list[dict] = []
        found = checkpoint.checkpoints(self.folder) if self.folder is not None else []
        if found and not resume:
            raise CheckpointError(f"{self.folder}: holds checkpoints; resume, or choose another folder")
        if found:
            self._went_on_from = found[-1]
            history = self._checked_history(found[-1], changes=resume == WITH_CHANGES)
            state = checkpoint.load(found[-1], state, shardings=shardings).tree
            if found[-1].name != checkpoint.FOLDER_NAME.format(int(state.step)):
                raise CheckpointError(f"{found[-1]}: corrupt: its arrays are of step {int(state.step)}")
        if self.log is not None and _writes():
            with written_atomically(self.log) as part:
                part.write_text("".join(_line(metrics) for metrics in history))
        return state, history

    def _checked_history(self, path: Path, changes: bool) -> list[dict]:
        """The history in a checkpoint, once it is one of this run and, unless `changes` are allowed, of these settings."""
        run, settings, history = checked_description(path, checkpoint.read_config(path))
        for name, now in self.config["run"].items():
            if (was := run.get(name)) != now:
                raise CheckpointError(f"{path}: cannot go on: {name} was {was}, now {now}")
        for name, now in self.config["settings"].items():
            if settings and not changes and (was := settings.get(name)) != now:
                raise CheckpointError(
                    f"{path}: cannot go on: {name} was {was}, now {now}; to go on all the same, say --allow-changes, or "
                    f"resume='{WITH_CHANGES}' in Python"
                )
        return history

    @contextmanager
    def _locked(self):
        """Hold the lock files in the folder and beside the log.  Raises CheckpointError where another training holds one."""
        files = {self.folder: self.folder and self.folder / ".lock", self.log: self.log and _beside(self.log)}
        with contextlib.ExitStack() as stack:
            for written, lock in files.items():
                if lock is not None and _writes():
                    try:
                        stack.enter_context(locked(lock))
                    except BlockingIOError:
                        raise CheckpointError(
                            f"{written}: another training is writing here; wait for its end, or choose another folder"
                        ) from None
            yield

    def _check(self):
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"fit: checkpoint {self.folder} is not a folder")
        if self.log is not None and self.log.is_dir():
            raise ValueError(f"fit: log {self.log} is a folder, expected a file")
        try:
            json.dumps(self.config, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"fit: config is not JSON: {error}") from None

    def note(self, metrics: dict):
        if self.log is not None and _writes():
            with open(self.log, "a") as file:
                file.write(_line(metrics))

    def save(self, state: State, history: list[dict]) -> Path | None:
        if self.folder is None or not (_writes() or any(map(is_spread, jax.tree.leaves(state)))):
            return None
        step = int(state.step)
        if self._went_on_from and self._went_on_from.name == checkpoint.FOLDER_NAME.format(step):
            return self._went_on_from  # no step was taken since, and what is said of the run may have changed
        return checkpoint.save(self.folder, state, {**self.config, "history": history}, step, self.keep)

    def at_end(self, state: State, history: list[dict]) -> str:
        """Save, and say where."""
        path = self.save(state, history)
        return f"; the state after step {int(state.step)} is in {path}" if path else ""


def _writes() -> bool:
    return jax.process_index() == 0


def _beside(log: Path) -> Path:
    return log.with_name(f".{log.name}.lock")


def _line(metrics) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"


@contextmanager
def interrupts():
    """Whether Ctrl-C was pressed; pressed again, it interrupts at once."""
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield lambda: False
        return
    pressed = []

    def note(number, frame):
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


class TrainingProgress:
    """Tells how far a training is; the loss is the average of the epoch so far.  An example has so many `labels`."""

    def __init__(self, told: Stage, batch: int, labels: int):
        self._told, self._batch, self._labels = told, batch, labels
        self._first: tuple[int, float] | None = None  # the first step that was told, and when that was
        self._held_out = ""

    def stepped(self, state: State, first: int):
        """After some steps of the epoch that began at step `first`."""
        if not self._told.is_shown:
            return
        step, now = int(state.step), time.perf_counter()
        self._first = before, started = self._first or (step, now)
        done = max(1, step - first)
        accuracy = f" accuracy {int(state.correct) / done / self._batch / self._labels:.1%}" if self._labels else ""
        rate = f" {(step - before) * self._batch / (now - started):,.0f} examples/s" if step > before else ""
        self._told.at(step, f"loss {float(state.loss) / done:.4f}{accuracy}{self._held_out}{rate}")

    def evaluating(self):
        """The validation set's turn."""
        self._told.say(f"{self._told.text}, evaluating")

    def evaluated(self, found: dict, state: State, first: int):
        self._held_out = f" (held out {found['accuracy']:.1%})" if self._labels else f" (held out {found['loss']:.4f})"
        self.stepped(state, first)


@contextmanager
def training_progress(wanted: bool, model: str, steps: int, batch: int, labels: int) -> Iterator[TrainingProgress]:
    """Show it on stderr where it is wanted, or where a display is open."""
    with display(wanted), stage(f"training {model}", "compiling", total=steps) as told:
        yield TrainingProgress(told, batch, labels)
