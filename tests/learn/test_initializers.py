"""Initial weights: their spread, and errors."""

import jax
import numpy as np
import pytest

from jaxnets import initializers
from jaxnets.learn.initializers import gain, kaiming_normal, kaiming_uniform, orthogonal, xavier_normal, xavier_uniform

SHAPES = [((400, 300), 300, 400), ((40, 30, 5, 5), 30 * 25, 40 * 25)]  # [out, in, *kernel], fan in, fan out


@pytest.mark.parametrize("shape, fan_in, fan_out", SHAPES, ids=["matrix", "kernel"])
def test_spread(shape, fan_in, fan_out):
    expected = {
        kaiming_normal(): np.sqrt(2 / fan_in),
        kaiming_uniform(): np.sqrt(2 / fan_in),
        kaiming_normal("tanh"): 5 / 3 / np.sqrt(fan_in),
        kaiming_normal("leaky_relu", slope=0.5): np.sqrt(2 / 1.25 / fan_in),
        kaiming_normal("linear", mode="fan_out"): np.sqrt(1 / fan_out),
        kaiming_uniform("selu", mode="fan_avg"): 0.75 * np.sqrt(2 / (fan_in + fan_out)),
        xavier_normal(): np.sqrt(2 / (fan_in + fan_out)),
        xavier_uniform(scale=3): 3 * np.sqrt(2 / (fan_in + fan_out)),
    }
    for init, spread in expected.items():
        w = np.asarray(init(jax.random.key(0), shape, "float32"))
        assert w.shape == shape and w.dtype == np.float32
        np.testing.assert_allclose(w.std(), spread, rtol=0.02)
        np.testing.assert_allclose(w.mean(), 0, atol=4 * spread / np.sqrt(w.size))


@pytest.mark.parametrize("shape", [(7, 7), (4, 6), (9, 5), (4, 3, 2, 2), (30, 2, 3, 3)])
def test_orthogonal_weights(shape):
    w = np.asarray(orthogonal(scale=3)(jax.random.key(0), shape, "float64")).reshape(shape[0], -1)
    assert w.dtype == np.float64
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=1e-12)


def test_distributions():
    shape = (300, 200)
    uniform = np.asarray(kaiming_uniform()(jax.random.key(0), shape, "float64"))
    bound = np.sqrt(6 / 200)
    assert 0.999 * bound < np.abs(uniform).max() <= bound
    normal = np.asarray(kaiming_normal()(jax.random.key(0), shape, "float64"))
    assert np.abs(normal).max() > 3.5 * np.sqrt(2 / 200)  # not truncated


def test_a_signal_keeps_its_size_through_relu_layers():
    x = jax.random.normal(jax.random.key(0), (256, 500))
    for i in range(8):
        x = jax.nn.relu(x @ kaiming_normal()(jax.random.key(i + 1), (500, 500), "float64").T)
    assert 0.5 < np.mean(np.square(x)) < 2


@pytest.mark.parametrize("call, words", [
    (lambda: gain("swish2"), ["swish2", "relu", "leaky_relu"]),
    (lambda: kaiming_normal("nothing"), ["nothing"]),
    (lambda: kaiming_normal(mode="fan"), ["kaiming_normal", "'fan'", "fan_in"]),
    (lambda: xavier_uniform(scale=-1), ["xavier_uniform", "-1"]),
    (lambda: initializers.xavier_normal(0), ["xavier_normal", "0"]),
    (lambda: initializers.orthogonal(-2), ["orthogonal", "-2"]),
])  # fmt: skip
def test_errors(call, words):
    with pytest.raises(ValueError) as raised:
        call()
    assert all(word in str(raised.value) for word in words)
