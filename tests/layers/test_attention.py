"""Attention and dropout: values by NumPy, masks, tails, what is stored, errors published for other libraries."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal

INF, NAN = np.inf, np.nan
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def compiled(function, count):
    """The value, and the dense Jacobians by the first `count` arguments by our rule and by JAX."""
    wrt = tuple(range(count))

    def call(*args):
        y, js = jn.value_and_jacobian(function, wrt)(*args)
        return y, jn.dense(js), jax.jacrev(function, wrt)(*args)

    return lambda *args: at_once(call, *args)


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


# --- attention: values --------------------------------------------------------------------------------------------


def by_loops(q, k, v, bias=None, allowed=None, scale=None):
    """One query at a time, over [b, h, t, d] and [b, g, s, d]."""
    scores_shape = (*q.shape[:-1], k.shape[-2])
    bias = np.zeros(scores_shape) if bias is None else np.broadcast_to(bias, scores_shape)
    allowed = np.ones(scores_shape, bool) if allowed is None else np.broadcast_to(allowed, scores_shape)
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    share = q.shape[1] // k.shape[1]
    for b, h, t in np.ndindex(q.shape[:-1]):
        total = 0.0
        for s in range(k.shape[-2]):
            if allowed[b, h, t, s]:
                score = np.dot(q[b, h, t], k[b, h // share, s]) * (q.shape[-1] ** -0.5 if scale is None else scale)
                weight = np.exp(score + bias[b, h, t, s])
                y[b, h, t] += weight * v[b, h // share, s]
                total += weight
        y[b, h, t] /= total or 1
    return y


def arguments(h=4, g=2, t=3, s=5):
    return normal(2, h, t, 3), normal(2, g, s, 3, seed=1), normal(2, g, s, 2, seed=2)


@pytest.mark.parametrize("h, g", [(1, 1), (3, 3), (4, 2), (6, 2), (3, 1)])
def test_values_with_shared_heads(h, g):
    q, k, v = arguments(h, g)
    usual, scaled = at_once(lambda *x: (jn.attention(*x), jn.attention(*x, scale=-0.3)), q, k, v)
    near(usual, by_loops(q, k, v))
    near(scaled, by_loops(q, k, v, scale=-0.3))


@pytest.mark.parametrize("shape", [(), (5,), (3, 5), (3, 1), (4, 3, 5), (2, 1, 1, 5), (2, 4, 3, 5), (4, 1, 1)], ids=str)
def test_bias_and_mask_broadcast(shape):
    q, k, v = arguments()
    bias, mask = normal(*shape, seed=3), normal(*shape, seed=4) > -0.7
    near(at_once(jn.attention, q, k, v, bias, mask), by_loops(q, k, v, bias, mask))


@pytest.mark.parametrize("t, s", [(3, 3), (2, 5), (5, 2), (1, 4), (4, 1)])
def test_causal_is_aligned_at_the_first_key(t, s):
    """As in torch, also where there are more keys than queries."""
    q, k, v = arguments(t=t, s=s)
    past, mask = np.tril(np.ones((t, s), bool)), np.arange(s) != 1
    found, masked = at_once(lambda *x: [jn.attention(*x, None, m, causal=True) for m in (None, mask)], q, k, v)
    near(found, by_loops(q, k, v, allowed=past))
    near(masked, by_loops(q, k, v, allowed=past & mask), atol=1e-16)


def test_as_jax_has_it():
    """jax.nn puts the heads behind the time, and takes the softmax in float32."""
    q, k, v = arguments()
    swapped = (np.swapaxes(x, 1, 2) for x in (q, k, np.concatenate([v, v[..., :1]], -1)))
    theirs = at_once(jax.nn.dot_product_attention, *swapped)
    near(at_once(jn.attention, q, k, v), np.swapaxes(theirs, 1, 2)[..., :2], 1e-6)


def test_no_heads_and_no_batch():
    q, k, v = arguments(1, 1)
    near(at_once(jn.attention, q[:, 0], k[:, 0], v[:, 0]), by_loops(q, k, v)[:, 0])
    y, ours, theirs = compiled(jn.attention, 3)(q[0, 0], k[0, 0], v[0, 0])
    near(y, by_loops(q, k, v)[0, 0])
    for a, b in zip(ours, theirs, strict=True):
        near(a, b, atol=1e-14)


@pytest.mark.parametrize("t, s, d, e", [(0, 3, 2, 2), (2, 0, 2, 2), (2, 3, 0, 2), (2, 3, 2, 0)])
def test_nothing_to_attend(t, s, d, e):
    """No keys give 0; no features make all keys equal."""
    q, k, v = np.ones((2, t, d)), np.ones((2, s, d)), normal(2, s, e)
    y, ours, _ = compiled(jn.attention, 3)(q, k, v)
    near(y, np.broadcast_to(v.sum(1, keepdims=True) / max(1, s), (2, t, e)))
    for dense, x in zip(ours, (q, k, v), strict=True):
        assert dense.shape == (2, t, e, *x.shape)


# --- attention: masks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_query_that_attends_to_nothing(dtype):
    """Output 0 and Jacobian 0, where torch#103963 and equinox#274 had NaN; also by JAX's own derivative."""
    q, k, v = (np.asarray(x, dtype) for x in arguments())
    mask = np.ones((3, 5), bool)
    mask[1] = False
    y, ours, theirs = compiled(lambda q, k, v, bias: jn.attention(q, k, v, bias, mask), 4)(q, k, v, np.zeros((3, 5), dtype))
    equal(y[:, :, 1], np.zeros((2, 4, 2)))
    assert not np.isnan(np.asarray(y, float)).any()
    for a, b in zip(ours, theirs, strict=True):
        equal(a[:, :, 1], np.zeros(a[:, :, 1].shape))
        assert not np.isnan(np.asarray(b, float)).any()
    equal(ours[3][..., 1, :], np.zeros((2, 4, 3, 2, 5)))


def test_mask_as_bias_of_minus_infinity():
    q, k, v = arguments()
    mask = normal(2, 1, 3, 5, seed=4) > 0.3
    mask[0, 0, 1] = False
    bias = np.where(mask, 0.0, -INF)
    y, by_mask, _ = compiled(lambda q, k, v: jn.attention(q, k, v, None, mask), 3)(q, k, v)
    z, by_bias, _ = compiled(lambda q, k, v: jn.attention(q, k, v, bias), 3)(q, k, v)
    equal(y, z)
    for a, b in zip(by_mask, by_bias, strict=True):
        equal(a, b)


@pytest.mark.parametrize("bad", [NAN, INF, 1e30])
def test_masked_keys_have_no_influence(bad):
    """Whatever stands in the padding of keys."""
    q, k, v = arguments()
    mask = np.array([True, True, True, False, False])
    padded = k.copy()
    padded[..., 3:, :] = bad
    found = at_once(jn.attention, q, padded, v, None, mask)
    near(found, at_once(jn.attention, q, k[..., :3, :], v[..., :3, :]), 1e-14)


def test_no_query_knows_its_future():
    q, k, v = arguments(t=4, s=4)
    _, (by_q, by_k, by_v), _ = compiled(lambda *x: jn.attention(*x, causal=True), 3)(q, k, v)
    future = ~np.tril(np.ones((4, 4), bool))
    for block in (by_k, by_v):
        assert not np.moveaxis(block, (2, 6), (0, 1))[future].any()
        assert np.moveaxis(block, (2, 6), (0, 1))[3, 0].any()
    assert not np.asarray(by_q[:, :, 0]).any()  # the first query has a single key: its weight is 1


# --- attention: accuracy and structure ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_key_that_fits_far_better(dtype):
    """Scores 40 and 0: JAX's derivative is off by far more than 1000 units of the last place, jax#40344."""
    q, k, v = np.array([[4.0]], dtype), np.array([[10.0], [0.0]], dtype), np.array([[1.0], [3.0]], dtype)

    def value(q, k, v, bias):
        return jn.attention(q, k, v, bias)[0, 0]

    with mpmath.workdps(50):
        p = mpmath.exp(-40) / (1 + mpmath.exp(-40))
        slope = p * (1 - p) * (mpmath.mpf(1) - 3)  # of the first score
        exact = [
            float(slope * 10),
            [float(slope * 4), float(-slope * 4)],
            [float(1 - p), float(p)],
            [float(slope), -float(slope)],
        ]
    args = (q, k, v, np.zeros(2, dtype))
    ours, theirs = at_once(lambda *args: [grad(value, (0, 1, 2, 3))(*args) for grad in (jn.grad, jax.grad)], *args)
    unit = float(np.finfo(dtype).eps)
    for a, e in zip(ours, exact, strict=True):
        near(np.ravel(a), np.ravel(e), 32 * unit)
    assert abs(float(theirs[3][0]) - exact[3][0]) > 1000 * unit * abs(exact[3][0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_beyond_float16(dtype):
    """q·k = 480000 is ∞ in float16."""
    q, k = np.full((2, 3), 400.0, dtype), np.array([[400.0] * 3, [400.0] * 3, [-400.0] * 3], dtype)
    v = np.array([[1.0], [2.0], [7.0]], dtype)
    y = at_once(jn.attention, q, k, v)
    assert y.dtype == dtype
    equal(y, [[1.5], [1.5]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_keys_of_16_bit_numbers(dtype):
    """Averages over 2**17 keys, summed in float32."""
    q, k, v = (np.asarray(x, dtype) for x in (normal(2, 4), normal(2**17, 4, seed=1), normal(2**17, 3, seed=2) + 5))
    exact = at_once(jn.attention, *(x.astype("float64") for x in (q, k, v)))
    near(at_once(jn.attention, q, k, v), exact, float(jnp.finfo(dtype).eps))


def largest(function, *args):
    """The most entries of any array that a function makes."""
    return max(v.aval.size for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns for v in eqn.outvars)


@pytest.mark.parametrize("argument", range(4))
def test_products_store_nothing_with_two_axes_of_keys(argument):
    b, h, t, s, d, e = 2, 3, 8, 50, 4, 5
    args = [normal(*shape) for shape in ((b, h, t, d), (b, h, s, d), (b, h, s, e), (h, t, s))]
    j = jax.eval_shape(jn.jacobian(jn.attention, argument), *args)
    scores = b * h * t * s
    assert j.nbytes <= 8 * (scores + b * h * s * (d + e) + b * h * t * d)
    assert largest(lambda j, v: j @ v, j, args[argument]) <= scores
    assert largest(lambda j, u: u @ j, j, np.ones(j.out_shape)) <= scores


@pytest.mark.parametrize("h, g", [(4, 4), (4, 2), (4, 1)])
def test_formula_names_groups_of_heads(h, g):
    q, k, v = arguments(h, g)
    formula = jax.eval_shape(jn.jacobian(jn.attention, 2), q, k, v).formula
    assert (
        formula
        == {
            4: "∂y[b,h,t,e]/∂v[b,h,s,e] = p[b,h,t,s]",
            2: "∂y[b,gr,t,e]/∂v[b,g,s,e] = p[b,gr,t,s]",
            1: "∂y[b,h,t,e]/∂v[b,0,s,e] = p[b,h,t,s]",
        }[g]
    )


def test_bias_along_queries_alone_changes_nothing():
    q, k, v = arguments()
    j = jax.eval_shape(jn.jacobian(jn.attention, 3), q, k, v, normal(4, 3, 1, seed=3))
    assert j.structure == "zero"


# --- several heads ------------------------------------------------------------------------------------------------


def weights(heads=4, key_heads=2, seed=3):
    """wq, wk, wv, wo for x_q of 6 features, x_kv of 5 and an output of 3."""
    shapes = (heads * 2, 6), (key_heads * 2, 5), (key_heads * 3, 5), (3, heads * 3)
    return [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


def test_multi_head_attention():
    x_q, x_kv, (wq, wk, wv, wo) = normal(2, 3, 6), normal(2, 4, 5, seed=1), weights()
    bq, bk, bv, bo = (normal(len(w), seed=9 + i) for i, w in enumerate((wq, wk, wv, wo)))
    mask, bias = normal(2, 1, 3, 4, seed=20) > -0.5, normal(4, 3, 4, seed=21)
    layer = functools.partial(jn.multi_head_attention, heads=4, key_heads=2, causal=True)
    found = jax.jit(layer)(x_q, x_kv, wq, wk, wv, wo, mask, bq=bq, bk=bk, bv=bv, bo=bo, bias=bias)
    q = (x_q @ wq.T + bq).reshape(2, 3, 4, 2).transpose(0, 2, 1, 3)
    k = (x_kv @ wk.T + bk).reshape(2, 4, 2, 2).transpose(0, 2, 1, 3)
    v = (x_kv @ wv.T + bv).reshape(2, 4, 2, 3).transpose(0, 2, 1, 3)
    y = by_loops(q, k, v, bias, mask & np.tril(np.ones((3, 4), bool))).transpose(0, 2, 1, 3).reshape(2, 3, 12)
    near(found, y @ wo.T + bo, atol=1e-14)


def test_multi_head_attention_reads_through():
    """`jaxnets.jacobian` finds the structure of the composition: examples stay apart."""
    x, w = normal(2, 3, 6), weights(4, 4)
    w[1], w[2] = normal(8, 6, seed=1), normal(12, 6, seed=2)

    def layer(x, *w):
        return jn.multi_head_attention(x, x, *w, heads=4)

    @jax.jit
    def compute(x, *w):
        js = jn.jacobian(layer, (0, 1, 2, 3, 4), on_opaque="error")(x, *w)
        assert js[0].batched
        return jn.dense(js), jax.jacrev(layer, (0, 1, 2, 3, 4))(x, *w)

    for ours, theirs in zip(*compute(x, *w), strict=True):
        near(ours, theirs, 1e-10, 1e-12)


@pytest.mark.parametrize("change, error, words", [
    ({"heads": 3}, jn.ShapeError, ["'wq'", "8", "3"]),
    ({"heads": 4, "key_heads": 3}, jn.ShapeError, ["'wk'", "4", "3"]),
    ({"heads": 0}, jn.ShapeError, ["'wq'", "0"]),
    ({"heads": 2.0}, TypeError, ["heads", "2.0"]),
    ({"heads": 8, "key_heads": 2}, jn.ShapeError, ["'k'", "(2, 2, 4, 2)", "d = 1"]),
    ({"heads": 4, "key_heads": 2, "bq": np.ones(3)}, jn.ShapeError, ["'b'", "(3,)", "8"]),
], ids=str)  # fmt: skip
def test_heads_that_do_not_fit(change, error, words):
    with pytest.raises(error) as raised:
        jn.multi_head_attention(normal(2, 3, 6), normal(2, 4, 5), *weights(), **change)
    assert all(word in str(raised.value) for word in words), str(raised.value)


# --- dropout ------------------------------------------------------------------------------------------------------


KEY = jax.random.key(3)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate):
    y = at_once(lambda x: jn.dropout(x, KEY, rate=rate), np.ones(100_000))
    near(np.unique(y), [0, 1 / (1 - rate)], 1e-15)
    assert abs((y == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 1e5)


@pytest.mark.parametrize("x", [[1.0, -2.0], [NAN, INF], [0.0, -INF]], ids=str)
def test_rate_one_gives_zero_flax2055(x):
    """Not 0/0; what is dropped cannot reach the output."""
    y, (ours,), (theirs,) = compiled(lambda x: jn.dropout(x, KEY, rate=1), 1)(np.array(x))
    equal(y, [0, 0])
    equal(ours, np.zeros((2, 2)))
    equal(theirs.sum(0), [0, 0])


@pytest.mark.parametrize(
    "config", [{"rate": 0}, {"rate": 0.0}, {"training": False}, {"rate": 1.0, "training": False}], ids=str
)
def test_nothing_is_dropped_and_no_key_needed_flax2543(config):
    x = np.array([1.0, NAN, -INF, 1e-30])
    for key in (None, KEY):
        y, j = jn.value_and_jacobian(lambda x, key=key: jn.dropout(x, key, **config))(x)
        equal(y, x)
        assert j.structure == "identity"


def test_jacobian_has_the_mask_of_the_value():
    def compute(x):
        def layer(x):
            return jn.dropout(x, KEY, rate=0.3)

        y, j = jn.value_and_jacobian(layer)(x)
        assert j.structure == "diagonal"
        return y, j.diagonal(), jax.vjp(layer, x)[1](jnp.ones(x.shape))[0]

    y, diagonal, theirs = at_once(compute, normal(4, 50) + 10)
    equal(diagonal, np.where(y == 0, 0, 1 / (1 - 0.3)))
    equal(diagonal, theirs)


def test_mask_does_not_depend_on_the_dtype():
    def compute():
        return [jn.dropout(jnp.ones((20, 30), dtype), KEY) for dtype in DTYPES]

    found = at_once(compute)
    with jax.enable_x64(False):
        narrow = at_once(lambda: jn.dropout(jnp.ones((20, 30)), KEY))
    for other in [*found[1:], narrow]:
        equal(found[0] == 0, other == 0)
    assert [y.dtype for y in found] == DTYPES


def test_half_precision_is_rounded_once():
    """x / (1 − rate), not x times the rounded 1 / (1 − rate)."""
    x = np.arange(1, 257).astype("bfloat16")
    y = at_once(lambda x: jn.dropout(x, KEY, rate=0.3), x)
    kept = y != 0
    equal(y[kept], (x.astype("float32") / np.float32(0.7)).astype("bfloat16")[kept])


@pytest.mark.parametrize("shared, free", [((2, 3), (6, 5)), ((-1,), (6, 5, 4)), (1, (6, 4, 3)), ((0, 1, 2, 3), ())], ids=str)
def test_mask_shared_along_axes(shared, free):
    """Whole channels drop."""
    y = at_once(lambda x: jn.dropout(x, KEY, shared=shared), np.ones((6, 5, 4, 3)))
    axes = tuple(np.atleast_1d(shared))
    equal(y, np.broadcast_to(y.max(axes, keepdims=True), y.shape))
    assert y.max(axes).shape == free
    assert not free or len(np.unique(y)) == 2


def test_keys():
    def compute(x):
        keys = jax.random.split(KEY, 3)
        by_key = [jn.dropout(x, key) for key in (KEY, jax.random.PRNGKey(3), jax.random.key(4))]
        return *by_key, jax.vmap(jn.dropout)(x, keys), jnp.stack([jn.dropout(x[0], key) for key in keys])

    x = np.ones((3, 40))
    usual, legacy, other, mapped, each = at_once(compute, x)
    equal(legacy, usual)
    assert (other != usual).any()
    equal(mapped, each)
    equal(usual, jn.dropout(x, KEY))


def test_dropout_inside_a_network():
    """A key that is traced: the mask is drawn where the network runs."""
    x, w = normal(3, 4), normal(5, 4, seed=1)

    def network(x, key):
        return jn.dropout(jn.relu(jn.linear(x, w)), key, rate=0.4)

    ours, theirs = jax.jit(lambda x, key: (jn.jacobian(network)(x, key).dense(), jax.jacrev(network)(x, key)))(x, KEY)
    near(ours, theirs, atol=1e-15)
