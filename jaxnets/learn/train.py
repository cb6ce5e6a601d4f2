"""Training: gradient descent on the average loss over a data set, with one mini-batch per step."""

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.tree_util import keystr

from ..algebra.sizes import show_tree
from ..checks import check_key, checked, show_value
from ..errors import CheckpointError, NonFiniteError, ShapeError, SpecError, TrainingInterrupted
from . import checkpoint as checkpoints
from .data import Dataset, order
from .descent import GRADIENTS, Descent, Epoch, State, copy_tree
from .description import checked_description, run_description
from .encoding import DATA_ENCODING, Encoding
from .evaluate import floating_dtype, parameters_explained, validation_metrics
from .mesh import Devices
from .models import Model
from .records import WITH_CHANGES, Records, exhausted, interrupts, since_best, training_progress
from .settings import settings_texts
from .spec import parse


@dataclasses.dataclass(frozen=True)
class Result:
    """What `fit` returns: `params` after the last step, or those of the best epoch where `patience` was given.

    `history` has one dict per epoch with epoch, step, loss, accuracy (for labels), seconds and examples_per_second, and with
    a validation set also validation_loss and validation_accuracy.  `stopped` is "epochs" or "patience".
    """

    params: Any
    history: list[dict]
    step: int
    stopped: str
    seconds: float

    def __repr__(self):
        return (
            f"Result(params {show_tree(self.params)}, {len(self.history)} epochs, step {self.step}, stopped by "
            f"{self.stopped}, {self.seconds:.3g} s)"
        )


@checked
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
    resume: bool | Literal["with changes"] = False,
    mesh: Mesh | None = None,
    fsdp: bool = False,
    config: dict | None = None,
    after_epoch: Callable | None = None,
) -> Result:
    """Minimise the average over a data set of `loss(predictions, targets)`, which is per example, plus `penalty(params)`.

    A step takes `batch_size` examples; None takes all of them (full-batch), and 1 is stochastic gradient descent.  `key` and
    the number of the epoch determine the order of its examples; which examples are left over after the last full batch
    changes from epoch to epoch.  `optimizer` is any optimizer of optax, with any schedule.  `gradient` is "autodiff", for
    jax.grad, or "manual", for the hand-written rules.

    `validation` is a data set to evaluate after each epoch.  `patience` is a number of epochs: training stops when for so
    long the loss of the validation set (without one, the training loss) has not been better than the best, and the result
    is that of the best epoch.  `log` is a file that gets one line of JSON with the metrics of each epoch.  `progress` shows
    a bar on the terminal.  `after_epoch(epoch, params, metrics)` is called after every epoch; its parameters are valid only
    during the call.

    `checkpoint` is a folder in which the state is saved after every epoch, or every `save_every` steps, and at an
    interruption; the newest `keep` checkpoints stay.  With `resume=True` training goes on from the newest one, if there is
    one, and ends with the same bits as without the interruption.  Another learning rate, optimizer, loss or penalty than the
    checkpoint tells of is refused; `resume="with changes"` allows it.  `config` is saved with each.  Ctrl-C saves the state,
    then raises TrainingInterrupted.

    `mesh` holds the devices that share the examples of each batch, for example `jax.make_mesh((8,), ("batch",))`; they may
    belong to several processes (`jax.distributed`).  Each device holds all parameters; with `fsdp=True` (fully sharded data
    parallelism) its part of the parameters and of the optimizer's state, which it shares when they are needed.  Then the
    parameters of the result and of `after_epoch` are spread over the devices, too.  Process 0 writes the log and the
    checkpoints; what is spread over processes each of them writes its part of, to a folder that all must see, and any number
    of devices can go on from there.

    Raises NonFiniteError as soon as a step gives NaN or ∞; the message names the first bad tensor, and the newest
    checkpoint is that of the last good step.  Raises CheckpointError where the folder holds another run or another training
    is writing there, and ShapeError or ValueError for arguments that do not fit.

    >>> import optax
    >>> data = jn.data.spiral(points=20)
    >>> result = jn.fit(jn.models.mlp(3), jn.nll, data, optax.sgd(0.1), epochs=3, batch_size=30, gradient="manual")
    >>> result.step, result.history[2]["loss"] < result.history[0]["loss"]
    (6, True)
    """
    batch = data.size if batch_size is None else batch_size
    if key is not None:
        check_key("fit", "key", key)
    _check_arguments(data, validation, epochs, batch, gradient, patience, save_every, keep, mesh, fsdp, resume, checkpoint)
    devices = Devices(mesh, fsdp)
    key = jax.random.key(0) if key is None else key
    make, shuffling, dropping = jax.random.split(key, 3)
    if params is None:
        dtype = jnp.result_type(float)
        params = devices.made(lambda: model.init(make, data.shape, dtype)) if fsdp else model.init(make, data.shape, dtype)
    with parameters_explained("fit", model, params, data.shape):
        x, y = _training_arrays(data, floating_dtype(params))
        _check_model(model, loss, params, x, y, data)
    records = Records(
        Path(log) if log else None,
        Path(checkpoint) if checkpoint else None,
        keep,
        {
            **(config or {}),
            **({} if data.encoding is None else {DATA_ENCODING: data.encoding.to_json()}),
            "run": run_description(model, data, batch, gradient, shuffle, key, patience) if checkpoint else None,
            "settings": settings_texts(optimizer, loss, penalty) if checkpoint else None,
        },
    )
    best = None if patience is None else params
    total = np.zeros((), jnp.promote_types(floating_dtype(params), jnp.float32))
    zero = State(params, devices.made(optimizer.init, params), np.int32(0), total, np.int32(0), best)
    compiled_loss = jax.jit(lambda *args: loss(*args))  # for the validation set; a loss need not be hashable
    descent = Descent(model, loss, optimizer, gradient, penalty, batch, dropping, devices, data.classes)
    per_epoch, started = data.size // batch, time.perf_counter()
    steps, labels = epochs * per_epoch, 0 if data.classes is None else math.prod(data.y.shape[1:])
    with (
        records.begun(zero, resume, devices.shardings(zero) if fsdp else None) as (state, history),
        interrupts() as interrupted,
        training_progress(progress, model.name, steps, batch, labels) as told,
    ):
        state, x, y = devices.placed(copy_tree(state)), devices.replicate(x), devices.replicate(y)

        def saved_if_interrupted(state):
            if interrupted():
                raise TrainingInterrupted(f"interrupted after step {state.step}{records.at_end(state, history)}")

        for number in range(int(state.step) // per_epoch, epochs):
            if exhausted(history, patience):
                break
            begun, first = time.perf_counter(), int(state.step)
            places = order(shuffling, number, data.size) if shuffle else jnp.arange(data.size, dtype=jnp.int32)
            epoch, last = Epoch(x, y, devices.replicate(places), number * per_epoch), (number + 1) * per_epoch
            while (step := int(state.step)) < last:
                stop = min(
                    last, step + descent.steps_per_call, (step // save_every + 1) * save_every if save_every else last
                )
                state, problem = descent.advance(state, epoch, stop)
                if problem:
                    raise NonFiniteError(f"step {int(state.step) + 1}: {problem}{records.at_end(state, history)}")
                told.stepped(state, epoch.first_step)
                if stop < last:
                    if save_every and stop % save_every == 0:
                        records.save(state, history)
                    saved_if_interrupted(state)
            seconds = time.perf_counter() - begun
            metrics = {"epoch": number + 1, "step": last, "loss": float(state.loss) / per_epoch}
            if data.classes is not None:
                metrics["accuracy"] = int(state.correct) / (per_epoch * batch * labels)
            metrics |= {"seconds": round(seconds, 4), "examples_per_second": round((last - first) * batch / seconds, 1)}
            if validation is not None:
                told.evaluating()
                found = validation_metrics(model, devices.local_copy(state.params), validation, compiled_loss)
                if not math.isfinite(found["loss"]):
                    raise NonFiniteError(f"step {last}: the loss of the validation set is {found['loss']}")
                told.evaluated(found, state, epoch.first_step)
                metrics |= {f"validation_{name}": value for name, value in found.items()}
            history.append(metrics)
            records.note(metrics)
            if patience is not None and since_best(history) == 0:
                state = state._replace(best=copy_tree(state.params))
            state = state._replace(loss=devices.replicate(zero.loss), correct=devices.replicate(zero.correct))
            if save_every is None or last % save_every == 0 or number + 1 == epochs or exhausted(history, patience):
                records.save(state, history)
            if after_epoch is not None:
                after_epoch(number + 1, devices.local_copy(state.params), metrics)
            saved_if_interrupted(state)
    params = devices.local_copy(state.params if patience is None else state.best)
    stopped = "patience" if exhausted(history, patience) else "epochs"
    return Result(params, history, int(state.step), stopped, time.perf_counter() - started)


@checked
def restore(path: str | os.PathLike) -> tuple[Model, Any, dict]:
    """The model, the parameters and the description of a run that `fit` or `jaxnets train` saved.

    `path` is the folder of the run, its folder of checkpoints, of which the newest counts, or a checkpoint.  The parameters
    are those of `Result`: of the best epoch where `patience` was given.  `parse` makes the model from its name.
    `jn.data.load(file, like=description)` reads another file as that of the training was read.

    Raises CheckpointError where no checkpoint can be read, or the name describes no model for the data.

    >>> import optax, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data, model = jn.data.spiral(points=10), jn.models.mlp(3)
    ...     result = jn.fit(model, jn.nll, data, optax.sgd(0.1), epochs=1, checkpoint=folder)
    ...     model, params, description = jn.restore(folder)
    >>> model, description["run"]["data"]["classes"]
    (Model(linear(3) log_softmax), 3)
    """
    config = checkpoints.read_config(path)
    _checked_encoding(path, config)
    run, dtypes = checked_description(path, config).run, {name: dtype for name, (dtype, _) in config["arrays"].items()}
    try:
        model = parse(run["model"])
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tuple(run["data"]["shape"])))
    except (SpecError, ShapeError) as error:
        raise CheckpointError(f"{path}: its model cannot be made from its name: {error}") from None
    field = "params" if run["patience"] is None else "best"
    part = State(**(dict.fromkeys(State._fields) | {field: shapes}))
    part = jax.tree.map_with_path(lambda at, s: jax.ShapeDtypeStruct(s.shape, dtypes.get(keystr(at), s.dtype)), part)
    return model, getattr(checkpoints.load(path, part, whole=False).tree, field), config


def _checked_encoding(path, config: dict):
    """Raise CheckpointError where the description holds an encoding that `fit` did not write."""
    if config.get(DATA_ENCODING) is not None:
        try:
            Encoding.from_json(config[DATA_ENCODING])
        except ValueError:
            raise CheckpointError(f"{path}: its description was not written by fit: {DATA_ENCODING} is not one") from None


def _check_arguments(data, validation, epochs, batch, gradient, patience, save_every, keep, mesh, fsdp, resume, folder):
    counts = {"epochs": epochs, "patience": patience, "save_every": save_every, "keep": keep}
    for name, count in counts.items():
        if count is None and name in ("patience", "save_every"):
            continue
        if not isinstance(count, int) or isinstance(count, bool) or count < (name != "epochs"):
            raise ValueError(f"fit: {name} must be an integer of at least {int(name != 'epochs')}, got {count!r}")
    if not isinstance(batch, int) or not 1 <= batch <= data.size:
        raise ValueError(f"fit: batch_size must be 1 to {data.size}, the number of examples, or None, got {batch!r}")
    if epochs * (data.size // batch) >= 2**31:
        raise ValueError(f"fit: epochs {epochs} of {data.size // batch} steps are more than 2³¹ steps")
    if gradient not in GRADIENTS:
        raise ValueError(f"fit: gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}")
    if mesh is not None and batch % mesh.size:
        raise ValueError(f"fit: batch_size {batch} must be a multiple of the {mesh.size} devices of the mesh")
    if fsdp and mesh is None:
        raise ValueError("fit: fsdp needs mesh, the devices that share the parameters")
    if resume not in (False, True, WITH_CHANGES):
        raise ValueError(f"fit: resume must be False, True or '{WITH_CHANGES}', got {resume!r}")
    if resume and folder is None:
        raise ValueError("fit: resume needs checkpoint, the folder to go on from")
    if validation is not None and (validation.shape, validation.classes) != (data.shape, data.classes):
        raise ShapeError(
            f"fit: one input of validation has shape {validation.shape} with classes {validation.classes}, expected "
            f"{data.shape} with {data.classes} as in data"
        )


def _training_arrays(data, dtype):
    y = data.y.astype(np.int32) if data.classes is not None else data.y.astype(dtype)
    return jnp.asarray(data.x, dtype), jnp.asarray(y)


def _check_model(model, loss, params, x, y, data):
    """Check the shapes of predictions and losses, before anything is computed."""
    some = [jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype) for a in (x, y)]
    predictions = jax.eval_shape(model.apply, params, some[0])
    if data.classes is not None and predictions.shape != (2, *(expected := (*y.shape[1:], data.classes))):
        raise ShapeError(
            f"fit: predictions have shape (batch, {', '.join(map(str, predictions.shape[1:]))}), expected "
            f"(batch, {', '.join(map(str, expected))}) for the classes of {data.name}"
        )
    values = jax.eval_shape(loss, predictions, some[1])
    if getattr(values, "shape", ())[:1] != (2,):
        got = f"has shape {values.shape}" if hasattr(values, "shape") else f"returns {show_value(values)}"
        raise ShapeError(f"fit: loss {got} for 2 examples, expected one or several numbers per example")
