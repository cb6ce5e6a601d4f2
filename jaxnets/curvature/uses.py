"""Uses of curvature and gradients: how uncertain a prediction is, and which examples and which inputs it depends on."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..algebra.factors import pytree
from ..autodiff.transforms import gradient_for
from ..checks import checked
from ..errors import ShapeError
from .gauss_newton import gauss_newton
from .gauss_newton_matrix import GaussNewton
from .rows import loss_rows, outputs_and_rows, quantity, single_output


@pytree("params", "matrix", "loss", "prior_precision")
class Posterior:
    """A normal distribution over the parameters, with mean `params` and precision `matrix + prior_precision · I`."""

    f: Callable
    params: Any
    matrix: GaussNewton
    loss: jax.Array  # the sum over the examples
    prior_precision: Any

    def __repr__(self):
        return f"Posterior(normal, {self.matrix.left.parameter_count:,} parameters, precision {self.matrix} + prior)"

    def covariance(self, x) -> jax.Array:
        """The covariance `[*outputs, *outputs]` of f(params, x), for f made linear in the parameters around the mean."""
        values, tree, rows = outputs_and_rows("laplace", self.f, self.params, x)
        y = single_output("laplace", "f", values, tree)
        return self.matrix.inner(rows, rows, self.prior_precision).reshape(y.shape * 2)

    def variance(self, x) -> jax.Array:
        """The variance of every output, in the shape of f(params, x)."""
        covariance = self.covariance(x)
        shape = covariance.shape[: covariance.ndim // 2]
        return jnp.diagonal(covariance.reshape(math.prod(shape), -1)).reshape(shape)

    def log_evidence(self) -> jax.Array:
        """log p(targets), up to the normalization of the loss; a good prior precision makes it large (MacKay 1992)."""
        squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(self.params))
        count, t = self.matrix.left.parameter_count, self.prior_precision
        return -self.loss - t * squares / 2 + count / 2 * jnp.log(t) - self.matrix.logdet(t) / 2


@checked
def laplace(f: Callable, loss: Callable, *, prior_precision: float, scale: float = 1.0) -> Callable:
    """A function of `(params, x, *targets)` that returns the Laplace posterior around trained parameters, a `Posterior`.

    Its precision is the Gauss-Newton matrix of the negative log-likelihood `scale · Σ loss(f(params, x), *targets)` plus
    `prior_precision` on the diagonal; weight decay λ/2·‖θ‖² in that sum is a prior precision λ.  Predictions are those of f
    made linear in the parameters (Immer et al. 2021).  For squared errors and noise of variance s²,
    `scale=1 / (2 * s**2)`.  Raises ValueError unless prior_precision > 0.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> fitted = jn.laplace(f, jn.squared_error, prior_precision=1.0)
    >>> posterior = fitted(jnp.zeros((1, 1)), jnp.ones((2, 1)), jnp.zeros((2, 1)))
    >>> posterior.variance(jnp.array([[1.0], [10.0]])).shape
    (2, 1)
    """
    if not prior_precision > 0:
        raise ValueError(f"laplace: prior_precision must be positive, got {prior_precision}")

    def run(params, x, *targets):
        matrix = gauss_newton("laplace", "ggn", f, loss, scale, params, x, targets)
        total = scale * jnp.sum(loss(f(params, x), *targets))
        return Posterior(f, params, matrix, total, prior_precision)

    return run


@quantity
def influence(f: Callable, loss: Callable, *, damping: float) -> Callable:
    """A function of `(params, at, x, *targets)` that returns how f(params, at) changes if a training example is left out.

    It is `J(at) (G + damping·I)⁻¹ ∂ℓ_n/∂θ` for every example n of (x, *targets), `[*f(params, at).shape, B]`: the first
    order around parameters that minimise `Σ ℓ + damping/2·‖θ‖²` (Koh & Liang 2017).  G is the Gauss-Newton matrix of Σ ℓ.
    Raises ValueError unless damping > 0.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> moved = jn.influence(f, jn.squared_error, damping=0.1)
    >>> moved(jnp.zeros((1, 2)), jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.ones((4, 1))).shape
    (3, 1, 4)
    """
    if not damping > 0:
        raise ValueError(f"influence: damping must be positive, got {damping}")

    def run(params, at, x, *targets):
        matrix = gauss_newton("influence", "ggn", f, loss, 1.0, params, x, targets)
        values, tree, predictions = outputs_and_rows("influence", f, params, at)
        y = single_output("influence", "f", values, tree)
        examples = loss_rows("influence", lambda params: loss(f(params, x), *targets), params)
        return matrix.inner(predictions, examples, damping).reshape(*y.shape, -1)

    return run


@checked
def saliency(f: Callable, output: int | None = None) -> Callable:
    """A function of `(x, *args)` that returns |∂f(x)[b, k]/∂x[b]|, in x's shape: how much each input changes one output.

    f returns `[B, outputs]`; k is `output`, by default the largest output of each example (Simonyan et al. 2014).  Raises
    ShapeError if f's value or the index does not fit.

    >>> w = jnp.array([[1.0, -2.0, 0.0]])
    >>> jn.saliency(lambda x: jn.linear(x, w))(jnp.ones((1, 3)))
    Array([[1., 2., 0.]], dtype=float32)
    """

    def run(x, *args):
        def chosen(x):
            y = f(x, *args)
            if jnp.ndim(y) != 2 or (output is not None and not -y.shape[1] <= output < y.shape[1]):
                raise ShapeError(f"saliency: f must give [B, outputs] with an output {output}, got {jnp.shape(y)}")
            k = jnp.argmax(y, 1) if output is None else jnp.full(len(y), output % y.shape[1])
            return jnp.sum(jnp.take_along_axis(y, k[:, None], 1))

        return jnp.abs(gradient_for("saliency", chosen)(x))

    return run
