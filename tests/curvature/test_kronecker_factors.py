"""Kronecker factors against sums over examples and places, and products with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws, compare, mlp, same, smoothed, tied

r = Draws(5)


def test_kronecker_products():
    """matrix, @ and solve in the order of JAX, the matrix also in that of the literature, for arrays of 2 and of 4 axes."""
    first, last = (a @ a.T for a in (r(3, 3), r(4, 4)))
    for shape in ((3, 4), (3, 1, 2, 2)):
        k, v = jn.Kronecker(jnp.asarray(first), jnp.asarray(last), shape), jax.device_put(r(*shape))
        whole = np.einsum("ab,ij->aibj", first, last).reshape(12, 12)
        same(k.matrix(), whole)
        same(k.matrix("column"), np.einsum("ab,ij->iajb", first, last).reshape(12, 12))
        same(k @ v, (whole @ np.ravel(v)).reshape(shape))
        same(k.solve(v, 0.3), np.linalg.solve(whole + 0.3 * np.eye(12), np.ravel(v)).reshape(shape))


def test_kronecker_factors_are_a_pytree():
    """JAX may put anything in the places of the factors, which are arrays only where somebody hands them over."""
    k = jn.Kronecker(jnp.eye(2), jnp.eye(3), (2, 3))
    leaves, tree = jax.tree.flatten_with_path(k)
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".first", ".last"]
    marked = jax.tree.unflatten(tree, [(0, 0), None])
    assert (marked.first, marked.last, marked.shape) == ((0, 0), None, (2, 3))
    stacked = jax.vmap(lambda scale: jax.tree.map(lambda a: a * scale, k))(jnp.arange(2.0))
    assert isinstance(stacked, jn.Kronecker) and stacked.first.shape == (2, 2, 2)
    same(jax.vmap(jn.Kronecker.matrix)(stacked), np.stack([np.zeros((6, 6)), np.eye(6)]))


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
    params, x, target = r.weights(3, 4, 2), r(3, 3), np.array([0, 1, 1])
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

    compare(table, jax.device_put((w, k, square)))


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
    params, x = r.weights(3, 2, 1), r(1, 3)

    def table(params):
        factors = jn.kfac_factors(mlp, jn.squared_error)(params, x, x[:, :1])
        whole = jn.ggn(mlp, jn.squared_error)(params, x, x[:, :1]).matrix()
        return {"weights": (factors[0][0].matrix(), whole[:6, :6]), "biases": (factors[0][1].matrix(), whole[6:8, 6:8])}

    compare(table, params)


@pytest.mark.parametrize("axes", [(), (4,)])
def test_what_is_cut_out_of_one_product_is_one_use(axes):
    """A fused projection: what comes back through both halves is one gradient V, whose square has their product, too."""
    x, w, target = r(3, *axes, 2), jax.device_put(r(6, 2)), r(3, 3)

    def from_projected(z):
        first, second = jnp.split(z, 2, -1)
        y = jnp.tanh(first) * jnp.cumsum(second, 1)
        return y.mean(1) if axes else y

    def table(w):
        z = x @ w.T
        v = np.sqrt(2) * jax.jacrev(from_projected)(z)  # of squared errors, of which 2 I is the Hessian
        v = jnp.einsum("bkb...o->bk...o", v).reshape(-1, 6)
        rows, inputs = len(v), jnp.broadcast_to(x[:, None], (3, 3, *axes, 2)).reshape(-1, 2)
        found = jn.kfac_factors(lambda w, x: from_projected(jn.linear(x, w)), jn.squared_error)(w, x, target)
        return {"factors": ((found.first, found.last), (v.T @ v, inputs.T @ inputs / rows))}

    compare(table, w)
