"""Rows of Jacobians by the parameters.  Every quantity of this wing is an expression of them."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_unflatten

from ..algebra.factors import pytree
from ..algebra.jacobian import Jacobian
from ..algebra.planning import planning
from ..algebra.sharding import joined
from ..algebra.sizes import stored_entries
from ..algebra.sums import stacked_terms
from ..autodiff.eliminate import eliminate
from ..autodiff.nodes import Edge, Graph, Node
from ..autodiff.transforms import trace_graph
from ..checks import as_tree_like, checked
from ..errors import ShapeError


@pytree("blocks")
class Rows:
    """`blocks[o][p]` is the Jacobian of output o by leaf p of the parameters, whose tree is `tree`.

    `J @ v` maps a tree like the parameters to a list with one array for every output; `J.pull(arrays)` maps back.
    """

    blocks: tuple[tuple[Jacobian, ...], ...]
    tree: Any

    def __repr__(self):
        return f"Rows([{self.output_count:,}×{self.parameter_count:,}], {[list(row) for row in self.blocks]})"

    def __matmul__(self, vector) -> list[jax.Array]:
        leaves = self.checked_leaves("J @ v", vector)
        return [_sum_of(j @ v for j, v in zip(row, leaves, strict=True)) for row in self.blocks]

    def pull(self, cotangents: Sequence[jax.Array]):
        """Σ_o u_o J_o, a tree like the parameters."""
        return self.map_leaves(lambda *column: _sum_of(u @ j for u, j in zip(cotangents, column, strict=True)))

    def gram(self, other: "Rows") -> list[list[Jacobian]]:
        """J J'ᵀ: one block for each pair of an output of J and an output of J', whose factors are not multiplied yet."""

        def block(ours, theirs):
            return _sum_of(a @ b.T for a, b in zip(ours, theirs, strict=True))

        return [[block(ours, theirs) for theirs in other.blocks] for ours in self.blocks]

    def gram_matrix(self, other: "Rows", limit: float | None = None) -> jax.Array:
        """J J'ᵀ as a matrix, with all outputs flattened into one axis."""
        return joined([joined([with_float32_results(block).matrix(limit) for block in row], 1) for row in self.gram(other)])

    def matrix(self, limit: float | None = None) -> jax.Array:
        """J as a matrix, with all outputs and all parameters flattened into one axis each."""
        return joined([joined([with_float32_results(j).matrix(limit) for j in row], 1) for row in self.blocks])

    def map_leaves(self, function: Callable):
        """A tree like the parameters; `function` makes each leaf from the Jacobians of all outputs by that leaf."""
        return tree_unflatten(self.tree, [function(*column) for column in zip(*self.blocks, strict=True)])

    def map_blocks(self, function: Callable) -> "Rows":
        """The rows with `function` applied to every block."""
        return replace(self, blocks=tuple(tuple(map(function, row)) for row in self.blocks))

    def map_by_leaf(self, functions: Sequence[Callable]) -> "Rows":
        """The rows with a function for every leaf of the parameters applied to the blocks of that leaf."""
        return replace(self, blocks=tuple(tuple(f(j) for f, j in zip(functions, row, strict=True)) for row in self.blocks))

    def checked_leaves(self, name: str, vector) -> list[jax.Array]:
        """The leaves of a tree v like the parameters.  Raises ShapeError if its structure or its shapes differ."""
        like = self.map_leaves(lambda *column: jax.ShapeDtypeStruct(column[0].in_shape, column[0].dtype))
        return jax.tree.leaves(as_tree_like(name, "v", vector, like))

    @property
    def output_count(self) -> int:
        """How many numbers all outputs together hold."""
        return sum(math.prod(row[0].out_shape) for row in self.blocks)

    @property
    def parameter_count(self) -> int:
        """How many numbers all parameters together hold."""
        return sum(math.prod(j.in_shape) for j in self.blocks[0])


def _sum_of(parts):
    return functools.reduce(operator.add, parts)


MAX_ROW_TERMS = 4  # more terms are added before rows are multiplied with rows
MOST_GROWTH = 2  # how much more memory rows may take than their factors


def outputs_and_rows(
    name: str, function: Callable, params, *args, output_maps: Callable | None = None, sum_where_smaller: bool = True
):
    """The outputs of `function(params, *args)`, their tree, and the rows of their Jacobians by the parameters.

    `output_maps(outputs, tree)` may return for every output a linear map, as a Jacobian that is applied to the output, or
    None.  Without `sum_where_smaller`, sums over the places where parameters are used are not carried out.
    """
    graph, in_tree, out_tree, _, _ = trace_graph(name, function, 0, (params, *args), {})
    _check_parameters(name, graph)
    values = list(graph.values)
    for i, j in enumerate(output_maps(values, out_tree) if output_maps else ()):
        if j is None:
            continue
        before = graph.outputs[i]
        edges = [] if before is None else [_edge(before, j)]
        graph.outputs[i] = Node("map", j.out_shape, values[i].dtype, edges)
        graph.values[i] = jax.ShapeDtypeStruct(j.out_shape, values[i].dtype)
    return values, out_tree, _rows_of(graph, in_tree, sum_where_smaller)


def _check_parameters(name: str, graph: Graph):
    if not graph.inputs:
        raise ShapeError(f"{name}: params has no array to differentiate by")


def _rows_of(graph: Graph, in_tree, sum_where_smaller: bool) -> Rows:
    blocks = eliminate(
        graph, order="auto" if sum_where_smaller else "reverse", sum_where_smaller=sum_where_smaller
    )  # reverse mode ends with the parameters
    if sum_where_smaller:
        blocks = [list(map(_with_few_terms, row)) for row in blocks]
    return Rows(tuple(map(tuple, blocks)), in_tree)


def _edge(parent: Node, j: Jacobian) -> Edge:
    return Edge(parent, "f", lambda: j)


def _with_few_terms(j: Jacobian) -> Jacobian:
    """The Jacobian with few terms: a product of two Jacobians multiplies every term of one with every term of the other."""
    j = replace(j, terms=tuple(stacked_terms(j.terms)))
    return j if len(j.terms) <= MAX_ROW_TERMS else j.carried_out()


def with_float32_results(j: Jacobian) -> Jacobian:
    """The Jacobian whose arrays are in float32 at least, because squares of 16-bit numbers overflow."""
    return replace(j, dtype=jnp.promote_types(j.dtype, jnp.float32))


def squared_row_norms(j: Jacobian) -> jax.Array:
    """The squared norms of the rows of J, in the shape of its output."""
    (j,) = in_cheapest_form(squares, j)
    return jnp.maximum(squares(j), 0)


def squares(j: Jacobian):
    return with_float32_results(j @ j.T).diagonal()


def of_each_example(rows: Rows) -> jax.Array:
    """J Jᵀ within each example, `[B, *outputs, *outputs]`, for the rows of a single output `[B, *outputs]`."""
    found = [_within_examples(*in_cheapest_form(_within_examples, j)) for j in rows.blocks[0]]
    return jnp.moveaxis(functools.reduce(operator.add, found), -1, 0)


def _within_examples(j: Jacobian):
    return with_float32_results(j @ j.T).diagonal((0,))


def in_cheapest_form(use: Callable, *rows: Jacobian) -> tuple[Jacobian, ...]:
    """Rows as products of factors, or carried out, whichever `use(*rows)` takes fewer multiplications for.

    Where a weight is used at many places, as by convolutions and at the times of a sequence, this is often the rows
    themselves.  They are not carried out where they would take more than `MOST_GROWTH` times the memory of their factors,
    and of what is made of these.
    """
    with planning() as factored:
        use(*rows)
    with planning() as carried_out:
        whole = [j.carried_out() for j in rows]
        use(*whole)
    room = MOST_GROWTH * max(stored_entries(rows), factored.largest)
    if factored.cost <= carried_out.cost or stored_entries(whole) > room:
        return rows
    return tuple(j.carried_out() for j in rows)


def single_output(name: str, what: str, values, out_tree) -> jax.Array:
    """The single output of a function, an array with an axis of examples; ShapeError if it has several or no such axis."""
    if out_tree != jax.tree.structure(0) or values[0].ndim == 0:
        shapes = [value.shape for value in values]
        raise ShapeError(f"{name}: {what} must return one array whose first axis are examples, got {shapes}")
    return values[0]


def loss_rows(name: str, loss: Callable, params, *args, sum_where_smaller: bool = True) -> Rows:
    """The Jacobian of the losses [B] by the parameters; further axes of `loss(params, *args)` are summed."""
    return losses_and_rows(name, loss, params, *args, sum_where_smaller=sum_where_smaller)[-1]


def losses_and_rows(
    name: str, loss: Callable, params, *args, has_aux: bool = False, sum_where_smaller: bool = True
) -> tuple[jax.Array, Any, Rows]:
    """The losses [B], the auxiliary output of the loss if `has_aux`, and the rows of `loss_rows`."""

    def summed(params, *args):
        found = loss(params, *args)
        return (_summed(found[0]), *found[1:]) if has_aux and isinstance(found, tuple) and found else _summed(found)

    graph, in_tree, out_tree, _, aux = trace_graph(name, summed, 0, (params, *args), {}, has_aux)
    _check_parameters(name, graph)
    losses = single_output(name, "the loss", graph.values, out_tree)
    return losses, aux, _rows_of(graph, in_tree, sum_where_smaller)


def _summed(losses):
    many = isinstance(losses, jax.Array) and losses.ndim > 1
    return jnp.sum(losses, tuple(range(1, losses.ndim))) if many else losses


def quantity(maker: Callable) -> Callable:
    """Decorator of functions that return a function: `explain_plan` shows the products that the returned one computes."""

    maker = checked(maker)

    @functools.wraps(maker)
    def made(*args, **options):
        run = maker(*args, **options)
        run.__name__, run.is_quantity = maker.__name__, True
        return run

    return made
