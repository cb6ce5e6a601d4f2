"""Saliency maps: gradients of one output, averaged along a line or over noise, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import close, numbers

X = numbers((7, 3), 1)
W, V = numbers((3, 4), 6), numbers((3, 3), 8)


def test_saliency_is_the_gradient_of_the_largest_output():
    w = W

    def f(x):
        return jnp.tanh(x) @ w

    largest = np.argmax(np.tanh(X) @ w, 1)
    expected = np.stack([np.abs((1 - np.tanh(x) ** 2) * w[:, k]) for x, k in zip(X, largest, strict=True)])
    by_largest, by_last = jax.jit(lambda x: (jn.saliency(f)(x), jn.saliency(f, output=-1)(x)))(X)
    close(by_largest, expected)
    close(by_last, np.abs((1 - np.tanh(X) ** 2) * w[:, -1]))
    images = numbers((2, 1, 3, 4), 7)
    assert jax.eval_shape(jn.saliency(lambda x: jn.flatten(x) ** 2), images).shape == images.shape


def network(x):
    return jnp.tanh(jnp.tanh(x @ V) @ W)


def by_numpy(x):
    return np.tanh(np.tanh(x @ V) @ W)


def gradient(x, k):
    """∂y[b,k]/∂x[b] for an output k of every example."""
    hidden = np.tanh(x @ V)
    y = np.tanh(hidden @ W)[np.arange(len(x)), k]
    return (1 - y**2)[:, None] * ((1 - hidden**2) * W[:, k].T) @ V.T


def test_integrated_gradients_sum_to_the_difference_of_outputs():
    baseline = numbers((3,), 9)
    run = jn.integrated_gradients(network, steps=40), jn.integrated_gradients(network, 1, baseline=baseline, steps=40)
    found, from_baseline = jax.jit(lambda x: [one(x) for one in run])(X)
    y, largest = by_numpy(X), by_numpy(X).argmax(1)
    rows = np.arange(len(X))
    np.testing.assert_allclose(found.sum(1), y[rows, largest] - by_numpy(0 * X)[rows, largest], atol=1e-10)
    np.testing.assert_allclose(from_baseline.sum(1), y[:, 1] - by_numpy(baseline[None])[0, 1], atol=1e-10)
    fine = (np.arange(20_000) + 0.5) / 20_000  # the integral by its definition, in many small steps
    expected = X * np.mean([gradient(place * X, largest) for place in fine], 0)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_output_is_the_one_that_is_largest_at_x():
    """Along the line from the baseline another output may be the largest one."""

    def f(x):
        return jnp.stack([x[:, 0] ** 2, jnp.sin(x[:, 0])], 1)

    found = jax.jit(jn.integrated_gradients(f))(np.array([[2.0], [0.3]]))
    np.testing.assert_allclose(found, [[4.0], [np.sin(0.3)]], atol=1e-10)


def test_gradient_times_input_has_a_sign():
    found = jax.jit(jn.gradient_times_input(network))(X)
    close(found, X * gradient(X, by_numpy(X).argmax(1)))
    assert np.any(np.asarray(found) < 0) and np.any(np.asarray(found) > 0)


def test_smooth_gradient_is_the_average_over_noise():
    key = jax.random.key(3)
    found = jax.jit(jn.smooth_gradient(network, noise=0.5, samples=4000, key=key))(X)
    largest = by_numpy(X).argmax(1)
    noise = np.random.default_rng(0).standard_normal((4000, *X.shape)) * 0.5
    expected = np.abs(np.mean([gradient(X + e, largest) for e in noise], 0))
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(expected - np.abs(gradient(X, largest))).max() > 0.2  # the noise matters here
    one, other = (jn.smooth_gradient(network, noise=0.5, samples=2, key=jax.random.key(i))(X) for i in range(2))
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: jn.saliency(lambda x: x.sum())(X), jn.ShapeError, r"f must give \[B, outputs\] with an output None"),
        (lambda: jn.saliency(lambda x: x, output=3)(X), jn.ShapeError, "with an output 3"),
        (lambda: jn.integrated_gradients(network, -5)(X), jn.ShapeError, "integrated_gradients: f must give .* output -5"),
        (lambda: jn.integrated_gradients(network, steps=0), ValueError, "integrated_gradients: steps must be at least 1"),
        (
            lambda: jn.integrated_gradients(network, baseline=np.ones(2))(X),
            jn.ShapeError,
            r"integrated_gradients: argument 'baseline' has shape \(2,\), expected one that broadcasts to \(7, 3\)",
        ),
        (
            lambda: jn.smooth_gradient(network, noise=0.0, key=jax.random.key(0)),
            ValueError,
            "smooth_gradient: noise must be positive",
        ),
        (lambda: jn.smooth_gradient(network, noise=1.0, key=3), TypeError, "smooth_gradient: key must be a key"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
