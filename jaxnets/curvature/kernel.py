"""The neural tangent kernel Θ(x, x') = J(x) J(x')ᵀ, J the Jacobian of the outputs by the parameters (Jacot et al. 2018).

For weights that are used once J is a product `∂y[b,c]/∂w[o,i] = G[b,c,o]·x[b,i]`, and its kernel is the product of two small
kernels, `Σ_o G G' · Σ_i x x'`.  The order in which labels are summed finds this for every layer.
"""

import functools
import operator
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from ..algebra.contraction import contract, sharing_products
from ..algebra.factors import Factor, Label, Tensor, labels_of
from ..algebra.jacobian import Jacobian
from ..algebra.sharding import explicit_mesh, on_every_device, reshaped
from ..algebra.sizes import check_bytes
from ..algebra.terms import Term
from ..autodiff.transforms import by_floating_leaves
from ..checks import as_array, check_integer, checked, show_value
from ..errors import ShapeError
from ..layers.marker import with_rules
from .rows import Rows, in_cheapest_form, outputs_and_rows, quantity, single_output, with_float32_results

OUTPUTS = ("full", "trace", "diagonal")


@quantity
def ntk(
    f: Callable, outputs: str | int | tuple[int, ...] = "full", *, block_size: int | None = None, limit: float | None = None
) -> Callable:
    """A function of `(params, x1, x2=None)` that returns the empirical neural tangent kernel of `f(params, x)`.

    f returns `[B, *outputs]`.  The kernel is `[B1, *outputs, B2, *outputs]` for "full"; `[B1, B2]`, summed over the outputs,
    for "trace"; `[B1, B2, *outputs]`, each output with itself, for "diagonal"; and `[B1, B2]` for one output, which is given
    by its index.  Without x2 it is the kernel of x1 with itself, from one Jacobian.

    `block_size` bounds memory: the kernel is computed in blocks of that many examples, for which f is called separately.  A
    symmetric kernel needs only the blocks on one side of the diagonal.  Where x1 is spread over a mesh with explicit axes
    every device computes its own rows, in such blocks of x2.  Raises JacobianTooLarge if the kernel exceeds
    `limit` bytes (default: half of the free memory), ShapeError if f's output or the index does not fit, ValueError for an
    unknown word.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> jn.ntk(f)(jnp.ones((3, 2)), jnp.ones((4, 2))).shape
    (4, 3, 4, 3)
    >>> jn.ntk(f, "trace")(jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.ones((5, 2))).shape
    (4, 5)
    """
    if isinstance(outputs, str) and outputs not in OUTPUTS:
        raise ValueError(f"ntk: outputs must be one of {OUTPUTS} or an index, got {outputs!r}")
    if block_size is not None:
        check_integer("ntk", "block_size", block_size, 1)

    def rows(params, x) -> Rows:
        values, tree, rows = outputs_and_rows("ntk", _selected_output(f, outputs), params, x)
        single_output("ntk", "f", values, tree)
        return rows.map_blocks(_with_joined_factors) if outputs == "full" else rows

    def kernel(ours: Rows, theirs: Rows):
        pairs = [in_cheapest_form(of_rows, a, b) for a, b in zip(ours.blocks[0], theirs.blocks[0], strict=True)]
        return of_products(*(a @ b.T for a, b in pairs))

    def of_rows(a: Jacobian, b: Jacobian):
        return of_products(a @ b.T)

    def of_products(*parts: Jacobian):
        block = with_float32_results(functools.reduce(operator.add, parts))
        axes = tuple(range(1, len(block.out_shape)))
        if outputs == "trace":
            return block.trace(axes)
        return block.diagonal(axes) if outputs == "diagonal" else block.dense(limit)

    def between(params, x1, x2):
        with sharing_products():  # a weight and its bias share the kernel of the gradients by what they add up to
            ours = rows(params, x1)
            return kernel(ours, ours if x2 is None else rows(params, x2))

    def run(params, x1, x2=None):
        if block_size is None:
            return between(params, x1, x2)
        second = len(jax.eval_shape(f, params, x1).shape) if outputs == "full" else 1
        if explicit_mesh(*jax.tree.leaves(x1)):
            return _in_blocks_of_columns(functools.partial(between, params, x1), x1, x2, block_size, second, limit)
        return _in_blocks(functools.partial(between, params), x1, x2, block_size, second, limit)

    return run


def _with_joined_factors(j: Jacobian) -> Jacobian:
    """The Jacobian with factors that share an input label multiplied: J Jᵀ sums over it, for a weight and for its bias."""

    def join(term: Term) -> Term:
        groups: list[list[Factor]] = []
        inp = set(labels_of(term.inp))
        for factor in sorted(term.factors, key=lambda factor: not isinstance(factor, Tensor)):
            own = factor.labels & inp if isinstance(factor, Tensor) else set()
            same = next((group for group in groups if own & group[0].labels), None)
            if same:
                same.append(factor)
            else:
                groups.append([factor])
        factors = [contract(group, _labels_of_factors(group)) if len(group) > 1 else group[0] for group in groups]
        return replace(term, factors=tuple(factors))

    return replace(j, terms=tuple(map(join, j.terms)))


def _labels_of_factors(factors) -> set[Label]:
    return set().union(*(factor.labels for factor in factors))


def _selected_output(f: Callable, outputs) -> Callable:
    """f, or the function that returns one of its outputs."""
    if isinstance(outputs, str):
        return f
    index = (outputs,) if isinstance(outputs, int) else tuple(map(operator.index, outputs))

    def one(params, x):
        y = f(params, x)
        shape = jnp.shape(y)[1:]
        if len(shape) != len(index) or any(not -n <= i < n for i, n in zip(index, shape, strict=True)):
            raise ShapeError(f"ntk: outputs {outputs} is no index of an output of shape {shape}")
        return y[(slice(None), *index)]

    return one


def _in_blocks(kernel: Callable, x1, x2, size: int, second: int, limit):
    """The kernel, made of blocks.  For one batch with itself only those on one side of the diagonal are computed.

    `second` is the axis of the kernel that belongs to x2.
    """
    symmetric = x2 is None
    size = min(size, *(jax.tree.leaves(x)[0].shape[0] for x in (x1, x1 if symmetric else x2)))
    (count1, ours), (count2, theirs) = (_blocks(x, size) for x in (x1, x1 if symmetric else x2))
    one = jax.eval_shape(lambda: kernel(_block_at(ours, 0), _block_at(theirs, 0)))
    n1, n2 = -(-count1 // size), -(-count2 // size)
    shape = list(one.shape)
    shape[0], shape[second] = n1 * size, n2 * size
    check_bytes("the kernel", shape, one.dtype, limit, "trace, diagonal or one output need less; or pass limit=")
    pairs = jnp.array([(i, j) for i in range(n1) for j in range(n2) if i <= j or not symmetric])
    turned = [*range(second, one.ndim), *range(second)] if second > 1 else [1, 0, *range(2, one.ndim)]

    def put(whole, block, i, j):
        start = [0] * one.ndim
        start[0], start[second] = i * size, j * size
        return jax.lax.dynamic_update_slice(whole, block, start)

    def step(k, whole):
        i, j = pairs[k]
        block = kernel(_block_at(ours, i), _block_at(theirs, j))
        return put(put(whole, block, i, j), block.transpose(turned), j, i) if symmetric else put(whole, block, i, j)

    whole = jax.lax.fori_loop(0, len(pairs), step, jnp.zeros(shape, one.dtype))
    return jax.lax.slice_in_dim(whole[:count1], 0, count2, axis=second)


def _in_blocks_of_columns(columns: Callable, x1, x2, size: int, second: int, limit):
    """The kernel whose rows lie on devices as x1 does: every device makes its own rows, by a block of x2 after the other."""
    others = jax.tree.map(on_every_device, x1 if x2 is None else x2)
    size = min(size, jax.tree.leaves(others)[0].shape[0])
    count, blocks = _blocks(others, size)
    one = jax.eval_shape(lambda: columns(_block_at(blocks, 0)))
    shape = [*one.shape[:second], count, *one.shape[second + 1 :]]
    check_bytes("the kernel", shape, one.dtype, limit, "trace, diagonal or one output need less; or pass limit=")
    found = jnp.moveaxis(jax.lax.map(columns, blocks), 0, second)
    found = reshaped(found, [*shape[:second], found.shape[second] * size, *shape[second + 1 :]])
    return jax.lax.slice_in_dim(found, 0, count, axis=second)


def _blocks(x, size: int):
    """The number of examples, and blocks of them `[n, size, ...]`; the last block is filled up with the last example."""
    count = jax.tree.leaves(x)[0].shape[0]
    places = jnp.minimum(jnp.arange(-(-count // size) * size), count - 1).reshape(-1, size)
    return count, jax.tree.map(lambda a: jnp.asarray(a)[places], x)


def _block_at(blocks, i):
    return jax.tree.map(lambda a: a[i], blocks)


@checked
def ntk_vector_product(f: Callable) -> Callable:
    """A function of `(params, v, x1, x2=None)` that returns Θ(x1, x2) v for v of the shape of f(params, x2).

    J(x1) (J(x2)ᵀ v) takes one product with Jᵀ and one with J, so a few passes through f; J is never formed.

    >>> f = lambda w, x: jn.linear(x, w)
    >>> jn.ntk_vector_product(f)(jnp.ones((3, 2)), jnp.ones((4, 3)), jnp.ones((4, 2))).shape
    (4, 3)
    """

    def run(params, v, x1, x2=None):
        def at(x):
            return by_floating_leaves("ntk_vector_product", lambda p: f(p, x), params)

        first, floating = at(x1)
        y, push = jax.linearize(with_rules(first), floating)
        if x2 is None:
            y2, pull = y, jax.linear_transpose(push, floating)
        else:
            y2, pull = jax.vjp(with_rules(at(x2)[0]), floating)
        if not isinstance(y, jax.Array):
            raise ShapeError(f"ntk_vector_product: f must return one array, got {show_value(y)}")
        v = as_array("ntk_vector_product: v", v)
        if v.shape != y2.shape:
            raise ShapeError(f"ntk_vector_product: v has shape {v.shape}, the output of f {y2.shape}")
        return push(*pull(v.astype(y2.dtype)))

    return run
