"""Normalisations against NumPy, and the structure of their Jacobians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from ..sweeps import swept
from .comparing import near, normal
from .normalizations import OVER, at_once, trained

# --- values -------------------------------------------------------------------------------------------------------


def over_columns(x, axes, eps, centred=True):
    """x̂ computed by NumPy on one column for each row: E x² by sums of outer products, no keepdims."""
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    rows = np.transpose(x, order)
    shape = rows.shape
    rows = rows.reshape(int(np.prod(shape[: x.ndim - len(axes)])), -1)
    found = []
    for row in rows:
        row = row - sum(row) / len(row) * centred
        found.append(row / np.sqrt(np.dot(row, row) / len(row) + eps))
    return np.transpose(np.reshape(found, shape), np.argsort(order))


@pytest.mark.parametrize("axes", swept([-1, 0, 1, (1, 2), (-1, 0), (0, 1, 2)], 2), ids=str)
@pytest.mark.parametrize("name, eps", [("layer_norm", 1e-5), ("rms_norm", 1e-6), ("layer_norm", 0.3), ("rms_norm", 0.0)])
def test_layer_norm_and_rms_norm(name, eps, axes):
    x = normal(3, 4, 5)
    own = sorted(np.atleast_1d(axes) % 3)
    scale, bias = normal(*(x.shape[a] for a in own), seed=1), normal(*(x.shape[a] for a in own), seed=2)
    along = [n if a in own else 1 for a, n in enumerate(x.shape)]
    hat = over_columns(x, own, eps, name == "layer_norm")
    bias = None if name == "rms_norm" else bias
    parameters = [scale] if bias is None else [scale, bias]
    plain, scaled = jax.jit(lambda x: [jn.LAYERS[name](x, *more, axis=axes, eps=eps) for more in ([], parameters)])(x)
    near(plain, hat)
    near(scaled, hat * scale.reshape(along) + (0 if bias is None else bias.reshape(along)), atol=1e-15)


def test_default_eps():
    """That of torch for layer, group, instance and batch norm, that of flax for rms norm."""
    x = np.array([[[1e-3, -1e-3]]])
    layers = jn.layer_norm, jn.instance_norm, lambda x: jn.group_norm(x, groups=1), trained, jn.rms_norm
    *found, rms = at_once(lambda x: [layer(x) for layer in layers])(x)
    for y in found:
        near(y, x / np.sqrt(1e-6 + 1e-5))
    near(rms, x / np.sqrt(2e-6))


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (3, 6, 2, 2)], ids=str)
def test_group_norm_between_layer_norm_and_instance_norm(shape):
    x, scale, bias = normal(*shape), normal(6, seed=1), normal(6, seed=2)
    channel = [6 if a == 1 else 1 for a in range(len(shape))]

    @jax.jit
    def compute(x):
        whole = jn.layer_norm(x, axis=tuple(range(1, x.ndim)))
        own = jn.instance_norm(x, scale=scale, bias=bias) if x.ndim > 2 else None
        return [jn.group_norm(x, scale, bias, groups=n) for n in (1, 2, 3, 6)], jn.group_norm(x, groups=1), whole, own

    found, one, whole, own = compute(x)
    for groups, y in zip((1, 2, 3, 6), found, strict=True):
        parts = x.reshape(shape[0], groups, -1)
        hat = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)
        near(y, hat.reshape(shape) * scale.reshape(channel) + bias.reshape(channel), atol=1e-15)
    near(one, whole)
    if own is not None:
        near(found[-1], own, atol=1e-15)


def test_normalize():
    near(jn.normalize(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0.0, -1.0]], 1e-15)
    x = normal(3, 4, 5)
    of_two, short = at_once(lambda x: (jn.normalize(x, axis=(0, 2)), jn.normalize(x, axis=1, eps=10.0)))(x)
    near(of_two, x / np.linalg.norm(x.transpose(1, 0, 2).reshape(4, 15), axis=1)[:, None])
    near(short, x / 10)


def test_standardize():
    x, mean, std = normal(6, 3, 4), normal(3, 1, seed=1), np.array([[2.0], [1e-9], [0.0]])

    @at_once
    def compute(x, *given):
        return jn.standardize(x), jn.standardize(x, axis=(0, 2)), jn.standardize(x, *given, eps=1e-3)

    over_batch, over_two, by_given = compute(x, mean, std)
    near(over_batch, (x - x.mean(0)) / x.std(0))
    near(over_two, (x - x.mean((0, 2))[:, None]) / x.std((0, 2))[:, None])
    near(by_given, (x - mean) / np.array([[2.0], [1e-3], [1e-3]]))


def test_standardize_as_in_training():
    """Statistics of a training set go with other data."""
    train, test = normal(50, 3) * 5 + 2, normal(4, 3, seed=1)

    @at_once
    def compute(train, test, *given):
        j = jn.jacobian(lambda x: jn.standardize(x, *given))(test)
        assert j.batched and j.structure == "diagonal"
        return jn.standardize(train, *given), jn.standardize(train), j.diagonal()

    by_given, own, diagonal = compute(train, test, train.mean(0), train.std(0))
    equal(by_given.shape, train.shape)
    near(by_given, own, atol=1e-14)
    near(diagonal, np.broadcast_to(1 / train.std(0), test.shape))


# --- structure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["group_norm", "instance_norm", "layer_norm", "rms_norm", "normalize"])
def test_examples_are_independent(name):
    x, config = normal(3, 4, 2), {"groups": 2} if name == "group_norm" else {}

    @jax.jit
    def compute(x):
        y, j = jn.value_and_jacobian(lambda x: jn.LAYERS[name](x, **config))(x)
        assert j.batched or len(x) == 1
        return y, j.per_example() if j.batched else j.dense()[:, :, :, 0]

    whole, blocks = compute(x)
    for b in range(len(x)):
        y, block = compute(x[b : b + 1])
        near(whole[b : b + 1], y, 1e-14)
        near(blocks[b : b + 1], block, atol=1e-14)


def largest(function, *args):
    """The most entries of any array that a function makes."""
    return max(v.aval.size for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns for v in eqn.outvars)


@pytest.mark.parametrize("name", OVER)
def test_products_store_nothing_quadratic(name):
    layer, _ = OVER[name]
    x = normal(4, 5, 60)
    j = jax.eval_shape(jn.jacobian(layer), x)
    assert j.nbytes < 3 * x.nbytes
    assert largest(lambda j, v: j @ v, j, x) == x.size
    assert largest(lambda j, u: u @ j, j, x) == x.size
    assert largest(jn.grad(lambda x: jnp.sum(layer(x) ** 2)), x) == x.size


@pytest.mark.parametrize("name", OVER)
def test_null_space(name):
    """Adding a constant changes nothing; nor does scaling, but for eps."""
    layer, axes = OVER[name]
    x = normal(3, 4, 5)

    @at_once
    def compute(x):
        y, j = jn.value_and_jacobian(layer)(x)
        return j @ jnp.ones(x.shape), j @ x, j @ y, y @ j

    shifted, scaled, pushed, pulled = compute(x)
    near(shifted, np.zeros(x.shape), atol=1e-14)
    near(scaled, np.zeros(x.shape), atol=1e-3)
    near(pushed, pulled, atol=1e-14)  # symmetric


def test_formulas():
    def formula(layer, x):
        return jax.eval_shape(jn.jacobian(layer), x).formula

    x = np.ones((2, 4, 3))
    assert formula(lambda x: jn.layer_norm(x, axis=(1, 2)), x) == (
        "∂y[b,t,i]/∂x[b,j,k] = r[b]·(δ(ti,jk) − 1/n − x̂[b,t,i]·x̂[b,j,k]/n)"
    )
    assert formula(trained, x) == "∂y[b,c,s]/∂x[i,c,j] = r[c]·(δ(bs,ij) − 1/n − x̂[b,c,s]·x̂[i,c,j]/n)"
    assert formula(jn.normalize, x[0, 0]) == "∂y[i]/∂x[j] = r·(δ(i,j) − x̂[i]·x̂[j])"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_local_response_norm_against_a_loop(size):
    x = normal(2, 4, 3)
    expected = np.zeros_like(x)
    for c in range(4):
        window = x[:, max(0, c - size // 2) : c - size // 2 + size]
        expected[:, c] = x[:, c] / (0.5 + 0.3 / size * np.square(window).sum(1)) ** 1.5
    near(jn.local_response_norm(x, size=size, alpha=0.3, beta=1.5, k=0.5), expected, atol=1e-14)


@pytest.mark.parametrize("axes", [(1,), (0, 2)], ids=str)
def test_statistics_of_layer_norm(axes):
    """They undo the normalisation, and stand where ONNX has Mean and InvStdDev."""
    x = 1e3 + normal(3, 4, 5)

    def compute(x):
        flat, kept = (jn.layer_norm_statistics(x, axis=axes, eps=1e-3, keepdims=keep) for keep in (False, True))
        return flat, kept, jn.layer_norm(x, axis=axes, eps=1e-3)

    (mean, inverse), kept, y = at_once(compute)(x)
    near(mean, x.mean(axes), 1e-13)
    near(inverse, 1 / np.sqrt(x.var(axes) + 1e-3), 1e-11)
    for value, whole in zip((mean, inverse), kept, strict=True):
        equal(np.expand_dims(value, axes), whole)
    near((x - kept[0]) * kept[1], y, 1e-9, 1e-12)


def test_statistics_beside_a_large_mean_and_of_constants():
    """1 / √5.25 from 10⁴ + 0…7 in float32; where nothing varies and eps is 0, r and its Jacobian are 0."""
    x = (1e4 + np.arange(8)).astype("float32")
    near(jn.layer_norm_statistics(x, eps=0.0)[1], 5.25**-0.5, 1e-6)
    (mean, inverse), (_, slope) = jn.value_and_jacobian(lambda x: jn.layer_norm_statistics(x, eps=0.0))(np.full(4, 3.0))
    equal([mean, inverse], [3.0, 0.0])
    equal(slope.dense(), np.zeros(4))


def test_scales_of_gemma_are_differences_to_one():
    x, scale = normal(3, 4), normal(4, seed=1)

    def both(x, scale):
        with_offset, plain = (functools.partial(jn.rms_norm, unit_offset=offset) for offset in (True, False))
        js = jn.jacobian(with_offset, (0, 1))(x, scale), jn.jacobian(plain, (0, 1))(x, 1 + scale)
        return with_offset(x, scale), plain(x, 1 + scale), jn.dense(js)

    y, expected, (ours, theirs) = jax.jit(both)(x, scale)
    near(y, expected, 1e-15)
    for a, b in zip(ours, theirs, strict=True):
        near(a, b, 1e-14)
    formula = jax.eval_shape(jn.jacobian(functools.partial(jn.rms_norm, unit_offset=True)), x, scale).formula
    assert "(1 + scale)[i]·r[b]" in formula
    equal(jn.rms_norm(x, unit_offset=True), jn.rms_norm(x))
