"""Non-linearities, one number at a time: every Jacobian is diagonal."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..layer import layer
from ..rules import diagonal
from ..rules import identity as identity_rule


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
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit  y[...] = max(x[...], 0).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 where x > 0, else 0.  At the kink x = 0 the derivative is 0.
    """
    return jnp.where(x <= 0, 0, x)  # keeps NaN, and autodiff too has slope 0 at 0


@relu.jacobian
def _(y, x):
    return (diagonal(jnp.where(x <= 0, 0.0, 1.0).astype(x.dtype)),)


@layer
def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent  y[...] = tanh(x[...]).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 4q / (1 + q)²  with  q = exp(−2|x|):  accurate where 1 − y² would round to 0.
    """
    return jnp.tanh(x)


@tanh.jacobian
def _(y, x):
    return (diagonal(tanh_derivative(x)),)


def tanh_derivative(x):
    q = jnp.exp(-2 * jnp.abs(x))
    return 4 * q / jnp.square(1 + q)


@layer
def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function  y[...] = 1 / (1 + exp(−x[...])).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = y(x) · y(−x):  accurate where y (1 − y) would round to 0.
    """
    return jax.lax.logistic(x)


@sigmoid.jacobian
def _(y, x):
    return (diagonal(sigmoid_derivative(x)),)


def sigmoid_derivative(x):
    return jax.lax.logistic(x) * jax.lax.logistic(-x)


@layer
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Smooth rectifier  y[...] = log(1 + exp(x[...])).

    ∂y[b,i]/∂x[b,i] = h'[b,i],  h' = 1 / (1 + exp(−x))
    """
    return jnp.where(x > 0, x, 0) + jnp.log1p(jnp.exp(-jnp.where(x > 0, x, -x)))


@softplus.jacobian
def _(y, x):
    return (diagonal(jax.lax.logistic(x)),)
