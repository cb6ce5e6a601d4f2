"""Writing into arrays: every spelling of `.at`, windows, indices out of range, and which of two writers wins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from .comparing import assert_same
from .programs import r

TWICE, ROWS = np.array([1, 2, 2]), np.arange(5)
X, COLUMN = r(5, 7), r(5)
WINDOWS = lax.ScatterDimensionNumbers(update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(1,))

WRITES = {
    "a column": (lambda x, u: x.at[:, 0].set(u), X, COLUMN),
    "columns, added": (lambda x, u: x.at[:, :2].add(u), X, r(5, 2)),
    "a column, multiplied": (lambda x, u: x.at[:, 0].multiply(u), X, COLUMN),
    "rows, added twice": (lambda x, u: x.at[TWICE].add(u), X, r(3, 7)),
    "rows, the last writer wins": (lambda x, u: x.at[TWICE].set(u), X, r(3, 7)),
    "rows, the largest wins": (lambda x, u: x.at[TWICE].max(u), X, r(3, 7)),
    "rows, the smallest wins": (lambda x, u: x.at[TWICE].min(u), X, r(3, 7)),
    "rows, multiplied": (lambda x, u: x.at[np.array([1, 2, 4])].multiply(u, unique_indices=True), X, r(3, 7)),
    "pairs of indices": (lambda x, u: x.at[ROWS, ROWS].set(u), X, COLUMN),
    "one in each row, by a range": (lambda x, u: x.at[jnp.arange(5), np.array([0, 2, 2, 6, -1])].add(u), X, COLUMN),
    "the last writer in a row": (lambda x, u: x.at[jnp.arange(5)[:, None], np.array([[0, 0]] * 5)].set(u), X, r(5, 2)),
    "a diagonal": (lambda x, u: x.at[jnp.arange(5), jnp.arange(5)].set(u), X, COLUMN),
    "a block": (lambda x, u: x.at[1:3, 2:4].set(u), X, r(2, 2)),
    "rows of a block": (lambda x, u: x.at[np.array([[0], [1]]), 2:4].set(u), X, r(2, 1, 2)),
    "in the middle": (lambda x, u: x.at[:, TWICE].add(u), r(2, 5, 3), r(2, 3, 3)),
    "around the middle": (lambda x, u: x.at[TWICE, :, np.array([0, 1, 1])].set(u), r(4, 5, 3), r(3, 5)),
    "one in each row": (jax.vmap(lambda x, u, i: x.at[i].set(u), (0, 0, None)), X, COLUMN, 3),
    "one by row": (lambda x, u: jax.vmap(lambda x, i, u: x.at[i].set(u))(x, ROWS, u), X, COLUMN),
    "two by row": (lambda x, u: jax.vmap(lambda x, i, u: x.at[jnp.stack([i, i + 1])].add(u))(x, ROWS, u), X, r(5, 2)),
    "out of range, negative": (lambda x, u: x.at[np.array([1, 9, -1])].add(u), X, r(3, 7)),
    "out of range, clipped": (lambda x, u: x.at[np.array([1, 9, -1])].set(u, mode="clip"), X, r(3, 7)),
    "out of range, dropped": (lambda x, u: x.at[np.array([1, 9, -20])].set(u, mode="drop"), X, r(3, 7)),
    "windows, one partly outside": (lambda x, u: lax.scatter_add(x, np.array([[1], [4], [3]]), u, WINDOWS), X, r(3, 5, 2)),
    "indices of 8 bits": (lambda x, u: x.at[np.array([1, 200, 2], np.uint8)].add(u), r(256), r(3)),
    "segments": (lambda x, u: jax.ops.segment_sum(x * u, np.array([0, 1, 1, 2, 0]), 3), X, r(5, 7)),
    "largest of segments": (lambda x, u: jax.ops.segment_max(x * u, np.array([0, 1, 1, 2, 0]), 3), X, r(5, 7)),
    "dynamic_update_slice": (lambda x, u: lax.dynamic_update_slice(x, u, (0, 3)), X, r(5, 2)),
    "dynamic_update_slice beyond the end": (lambda x, u: lax.dynamic_update_slice(x, u, (4, 6)), X, r(2, 2)),
    "top_k": (lambda x, u: lax.top_k(x * u, 3)[0], X, r(5, 7)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_has_a_rule(name):
    """Its Jacobian and its gradient are JAX's, alone and between other functions, and nothing is opaque."""
    write, *args = WRITES[name]

    def between(*args):
        return jnp.sin(2 * write(*args))

    def square(*args):
        return jnp.sum(between(*args) ** 2)

    @jax.jit
    def both(*args):
        ours = [jaxnets.dense(jaxnets.jacobian(f, (0, 1), on_opaque="error")(*args)) for f in (write, between)]
        theirs = [jax.jacrev(f, (0, 1))(*args) for f in (write, between)]
        return [*ours, jaxnets.grad(square, (0, 1))(*args)], [*theirs, jax.grad(square, (0, 1))(*args)]

    assert_same(*both(*args), 1e-12)


READS = {
    "parts of slices": lambda x: x[np.array([2, 0]), 1:],
    "whole slices at places": lambda x: lax.gather(
        x, np.array([[1, 0]]), lax.GatherDimensionNumbers((1,), (0,), (0, 1)), (1, 7)
    ),
    "starts of slices": lambda x: lax.gather(x, np.array([[1]]), lax.GatherDimensionNumbers((1,), (0,), (0,)), (1, 2)),
    "windows, clipped": lambda x: lax.gather(
        x, np.array([[1, 6], [9, 2]]), lax.GatherDimensionNumbers((1, 2), (), (0, 1)), (2, 3), mode="clip"
    ),
    "windows, one outside": lambda x: lax.gather(
        x, np.array([[1, 6], [2, 2]]), lax.GatherDimensionNumbers((1, 2), (), (0, 1)), (2, 3), mode="fill", fill_value=0
    ),
    "one of each, by vmap": lambda x: jax.vmap(lambda v, i: v[i])(x, np.array([1, 0, 6, -1, 2])),
    "two of each, by vmap": lambda x: jax.vmap(lambda v, i: lax.dynamic_slice(v, (i,), (2,)))(x, np.array([1, 0, 6, 4, 2])),
    "one of each row": lambda x: x[jnp.arange(5), np.array([1, 0, 6, -1, 2])],
    "two of each row": lambda x: x[jnp.arange(5)[:, None], np.array([[1, 2]] * 5)],
    "two axes counted": lambda x: x.reshape(5, 7, 1)[jnp.arange(5)[:, None], jnp.arange(7)[None], np.zeros((5, 7), int)],
    "from the second on": lambda x: x[jnp.arange(1, 5), np.array([1, 0, 6, -1])],
    "in another order": lambda x: x[jnp.arange(5)[::-1], np.array([1, 0, 6, -1, 2])],
    "fewer than there are": lambda x: x[jnp.arange(4), np.array([1, 0, 6, -1])],
    "the diagonal": lambda x: x[jnp.arange(5), jnp.arange(5)],
    "twice the same range": lambda x: (x @ x.T)[jnp.arange(5), jnp.arange(5)],
}


@pytest.mark.parametrize("name", READS)
def test_what_is_read_by_a_range_is_right(name):
    read = READS[name]
    ours, theirs = jax.jit(lambda x: (jaxnets.jacobian(read, on_opaque="error")(x).dense(), jax.jacrev(read)(x)))(X)
    assert_same(ours, theirs, 1e-12)
    eager = jaxnets.jacobian(read)(X)
    assert_same(jax.jit(jaxnets.dense)(eager), theirs, 1e-12)
    assert eager.batched == (
        name
        in (
            "one of each row",
            "two of each row",
            "two axes counted",
            "the diagonal",
            "one of each, by vmap",
            "two of each, by vmap",
        )
    )


def test_examples_stay_apart_where_columns_are_written():
    for name in (
        "one in each row, by a range",
        "the last writer in a row",
        "a column",
        "columns, added",
        "dynamic_update_slice",
        "top_k",
    ):
        write, x, u = WRITES[name]
        assert jax.eval_shape(lambda x, f=write, u=u: jaxnets.jacobian(f)(x, u).per_example(), x).shape[0] == 5
