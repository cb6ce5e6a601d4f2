"""Smooth non-linearities, which map every number by itself, so that every Jacobian is diagonal.

Wherever the result is a normal number, values and derivatives have errors of at most 5 units of the last place, nearly
always at most 4, unless the docstring says otherwise.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..algebra.rules import Rule, diagonal
from ..algebra.rules import identity as identity_rule
from ..checks import check_nonzero, check_number, check_positive
from . import accurate
from .accurate import (
    expm1,
    gelu_derivative,
    minus_abs,
    mish_derivative,
    sigmoid_derivative,
    silu_derivative,
    split_exp,
    tanh_derivative,
    tanh_gelu_derivative,
    tanh_squared,
    times_sigmoid,
)
from .layer import layer

__all__ = [
    "identity", "tanh", "tanh_shrink", "sigmoid", "log_sigmoid", "softplus", "squareplus", "softsign", "elu", "selu", "celu",
    "silu", "mish", "gelu", "swish",
]  # fmt: skip


def _slope(derivative, meaning: str) -> Rule:
    """The rule of a function of every number by itself, with the formula of its derivative."""
    return diagonal(derivative, "h'", meaning)


@layer
def identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The input itself  y[...] = x[...].

    ∂y[b,i]/∂x[b,i] = 1
    """
    return x


@identity.jacobian
def _(y, x):
    return (identity_rule,)


@layer
def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent  y[...] = tanh(x[...]).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 − y²

    It is computed as 4q / (1 + q)² with q = exp(−2|x|), which is accurate where 1 − y² would round to 0.
    """
    return accurate.tanh(x)


@tanh.jacobian
def _(y, x):
    return (_slope(tanh_derivative(x), "1 − y²"),)


@layer
def tanh_shrink(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Input minus its hyperbolic tangent  y[...] = x[...] − tanh(x[...]).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = tanh²(x)

    Near 0, where digits of the difference would cancel, it is computed as a quotient of polynomials.
    """
    return accurate.x_minus_tanh(x)


@tanh_shrink.jacobian
def _(y, x):
    return (_slope(tanh_squared(x), "tanh²(x)"),)


@layer
def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function  y[...] = 1 / (1 + exp(−x[...])).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = y (1 − y)

    It is computed as q / (1 + q)² with q = exp(−|x|), which is accurate where y (1 − y) would round to 0.
    """
    return jax.lax.logistic(x)


@sigmoid.jacobian
def _(y, x):
    return (_slope(sigmoid_derivative(x), "y (1 − y)"),)


@layer
def log_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logarithm of the logistic function  y[...] = −log(1 + exp(−x[...])).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 / (1 + exp(x))
    """
    return jnp.where(x < 0, x, 0) - _log1p_exp_minus_abs(x)


def _log1p_exp_minus_abs(x):
    """log(1 + exp(−|x|))."""
    return jnp.log1p(jnp.exp(minus_abs(x)))


@log_sigmoid.jacobian
def _(y, x):
    return (_slope(jax.lax.logistic(-x), "1 / (1 + exp(x))"),)


@layer
def softplus(x: Float[Array, "..."], *, beta: float = 1.0, threshold: float | None = None) -> Float[Array, "..."]:
    """Smooth rectifier  y[...] = log(1 + exp(beta·x[...])) / beta.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 / (1 + exp(−beta·x))

    Nothing overflows, so by default nothing is cut off; with a `threshold`, y = x where beta·x > threshold (torch's default
    is 20).  Where beta·x is rounded, its relative error times |beta·x| is that of y and h'.  Raises ValueError for a beta
    of 0.
    """
    beta = check_nonzero("softplus", "beta", beta)
    z = beta * x
    y = (jnp.where(z < 0, 0, z) + _log1p_exp_minus_abs(z)) / beta  # both choose the same side at 0
    return y if threshold is None else jnp.where(z > check_number("softplus", "threshold", threshold), x, y)


@softplus.jacobian
def _(y, x, *, beta, threshold):
    z = beta * x
    h = jax.lax.logistic(z)
    return (_slope(h if threshold is None else jnp.where(z > threshold, 1, h), "1 / (1 + exp(−beta·x))"),)


@layer
def squareplus(x: Float[Array, "..."], *, b: float = 4.0) -> Float[Array, "..."]:
    """Algebraic rectifier  y[...] = (x[...] + √(x[...]² + b)) / 2,  the relu with its kink rounded off.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = (1 + x / √(x² + b)) / 2

    For x < 0 it is computed as b / (2 (√(x² + b) − x)), in which no digits cancel, and no square overflows.  Raises
    ValueError unless b is positive and finite.
    """
    root, half = _root_of_square_plus(x, b), b / 2
    return jnp.where(x > 0, (jnp.where(x > 0, x, 0) + root) / 2, half / (root + jnp.where(x > 0, 0, -x)))


def _root_of_square_plus(x, b):
    """√(x² + b)."""
    c = math.sqrt(check_positive("squareplus", "b", b))
    size = minus_abs(x)
    far = size < -c
    return jnp.where(
        far,
        -jnp.where(far, size, -1) * jnp.sqrt(1 + jnp.square(c / jnp.where(far, x, c))),
        c * jnp.sqrt(1 + jnp.square(jnp.where(far, 0, x) / c)),
    )


@squareplus.jacobian
def _(y, x, *, b):
    root = _root_of_square_plus(x, b)
    c = math.sqrt(b)
    below = (c / root) * (c / (root + jnp.where(x > 0, 0, -x))) / 2
    above = (1 + jnp.where(jnp.isinf(x), 1, x / jnp.where(jnp.isinf(x), 1, root))) / 2
    return (_slope(jnp.where(x > 0, above, below), "(1 + x / √(x² + b)) / 2"),)


@layer
def softsign(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Soft sign  y[...] = x[...] / (1 + |x[...]|).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 / (1 + |x|)²
    """
    infinite = jnp.isinf(x)
    finite = jnp.where(infinite, 0, x)
    return jnp.where(infinite, jnp.sign(x), finite / (1 + jnp.abs(finite)))


@softsign.jacobian
def _(y, x):
    return (_slope(1 / jnp.square(1 + jnp.abs(x)), "1 / (1 + |x|)²"),)


@layer
def elu(x: Float[Array, "..."], *, alpha: float = 1.0) -> Float[Array, "..."]:
    """Exponential linear unit  y[...] = x[...] if x[...] > 0 else alpha·(exp(x[...]) − 1).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else alpha·exp(x).  At x = 0 it is alpha, as in torch.
    """
    return _exponential_linear(x, 1.0, check_number("elu", "alpha", alpha))


def _exponential_linear(x, above, below, alpha=1.0):
    return jnp.where(
        x > 0, above * x, expm1(jnp.where(x > 0, 0, x), below, alpha)
    )  # the branch that is not taken may overflow


def _exponential_linear_rule(x, meaning, above, below, alpha=1.0):
    e, m = split_exp(jnp.where(x > 0, 0, x) / alpha)
    return _slope(jnp.where(x > 0, above, below * e * m), meaning)


@elu.jacobian
def _(y, x, *, alpha):
    return (_exponential_linear_rule(x, "1 where x > 0, else alpha·exp(x)", 1.0, alpha),)


SELU_GAMMA, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
SELU_PRODUCT = 1.7580993408473768  # the product of both before they are rounded


@layer
def selu(x: Float[Array, "..."], *, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Float[Array, "..."]:
    """Self-normalising unit  y[...] = λ·(x[...] if x[...] > 0 else α·(exp(x[...]) − 1)),  λ = 1.0507…, α = 1.6732….

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = λ where x > 0, else λα·exp(x).  At x = 0 it is λα, as in torch.

    With the default λ = `gamma` and α = `alpha` it keeps activations near mean 0 and variance 1 from layer to layer
    (Klambauer et al. 2017).
    """
    return _exponential_linear(x, *_selu_slopes(alpha, gamma))


def _selu_slopes(alpha, gamma) -> tuple[float, float]:
    """The slope above 0, and that below 0 at 0."""
    alpha, gamma = check_number("selu", "alpha", alpha), check_number("selu", "gamma", gamma)
    return gamma, SELU_PRODUCT if (alpha, gamma) == (SELU_ALPHA, SELU_GAMMA) else gamma * alpha


@selu.jacobian
def _(y, x, *, alpha, gamma):
    return (_exponential_linear_rule(x, "λ where x > 0, else λα·exp(x)", *_selu_slopes(alpha, gamma)),)


@layer
def celu(x: Float[Array, "..."], *, alpha: float = 1.0) -> Float[Array, "..."]:
    """Continuously differentiable elu  y[...] = x[...] if x[...] > 0 else alpha·(exp(x[...] / alpha) − 1).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else exp(x / alpha)

    Where x / alpha is rounded, its relative error times |x / alpha| is that of h'.  Raises ValueError for an alpha of 0.
    """
    alpha = check_nonzero("celu", "alpha", alpha)
    return _exponential_linear(x, 1.0, alpha, alpha)


@celu.jacobian
def _(y, x, *, alpha):
    return (_exponential_linear_rule(x, "1 where x > 0, else exp(x / alpha)", 1.0, 1.0, alpha),)


@layer
def silu(x: Float[Array, "..."], *, alpha: float = 1.0) -> Float[Array, "..."]:
    """Sigmoid-weighted linear unit, swish  y[...] = x[...] σ(alpha·x[...])  with σ(z) = 1 / (1 + exp(−z)).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = σ(z) (1 + z σ(−z))  with  z = alpha·x,  accurate also around its zero z = −1.278.

    Where z is −∞ both are 0.  Where alpha·x is rounded, its relative error times |alpha·x| is that of y and h'.
    """
    z = _argument_of_gate(x, alpha)
    deep = z < -4 * accurate.LIMIT[x.dtype.name]  # where σ(z) is 0, but x may be infinite
    return times_sigmoid(jnp.where(deep, jnp.sign(x), x), z)


def _argument_of_gate(x, alpha):
    """alpha·x, and 0 for an alpha of 0."""
    alpha = check_number("silu", "alpha", alpha)
    return alpha * x if alpha else jnp.where(jnp.isnan(x), x, 0)


@silu.jacobian
def _(y, x, *, alpha):
    return (_slope(silu_derivative(_argument_of_gate(x, alpha)), "σ(z) (1 + z σ(−z))  with  z = alpha·x"),)


swish = silu


@layer
def mish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Self-regularised unit  y[...] = x[...] tanh(log(1 + exp(x[...]))).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = t + x σ(x) (1 − t²)  with  t = tanh(log(1 + exp(x))),  accurate also around its zero
    −1.192.  At −∞ both are 0.
    """
    return accurate.mish(x)


@mish.jacobian
def _(y, x):
    return (_slope(mish_derivative(x), "t + x σ(x) (1 − t²)  with  t = tanh(log(1 + exp(x)))"),)


@layer
def gelu(x: Float[Array, "..."], *, approximate: bool | str = False) -> Float[Array, "..."]:
    """Gaussian error linear unit  y[...] = x[...] Φ(x[...])  with Φ the normal distribution function.

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = Φ(x) + x exp(−x²/2) / √(2π)

    `approximate` False or "none" is this form; True or "tanh" is y = x σ(v), v = √(8/π) (x + 0.044715 x³), with
    h' = σ(v) (1 + x v' σ(−v)).  At −∞ both are 0.

    Errors in units of the last place: at most 5 + 2x² and 12 in the exact form, 4 + 4x² in the other one.
    """
    if approximate in (False, "none"):
        return accurate.gelu(x)
    if approximate not in (True, "tanh"):
        raise ValueError(f"gelu: approximate must be False, True, 'none' or 'tanh', got {approximate!r}")
    return accurate.tanh_gelu(x)


@gelu.jacobian
def _(y, x, *, approximate):
    if approximate in (False, "none"):
        return (_slope(gelu_derivative(x), "Φ(x) + x exp(−x²/2) / √(2π)"),)
    return (_slope(tanh_gelu_derivative(x), "σ(v) (1 + x v' σ(−v))"),)
