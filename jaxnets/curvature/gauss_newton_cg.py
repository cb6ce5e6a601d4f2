"""Gauss-Newton steps by conjugate gradients: "Hessian-free" training (Martens 2010; transformers: arXiv:2510.09378)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..algebra.factors import at_least_float32
from ..algebra.sizes import show_tree
from ..checks import check_counts, check_key, check_not_negative, check_share, checked
from .kfac import of_every_array
from .kfac_optimizer import LARGEST, block, diagonal, inverted_blocks, preconditioned
from .local_model import MIN_DAMPING, PRODUCTS, Batch, adapted, check_optimizer, check_state, dot

ADAPTATION = 1.5  # the factor for the damping
PRECONDITIONERS: dict[str, Callable] = {"diagonal": diagonal, "kfac": functools.partial(block, largest=LARGEST)}
LEAST_LOOK_BACK, LOOK_BACK = 10, 0.1  # progress counts over so many iterations, or this share of all of them


class GaussNewtonCGState(NamedTuple):
    """What `gauss_newton_cg` remembers: the step, λ, where conjugate gradients ended, and after how many iterations."""

    step: Any
    damping: Any
    solution: Any
    iterations: Any

    def __repr__(self):
        return f"GaussNewtonCGState(solution {show_tree(self.solution)})"


@checked
def gauss_newton_cg(
    f: Callable,
    loss: Callable,
    *,
    learning_rate: float | jax.Array | Callable = 1.0,
    damping: float | jax.Array = 1.0,
    min_damping: float | jax.Array = MIN_DAMPING,
    adapt: bool = True,
    iterations: int = 50,
    tolerance: float = 5e-4,
    warm_start: float = 0.95,
    preconditioner: str | None = None,
    curvature: str = "fisher",
    samples: int | None = 1,
) -> optax.GradientTransformationExtraArgs:
    """Gauss-Newton by conjugate gradients as an optax transformation: updates = −α (G + λI)⁻¹ gradient.

    `update(gradient, state, params, x=x, targets=targets, key=key)` gets the batch of which `gradient` is that of the
    average loss; G is the exact Gauss-Newton matrix of this batch ("ggn") or its Fisher matrix ("fisher"), known by its
    products.  `loss(predictions, *targets)` is a loss of the catalogue.

    - Conjugate gradients begin at `warm_start` times where they ended before.  They end after `iterations`, or as soon as
      the quadratic model of the loss fell, over the last ten iterations or a tenth of all, by less than `tolerance` of its
      value for each of them (Martens 2010).
    - `damping` is λ at the beginning.  It grows by half where the loss of the batch falls by less than a quarter of what the
      model foresees, and shrinks by a third above three quarters, to no less than `min_damping`, unless `adapt` is False.
      Small batches need more of it, as the loss of a batch may well fall where that of others grows.  A step after which the
      loss of the batch is not lower is not taken.
    - `learning_rate` is α, a number or a schedule.
    - `preconditioner` is None, "diagonal" or "kfac": that of G, or its Kronecker factors as `kfac` has them, from `samples`
      of the batch, drawn with `key`; `samples=None` takes the exact ones.

    All of it is one program that runs under `jax.jit` and `lax.scan`.  Raises ValueError and TypeError for options out of
    range, TypeError where update lacks params, x, targets or a key that it needs, ShapeError for a batch without examples.

    >>> f, w, x, y = lambda w, x: jn.linear(x, w), jnp.zeros((1, 1)), jnp.ones((4, 1)), jnp.ones((4, 1))
    >>> optimizer = jn.gauss_newton_cg(f, jn.squared_error, damping=1e-3)
    >>> gradient = jn.grad(lambda w: jnp.mean(jn.squared_error(f(w, x), y)))(w)
    >>> updates, state = optimizer.update(gradient, optimizer.init(w), w, x=x, targets=y)
    >>> bool(abs(w + updates - 1.0).max() < 1e-2)
    True
    """
    rates = {} if callable(learning_rate) else {"learning_rate": learning_rate}
    check_optimizer("gauss_newton_cg", curvature, PRODUCTS, damping=damping, min_damping=min_damping, **rates)
    check_counts("gauss_newton_cg", iterations=iterations)
    check_not_negative("gauss_newton_cg", "tolerance", tolerance)
    check_share("gauss_newton_cg", "warm_start", warm_start)
    if preconditioner is not None and preconditioner not in PRECONDITIONERS:
        names = (None, *PRECONDITIONERS)
        raise ValueError(f"gauss_newton_cg: preconditioner must be one of {names}, got {preconditioner!r}")
    if samples is not None:
        check_counts("gauss_newton_cg", samples=samples)

    def start(params):
        nothing = jax.tree.map(lambda p: jnp.zeros_like(at_least_float32(p)), params)
        zero = jnp.zeros((), jnp.int32)
        return GaussNewtonCGState(zero, jnp.asarray(damping, jnp.result_type(float)), nothing, zero)

    def preconditioning(batch: Batch, damping, key) -> Callable:
        if preconditioner is None:
            return lambda v: v
        drawn = None if samples is None else key
        if samples is not None:
            check_key("gauss_newton_cg", "key", key)
        make = PRECONDITIONERS[preconditioner]
        blocks = of_every_array("gauss_newton_cg", make, f, loss, curvature, "expand", batch.scale, samples, drawn)
        inverses = inverted_blocks(blocks(batch.params, batch.x, *batch.targets), damping)
        return functools.partial(preconditioned, inverses)

    def update(gradient, state, params=None, *, x=None, targets=None, key=None, **_):
        batch = Batch("gauss_newton_cg", f, loss, curvature, params, x, targets)
        check_state("gauss_newton_cg", state, GaussNewtonCGState)
        gradient = jax.tree.map(at_least_float32, batch.checked_gradient(gradient))
        near, damping = batch.linearized(), state.damping

        def product(v):
            curved = near.pull(near.curve(near.push(batch.like_params(v))))
            return jax.tree.map(lambda a, b: (a.astype(b.dtype) + damping * b).astype(b.dtype), curved, v)

        first = optax.tree.scale(warm_start, state.solution)
        solution, count = minimized(product, gradient, first, preconditioning(batch, damping, key), iterations, tolerance)
        rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
        updates = jax.tree.map(lambda a: (rate * a).astype(a.dtype), solution)
        change, foreseen = batch.change(near, gradient, updates, damping)
        if adapt:
            damping = adapted(damping, change, foreseen, ADAPTATION, min_damping)
        taken = change < 0
        updates, solution = (optax.tree.where(taken, tree, optax.tree.zeros_like(tree)) for tree in (updates, solution))
        return batch.like_params(updates), GaussNewtonCGState(state.step + 1, damping, solution, count)

    return optax.GradientTransformationExtraArgs(start, update)


def minimized(product: Callable, gradient, first, precondition: Callable, iterations: int, tolerance: float):
    """The v where `⟨gradient, v⟩ + ½⟨v, product(v)⟩` is least, and the number of iterations from `first` to there."""

    def add(a, scale, b):
        return jax.tree.map(lambda a, b: (a + scale * b).astype(a.dtype), a, b)

    def value(v, residual):
        return dot(v, add(gradient, -1, residual)) / 2

    def goes_on(carry):
        i, _, _, _, size, values = carry
        back = jnp.maximum(LEAST_LOOK_BACK, jnp.ceil(LOOK_BACK * i).astype(i.dtype))
        now, before = values[i], values[jnp.maximum(i - back, 0)]
        done = (i > back) & (now < 0) & (before - now <= -now * back * tolerance)
        return (i < iterations) & (size > enough) & ~done

    def improve(carry):
        i, v, residual, along, size, values = carry
        curved = product(along)
        rate = size / dot(along, curved)
        v, residual = add(v, rate, along), add(residual, -rate, curved)
        straight = precondition(residual)
        new = dot(residual, straight)
        along = add(straight, new / size, along)
        return i + 1, v, residual, along, new, values.at[i + 1].set(value(v, residual))

    residual = jax.tree.map(lambda g, a: -g - a, gradient, product(first))
    straight = precondition(residual)
    size = dot(residual, straight)
    enough = dot(gradient, precondition(gradient)) * jnp.finfo(size.dtype).eps ** 2  # what is left is rounding
    values = jnp.zeros(iterations + 1, size.dtype).at[0].set(value(first, residual))
    zero = jnp.zeros((), jnp.int32)
    count, found, *_ = jax.lax.while_loop(goes_on, improve, (zero, first, residual, straight, size, values))
    return found, count
