"""Softmax and its logarithm, with Jacobian products that stay accurate when one probability is nearly 1.

Both Jacobians map constant vectors to zero (J·1 = 0).  So the entry of the most likely class is subtracted from a vector
before it is multiplied, and 1 − p is computed as the sum over the other classes.  This keeps the digits that
p (g − ⟨p, g⟩) and p − p² lose.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..algebra.factors import Group, Label, Tensor, applied_to_rows, at_least_float32, entries_over, labels_of, pytree
from ..algebra.rules import axis_names, first_largest, fresh_groups, from_groups
from ..algebra.sharding import mask_at, reshaped
from ..checks import check_axes, check_broadcasts
from .layer import layer
from .row_operator import RowOperator

__all__ = ["softmax", "softmin", "log_softmax"]


def most_likely_mask(p):
    """A mask that is True at the first largest entry along the last axis."""
    return mask_at(p, first_largest(p))


def complement(p, top):
    """1 − p[i], as Σ_{j≠i} p[j] at the largest entry, where the difference would lose digits."""
    return jnp.where(top, sum_of_others(p, top), 1 - p)


def sum_of_others(p, own):
    """Σ_{j≠i} p[j], where i is the entry at which a mask is True."""
    return jnp.sum(jnp.where(own, 0, p), -1, keepdims=True)


@pytree("p")
class _SoftmaxKin(RowOperator):
    """What the operators below have in common: `p`, the probabilities [*shared, n]."""

    p: Any
    axes: tuple[Group, ...]
    kind = "rank-1 update"
    symbols = {"p": "softmax(x)"}

    def complement(self):
        return complement(self.p, most_likely_mask(self.p))

    def centred(self, x):
        """x minus its entry of the most likely class."""
        return x - jnp.sum(jnp.where(most_likely_mask(self.p), x, 0), -1, keepdims=True)

    def beside_diagonal(self) -> tuple:
        """u and v [*shared, n] of the entries −u[i] v[j] with i ≠ j."""
        raise NotImplementedError

    def off_diagonal(self):
        u, v = self.beside_diagonal()
        return -u[..., :, None] * v[..., None, :]

    def times_itself(self, other, labels):
        """Its squares, summed along its rows or its columns."""
        *shared, out, inp = self.axes
        u, v = self.beside_diagonal()
        for kept, summed, pair in ((out, inp, (u, v)), (inp, out, (v, u))):
            if other.axes == self.axes and set(labels) == set(summed) and inp != out:
                kept = labels_of([*shared, kept])
                return kept, entries_over(kept), functools.partial(self._sums_of_squares, *pair)
        return None

    def _sums_of_squares(self, u, v):
        """The sums of the squares of every row, where −u[i] v[j] are the entries beside the diagonal."""
        squares = jnp.square(v)
        top = most_likely_mask(squares)
        others = jnp.where(top, sum_of_others(squares, top), jnp.sum(squares, -1, keepdims=True) - squares)
        return jnp.square(self.on_diagonal()) + jnp.square(u) * others


@pytree("p")
class SoftmaxOperator(_SoftmaxKin):
    """∂y[i]/∂x[j] = p[i] (δ(i,j) − p[j]), symmetric."""

    symbol = "softmax'"
    meaning = "p[i]·(δ(i,j) − p[j]) with p = softmax(x)"

    @applied_to_rows
    def push(self, x):
        x = self.centred(at_least_float32(x))
        return self.p * (x - jnp.sum(self.p * x, -1, keepdims=True))

    pull = push

    def on_diagonal(self):
        return self.p * self.complement()

    def beside_diagonal(self):
        return self.p, self.p

    def formula(self, show):
        *b, i, j = self.axes
        p = self.written("p")
        return f"{p}{show([*b, i])}·(δ({show([i])[1:-1]},{show([j])[1:-1]}) − {p}{show([*b, j])})"


@pytree("p")
class LogSoftmaxOperator(_SoftmaxKin):
    """∂y[i]/∂x[j] = δ(i,j) − p[j]."""

    symbol = "log_softmax'"
    meaning = "δ(i,j) − p[j] with p = softmax(x)"

    @applied_to_rows
    def push(self, x):
        x = self.centred(at_least_float32(x))
        return x - jnp.sum(self.p * x, -1, keepdims=True)

    @applied_to_rows
    def pull(self, x):
        x, top = at_least_float32(x), most_likely_mask(self.p)
        total = jnp.sum(x, -1, keepdims=True)
        return jnp.where(top, complement(self.p, top) * x - self.p * sum_of_others(x, top), x - self.p * total)

    def on_diagonal(self):
        return self.complement()

    def beside_diagonal(self):
        return jnp.ones_like(self.p), self.p

    def formula(self, show):
        *b, i, j = self.axes
        return f"(δ({show([i])[1:-1]},{show([j])[1:-1]}) − {self.written('p')}{show([*b, j])})"


@pytree("p")
class SoftmaxRootOperator(_SoftmaxKin):
    """S[i,j] = √p[i] δ(i,j) − p[i] √p[j], a root of SoftmaxOperator: S Sᵀ = diag(p) − p pᵀ.  S √p = 0 and 1ᵀ S = 0."""

    symbol = "S"

    def root(self):
        return jnp.where(self.p > 0, jnp.sqrt(jnp.where(self.p > 0, self.p, 1)), 0)

    @applied_to_rows
    def push(self, x):
        root = self.root()
        x = x - jnp.sum(jnp.where(most_likely_mask(self.p), x, 0), -1, keepdims=True) * root  # any multiple of √p will do
        return root * x - self.p * jnp.sum(root * x, -1, keepdims=True)

    @applied_to_rows
    def pull(self, x):
        x = self.centred(at_least_float32(x))
        return self.root() * (x - jnp.sum(self.p * x, -1, keepdims=True))

    def on_diagonal(self):
        return self.root() * self.complement()

    def beside_diagonal(self):
        return self.p, self.root()

    def formula(self, show):
        *b, i, j = self.axes
        own, other, p = show([i])[1:-1], show([j])[1:-1], self.written("p")
        return f"(√{p}{show([*b, i])}·δ({own},{other}) − {p}{show([*b, i])}·√{p}{show([*b, j])})"


def row_rule(operator, p, axis, *factors, scale=1.0):
    """The rule of an operator along some axes; all other axes are shared.  `factors` have the axes of the output."""
    axes = check_axes("softmax", p, axis)
    out = list(fresh_groups(p.shape, axis_names(p.ndim)))
    inp = list(out)
    for k, a in enumerate(axes):
        out[a] = (out[a][0]._replace(name="ikm"[k % 3]),)
        inp[a] = (Label(p.ndim + k, p.shape[a], "jln"[k % 3]),)
    shared = [group for a, group in enumerate(out) if a not in axes]
    own = (tuple(label for a in axes for label in side[a]) for side in (out, inp))
    weights = [Tensor(value, tuple(out), name) for value, name in factors]
    return from_groups(out, inp, *weights, operator(at_least_float32(_as_rows(p, axes)), (*shared, *own)), scale=scale)


def _as_rows(x, axes):
    """`[*others, n]`: these axes are merged into one, which is last."""
    others = [a for a in range(x.ndim) if a not in axes]
    return reshaped(x.transpose(*others, *axes), [*(x.shape[a] for a in others), math.prod(x.shape[a] for a in axes)])


def masked_rows(name, x, where, axis):
    """The rows of x with −∞ where the mask is False, and a function that gives rows the shape of x again."""
    axes = check_axes(name, x, axis)
    if where is not None:
        check_broadcasts(name, "where", where, x.shape)
        x = jnp.where(where, x, -jnp.inf)
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    return _as_rows(x, axes), lambda y: y.reshape([x.shape[a] for a in order]).transpose(np.argsort(order))


@layer
def softmax(
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: int | tuple[int, ...] = -1
) -> Float[Array, "..."]:
    """Soft arg max  y[..., i] = exp(x[..., i]) / Σ_j exp(x[..., j])  along `axis`, over the entries where `where` is True.

    ∂y[b,i]/∂x[b,j] = p[b,i]·(δ(i,j) − p[b,j])  with p = y

    Masked entries give 0 and have no influence, whatever they hold.  A row that is all −∞, or masked completely, gives 0
    with Jacobian 0.
    """
    return _soft_arg_max("softmax", x, where, axis)


def _soft_arg_max(name, x, where, axis):
    rows, back = masked_rows(name, x, where, axis)
    top = lax.stop_gradient(jnp.max(rows, -1, keepdims=True, initial=-jnp.inf))
    e = jnp.exp(rows - jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.sum(e, -1, keepdims=True)
    return back(e / jnp.where(total == 0, 1, total))


@softmax.jacobian
def _(y, x, where, *, axis):
    return row_rule(SoftmaxOperator, y, axis), None


@layer
def softmin(
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: int | tuple[int, ...] = -1
) -> Float[Array, "..."]:
    """Soft arg min  y[..., i] = exp(−x[..., i]) / Σ_j exp(−x[..., j]),  the softmax of −x.

    ∂y[b,i]/∂x[b,j] = −p[b,i]·(δ(i,j) − p[b,j])  with p = y
    """
    return _soft_arg_max("softmin", -x, where, axis)


@softmin.jacobian
def _(y, x, where, *, axis):
    return row_rule(SoftmaxOperator, y, axis, scale=-1.0), None


@layer
def log_softmax(
    x: Float[Array, "..."], where: Bool[Array, "..."] | None = None, *, axis: int | tuple[int, ...] = -1
) -> Float[Array, "..."]:
    """Logarithm of softmax  y[..., i] = x[..., i] − log Σ_j exp(x[..., j])  along `axis`.

    ∂y[b,i]/∂x[b,j] = (δ(i,j) − p[b,j])  with p = exp(y)

    It is computed as d − log1p(Σ exp(d) over the other entries) with d = x − max.  So it does not saturate at 0 as
    log(softmax(x)) does, and its gradient does not vanish.  Entries where `where` is False give −∞ with Jacobian 0 and have
    no influence.
    """
    rows, back = masked_rows("log_softmax", x, where, axis)
    top = most_likely_mask(rows)
    largest = jnp.sum(jnp.where(top, rows, 0), -1, keepdims=True)
    d = rows - jnp.where(jnp.isfinite(largest), largest, 0)
    rest = sum_of_others(jnp.exp(jnp.where(top, 0, d)), top)
    y = back(d - jnp.log1p(rest))
    return y if where is None else jnp.where(where, y, -jnp.inf)


@log_softmax.jacobian
def _(y, x, where, *, axis):
    mask = [] if where is None else [(jnp.broadcast_to(where, x.shape).astype(y.dtype), "m")]
    return row_rule(LogSoftmaxOperator, jnp.exp(y), axis, *mask), None
