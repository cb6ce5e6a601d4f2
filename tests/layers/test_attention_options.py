"""Options of attention: windows, soft caps, dropout of weights, batches that broadcast; the weights; several heads."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparing import near, normal
from .test_attention import arguments, at_once, by_loops, compiled, largest
from .test_attention import weights as weights_of_maps

KEY = jax.random.key(5)


def places(t, s, offset=0):
    """How far each key lies behind the key that stands beside a query."""
    return np.arange(s) - np.arange(t)[:, None] - offset


# --- which keys are seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t, s", [(3, 5), (5, 3)])
def test_offset_moves_what_is_causal(t, s):
    """s − t aligns the last query with the last key, as torch's causal_lower_right; queries before all keys give 0."""
    q, k, v = arguments(t=t, s=s)
    offsets = s - t, 1, -1
    found = at_once(lambda *x: [jn.attention(*x, causal=True, offset=o) for o in offsets], q, k, v)
    for offset, y in zip(offsets, found, strict=True):
        near(y, by_loops(q, k, v, allowed=places(t, s, offset) <= 0))
    near(found[0], by_loops(q, k, v, allowed=np.tril(np.ones((t, s), bool), s - t)))
    equal(found[2][:, :, 0], np.zeros((2, 4, 2)))


@pytest.mark.parametrize("window, causal, offset", [(1, False, 0), ((2, 0), False, 0), ((0, 1), True, 0), (0, False, 2)])
def test_window(window, causal, offset):
    q, k, v = arguments(t=4, s=5)
    left, right = window if isinstance(window, tuple) else (window, window)
    ahead, mask = places(4, 5, offset), np.arange(5) != 2
    seen = (ahead >= -left) & (ahead <= right) & mask & ((ahead <= 0) | (not causal))
    config = {"window": window, "causal": causal, "offset": offset}
    y, weights = at_once(
        lambda *x: [jn.attention(*x, None, mask, **config), jn.attention_weights(*x[:2], None, mask, **config)], q, k, v
    )
    near(y, by_loops(q, k, v, allowed=seen), atol=1e-16)
    assert (seen | (weights == 0)).all() and (weights > 0)[..., seen].all()


def test_windows_and_lengths_as_jax_has_them():
    q, k, v = (np.swapaxes(x, 1, 2) for x in arguments(2, 2, t=4, s=4))
    v = np.concatenate([v, v[..., :1]], -1)
    lengths = np.array([3, 4], np.int32)

    def both(q, k, v):
        theirs = jax.nn.dot_product_attention(q, k, v, local_window_size=(2, 1), key_value_seq_lengths=lengths)
        mask = jnp.arange(4) < lengths[:, None, None, None]
        ours = jn.attention(*(jnp.swapaxes(x, 1, 2) for x in (q, k, v)), None, mask, window=(2, 1))
        return jnp.swapaxes(ours, 1, 2), theirs

    near(*at_once(both, q, k, v), 1e-6)


# --- soft caps ----------------------------------------------------------------------------------------------------


def test_softcap_comes_before_bias_and_mask():
    q, k, v = arguments()
    bias, mask, scale, cap = normal(4, 3, 5, seed=3), normal(3, 5, seed=4) > -0.7, 3.0, 1.7
    scores = scale * np.einsum("bhtd,bhsd->bhts", q, np.repeat(k, 2, 1))
    p = np.where(mask, np.exp(cap * np.tanh(scores / cap) + bias), 0)
    p /= p.sum(-1, keepdims=True)
    config = {"scale": scale, "softcap": cap}
    y, found = at_once(
        lambda *x: (jn.attention(*x, **config), jn.attention_weights(*x[:2], *x[3:], **config)), q, k, v, bias, mask
    )
    near(found, p, atol=1e-16)
    near(y, np.einsum("bhts,bhse->bhte", p, np.repeat(v, 2, 1)), 1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slope_of_a_softcap_far_away(dtype):
    """A score of 60 under a cap of 2: 1 − tanh²(30) = 3.5e-26, where JAX's derivative of tanh is 0."""
    q, k, v = np.array([[6.0]], dtype), np.array([[10.0], [0.0]], dtype), np.array([[1.0], [3.0]], dtype)
    ours = at_once(jn.grad(lambda q: jn.attention(q, k, v, softcap=2.0)[0, 0]), q)
    with mpmath.workdps(60):
        p = mpmath.exp(2 * mpmath.tanh(30)) / (mpmath.exp(2 * mpmath.tanh(30)) + 1)
        exact = float(p * (1 - p) * (1 - 3) * mpmath.sech(30) ** 2 * 10)
    near(ours, [[exact]], 40 * float(np.finfo(dtype).eps))


# --- dropout ------------------------------------------------------------------------------------------------------


def test_dropout_of_weights():
    """A weight is 0 or divided by 1 − rate, which the values tell where they are the unit vectors."""
    q, k = normal(2, 3, 40, 4), normal(2, 3, 50, 4, seed=1)
    v = np.broadcast_to(np.eye(50), (2, 3, 50, 50))
    run = functools.partial(jn.attention, key=KEY, dropout=0.3)
    names = ["usual", "evaluated", "weights", "again"]
    found = at_once(
        lambda q, k, v: [run(q, k, v), run(q, k, v, training=False), jn.attention_weights(q, k), run(q, k, v)], q, k, v
    )
    y = dict(zip(names, found, strict=True))
    kept = y["usual"] != 0
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)
    near(y["usual"], np.where(kept, y["weights"] / 0.7, 0))
    near(y["evaluated"], y["weights"])
    equal(y["again"], y["usual"])


def test_jacobians_have_the_mask_of_the_value_and_rate_one_gives_zero():
    q, k, v = arguments()
    bias = normal(4, 3, 5, seed=3)
    for rate in (0.4, 1.0):
        call = functools.partial(jn.attention, key=KEY, dropout=rate, softcap=1.5)
        y, ours, theirs = compiled(call, 4)(q, k, v, bias)
        for a, b in zip(ours, theirs, strict=True):
            near(a, b, 1e-11, 1e-14)
    equal(y, np.zeros(y.shape))
    assert not any(np.asarray(a).any() for a in ours)


# --- batches that broadcast, and what is stored --------------------------------------------------------------------


@pytest.mark.parametrize("by_q, by_k, by_v", [((3, 1), (1, 2), (3, 2)), ((1, 1), (1, 1), (3, 2)), ((3, 2), (3, 1), (1, 1))])
def test_axes_before_the_heads_broadcast(by_q, by_k, by_v):
    q, k, v = normal(*by_q, 4, 3, 2), normal(*by_k, 2, 5, 2, seed=1), normal(*by_v, 2, 5, 3, seed=2)
    mask = normal(3, 2, 1, 1, 5, seed=3) > -0.7
    y, ours, theirs = compiled(lambda *x: jn.attention(*x, None, mask, causal=True, offset=2), 3)(q, k, v)
    whole = (np.broadcast_to(x, (3, 2, *x.shape[2:])).reshape(6, *x.shape[2:]) for x in (q, k, v))
    seen = mask.reshape(6, 1, 1, 5) & (places(3, 5, 2) <= 0)
    near(y.reshape(6, 4, 3, 3), by_loops(*whole, allowed=seen))
    for a, b in zip(ours, theirs, strict=True):
        near(a, b, 1e-11, 1e-14)


@pytest.mark.parametrize("argument", range(3))
def test_weights_store_nothing_with_two_axes_of_keys(argument):
    b, h, t, s, d = 2, 3, 8, 50, 4
    args = [normal(*shape) for shape in ((b, h, t, d), (b, h, s, d), (h, t, s))]
    j = jax.eval_shape(jn.jacobian(functools.partial(jn.attention_weights, softcap=2.0), argument), *args)
    scores = b * h * t * s
    assert j.nbytes <= 8 * (2 * scores + b * h * s * d + b * h * t * d)
    assert largest(lambda j, v: j @ v, j, args[argument]) <= scores
    assert largest(lambda j, u: u @ j, j, np.ones(j.out_shape)) <= scores


def test_formulae_of_a_softcap_and_of_dropout():
    q, k, v = arguments(2, 2)
    j = jax.eval_shape(jn.jacobian(functools.partial(jn.attention, softcap=1.0, dropout=0.5, key=KEY)), q, k, v)
    for symbol in ("m[b,h,t,s]", "h'[b,h,t,j]"):
        assert symbol in j.formula
    assert j.legend["h'"] == "1 − tanh²(z / softcap) of the scores z"
    assert "dropout" in j.legend["m"]


# --- several heads ------------------------------------------------------------------------------------------------


def in_heads(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


@pytest.mark.parametrize("rows, zeros", [(True, False), (False, True), (True, True)])
def test_rows_that_are_appended_to_keys_and_values(rows, zeros):
    """All queries see them, also with masks and bias; queries that see nothing else attend to them alone."""
    x_q, x_kv, x_v = normal(2, 3, 6), normal(2, 4, 5, seed=1), normal(2, 4, 7, seed=2)
    wq, wk, _, wo = weights_of_maps()
    wv = normal(6, 7, seed=8)
    bias_k, bias_v = normal(4, seed=30), normal(6, seed=31)
    mask, bias = normal(2, 1, 3, 1, seed=20) > -0.5, normal(4, 3, 4, seed=21)
    mask[1, 0, 2] = False
    more = {"bias_k": bias_k, "bias_v": bias_v} if rows else {}
    layer = functools.partial(
        jn.multi_head_attention, heads=4, key_heads=2, causal=True, add_zero_attention=zeros, return_weights=True
    )
    y, p = jax.device_get(jax.jit(layer)(x_q, x_kv, wq, wk, wv, wo, mask, x_v=x_v, bias=bias, **more))
    k, v, count = x_kv @ wk.T, x_v @ wv.T, rows + zeros
    for rows_of, extra in (((bias_k, bias_v), rows), ((np.zeros(4), np.zeros(6)), zeros)):
        if extra:
            k, v = (
                np.concatenate([x, np.broadcast_to(row, (2, 1, len(row)))], 1)
                for x, row in zip((k, v), rows_of, strict=True)
            )
    seen = np.broadcast_to(mask & (places(3, 4) <= 0), (2, 1, 3, 4))
    seen = np.concatenate([seen, np.ones((2, 1, 3, count), bool)], -1)
    bias = np.concatenate([bias, np.zeros((4, 3, count))], -1)
    heads = in_heads(x_q @ wq.T, 4), in_heads(k, 2), in_heads(v, 2)
    near(y, by_loops(*heads, bias, seen).transpose(0, 2, 1, 3).reshape(2, 3, 12) @ wo.T, 1e-11, 1e-14)
    each = by_loops(*heads[:2], np.broadcast_to(np.eye(4 + count), (2, 2, 4 + count, 4 + count)), bias, seen)
    near(p, each.mean(1), 1e-11, 1e-14)
    near(p.sum(-1), np.ones((2, 3)))


def test_options_reach_attention_and_its_weights():
    x, w = normal(2, 4, 6), weights_of_maps(4, 4)
    w[1], w[2] = normal(8, 6, seed=1), normal(12, 6, seed=2)
    config = {"offset": 1, "window": (1, 0), "softcap": 0.8, "scale": 2.0}

    def both(x):
        given = jn.multi_head_attention(x, x, *w, heads=4, dropout=0.5, key=KEY, return_weights=True, **config)
        evaluated = jn.multi_head_attention(x, x, *w, heads=4, dropout=0.5, training=False, **config)
        q, k, v = (jnp.swapaxes((x @ m.T).reshape(2, 4, 4, -1), 1, 2) for m in w[:3])
        by_hand = [jn.attention(q, k, v, **config, **noise) for noise in ({"dropout": 0.5, "key": KEY}, {})]
        outputs = [jnp.swapaxes(y, 1, 2).reshape(2, 4, 12) @ w[3].T for y in by_hand]
        return (*given, evaluated), (outputs[0], jn.attention_weights(q, k, **config).mean(1), outputs[1])

    for found, expected in zip(*at_once(both, x), strict=True):
        near(found, expected, 1e-12, 1e-14)


def test_appended_rows_are_learned():
    """`jaxnets.jacobian` reads through them, and examples stay apart."""
    x, w = normal(2, 3, 6), weights_of_maps(4, 4)
    w[1], w[2] = normal(8, 6, seed=1), normal(12, 6, seed=2)
    rows = normal(8, seed=4), normal(12, seed=5)

    def layer(x, bias_k, bias_v):
        mask = jnp.arange(3) < 2
        return jn.multi_head_attention(x, x, *w, mask, heads=4, bias_k=bias_k, bias_v=bias_v, add_zero_attention=True)

    @jax.jit
    def compute(*args):
        js = jn.jacobian(layer, (0, 1, 2), on_opaque="error")(*args)
        assert js[0].batched
        return jn.dense(js), jax.jacrev(layer, (0, 1, 2))(*args)

    for ours, theirs in zip(*compute(x, *rows), strict=True):
        near(ours, theirs, 1e-10, 1e-12)


def test_one_appended_row_needs_the_other():
    with pytest.raises(jn.DTypeError, match="multi_head_attention: argument 'bias_v' is None"):
        jn.multi_head_attention(
            normal(2, 3, 6), normal(2, 4, 5), *weights_of_maps(), heads=4, key_heads=2, bias_k=np.ones(4)
        )
