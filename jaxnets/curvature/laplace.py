"""Laplace's approximation: how uncertain the parameters of a trained network are, and with them its predictions."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..algebra.factors import pytree
from ..checks import check_integer, check_key, checked
from ..errors import ShapeError
from .block_diagonal import BlockDiagonal, check_structure, curvature_of
from .gauss_newton_matrix import GaussNewton
from .rows import Rows, outputs_and_rows, single_output
from .subset import chosen_leaves, of_chosen

HALVINGS = 64  # of an interval of logarithms, until it is as narrow as numbers of 64 bits


@pytree("params", "matrix", "loss", "prior_precision")
class Posterior:
    """A normal distribution over the parameters, with mean `params` and precision `matrix + prior_precision · I`.

    If it is one over a subset of the parameters, all others are known.
    """

    f: Callable
    params: Any
    matrix: GaussNewton | BlockDiagonal
    loss: jax.Array  # the sum over the examples
    prior_precision: Any
    chosen: tuple[bool, ...]  # for every leaf whether it belongs to the subset

    def __repr__(self):
        count = sum(leaf.size for leaf in self._mean)
        return f"Posterior(normal, {count:,} parameters, precision {self.matrix} + prior)"

    def covariance(self, x) -> jax.Array:
        """The covariance `[*outputs, *outputs]` of f(params, x), for f made linear in the parameters around the mean."""
        y, rows = self._rows(x)
        return self.matrix.inner(rows, rows, self.prior_precision).reshape(y.shape * 2)

    def covariance_of_each_example(self, x) -> jax.Array:
        """The covariance `[B, *outputs, *outputs]` of the outputs of every example, f(params, x) being `[B, *outputs]`."""
        return self.matrix.inner_of_each_example(self._rows(x)[1], self.prior_precision)

    def variance(self, x) -> jax.Array:
        """The variance of every output, in the shape of f(params, x)."""
        covariance = self.covariance_of_each_example(x)
        shape = covariance.shape[: (covariance.ndim + 1) // 2]
        flat = covariance.reshape(shape[0], math.prod(shape[1:]), -1)
        return jnp.diagonal(flat, axis1=1, axis2=2).reshape(shape)

    @checked
    def log_probabilities(self, x, *, samples: int | None = None, key=None) -> jax.Array:
        """log p(class | x) `[B, classes]`, averaged over the posterior, for f that returns logits or log-probabilities.

        f is made linear in the parameters (Immer et al. 2021), so that logits z are normal.  The average of their softmax
        is approximated for two classes as by MacKay (1992), `σ(κ·(z₁ − z₀))` with `κ = 1/√(1 + π/8·variance(z₁ − z₀))`,
        and for several by `p[k] ∝ 1/Σ_j exp(κ[k,j]·(z[j] − z[k]))` (Lu et al. 2020, arXiv:2006.07584).  With `samples` and a
        `key` it is the average over so many draws.  Raises ShapeError unless f returns `[B, classes]`.

        >>> f = lambda w, x: jn.linear(x, w)
        >>> x, labels = jnp.array([[1.0], [-1.0]]), jnp.array([1, 0])
        >>> posterior = jn.laplace(f, jn.cross_entropy, prior_precision=1.0)(jnp.array([[-1.0], [1.0]]), x, labels)
        >>> jnp.exp(posterior.log_probabilities(jnp.array([[1.0], [9.0]])))[:, 1].round(2)  # the softmax: 0.88 and 1.00
        Array([0.83, 0.93], dtype=float32)
        """
        y, _ = self._rows(x)
        if y.ndim != 2:
            raise ShapeError(f"log_probabilities: f must return [B, classes], got shape {y.shape}")
        covariance = self.covariance_of_each_example(x)
        if samples is None and key is None:
            return _mean_log_softmax(y, covariance)
        count = check_integer("log_probabilities", "samples", samples, 1)
        check_key("log_probabilities", "key", key)
        values, vectors = jnp.linalg.eigh(covariance)
        drawn = jax.random.normal(key, (count, *y.shape), covariance.dtype) * jnp.sqrt(jnp.maximum(values, 0))
        logits = y + jnp.einsum("bcd,sbd->sbc", vectors, drawn)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - math.log(count)

    def log_evidence(self) -> jax.Array:
        """log p(targets), up to the normalization of the loss; a good prior precision makes it large (MacKay 1992)."""
        count, t = sum(leaf.size for leaf in self._mean), self.prior_precision
        return -self.loss - t * self._squares / 2 + count / 2 * jnp.log(t) - self.matrix.logdet(t) / 2

    def with_prior(self, prior_precision: float | jax.Array) -> "Posterior":
        """The posterior with the same mean and another prior precision; ValueError if that is known not to be positive."""
        if not isinstance(prior_precision, jax.core.Tracer) and not prior_precision > 0:
            raise ValueError(f"with_prior: prior_precision must be positive, got {prior_precision}")
        return dataclasses.replace(self, prior_precision=prior_precision)

    def with_best_prior(self) -> "Posterior":
        """The posterior with the same mean and the prior precision t that makes `log_evidence` largest (MacKay 1992).

        There `t·‖θ‖²` is the number of well-determined parameters `γ = Σ λ/(λ + t)`, λ the eigenvalues of the matrix.  As t
        grows γ falls, so there is one such t.  It is NaN where the mean or the matrix is zero, for then there is none.
        """
        eigenvalues = jnp.maximum(self.matrix.eigenvalues(), 0)
        squares = self._squares
        highest = jnp.log(jnp.sum(eigenvalues > 0) / squares)  # γ is at most the number of these eigenvalues

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            t = jnp.exp(middle)
            is_below = jnp.sum(eigenvalues / (eigenvalues + t)) > t * squares
            return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

        floor = math.log(float(jnp.finfo(eigenvalues.dtype).tiny))
        _, best = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.full_like(highest, floor), highest))
        return dataclasses.replace(self, prior_precision=jnp.where(jnp.isfinite(highest), jnp.exp(best), jnp.nan))

    @property
    def _mean(self) -> list[jax.Array]:
        """The leaves of the parameters that are uncertain."""
        return jax.tree.leaves(of_chosen(self.f, self.params, self.chosen)[1])

    @property
    def _squares(self):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in self._mean)

    def _rows(self, x) -> tuple[jax.Array, Rows]:
        """The outputs at x, and the rows of their Jacobian by the parameters that are uncertain."""
        f, mean = of_chosen(self.f, self.params, self.chosen)
        values, tree, rows = outputs_and_rows("laplace", f, mean, x)
        single_output("laplace", "f", values, tree)
        return self.f(self.params, x), rows


def _mean_log_softmax(logits, covariance):
    """The logarithm of the average softmax of normal logits `[B, C]`, by MacKay's approximation for each pair of classes."""
    variances = jnp.diagonal(covariance, axis1=1, axis2=2)
    of_differences = jnp.maximum(variances[:, :, None] + variances[:, None] - 2 * covariance, 0)
    scaled = (logits[:, None] - logits[:, :, None]) * jax.lax.rsqrt(1 + math.pi / 8 * of_differences)
    return jax.nn.log_softmax(-jax.nn.logsumexp(scaled, axis=2))


@checked
def laplace(
    f: Callable,
    loss: Callable,
    *,
    prior_precision: float,
    scale: float = 1.0,
    structure: str = "full",
    subset: Any = None,
) -> Callable:
    """A function of `(params, x, *targets)` that returns the Laplace posterior around trained parameters, a `Posterior`.

    Its precision is the curvature of the negative log-likelihood `scale · Σ loss(f(params, x), *targets)` plus
    `prior_precision` on the diagonal; weight decay λ/2·‖θ‖² in that sum is a prior precision λ.  The curvature is the Fisher
    matrix if the loss is a likelihood, as in `fisher`, else the Gauss-Newton matrix.  Predictions are those of f made linear
    in the parameters (Immer et al. 2021).  For squared errors and noise of variance s², `scale=1 / (2 * s**2)`.

    The matrix is whole with the structure "full", or a block for every array of parameters, "kfac" or "ekfac".  `subset`
    tells which parameters are uncertain (Daxberger et al. 2021): a tree of truth values that is a prefix of the parameters,
    or "last_layer" for the last entry of a list of layers, as those of `jn.models` are.  By default all are.

    Raises ValueError for another word, for an empty subset and unless prior_precision > 0, ShapeError for a subset that is
    no prefix, and TypeError where there is no list of layers.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> fitted = jn.laplace(f, jn.squared_error, prior_precision=1.0)
    >>> posterior = fitted(jnp.zeros((1, 1)), jnp.ones((2, 1)), jnp.zeros((2, 1)))
    >>> posterior.variance(jnp.array([[1.0], [10.0]])).shape
    (2, 1)
    """
    if not prior_precision > 0:
        raise ValueError(f"laplace: prior_precision must be positive, got {prior_precision}")
    check_structure("laplace", structure)

    def run(params, x, *targets):
        chosen = chosen_leaves("laplace", subset, params)
        of_mean, mean = of_chosen(f, params, chosen)
        matrix = curvature_of("laplace", structure, of_mean, loss, scale, mean, x, targets)
        total = scale * jnp.sum(loss(f(params, x), *targets))
        return Posterior(f, params, matrix, total, prior_precision, chosen)

    return run
