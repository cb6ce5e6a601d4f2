"""Quantities made of Jacobians, on networks and programs, against dense float64 arrays by JAX and NumPy."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnets as jn

from ..sweeps import swept
from .nets import NETS, Draws, Net, compare, flat, same, smoothed, whole

r = Draws(5)


class Dense(NamedTuple):
    """Jacobians [B, outputs, P] at x and x2, gradients by the outputs, Hessians of the loss by outputs and parameters."""

    j: np.ndarray
    j2: np.ndarray
    gradients: np.ndarray
    curvature: np.ndarray
    hessian: np.ndarray | None

    @property
    def by_parameters(self):
        return np.einsum("bc,bcp->bp", self.gradients, self.j)


def reference(case: Net) -> Dense:
    x = case.x if case.coupled else jnp.concatenate([case.x, case.x2])
    count = len(case.x)

    @jax.jit
    def run(params):
        theta, unravel = ravel_pytree(params)

        def total(y):
            return jnp.sum(case.loss(y, case.target))

        def by_vector(theta):
            return case.f(unravel(theta), x)

        y = by_vector(theta)[:count]
        hessian = jax.hessian(lambda theta: total(by_vector(theta)[:count]))(theta) if case.every else None
        j = jax.jacrev(by_vector)(theta).reshape(len(x), -1, theta.size)
        return j, jax.grad(total)(y), jax.hessian(total)(y).reshape(y.size, y.size), hessian

    j, gradients, curvature, hessian = jax.tree.map(np.asarray, run(case.params))
    return Dense(j[:count], j[count:], gradients.reshape(count, -1), curvature, hessian)


def main_quantities(case: Net, dense: Dense, params) -> dict:
    """{name: (found, expected)}"""
    f, loss, x, target = case.f, case.loss, case.x, case.target
    x2, j2 = (None, dense.j) if case.coupled else (case.x2, dense.j2)
    g, rows = dense.by_parameters, dense.j.reshape(-1, dense.j.shape[-1])
    norms = np.linalg.norm(g, axis=1)
    max_norm = float(np.median(norms))  # some are clipped, some are not
    clipped, found = jn.clip_per_example(lambda p: loss(f(p, x), target), max_norm)(params)
    whole = rows.T @ dense.curvature @ rows
    return {
        "clip_per_example": ((flat(clipped), found), (np.minimum(1, max_norm / norms) @ g, norms)),
        "ntk": (jn.ntk(f)(params, x, x2), np.einsum("bcp,dep->bcde", dense.j, j2)),
        "trace": (jn.ntk(f, "trace")(params, x), np.einsum("bcp,dcp->bd", dense.j, dense.j)),
        "ggn": (jn.ggn(f, loss)(params, x, target).matrix(), whole),
        "ggn_diagonal": (flat(jn.ggn_diagonal(f, loss, scale=0.3)(params, x, target)), 0.3 * np.diag(whole)),
    }


def further_quantities(case: Net, dense: Dense, params) -> dict:
    f, loss, x, x2, target = case.f, case.loss, case.x, case.x2, case.target
    g, (theta, own) = dense.by_parameters, (np.einsum("bcp,dep->bcde", dense.j, j) for j in (dense.j2, dense.j))
    variance, v = g.var(0, ddof=1), np.cos(np.arange(theta[0, 0].size)).reshape(theta.shape[2:])
    signal = np.sum(g.mean(0) ** 2) - variance.sum() / len(g)

    def losses(params):
        return loss(f(params, x), target)

    return {
        "per_example_grads": (flat(jn.per_example_grads(losses)(params), 1), g),
        "per_example_grad_norms": (jn.per_example_grad_norms(losses)(params), np.linalg.norm(g, axis=1)),
        "gradient_variance": (flat(jn.gradient_variance(losses)(params)), variance),
        "gradient_noise_scale": (jn.gradient_noise_scale(losses)(params), variance.sum() / signal if signal > 0 else np.inf),
        "symmetric": (jn.ntk(f)(params, x), own),
        "diagonal": (jn.ntk(f, "diagonal")(params, x, x2), np.einsum("bcdc->bdc", theta)),
        "one output": (jn.ntk(f, -2)(params, x, x2), theta[:, -2, :, -2]),
        "blocks": (jn.ntk(f, block_size=2)(params, x, x2), theta),
        "symmetric blocks": (jn.ntk(f, block_size=3)(params, x), own),
        "blocks of the trace": (jn.ntk(f, "trace", block_size=2)(params, x), np.einsum("bcdc->bd", own)),
        "ntk_vector_product": (jn.ntk_vector_product(f)(params, v, x, x2), np.einsum("bcde,de->bc", theta, v)),
        "of itself": (jn.ntk_vector_product(f)(params, x[:, :2], x), np.einsum("bcde,de->bc", own, x[:, :2])),
    }


def further_curvature(case: Net, dense: Dense, params) -> dict:
    f, loss, x, target = case.f, case.loss, case.x, case.target
    v = jax.tree.map(lambda a: np.cos(1.0 + np.arange(a.size)).reshape(a.shape), params)
    u = np.concatenate([a.ravel() for a in jax.tree.leaves(v)])
    g, rows = dense.by_parameters, dense.j.reshape(-1, u.size)
    matrix, whole = jn.ggn(f, loss, scale=0.3)(params, x, target), 0.3 * rows.T @ dense.curvature @ rows
    empirical, outer = jn.fisher(f, loss, kind="empirical", scale=0.3)(params, x, target), 0.3 * g.T @ g
    damped, damped_outer = (a + 0.7 * np.eye(u.size) for a in (whole, outer))

    def total(params):
        return jnp.sum(loss(f(params, x), target))

    return {
        "G @ v": (flat(matrix @ v), whole @ u),
        "inner": (jnp.trace(matrix.inner(matrix.left, matrix.right, 0.7)), np.trace(whole @ np.linalg.inv(damped))),
        "trace of G": (matrix.trace(), np.trace(whole)),
        "solve": (flat(matrix.solve(v, 0.7)), np.linalg.solve(damped, u)),
        "logdet": (matrix.logdet(0.7), np.linalg.slogdet(damped)[1]),
        "ggn_vector_product": (flat(jn.ggn_vector_product(f, loss, scale=0.3)(params, v, x, target)), whole @ u),
        "empirical": ((empirical.matrix(), empirical.logdet(0.7)), (outer, np.linalg.slogdet(damped_outer)[1])),
        "hessian_diagonal": (flat(jn.hessian_diagonal(total)(params)), np.diag(dense.hessian)),
        "hessian_vector_product": (flat(jn.hessian_vector_product(total)(params, v)), dense.hessian @ u),
    }


SHORT = {"mlp of tanh", "convnet", "attention", "standardize", "tied", "scalars", "scan", "nested"}


@pytest.mark.parametrize("case", swept(NETS, SHORT), ids=str)
def test_quantities_are_dense(case):
    case = whole(case)
    dense = reference(case)
    tables = [main_quantities, *[further_quantities][: case.both], *[further_curvature][: case.every]]
    compare(lambda params: functools.reduce(operator.or_, [table(case, dense, params) for table in tables]), case.params)


def test_quantities_without_jit():
    """Of a linear layer, whose Jacobian is x."""
    w, x = jax.device_put(r(2, 3)), r(4, 3)

    def f(w, x):
        return jn.linear(x, w)

    same(jn.ntk(f)(w, x), np.einsum("bd,ce->bcde", x @ x.T, np.eye(2)))
    norms = jn.per_example_grad_norms(lambda w, x: jnp.stack([f(w, x), f(w, 2 * x)], 1))(w, x)  # all of [4, 2, 2]
    same(norms, 3 * 2**0.5 * np.linalg.norm(x, axis=1))
    squares, total = np.sum((x + 5) ** 2) / 4, np.sum((x + 5).mean(0) ** 2)
    noise_scale = (squares - total) * 4 / 3 / ((4 * total - squares) / 3)
    same(jn.gradient_noise_scale(lambda w, x: f(w, x)[:, 0])(w, x + 5), noise_scale)
    same(jn.ggn_diagonal(f, jn.squared_error)(w, x, x[:, :2]), 2 * np.tile(np.sum(x**2, 0), (2, 1)))
    same(jn.laplacian(lambda x: jn.squared_error(x, 0 * x))(x), np.full((4, 3), 2.0))
    same(jn.logdet(lambda x: jn.linear(x, np.diag([1.0, -2, 3])))(x), np.full(4, np.log(6)))


def test_results_pass_through_transformations():
    """A `GaussNewton` leaves a compiled function and enters another; kernels of an ensemble by `vmap`."""
    case = whole(NETS[0])
    matrix = jax.jit(jn.ggn(case.f, case.loss))(case.params, case.x, case.target)
    assert isinstance(matrix, jn.GaussNewton)
    again = jax.jit(lambda matrix: (matrix.diagonal(), matrix.matrix()))(matrix)
    same(flat(again[0]), np.diag(again[1]))
    ensemble = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), case.params)
    kernels = jax.jit(jax.vmap(jn.ntk(case.f), (0, None)))(ensemble, case.x)
    for k in range(2):
        same(kernels[k], jax.jit(jn.ntk(case.f))(jax.tree.map(lambda a, k=k: a[k], ensemble), case.x))


def test_several_outputs_with_a_loss_each():
    """One loss takes a target, one two of them in a tuple; the tree of losses is that of the outputs."""
    x, (w, b) = r(3, 2), r.weights(2, 4)[0]
    targets = {"mean": (r(3, 2), r.positive(3, 2)), "class": np.array([0, 1, 0])}
    losses = {"mean": jn.gaussian_nll, "class": smoothed}

    def f(params, x):
        y = jn.tanh(jn.linear(x, *params))
        return {"class": y[:, :2], "mean": y[:, 2:]}

    def table(params):
        theta, unravel = ravel_pytree(params)
        v, whole = unravel(jnp.cos(jnp.arange(12.0))), 0
        for name, loss in losses.items():
            target = targets[name] if name == "mean" else (targets[name],)
            y, j = f(params, x)[name], jax.jacrev(lambda theta, name=name: f(unravel(theta), x)[name])(theta).reshape(6, 12)
            h = jax.hessian(lambda y, loss=loss, target=target: jnp.sum(loss(y, *target)))(y).reshape(6, 6)
            whole += 2 * j.T @ h @ j
        found = [quantity(f, losses, scale=2.0)(params, x, targets) for quantity in (jn.ggn, jn.ggn_diagonal, jn.fisher)]
        factors = jn.kfac_factors(f, losses, scale=2.0)(params, x, targets)
        return {
            "ggn": ((found[0].matrix(), flat(found[0] @ v)), (whole, whole @ flat(v))),
            "solve": (flat(found[0].solve(v, 0.5)), jnp.linalg.solve(whole + 0.5 * jnp.eye(12), flat(v))),
            "diagonal": (flat(found[1]), jnp.diag(whole)),
            "fisher": (found[2].matrix(), whole),
            "vector product": (flat(jn.ggn_vector_product(f, losses, scale=2.0)(params, v, x, targets)), whole @ flat(v)),
            "kfac": (factors[1].matrix(), whole[8:, 8:]),
        }

    compare(table, (jnp.asarray(w), jnp.asarray(b)))
