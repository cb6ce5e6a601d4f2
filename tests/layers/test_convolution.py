"""Convolutions and pooling against loops in plain NumPy, exact tables at ties and edges, and published bugs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets

from ..sweeps import swept

INF, NAN = np.inf, np.nan


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max())
    )


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual, np.float64), np.asarray(expected, np.float64))


def value_and_grad(layer, x, **config):
    """The outputs, and the gradient of their sum."""

    return at_once(lambda x: (layer(x, **config), jaxnets.grad(lambda x: jnp.sum(layer(x, **config)))(x)), x)


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


# --- convolutions as loops ----------------------------------------------------------------------------------------


def spread(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def pairs(padding, rank):
    return [pair if isinstance(pair, tuple) else (pair, pair) for pair in spread(padding, rank)]


def conv_loop(x, w, stride=1, padding=0, dilation=1, groups=1):
    """y[b, o, p] of x [b, c, *space], one number at a time."""
    rank = w.ndim - 2
    stride, dilation, pads = spread(stride, rank), spread(dilation, rank), pairs(padding, rank)
    rows = zip(x.shape[2:], w.shape[2:], stride, dilation, pads, strict=True)
    space = [len(range(0, n + sum(pad) - d * (k - 1), s)) for n, k, s, d, pad in rows]
    y = np.zeros((len(x), len(w), *space))
    for b, o, *p in np.ndindex(y.shape):
        group = o // (len(w) // groups)
        for i, *k in np.ndindex(w.shape[1:]):
            at = [s * q + d * m - low for s, q, d, m, (low, _) in zip(stride, p, dilation, k, pads, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
                y[b, o, *p] += w[o, i, *k] * x[b, group * w.shape[1] + i, *at]
    return y


def conv_transpose_loop(x, w, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """Every entry of x adds a multiple of its kernel to a canvas, whose edges are cut off."""
    rank = w.ndim - 2
    stride, dilation, pads = spread(stride, rank), spread(dilation, rank), pairs(padding, rank)
    more = spread(output_padding, rank)
    rows = zip(x.shape[2:], w.shape[2:], stride, dilation, more, strict=True)
    canvas = np.zeros((len(x), groups * w.shape[1], *((n - 1) * s + d * (k - 1) + 1 + m for n, k, s, d, m in rows)))
    per_group = len(w) // groups
    for b, i, *u in np.ndindex(x.shape):
        for o, *k in np.ndindex(w.shape[1:]):
            at = [s * a + d * m for s, a, d, m in zip(stride, u, dilation, k, strict=True)]
            canvas[b, i // per_group * w.shape[1] + o, *at] += w[i, o, *k] * x[b, i, *u]
    return canvas[:, :, *(slice(low, n - high) for (low, high), n in zip(pads, canvas.shape[2:], strict=True))]


CONV = [
    ((2, 3, 7), (4, 3, 3), {}),
    ((2, 2, 7), (3, 2, 2), {"stride": 3}),
    ((2, 2, 8), (3, 2, 3), {"stride": 2, "padding": 1}),
    ((1, 2, 5), (3, 2, 2), {"stride": 4}),
    ((1, 2, 6), (2, 2, 3), {"padding": ((0, 3),), "dilation": 2}),
    ((2, 4, 6), (6, 2, 2), {"groups": 2, "stride": 2}),
    ((2, 3, 5), (6, 1, 3), {"groups": 3, "padding": (2,)}),
    ((2, 2, 4), (3, 2, 1), {}),
    ((2, 2, 5), (3, 2, 1), {"stride": 2}),
    ((2, 2, 5), (3, 2, 1), {"padding": 1}),
    ((1, 2, 1), (2, 2, 3), {"padding": 1}),
    ((2, 2, 5, 4), (3, 2, 2, 3), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 1)}),
    ((1, 4, 5, 6), (2, 2, 3, 2), {"padding": ((1, 0), (0, 2)), "dilation": (1, 3), "groups": 2}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 1, 3), {"stride": (1, 2, 1), "padding": (0, 0, 1)}),
]  # fmt: skip


def check_linear(name, loop, x, w, config):
    """The layer is linear in x and in w, so products with its Jacobians are the layer of other arrays."""
    x, w = normal(*x), normal(*w, seed=1)
    v, kernel, expected = normal(*x.shape, seed=2), normal(*w.shape, seed=3), loop(x, w, **config)
    b, u = normal(expected.shape[1], seed=4), normal(*expected.shape, seed=5)
    layer, named = jaxnets.LAYERS[name], jaxnets.LAYERS[f"{name}{w.ndim - 2}d"]

    def run(x, w, b, v, kernel, u):
        y, jacobians = jaxnets.value_and_jacobian(lambda *args: layer(*args, **config), (0, 1, 2))(x, w, b)
        by_x, by_w, by_b = jacobians
        dense = [by_x.dense().reshape(u.size, -1), by_w.dense().reshape(u.size, -1)]
        return y, named(x, w, **config), by_x @ v, by_w @ kernel, u @ by_x, u @ by_w, u @ by_b, *dense

    y, same, pushed_x, pushed_w, pulled_x, pulled_w, pulled_b, by_x, by_w = at_once(run, x, w, b, v, kernel, u)
    close(same, expected)
    close(y, expected + b.reshape(-1, *[1] * (w.ndim - 2)))
    by_v, by_kernel = loop(v, w, **config), loop(x, kernel, **config)
    close(pushed_x, by_v)
    close(pushed_w, by_kernel)
    close(by_x @ v.ravel(), by_v.ravel())
    close(by_w @ kernel.ravel(), by_kernel.ravel())
    close(pulled_x, (u.ravel() @ by_x).reshape(x.shape))
    close(pulled_w, (u.ravel() @ by_w).reshape(w.shape))
    close(pulled_b, u.sum((0, *range(2, u.ndim))))


@pytest.mark.parametrize("x, w, config", swept(CONV, 2, several=True), ids=str)
def test_convolution_and_its_products(x, w, config):
    check_linear("conv", conv_loop, x, w, config)


TRANSPOSED = [
    ((2, 3, 4), (3, 2, 3), {}),
    ((2, 2, 3), (2, 3, 2), {"stride": 3}),
    ((2, 2, 3), (2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 2, 3), (2, 2, 3), {"dilation": 2, "padding": ((1, 2),), "output_padding": 1}),
    ((1, 2, 4), (2, 2, 2), {"stride": 2, "dilation": 3, "output_padding": 2}),
    ((2, 4, 3), (4, 3, 2), {"groups": 2, "stride": 2}),
    ((2, 2, 4), (2, 3, 1), {}),
    ((2, 2, 1), (2, 3, 1), {"stride": 2, "output_padding": 1}),
    ((2, 2, 3, 2), (2, 3, 2, 3), {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0)}),
    ((1, 2, 2, 1, 2), (2, 1, 2, 1, 2), {"stride": (1, 1, 2)}),
]  # fmt: skip


@pytest.mark.parametrize("x, w, config", swept(TRANSPOSED, 2, several=True), ids=str)
def test_transposed_convolution_and_its_products(x, w, config):
    check_linear("conv_transpose", conv_transpose_loop, x, w, config)


@given(n=st.integers(1, 9), k=st.integers(1, 4), s=st.integers(1, 4), d=st.integers(1, 3), pad=st.integers(0, 3))
def test_transposed_convolution_is_the_transpose(n, k, s, d, pad):
    """⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩, with the output padding that the size of x asks for."""
    room = n + 2 * pad - d * (k - 1) - 1
    if room < 0:
        return
    x, w = normal(1, 2, n), normal(3, 2, k)
    y = normal(1, 3, room // s + 1)
    config = {"stride": s, "dilation": d, "padding": pad}
    if (k - 1) * d + 1 + room // s * s - 2 * pad < 1:  # one that cuts off all of its output
        return

    def both(x, y, w):
        return jaxnets.conv(x, w, **config), jaxnets.conv_transpose(y, w, output_padding=room % s, **config)

    there, back = at_once(both, x, y, w)
    assert back.shape == x.shape
    close(np.vdot(there, y), np.vdot(x, back))


@pytest.mark.parametrize("n, k, s, d, size, low", [
    (5, 3, 1, 1, 5, 1), (5, 2, 1, 1, 5, 0), (5, 4, 1, 1, 5, 1), (5, 2, 1, 3, 5, 1), (5, 3, 2, 1, 3, 1), (6, 3, 2, 1, 3, 0),
    (4, 1, 3, 1, 2, 0), (7, 3, 3, 1, 3, 1),
])  # fmt: skip
def test_padding_by_word(n, k, s, d, size, low):
    """⌈n/stride⌉ outputs; what is odd comes last."""
    x, w = normal(1, 1, n), normal(1, 1, k)

    def run(x, w):
        by_word = [jaxnets.conv(x, w[:, :, :1], stride=s, padding=padding) for padding in ("VALID", 0)]
        return jaxnets.conv(x, w, stride=s, dilation=d, padding="Same"), *by_word

    y, valid, none = at_once(run, x, w)
    assert y.shape == (1, 1, size)
    close(y, conv_loop(x, w, s, ((low, 99),), d)[:, :, :size])
    array_equal(valid, none)


@pytest.mark.parametrize("layer", [jaxnets.conv, jaxnets.conv_transpose], ids=str)
def test_leading_axes_are_batch(layer):
    x, w = normal(2, 3, 2, 5), normal(2, 2, 2)

    def run(x, w):
        y, j = jaxnets.value_and_jacobian(layer)(x, w)
        assert j.batched
        parts = [(layer(part, w), jaxnets.jacobian(layer)(part, w).dense()) for part in x]
        return y, j.per_example(), parts, layer(x[1, 2], w)

    y, whole, parts, one = at_once(run, x, w)
    for a, (part, block) in enumerate(parts):
        close(y[a], part)
        close(whole[a], block)
    close(y[1, 2], one)


@pytest.mark.parametrize("layer", [jaxnets.conv, jaxnets.conv_transpose], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_no_examples_and_no_channels(layer, groups):
    w = normal(2, 2 // groups, 3)
    x = np.zeros((0, 2, 5))

    def run(x, w):
        y, by_w = jaxnets.value_and_jacobian(lambda w: layer(x, w, groups=groups))(w)
        return y, y @ by_w, layer(np.zeros((1, 0, 5)), np.zeros((0, 0, 3)))

    y, pulled, no_channels = at_once(run, x, w)
    assert y.shape[:2] == (0, 2)
    array_equal(pulled, np.zeros(w.shape))
    assert no_channels.shape[:2] == (1, 0)


def test_gradient_where_the_stride_does_not_divide_backpack30():
    """The last two of 8 entries are in no window: their gradient is 0, and the kernel's does not see them."""
    x, w = normal(1, 1, 8), normal(1, 1, 3)
    by_x, by_w = at_once(jaxnets.grad(lambda x, w: jnp.sum(jaxnets.conv(x, w, stride=3)), (0, 1)), x, w)
    close(by_x[0, 0], [*w[0, 0], *w[0, 0], 0, 0])
    close(by_w[0, 0], x[0, 0, :3] + x[0, 0, 3:6])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sums_in_float32(dtype):
    """1 + 4096 · 2⁻¹² in 16 bits would stay 1; the dtype is kept."""
    x, w = np.full((1, 4097, 1), 2.0**-12, dtype), np.ones((1, 4097, 1), dtype)
    x[0, 0] = 1

    def run(x, w):
        by_w = jaxnets.grad(lambda w: jnp.sum(jaxnets.conv(jnp.swapaxes(x, 0, 1), w)))(w[:, :1])
        transposed, with_bias = jaxnets.conv_transpose(x, jnp.swapaxes(w, 0, 1)), jaxnets.conv(x, w, jnp.zeros(1, dtype))
        return jaxnets.conv(x, w), transposed, with_bias, by_w

    for y in at_once(run, x, w):
        assert y.dtype == dtype
        assert y.item() == 2


def test_infinity_stays_in_its_windows():
    x = np.zeros((1, 1, 6))
    x[0, 0, 2] = INF

    def run(x, w):
        return jaxnets.conv(x, w), jaxnets.avg_pool(x, kernel_size=2, stride=1), jaxnets.adaptive_avg_pool(x, output_size=4)

    convolved, averaged, adapted = at_once(run, x, np.ones((1, 1, 2)))
    array_equal(convolved[0, 0], [0, INF, INF, 0, 0])
    array_equal(averaged[0, 0], [0, INF, INF, 0, 0])
    array_equal(adapted[0, 0], [0, INF, 0, 0])


@pytest.mark.parametrize("name, shapes, config, formulae", [
    ("conv", [(2, 2, 9), (4, 1, 3)], {"stride": 2, "padding": 1, "dilation": 3, "groups": 2},
     ["∂y[b,go,p]/∂x[b,g,u] = w[go,0,(u−2p+1)/3]", "∂y[b,go,p]/∂w[go,0,k] = x[b,g,2p+3k−1]"]),
    ("conv", [(2, 3, 9), (4, 3, 1)], {"stride": 2},
     ["∂y[b,o,p]/∂x[b,i,u] = w[o,i,u−2p]", "∂y[b,o,p]/∂w[o,i,0] = x[b,i,2p]"]),
    ("conv", [(2, 3, 9), (4, 3, 1)], {}, ["∂y[b,o,p]/∂x[b,i,p] = w[o,i]", "∂y[b,o,p]/∂w[o,i,0] = x[b,i,p]"]),
    ("conv", [(3, 9), (4, 3, 9)], {}, ["∂y[o,0]/∂x[i,u] = w[o,i,u]", "∂y[o,0]/∂w[o,i,k] = x[i,k]"]),
    ("conv_transpose", [(2, 3, 4), (3, 5, 3)], {"stride": 2, "padding": 1},
     ["∂y[b,o,p]/∂x[b,i,u] = w[i,o,p−2u+1]", "∂y[b,o,p]/∂w[i,o,k] = x[b,i,(p−k+1)/2]"]),
    ("avg_pool", [(2, 3, 4, 9)], {"kernel_size": (2, 3)}, ["∂y[b,c,p,q]/∂x[b,c,pk,ql] = 0.1667"]),
    ("avg_pool", [(2, 3, 4, 8)], {"kernel_size": (2, 3)}, ["∂y[b,c,p,q]/∂x[b,c,pk,v] = 0.5·B[q,v]"]),
    ("max_pool", [(9,)], {"kernel_size": (2,)}, ["∂y[p]/∂x[u] = δ(u, k[p])"]),
])  # fmt: skip
def test_formulae(name, shapes, config, formulae):
    layer, args = jaxnets.LAYERS[name], [normal(*shape) for shape in shapes]
    given = [*args, *[None] * (3 - len(args))] if "conv" in name else args
    defaults = {p.name: p.default for p in layer.signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    blocks = jax.eval_shape(lambda: layer.jacobians([layer(*args, **config)], given, defaults | config)[0])
    assert [j.formula for j in blocks if j is not None] == formulae


# --- what is computed, and what is not ----------------------------------------------------------------------------


def equations(function, *args):
    """Every primitive that the function runs, with the sizes of its outputs; those of inner functions too."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name, max(math.prod(v.aval.shape) for v in equation.outvars)
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", None)
                if inner is not None:
                    yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*args).jaxpr))


def test_gradient_of_a_kernel_is_one_convolution():
    """Summed over examples inside: no kernel for every example, and no patches of x."""
    x, w = np.zeros((50, 3, 8, 8)), np.zeros((4, 3, 5, 5))
    found = equations(jaxnets.grad(lambda w: jnp.sum(jnp.square(jaxnets.conv(x, w)))), w)
    assert [name for name, _ in found].count("conv_general_dilated") == 1  # but for the forward, inside the layer
    assert max(size for _, size in found) <= x.size
    assert max(size for _, size in found) < len(x) * w.size


def test_products_are_one_convolution():
    x, w = np.zeros((50, 3, 8, 8)), np.zeros((4, 3, 5, 5))
    for a, v in ((0, x), (1, w)):
        j = jax.eval_shape(jaxnets.jacobian(jaxnets.conv, a), x, w)
        for found in (equations(lambda j, v: j @ v, j, v), equations(lambda j, u: u @ j, j, np.zeros(j.out_shape))):
            names = [name for name, _ in found]
            assert names.count("conv_general_dilated") == 1
            assert not {"dot_general", "gather"} & set(names)


def test_products_of_the_operator_itself():
    """`push` and `pull` take and give [n, g, …], a row for each of n arrays."""
    x, w, u = normal(3, 4, 5), normal(6, 2, 2), normal(3, 6, 4)

    def run(x, w, u):
        (factor,) = jaxnets.jacobian(lambda x: jaxnets.conv(x, w, groups=2))(x).terms[0].factors
        return factor.push(x.reshape(3, 2, 2, 5)), factor.pull(u.reshape(3, 2, 3, 4))

    pushed, pulled = at_once(run, x, w, u)
    assert (pushed.shape, pulled.shape) == ((3, 2, 3, 4), (3, 2, 2, 5))
    close(pushed.reshape(u.shape), conv_loop(x, w, groups=2))
    close(np.vdot(pushed, u), np.vdot(x, pulled))


def test_gradients_example_by_example():
    """They keep the batch index: a product with patches of x."""
    x, w = normal(5, 2, 6), normal(3, 2, 3)

    def losses(w):
        return jnp.sum(jnp.tanh(jaxnets.conv(x, w, stride=2, padding=1)), (1, 2))

    close(*at_once(lambda w: (jaxnets.jacobian(losses)(w).dense(), jax.jacrev(losses)(w)), w))
    names = [name for name, _ in equations(lambda w: jaxnets.jacobian(losses)(w).dense(), w)]
    assert "dot_general" in names
    assert "conv_general_dilated" not in names


def test_jacobian_by_the_input_holds_the_kernel_once():
    x, w = np.zeros((64, 3, 32, 32)), np.zeros((8, 3, 3, 3))
    by_x, by_w = jax.eval_shape(jaxnets.jacobian(lambda x, w: jaxnets.conv(x, w, padding=1), (0, 1)), x, w)
    assert by_x.nbytes == w.nbytes
    assert by_w.nbytes == x.nbytes
    assert by_x.batched


def test_kernel_of_one_entry_does_not_mix_places():
    """A network of such kernels shares the places of its input with those of its output."""
    x, v, w = normal(2, 3, 4, 5), normal(6, 3, 1, 1), normal(3, 6, 1, 1)
    j = jax.eval_shape(jaxnets.jacobian(lambda x: jaxnets.conv(jnp.tanh(jaxnets.conv(x, v)), w)), x)
    assert j.formula.startswith("∂y[b,o,p,q]/∂x[b,i,p,q]")
    assert j.nbytes < 2 * 4 * 5 * (3 * 3 + 6 + 12) * 8


def convnet(params, x):
    w1, b1, w2, b2, w3, b3 = params
    x = jaxnets.max_pool(jaxnets.relu(jaxnets.conv(x, w1, b1, padding=1)), kernel_size=2)
    x = jaxnets.avg_pool(jaxnets.tanh(jaxnets.conv(x, w2, b2, stride=2)), kernel_size=2, stride=1)
    return jaxnets.linear(jaxnets.flatten(x), w3, b3)


def test_convolutional_network():
    """Gradient, Jacobian by the input and gradients example by example are those of JAX."""
    shapes = [(3, 1, 3, 3), (3,), (4, 3, 2, 2), (4,), (2, 4), (2,)]
    params, x = [normal(*shape, seed=7) for shape in shapes], normal(3, 1, 8, 8)
    labels = np.array([0, 1, 1])

    def loss(params, x):
        return jnp.mean(jaxnets.cross_entropy(convnet(params, x), labels))

    def run(params, x):
        jacobian = jaxnets.jacobian(convnet, (0, 1))(params, x)
        assert jacobian[1].batched
        by_rules = jax.grad(jaxnets.with_rules(loss))(params, x)
        gradient, expected = jax.grad(loss)(params, x), jax.jacrev(convnet, (0, 1))(params, x)
        return [jaxnets.grad(loss)(params, x), jaxnets.dense(jacobian), by_rules], [gradient, expected, gradient]

    for a, b in zip(*map(jax.tree.leaves, at_once(run, params, x)), strict=True):
        close(a, b)


def test_several_channels_of_cotangents():
    """Products with matrices on either side keep what the other side is indexed by."""
    x, w = normal(2, 2, 5), normal(3, 2, 2)

    def run(w):
        y, by_w = jaxnets.value_and_jacobian(lambda w: jaxnets.conv(x, w))(w)
        outer = jaxnets.jacobian(lambda y: jnp.einsum("bop,mbop->m", y, normal(4, 2, 3, 4)))(y)
        inner = jaxnets.jacobian(lambda z: jnp.einsum("oikn,n->oik", normal(3, 2, 2, 6), z))(normal(6))
        products = outer @ by_w, by_w @ inner, outer @ by_w @ inner, by_w @ by_w.T, by_w.T @ by_w
        return jaxnets.dense((by_w, outer, inner, products))

    whole, outer, inner, (left, right, both, gram, other) = at_once(run, w)
    close(left, np.tensordot(outer, whole, 3))
    close(right, np.tensordot(whole, inner, 3))
    close(both, np.tensordot(np.tensordot(outer, whole, 3), inner, 3))
    close(gram, np.tensordot(whole, whole, ((3, 4, 5), (3, 4, 5))))
    close(other, np.tensordot(whole, whole, ((0, 1, 2), (0, 1, 2))))


# --- pooling as loops ---------------------------------------------------------------------------------------------


def output_size(n, k, s, pad, d, ceil_mode):
    """As torch says: with ceil_mode no window may start in the padding behind."""
    steps = (n + 2 * pad - d * (k - 1) - 1) / s
    size = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    return size - 1 if ceil_mode and (size - 1) * s >= n + pad else size


def pooled(x, windows, reduce):
    """[*lead, *space] with `reduce` of every window; `windows` holds, for each axis, the places of each window."""
    lead = x.shape[: x.ndim - len(windows)]
    y = np.zeros((*lead, *map(len, windows)))
    for at in np.ndindex(y.shape):
        own = [rows[p] for rows, p in zip(windows, at[len(lead) :], strict=True)]
        y[at] = reduce(x[at[: len(lead)]], own)
    return y


def windows(space, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    rank, stride = len(space), kernel if stride is None else stride
    settings = [spread(value, rank) for value in (kernel, stride, padding, dilation)]
    return [
        [[s * p - pad + d * m for m in range(k)] for p in range(output_size(n, k, s, pad, d, ceil_mode))]
        for n, k, s, pad, d in zip(space, *settings, strict=True)
    ]


def entries(x, places):
    """The entries of x in a window, and where they are."""
    for at in np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, x.ndim):
        yield (x[*at] if all(0 <= a < n for a, n in zip(at, x.shape, strict=True)) else None), at


def largest(x, places):
    return max((entry for entry, _ in entries(x, places) if entry is not None), default=-INF)


def mean(padding, count_include_pad, divisor):
    def reduce(x, places):
        total, count = 0.0, 0
        for entry, at in entries(x, places):
            padded = all(-p <= a < n + p for a, n, p in zip(at, x.shape, spread(padding, x.ndim), strict=True))
            total += 0 if entry is None else entry
            count += entry is not None or (count_include_pad and padded)
        return total / (divisor or count)

    return reduce


def value_and_product(function, x, v):
    y, jacobian = jaxnets.value_and_jacobian(function)(x)
    return y, jacobian @ v


@st.composite
def pools(draw):
    """A shape of one or two axes of space, and a configuration that fits."""
    rank = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    pad = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, pad, dilation, strict=True)]
    space = [draw(st.integers(n, n + 4)) for n in least]
    stride = draw(st.none() | st.integers(1, 4) | st.tuples(*[st.integers(1, 3)] * rank))
    config = {"kernel_size": kernel, "stride": stride, "padding": pad, "ceil_mode": draw(st.booleans())}
    return space, config, dilation


@given(pools())
def test_max_pool(drawn):
    space, config, dilation = drawn
    x = normal(2, *space)
    own = windows(space, config["kernel_size"], config["stride"], config["padding"], dilation, config["ceil_mode"])
    found = at_once(lambda x: jaxnets.max_pool(x, dilation=dilation, **config), x)
    array_equal(found, pooled(x, own, largest))


@given(pools(), st.booleans(), st.sampled_from([None, 3, -2.5]))
def test_avg_pool(drawn, count_include_pad, divisor):
    space, config, _ = drawn
    x = normal(2, *[n + 4 for n in space])
    own = windows(x.shape[1:], config["kernel_size"], config["stride"], config["padding"], 1, config["ceil_mode"])
    reduce = mean(config["padding"], count_include_pad, divisor)
    config |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    v = normal(*x.shape, seed=1)
    y, pushed = jax.jit(value_and_product, static_argnums=0)(lambda x: jaxnets.avg_pool(x, **config), x, v)
    close(y, pooled(x, own, reduce))
    close(pushed, pooled(v, own, reduce))


@pytest.mark.parametrize("n", swept(range(1, 8), 3))
def test_adaptive_pools(n):
    """Every output size up to beyond the input's."""
    x, v = normal(2, n), normal(2, n, seed=1)

    def run(x, v):
        for m in range(1, 9):
            yield jaxnets.adaptive_max_pool(x, output_size=(m,))
            yield from value_and_product(lambda x, m=m: jaxnets.adaptive_avg_pool(x, output_size=(m,)), x, v)

    found = iter(jax.jit(lambda x, v: list(run(x, v)))(x, v))
    for m in range(1, 9):
        own = [[range(math.floor(p * n / m), math.ceil((p + 1) * n / m)) for p in range(m)]]
        array_equal(next(found), pooled(x, own, largest))
        close(next(found), pooled(x, own, mean(0, True, None)))
        close(next(found), pooled(v, own, mean(0, True, None)))


@pytest.mark.parametrize("name, key, last", [
    ("max_pool", "kernel_size", 3), ("avg_pool", "kernel_size", 3), ("adaptive_max_pool", "output_size", 2),
    ("adaptive_avg_pool", "output_size", 2),
])  # fmt: skip
def test_number_or_tuple_of_sizes(name, key, last):
    """One number goes for all axes behind batch and channels; a tuple says how many of the last axes are meant."""
    x = normal(2, 3, 4, 6)

    def run(x):
        layer = jaxnets.LAYERS[name]
        return layer(x, **{key: 2}), layer(x, **{key: (2, 2)}), layer(x[0, 0], **{key: (2, 2)}), layer(x, **{key: (2,)})

    whole, same, alone, one_axis = at_once(run, x)
    array_equal(whole, same)
    array_equal(whole[0, 0], alone)
    assert one_axis.shape == (2, 3, 4, last)


def test_whole_space():
    x = normal(2, 3, 4, 6)
    same, largest = at_once(lambda x: (jaxnets.adaptive_max_pool(x, output_size=(None, 6)), jaxnets.global_max_pool(x)), x)
    array_equal(same, x)
    array_equal(largest, x.max((2, 3)))
    close(jaxnets.global_avg_pool(x), x.mean((2, 3)))


# --- ties, edges and special values -------------------------------------------------------------------------------


def test_max_pool_with_overlap_ocannl512():
    x = np.array([5.0, 3, 1, 2, 5])
    array_equal(value_and_grad(jaxnets.max_pool, x, kernel_size=(2,), stride=1)[1], [1, 1, 0, 1, 1])
    array_equal(value_and_grad(jaxnets.max_pool, x, kernel_size=(2,), stride=1, padding=1)[1], [2, 1, 0, 1, 2])


# x, configuration, values, gradient of their sum
MAXIMA = [
    ([1, 1, 1, 1], {"kernel_size": (2,)}, [1, 1], [1, 0, 1, 0]),
    ([2, 1, 2], {"kernel_size": (3,)}, [2], [1, 0, 0]),
    ([0.0, -0.0], {"kernel_size": (2,)}, [0], [1, 0]),
    ([-0.0, 0.0], {"kernel_size": (2,)}, [0], [1, 0]),
    ([1, 1, 1], {"kernel_size": (2,), "stride": 1}, [1, 1], [1, 1, 0]),
    ([-INF, -INF], {"kernel_size": (2,), "padding": 1}, [-INF, -INF], [1, 1]),
    ([-INF, -INF, -INF], {"kernel_size": (3,), "padding": 1, "stride": 1}, [-INF] * 3, [2, 1, 0]),
    ([-5, -7], {"kernel_size": (2,), "padding": 1}, [-5, -7], [1, 1]),
    ([INF, INF], {"kernel_size": (2,)}, [INF], [1, 0]),
    ([1, NAN, INF, NAN], {"kernel_size": (4,)}, [NAN], [0, 1, 0, 0]),
    ([NAN, 1, 2, 3], {"kernel_size": (2,)}, [NAN, 3], [1, 0, 0, 1]),
    ([1, NAN, 2], {"kernel_size": (3,), "padding": 1, "stride": 1}, [NAN] * 3, [0, 3, 0]),
    ([1e4, 88.8, -710, -1e4], {"kernel_size": (2,)}, [1e4, -710], [1, 0, 1, 0]),
    ([1, 2, 3], {"kernel_size": (2,), "ceil_mode": True}, [2, 3], [0, 1, 1]),
    ([1, 2, 3], {"kernel_size": (2,)}, [2], [0, 1, 0]),
    ([3], {"kernel_size": (2,), "padding": 1, "dilation": 2}, [-INF], [0]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", swept(["bfloat16", "float64"], ["float64"]))
@pytest.mark.parametrize("x, config, values, gradient", MAXIMA, ids=str)
def test_maxima(x, config, values, gradient, dtype):
    """The first of equal entries is selected; padding never is; NaN is larger than all numbers."""
    y, slope = value_and_grad(jaxnets.max_pool, np.asarray(x, dtype), **config)
    assert y.dtype == slope.dtype == dtype
    array_equal(y, np.asarray(values, dtype))
    array_equal(slope, gradient)


@functools.cache
def corner(layer, **config):
    """Of a pool with one window: its output, and the gradients of that by our rule and by JAX."""

    def value(x):
        return layer(x[None, None], **config).reshape(())

    return jax.jit(lambda x: (*jaxnets.value_and_grad(value)(x), jax.grad(value)(x)))


@pytest.mark.parametrize("layer, config", [
    (jaxnets.max_pool, {"kernel_size": 2}), (jaxnets.adaptive_max_pool, {"output_size": 1}), (jaxnets.global_max_pool, {}),
], ids=["max_pool", "adaptive_max_pool", "global_max_pool"])  # fmt: skip
@pytest.mark.parametrize("x, first", [
    ([[1, 1], [1, 1]], (0, 0)), ([[0, 1], [1, 0]], (0, 1)), ([[0, 0], [1, 1]], (1, 0)), ([[-INF] * 2] * 2, (0, 0)),
    ([[0, NAN], [NAN, 5]], (0, 1)), ([[INF, 0], [NAN, 5]], (1, 0)), ([[1, 2], [2, NAN]], (1, 1)),
])  # fmt: skip
def test_first_in_row_major_order(layer, config, x, first):
    """JAX's own gradient of the forward selects the same."""
    x, expected = np.asarray(x, float), np.zeros((2, 2))
    y, slope, plain = jax.device_get(corner(layer, **config)(x))
    expected[first] = 1
    array_equal(y, x[first])
    array_equal(slope, expected)
    array_equal(plain, expected)


# x, configuration, values: what is counted at the edges
MEANS = [
    ([1, 1, 1, 1], {"kernel_size": (3,), "stride": 1, "padding": 1}, [2 / 3, 1, 1, 2 / 3]),
    ([1, 1, 1, 1], {"kernel_size": (3,), "stride": 1, "padding": 1, "count_include_pad": False}, [1, 1, 1, 1]),
    ([1, 1, 1], {"kernel_size": (2,), "ceil_mode": True}, [1, 1]),
    ([1, 1, 1, 1], {"kernel_size": (3,), "stride": 2, "padding": 1, "ceil_mode": True}, [2 / 3, 1, 1 / 2]),
    ([1, 1, 1, 1], {"kernel_size": (3,), "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}, [1] * 3),
    ([1, 1, 1, 1], {"kernel_size": (2,), "stride": 3, "padding": 1, "ceil_mode": True}, [1 / 2, 1]),
    ([1, 1, 1, 1], {"kernel_size": (2,), "divisor_override": 1}, [2, 2]),
    ([1, 1, 1], {"kernel_size": (2,), "ceil_mode": True, "divisor_override": 2}, [1, 1 / 2]),
    ([2, NAN, 4, 6], {"kernel_size": (2,)}, [NAN, 5]),
    ([1e4, -1e4, 88.75, 88.75], {"kernel_size": (2,)}, [0, 88.75]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("x, config, values", MEANS, ids=str)
def test_means_flax2401(x, config, values, dtype):
    """Padding counts or not; what a last window has beyond the padding never does."""
    y = at_once(lambda x: jaxnets.avg_pool(x, **config), np.asarray(x, dtype))
    assert y.dtype == dtype
    array_equal(y, np.asarray(values, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_means_of_half_precision_do_not_overflow(dtype):
    def run(x):
        return jaxnets.avg_pool(x, kernel_size=8), jaxnets.adaptive_avg_pool(x, output_size=3), jaxnets.global_avg_pool(x)

    for y in at_once(run, np.full((1, 1, 8), 6e4, dtype)):
        assert y.dtype == dtype
        array_equal(y, np.full(y.shape, 6e4, dtype))


def test_no_examples_in_pools():
    x = np.zeros((0, 2, 6))
    for layer, config in (
        (jaxnets.max_pool, {"kernel_size": 2}), (jaxnets.avg_pool, {"kernel_size": 3, "stride": 1}),
        (jaxnets.adaptive_max_pool, {"output_size": 4}), (jaxnets.global_max_pool, {}), (jaxnets.global_avg_pool, {}),
    ):  # fmt: skip
        y, slope = value_and_grad(layer, x, **config)
        assert y.shape[:2] == (0, 2)
        assert slope.shape == x.shape


def test_windows_that_tile_store_nothing():
    x = np.zeros((2, 3, 8, 8))

    def stored(layer, **config):
        return jax.eval_shape(jaxnets.jacobian(lambda x: layer(x, **config)), x).nbytes

    assert stored(jaxnets.avg_pool, kernel_size=2) == 0
    assert stored(jaxnets.adaptive_avg_pool, output_size=4) == 0
    assert stored(jaxnets.global_avg_pool) == 0
    assert stored(jaxnets.avg_pool, kernel_size=3) == 2 * 2 * 8 * 8  # two matrices
    assert stored(jaxnets.max_pool, kernel_size=2) == 4 * 2 * 3 * 4 * 4  # an index for every output
