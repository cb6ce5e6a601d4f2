"""An optimizer that multiplies the gradient by an inverse curvature matrix: Gauss-Newton, or the natural gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..checks import checked
from .gauss_newton import CURVATURES
from .local_model import Batch, check_optimizer, check_state

TRIES = 8  # of one step, at most
LARGER, SMALLER = 4.0, 1 / 3  # the factors for the damping after a failure and after a success


class NaturalGradientState(NamedTuple):
    """What the optimizer remembers: the damping λ of its next step."""

    damping: Any

    def __repr__(self):
        return f"NaturalGradientState(damping of {jnp.result_type(self.damping)})"


@checked
def natural_gradient(
    f: Callable, loss: Callable, *, learning_rate: float = 1.0, damping: float = 1.0, curvature: str = "ggn"
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation with updates `−learning_rate · (G + λ·I)⁻¹ gradient`, for small networks.

    `update(gradient, state, params, x=x, targets=targets)` gets the batch on which the gradient of the *average* loss was
    taken; `targets` is a tuple if the loss takes several.  G is the average Gauss-Newton matrix or, for the natural gradient
    of Amari 1998, a Fisher matrix ("fisher" or "empirical", see `fisher`).  λ starts at `damping` and follows Levenberg and
    Marquardt: if the loss of the batch would not fall, λ grows and the step is tried again, up to 8 times before a step of
    0; after a successful step λ shrinks.  Every try costs a solve in the smaller of parameter and output space.  Raises
    ValueError for an unknown curvature or a damping that is not positive, TypeError without x and targets.

    >>> f, w, x, y = lambda w, x: jn.linear(x, w), jnp.zeros((1, 1)), jnp.ones((4, 1)), jnp.ones((4, 1))
    >>> optimizer = jn.natural_gradient(f, jn.squared_error, damping=1e-3)
    >>> gradient = jn.grad(lambda w: jnp.mean(jn.squared_error(f(w, x), y)))(w)
    >>> updates, state = optimizer.update(gradient, optimizer.init(w), w, x=x, targets=y)
    >>> bool(abs(w + updates - 1.0).max() < 1e-2)
    True
    """
    check_optimizer("natural_gradient", curvature, CURVATURES, damping=damping)

    def start(params):
        return NaturalGradientState(jnp.asarray(damping))

    def update(gradient, state, params=None, *, x=None, targets=None, **_):
        batch = Batch("natural_gradient", f, loss, curvature, params, x, targets)
        check_state("natural_gradient", state, NaturalGradientState)
        gradient = batch.checked_gradient(gradient)
        matrix = batch.matrix()

        def tried(damping):
            updates = jax.tree.map(lambda a: -learning_rate * a, matrix.solve(gradient, damping))
            return updates, batch.value_after(updates)

        nothing = jax.tree.map(jnp.zeros_like, gradient)
        before = batch.value_after(nothing)

        def again(carry):
            i, _, (_, value) = carry
            return (i < TRIES) & ~(value < before)

        def harder(carry):
            i, damping, _ = carry
            return i + 1, damping * LARGER, tried(damping * LARGER)

        _tries, found, (updates, value) = jax.lax.while_loop(again, harder, (1, state.damping, tried(state.damping)))
        fell = value < before
        updates = jax.tree.map(lambda u: jnp.where(fell, u, 0), updates)
        return updates, NaturalGradientState(jnp.where(fell, found * SMALLER, found))

    return optax.GradientTransformationExtraArgs(start, update)
