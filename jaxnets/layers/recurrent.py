"""Recurrent layers: the state after a step is a function of the state before it and of the input of the step.

A rule writes down the local Jacobians of one step, and one `Recurrence` is made of those of all steps.  No array has two
axes of steps or of examples.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..algebra import sharding
from ..algebra.factors import Label, Tensor
from ..algebra.jacobian import Jacobian
from ..algebra.rules import Rule, diagonal, einsum, fresh_groups, from_groups, identity, named_tensor
from ..algebra.selections import Slice
from ..errors import ShapeError
from .accurate import sigmoid_derivative, tanh_derivative
from .layer import layer
from .recurrent_operator import Loop, at_each_step, one_step, same_at_all_steps, steps_first
from .samples import Example, Probabilities

__all__ = ["rnn", "lstm", "gru", "diagonal_recurrence"]

BEFORE = "the states before the steps"


def _affine(x, w, b):
    """w x + b along the last axis."""
    y = sharding.matmul(x, w.T)
    return y if b is None else y + b


def _check_shapes(name, gates, x, w_ih, w_hh, **starts):
    """ShapeError unless the weights have `gates` blocks of rows, and the states at the start the leading axes of x."""
    h = w_hh.shape[-1]
    if len(w_hh) != gates * h:
        raise ShapeError(f"{name}: argument 'w_hh' has shape {w_hh.shape}, expected [{gates}·h, h] for its {gates} gates")
    _check_starts(name, x, **starts)


def _check_starts(name, x, **starts):
    for argument, start in starts.items():
        if start is not None and start.shape[:-1] != x.shape[:-2]:
            raise ShapeError(
                f"{name}: argument '{argument}' has shape {start.shape}, expected leading axes {x.shape[:-2]} as 'x' of "
                f"shape {x.shape}"
            )


def _steps_last(x):
    """[..., t, i] from [t, ..., i]."""
    return jnp.moveaxis(x, 0, -2)


def _start(x, size, start, *others):
    """The state at the start, 0 if it is None, in the dtype of all arguments."""
    dtype = jnp.result_type(x, *(a for a in (start, *others) if a is not None))
    return jnp.zeros((*x.shape[:-2], size), dtype) if start is None else start.astype(dtype)


def _before(y, start):
    """The state before every step, from the one after it and the one at the start; both have the axis t last but one."""
    first = jnp.zeros_like(y, shape=(*y.shape[:-2], y.shape[-1])) if start is None else start.astype(y.dtype)
    return jnp.concatenate([first[..., None, :], y], -2)[..., : y.shape[-2], :]


@layer(example=Example((2, 4, 3), Probabilities((5, 3)), Probabilities((5, 5)), (5,), (5,), (2, 5)))
def rnn(
    x: Float[Array, "... t i"],
    w_ih: Float[Array, "h i"],
    w_hh: Float[Array, "h h"],
    b_ih: Float[Array, "h"] | None = None,
    b_hh: Float[Array, "h"] | None = None,
    h0: Float[Array, "... h"] | None = None,
) -> Float[Array, "... t h"]:
    """Recurrent layer  y[..., t, :] = tanh(w_ih x[..., t, :] + b_ih + w_hh y[..., t−1, :] + b_hh).

    With a for the sum of which tanh is taken,

    ∂y[b,t,o]/∂x[b,s,i] = Σ_a R[b,t,o,s,a]·w_ih[a,i]

    ∂y[b,t,o]/∂w_ih[a,i] = Σ_s R[b,t,o,s,a]·x[b,s,i]

    ∂y[b,t,o]/∂w_hh[a,i] = Σ_s R[b,t,o,s,a]·h⁻[b,s,i]

    ∂y[b,t,o]/∂b_ih[a] = Σ_s R[b,t,o,s,a]     ∂y[b,t,o]/∂b_hh[a] = Σ_s R[b,t,o,s,a]

    ∂y[b,t,o]/∂h0[b,k] = R⁰[b,t,o,k]

    R[b,t,o,s,a] is the derivative of the state after step t by a at step s, and R⁰[b,t,o,k] that by the state at the start.
    It is the solution of a recurrence, which a product with it runs through once: with the local Jacobians of a step,
    tanh'(a) and w_hh, both kept.  h⁻ is the state before every step.

    x is [..., t, i] and y [..., t, h]; w_ih [h, i], w_hh [h, h], b_ih and b_hh [h].  The state before the first step is h0,
    [..., h], or 0.  A bias may be None.  Raises ShapeError where shapes do not fit.  The formula is that of torch.nn.RNN,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html.
    """
    _check_starts("rnn", x, h0=h0)

    def step(h, a):
        h = jnp.tanh(a + _affine(h, w_hh, b_hh))
        return h, h

    start = _start(x, len(w_hh), h0, w_ih, w_hh, b_ih, b_hh)
    return _steps_last(lax.scan(step, start, steps_first(_affine(x, w_ih, b_ih)))[1])


@rnn.jacobian
def _(y, x, w_ih, w_hh, b_ih, b_hh, h0):
    before = _before(y, h0)
    slope = tanh_derivative(_affine(x, w_ih, b_ih) + _affine(before, w_hh, b_hh))
    state = one_step(y)
    loop = Loop(y, 1, [1], len(w_hh), [
        same_at_all_steps(1, 0, einsum("...a", "...i", (w_hh, "ai")), state, state),
        at_each_step(2, 1, diagonal, state, state, slope),
    ])  # fmt: skip
    return (
        loop.by_input(1, w_ih),
        loop.by_weight(1, x, "x"),
        loop.by_weight(1, before, "h⁻", BEFORE),
        loop.by_bias(1),
        loop.by_bias(1),
        loop.by_start(0),
    )


@layer(example=Example((2, 4, 3), (20, 3), (20, 5), (20,), (20,), (2, 5), (2, 5)))
def lstm(
    x: Float[Array, "... t i"],
    w_ih: Float[Array, "gh i"],
    w_hh: Float[Array, "gh h"],
    b_ih: Float[Array, "gh"] | None = None,
    b_hh: Float[Array, "gh"] | None = None,
    h0: Float[Array, "... h"] | None = None,
    c0: Float[Array, "... h"] | None = None,
) -> Float[Array, "... t h"]:
    """Long short-term memory  y[..., t, :] = o tanh(c[..., t, :]),  c[..., t, :] = f c[..., t−1, :] + i g.

    The gates i = σ(a₁), f = σ(a₂), g = tanh(a₃) and o = σ(a₄) come from the four parts of the pre-activations
    a[..., t, :] = w_ih x[..., t, :] + w_hh y[..., t−1, :] + b_ih + b_hh.

    ∂y[b,t,o]/∂x[b,s,i] = Σ_a R[b,t,o,s,a]·w_ih[a,i]

    ∂y[b,t,o]/∂w_ih[a,i] = Σ_s R[b,t,o,s,a]·x[b,s,i]

    ∂y[b,t,o]/∂w_hh[a,i] = Σ_s R[b,t,o,s,a]·h⁻[b,s,i]

    ∂y[b,t,o]/∂b_ih[a] = Σ_s R[b,t,o,s,a]

    ∂y[b,t,o]/∂b_hh[a] = Σ_s R[b,t,o,s,a]

    ∂y[b,t,o]/∂h0[b,k] = R⁰[b,t,o,k]     ∂y[b,t,o]/∂c0[b,k] = R⁰ᵇ[b,t,o,k]

    R[b,t,o,s,a] is the derivative of the state after step t by a at step s, as in `rnn`; R⁰ and R⁰ᵇ are those by h0 and c0.
    The local Jacobians of a step that it keeps are, with h⁻ and c⁻ for y and c before the step,

    ∂c/∂a₁ = g i (1 − i)     ∂c/∂a₂ = c⁻ f (1 − f)     ∂c/∂a₃ = i (1 − g²)     ∂c/∂c⁻ = f

    ∂y/∂a₄ = tanh(c) o (1 − o)     ∂y/∂c = o (1 − tanh²(c))     ∂a/∂h⁻ = w_hh

    x is [..., t, i] and y [..., t, h]; w_ih [4·h, i], w_hh [4·h, h], b_ih and b_hh [4·h].  The states before the first step
    are h0 and c0, [..., h], each 0 if it is None.  A bias may be None.  Raises ShapeError where shapes do not fit.  Formula
    and order of the gates are those of torch.nn.LSTM, https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html.
    """
    _check_shapes("lstm", 4, x, w_ih, w_hh, h0=h0, c0=c0)

    def step(state, a):
        h, c = state
        i, f, g, o = _lstm_gates(a + _affine(h, w_hh, b_hh))
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), h

    arguments = x, w_ih, w_hh, b_ih, b_hh, h0, c0
    start = tuple(_start(x, w_hh.shape[-1], s, *arguments) for s in (h0, c0))
    return _steps_last(lax.scan(step, start, steps_first(_affine(x, w_ih, b_ih)))[1])


def _lstm_gates(a):
    """The gates i, f, g, o from their pre-activations."""
    i, f, g, o = jnp.split(a, 4, -1)
    return lax.logistic(i), lax.logistic(f), jnp.tanh(g), lax.logistic(o)


@lstm.jacobian
def _(y, x, w_ih, w_hh, b_ih, b_hh, h0, c0):
    before = _before(y, h0)
    a = _affine(x, w_ih, b_ih) + _affine(before, w_hh, b_hh)
    i, f, g, o = _lstm_gates(a)
    a_i, a_f, a_g, a_o = jnp.split(a, 4, -1)
    start = jnp.zeros_like(i, shape=(*y.shape[:-2], y.shape[-1])) if c0 is None else c0.astype(i.dtype)
    c = _linear_recurrence(f, i * g, start)
    c_before = _before(c, c0)
    # The values of a step: 0 and 1 are h and c before it, 2 the pre-activations, 3 and 5 the new c, 4 the new h.
    state, gates = one_step(y), one_step(y, len(w_hh))
    by_gates = jnp.stack([g * sigmoid_derivative(a_i), c_before * sigmoid_derivative(a_f), i * tanh_derivative(a_g)], -3)
    loop = Loop(y, 2, [2], len(w_hh), [
        same_at_all_steps(2, 0, einsum("...a", "...i", (w_hh, "ai")), gates, state),
        at_each_step(3, 1, diagonal, state, state, f),
        at_each_step(3, 2, lambda d: _by_gates(d, 0), state, gates, by_gates),
        at_each_step(4, 2, lambda d: _by_gates(d[..., None, :], 3), state, gates, sigmoid_derivative(a_o, jnp.tanh(c))),
        at_each_step(4, 3, diagonal, state, state, o * tanh_derivative(c)),
        same_at_all_steps(5, 3, identity, state, state),
    ])  # fmt: skip
    return (
        loop.by_input(2, w_ih),
        loop.by_weight(2, x, "x"),
        loop.by_weight(2, before, "h⁻", BEFORE),
        loop.by_bias(2),
        loop.by_bias(2),
        loop.by_start(0),
        loop.by_start(1),
    )


def _linear_recurrence(a, u, start):
    """The states s[..., t, :] = a[..., t, :] s[..., t−1, :] + u[..., t, :]."""

    def step(s, now):
        s = now[0] * s + now[1]
        return s, s

    return _steps_last(lax.scan(step, start, (steps_first(a), steps_first(u)))[1])


def _by_gates(d, first: int) -> Rule:
    """∂h[..., i]/∂a[..., g·n + i] = d[..., g − first, i], the gates being those from the first on; there are n states."""
    out = fresh_groups((*d.shape[:-2], d.shape[-1]))
    gate = (Label(len(out), d.shape[-2]),)

    def rule(h, a) -> Jacobian:
        whole = (Label(len(out) + 1, a.shape[-1]),)
        factors = Tensor(d, (*out[:-1], gate, out[-1])), Slice(first * d.shape[-1], 1, (gate + out[-1], whole))
        return from_groups(out, (*out[:-1], whole), *factors)(h, a)

    return rule


@layer(example=Example((2, 4, 3), (15, 3), (15, 5), (15,), (15,), (2, 5)))
def gru(
    x: Float[Array, "... t i"],
    w_ih: Float[Array, "gh i"],
    w_hh: Float[Array, "gh h"],
    b_ih: Float[Array, "gh"] | None = None,
    b_hh: Float[Array, "gh"] | None = None,
    h0: Float[Array, "... h"] | None = None,
) -> Float[Array, "... t h"]:
    """Gated recurrent unit  y[..., t, :] = (1 − z) n + z y[..., t−1, :],  n = tanh(a₃).

    The gates are r = σ(a₁) and z = σ(a₂), with the three parts of a[..., t, :] = w_ih x[..., t, :] + b_ih + q d[..., t, :],
    d[..., t, :] = w_hh y[..., t−1, :] + b_hh and q = 1, 1, r in the three parts.

    ∂y[b,t,o]/∂x[b,s,i] = Σ_a Rᵇ[b,t,o,s,a]·w_ih[a,i]

    ∂y[b,t,o]/∂w_ih[a,i] = Σ_s Rᵇ[b,t,o,s,a]·x[b,s,i]

    ∂y[b,t,o]/∂w_hh[a,i] = Σ_s R[b,t,o,s,a]·h⁻[b,s,i]

    ∂y[b,t,o]/∂b_ih[a] = Σ_s Rᵇ[b,t,o,s,a]     ∂y[b,t,o]/∂b_hh[a] = Σ_s R[b,t,o,s,a]

    ∂y[b,t,o]/∂h0[b,k] = R⁰[b,t,o,k]

    Rᵇ[b,t,o,s,a] is the derivative of the state after step t by a at step s, R[b,t,o,s,a] that by d, and R⁰ that by h0.
    The local Jacobians of a step that it keeps are, with h⁻ for the state before the step,

    ∂y/∂a₁ = d₃ r (1 − r) ∂y/∂a₃     ∂y/∂a₂ = (h⁻ − n) z (1 − z)     ∂y/∂a₃ = (1 − z) (1 − n²)

    ∂a/∂d = q     ∂d/∂h⁻ = w_hh     ∂y/∂h⁻ = z

    of which ∂y/∂a₁ goes the way through r in a₃.

    x is [..., t, i] and y [..., t, h]; w_ih [3·h, i], w_hh [3·h, h], b_ih and b_hh [3·h].  The state before the first step
    is h0, [..., h], or 0.  A bias may be None.  Raises ShapeError where shapes do not fit.  Formula and order of the gates
    are those of torch.nn.GRU, https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html.
    """
    _check_shapes("gru", 3, x, w_ih, w_hh, h0=h0)

    def step(h, of_input):
        r, z, n, _ = _gru_gates(of_input, _affine(h, w_hh, b_hh))
        h = (1 - z) * n + z * h
        return h, h

    start = _start(x, w_hh.shape[-1], h0, w_ih, w_hh, b_ih, b_hh)
    return _steps_last(lax.scan(step, start, steps_first(_affine(x, w_ih, b_ih)))[1])


def _gru_gates(of_input, of_state):
    """The gates r and z, the candidate n, and the pre-activation of n."""
    (r, z, n), (state_r, state_z, state_n) = jnp.split(of_input, 3, -1), jnp.split(of_state, 3, -1)
    r, z = lax.logistic(r + state_r), lax.logistic(z + state_z)
    a = n + r * state_n
    return r, z, jnp.tanh(a), a


@gru.jacobian
def _(y, x, w_ih, w_hh, b_ih, b_hh, h0):
    before = _before(y, h0)
    of_input, of_state = _affine(x, w_ih, b_ih), _affine(before, w_hh, b_hh)
    r, z, n, a_n = _gru_gates(of_input, of_state)
    a_r, a_z, _ = jnp.split(of_input + of_state, 3, -1)
    by_n = (1 - z) * tanh_derivative(a_n)
    by_r = by_n * sigmoid_derivative(a_r, jnp.split(of_state, 3, -1)[2])
    by_gates = jnp.stack([by_r, sigmoid_derivative(a_z, before - n), by_n], -3)
    reset = jnp.concatenate([jnp.ones_like(r), jnp.ones_like(r), r], -1)
    # The values of a step: 0 is h before it, 1 is d, 2 is a, to which d comes with a factor r in its last part, 3 the new h.
    state, gates = one_step(y), one_step(y, len(w_hh))
    loop = Loop(y, 1, [1, 2], len(w_hh), [
        same_at_all_steps(1, 0, einsum("...a", "...i", (w_hh, "ai")), gates, state),
        at_each_step(2, 1, diagonal, gates, gates, reset),
        at_each_step(3, 2, lambda d: _by_gates(d, 0), state, gates, by_gates),
        at_each_step(3, 0, diagonal, state, state, z),
    ])  # fmt: skip
    return (
        loop.by_input(2, w_ih),
        loop.by_weight(2, x, "x"),
        loop.by_weight(1, before, "h⁻", BEFORE),
        loop.by_bias(2),
        loop.by_bias(1),
        loop.by_start(0),
    )


@layer(example=Example((2, 4, 3), (3,), (3,), (2, 3)))
def diagonal_recurrence(
    x: Float[Array, "... t i"],
    a: Float[Array, "i"],
    b: Float[Array, "i"] | None = None,
    h0: Float[Array, "... i"] | None = None,
) -> Float[Array, "... t i"]:
    """Diagonal state space  y[..., t, i] = a[i] y[..., t−1, i] + b[i] x[..., t, i].

    ∂y[b,t,i]/∂x[b,s,i] = R[b,i,t,s]·b[i]

    ∂y[b,t,i]/∂a[i] = Σ_s R[b,i,t,s]·h⁻[b,s,i]

    ∂y[b,t,i]/∂b[i] = Σ_s R[b,i,t,s]·x[b,s,i]     ∂y[b,t,i]/∂h0[b,i] = R⁰[b,i,t]

    R[b,i,t,s] = a[i]^(t−s) for s ≤ t, else 0, is the derivative of the state after step t by what comes in at step s, as in
    `rnn`, and R⁰[b,i,t] that by the state at the start; it keeps a alone.  h⁻ is the state before every step.

    x and y are [..., t, i]; a and b are [i]; without b it is 1.  The state before the first step is h0, [..., i], or 0.
    All numbers are real: S4D-Real, https://arxiv.org/abs/2206.11893, after its discretization, and the recurrence of an LRU,
    https://arxiv.org/abs/2303.06349, without its complex phases.  Their matrices before and after it are `linear` layers.
    Raises ShapeError where shapes do not fit.
    """
    _check_starts("diagonal_recurrence", x, h0=h0)
    u = x if b is None else b * x
    start = _start(x, len(a), h0, a, b)

    def step(h, u):
        h = a * h + u
        return h, h

    return _steps_last(lax.scan(step, start, steps_first(u))[1])


@diagonal_recurrence.jacobian
def _(y, x, a, b, h0):
    state = one_step(y)
    loop = Loop(y, 1, [1], len(a), [
        same_at_all_steps(1, 0, einsum("...i", "...i", (a, "i")), state, state),
        same_at_all_steps(2, 1, identity, state, state),
    ], is_diagonal=True)  # fmt: skip
    gain = [] if b is None else [named_tensor(b, (loop.a,), "b")]
    return (
        loop.by(1, loop.entry, *gain),
        loop.by(1, (loop.a,), named_tensor(_before(y, h0), loop.entry, "h⁻", BEFORE)),
        loop.by(1, (loop.a,), named_tensor(x, loop.entry, "x")),
        loop.by_start(0),
    )
