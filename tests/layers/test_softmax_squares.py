"""Sums of the squares of softmax's maps along rows and columns, which are known without their arrays, against mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..computing import flops_and_bytes

LOGITS = np.array([[0.3, -1.0, 2.0, 0.0], [40.0, 0.0, -3.0, -40.0], [0.0, 0.0, 0.0, 0.0], [-30.0, 3.0, 2.0, 3.0]])


def softmax_entry(p, i, j):
    return p[i] * ((i == j) - p[j])


def log_softmax_entry(p, i, j):
    return (i == j) - p[j]


def root_entry(p, i, j):
    return mpmath.sqrt(p[j]) * ((i == j) - mpmath.sqrt(p[i]) * mpmath.sqrt(p[i]))


def root(x):
    return jn.loss_hessian(jn.cross_entropy, x, jnp.zeros(len(x), int), root=True)


MAPS = {
    "softmax": (lambda x: jn.jacobian(jn.softmax)(x), softmax_entry),
    "log_softmax": (lambda x: jn.jacobian(jn.log_softmax)(x), log_softmax_entry),
    "root": (root, root_entry),
}


def sums_of_squares(j):
    return (j @ j.T).diagonal(), (j.T @ j).diagonal()


@pytest.mark.parametrize("name", MAPS)
def test_sums_of_squares_of_rows_and_columns(name):
    jacobian, entry = MAPS[name]
    rows, columns = jax.jit(lambda x: sums_of_squares(jacobian(x)))(LOGITS)
    with mpmath.workdps(60):
        for b, logits in enumerate(LOGITS):
            exponentials = [mpmath.exp(mpmath.mpf(z)) for z in logits]
            p = [e / mpmath.fsum(exponentials) for e in exponentials]
            table = [[entry(p, i, j) ** 2 for j in range(4)] for i in range(4)]
            np.testing.assert_allclose(rows[b], [float(mpmath.fsum(row)) for row in table], rtol=1e-14)
            columns_of_table = zip(*table, strict=True)
            np.testing.assert_allclose(columns[b], [float(mpmath.fsum(c)) for c in columns_of_table], rtol=1e-14)


@pytest.mark.optimized
@pytest.mark.parametrize("name", MAPS)
def test_no_array_of_the_map_is_made(name):
    flops, size = flops_and_bytes(lambda x: sums_of_squares(MAPS[name][0](x)), jnp.zeros((8, 512)))
    assert flops < 100 * 8 * 512 and size < 16 * 8 * 8 * 512
