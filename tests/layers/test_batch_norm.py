"""Batch norm: running statistics, evaluation, how training couples the examples, dtypes."""

import jax
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal
from .normalizations import at_once, compiled, trained

DTYPES = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 1), (2, 3, 4, 2), (1, 3, 2)], ids=str)
def test_running_statistics(shape):
    """Biased variance in x̂, unbiased in the running variance, momentum as in torch: torch#60528."""
    x, axes = normal(*shape) * 3 + 1, tuple(a for a in range(len(shape)) if a != 1)
    channel = [3 if a == 1 else 1 for a in range(len(shape))]
    mean, var, n = x.mean(axes), x.var(axes, ddof=1), x.size // 3

    @at_once
    def compute(x, mean, var):
        known = {"running_mean": mean, "running_var": var}
        return [jn.batch_norm(x, **given, training=True, momentum=0.25) for given in (known, {})]

    (y, new_mean, new_var), (_, own_mean, own_var) = compute(x, np.zeros(3), np.ones(3))
    near(y, (x - mean.reshape(channel)) / np.sqrt(var.reshape(channel) * (n - 1) / n + 1e-5), atol=1e-15)
    near(new_mean, 0.25 * mean)
    near(new_var, 0.75 + 0.25 * var)
    near(own_mean, mean)
    near(own_var, var)


def test_momentum_of_zero_and_one():
    x, mean, var = normal(5, 2), np.array([1.0, 2.0]), np.array([3.0, 4.0])

    @at_once
    def compute(x, mean, var):
        return [jn.batch_norm(x, running_mean=mean, running_var=var, training=True, momentum=m) for m in (0.0, 1.0)]

    kept, moved = compute(x, mean, var)
    near(kept[1], mean)
    near(kept[2], var)
    near(moved[1], x.mean(0))
    near(moved[2], x.var(0, ddof=1))


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (0, 2), (2, 2, 3)], ids=str)
def test_evaluation(shape):
    """The running statistics are used and come back as they were; the examples do not know each other."""
    x, scale, bias = normal(*shape), np.array([2.0, -1.0]), np.array([0.5, 0.0])
    mean, var = np.array([1.0, -2.0]), np.array([4.0, 0.25])
    channel = [2 if a == 1 else 1 for a in range(len(shape))]
    expected = (x - mean.reshape(channel)) / np.sqrt(var.reshape(channel) + 1e-5) * scale.reshape(channel)

    def evaluated(x):
        return jn.batch_norm(x, scale=scale, bias=bias, running_mean=mean, running_var=var)

    y, new_mean, new_var = at_once(evaluated)(x)
    near(y, expected + bias.reshape(channel), atol=1e-15)
    equal(new_mean, mean)
    equal(new_var, var)
    j = jax.eval_shape(jn.jacobian(lambda x: evaluated(x)[0]), x)
    assert j.structure == ("diagonal" if x.size else "zero")
    assert not x.size or shape[0] == 1 or j.batched


def test_training_couples_the_examples():
    x = normal(4, 3, 2)
    j = jax.eval_shape(jn.jacobian(trained), x)
    assert not j.batched
    with pytest.raises(jn.ShapeError, match="independent"):
        j.per_example()
    _, ours, theirs = compiled(trained)(x)
    near(ours, theirs, atol=1e-13)
    assert np.abs(np.asarray(ours)[0, :, :, 1]).max() > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_statistics_keep_their_dtype(dtype):
    """So that they can be carried through a loop over batches."""
    x = np.asarray(normal(4, 8, 3), "float32")

    def step(state, batch):
        y, *state = jn.batch_norm(batch, running_mean=state[0], running_var=state[1], training=True)
        return tuple(state), y

    (mean, var), y = jax.lax.scan(step, (np.zeros(3, dtype), np.ones(3, dtype)), x)
    assert mean.dtype == var.dtype == dtype
    assert y.dtype == "float32"
    expected = np.zeros(3)
    for batch in x.astype("float64"):
        expected = 0.9 * expected + 0.1 * batch.mean(0)
    near(mean, expected, atol=1e-2)


def test_normalizing_in_float32_of_half_precision_inputs():
    """Statistics and parameters are often float32 where the activations are bfloat16."""
    x, scale = np.asarray(normal(64, 3) + 100, "bfloat16"), np.ones(3, "float32")
    layers = (
        lambda x, scale: trained(x, scale=scale),
        lambda x, scale: jn.layer_norm(x, scale, axis=1),
        lambda x, scale: jn.group_norm(x, scale, groups=1),
    )
    compute = at_once(lambda x, scale: [layer(x, scale) for layer in layers])
    for y, exact in zip(compute(x, scale), compute(x.astype("float64"), scale.astype("float64")), strict=True):
        assert y.dtype == "float32"
        near(y, exact, 0, 1e-5)
