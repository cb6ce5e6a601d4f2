"""The Hessian of a loss by the parameters: its diagonal, and its products with vectors."""

from collections.abc import Callable
from typing import Any

import jax

from ..algebra.jacobian import Jacobian
from ..autodiff.transforms import by_floating_leaves, gradient_for, jacobian_for
from ..checks import as_tangent, checked
from ..errors import ShapeError
from ..layers.marker import with_rules
from .rows import quantity


@quantity
def hessian_diagonal(loss: Callable) -> Callable:
    """A function of `(params, *args)` that returns ∂²ℓ/∂θ² for every parameter of a scalar loss, a tree like the parameters.

    It is exact and uses the structured Hessian.  Blocks between different leaves are not needed, and under `jax.jit` they
    are not computed.  Raises ShapeError if the loss is not a scalar.

    >>> jn.hessian_diagonal(lambda w: jnp.sum(w**3))(jnp.array([1.0, 2.0]))
    Array([ 6., 12.], dtype=float32)
    """

    def run(params, *args):
        of_floats, params = by_floating_leaves("hessian_diagonal", lambda p: loss(p, *args), params)
        tree: Any = jax.tree.structure(params)
        gradient = gradient_for("hessian_diagonal", of_floats)
        rows = tree.flatten_up_to(jacobian_for("hessian_diagonal", gradient, sum_where_smaller=False)(params))
        blocks = [jax.tree.leaves(row, is_leaf=lambda j: isinstance(j, Jacobian))[i] for i, row in enumerate(rows)]
        return jax.tree.unflatten(tree, [block.diagonal() for block in blocks])

    return run


@checked
def hessian_vector_product(loss: Callable) -> Callable:
    """A function of `(params, v, *args)` that returns ∂²ℓ/∂θ² v of a scalar loss; v and the result are like the parameters.

    It is the JVP of the gradient along v, and takes the time of a few gradients.

    >>> jn.hessian_vector_product(lambda w: jnp.sum(w**3))(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    Array([ 6., 12.], dtype=float32)
    """

    def run(params, v, *args):
        of_floats, params = by_floating_leaves("hessian_vector_product", lambda p: loss(p, *args), params)
        value = jax.eval_shape(of_floats, params)
        if getattr(value, "shape", None) != ():
            raise ShapeError(f"hessian_vector_product: loss must return one scalar, got {value}")
        gradient = jax.grad(with_rules(of_floats))
        return jax.jvp(gradient, (params,), (as_tangent("hessian_vector_product", "v", v, params),))[1]

    return run
