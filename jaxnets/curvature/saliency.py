"""How much every input changes an output: maps of images that show what a network looked at."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..autodiff.transforms import gradient_for
from ..checks import as_array, check_broadcasts, check_counts, check_key, check_positive, checked
from ..errors import ShapeError


@checked
def saliency(f: Callable, output: int | None = None) -> Callable:
    """A function of `(x, *args)` that returns |∂f(x)[b, k]/∂x[b]|, in x's shape: how much each input changes one output.

    f returns `[B, outputs]`; k is `output`, by default the largest output of each example (Simonyan et al. 2014).  Raises
    ShapeError if f's value or the index does not fit.

    >>> w = jnp.array([[1.0, -2.0, 0.0]])
    >>> jn.saliency(lambda x: jn.linear(x, w))(jnp.ones((1, 3)))
    Array([[1., 2., 0.]], dtype=float32)
    """
    return lambda x, *args: jnp.abs(_Chosen("saliency", f, output, x, args).gradient(x))


@checked
def gradient_times_input(f: Callable, output: int | None = None) -> Callable:
    """A function of `(x, *args)` that returns `x[b] · ∂f(x)[b, k]/∂x[b]`, in x's shape; f, k and errors as of `saliency`.

    It has a sign, and of a network of ReLUs without biases it sums to the output (Shrikumar et al. 2016).

    >>> w = jnp.array([[1.0, -2.0, 0.0]])
    >>> jn.gradient_times_input(lambda x: jn.linear(x, w))(jnp.array([[2.0, 2.0, 2.0]]))
    Array([[ 2., -4.,  0.]], dtype=float32)
    """
    return lambda x, *args: x * _Chosen("gradient_times_input", f, output, x, args).gradient(x)


@checked
def smooth_gradient(f: Callable, output: int | None = None, *, noise: float, samples: int = 32, key: Any) -> Callable:
    """A function of `(x, *args)` that returns `|mean of ∂f(x + ε)[b, k]/∂x[b]|` over noisy copies of x, in x's shape.

    ε is normal with standard deviation `noise`, in the units of x, and new in each of the `samples` (Smilkov et al. 2017,
    arXiv:1706.03825).  f, k, which x without noise decides, and errors are those of `saliency`; and ValueError unless noise
    and samples are positive.

    >>> w = jnp.array([[1.0, -2.0, 0.0]])
    >>> jn.smooth_gradient(lambda x: jn.linear(x, w), noise=0.1, key=jax.random.key(0))(jnp.ones((1, 3)))
    Array([[1., 2., 0.]], dtype=float32)
    """
    check_positive("smooth_gradient", "noise", noise)
    check_counts("smooth_gradient", samples=samples)
    check_key("smooth_gradient", "key", key)

    def run(x, *args):
        chosen = _Chosen("smooth_gradient", f, output, x, args)

        def at(key):
            return chosen.gradient(x + noise * jax.random.normal(key, x.shape, x.dtype))

        return jnp.abs(_average(at, jax.random.split(key, samples), np.full(samples, 1 / samples)))

    return run


@checked
def integrated_gradients(f: Callable, output: int | None = None, *, baseline: Any = 0.0, steps: int = 32) -> Callable:
    """A function of `(x, *args)` that returns the gradient of f(x)[b, k] by x[b], averaged from x₀ to x, times x − x₀.

    It is `(x − x₀)[b] · ∫ ∂f(x₀ + α (x − x₀))[b, k]/∂x[b] dα` over α from 0 to 1, in x's shape.  It has a sign, and sums to
    `f(x)[b, k] − f(x₀)[b, k]` for every example (Sundararajan et al. 2017, arXiv:1703.01365).  x₀ is `baseline`, which
    broadcasts to x.  The integral is by Gauss and Legendre's rule of so many `steps`, exact for polynomials up to the degree
    2·steps − 1.  f, k, which x decides, and errors are those of `saliency`; and ShapeError for a baseline that does not fit.

    >>> f = lambda x: jn.linear(x**2, jnp.array([[1.0, -2.0, 0.0]]))
    >>> jn.integrated_gradients(f)(jnp.full((1, 3), 2.0)).round(3)
    Array([[ 4., -8.,  0.]], dtype=float32)
    """
    check_counts("integrated_gradients", steps=steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    start = as_array("integrated_gradients: baseline", baseline)

    def run(x, *args):
        check_broadcasts("integrated_gradients", "baseline", start, jnp.shape(x))
        chosen = _Chosen("integrated_gradients", f, output, x, args)
        way = x - start

        def at(place):
            return chosen.gradient((start + place * way).astype(way.dtype))

        return way * _average(at, (nodes + 1) / 2, weights / 2)

    return run


class _Chosen:
    """One output f(x)[b, k] of every example, chosen at x, and its gradient at other inputs."""

    def __init__(self, name: str, f: Callable, output: int | None, x, args):
        self.name, self.f, self.args = name, f, args
        y = f(x, *args)
        if jnp.ndim(y) != 2 or (output is not None and not -y.shape[1] <= output < y.shape[1]):
            raise ShapeError(f"{name}: f must give [B, outputs] with an output {output}, got {jnp.shape(y)}")
        self.places = jnp.argmax(y, 1) if output is None else jnp.full(len(y), output % y.shape[1])

    def gradient(self, x) -> jax.Array:
        def total(x):
            return jnp.sum(jnp.take_along_axis(self.f(x, *self.args), self.places[:, None], 1))

        return gradient_for(self.name, total)(x)


def _average(function: Callable, at, weights) -> jax.Array:
    """Σ_i weights[i] · function(at[i]), one after the other, so that memory does not grow with their number."""

    def step(total, one):
        place, weight = one
        found = function(place)
        return total + weight.astype(found.dtype) * found, None

    first = jax.eval_shape(function, jax.tree.map(lambda a: a[0], at))
    return jax.lax.scan(step, jnp.zeros(first.shape, first.dtype), (at, jnp.asarray(weights)))[0]
