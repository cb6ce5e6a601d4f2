"""The average loss of a batch near the parameters, which optimizers by curvature take for a quadratic function.

`m(δ) = ⟨g, δ⟩ + ½ δᵀ(G + λI)δ` is the model of how the loss changes by a step δ; g is the gradient, G the Gauss-Newton or
Fisher matrix, and λ the damping.  How well the model foresees the change decides about λ (Levenberg and Marquardt).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..algebra.factors import at_least_float32
from ..checks import as_tree_like, check_positive, check_scalar, show_value
from ..errors import ShapeError
from .gauss_newton import Linearized, gauss_newton, linearized
from .gauss_newton_matrix import GaussNewton

PRODUCTS = ("fisher", "ggn")  # the curvatures that are known by products with vectors
GOOD, BAD = 0.75, 0.25  # the shares of the foreseen change above which damping shrinks and below which it grows
MIN_DAMPING, MOST_DAMPING = 1e-2, 1e8  # beyond which damping is not adapted


class Batch:
    """A batch as `update` of an optimizer by curvature gets it, after its arguments were checked."""

    def __init__(self, name: str, f: Callable, loss: Callable, curvature: str, params, x, targets):
        if params is None or x is None or targets is None:
            raise TypeError(f"{name}: update needs params, x= and targets=")
        leaves = jax.tree.leaves(x)
        if not leaves or not jnp.shape(leaves[0]):
            raise ShapeError(f"{name}: x must hold arrays whose first axis are examples, got {show_value(x)}")
        if not jnp.shape(leaves[0])[0]:
            raise ShapeError(f"{name}: x has shape {jnp.shape(leaves[0])}, a batch without examples")
        self.name, self.f, self.loss, self.curvature = name, f, loss, curvature
        self.params, self.x = params, x
        self.targets = targets if isinstance(targets, tuple) else (targets,)

    @property
    def scale(self) -> float:
        """What makes an average of the sum of all losses."""
        return 1 / max(jax.eval_shape(self._losses, self.params).size, 1)

    def _losses(self, params):
        return jnp.asarray(self.loss(self.f(params, self.x), *self.targets))

    def value_after(self, updates) -> jax.Array:
        """The average loss after a step."""
        losses = self._losses(optax.apply_updates(self.params, updates))
        return jnp.sum(losses, dtype=jnp.promote_types(losses.dtype, jnp.float32)) * self.scale

    def matrix(self) -> GaussNewton:
        return gauss_newton(self.name, self.curvature, self.f, self.loss, self.scale, self.params, self.x, self.targets)

    def linearized(self) -> Linearized:
        return linearized(self.name, self.curvature, self.f, self.loss, self.scale, self.params, self.x, self.targets)

    def checked_gradient(self, gradient):
        return as_tree_like(self.name, "gradient", gradient, self.params)

    def like_params(self, tree):
        """The tree in the dtypes of the parameters."""
        return jax.tree.map(lambda a, p: a.astype(jnp.result_type(p)), tree, self.params)

    def curvatures(self, near: Linearized, directions, damping) -> jax.Array:
        """The matrix of all `u (G + damping·I) v` for these directions."""
        pushed = [near.push(self.like_params(v)) for v in directions]
        curved = [near.curve(t) for t in pushed]
        return jnp.stack(
            [
                jnp.stack([dot(a, b) + damping * dot(u, v) for b, v in zip(curved, directions, strict=True)])
                for a, u in zip(pushed, directions, strict=True)
            ]
        )

    def change(self, near: Linearized, gradient, updates, damping) -> tuple[jax.Array, jax.Array]:
        """How the loss changes by a step, and how the quadratic model foresees that it does."""
        before = self.value_after(optax.tree.zeros_like(updates))
        foreseen = dot(gradient, updates) + self.curvatures(near, [updates], damping)[0, 0] / 2
        return self.value_after(self.like_params(updates)) - before, foreseen


def adapted(damping: jax.Array, change: jax.Array, foreseen: jax.Array, factor: float, least) -> jax.Array:
    """The damping divided by `factor` where the loss falls as foreseen, times it where it does not, or is not finite.

    A step after which the model itself foresees a higher loss, as momentum can take it, is no good one.
    """
    ratio = jnp.where(foreseen < 0, change / foreseen, 0)
    changed = jnp.where(ratio > GOOD, damping / factor, jnp.where(ratio >= BAD, damping, damping * factor))
    return jnp.clip(changed, least, MOST_DAMPING).astype(damping.dtype)


def check_optimizer(name: str, curvature: str, curvatures: tuple[str, ...], **positive: float | jax.Array):
    """ValueError unless the curvature is one of these, and every other number positive.

    A number may be an array without axes, as `optax.inject_hyperparams` hands it over, whose value is then not known.
    """
    if curvature not in curvatures:
        raise ValueError(f"{name}: curvature must be one of {curvatures}, got {curvature!r}")
    for argument, number in positive.items():
        if isinstance(number, jax.Array):
            check_scalar(name, argument, number)
        else:
            check_positive(name, argument, number)


def check_state(name: str, state: Any, kind: type):
    if not isinstance(state, kind):
        raise TypeError(f"{name}: state must be what init(params) returns, got {show_value(state)}")


def dot(a, b) -> jax.Array:
    """The inner product of two trees, in float32 at least."""
    return optax.tree.vdot(*(jax.tree.map(at_least_float32, tree) for tree in (a, b)))
