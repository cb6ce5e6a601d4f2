"""Weighted sums."""

from typing import TYPE_CHECKING, cast, overload

from jaxtyping import Array, Float
from opt_einsum.parser import parse_einsum_input

from ..algebra import sharding
from ..algebra.factors import Label, Tensor
from ..algebra.rules import einsum as einsum_rule
from ..algebra.rules import from_groups
from ..errors import ShapeError
from .layer import Layer, layer
from .samples import Example

__all__ = ["linear", "bilinear", "matmul", "einsum"]


@layer(plain=True)
def linear(x: Float[Array, "... i"], w: Float[Array, "o i"], b: Float[Array, "o"] | None = None) -> Float[Array, "... o"]:
    """Affine map  y[..., o] = Σ_i w[o, i] x[..., i] + b[o].  Leading axes are batch; `b` may be None.

    ∂y[b,o]/∂x[b,i] = w[o,i]     ∂y[b,o]/∂w[o,i] = x[b,i]     ∂y[b,o]/∂b[o] = 1

    Raises ShapeError where the `i` of x and w, or the `o` of w and b, differ.
    """
    y = sharding.matmul(x, w.T)
    return y if b is None else y + b


@linear.jacobian
def _(y, x, w, b):
    return (
        einsum_rule("...o", "...i", (w, "oi", "w")),
        einsum_rule("...o", "oi", (x, "...i", "x")),
        einsum_rule("...o", "o"),
    )


@layer(plain=True)
def bilinear(
    x1: Float[Array, "... i"], x2: Float[Array, "... j"], w: Float[Array, "o i j"], b: Float[Array, "o"] | None = None
) -> Float[Array, "... o"]:
    """Bilinear form  y[..., o] = Σ_ij x1[..., i] w[o, i, j] x2[..., j] + b[o].

    ∂y[b,o]/∂x1[b,i] = Σ_j w[o,i,j]·x2[b,j]     ∂y[b,o]/∂x2[b,j] = Σ_i w[o,i,j]·x1[b,i]

    ∂y[b,o]/∂w[o,i,j] = x1[b,i]·x2[b,j]     ∂y[b,o]/∂b[o] = 1
    """
    if x1.shape[:-1] != x2.shape[:-1]:
        raise ShapeError(f"bilinear: argument 'x2' has shape {x2.shape}, expected leading axes {x1.shape[:-1]} as 'x1'")
    y = sharding.einsum("...i,oij,...j->...o", x1, w, x2)
    return y if b is None else y + b


@bilinear.jacobian
def _(y, x1, x2, w, b):
    return (
        einsum_rule("...o", "...i", (w, "oij", "w"), (x2, "...j", "x2")),
        einsum_rule("...o", "...j", (w, "oij", "w"), (x1, "...i", "x1")),
        einsum_rule("...o", "oij", (x1, "...i", "x1"), (x2, "...j", "x2")),
        einsum_rule("...o", "o"),
    )


@layer(plain=True, example=Example((4, 3, 5), (4, 5, 2)))
def matmul(x1: Float[Array, "..."], x2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Matrix product  y[..., n, m] = Σ_k x1[..., n, k] x2[..., k, m]; leading axes broadcast, vectors have no n or m.

    ∂y[b,n,m]/∂x1[b,n,k] = x2[b,k,m]     ∂y[b,n,m]/∂x2[b,k,m] = x1[b,n,k]
    """
    if 0 in (x1.ndim, x2.ndim):
        name, x = ("x2", x2) if x1.ndim else ("x1", x1)
        raise ShapeError(f"matmul: argument '{name}' has shape {x.shape}, expected a vector, a matrix or a stack of them")
    try:
        return sharding.matmul(x1, x2)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"matmul: argument 'x2' of shape {x2.shape} does not fit 'x1' of shape {x1.shape}") from error


@matmul.jacobian
def _(y, x1, x2):
    n, m = "n" * (x1.ndim > 1), "m" * (x2.ndim > 1)
    left, right = f"...{n}k" if n else "k", f"...k{m}" if m else "k"
    out = f"...{n}{m}"
    return einsum_rule(out, left, (x2, right, "x2")), einsum_rule(out, right, (x1, left, "x1"))


if TYPE_CHECKING:

    class _SubscriptsFirst(Layer[..., Array]):
        """The subscripts come first, as in NumPy, or by their name."""

        @overload
        def __call__(self, subscripts: str, /, *xs: Array) -> Array: ...
        @overload
        def __call__(self, *xs: Array, subscripts: str) -> Array: ...
        def __call__(self, *args, **kwargs): ...


def _subscripts_first(made: Layer) -> "_SubscriptsFirst":
    """The layer as it is: type checkers learn in which two ways it is called."""
    return cast("_SubscriptsFirst", made)


@_subscripts_first
@layer(plain=True, example=Example((4, 5), (3, 5), subscripts="bi,oi->bo"))
def einsum(*xs: Float[Array, "..."], subscripts: str) -> Float[Array, "..."]:
    """Sum of products over named indices, called as in NumPy: `einsum("bi,oi->bo", x, w)`.

    ∂y[b,o]/∂xs1[b,i] = xs2[o,i]     ∂y[b,o]/∂xs2[o,i] = xs1[b,i],  each the product of all other arguments

    Raises ValueError for subscripts that cannot be read, ShapeError where an index has two sizes.
    """
    _axis_letters(subscripts, xs)
    return sharding.einsum(subscripts, *xs)


def _axis_letters(subscripts, xs) -> tuple[list[str], str]:
    """One letter for each axis of every argument and of the output; an ellipsis becomes letters."""
    try:
        inputs, output, _ = parse_einsum_input((subscripts, *(x.shape for x in xs)), shapes=True)
    except (TypeError, ValueError, IndexError) as error:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ValueError(f"einsum: subscripts {subscripts!r} do not fit arguments of shape {shapes}: {error}") from None
    sizes: dict[str, tuple[int, str]] = {}
    for i, (letters, x) in enumerate(zip(inputs.split(","), xs, strict=True)):
        if len(letters) != x.ndim:
            raise ShapeError(f"einsum: argument 'xs{i + 1}' has shape {x.shape}, expected {len(letters)} axes, {letters!r}")
        for letter, size in zip(letters, x.shape, strict=True):
            known, source = sizes.setdefault(letter, (size, f"xs{i + 1}"))
            if known != size:
                raise ShapeError(
                    f"einsum: argument 'xs{i + 1}' has shape {x.shape}, expected {letter} = {known} as in '{source}'"
                )
    return inputs.split(","), output


@einsum.jacobian
def _(y, *xs, subscripts):
    inputs, output = _axis_letters(subscripts, xs)
    labels: dict[str, Label] = {}
    for letters, x in zip(inputs, xs, strict=True):
        for letter, size in zip(letters, x.shape, strict=True):
            labels.setdefault(letter, Label(len(labels), size, letter))
    groups = [tuple((labels[letter],) for letter in letters) for letters in (*inputs, output)]
    factors = [Tensor(x, own, f"xs{k + 1}") for k, (x, own) in enumerate(zip(xs, groups, strict=False))]
    return tuple(from_groups(groups[-1], groups[k], *factors[:k], *factors[k + 1 :]) for k in range(len(xs)))
