"""Attention: averages of values, weighted by how well the keys fit a query."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ..algebra import sharding
from ..algebra.factors import Group, Tensor
from ..algebra.rules import fresh_groups, from_groups, named_tensor, zero
from ..checks import check_broadcasts, check_integer, check_number, check_positive
from ..errors import DTypeError, ShapeError
from . import accurate
from .dropout import kept, kept_share
from .layer import layer
from .linear import linear
from .reduce import mean
from .samples import Example
from .softmax import SoftmaxOperator, softmax

__all__ = ["attention", "attention_weights", "multi_head_attention"]
Window = int | tuple[int, int] | None


@layer(example=Example((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 4), (4, 6), None, None, scale=1.0))
def attention(
    q: Float[Array, "... t d"],
    k: Float[Array, "... s d"],
    v: Float[Array, "... s e"],
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    *,
    key: Key[Array, ""] | None = None,
    causal: bool = False,
    offset: int = 0,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    training: bool = True,
) -> Float[Array, "... t e"]:
    """Attention  y[..., t, e] = Σ_s p[..., t, s] v[..., s, e],  p = softmax over s of scale Σ_d q[t, d] k[s, d] + bias.

    ∂y[b,h,t,e]/∂q[b,h,t,d] = Σ_sj v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·k[b,h,j,d]

    ∂y[b,h,t,e]/∂k[b,h,j,d] = Σ_s v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·q[b,h,t,d]

    ∂y[b,h,t,e]/∂v[b,h,s,e] = p[b,h,t,s]     ∂y[b,h,t,e]/∂bias[t,j] = Σ_s v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])

    The first two are also multiplied by `scale` (default 1/√d).  Products with them store no array with two axes s.  torch
    calls this scaled_dot_product_attention, jax dot_product_attention.

    Axes are [..., h, t, d] for queries, [..., g, s, d] for keys and [..., g, s, e] for values, or the last two alone without
    heads.  h may be a multiple of g: head j of the queries then uses head j // (h / g) of keys and values.  The axes before
    the heads broadcast.  `bias` and `mask` broadcast to [..., h, t, s].  A query that attends to nothing gives 0 with
    Jacobian 0.

    A query attends to keys where `mask` is True.  Query t stands beside key t + `offset`.  With `causal` it attends only to
    keys up to that one, s ≤ t + offset.  `offset` 0 aligns the first query with the first key, as torch and jax do, and the
    number of keys minus that of queries the last with the last, as torch's causal_lower_right.  With a `window` of (l, r),
    or of one number for both, it attends only where t + offset − l ≤ s ≤ t + offset + r.  Sequences of different lengths
    are a mask, for keys `jnp.arange(s) < lengths[:, None, None, None]`.

    With a `softcap` c the scaled scores z become c tanh(z / c) before bias and masks, as in ONNX, and the derivatives by q
    and k have the factor h'[b,h,t,j] = 1 − tanh²(z / c) beside k or q.  In training a weight p is 0 with probability
    `dropout`, drawn from the `key`, and else divided by 1 − dropout; the derivatives then have the factor m / (1 − dropout)
    beside v or p, where m is 0 or 1 as in `jaxnets.dropout`.
    """
    _check_shapes("attention", q, k, v, bias, mask)
    p = _weights("attention", q, k, bias, mask, causal, offset, window, scale, softcap)
    m = kept("attention", p, key, dropout, training, name="dropout")
    p = p if m is None else jnp.where(m, p / kept_share(dropout), 0)
    return _per_query(sharding.einsum("...rts,...se->...rte", _with_shared_heads(p, k), v), q)


@attention.jacobian
def _(y, q, k, v, bias, mask, key, *, causal, offset, window, scale, softcap, dropout, training):
    p = _weights("attention", q, k, bias, mask, causal, offset, window, scale, softcap)
    m = kept("attention", p, key, dropout, training, name="dropout")
    groups = _groups(q, k, v)
    out, values = (*groups.lead, groups.t, groups.e), groups.of((*groups.key_lead, groups.s, groups.e), v)
    weights = groups.of((*groups.lead, groups.t, groups.s), p)
    factors = [Tensor(v, values, "v")]
    if m is not None:
        m = m.astype(p.dtype) / kept_share(dropout)
        factors.append(named_tensor(m, weights, "m", "1 / (1 − dropout) for weights that are kept, else 0"))
    by_q, by_k, by_bias = _rules_by_scores(p, q, k, out, groups, factors, scale, softcap)
    by_v = from_groups(out, values, Tensor(p, weights, "p"), *factors[1:])
    return by_q, by_k, by_v, by_bias, None, None


@layer(example=Example((2, 3, 4, 5), (2, 3, 6, 5), (4, 6), None, scale=1.0))
def attention_weights(
    q: Float[Array, "... t d"],
    k: Float[Array, "... s d"],
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    *,
    causal: bool = False,
    offset: int = 0,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Array, "... t s"]:
    """The weights of `attention`, without dropout  y[..., t, s] = softmax over s of scale Σ_d q[t, d] k[s, d] + bias.

    ∂y[b,h,t,s]/∂q[b,h,t,d] = Σ_j p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·k[b,h,j,d]

    ∂y[b,h,t,s]/∂k[b,h,j,d] = p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·q[b,h,t,d]

    ∂y[b,h,t,s]/∂bias[t,j] = p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])

    The first two are also multiplied by `scale` (default 1/√d), and with a `softcap` c by h'[b,h,t,j] = 1 − tanh²(z / c).
    Arguments are those of `attention`.
    """
    _check_shapes("attention_weights", q, k, None, bias, mask)
    return _weights("attention_weights", q, k, bias, mask, causal, offset, window, scale, softcap)


@attention_weights.jacobian
def _(y, q, k, bias, mask, *, causal, offset, window, scale, softcap):
    groups = _groups(q, k)
    out = (*groups.lead, groups.t, groups.s)
    return *_rules_by_scores(y, q, k, out, groups, (), scale, softcap), None


def _rules_by_scores(p, q, k, out, groups, factors, scale, softcap):
    """The rules by q, k and bias; `factors` are those between the output and the weights."""
    lead, t, j, d = groups.lead, groups.t, groups.j, groups.d
    queries, keys = groups.of((*lead, t, d), q), groups.of((*groups.key_lead, j, d), k)
    factors = [*factors, SoftmaxOperator(p, (*groups.of((*lead, t, groups.s), p), j))]
    inner = list(factors)
    if softcap is not None:
        slope = accurate.tanh_derivative(_scores("attention", q, k, scale) / softcap)
        inner.append(named_tensor(slope, groups.of((*lead, t, j), slope), "h'", "1 − tanh²(z / softcap) of the scores z"))
    scale = _scale("attention", q, scale)

    def by_bias(y, bias):
        if bias.ndim == 0 or bias.shape[-1] == 1:  # adding a constant to a row changes nothing
            return zero(y, bias)
        return from_groups(out, groups.of((*lead, t, j)[y.ndim - bias.ndim :], bias), *factors)(y, bias)

    return (
        from_groups(out, queries, *inner, Tensor(k, keys, "k"), scale=scale),
        from_groups(out, keys, *inner, Tensor(q, queries, "q"), scale=scale),
        by_bias,
    )


def _check_shapes(name, q, k, v, bias, mask):
    """ShapeError unless the axes before the heads broadcast; queries may have more heads than keys."""
    arrays = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    if k.ndim != q.ndim or math.prod(_heads_and_sharers(q, k)) != math.prod(q.shape[-3:-2]):
        raise ShapeError(
            f"{name}: argument 'k' has shape {k.shape}, expected [..., g, s, d] with as many axes as 'q' of shape {q.shape} "
            "and a divisor g of its heads h"
        )
    if v is not None and (v.ndim != k.ndim or v.shape[-3:-2] != k.shape[-3:-2]):
        raise ShapeError(
            f"{name}: argument 'v' has shape {v.shape}, expected heads {k.shape[-3:-2]} as 'k' of shape {k.shape}"
        )
    batch: tuple[int, ...] = ()
    for argument, x in arrays.items():
        try:
            batch = jnp.broadcast_shapes(batch, x.shape[:-3])
        except ValueError:
            raise ShapeError(
                f"{name}: argument '{argument}' has shape {x.shape}, expected leading axes that broadcast to {batch} as 'q'"
            ) from None
    scores = (*batch, *q.shape[-3:-1], k.shape[-2])
    for argument, x in (("bias", bias), ("mask", mask)):
        if x is not None:
            check_broadcasts(name, argument, x, scores)


def _heads_and_sharers(q, k) -> tuple[int, int]:
    """The number of heads of keys, and of heads of queries for each of them."""
    g = k.shape[-3] if k.ndim > 2 else 1
    return g, (q.shape[-3] if q.ndim > 2 else 1) // max(1, g)


def _with_shared_heads(x, k):
    """[..., h, t, d] as [..., g, h / g, t, d]."""
    shape = *x.shape[:-3], *k.shape[-3:-2], _heads_and_sharers(x, k)[1], *x.shape[-2:]
    return sharding.reshaped(x, shape)


def _per_query(x, q):
    """[..., g, h / g, t, d] as [..., h, t, d], or [1, t, d] as [t, d] where there are no heads."""
    return sharding.reshaped(x, (*x.shape[:-4], *q.shape[-3:-1], x.shape[-1]))


def _scale(name, q, scale):
    return 1 / math.sqrt(max(1, q.shape[-1])) if scale is None else check_number(name, "scale", scale)


def _scores(name, q, k, scale):
    """The scaled products z[..., t, s]."""
    return _per_query(sharding.einsum("...rtd,...sd->...rts", _with_shared_heads(q, k), k), q) * _scale(name, q, scale)


def _weights(name, q, k, bias, mask, causal, offset, window, scale, softcap):
    """The weights p[..., t, s]."""
    scores = _scores(name, q, k, scale)
    if softcap is not None:
        softcap = check_positive(name, "softcap", softcap)
        scores = softcap * accurate.tanh(scores / softcap)
    mask = _with_places(name, mask, q.shape[-2], k.shape[-2], causal, offset, window)
    scores = scores if bias is None else scores + bias
    if mask is not None:
        scores = jnp.broadcast_to(scores, jnp.broadcast_shapes(scores.shape, mask.shape))
    return softmax.forward(scores, mask, axis=-1)


def _with_places(name, mask, t, s, causal, offset, window):
    """The mask, also False for keys outside the window and, if it is causal, ahead of a query; None if all are seen."""
    offset = check_integer(name, "offset", offset, -(2**30), 2**30)
    if not causal and window is None:
        return mask
    ahead = jnp.arange(s, dtype=jnp.int32) - jnp.arange(t, dtype=jnp.int32)[:, None] - offset
    seen = ahead <= 0 if causal else jnp.ones((t, s), bool)
    if window is not None:
        left, right = (check_integer(name, "window", n, 0, 2**30) for n in _pair(window))
        seen &= (ahead >= -left) & (ahead <= right)
    return seen if mask is None else mask & seen


def _pair(window):
    return window if isinstance(window, tuple) else (window, window)


@dataclass
class _Groups:
    """Groups of labels for the leading axes of queries and of keys, and for t, s, s again, d and e."""

    lead: tuple[Group, ...]
    key_lead: tuple[Group, ...]
    t: Group
    s: Group
    j: Group
    d: Group
    e: Group

    @staticmethod
    def of(groups: tuple[Group, ...], x: Any) -> tuple[Group, ...]:
        """The groups of an array, without labels for axes of size 1 that are repeated."""
        sizes = (math.prod(label.size for label in group) for group in groups)
        return tuple(group if n == size else () for group, n, size in zip(groups, x.shape, sizes, strict=True))


def _groups(q, k, v=None) -> _Groups:
    """The head of a query is a pair of labels: the head of keys, and the number among the queries that use it."""
    groups, share = _heads_and_sharers(q, k)
    batch = jnp.broadcast_shapes(*(x.shape[:-3] for x in (q, k, v) if x is not None))
    heads = ["h" if share == 1 else "g", "h" if groups == 1 else "r"]
    names = [*"b"[: len(batch)], *[""] * (len(batch) - 1), *heads, *"tsjde"]
    s = k.shape[-2]
    sizes = [*batch, groups, share, q.shape[-2], s, s, q.shape[-1], 1 if v is None else v.shape[-1]]
    *lead, g, r, t, s, j, d, e = fresh_groups(sizes, names)
    return _Groups((*lead, g + r)[: q.ndim - 2], (*lead, g)[: q.ndim - 2], t, s, j, d, e)


def multi_head_attention(
    x_q: Float[Array, "... t i"],
    x_kv: Float[Array, "... s j"],
    wq: Float[Array, "hd i"],
    wk: Float[Array, "gd j"],
    wv: Float[Array, "ge j"],
    wo: Float[Array, "o he"],
    mask: Bool[Array, "..."] | None = None,
    *,
    heads: int,
    key_heads: int | None = None,
    x_v: Float[Array, "... s k"] | None = None,
    bq: Float[Array, "hd"] | None = None,
    bk: Float[Array, "gd"] | None = None,
    bv: Float[Array, "ge"] | None = None,
    bo: Float[Array, "o"] | None = None,
    bias_k: Float[Array, "gd"] | None = None,
    bias_v: Float[Array, "ge"] | None = None,
    add_zero_attention: bool = False,
    bias: Float[Array, "..."] | None = None,
    causal: bool = False,
    offset: int = 0,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    key: Key[Array, ""] | None = None,
    training: bool = True,
    return_weights: bool = False,
) -> Any:
    """Attention of `heads` heads, with linear maps before and after:  y = wo · attention(wq·x_q, wk·x_kv, wv·x_kv).

    This is no layer but a composition of `linear` and `attention`, whose Jacobians `jaxnets.jacobian` composes.

    x_q is [..., t, i] and x_kv [..., s, j] (the same array for self-attention), wq [h·d, i], wk [g·d, j], wv [g·e, j] and
    wo [o, h·e] with h = `heads` and g = `key_heads`, a divisor of h, by default h.  `bias` and `mask` broadcast to
    [..., h, t, s]: a mask for each example has shape [b, 1, t, s].  `x_v` [..., s, k] gives values from other features than
    keys; wv is then [g·e, k].  bq, bk, bv and bo are the biases of the four linear maps.  Raises ShapeError where the rows
    of a weight are no multiple of its heads.

    `bias_k` [g·d] and `bias_v` [g·e], given together, are one more key and value, which are learned, and
    `add_zero_attention` adds a key and a value of zeros, as in torch.  All queries attend to these, whatever the mask says.
    `offset`, `window`, `softcap`, `dropout`, `key` and `training` are those of `attention`.  With `return_weights` the
    result is a pair of y [..., t, o] and the weights [..., t, s], averaged over heads, without dropout; torch's are those
    after dropout.
    """
    groups = heads if key_heads is None else key_heads
    if (bias_k is None) != (bias_v is None):
        missing = "bias_k" if bias_k is None else "bias_v"
        raise DTypeError(f"multi_head_attention: argument '{missing}' is None, expected both bias_k and bias_v or neither")
    sources = ((x_q, wq, bq), (x_kv, wk, bk), (x_kv if x_v is None else x_v, wv, bv))
    q, k, v = (linear(x, w, b) for x, w, b in sources)
    known = k.shape[-2]
    for more, rows in ((bias_k is not None, (bias_k, bias_v)), (add_zero_attention, (0.0, 0.0))):
        k, v = (_with_row(x, row) for x, row in zip((k, v), rows, strict=True)) if more else (k, v)
    q, k, v = (_in_heads(x, name, n) for x, name, n in ((q, "wq", heads), (k, "wk", groups), (v, "wv", groups)))
    config: dict[str, Any] = {"scale": scale, "softcap": softcap}
    if k.shape[-2] == known:
        config |= {"causal": causal, "offset": offset, "window": window}
    else:
        mask = _with_places("multi_head_attention", mask, q.shape[-2], known, causal, offset, window)
        mask, bias = (_with_columns(x, known, k.shape[-2], seen) for x, seen in ((mask, True), (bias, 0.0)))
    y = jnp.swapaxes(attention(q, k, v, bias, mask, key=key, dropout=dropout, training=training, **config), -2, -3)
    y = linear(sharding.reshaped(y, (*y.shape[:-2], y.shape[-2] * y.shape[-1])), wo, bo)
    return (y, mean(attention_weights(q, k, bias, mask, **config), axis=-3)) if return_weights else y


def _with_row(x, row):
    """[..., s, n] with one more row of n numbers, or of one number."""
    return jnp.concatenate([x, jnp.broadcast_to(row, (*x.shape[:-2], 1, x.shape[-1])).astype(x.dtype)], -2)


def _with_columns(x, known, wanted, value):
    """[..., t, known] as [..., t, wanted], with a value in the columns behind; x may be None, and may broadcast."""
    if x is None:
        return None
    x = jnp.broadcast_to(x, (*x.shape[:-1], known))
    return jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, wanted - known)], constant_values=value)


def _in_heads(x, name, heads):
    """[..., t, h·d] as [..., h, t, d]."""
    if isinstance(heads, bool) or not isinstance(heads, int):
        raise TypeError(f"multi_head_attention: the number of heads must be an integer, got {heads!r}")
    if heads < 1 or x.shape[-1] % heads:
        raise ShapeError(
            f"multi_head_attention: argument '{name}' has {x.shape[-1]} rows, expected a multiple of {heads} heads"
        )
    return jnp.swapaxes(sharding.reshaped(x, (*x.shape[:-1], heads, x.shape[-1] // heads)), -2, -3)
