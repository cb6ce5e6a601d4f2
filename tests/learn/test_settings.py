"""The settings of a training as texts: equal for equal settings, others for others, and without addresses of objects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.learn.settings import MAX_DEPTH, settings_texts

SCALE = 0.3


def texts(optimizer=None, loss=jn.nll, penalty=None):
    return settings_texts(optimizer or optax.sgd(0.1), loss, penalty)


def scaled(scale):
    def loss(predictions, targets):
        return scale * jn.nll(predictions, targets)

    return loss


def global_loss(predictions, targets):
    return SCALE * jn.nll(predictions, targets)


class Weighted:
    def __init__(self, weights):
        self.weights = weights

    def __call__(self, predictions, targets):
        return self.weights[targets] * jn.nll(predictions, targets)

    def method(self, predictions, targets):
        return self(predictions, targets)


MANY = np.arange(100.0)
OPTIMIZERS = [
    lambda: optax.sgd(0.1),
    lambda: optax.sgd(0.2),
    lambda: optax.sgd(jnp.float32(0.3)),
    lambda: optax.sgd(0.1, momentum=0.9),
    lambda: optax.sgd(lambda step: 0.1 / (1 + step)),
    lambda: optax.sgd(lambda step: 0.2 / (1 + step)),
    lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 40)),
    lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 50)),
    lambda: optax.sgd(optax.piecewise_constant_schedule(0.1, {10: 0.1})),
    lambda: optax.sgd(optax.piecewise_constant_schedule(0.1, {10: 0.2})),
    lambda: optax.adam(0.1),
    lambda: optax.adam(0.1, b2=0.99),
    lambda: optax.adamw(0.1, weight_decay=1e-3),
    lambda: optax.adamw(0.1, weight_decay=1e-4),
    lambda: optax.chain(optax.clip(1.0), optax.adam(0.1)),
    lambda: optax.chain(optax.clip(2.0), optax.adam(0.1)),
    lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.2),
    lambda: optax.inject_hyperparams(optax.adamax)(learning_rate=0.2),
    lambda: optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, {"w": "a", "b": "b"}),
    lambda: optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.3)}, {"w": "a", "b": "b"}),
    lambda: optax.MultiSteps(optax.adam(0.1), 2),
    lambda: optax.MultiSteps(optax.adam(0.1), 3),
    lambda: optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.2)),
    lambda: optax.lbfgs(),
]
LOSSES = [
    lambda: jn.nll,
    lambda: jn.squared_error,
    lambda: functools.partial(jn.l2_norm, axis=1),
    lambda: scaled(2),
    lambda: scaled(3.0),
    lambda: jax.jit(scaled(4)),
    lambda: lambda p, y: 5 * jn.nll(p, y),
    lambda: lambda p, y: 6 * jn.nll(p, y),
    lambda: lambda p, y: 6 * jn.squared_error(p, y),
    lambda: global_loss,
    lambda: lambda p, y, scale=7: scale * jn.nll(p, y),
    lambda: Weighted([1.0, 2.0]),
    lambda: Weighted(np.array([1.0, 3.0])),
    lambda: Weighted(MANY),
    lambda: Weighted(MANY + 1),
    lambda: Weighted([1.0, 4.0]).method,
]


@pytest.mark.parametrize("name, makers", [("optimizer", OPTIMIZERS), ("loss", LOSSES)])
def test_texts_differ_exactly_where_the_settings_do(name, makers):
    first, second = ([texts(**{name: make()}) for make in makers] for _ in range(2))
    assert first == second
    different = {tuple(found.values()) for found in first}
    assert len(different) == len(makers)
    assert not any(" at 0x" in text for found in first for text in found.values())
    assert all(set(found) == {"learning_rate", "optimizer", "loss", "penalty"} for found in first)


def test_a_learning_rate_is_named_and_read_as_people_write_it():
    assert texts()["learning_rate"] == "0.1"
    assert texts(optax.inject_hyperparams(optax.adam)(learning_rate=0.2))["learning_rate"] == "0.2"
    schedule = texts(optax.adam(optax.cosine_decay_schedule(0.1, 40)))["learning_rate"]
    assert schedule == "cosine_decay_schedule(alpha=0.0, decay_steps=40, exponent=1.0, init_value=0.1)"
    assert texts()["loss"] == "nll" and texts()["penalty"] == "none"


def test_what_is_named_by_the_code_counts(monkeypatch):
    before = texts(loss=global_loss)
    monkeypatch.setitem(global_loss.__globals__, "SCALE", 0.4)
    assert before["loss"] != texts(loss=global_loss)["loss"]
    assert texts(penalty=lambda p: 0.1 * jn.regularizers.l1(p)) != texts(penalty=lambda p: 0.1 * jn.regularizers.l2(p))


def test_functions_that_hold_each_other_or_are_deeply_nested_have_a_text():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    nested = jn.nll
    for _ in range(10 * MAX_DEPTH):
        nested = functools.partial(nested)
        nested = (lambda inner: lambda p, y: inner(p, y))(nested)
    assert "even" in texts(loss=even)["loss"]
    assert texts(loss=nested)["loss"]
