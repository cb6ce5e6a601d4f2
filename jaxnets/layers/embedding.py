"""Embeddings, which select rows of a table, and one-hot rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..algebra import sharding
from ..algebra.factors import Label, Tensor, at_least_float32
from ..algebra.rules import axis_names, fresh_groups, from_groups, named_tensor, total
from ..algebra.selections import Selection, as_int32
from ..checks import (
    as_array,
    check_axis,
    check_counts,
    check_number,
    check_positive,
    check_range,
    checked,
    errors_named,
    show_value,
)
from ..errors import DTypeError, ShapeError
from .layer import layer
from .lengths import norm_and_gradient
from .reduce import max as largest
from .reduce import mean, sum

__all__ = ["embedding", "embedding_bag", "one_hot"]


@layer(plain=True)
def embedding(
    indices: Int[Array, "..."],
    table: Float[Array, "k i"],
    *,
    padding_index: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
) -> Float[Array, "... i"]:
    """Rows of a table  y[..., i] = table[indices[...], i].

    ∂y[b,i]/∂table[k,i] = δ(k, indices[b]),  a selection: no one-hot array is stored

    The row `padding_index` is read but not learned: its Jacobian is 0.  Indices out of range, and negative ones, raise
    ValueError outside `jit` and give NaN with Jacobian 0 inside.

    With `max_norm` a row whose norm of order `norm_type` is larger is read as row · r, r = max_norm / |row|, and then
    ∂y[b,i]/∂table[k,j] = δ(k, indices[b])·(r[b]·δ(i,j) − (y/|row|)[b,i]·g[b,j]) with the gradient g of `vector_norm`.  This
    is the derivative of the function, which leaves the table as it is.  torch overwrites the rows that it reads, and takes
    the derivative by the new ones; for that, shorten the rows of the table before every step without `max_norm` here.
    torch's scale_grad_by_freq is no derivative of anything: divide the rows of a gradient by how often they were read,
    `jnp.maximum(1, jnp.bincount(indices.ravel(), length=k))`.
    """
    check_range("embedding", "indices", indices, len(table))
    rows = _take_rows(table, indices)
    rows = rows if max_norm is None else _shortened(rows, max_norm, norm_type)[0].astype(table.dtype)
    return jnp.where(_is_padding(indices, table, padding_index)[..., None], lax.stop_gradient(rows), rows)


def _is_padding(indices, table, padding_index):
    if padding_index is None:
        return jnp.zeros(indices.shape, bool)
    if not -len(table) <= padding_index < len(table):
        raise ValueError(f"embedding: padding_index {padding_index} names no row of 'table' of shape {table.shape}")
    return as_int32(indices) == padding_index % len(table)


def _take_rows(table, indices):
    """The rows of a table; NaN where there is no row of that index."""
    indices = jnp.where(indices < 0, len(table), as_int32(indices))
    return sharding.rows_of(table, indices)


def _shortened(rows, max_norm, norm_type):
    """Rows that are no longer than allowed, their factor r, and 1 / |row| and the gradient of the norm, 0 if r is 1."""
    max_norm = check_positive("embedding", "max_norm", max_norm)
    if check_number("embedding", "norm_type", norm_type) <= 0:
        raise ValueError(f"embedding: norm_type must be positive, got {norm_type}")
    rows = at_least_float32(rows)
    norm, gradient = norm_and_gradient("embedding", rows, (rows.ndim - 1,), norm_type)
    inverse = jnp.where(norm > max_norm, 1 / jnp.where(norm > max_norm, norm, 1), 0)
    factor = jnp.where(norm > max_norm, max_norm * inverse, 1)
    return rows * factor, factor[..., 0], inverse, jnp.where(norm > max_norm, gradient, 0)


@embedding.jacobian
def _(y, indices, table, *, padding_index, max_norm, norm_type):
    k, i = fresh_groups(table.shape, "ki")
    batch = fresh_groups(indices.shape, axis_names(y.ndim)[:-1], start=3)
    learnt = jnp.where(_is_padding(indices, table, padding_index), -1, as_int32(indices))
    selection = Selection(learnt, (*batch, k), "indices")
    if max_norm is None:
        return None, from_groups((*batch, i), (k, i), selection)
    rows, factor, inverse, gradient = _shortened(_take_rows(table, indices), max_norm, norm_type)
    j = (Label(2, table.shape[1], "j"),)
    along = jnp.where(inverse > 0, rows * inverse, 0)
    return None, total(
        from_groups((*batch, i), (k, i), selection, named_tensor(factor, batch, "r", "1, or max_norm / |row| if less")),
        from_groups(
            (*batch, i),
            (k, j),
            selection,
            Tensor(along, (*batch, i), "(y/|row|)"),
            Tensor(gradient, (*batch, j), "g"),
            scale=-1,
        ),
    )


@checked
def embedding_bag(
    indices: Int[Array, "... n"],
    table: Float[Array, "k i"],
    weights: Float[Array, "... n"] | None = None,
    *,
    mode: str = "mean",
    padding_index: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
) -> Float[Array, "... i"]:
    """One row for each bag of indices: the mean, the sum or the maximum of the rows of a table.

    This is no layer but a composition of `embedding` and a reduction over n, whose Jacobians `jaxnets.jacobian` composes.

    A bag is the last axis of `indices`.  Those that are `padding_index` do not count, so bags of different lengths are
    filled up with it; a bag of nothing gives 0.  With mode "sum" `weights` multiply the rows.  Several largest entries
    share the derivative of "max" evenly.  `max_norm` and `norm_type` are those of `embedding`.

    >>> jn.embedding_bag(jnp.array([[0, 2], [1, 1]]), jnp.array([[1.0], [2.0], [5.0]]), mode="sum")
    Array([[6.],
           [4.]], dtype=float32)
    """
    if mode not in ("mean", "sum", "max"):
        raise ValueError(f"embedding_bag: mode must be 'mean', 'sum' or 'max', got {mode!r}")
    indices, table = (
        as_array(f"embedding_bag: argument '{name}'", x) for name, x in (("indices", indices), ("table", table))
    )
    if indices.ndim == 0:
        raise ShapeError("embedding_bag: argument 'indices' has shape (), expected [..., n]")
    with errors_named("embedding_bag", instead_of="embedding"):
        rows = embedding(indices, table, padding_index=padding_index, max_norm=max_norm, norm_type=norm_type)
    if weights is not None:
        weights = as_array("embedding_bag: argument 'weights'", weights)
        if mode != "sum":
            raise ValueError(f"embedding_bag: weights go with mode 'sum', got mode {mode!r}")
        if weights.shape != indices.shape:
            raise ShapeError(
                f"embedding_bag: argument 'weights' has shape {weights.shape}, expected {indices.shape} as 'indices'"
            )
        rows = rows * weights[..., None]
    if indices.shape[-1] == 0:
        return jnp.zeros((*indices.shape[:-1], table.shape[1]), rows.dtype)
    counts = None if padding_index is None else (as_int32(indices) != padding_index % len(table))[..., None]
    if mode != "max":
        return (sum if mode == "sum" else mean)(rows, counts, axis=-2)
    if counts is None:
        return largest(rows, axis=-2)
    return jnp.where(jnp.any(counts, -2), largest(rows, counts, axis=-2), 0)


@checked
def one_hot(labels: Int[Array, "..."], classes: int, *, axis: int = -1, dtype: Any = None) -> jax.Array:
    """Arrays with 1 at the label and 0 elsewhere: a new axis of `classes` entries, which is `axis` of the result.

    The dtype is that of floats by default.  A label out of range raises ValueError outside `jit` and gives zeros inside.
    No Jacobian is needed: products with one-hot rows are better written as `embedding`, which stores none.

    >>> jn.one_hot(jnp.array([0, 2]), 3)
    Array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = as_array("one_hot: argument 'labels'", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(f"one_hot: argument 'labels' has dtype {labels.dtype}, expected integer")
    check_counts("one_hot", classes=classes)
    check_range("one_hot", "labels", labels, classes)
    axis = check_axis("one_hot", jax.ShapeDtypeStruct((*labels.shape, classes), labels.dtype), axis)
    try:
        found = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
        is_number = jnp.issubdtype(found, jnp.number) or jnp.issubdtype(found, jnp.bool_)
    except TypeError:
        is_number = False
    if not is_number:
        raise TypeError(f"one_hot: dtype must be a dtype of numbers, got {show_value(dtype)}")
    return jax.nn.one_hot(as_int32(labels), classes, dtype=found, axis=axis)
