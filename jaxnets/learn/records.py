"""What is kept and shown of a training: history, log, checkpoints, a progress bar; and Ctrl-C."""

import dataclasses
import json
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.multihost_utils import sync_global_devices

from ..errors import CheckpointError
from ..files import written_atomically
from . import checkpoint
from .descent import State


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

    def begin(self, state: State, resume: bool) -> tuple[State, list[dict]]:
        """The state and history to go on from; the log holds just that history then."""
        self._check()
        if jax.process_count() > 1:  # the first may still be saving the end of a run before this one
            sync_global_devices("fit")
        history: list[dict] = []
        found = checkpoint.checkpoints(self.folder) if self.folder is not None else []
        if found and not resume:
            raise CheckpointError(f"{self.folder}: holds checkpoints; resume, or choose another folder")
        if found:
            state, config, path = checkpoint.load(found[-1], state)
            for name, value in self.config["run"].items():
                if (was := config.get("run", {}).get(name)) != value:
                    raise CheckpointError(f"{path}: cannot go on: {name} was {was}, now {value}")
            history = config["history"]
        if self.log is not None and _writes():
            with written_atomically(self.log) as part:
                part.write_text("".join(_line(metrics) for metrics in history))
        return state, history

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
        if self.folder is None or not _writes():
            return None
        return checkpoint.save(self.folder, state, {**self.config, "history": history}, int(state.step), self.keep)

    def at_end(self, state: State, history: list[dict]) -> str:
        """Save, and say where."""
        path = self.save(state, history)
        return f"; the state after step {int(state.step)} is in {path}" if path else ""


def _writes() -> bool:
    return jax.process_index() == 0


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


@contextmanager
def progress_bar(wanted: bool, steps: int, batch: int, labels: bool):
    """A function of state and metrics that moves a bar on stderr; the loss is the average of the epoch so far."""
    if not wanted:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Any = (TextColumn("step"), MofNCompleteColumn(), BarColumn(12), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(compact=True), console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("", total=steps)
        begun: list[tuple[int, float]] = []
        held_out = ""

        def show(state, first, validation=None):
            nonlocal held_out
            step = int(state.step)
            begun.append((step, time.perf_counter()))
            (before, started), (_, now) = begun[0], begun[-1]
            done = max(1, step - first)
            accuracy = f" accuracy {int(state.correct) / done / batch:.1%}" if labels else ""
            if validation is not None:
                found = f"{validation['accuracy']:.1%}" if labels else f"{validation['loss']:.4f}"
                held_out = f" (held out {found})"
            rate = (step - before) * batch / (now - started) if step > before else 0
            text = f"loss {float(state.loss) / done:.4f}{accuracy}{held_out} {rate:,.0f} examples/s"
            bar.update(task, completed=step, description=text)

        yield show
