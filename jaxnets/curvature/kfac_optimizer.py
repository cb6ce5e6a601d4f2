"""K-FAC: the natural gradient with Kronecker factors, for mini-batches (Martens & Grosse 2015, arXiv:1503.05671)."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..algebra.factors import at_least_float32, pytree
from ..algebra.jacobian import Jacobian
from ..algebra.sizes import show_tree
from ..checks import check_counts, check_key, check_positive, check_share, checked, show_value
from .kfac import factors_within, of_every_array
from .kronecker import Kronecker
from .local_model import MIN_DAMPING, PRODUCTS, Batch, adapted, check_optimizer, check_state, dot
from .rows import in_cheapest_form, squares

ADAPTATION = 0.95  # the factor for the damping, for each step until it is adapted
INVERTED_AT_FIRST = 3  # so many first steps invert their factors, as averages of few batches change fast
LARGEST = 2048  # rows of a factor


class KFACState(NamedTuple):
    """What `kfac` remembers: its blocks are averages over steps, and the inverses those of the damped blocks."""

    step: Any
    damping: Any
    blocks: Any
    inverses: Any
    updates: Any  # of the last step

    def __repr__(self):
        return f"KFACState(blocks {show_tree(self.blocks)}, updates {show_tree(self.updates)})"


@pytree("entries")
class Diagonal:
    """A diagonal in place of the block of an array for which there are no small Kronecker factors."""

    entries: jax.Array

    def __repr__(self):
        return f"Diagonal({list(jnp.shape(self.entries))})"

    def damped(self, damping) -> "Diagonal":
        return Diagonal(self.entries + damping)

    def inverse(self) -> "Diagonal":
        return Diagonal(1 / self.entries)

    def __matmul__(self, v):
        return self.entries * v


@checked
def kfac(
    f: Callable,
    loss: Callable,
    like: Any,
    *,
    learning_rate: float | jax.Array | Callable | None = None,
    momentum: float | None = None,
    damping: float | jax.Array = 1.0,
    min_damping: float | jax.Array = MIN_DAMPING,
    adapt_every: int | None = 5,
    decay: float = 0.95,
    every: int = 10,
    factors_every: int = 1,
    kl_clip: float | None = None,
    curvature: str = "fisher",
    sharing: str = "expand",
    samples: int | None = 1,
    largest: int = LARGEST,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC as an optax transformation: the gradient divided by Kronecker factors of the Fisher matrix.

    `update(gradient, state, params, x=x, targets=targets, key=key)` gets the batch of which `gradient` is that of the
    average loss.  `loss(predictions, *targets)` is a loss of the catalogue, `like` a batch `(x, targets)` or the shapes of
    one, which tell `init` what factors there are.  One step is Δ = −(F + λ)⁻¹ gradient, updates = α·Δ + μ·(last updates):

    - `learning_rate` is α, a number or a schedule, and `momentum` is μ.  What is None comes from the quadratic model of the
      loss, at the price of two products with the exact matrix (section 7 of Martens & Grosse 2015): for large batches.
    - `damping` is λ at the beginning, shared between two factors by `Kronecker.damped`.  Every `adapt_every` steps it grows
      where the loss of the batch falls less than a quarter of what the model foresees, and shrinks above three quarters
      (Levenberg and Marquardt), to no less than `min_damping`; None keeps it.
    - Factors are averages over steps with weight `decay`, taken from the batch of every `factors_every`-th step.  They are
      inverted in every `every`-th step, and in the first three.
    - `kl_clip`, with a `learning_rate`, bounds α²ΔᵀFΔ, about twice the change of the predictions' distribution (Ba et al.
      2017).
    - `curvature`, "fisher" or "ggn", `sharing` and `samples` are those of `kfac_factors`, and without samples no `key` is
      needed.  An array that has no Kronecker pair, as a bias or a scale, has its whole block, and where a factor would have
      more than `largest` rows, the diagonal of its block.

    All of it is one program that runs under `jax.jit` and `lax.scan`.  Raises ValueError and TypeError for options out of
    range, TypeError where update lacks params, x, targets or key, ShapeError for a batch without examples.

    >>> f, w, x, y = lambda w, x: jn.linear(x, w), jnp.zeros((1, 1)), jnp.ones((4, 1)), jnp.ones((4, 1))
    >>> optimizer = jn.kfac(f, jn.squared_error, (x, y), damping=1e-3, samples=None)
    >>> gradient = jn.grad(lambda w: jnp.mean(jn.squared_error(f(w, x), y)))(w)
    >>> updates, state = optimizer.update(gradient, optimizer.init(w), w, x=x, targets=y)
    >>> bool(abs(w + updates - 1.0).max() < 1e-2)
    True
    """
    rates = {} if learning_rate is None or callable(learning_rate) else {"learning_rate": learning_rate}
    check_optimizer("kfac", curvature, PRODUCTS, damping=damping, min_damping=min_damping, **rates)
    if momentum is not None:
        check_share("kfac", "momentum", momentum)
    if kl_clip is not None:
        check_positive("kfac", "kl_clip", kl_clip)
        if learning_rate is None:
            raise ValueError("kfac: kl_clip bounds steps of a given learning_rate, got None")
    check_share("kfac", "decay", decay)
    check_counts("kfac", every=every, factors_every=factors_every, largest=largest)
    if adapt_every is not None:
        check_counts("kfac", adapt_every=adapt_every)
    if samples is not None:
        check_counts("kfac", samples=samples)
    if not isinstance(like, tuple) or len(like) != 2:
        raise TypeError(f"kfac: like must be a pair (x, targets), got {show_value(like)}")

    def blocks_of(params, batch: Batch, key):
        make = functools.partial(block, largest=largest)
        blocks = of_every_array("kfac", make, f, loss, curvature, sharing, batch.scale, samples, key)
        return blocks(params, batch.x, *batch.targets)

    def start(params):
        def shapes(x, targets, key):
            return blocks_of(params, Batch("kfac", f, loss, curvature, params, x, targets), key)

        key = None if samples is None else jax.eval_shape(lambda: jax.random.key(0))
        found = jax.eval_shape(shapes, *like, key)
        blocks, inverses = (jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found) for _ in range(2))
        nothing = jax.tree.map(lambda p: jnp.zeros_like(at_least_float32(p)), params)
        return KFACState(jnp.zeros((), jnp.int32), jnp.asarray(damping, jnp.result_type(float)), blocks, inverses, nothing)

    def update(gradient, state, params=None, *, x=None, targets=None, key=None, **_):
        batch = Batch("kfac", f, loss, curvature, params, x, targets)
        check_state("kfac", state, KFACState)
        if samples is None:
            key = None
        else:
            check_key("kfac", "key", key)
        gradient = jax.tree.map(at_least_float32, batch.checked_gradient(gradient))
        step, damping = state.step, state.damping

        def averaged(blocks):
            seen = (step // factors_every + 1).astype(damping.dtype)  # batches, with this one
            weight = jnp.minimum(1 - 1 / seen, decay)
            new = blocks_of(params, batch, key)
            return jax.tree.map(lambda old, new: (weight * old + (1 - weight) * new).astype(old.dtype), blocks, new)

        blocks = _where(factors_every > 1, step % factors_every == 0, averaged, lambda blocks: blocks, state.blocks)
        due = (step % every == 0) | (step < INVERTED_AT_FIRST)
        both = blocks, damping
        inverses = _where(every > 1, due, lambda both: inverted_blocks(*both), lambda _: state.inverses, both)
        direction = preconditioned(inverses, jax.tree.map(operator.neg, gradient))
        near = batch.linearized() if learning_rate is None or momentum is None else None
        rate, kept = _coefficients(batch, near, gradient, direction, state, learning_rate, momentum)
        if kl_clip is not None:
            size = jnp.maximum(-dot(gradient, direction), 0) * rate**2
            rate = rate * jnp.minimum(1, jnp.sqrt(kl_clip / jnp.maximum(size, jnp.finfo(size.dtype).tiny)))
        updates = jax.tree.map(lambda d, last: (rate * d + kept * last).astype(d.dtype), direction, state.updates)
        if adapt_every is not None:

            def adapt(damping):
                at = batch.linearized() if near is None else near
                change, foreseen = batch.change(at, gradient, updates, damping)
                return adapted(damping, change, foreseen, ADAPTATION**-adapt_every, min_damping)

            damping = _where(adapt_every > 1, (step + 1) % adapt_every == 0, adapt, lambda damping: damping, damping)
        return batch.like_params(updates), KFACState(step + 1, damping, blocks, inverses, updates)

    return optax.GradientTransformationExtraArgs(start, update)


def block(column: tuple[Jacobian, ...], reduce: bool, largest: int) -> "Kronecker | Diagonal":
    """The block of an array from its rows: Kronecker factors or the whole block, or else its diagonal."""
    found = factors_within(column, reduce, largest)
    return diagonal(column) if found is None else found


def diagonal(column: tuple[Jacobian, ...], reduce: bool = False) -> Diagonal:
    """The diagonal of the block of an array from its rows."""
    return Diagonal(functools.reduce(operator.add, [squares(in_cheapest_form(squares, j.T)[0]) for j in column]))


def inverted_blocks(blocks, damping):
    """The inverses of the damped blocks, in their dtypes."""
    inverses = _tree_like(blocks, [own.damped(damping).inverse() for own in _list_of(blocks)])
    return jax.tree.map(lambda old, new: new.astype(old.dtype), blocks, inverses)


def preconditioned(inverses, v):
    """Every array of v times its inverse block."""
    return _tree_like(inverses, [own @ a for own, a in zip(_list_of(inverses), jax.tree.leaves(v), strict=True)])


def _is_block(a) -> bool:
    return isinstance(a, (Kronecker, Diagonal))


def _list_of(blocks) -> list:
    return jax.tree.leaves(blocks, is_leaf=_is_block)


def _tree_like(blocks, values):
    return jax.tree.unflatten(jax.tree.structure(blocks, is_leaf=_is_block), values)


def _where(conditional: bool, due, then: Callable, otherwise: Callable, argument):
    """`then(argument)` in the steps in which it is due.  Without a condition nothing is inside of a `lax.cond`."""
    return jax.lax.cond(due, then, otherwise, argument) if conditional else then(argument)


def _coefficients(batch: Batch, near, gradient, direction, state: KFACState, learning_rate, momentum):
    """α and μ: those that are given, and for the others where the quadratic model is least."""
    dtype = state.damping.dtype
    rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
    if near is None:
        return jnp.asarray(rate, dtype), jnp.asarray(momentum, dtype)
    (a, b), (_, c) = batch.curvatures(near, [direction, state.updates], state.damping)
    d, e = dot(gradient, direction), dot(gradient, state.updates)
    if rate is None and momentum is None:
        determinant = a * c - b * b
        both = determinant > 1e-6 * a * c  # otherwise the directions are parallel, or the last updates are 0
        safe = jnp.where(both, determinant, 1)
        return jnp.where(both, (b * e - c * d) / safe, -d / _positive(a)), jnp.where(both, (b * d - a * e) / safe, 0)
    if rate is None:
        return -(d + momentum * b) / _positive(a), jnp.asarray(momentum, dtype)
    return jnp.asarray(rate, dtype), jnp.where(c > 0, -(e + rate * b) / _positive(c), 0)


def _positive(a):
    return jnp.where(a > 0, a, 1)
