"""Which training examples a prediction depends on, and which of them stand against all others."""

from collections.abc import Callable

from .block_diagonal import check_structure, curvature_of
from .rows import loss_rows, outputs_and_rows, quantity, single_output


@quantity
def influence(f: Callable, loss: Callable, *, damping: float, structure: str = "full") -> Callable:
    """A function of `(params, at, x, *targets)` that returns how f(params, at) changes if a training example is left out.

    It is `J(at) (G + damping·I)⁻¹ ∂ℓ_n/∂θ` for every example n of (x, *targets), `[*f(params, at).shape, B]`: the first
    order around parameters that minimise `Σ ℓ + damping/2·‖θ‖²` (Koh & Liang 2017).  G is the Fisher matrix of Σ ℓ if the
    loss is a likelihood, else its Gauss-Newton matrix.  It is whole or, with the structure "ekfac" or "kfac", has a block
    for every array of parameters (Grosse et al. 2023).  Raises ValueError for another word or unless damping > 0.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> moved = jn.influence(f, jn.squared_error, damping=0.1)
    >>> moved(jnp.zeros((1, 2)), jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.ones((4, 1))).shape
    (3, 1, 4)
    """
    if not damping > 0:
        raise ValueError(f"influence: damping must be positive, got {damping}")
    check_structure("influence", structure)

    def run(params, at, x, *targets):
        matrix = curvature_of("influence", structure, f, loss, 1.0, params, x, targets)
        values, tree, predictions = outputs_and_rows("influence", f, params, at)
        y = single_output("influence", "f", values, tree)
        examples = loss_rows("influence", lambda params: loss(f(params, x), *targets), params)
        return matrix.inner(predictions, examples, damping).reshape(*y.shape, -1)

    return run


@quantity
def self_influence(f: Callable, loss: Callable, *, damping: float, structure: str = "ekfac", scale: float = 1.0) -> Callable:
    """A function of `(params, x, *targets)` that returns how far each example moves its own loss by being trained on, `[B]`.

    It is `∂ℓ_n/∂θ (G + damping·I)⁻¹ ∂ℓ_n/∂θ`, large for examples that stand against all others, as those with wrong labels
    do (Koh & Liang 2017).  G is that of `influence`, of the losses times `scale`, with such a `structure` or "full".  Raises
    ValueError for another word or unless damping > 0.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> x, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0], [0.0]])
    >>> jn.self_influence(f, jn.squared_error, damping=2.0, structure="full")(jnp.zeros((1, 2)), x, y).round(2)
    Array([1., 0.], dtype=float32)
    """
    if not damping > 0:
        raise ValueError(f"self_influence: damping must be positive, got {damping}")
    check_structure("self_influence", structure)

    def run(params, x, *targets):
        matrix = curvature_of("self_influence", structure, f, loss, scale, params, x, targets)
        examples = loss_rows("self_influence", lambda params: loss(f(params, x), *targets), params)
        return matrix.inner_of_each_example(examples, damping)

    return run
