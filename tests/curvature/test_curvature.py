"""Quantities made of Jacobians, on networks and programs, against dense float64 arrays by JAX and NumPy."""

import functools
import itertools
import math
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnets as jn

from ..autodiff.test_other_models import double, library, partition, split
from ..properties import close, traces_of_hessians
from ..sweeps import swept

_rng = np.random.default_rng(5)


def r(*shape):
    return _rng.normal(size=shape)


def pos(*shape):
    return np.exp(r(*shape))


def weights(*widths):
    return [(r(o, i), r(o)) for i, o in itertools.pairwise(widths)]


def same(found, expected, what="", tolerance=1e-10, least=0.0):
    """Arrays and tuples of them."""
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other, what, tolerance, least)
    else:
        close(found, expected, tolerance, what, least)


def flat(tree, lead=0):
    """A tree like the parameters as an array whose last axis are all parameters, after `lead` others."""
    return jnp.concatenate([jnp.reshape(leaf, (*jnp.shape(leaf)[:lead], -1)) for leaf in jax.tree.leaves(tree)], -1)


# --- the programs -------------------------------------------------------------------------------------------------


class Net(NamedTuple):
    """`f(params, x)`, with a second batch x2, the loss and what it takes; `every` quantity is tried, or the main ones.

    A `coupled` net has no second batch: its examples depend on each other.
    """

    name: str
    f: Callable
    params: Any
    x: Any
    x2: Any
    loss: Callable = jn.cross_entropy
    target: Any = None
    every: bool = False
    both: bool = False
    coupled: bool = False

    def __str__(self):
        return self.name


NETS: list[Net] = []


def net(name, f, params, shape, loss=jn.cross_entropy, target=None, x=None, x2=None, **facts):
    x, x2 = (r(4, *shape), r(3, *shape)) if x is None else (x, x2)
    NETS.append(Net(name, f, params, x, x2, loss, np.array([0, 1, 1, 0]) if target is None else target, **facts))


def mlp(params, x, h=jn.tanh):
    for i, (w, b) in enumerate(params):
        x = jn.linear(x if i == 0 else h(x), w, b)
    return x


def convnet(params, x):
    (k, c), (w, b) = params
    x = jn.max_pool(jn.tanh(jn.conv(x, k, c, padding=1)), kernel_size=2)
    return jn.linear(jn.flatten(x), w, b)


def attention(params, x):
    *heads, w = params
    return jn.linear(jn.mean(jn.add(x, jn.multi_head_attention(x, x, *heads, heads=2)), axis=1), w)


def embedding(params, ids):
    table, w = params
    return jn.linear(jn.mean(jn.embedding(ids, table), axis=1), w)


def residual(params, x):
    for w, b in params:
        x = jn.add(x, jn.tanh(jn.linear(x, w, b)))
    return x


def normalized(params, x):
    w, gain, shift, last = params
    return jn.linear(jn.layer_norm(jn.linear(x, w), gain, shift), last)


def coupled(params, x):
    w, last = params
    return jn.linear(jn.tanh(jn.standardize(jn.linear(x, w))), last)


def tied(w, x):
    return jn.linear(jn.tanh(jn.linear(x, w)), w)


def autoencoder(params, x):
    return jax.nn.sigmoid(x @ params["w"].T + params["in"]) @ params["w"] + params["out"]


def nested(params, x):
    (first, gain), last = params["body"], params["head"]
    return jnp.sin(gain * (x @ first["w"])) @ last + gain


def scalars(params, x):
    return jnp.tanh(params["a"] * x + params["b"]) * params["a"]


def recurrent(params, xs):
    w, u, last = params
    return jax.lax.scan(lambda h, x: (jnp.tanh(h @ u + x @ w), None), jnp.zeros((len(xs), 2)), xs.swapaxes(0, 1))[0] @ last


def no_root(y, target):
    """Unknown to us, with examples that are apart and no diagonal Hessian."""
    return jax.nn.logsumexp(y, -1) ** 2 - jnp.sum(jnp.cos(y) * target, -1)


smoothed = functools.partial(jn.cross_entropy, label_smoothing=0.2)
net("mlp of tanh", mlp, weights(3, 4, 2), (3,), every=True, both=True)
net("mlp of relu", functools.partial(mlp, h=jn.relu), weights(3, 4, 3, 2), (3,), smoothed)
net("convnet", convnet, [(r(2, 1, 3, 3), r(2)), (r(2, 8), r(2))], (1, 4, 4))
net("attention", attention, [r(2, 2), r(2, 2), r(2, 2), r(2, 2), r(2, 2)], (3, 2))
net("embedding", embedding, (r(5, 3), r(2, 3)), None, x=_rng.integers(5, size=(4, 3)), x2=_rng.integers(5, size=(3, 3)))
net("residual", residual, weights(2, 2, 2), (2,), no_root, r(4, 2))
net("linear", lambda w, x: jn.linear(x, w), r(2, 5), (5,), no_root, r(4, 2), every=True)
net("layer_norm", normalized, [r(3, 3), r(3), r(3), r(2, 3)], (3,))
net("standardize", coupled, [r(3, 3), r(2, 3)], (3,), coupled=True)
net("tied", tied, r(3, 3), (3,), jn.squared_error, r(4, 3))
net("autoencoder", autoencoder, {"w": r(2, 3), "in": r(2), "out": r(3)}, (3,), jn.huber, r(4, 3))
net("scalars", scalars, {"a": r(), "b": r(2)}, (2,), smoothed, every=True)
net("nested", nested, {"body": ({"w": r(3, 2)}, r()), "head": r(2, 2), "unused": r(2)}, (3,), jn.poisson_nll, pos(4, 2))
net("scan", recurrent, (r(2, 2), r(2, 2), r(2, 2)), (3, 2))


def equinox_net():
    import equinox as eqx

    module = eqx.nn.MLP(3, 2, width_size=3, depth=1, activation=jnp.tanh, key=jax.random.key(0))
    return partition(module)


def flax_net():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.first, self.norm, self.last = (
                nnx.Linear(3, 3, rngs=rngs),
                nnx.LayerNorm(3, rngs=rngs),
                nnx.Linear(3, 2, rngs=rngs),
            )

        def __call__(self, x):
            return self.last(nnx.tanh(self.norm(self.first(x))))

    return split(Net(rngs=nnx.Rngs(0)))


net("equinox", equinox_net, None, (3,))
net("flax.nnx", flax_net, None, (3,))


def whole(case: Net) -> Net:
    """With the model of another library made."""
    if case.params is None:
        library(case.name)
        f, params = case.f()
        return case._replace(f=f, params=double(params))
    return case._replace(params=jax.tree.map(jnp.asarray, case.params))


# --- the oracle ---------------------------------------------------------------------------------------------------


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


# --- every quantity -----------------------------------------------------------------------------------------------


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


def compare(table, params):
    """{name: (found, expected)} from `table(params)`, in one compilation."""
    for what, pair in jax.jit(table)(params).items():
        same(*pair, what)


SHORT = {"mlp of tanh", "convnet", "attention", "standardize", "tied", "scalars", "scan", "nested"}


@pytest.mark.parametrize("case", swept(NETS, SHORT), ids=str)
def test_quantities_are_dense(case):
    case = whole(case)
    dense = reference(case)
    tables = [main_quantities, *[further_quantities][: case.both], *[further_curvature][: case.every]]
    compare(lambda params: functools.reduce(operator.or_, [table(case, dense, params) for table in tables]), case.params)


def test_quantities_without_jit():
    """Of a linear layer, whose Jacobian is x."""
    w, x = jnp.asarray(r(2, 3)), r(4, 3)

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
    x, (w, b) = r(3, 2), weights(2, 4)[0]
    targets = {"mean": (r(3, 2), pos(3, 2)), "class": np.array([0, 1, 0])}
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


# --- the Fisher matrix --------------------------------------------------------------------------------------------


def each_class(p):
    """Every target of one kind for all examples, and how probable it is for each of them."""
    return [(np.full(len(p), k), p[:, k]) for k in range(p.shape[1])]


def each_bit(p):
    """Independent bits with probabilities p [B, n]."""
    for bits in itertools.product([0.0, 1.0], repeat=p.shape[1]):
        yield np.tile(bits, (len(p), 1)), jnp.prod(jnp.where(np.array(bits) == 1, p, 1 - p), 1)


def identity(y):
    return y


@pytest.mark.parametrize(
    "loss, last, probabilities, targets",
    [
        (jn.cross_entropy, identity, jax.nn.softmax, each_class),
        (jn.nll, jn.log_softmax, jnp.exp, each_class),
        (jn.binary_cross_entropy, jn.sigmoid, identity, each_bit),
        (jn.binary_cross_entropy_with_logits, identity, jax.nn.sigmoid, each_bit),
    ],
    ids=lambda thing: getattr(thing, "name", ""),
)
def test_fisher_is_the_expectation_over_targets(loss, last, probabilities, targets):
    """Targets that are given lend only their shape."""
    x, params = r(3, 2), jnp.asarray(r(3, 2))

    def f(params, x):
        return last(jn.linear(x, params))

    def table(params):
        expected = 0
        for target, p in targets(probabilities(f(params, x))):
            g = jax.jacrev(lambda w, target=target: loss(f(w, x), target).reshape(3, -1).sum(1))(params).reshape(3, -1)
            expected += jnp.einsum("b,bp,bq->pq", p, g, g)
        return {"fisher": (jn.fisher(f, loss, scale=0.5)(params, x, target).matrix(), 0.5 * expected)}

    compare(table, params)


def test_fisher_of_continuous_targets():
    """J' F J with the information of a normal distribution of variance 1/2 or a given one, and of a Poisson distribution."""
    x, params, variance = r(3, 2), jnp.asarray(r(2, 2)), pos(3, 2)

    def f(params, x):
        return jn.tanh(jn.linear(x, params))

    def table(params):
        y, j = f(params, x), jax.jacrev(f)(params, x).reshape(6, 4)

        def pair(information, loss, *targets):
            return jn.fisher(f, loss)(params, x, *targets).matrix(), j.T * jnp.ravel(information) @ j

        return {
            "squared_error": pair(2 * jnp.ones(6), jn.squared_error, x),
            "gaussian_nll": pair(1 / variance, jn.gaussian_nll, x, variance),
            "poisson_nll": pair(jnp.exp(y), jn.poisson_nll, variance),
        }

    compare(table, params)


# --- Kronecker factors --------------------------------------------------------------------------------------------


def test_kronecker_products():
    """matrix, @ and solve in the order of JAX, the matrix also in that of the literature, for arrays of 2 and of 4 axes."""
    first, last = (a @ a.T for a in (r(3, 3), r(4, 4)))
    for shape in ((3, 4), (3, 1, 2, 2)):
        k, v = jn.Kronecker(jnp.asarray(first), jnp.asarray(last), shape), jnp.asarray(r(*shape))
        whole = np.einsum("ab,ij->aibj", first, last).reshape(12, 12)
        same(k.matrix(), whole)
        same(k.matrix("column"), np.einsum("ab,ij->iajb", first, last).reshape(12, 12))
        same(k @ v, (whole @ np.ravel(v)).reshape(shape))
        same(k.solve(v, 0.3), np.linalg.solve(whole + 0.3 * np.eye(12), np.ravel(v)).reshape(shape))


def root_rows(loss, y, target, j):
    """Sᵀ J [b, row, ...], S Sᵀ the Hessian of the loss of an example by y [b, c], J [b, c, b, ...] by something local."""
    h = jax.vmap(jax.hessian(lambda y, t: jnp.sum(loss(y, t))))(y, target)
    values, vectors = jnp.linalg.eigh(h)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None]
    return jnp.einsum("bcr,bc...->br...", root, jnp.einsum("bcb...->bc...", j))


def kfac(f, loss, *args):
    """Both kinds."""
    return [jn.kfac_factors(f, loss, sharing=sharing)(*args) for sharing in ("expand", "reduce")]


def test_kronecker_factors_of_a_mlp():
    """Σ V Vᵀ ⊗ mean x xᵀ by weights, Σ V Vᵀ by biases, V the gradients by what a linear layer gives; both kinds alike."""
    params, x, target = weights(3, 4, 2), r(3, 3), np.array([0, 1, 1])
    loss = smoothed

    def table(params):
        (w, _), last = params
        hidden = jnp.tanh(x @ w.T + params[0][1])

        def from_first(e):
            return jn.linear(jnp.tanh(x @ w.T + params[0][1] + e), *last)

        def from_last(e):
            return jn.linear(hidden, *last) + e

        found = {}
        for n, (inputs, f, width) in enumerate([(x, from_first, 4), (hidden, from_last, 2)]):
            e = jnp.zeros((3, width))
            v = root_rows(loss, f(e), target, jax.jacrev(f)(e))
            first, last_factor = jnp.einsum("bro,brq->oq", v, v), inputs.T @ inputs / 3
            for kind, factors in zip(("expand", "reduce"), kfac(mlp, loss, params, x, target), strict=True):
                found[f"{kind} {n}"] = (factors[n][0].first, factors[n][0].last), (first, last_factor)
                found[f"{kind} bias {n}"] = factors[n][1].matrix(), first
        other = jn.kfac_factors(mlp, loss, curvature="empirical", scale=0.5)(params, x, target)
        e = jnp.zeros((3, 4))
        g = jax.grad(lambda e: jnp.sum(loss(from_first(e), target)))(e)
        found["empirical"] = (other[0][0].first, other[0][0].last), (0.5 * g.T @ g, x.T @ x / 3)
        return found

    compare(table, params)


def test_kronecker_factors_over_places():
    """A linear layer over a sequence, a convolution, and weights that are used twice."""
    x, images, wide = r(3, 4, 6), r(3, 1, 4, 4), r(3, 3)
    target, k, w, square, head = r(3, 2), r(2, 1, 3, 3), r(2, 6), r(3, 3), r(2, 32)

    def sequence(w, x):
        return jn.mean(jn.tanh(jn.linear(x, w)), axis=1)

    def convolved(k, x, e=None):
        y = jn.conv(x, k, padding=1)
        return jn.linear(jn.flatten(jn.tanh(y if e is None else y + e)), head)

    def table(params):
        w, k, square = params
        d = jnp.sqrt(2) * (1 - jnp.tanh(x @ w.T) ** 2) / 4
        expand, reduce = kfac(sequence, jn.squared_error, w, x, target)
        found = {
            "sequence": (
                (expand.first, expand.last),
                (jnp.diag(jnp.sum(d**2, (0, 1))), jnp.einsum("bti,btj->ij", x, x) / 12),
            ),
            "of sums": (
                (reduce.first, reduce.last),
                (jnp.diag(jnp.sum(jnp.sum(d, 1) ** 2, 0)), jnp.einsum("bi,bj->ij", *[x.mean(1)] * 2) / 3),
            ),
        }

        straight = jn.kfac_factors(lambda w, x: jn.mean(jn.linear(x, w), axis=1), jn.squared_error, sharing="reduce")
        same_gradients = straight(w, x, target)  # at all places
        found["of equal ones"] = (same_gradients.first, same_gradients.last), (6 * jnp.eye(2), found["of sums"][1][1])

        e = jnp.zeros((3, 2, 4, 4))
        j = jax.jacrev(lambda e: convolved(k, images, e))(e)
        v = root_rows(jn.squared_error, convolved(k, images), target, j)
        patches = jnp.moveaxis(jax.lax.conv_general_dilated_patches(images, (3, 3), (1, 1), "SAME"), 1, -1).reshape(3, 16, 9)
        expand, reduce = kfac(convolved, jn.squared_error, k, images, target)
        found["convolution"] = (
            (expand.first, expand.last),
            (jnp.einsum("brohw,brqhw->oq", v, v), jnp.einsum("bti,btj->ij", patches, patches) / 48),
        )
        found["of sums in a convolution"] = (
            (reduce.first, reduce.last),
            (jnp.einsum("bro,brq->oq", *[v.sum((3, 4))] * 2), jnp.einsum("bi,bj->ij", *[patches.mean(1)] * 2) / 3),
        )

        hidden = jnp.tanh(wide @ square.T)
        v = jnp.sqrt(2) * jnp.einsum("ro,bo->bro", square, 1 - hidden**2)
        for kind, factors in zip(("expand", "reduce"), kfac(tied, jn.squared_error, square, wide, wide), strict=True):
            first = jnp.einsum("bro,brq->oq", v, v) + 6 * jnp.eye(3)
            found[f"{kind} twice"] = (factors.first, factors.last), (first, (wide.T @ wide + hidden.T @ hidden) / 6)
        return found

    compare(table, tuple(map(jnp.asarray, (w, k, square))))


@pytest.mark.parametrize("channels, size", [(1, 4), (3, 8)])
def test_kronecker_factors_of_a_convolution_before_an_average(channels, size):
    """However the average is written, and whether the sum over places would leave less to store or not."""
    k, x, target, head = r(4, channels, 3, 3), r(2, channels, size, size), r(2, 4), r(4, 4)
    for average in (jn.global_avg_pool, lambda y: jnp.mean(y, (2, 3)), lambda y: jn.linear(jn.global_avg_pool(y), head)):
        run = jn.kfac_factors(lambda k, x, f=average: f(jn.tanh(jn.conv(x, k, padding=1))), jn.squared_error)
        factors = jax.eval_shape(run, k, x, target)
        assert (factors.first.shape, factors.last.shape) == ((4, 4), (9 * channels, 9 * channels))


@pytest.mark.parametrize("places", [2, 30])
def test_kronecker_factors_of_a_sequence_of_any_length(places):
    def f(w, x):
        return jn.mean(jn.tanh(jn.linear(x, w)), axis=1)

    for sharing in ("expand", "reduce"):
        run = jn.kfac_factors(f, jn.squared_error, sharing=sharing)
        factors = jax.eval_shape(run, r(2, 3), r(4, places, 3), r(4, 2))
        assert (factors.first.shape, factors.last.shape) == ((2, 2), (3, 3))


def test_kronecker_factors_of_one_example_are_exact():
    params, x = weights(3, 2, 1), r(1, 3)

    def table(params):
        factors = jn.kfac_factors(mlp, jn.squared_error)(params, x, x[:, :1])
        whole = jn.ggn(mlp, jn.squared_error)(params, x, x[:, :1]).matrix()
        return {"weights": (factors[0][0].matrix(), whole[:6, :6]), "biases": (factors[0][1].matrix(), whole[6:8, 6:8])}

    compare(table, params)


# --- of functions of the input ------------------------------------------------------------------------------------


@jax.custom_jvp
def straight_through(x):
    """Its derivative is that of x³, and so are further ones."""
    return jnp.round(x)


@straight_through.defjvp
def _(primals, tangents):
    return straight_through(primals[0]), 3 * primals[0] ** 2 * tangents[0]


HEADS = [0.7 * r(2, 2) for _ in range(5)]
KERNEL, SQUARE, HEAD = (r(2, 1, 2, 2), r(2)), r(3, 3), r(2, 8)
X, PLACES = r(2, 3), np.array([0, 2])
LAPLACIANS: dict[str, tuple[Callable, Any]] = {
    "entries": (lambda x: jn.tanh(x * jnp.sin(x)) + jn.sigmoid(x) ** 2, X),
    "activations": (lambda x: jn.silu(x) * jn.gelu(x) + jax.nn.softplus(x) - jn.relu(x) + jax.nn.relu(-x), X),
    "softmax": (lambda x: jn.softmax(jn.linear(x, SQUARE)), X),
    "layer_norm": (lambda x: jn.layer_norm(x) ** 3, X),
    "loss": (lambda x: jn.cross_entropy(jn.tanh(jn.linear(x, SQUARE)), PLACES), X),
    "attention": (lambda x: attention(HEADS, x), r(2, 2, 2)),
    "convnet": (lambda x: convnet([KERNEL, (HEAD, np.zeros(2))], x) ** 2, r(1, 1, 3, 3)),
    "products": (lambda x: jn.multiply(x, x) * jnp.sum(x**2, -1, keepdims=True) * x[:, :1], X),
    "coupled": (lambda x: jn.standardize(x) * x, r(3, 2)),
    "tree": (lambda t: {"sum": jn.tanh(t["a"] + t["b"][0]) * t["a"], "one": t["b"][0] ** 3}, {"a": X, "b": [r(2, 3)]}),
    "quadratic form of a tree": (lambda t: jn.tanh(jnp.sum(jn.linear(t[0], SQUARE) * t[1], -1)), (X, r(2, 3))),
    "constant": (lambda x: (jnp.ones(3), 2 * x, jnp.sum(x[0] ** 2)), X),
    "kinks": (lambda x: jnp.max(x, -1) ** 2 + jnp.prod(x, -1), X),
    "straight_through": (lambda x: jnp.sin(straight_through(x)), X),
    "scan": (lambda x: jax.lax.scan(lambda c, a: (jnp.sin(c * a + 1), c), 1.0, x)[1], r(4)),
    "branches": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), X),
}


@pytest.mark.parametrize("name", swept(LAPLACIANS, 2))
def test_laplacian_is_the_trace_of_the_hessian(name):
    f, x = LAPLACIANS[name]

    def table(x):
        theta, unravel = ravel_pytree(x)
        traces = traces_of_hessians(lambda theta: jax.tree.leaves(f(unravel(theta))), theta)
        return {"laplacian": (tuple(jax.tree.leaves(jn.laplacian(f)(x))), tuple(traces))}

    compare(table, jax.tree.map(jnp.asarray, x))


def test_laplacian_keeps_its_digits_where_a_sigmoid_saturates():
    x = np.array([[20.0]])
    exact = -np.tanh(x / 2) / (2 + 2 * np.cosh(x))  # s (1 − s) (1 − 2s); in float32 1 − s would be 0
    found = jn.laplacian(lambda x: jn.sum(jn.sigmoid(x), axis=1))(jnp.asarray(x, "float32"))
    np.testing.assert_allclose(found, exact[:, 0], rtol=1e-5)


def test_laplacian_by_an_argument_among_others():
    compare(lambda x: {"laplacian": (jn.laplacian(lambda x, y: x**2 * y)(x, X), 2 * X)}, jnp.asarray(X))


def test_divergence_is_the_trace_of_the_jacobian():
    def f(x):
        return jnp.sin(x) * jnp.sum(x, -1, keepdims=True)

    def mixed(x):
        return jn.tanh(x @ SQUARE)[:, ::-1] * X

    def table(x):
        def dense(f):
            return jnp.einsum("bibi->b", jax.jacrev(f)(x))

        one = jnp.trace(jax.jacrev(f)(x[0]))
        found = {f"{g.__name__}": (jn.divergence(g)(x), dense(g)) for g in (f, mixed)}
        by_columns = jnp.einsum("bibi->b", jax.jacrev(jn.standardize)(SQUARE))
        return found | {
            "of one": (jn.divergence(f)(x[0]), one),
            "coupled": (jn.divergence(jn.standardize)(SQUARE), by_columns),
        }

    compare(table, jnp.asarray(X))


def per_example_blocks(f, x):
    """The blocks of the dense Jacobian of each example, square or not."""
    j = jax.jacrev(f)(x).reshape(len(x), -1, len(x), x[0].size)
    return jnp.einsum("bibj->bij", j)


def test_norms_of_jacobians():
    rng = np.random.default_rng(0)  # by which the largest two singular values are well apart
    params = [(rng.normal(size=(o, i)), rng.normal(size=o)) for i, o in ((3, 4), (4, 2))]
    x = rng.normal(size=(4, 3))

    def f(x):
        return mlp(params, x)

    def table(x):
        j, singular = per_example_blocks(f, x), functools.partial(jnp.linalg.norm, ord=2, axis=(-2, -1))
        whole = jax.jacrev(jn.standardize)(x).reshape(12, 12)
        (w, _), (last, _) = params
        d = jnp.abs(1 - jnp.tanh(jn.linear(x, *params[0])) ** 2)
        norms, largest = jn.jacobian_norm(f, layers=True)(x), jn.jacobian_norm(f, "spectral", layers=True, iterations=500)(x)
        ones = np.ones(4)
        both = jn.jacobian_norm(lambda x: (f(x), 0 * x + 1.0))(x)
        return {
            "frobenius": (jn.jacobian_norm(f)(x), jnp.linalg.norm(j, axis=(1, 2))),
            "spectral": (jn.jacobian_norm(f, "spectral", iterations=500)(x), singular(j)),
            "coupled": (jn.jacobian_norm(jn.standardize)(x), jnp.linalg.norm(whole)),
            "coupled spectral": (jn.jacobian_norm(jn.standardize, "spectral", iterations=2000)(x), singular(whole)),
            "layers": (
                tuple(norms[name] for name in ("linear", "tanh", "linear 2")),
                (ones * np.linalg.norm(w), jnp.linalg.norm(d, axis=1), ones * np.linalg.norm(last)),
            ),
            "largest of layers": (
                tuple(largest[name] for name in ("linear", "tanh", "linear 2")),
                (ones * np.linalg.norm(w, 2), jnp.max(d, 1), ones * np.linalg.norm(last, 2)),
            ),
            "of a tree": (both, (jnp.linalg.norm(j, axis=(1, 2)), np.zeros(4))),
        }

    compare(table, jnp.asarray(x))


V, U, SIX, Y = 0.5 * r(6), 0.5 * r(6), r(6, 6), r(3, 6)


def coupling(x):
    """Half of the entries scaled and shifted by functions of the others, as in RealNVP."""
    a, b = x[:, :3], x[:, 3:]
    return jnp.concatenate([a, b * jnp.exp(jnp.tanh(a @ SQUARE)) + a], 1)


def planar(x):
    return x + U * jnp.tanh(x @ V + 0.3)[:, None]


DETERMINANTS: dict[str, tuple[Callable, Any]] = {
    "entries": (lambda x: jn.tanh(x) * 3, Y),
    "coupling": (coupling, Y),
    "planar": (planar, Y),
    "planar of layers": (lambda x: jn.add(x, jn.linear(jn.tanh(jn.linear(x, V[None])), U[:, None])), Y),
    "rank 2": (lambda x: 3 * x + U * jnp.tanh(x @ V + 0.3)[:, None] + V * jnp.sin(x @ U)[:, None], Y),
    "hidden": (lambda x: x + jnp.tanh(x @ SIX[:, :2]) @ SIX[2:4], Y),
    "linear": (lambda x: jn.linear(x, SIX, U), Y),
    "flow": (lambda x: jnp.tanh(planar(coupling(jn.linear(coupling(x)[:, ::-1], 0.3 * SIX, U)))), 0.3 * Y),
    "permutation": (lambda x: x[:, np.array([2, 0, 1, 5, 4, 3])], Y),
    "reshape": (lambda x: jn.linear(x.reshape(3, 2, 3), SQUARE), Y),
    "softmax": (lambda x: jn.softmax(x) + x, Y),
    "rows": (lambda x: jn.linear(x, SQUARE), r(2, 2, 3)),
    "zero on the diagonal": (lambda x: jnp.maximum(x, 0) + U * (x @ V)[:, None], np.abs(Y) * np.array([-1, 1, 1, 1, 1, 1])),
}
COUPLED: dict[str, tuple[Callable, Any]] = {
    "coupled": (lambda x: jn.standardize(x) + x, Y),
    "mixed": (lambda x: SQUARE @ x, Y),
    "both": (lambda x: SQUARE @ jnp.tanh(x), Y),
    "transposed": (lambda x: jnp.sin(x.reshape(6, 3)), Y),
    "vector": (lambda x: SIX @ jnp.tanh(x), U),
}


@pytest.mark.parametrize("name", swept([*DETERMINANTS, *COUPLED], 2))
def test_logdet_is_that_of_the_dense_jacobian(name):
    f, x = (DETERMINANTS | COUPLED)[name]

    def table(x):
        whole = per_example_blocks(f, x) if name in DETERMINANTS else jax.jacrev(f)(x).reshape(x.size, x.size)
        return {"logdet": (jn.logdet(f)(x), jnp.linalg.slogdet(whole)[1])}

    compare(table, jnp.asarray(x))


def test_logdet_of_singular_functions():
    for f in (lambda x: 0 * x + 1.0, lambda x: jnp.ones_like(x), jn.relu):
        assert np.all(np.asarray(jax.jit(jn.logdet(f))(-np.abs(Y))) == -np.inf)


# --- what is stored -----------------------------------------------------------------------------------------------


def largest(function, *args, branches=True):
    """The number of entries of the largest array that a function makes."""

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (math.prod(y.aval.shape) for y in equation.outvars)
            if branches or equation.primitive.name != "cond":
                for inner in jax.extend.core.jaxprs_in_params(equation.params):
                    yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(*args).jaxpr))


def abstract(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float64)


def test_no_gradient_of_an_example_is_stored():
    params, x = [(abstract(64, 32), abstract(64)), (abstract(10, 64), abstract(10))], abstract(50, 32)

    def losses(params, x):
        return jn.cross_entropy(mlp(params, x), jnp.zeros(50, int))

    for quantity in (jn.per_example_grad_norms(losses), jn.gradient_variance(losses), jn.clip_per_example(losses, 1.0),
                     jn.gradient_noise_scale(losses)):  # fmt: skip
        assert largest(quantity, params, x) <= 50 * 64  # the values of the widest layer


def test_no_jacobian_of_the_outputs_is_stored():
    """1000 outputs of 3 examples by 9,000 parameters would be 27 million entries."""
    params, x = [(abstract(8, 4), abstract(8)), (abstract(1000, 8), abstract(1000))], abstract(3, 4)
    assert largest(jn.ntk(mlp, "trace"), params, x) <= 9000
    assert largest(jn.ntk(mlp, "diagonal"), params, x) <= 9000
    assert largest(jn.ntk(mlp), params, x) <= 3000**2  # the kernel
    assert largest(jn.ntk(mlp, block_size=1), params, x) <= 3000**2
    squared, entropy = jn.ggn_diagonal(mlp, jn.squared_error), jn.ggn_diagonal(mlp, jn.cross_entropy)
    assert largest(squared, params, x, np.zeros((3, 1000))) <= 9000
    assert largest(entropy, params, x, np.zeros(3, int)) <= 3 * 1000**2  # roots of the Hessians


def test_fewer_outputs_than_parameters_are_solved_among_themselves():
    def both(w, x, target):
        matrix = jn.ggn(layer, jn.squared_error)(w, x, target)
        return matrix.solve(w, 1.0), matrix.logdet(1.0)

    assert largest(both, abstract(2, 500), abstract(3, 500), np.zeros((3, 2))) <= 3000  # the matrix has 1000² entries
    w, x = r(2, 3), r(3, 3)  # of equal number: no damping is needed
    found = jax.jit(lambda w: jn.ggn(layer, jn.squared_error)(w, x, x[:, :2]).logdet())(w)
    same(found, np.linalg.slogdet(2 * np.kron(np.eye(2), x.T @ x))[1])


def test_structure_of_functions_of_the_input():
    """No n×n array by entries; of rank one only in the branch that a zero needs."""
    x = abstract(2, 10**4)

    def chain(x):
        return jn.tanh(x * jnp.sin(x)) ** 2 + x

    for quantity in (jn.laplacian(chain), jn.logdet(chain), jn.divergence(chain), jn.jacobian_norm(chain)):
        assert largest(quantity, x) <= 2 * 10**4
    assert largest(jn.laplacian(jn.softmax), abstract(50, 4)) <= 50 * 4 * 4  # examples apart
    u, v, x = np.ones(64), np.ones(64), abstract(2, 64)

    def flow(x):
        return x + u * jnp.tanh(x @ v)[:, None]

    assert largest(jn.logdet(flow), x, branches=False) <= 2 * 64
    assert largest(jn.logdet(flow), x) >= 64 * 64
    assert largest(jn.logdet(lambda x: jn.linear(x, jnp.eye(64))), abstract(500, 64)) <= 500 * 64  # one determinant


def test_products_are_those_by_hand():
    """5 examples, widths 3-4-2: by gradients g1 [5,4] and g2 [5,2] the norms are Σ g² Σ x² by weights, Σ g² by biases."""
    params, x = [(abstract(4, 3), abstract(4)), (abstract(2, 4), abstract(2))], abstract(5, 3)
    plan = jn.explain_plan(jn.per_example_grad_norms(lambda p, x: jn.cross_entropy(mlp(p, x), jnp.zeros(5, int))), params, x)
    backward = 5 * 2 * 4 + 5 * 4
    first, last = (5 * 4 + 5 * 3 + 5) + 5 * 4, (5 * 2 + 5 * 4 + 5) + 5 * 2
    assert sum(product.multiplies for product in plan.products) == backward + first + last
    assert plan.products[0] == ((5, 2), (2, 4), (2,), (5, 4), 40)
    assert plan.to_json()["products"][0] == {
        "left": (5, 2), "right": (2, 4), "summed": (2,), "result": (5, 4), "multiplies": 40
    }  # fmt: skip
    assert plan.to_json()["name"] == plan.name == "per_example_grad_norms"
    assert f"products of per_example_grad_norms: {backward + first + last} multiplications" in str(plan)
    kernel = jn.explain_plan(jn.ntk(lambda w, x: jn.linear(x, w)), *map(jnp.asarray, (r(4, 3), r(5, 3))))
    assert [product.multiplies for product in kernel.products] == [5 * 3 * 5]


# --- precision ----------------------------------------------------------------------------------------------------


def narrow_quantities(params, x):
    """Of a network in the dtype of its parameters: norms, kernel, Gauss-Newton diagonal and variance."""

    def losses(params):
        return jnp.sum(mlp(params, x) ** 2, 1)

    zeros = jnp.zeros((len(x), 2), x.dtype)
    return (
        jn.per_example_grad_norms(losses)(params),
        jn.ntk(mlp)(params, x),
        jn.ggn_diagonal(mlp, jn.squared_error)(params, x, zeros),
        jn.gradient_variance(losses)(params),
    )


@pytest.mark.parametrize("dtype, units", [("float32", 24), ("bfloat16", 8)])
def test_precision(dtype, units):
    """Within some units of the last place of the largest entry, in float32 at least, of what float64 makes of it."""
    params, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (weights(5, 6, 2), r(7, 5)))
    wide = jax.tree.map(lambda a: a.astype("float64"), (params, x))
    found, exact = jax.jit(lambda *both: [narrow_quantities(*one) for one in both])((params, x), wide)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert one.dtype == jnp.float32
        same(one, other, dtype, units * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_squares_of_16_bits_do_not_overflow(dtype):
    """Gradients of 300 in every entry: their squares exceed 65504."""
    w, x, ones = jnp.ones((1, 4), dtype), jnp.full((3, 4), 300, dtype), jnp.zeros((3, 1), dtype)

    def f(w, x):
        return jn.linear(x, w)

    def losses(w, x):
        return f(w, x)[:, 0]

    def table(w):
        summed, norms = jn.clip_per_example(losses, 1.0)(w, x)
        return {
            "norms": (jn.per_example_grad_norms(losses)(w, x), np.full(3, 600.0)),
            "ntk": (jn.ntk(f)(w, x), np.full((3, 1, 3, 1), 4 * 300.0**2)),
            "trace": (jn.ntk(f, "trace")(w, x), np.full((3, 3), 4 * 300.0**2)),
            "ggn_diagonal": (jn.ggn_diagonal(f, jn.squared_error)(w, x, ones), np.full((1, 4), 2 * 3 * 300.0**2)),
            "clip_per_example": ((summed, norms), (np.full((1, 4), 1.5), np.full(3, 600.0))),
            "gradient_variance": (jn.gradient_variance(losses)(w, x), np.zeros((1, 4))),
        }

    found = jax.jit(table)(w)
    for what, pair in found.items():
        same(*pair, what, 4 * float(jnp.finfo(dtype).eps))
    assert {leaf.dtype.name for what in ("norms", "ntk", "trace") for leaf in jax.tree.leaves(found[what][0])} == {"float32"}


def test_variance_is_off_by_the_rounding_of_the_mean_square():
    """Gradients 1000 ± 1 in float32, and some that are all alike."""
    run, ones = jax.jit(jn.gradient_variance(lambda w, x: x @ w)), np.ones(3, "float32")
    x = (1000 + r(50, 3)).astype("float32")
    wide = x.astype("float64")
    assert np.all(np.abs(run(ones, x) - wide.var(0, ddof=1)) <= 8 * np.finfo("float32").eps * (wide**2).mean(0))
    assert np.all(run(ones, np.full_like(x, 0.1)) >= 0)


# --- errors -------------------------------------------------------------------------------------------------------


@jax.custom_vjp
def own_backward(x):
    return jnp.sin(x)


own_backward.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))

W, IDS = np.ones((2, 3)), np.array([0, 1])


def layer(w, x):
    return jn.linear(x, w)


def losses(w, x):
    return jn.cross_entropy(layer(w, x), IDS)


def scalar(w, x):
    return jnp.sum(losses(w, x))


def pair_of(w, x):
    return losses(w, x), losses(w, x)


def fisher_of(loss, *targets, **options):
    return lambda: jn.fisher(layer, loss, **options)(W, X, *targets)


def gauss_newton(loss=jn.cross_entropy, target=IDS, f=layer, **options):
    return jn.ggn(f, loss, **options)(W, X, target)


ERRORS = [
    *[(lambda q=q: q(scalar)(W, X), jn.ShapeError, f"{name}: the loss must return one array whose first axis are examples")
      for name, q in [
          ("per_example_grads", jn.per_example_grads), ("per_example_grad_norms", jn.per_example_grad_norms),
          ("clip_per_example", lambda loss: jn.clip_per_example(loss, 1.0)), ("gradient_variance", jn.gradient_variance),
          ("gradient_noise_scale", jn.gradient_noise_scale),
      ]],
    (lambda: jn.per_example_grad_norms(pair_of)(W, X), jn.ShapeError, r"per_example_grad_norms: the loss.*\(2,\), \(2,\)"),
    (lambda: jn.per_example_grads(losses, limit=50)(W, X), jn.JacobianTooLarge, r"\[2, 2, 3\] needs 96 B"),
    (lambda: jn.per_example_grads(lambda params, x: x[:, 0])({}, X), jn.ShapeError, "per_example_grads: params has no"),
    *[(lambda n=n: jn.clip_per_example(losses, n), ValueError, f"clip_per_example: max_norm.*{n}")
      for n in (0, -1.0, math.nan)],
    *[(lambda q=q: q(lambda w, x: jnp.sum(layer(w, x), 1))(W, X[:1]), ValueError, f"{q.__name__}: .*two examples, got 1")
      for q in (jn.gradient_variance, jn.gradient_noise_scale)],
    (lambda: jn.ntk(layer, "sum"), ValueError, r"ntk: outputs must be one of.*'sum'"),
    *[(lambda n=n: jn.ntk(layer, block_size=n), ValueError, f"ntk: block_size.*{n}") for n in (0, -2, 2.5)],
    *[(lambda i=i: jn.ntk(layer, i)(W, X), jn.ShapeError, rf"ntk: outputs {re.escape(str(i))} is no index.*\(2,\)")
      for i in (2, -3, (0, 0), ())],
    (lambda: jn.ntk(scalar)(W, X), jn.ShapeError, "ntk: f must return one array"),
    (lambda: jn.ntk(pair_of)(W, X), jn.ShapeError, "ntk: f must return one array"),
    (lambda: jn.ntk(layer, limit=100)(W, X), jn.JacobianTooLarge, r"\[2, 2, 2, 2\].*128 B"),
    (lambda: jn.ntk(layer, block_size=1, limit=100)(W, X), jn.JacobianTooLarge, r"the kernel.*\[2, 2, 2, 2\].*limit="),
    (lambda: jn.ntk_vector_product(layer)(W, np.ones(2), X), jn.ShapeError, r"ntk_vector_product: v.*\(2,\).*\(2, 2\)"),
    *[(lambda q=q: q(layer, jn.nll, scale=0.0)(W, X, IDS), ValueError, f"{q.__name__}: scale must be positive, got 0.0")
      for q in (jn.ggn, jn.ggn_diagonal, jn.fisher, jn.kfac_factors)],
    (lambda: gauss_newton("cross_entropy"), TypeError, "ggn: loss must be callable, got str"),
    (lambda: jn.ggn_vector_product(layer, None)(W, W, X), TypeError, "ggn_vector_product: loss must be callable, got N"),
    (lambda: gauss_newton(f=pair_of), TypeError, r"ggn: f returns .*loss must be such a tree"),
    (lambda: jn.ggn(lambda w, x: {"a": layer(w, x)}, {"b": jn.huber})(W, X, {"a": IDS}), TypeError, "ggn: f returns .*'a'"),
    (lambda: gauss_newton() @ {"w": W}, jn.ShapeError, r"expected a vector.*'w'"),
    (lambda: gauss_newton() @ np.ones(6), jn.ShapeError, r"expected a vector.*\(6,\)"),
    (lambda: gauss_newton().solve(np.ones(6), 1.0), jn.ShapeError, r"expected a vector.*\(6,\)"),
    *[(lambda d=d: gauss_newton().solve(W, d), ValueError, f"damping must be positive.*{d}") for d in (0.0, -1)],
    (lambda: gauss_newton().logdet(), ValueError, "damping must be positive.*0.0"),
    (lambda: gauss_newton().matrix(limit=200), jn.JacobianTooLarge, r"the matrix.*\[6, 6\].*288 B.*200 B"),
    (lambda: jn.fisher(layer, jn.nll, kind="exact"), ValueError, "fisher: kind must be 'true' or 'empirical', got 'exact'"),
    (fisher_of(jn.huber, W), TypeError, "fisher: 'huber' is no negative log-likelihood"),
    (fisher_of(lambda y, t: jn.squared_error(y, t), W[:, :2]), TypeError, "fisher: '<lambda>'"),
    (fisher_of(jn.cross_entropy, IDS, np.ones(2)), TypeError, "fisher: 'cross_entropy' .*without weights"),
    (fisher_of(functools.partial(jn.poisson_nll, log_input=False), W[:, :2]), TypeError, "fisher: 'poisson_nll'"),
    (lambda: jn.kfac_factors(layer, jn.nll, sharing="none"), ValueError, "kfac_factors: sharing.*'none'"),
    (lambda: jn.kfac_factors(layer, jn.nll, curvature="hessian"), ValueError, "kfac_factors: curvature.*'hessian'"),
    (lambda: jn.kfac_factors(layer, no_root)(W, X, W[:, :2]), TypeError, "kfac_factors: no root"),
    (lambda: jn.Kronecker(W, W, (4, 9)).matrix("rows"), ValueError, "matrix: order.*'rows'"),
    (lambda: jn.hessian_diagonal(losses)(W, X), jn.ShapeError, "scalar"),
    (lambda: jn.laplacian(jn.softmax, limit=10)(X), jn.JacobianTooLarge, "the limit is 10 B"),
    (lambda: jn.laplacian(own_backward)(X), TypeError, "custom_vjp"),
    (lambda: jn.divergence(lambda x: x[:, :2])(X), jn.ShapeError, r"divergence: f must take.*\(2, 3\).*\(2, 2\)"),
    (lambda: jn.divergence(lambda x: (x, x))(X), jn.ShapeError, "divergence: f must take"),
    (lambda: jn.divergence(jnp.sin)(jnp.array(1.0)), jn.ShapeError, "divergence: f must take"),
    (lambda: jn.jacobian_norm(jn.tanh, "nuclear"), ValueError, "jacobian_norm: kind.*'nuclear'"),
    (lambda: jn.logdet(lambda x: x[:, :2])(X), jn.ShapeError, r"logdet: the Jacobian must be square.*\(2, 3\).*\(2, 2\)"),
    (lambda: jn.logdet(lambda x: (x, x))(X), jn.ShapeError, "logdet: the Jacobian must be square"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[message.split(":")[0] for *_, message in ERRORS])
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        jax.eval_shape(call)
