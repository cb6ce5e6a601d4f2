"""Solvers as people call them: of fixed points, linear systems and differential equations, and loops until it is done."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.ode import odeint

import jaxnets as jn

from ..sweeps import swept
from .programs import r

B, H, D = 4, 3, 2
ARGS = 0.3 * r(H, H), r(H, D), r(B, D)


def equilibrium(w, u, x):
    """The state that an update leaves as it is, with the derivative of the implicit function."""
    drive = x @ u.T

    def distance(z):
        return jnp.tanh(z @ w.T + drive) - z

    def solve(g, z):
        return lax.fori_loop(0, 60, lambda _, z: z + g(z), z)

    def solve_tangent(linear, b):
        return -lax.fori_loop(0, 60, lambda _, z: b + linear(z) + z, jnp.zeros_like(b))

    return lax.custom_root(distance, jnp.zeros_like(drive), solve, solve_tangent)


def conjugate_gradients(w, u, x):
    matrix = w @ w.T + jnp.eye(H)
    return jax.scipy.sparse.linalg.cg(lambda v: v @ matrix, x @ u.T)[0]


def neural_ode(w, u, x):
    return jax.vmap(lambda x: odeint(lambda y, t, w: jnp.tanh(w @ y), u @ x, jnp.array([0.0, 1.0]), w)[-1])(x)


def counted_by_data(w, u, x):
    count = jnp.where(jnp.sum(x) > 1e6, 9, 4)
    return lax.fori_loop(0, count, lambda i, y: jnp.sin(y @ w.T) + i, x @ u.T)


def until_it_stands(w, u, x):
    """Each example takes as many steps as it needs."""

    def solved(y):
        def moves(z):
            return jnp.max(jnp.abs(z[0] - z[1])) > 1e-12

        return lax.while_loop(moves, lambda z: (jnp.cos(w @ z[0]) + y, z[0]), (y, y + 1))[0]

    return jax.vmap(solved)(x @ u.T)


def by_associative_scan(w, u, x):
    return lax.associative_scan(jnp.multiply, 1 + x @ u.T @ w.T, axis=1)


SOLVERS = {  # with JAX's own way to a Jacobian
    "equilibrium": (equilibrium, jax.jacrev),
    "conjugate gradients": (conjugate_gradients, jax.jacrev),
    "neural ODE": (neural_ode, jax.jacrev),
    "counted by data": (counted_by_data, jax.jacfwd),
    "until it stands": (until_it_stands, jax.jacfwd),
    "associative scan": (by_associative_scan, jax.jacrev),
}


@pytest.mark.parametrize("name", swept(SOLVERS, ["conjugate gradients", "counted by data", "associative scan"]))
@pytest.mark.filterwarnings("ignore:.*derivative is opaque")
def test_the_jacobian_of_a_solver_keeps_examples_apart(name):
    solver, theirs = SOLVERS[name]

    @jax.jit
    def ours(*args):
        jacobians = jn.jacobian(solver, (0, 1, 2))(*args)
        norms = jn.per_example_grad_norms(lambda p, x: jnp.sin(solver(*p, x)).sum(1))(args[:2], args[2])
        return [j.dense() for j in jacobians], jacobians[2].per_example(), norms

    jacobians, per_example, norms = ours(*ARGS)
    expected = jax.jit(theirs(solver, (0, 1, 2)))(*ARGS)
    for found, true in zip(jacobians, expected, strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(per_example, np.einsum("bobi->boi", expected[2]), rtol=1e-9, atol=1e-10)
    slopes = np.cos(solver(*ARGS))
    rows = [np.einsum("bo,bo...->b...", slopes, j).reshape(B, -1) for j in expected[:2]]
    np.testing.assert_allclose(norms, np.linalg.norm(np.concatenate(rows, 1), axis=1), rtol=1e-9)
