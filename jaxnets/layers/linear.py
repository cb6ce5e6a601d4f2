"""Weighted sums."""

from jaxtyping import Array, Float

from ..layer import layer
from ..rules import einsum


@layer(plain=True)
def linear(x: Float[Array, "... i"], w: Float[Array, "o i"], b: Float[Array, "o"] | None = None) -> Float[Array, "... o"]:
    """Affine map  y[..., o] = Σ_i w[o, i] x[..., i] + b[o].  Leading axes are batch; `b` may be None.

    ∂y[b,o]/∂x[b,i] = w[o,i]     ∂y[b,o]/∂w[o,i] = x[b,i]     ∂y[b,o]/∂b[o] = 1

    Raises ShapeError where the `i` of x and w, or the `o` of w and b, differ.
    """
    y = x @ w.T
    return y if b is None else y + b


@linear.jacobian
def _(y, x, w, b):
    return (
        einsum("...o", "...i", (w, "oi", "w")),
        einsum("...o", "oi", (x, "...i", "x")),
        einsum("...o", "o"),
    )
