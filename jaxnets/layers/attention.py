"""Attention: averages of values, weighted by how well the keys fit a query."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..algebra.factors import Tensor
from ..algebra.rules import fresh_groups, from_groups, zero
from ..checks import check_broadcasts, check_number
from ..errors import ShapeError
from .layer import layer
from .linear import linear
from .samples import Example
from .softmax import SoftmaxOperator, softmax

__all__ = ["attention", "multi_head_attention"]


@layer(example=Example((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 4), (4, 6), None, scale=1.0))
def attention(
    q: Float[Array, "... t d"],
    k: Float[Array, "... s d"],
    v: Float[Array, "... s e"],
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Array, "... t e"]:
    """Attention  y[..., t, e] = Σ_s p[..., t, s] v[..., s, e],  p = softmax over s of scale Σ_d q[t, d] k[s, d] + bias.

    ∂y[b,h,t,e]/∂q[b,h,t,d] = Σ_sj v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·k[b,h,j,d]

    ∂y[b,h,t,e]/∂k[b,h,j,d] = Σ_s v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])·q[b,h,t,d]

    ∂y[b,h,t,e]/∂v[b,h,s,e] = p[b,h,t,s]     ∂y[b,h,t,e]/∂bias[t,j] = Σ_s v[b,h,s,e]·p[b,h,t,s]·(δ(s,j) − p[b,h,t,j])

    The first two are also multiplied by `scale` (default 1/√d).  Products with them store no array with two axes s.  torch
    calls this scaled_dot_product_attention, jax dot_product_attention.

    Axes are [..., h, t, d] for queries, [..., g, s, d] for keys and [..., g, s, e] for values, or the last two alone without
    heads.  h may be a multiple of g: head j of the queries then uses head j // (h / g) of keys and values.  `bias` and
    `mask` broadcast to [..., h, t, s].  A query attends to keys where `mask` is True, and with `causal` only where s ≤ t,
    both counted from 0, whatever the numbers of keys and queries.  A query that attends to nothing gives 0 with Jacobian 0.
    """
    _check_shapes(q, k, v, bias, mask)
    p = _weights(q, k, bias, mask, causal, scale)
    return jnp.einsum("...rts,...se->...rte", _with_shared_heads(p, k), v).reshape(*q.shape[:-1], v.shape[-1])


@attention.jacobian
def _(y, q, k, v, bias, mask, *, causal, scale):
    p = _weights(q, k, bias, mask, causal, scale)
    lead, key_lead, (t, s, j, d, e) = _attention_labels(q, k, v)
    out, queries, keys, values = (*lead, t, e), (*lead, t, d), (*key_lead, j, d), (*key_lead, s, e)
    by_scores = Tensor(v, values, "v"), SoftmaxOperator(p, (*lead, t, s, j))
    scale = _scale(q, scale)

    def by_bias(y, bias):
        if bias.ndim == 0 or bias.shape[-1] == 1:  # adding a constant to a row changes nothing
            return zero(y, bias)
        own = (*lead, t, j)[y.ndim - bias.ndim :]
        own = tuple(group if n > 1 else () for group, n in zip(own, bias.shape, strict=True))
        return from_groups(out, own, *by_scores)(y, bias)

    return (
        from_groups(out, queries, *by_scores, Tensor(k, keys, "k"), scale=scale),
        from_groups(out, keys, *by_scores, Tensor(q, queries, "q"), scale=scale),
        from_groups(out, values, Tensor(p, (*lead, t, s), "p")),
        by_bias,
        None,
    )


def _check_shapes(q, k, v, bias, mask):
    """ShapeError unless leading axes are equal; queries may have more heads than keys."""
    if k.ndim != q.ndim or k.shape[:-3] != q.shape[:-3] or math.prod(_heads_and_sharers(q, k)) != math.prod(q.shape[-3:-2]):
        raise ShapeError(
            f"attention: argument 'k' has shape {k.shape}, expected [..., g, s, d] with leading axes {q.shape[:-3]} "
            f"and a divisor g of the heads h as 'q' of shape {q.shape}"
        )
    if v.shape[:-2] != k.shape[:-2]:
        raise ShapeError(f"attention: argument 'v' has shape {v.shape}, expected leading axes {k.shape[:-2]} as 'k'")
    scores = (*q.shape[:-1], k.shape[-2])
    for name, x in (("bias", bias), ("mask", mask)):
        if x is not None:
            check_broadcasts("attention", name, x, scores)


def _heads_and_sharers(q, k) -> tuple[int, int]:
    """The number of heads of keys, and of heads of queries for each of them."""
    g = k.shape[-3] if k.ndim > 2 else 1
    return g, (q.shape[-3] if q.ndim > 2 else 1) // max(1, g)


def _with_shared_heads(x, k):
    """[..., h, t, d] as [..., g, h / g, t, d]."""
    return x.reshape(*k.shape[:-2], _heads_and_sharers(x, k)[1], *x.shape[-2:])


def _scale(q, scale):
    return 1 / math.sqrt(max(1, q.shape[-1])) if scale is None else check_number("attention", "scale", scale)


def _weights(q, k, bias, mask, causal, scale):
    """The weights p[..., h, t, s]."""
    t, s = q.shape[-2], k.shape[-2]
    scores = jnp.einsum("...rtd,...sd->...rts", _with_shared_heads(q, k), k).reshape(*q.shape[:-1], s) * _scale(q, scale)
    if causal:
        past = jnp.arange(t)[:, None] >= jnp.arange(s)
        mask = past if mask is None else mask & past
    return softmax.forward(scores if bias is None else scores + bias, mask, axis=-1)


def _attention_labels(q, k, v):
    """Groups of labels for the leading axes of queries and of keys, and for t, s, s again, d and e.

    The head of a query is a pair of labels: the head of keys, and the number among the queries that use it.
    """
    groups, share = _heads_and_sharers(q, k)
    batch = q.shape[:-3]
    heads = ["h" if share == 1 else "g", "h" if groups == 1 else "r"]
    names = [*"b"[: len(batch)], *[""] * (len(batch) - 1), *heads, *"tsjde"]
    sizes = [*batch, groups, share, q.shape[-2], k.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]]
    *lead, g, r, t, s, j, d, e = fresh_groups(sizes, names)
    return (*lead, g + r)[: q.ndim - 2], (*lead, g)[: q.ndim - 2], (t, s, j, d, e)


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
    bq: Float[Array, "hd"] | None = None,
    bk: Float[Array, "gd"] | None = None,
    bv: Float[Array, "ge"] | None = None,
    bo: Float[Array, "o"] | None = None,
    bias: Float[Array, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Array, "... t o"]:
    """Attention of `heads` heads, with linear maps before and after:  y = wo · attention(wq·x_q, wk·x_kv, wv·x_kv).

    This is no layer but a composition of `linear` and `attention`, whose Jacobians `jaxnets.jacobian` composes.

    x_q is [..., t, i] and x_kv [..., s, j] (the same array for self-attention), wq [h·d, i], wk [g·d, j], wv [g·e, j] and
    wo [o, h·e] with h = `heads` and g = `key_heads`, a divisor of h, by default h.  `bias` and `mask` broadcast to
    [..., h, t, s]: a mask for each example has shape [b, 1, t, s].  Raises ShapeError where the rows of a weight are no
    multiple of its heads.
    """
    groups = heads if key_heads is None else key_heads
    q, k, v = (
        _in_heads(linear(x, w, b), name, count)
        for x, w, b, name, count in ((x_q, wq, bq, "wq", heads), (x_kv, wk, bk, "wk", groups), (x_kv, wv, bv, "wv", groups))
    )
    y = jnp.swapaxes(attention(q, k, v, bias, mask, causal=causal, scale=scale), -2, -3)
    return linear(y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1]), wo, bo)


def _in_heads(x, name, heads):
    """[..., t, h·d] as [..., h, t, d]."""
    if isinstance(heads, bool) or not isinstance(heads, int):
        raise TypeError(f"multi_head_attention: the number of heads must be an integer, got {heads!r}")
    if heads < 1 or x.shape[-1] % heads:
        raise ShapeError(
            f"multi_head_attention: argument '{name}' has {x.shape[-1]} rows, expected a multiple of {heads} heads"
        )
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads), -2, -3)
