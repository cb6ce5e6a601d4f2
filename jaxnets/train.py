"""Training: gradient descent on the average loss over a data set, one mini-batch a step."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.experimental.multihost_utils import sync_global_devices
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_leaves_with_path

from . import checkpoint as checkpoints
from .catalogue import LAYERS
from .data import Dataset, order
from .errors import CheckpointError, NonFiniteError, ShapeError, TrainingInterrupted
from .evaluate import floating, score
from .models import Model
from .spec import parse
from .transforms import value_and_grad

GRADIENTS: dict[str, Callable] = {"autodiff": jax.value_and_grad, "manual": value_and_grad}
PATIENT = 0.25  # seconds that a call into the compiled loop may take before signals and progress are looked at


class State(NamedTuple):
    """All that a step changes."""

    params: Any
    optimizer: Any
    step: Any  # how many steps were taken
    loss: Any  # sum of the steps' losses since the epoch began
    correct: Any  # sum of right predictions since then
    best: Any = None  # with `patience`: the parameters of the best epoch


@dataclasses.dataclass(frozen=True)
class Result:
    """`params` after the last step, or of the best epoch where `patience` was given.

    `history` has a dict an epoch: epoch, step, loss, accuracy (for labels), seconds, examples_per_second, and with a
    validation set validation_loss and validation_accuracy.  `stopped` is "epochs" or "patience".
    """

    params: Any
    history: list[dict]
    step: int
    stopped: str
    seconds: float


def fit(
    model: Model,
    loss: Callable,
    data: Dataset,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int | None = None,
    validation: Dataset | None = None,
    key=None,
    params=None,
    gradient: str = "autodiff",
    penalty: Callable | None = None,
    shuffle: bool = True,
    patience: int | None = None,
    log: str | os.PathLike | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
    save_every: int | None = None,
    keep: int = 3,
    resume: bool = False,
    mesh: Mesh | None = None,
    config: dict | None = None,
    after_epoch: Callable | None = None,
) -> Result:
    """Minimise the average of `loss(predictions, targets)`, per example, over a data set, plus `penalty(params)`.

    A step takes `batch_size` examples: None is full-batch, 1 stochastic gradient descent.  The order of an epoch is shuffled
    by `key` and the epoch's number; examples beyond the last full batch are others in every epoch.  `optimizer` is any of
    optax, with any schedule.  `gradient`: "autodiff" by jax.grad, "manual" by the hand-written rules.

    `validation`: a data set to evaluate after each epoch.  `patience`: stop when neither its loss, nor the training loss
    where there is none, was better than the best for so many epochs; the result is then the best epoch's.
    `log`: a file of metrics, a line of JSON an epoch.  `progress`: a bar on the terminal.  `after_epoch(epoch, params,
    metrics)` is called after every epoch; its parameters are valid during the call.

    `checkpoint`: a folder to save the state in after every epoch, or every `save_every` steps, and at an interruption; the
    newest `keep` stay.  With `resume=True` training goes on from the newest one, where there is one, to the same bits
    as without the interruption.  `config` is kept with it.  Ctrl-C saves, then raises TrainingInterrupted.

    `mesh`: devices to share the examples of each batch, for example `jax.make_mesh((8,), ("batch",))`, also those of several
    processes (`jax.distributed`); parameters are on each of them.  Process 0 writes log and checkpoints.

    Raises NonFiniteError as soon as a step gives NaN or ∞, naming the first bad tensor; the newest checkpoint is then of
    the last good step.  Raises CheckpointError where the folder holds another run, ShapeError and ValueError for bad
    arguments.
    """
    batch = data.size if batch_size is None else batch_size
    _check(data, validation, epochs, batch, gradient, patience, save_every, keep, mesh, resume and checkpoint is None)
    devices = _Devices(mesh)
    key = jax.random.key(0) if key is None else key
    make, shuffling, dropping = jax.random.split(key, 3)
    params = model.init(make, data.shape, jnp.result_type(float)) if params is None else params
    x, y = _inputs(data, floating(params))
    _check_model(model, loss, params, x, y, data)
    writer = _Writer(
        jax.process_index() == 0,
        Path(log) if log else None,
        Path(checkpoint) if checkpoint else None,
        keep,
        {**(config or {}), "run": _run(model, data, batch, gradient, shuffle, key, patience)},
    )
    zero = np.zeros((), np.int32)
    state = State(
        params, jax.jit(optimizer.init)(params), zero, np.zeros((), np.float32), zero, None if patience is None else params
    )
    state, history = writer.begin(state, resume)
    state, x, y = devices.put(_copy(state)), devices.put(x), devices.put(y)
    program = _Program(model, loss, optimizer, gradient, penalty, batch, shuffle, dropping, devices, data.classes)
    per_epoch = data.size // batch
    begun = time.perf_counter()
    step = int(state.step)
    with _interrupts() as interrupted, _bar(progress, epochs * per_epoch, batch) as show:
        while step < epochs * per_epoch and not _exhausted(history, patience):
            epoch = step // per_epoch
            places = devices.put(order(shuffling, epoch, data.size) if shuffle else jnp.arange(data.size, dtype=jnp.int32))
            started, first = time.perf_counter(), step
            last = (epoch + 1) * per_epoch
            while step < last:
                stop = min(last, step + program.calls, (step // save_every + 1) * save_every if save_every else last)
                state, problem = program.advance(state, places, x, y, epoch * per_epoch, stop)
                step = int(state.step)
                if problem:
                    raise NonFiniteError(f"step {step + 1}: {problem}{writer.at_end(state, history)}")
                show(step, state, epoch * per_epoch)
                if step < last and save_every and step % save_every == 0:
                    writer.save(state, history)
                if interrupted() and step < last:
                    raise TrainingInterrupted(f"interrupted after step {step}{writer.at_end(state, history)}")
            metrics = _metrics(state, epoch, step, first, per_epoch, batch, time.perf_counter() - started, data.classes)
            if validation is not None:
                found = score(model, devices.local(state.params), validation, loss)
                if not math.isfinite(found["loss"]):
                    raise NonFiniteError(f"step {step}: the loss of the validation set is {found['loss']}")
                metrics |= {f"validation_{name}": value for name, value in found.items()}
            history.append(metrics)
            if patience is not None and _since_best(history) == 0:
                state = state._replace(best=jax.tree.map(jnp.copy, state.params))
            state = state._replace(
                loss=devices.put(jnp.zeros((), jnp.float32)), correct=devices.put(jnp.zeros((), jnp.int32))
            )
            writer.line(metrics)
            done = step == epochs * per_epoch or _exhausted(history, patience)
            if done or save_every is None or step % save_every == 0:
                writer.save(state, history)
            show(step, state, step, metrics)
            if after_epoch is not None:
                after_epoch(epoch + 1, devices.local(state.params), metrics)
            if interrupted():
                raise TrainingInterrupted(f"interrupted after step {step}{writer.at_end(state, history)}")
    stopped = "patience" if _exhausted(history, patience) else "epochs"
    params = devices.local(state.params if patience is None else state.best)
    return Result(params, history, step, stopped, time.perf_counter() - begun)


def restore(path: str | os.PathLike) -> tuple[Model, Any, dict]:
    """The model, its parameters, and the description of a checkpoint that `fit` saved, or of the newest of a folder.

    The parameters are those of `Result`: of the best epoch where `patience` was given.  The model is made of its name by
    `parse`.  Raises CheckpointError as in `checkpoint.load`, SpecError where the name describes no model.
    """
    config = checkpoints.config_of(path)
    try:
        run, dtypes = config["run"], {name: dtype for name, (dtype, _) in config["arrays"].items()}
        model = parse(run["model"])
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tuple(run["data"]["shape"])))
        field = "params" if run["patience"] is None else "best"
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description was not written by fit: {error}") from None
    part = State(**(dict.fromkeys(State._fields) | {field: shapes}))
    part = jax.tree.map_with_path(lambda at, s: jax.ShapeDtypeStruct(s.shape, dtypes.get(keystr(at), s.dtype)), part)
    return model, getattr(checkpoints.load(path, part, whole=False).tree, field), config


# --- the compiled part --------------------------------------------------------------------------------------------


def objective(model: Model, loss: Callable, penalty: Callable | None = None) -> Callable:
    """`(params, x, y, key) -> (average loss + penalty, predictions)` of a batch, in training."""

    def average(params, x, y, key):
        predictions = model.apply(params, x, key=key, train=True)
        value = LAYERS["mean"](loss(predictions, y))
        return (value if penalty is None else value + penalty(params)), predictions

    return average


class _Program:
    """One compiled loop over steps, in which the state's buffers are used again.

    It is a `lax.while_loop`, not a scan: it ends at the first loss that is not finite, and where a call into it begins and
    ends changes neither the program nor a bit of its results.  XLA for CPU has fast convolutions only outside of loops, so
    a network with convolutions takes its steps one by one there.
    """

    def __init__(self, model, loss, optimizer, gradient, penalty, batch, shuffle, dropping, devices, classes):
        self.model, self.loss, self.penalty = model, loss, penalty
        self.average = objective(model, loss, penalty)
        self.differentiate = GRADIENTS[gradient](self.average, has_aux=True)
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.batch, self.dropping, self.devices, self.classes = batch, dropping, devices, classes
        self.calls = 8  # steps a call, adapted to the time they take
        self.loops: bool | None = None
        self.many = jax.jit(self._many, donate_argnums=0)
        self.one = jax.jit(self._step, donate_argnums=0)

    def _batch(self, places, x, y, i):
        if self.batch == len(x):
            return self.devices.share(x), self.devices.share(y)
        at = lax.dynamic_slice_in_dim(places, i * self.batch, self.batch)
        return self.devices.share(x[at]), self.devices.share(y[at])

    def _step(self, state, places, x, y, first):
        x, y = self._batch(places, x, y, state.step - first)
        key = jax.random.fold_in(self.dropping, state.step)
        (value, predictions), gradient = self.differentiate(state.params, x, y, key)
        params, optimizer = self._update(state, value, gradient, x, y, key)
        right = 0 if self.classes is None else jnp.sum(jnp.argmax(predictions, -1) == y, dtype=jnp.int32)
        loss = state.loss + value.astype(jnp.float32)
        return State(params, optimizer, state.step + 1, loss, state.correct + right, state.best)

    def _update(self, state, value, gradient, x, y, key):
        """New parameters and optimizer's state; some optimizers look at the loss too, or search along a line."""
        more = {"value": value, "grad": gradient, "value_fn": lambda params: self.average(params, x, y, key)[0]}
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params, **more)
        return optax.apply_updates(state.params, updates), optimizer

    def _many(self, state, places, x, y, first, stop):
        def goes_on(state):
            return (state.step < stop) & jnp.isfinite(state.loss)

        return lax.while_loop(goes_on, lambda state: self.one(state, places, x, y, first), state)

    def _run(self, state, places, x, y, first, stop):
        if self.loops is None:
            steps = self.one.trace(state, places, x, y, first).jaxpr
            self.loops = jax.default_backend() != "cpu" or "conv_general_dilated" not in str(steps)
        if self.loops:
            return self.many(state, places, x, y, first, stop)
        for _ in range(stop - int(state.step)):
            state = self.one(state, places, x, y, first)
        return state

    def advance(self, state, places, x, y, first, stop):
        """The state at step `stop`, and None; or the last state in which all is finite, and what then is not."""
        kept, before, started = _copy(state), int(state.step), time.perf_counter()
        state = self._run(state, places, x, y, first, stop)
        if bool(_finite(state)):
            self._adapt(stop - before, time.perf_counter() - started)
            return state, None
        for at in range(before, stop):  # the same steps again, one by one
            good = _copy(kept)
            kept = self._run(kept, places, x, y, first, at + 1)
            if not bool(_finite(kept)):
                return good, self._first_bad(good, places, x, y, first)
        raise RuntimeError(f"step {stop}: training met NaN or ∞ that did not come back when its steps were repeated")

    def _adapt(self, steps, seconds):
        if jax.process_count() > 1:  # whose clocks differ, but whose calls must not
            return
        if steps == self.calls and seconds < PATIENT / 2:
            self.calls *= 2
        elif seconds > 2 * PATIENT:
            self.calls = max(1, self.calls // 2)

    def _first_bad(self, state, places, x, y, first) -> str:
        """The first tensor of a step that is not finite, in the order in which they are computed."""
        found: list[tuple[str, int]] = []

        @jax.jit
        def count(*arguments):
            counts = []
            for name, tree in self._tensors(*arguments):
                for path, leaf in tree_leaves_with_path(tree):
                    if _is_floating(leaf):
                        found.append((f"{name}{keystr(path)} {list(leaf.shape)}", leaf.size))
                        counts.append(jnp.sum(~jnp.isfinite(leaf)))
            return counts

        counts = count(state, places, x, y, first)
        for (name, size), bad in zip(found, counts, strict=True):
            if bad:
                return f"{name} is NaN or infinite in {bad} of {size} entries"
        return "the loss of the compiled step is NaN or infinite"

    def _tensors(self, state, places, x, y, first) -> Iterator[tuple[str, Any]]:
        x, y = self._batch(places, x, y, state.step - first)
        key = jax.random.fold_in(self.dropping, state.step)
        yield "the inputs", x
        yield "the targets", y
        yield "parameter params", state.params
        z = x
        for i, (part, p) in enumerate(zip(self.model.parts, state.params if self.model.parts else (), strict=True)):
            z = part.apply(p, z, key=jax.random.fold_in(key, i), train=True)
            yield f"the output of part {i}, {part.name},", z
        predictions = self.model.apply(state.params, x, key=key, train=True)
        yield "the predictions", predictions
        yield "the loss", self.loss(predictions, y)
        if self.penalty is not None:
            yield "the penalty", self.penalty(state.params)
        (value, _), gradient = self.differentiate(state.params, x, y, key)
        yield "the average loss", value
        yield "the gradient by params", gradient
        params, optimizer = self._update(state, value, gradient, x, y, key)
        yield "the optimizer's state", optimizer
        yield "the updated parameter params", params


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def _finite(tree):
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if _is_floating(leaf)]
    return functools.reduce(jnp.logical_and, finite)


def _is_floating(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


class _Devices:
    """Where arrays are: on one device, or on a mesh, parameters and data on each of its devices and batches shared out."""

    def __init__(self, mesh: Mesh | None):
        if mesh is not None:
            mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
            self.everywhere = NamedSharding(mesh, PartitionSpec())
            self.shared = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self.mesh = mesh

    def put(self, tree):
        return tree if self.mesh is None else jax.device_put(tree, self.everywhere)

    def share(self, batch):
        return batch if self.mesh is None else lax.with_sharding_constraint(batch, self.shared)

    def local(self, tree):
        return tree if self.mesh is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


# --- arguments ----------------------------------------------------------------------------------------------------


def _check(data, validation, epochs, batch, gradient, patience, save_every, keep, mesh, nowhere):
    counts = {"epochs": epochs, "patience": patience, "save_every": save_every, "keep": keep}
    for name, count in counts.items():
        if count is None and name in ("patience", "save_every"):
            continue
        if not isinstance(count, int) or isinstance(count, bool) or count < (name != "epochs"):
            raise ValueError(f"fit: {name} must be an integer of at least {int(name != 'epochs')}, got {count!r}")
    if not isinstance(batch, int) or not 1 <= batch <= data.size:
        raise ValueError(f"fit: batch_size must be 1 to {data.size}, the number of examples, or None, got {batch!r}")
    if gradient not in GRADIENTS:
        raise ValueError(f"fit: gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}")
    if mesh is not None and batch % mesh.size:
        raise ValueError(f"fit: batch_size {batch} must be a multiple of the {mesh.size} devices of the mesh")
    if nowhere:
        raise ValueError("fit: resume needs checkpoint, the folder to go on from")
    if validation is not None and (validation.shape, validation.classes) != (data.shape, data.classes):
        raise ShapeError(
            f"fit: one input of validation has shape {validation.shape} with classes {validation.classes}, expected "
            f"{data.shape} with {data.classes} as in data"
        )


def _inputs(data, dtype):
    y = data.y.astype(np.int32) if data.classes is not None else data.y.astype(dtype)
    return jnp.asarray(data.x, dtype), jnp.asarray(y)


def _check_model(model, loss, params, x, y, data):
    """Shapes of predictions and losses, before anything is computed."""
    some = [jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype) for a in (x, y)]
    predictions = jax.eval_shape(model.apply, params, some[0])
    if data.classes is not None and predictions.shape != (2, data.classes):
        raise ShapeError(
            f"fit: predictions have shape (batch, {', '.join(map(str, predictions.shape[1:]))}), expected "
            f"(batch, {data.classes}) for the classes of {data.name}"
        )
    values = jax.eval_shape(loss, predictions, some[1])
    if values.shape[:1] != (2,):
        raise ShapeError(f"fit: loss has shape {values.shape} for 2 examples, expected one or several numbers an example")


def _run(model, data, batch, gradient, shuffle, key, patience) -> dict:
    """What must be the same for a run to go on to the same bits."""
    content = hashlib.sha256(np.ascontiguousarray(data.x).tobytes() + np.ascontiguousarray(data.y).tobytes()).hexdigest()
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {
        "model": model.name,
        "data": {
            "name": data.name,
            "examples": data.size,
            "shape": list(data.shape),
            "classes": data.classes,
            "sha256": content,
        },
        "batch_size": batch,
        "gradient": gradient,
        "shuffle": shuffle,
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        "prng": str(jax.random.key_impl(key)),
        "patience": patience,
    }


# --- metrics, log, checkpoints, signals ---------------------------------------------------------------------------


def _metrics(state, epoch, step, first, per_epoch, batch, seconds, classes) -> dict:
    found: dict[str, Any] = {"epoch": epoch + 1, "step": step, "loss": float(state.loss) / per_epoch}
    if classes is not None:
        found["accuracy"] = int(state.correct) / (per_epoch * batch)
    return found | {"seconds": round(seconds, 4), "examples_per_second": round((step - first) * batch / seconds, 1)}


def _watched(history) -> list[float]:
    return [metrics.get("validation_loss", metrics["loss"]) for metrics in history]


def _since_best(history) -> int:
    """How many epochs ago the best one was."""
    values = _watched(history)
    return len(values) - 1 - values.index(min(values))


def _exhausted(history, patience) -> bool:
    return patience is not None and bool(history) and _since_best(history) >= patience


@dataclasses.dataclass
class _Writer:
    """The log and the checkpoints of a run: written by one process, read by all."""

    writes: bool
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
        found = checkpoints.checkpoints(self.folder) if self.folder is not None else []
        if found and not resume:
            raise CheckpointError(f"{self.folder}: holds checkpoints; resume, or choose another folder")
        if found:
            state, config, path = checkpoints.load(found[-1], state)
            for name, value in self.config["run"].items():
                if (was := config.get("run", {}).get(name)) != value:
                    raise CheckpointError(f"{path}: cannot go on: {name} was {was}, now {value}")
            history = config["history"]
        if self.log is not None and self.writes:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            aside = self.log.with_name(f".{self.log.name}-aside")
            aside.write_text("".join(_json(metrics) for metrics in history))
            os.replace(aside, self.log)
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

    def line(self, metrics):
        if self.log is not None and self.writes:
            with open(self.log, "a") as file:
                file.write(_json(metrics))

    def save(self, state: State, history) -> Path | None:
        if self.folder is None or not self.writes:
            return None
        return checkpoints.save(self.folder, state, {**self.config, "history": history}, int(state.step), self.keep)

    def at_end(self, state, history) -> str:
        path = self.save(state, history)
        return f"; the state after step {int(state.step)} is in {path}" if path else ""


def _json(metrics) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"


@contextmanager
def _interrupts():
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
def _bar(progress: bool, steps: int, batch: int):
    """A progress bar on stderr; the function to move it takes step, state, and where the epoch began."""
    if not progress:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("", total=steps)
        begun: list = []

        def show(step, state, first, metrics=None):
            begun.append((step, time.perf_counter()))
            (before, started), (_, now) = begun[0], begun[-1]
            rate = (step - before) * batch / (now - started) if now > started else math.nan
            if metrics is None:
                done = max(1, step - first)
                words = f"loss {float(state.loss) / done:.4f}  accuracy {int(state.correct) / done / batch:.2%}"
            else:
                words = "  ".join(
                    f"{name.replace('_', ' ')} {value:.4f}"
                    for name, value in metrics.items()
                    if name.endswith(("loss", "accuracy"))
                )
            bar.update(task, completed=step, description=f"{words}  {rate:,.0f} examples/s")

        yield show
