"""Pooling against loops in plain NumPy, and exact tables at ties and edges."""

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
from .windows import INF, NAN, array_equal, at_once, close, normal, pairs, spread


def value_and_grad(layer, x, **config):
    """The outputs, and the gradient of their sum."""

    return at_once(lambda x: (layer(x, **config), jaxnets.grad(lambda x: jnp.sum(layer(x, **config)))(x)), x)


def output_size(n, k, s, pad, d, ceil_mode):
    """As torch says: with ceil_mode no window may start in the padding behind."""
    steps = (n + sum(pad) - d * (k - 1) - 1) / s
    size = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    return size - 1 if ceil_mode and (size - 1) * s >= n + pad[0] else size


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
    settings = [spread(kernel, rank), spread(stride, rank), pairs(padding, rank), spread(dilation, rank)]
    return [
        [[s * p - pad[0] + d * m for m in range(k)] for p in range(output_size(n, k, s, pad, d, ceil_mode))]
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
            rows = zip(at, x.shape, pairs(padding, x.ndim), strict=True)
            padded = all(-low <= a < n + high for a, n, (low, high) in rows)
            total += 0 if entry is None else entry
            count += entry is not None or (count_include_pad and padded)
        return total / (divisor or max(1, count))

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
    if draw(st.booleans()):
        pad = tuple((p, draw(st.integers(0, k // 2))) for p, k in zip(pad, kernel, strict=True))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    least = [max(1, d * (k - 1) + 1 - sum(p)) for k, p, d in zip(kernel, pairs(pad, rank), dilation, strict=True)]
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
    space, config, dilation = drawn
    config["dilation"] = dilation
    x = normal(2, *[n + 4 for n in space])
    own = windows(x.shape[1:], config["kernel_size"], config["stride"], config["padding"], dilation, config["ceil_mode"])
    reduce = mean(config["padding"], count_include_pad, divisor)
    config |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    v = normal(*x.shape, seed=1)
    y, pushed = jax.jit(value_and_product, static_argnums=0)(lambda x: jaxnets.avg_pool(x, **config), x, v)
    close(y, pooled(x, own, reduce))
    close(pushed, pooled(v, own, reduce))


@pytest.mark.parametrize(
    "n, kernel, stride, dilation", [(5, 2, 1, 1), (5, 3, 2, 1), (6, 3, 2, 1), (7, 2, 3, 2), (4, 3, 1, 2)]
)
def test_same_padding_is_that_of_convolutions(n, kernel, stride, dilation):
    """⌈n/stride⌉ outputs, and with ones for a kernel a convolution gives the sum of every window."""
    x, options = normal(2, 1, n), {"stride": stride, "dilation": dilation, "padding": "same"}

    def run(x):
        pools = [jaxnets.avg_pool(x, kernel_size=kernel, count_include_pad=count, **options) for count in (True, False)]
        kernel_of_ones = jnp.ones((1, 1, kernel))
        sums, counts = (jaxnets.conv(a, kernel_of_ones, **options) for a in (x, jnp.ones_like(x)))
        return *pools, jaxnets.max_pool(x, kernel_size=kernel, **options), sums, counts

    counted, uncounted, largest, sums, counts = at_once(run, x)
    assert counted.shape == largest.shape == (2, 1, -(-n // stride))
    close(counted, sums / kernel)
    close(uncounted, sums / counts)
    assert np.isin(largest, x).all()


def test_global_pools_that_keep_the_axes():
    x = normal(2, 3, 4, 6)

    def run(x):
        for layer in (jaxnets.global_max_pool, jaxnets.global_avg_pool):
            yield from (layer(x, keepdims=True), layer(x), jaxnets.grad(lambda x, f=layer: jnp.sum(f(x, keepdims=True)))(x))

    largest, alone, picked, mean, alone_mean, slope = at_once(lambda x: list(run(x)), x)
    assert largest.shape == mean.shape == (2, 3, 1, 1)
    array_equal(largest[..., 0, 0], alone)
    array_equal(mean[..., 0, 0], alone_mean)
    array_equal(picked, x == largest)
    close(slope, np.full(x.shape, 1 / 24))


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


@given(pools(), st.sampled_from([1, 2, 3.5]))
def test_lp_pool(drawn, p):
    space, config, dilation = drawn
    x = normal(2, *space)
    own = windows(space, config["kernel_size"], config["stride"], config["padding"], dilation, config["ceil_mode"])

    def norm(x, places):
        return sum(abs(entry) ** p for entry, _ in entries(x, places) if entry is not None) ** (1 / p)

    found = at_once(
        lambda x: (jaxnets.lp_pool(x, p=p, dilation=dilation, **config), jaxnets.global_lp_pool(x[None], p=p)), x
    )
    close(found[0], pooled(x, own, norm))
    close(found[1], [[(abs(channel) ** p).sum() ** (1 / p) for channel in x]])


def test_norms_of_windows_neither_overflow_nor_vanish():
    """Every window has its own scale; at zeros the derivative is 0."""
    x = np.array([3e200, -4e200, 0, 0, 3e-200, 4e-200, 0, -2])
    y, slope = value_and_grad(jaxnets.lp_pool, x, kernel_size=(2,))
    np.testing.assert_allclose(y, [5e200, 0, 5e-200, 2], rtol=1e-15)
    close(slope, [0.6, -0.8, 0, 0, 0.6, 0.8, 0, -1])
    y, slope = value_and_grad(jaxnets.global_lp_pool, np.array([[[3e-30, -3e-30, 3e-30]], [[0, 0, 0]]], "float32"), p=3)
    np.testing.assert_allclose(y, [[3e-30 * 3 ** (1 / 3)], [0]], rtol=1e-6)
    np.testing.assert_allclose(slope, [[np.array([1, -1, 1]) * 3 ** (-2 / 3)], [[0, 0, 0]]], rtol=1e-6)


def first_largest_place(shape):
    """Reduces a window to the row-major index of its first largest entry, −1 for a window of padding."""

    def reduce(x, places):
        found = [(-entry, np.ravel_multi_index(tuple(at), shape)) for entry, at in entries(x, places) if entry is not None]
        return min(found)[1] if found else -1

    return reduce


@given(pools())
def test_indices_of_max_pool(drawn):
    """Also of ties; put back, every window's largest entry lies where it was."""
    space, config, dilation = drawn
    x = np.round(normal(2, *space))
    own = windows(space, config["kernel_size"], config["stride"], config["padding"], dilation, config["ceil_mode"])
    found = at_once(lambda x: jaxnets.max_pool_indices(x, dilation=dilation, **config), x)
    array_equal(found, pooled(x, own, first_largest_place(space)))
    y, back = at_once(
        lambda x, indices: (
            jaxnets.max_pool(x, dilation=dilation, **config),
            jaxnets.max_unpool(
                jaxnets.max_pool(x, dilation=dilation, **config),
                indices,
                kernel_size=config["kernel_size"],
                output_size=tuple(space),
            ),
        ),
        x,
        found,
    )
    expected = np.zeros(x.shape)
    for b, *at in np.argwhere(found >= 0):
        expected[b].flat[found[b, *at]] = y[b, *at]
    array_equal(back, expected)


def test_indices_of_adaptive_max_pool():
    x = normal(2, 7)
    found = jaxnets.adaptive_max_pool_indices(x, output_size=(3,))
    array_equal(found, [[row[:3].argmax(), 2 + row[2:5].argmax(), 4 + row[4:].argmax()] for row in x])
    for name, config in (("max_pool_indices", {"kernel_size": 2}), ("adaptive_max_pool_indices", {"output_size": 2})):
        with pytest.raises(jaxnets.DTypeError, match=f"{name}.*'x'.*int"):
            getattr(jaxnets, name)(np.ones((1, 1, 4), int), **config)
        with pytest.raises(jaxnets.ShapeError, match=f"{name}.*'x'.*empty"):
            getattr(jaxnets, name)(np.ones((1, 1, 0)), **config)


def test_unpooling_where_indices_meet_or_lead_nowhere():
    """The last of several entries counts, in the gradient, too; the size is torch's."""
    x = np.array([1.0, 2, 3, 4])

    def unpooled(x, indices, **config):
        return value_and_grad(lambda x: jaxnets.max_unpool(x, indices, **config) * jnp.arange(1.0, 7), x)

    y, slope = unpooled(x, np.array([1, 4, 1, -1]), kernel_size=(3,), stride=1)
    array_equal(y, [0, 6, 0, 0, 10, 0])
    array_equal(slope, [0, 5, 2, 0])
    out_of_range = jax.jit(lambda i: jaxnets.max_unpool(x, i, kernel_size=(2,), stride=2, padding=1))(
        np.array([0, 6, -5, 5])
    )
    array_equal(out_of_range, [1, 0, 0, 0, 0, 4])


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
