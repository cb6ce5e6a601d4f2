"""Convolutions against loops in plain NumPy, where edges, words and 16 bits matter, and the formulae of all windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets

from ..sweeps import swept
from .windows import INF, array_equal, at_once, close, conv_loop, conv_transpose_loop, normal

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
    ("avg_pool", [(2, 3, 4, 9)], {"kernel_size": (2, 3)}, ["∂y[b,c,p,q]/∂x[b,c,pk,ql] = 1/n"]),
    ("avg_pool", [(2, 3, 4, 8)], {"kernel_size": (2, 3)}, ["∂y[b,c,p,q]/∂x[b,c,pk,v] = 0.5·B[q,v]"]),
    ("max_pool", [(9,)], {"kernel_size": (2,)}, ["∂y[p]/∂x[u] = δ(u, k[p])"]),
])  # fmt: skip
def test_formulae(name, shapes, config, formulae):
    layer, args = jaxnets.LAYERS[name], [normal(*shape) for shape in shapes]
    given = [*args, *[None] * (3 - len(args))] if "conv" in name else args
    defaults = {p.name: p.default for p in layer.signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    blocks = jax.eval_shape(lambda: layer.jacobians([layer(*args, **config)], given, defaults | config)[0])
    assert [j.formula for j in blocks if j is not None] == formulae
