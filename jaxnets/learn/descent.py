"""Compiled gradient descent: the steps over the mini-batches of an epoch, on one device or on many."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.tree_util import keystr, tree_leaves_with_path

from ..algebra.sizes import show_tree
from ..autodiff.transforms import value_and_grad
from ..catalogue import LAYERS
from .models import Model

GRADIENTS: dict[str, Callable] = {"autodiff": jax.value_and_grad, "manual": value_and_grad}
OPTIMIZER_KEY = 2**31 - 1  # what the key of a step is folded with for the optimizer; a model folds it with small numbers
SECONDS_PER_CALL = 0.25  # about how long a call into the compiled loop takes; signals and progress are seen between calls


class State(NamedTuple):
    """Everything that a step changes."""

    params: Any
    optimizer: Any
    step: Any  # the number of steps taken
    loss: Any  # the sum of the losses of the steps since the epoch began
    correct: Any  # the number of right predictions since the epoch began
    best: Any = None  # the parameters of the best epoch, where `patience` was given

    def __repr__(self):
        return f"State(params {show_tree(self.params)}, optimizer {show_tree(self.optimizer)})"


class Epoch(NamedTuple):
    """What the steps of an epoch read and do not change."""

    x: Any
    y: Any
    indices: Any  # of the examples, in the order of the epoch
    first_step: Any


def objective(model: Model, loss: Callable, penalty: Callable | None = None) -> Callable:
    """The function `(params, x, y, key) -> (average loss + penalty, predictions)` of a batch in training."""

    def average(params, x, y, key):
        predictions = model.apply(params, x, key=key, training=True)
        value = LAYERS["mean"](loss(predictions, y))
        return (value if penalty is None else value + penalty(params)), predictions

    return average


class Descent:
    """A compiled loop over steps that reuses the buffers of the state.

    It is a `lax.while_loop` and not a scan, because it stops at the first loss that is not finite, and because the program
    and every bit of its result are the same wherever a call begins and ends.  XLA for CPUs has fast convolutions only
    outside of loops, so there a network with convolutions takes its steps one by one.
    """

    def __init__(self, model, loss, optimizer, gradient, penalty, batch, key, devices, classes):
        self.model, self.loss, self.penalty = model, loss, penalty
        self.objective = objective(model, loss, penalty)
        self.differentiate = GRADIENTS[gradient](self.objective, has_aux=True)
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.batch_size, self.key, self.devices, self.classes = batch, key, devices, classes
        self.steps_per_call = 8  # adapted to the time that the steps take
        self.in_one_loop: bool | None = None
        self.run_loop = jax.jit(self._loop, donate_argnums=0)
        self.run_step = jax.jit(self._step, donate_argnums=0)

    def _batch(self, state, epoch):
        """The inputs, the targets and the key of a step."""
        x, y = epoch.x, epoch.y
        if self.batch_size < len(x):
            at = lax.dynamic_slice_in_dim(epoch.indices, (state.step - epoch.first_step) * self.batch_size, self.batch_size)
            x, y = x[at], y[at]
        return self.devices.shared(x), self.devices.shared(y), jax.random.fold_in(self.key, state.step)

    def _step(self, state, epoch):
        batch = self._batch(state, epoch)
        (value, predictions), gradient = self.differentiate(state.params, *batch)
        params, optimizer = self._update(state, value, gradient, batch)
        right = 0 if self.classes is None else jnp.sum(jnp.argmax(predictions, -1) == batch[1], dtype=jnp.int32)
        loss = state.loss + value.astype(state.loss.dtype)
        return self.devices.kept(State(params, optimizer, state.step + 1, loss, state.correct + right, state.best))

    def _update(self, state, value, gradient, batch):
        """The new parameters and the new state of the optimizer.

        Some optimizers also read the loss, or evaluate it or its gradient again: along a line, or at parameters nearby.
        Those by curvature read the batch, and a key of their own.
        """

        def value_fn(params, x=None, targets=None, key=None):  # a line search refuses what this does not take
            return self.objective(params, *batch)[0]

        usual = {"value": value, "grad": gradient, "value_fn": value_fn}
        usual |= {"x": batch[0], "targets": batch[1], "key": jax.random.fold_in(batch[2], OPTIMIZER_KEY)}
        known = usual | {"grad_fn": lambda params, step: self.differentiate(params, *batch)[1]}
        read = inspect.signature(self.optimizer.update).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in read.values())
        more = usual if takes_all else {name: known[name] for name in known if name in read}
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params, **more)
        return optax.apply_updates(state.params, updates), optimizer

    def _loop(self, state, epoch, stop):
        def goes_on(state):
            return (state.step < stop) & jnp.isfinite(state.loss)

        return lax.while_loop(goes_on, lambda state: self.run_step(state, epoch), state)

    def _run_until(self, state, epoch, stop):
        if self.in_one_loop is None:
            steps = str(self.run_step.trace(state, epoch).jaxpr)
            self.in_one_loop = jax.default_backend() != "cpu" or "conv_general_dilated" not in steps
        if self.in_one_loop:
            return self.run_loop(state, epoch, stop)
        for _ in range(stop - int(state.step)):
            state = self.run_step(state, epoch)
        return state

    def advance(self, state: State, epoch: Epoch, stop: int) -> tuple[State, str | None]:
        """The state at step `stop`, and None.

        If a number becomes NaN or infinite on the way: the last state in which everything is finite, and what is not
        finite in the step after it.
        """
        kept, before, started = copy_tree(state), int(state.step), time.perf_counter()
        state = self._run_until(state, epoch, stop)
        if bool(_finite(state)):
            self._adapt_steps_per_call(stop - before, time.perf_counter() - started)
            return state, None
        for at in range(before, stop):  # the same steps again, one by one
            good = copy_tree(kept)
            kept = self._run_until(kept, epoch, at + 1)
            if not bool(_finite(kept)):
                return good, self._first_nonfinite(good, epoch)
        raise RuntimeError(f"step {stop}: training met NaN or ∞ that did not come back when its steps were repeated")

    def _adapt_steps_per_call(self, steps, seconds):
        if jax.process_count() > 1:  # all processes must make the same calls, and their clocks differ
            return
        if steps == self.steps_per_call and seconds < SECONDS_PER_CALL / 2:
            self.steps_per_call *= 2
        elif seconds > 2 * SECONDS_PER_CALL:
            self.steps_per_call = max(1, self.steps_per_call // 2)

    def _first_nonfinite(self, state, epoch) -> str:
        """The first tensor of a step that is not finite, in the order in which the tensors are computed."""
        found: list[tuple[str, int]] = []

        @jax.jit
        def count(state, epoch):
            counts = []
            for name, tree in self._named_tensors(state, epoch):
                for path, leaf in tree_leaves_with_path(tree):
                    if _is_floating(leaf):
                        found.append((f"{name}{keystr(path)} {list(leaf.shape)}", leaf.size))
                        counts.append(jnp.sum(~jnp.isfinite(leaf)))
            return counts

        counts = count(state, epoch)
        for (name, size), bad in zip(found, counts, strict=True):
            if bad:
                return f"{name} is NaN or infinite in {bad} of {size} entries"
        return "the sum of the losses is NaN or infinite"

    def _named_tensors(self, state, epoch) -> Iterator[tuple[str, Any]]:
        batch = x, y, key = self._batch(state, epoch)
        yield "the inputs", x
        yield "the targets", y
        yield "parameter params", state.params
        z = x
        for i, (part, p) in enumerate(zip(self.model.parts, state.params if self.model.parts else (), strict=True)):
            z = part.apply(p, z, key=jax.random.fold_in(key, i), training=True)
            yield f"the output of part {i}, {part.name},", z
        predictions = self.model.apply(state.params, x, key=key, training=True)
        yield "the predictions", predictions
        yield "the loss", self.loss(predictions, y)
        if self.penalty is not None:
            yield "the penalty", self.penalty(state.params)
        (value, _), gradient = self.differentiate(state.params, *batch)
        yield "the average loss", value
        yield "the gradient by params", gradient
        params, optimizer = self._update(state, value, gradient, batch)
        yield "the optimizer's state", optimizer
        yield "the updated parameter params", params


@jax.jit
def copy_tree(tree):
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def _finite(tree):
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if _is_floating(leaf)]
    return functools.reduce(jnp.logical_and, finite)


def _is_floating(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
