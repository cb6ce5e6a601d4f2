"""Complex values inside a real function: in a graph they are real arrays with one more axis, of real and imaginary part.

What computes with them is differentiated by JAX, so it is opaque; along which of its axes nothing mixes is known.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .primitives import rules_for
from .unmixed import Table, axis_map, same_axes

PART_BY_PART = {"real", "imag", "complex", "conj"}


def real_parts(x) -> jax.Array:
    """[…, 2] of a complex array; a real one as it is."""
    return jnp.stack([jnp.real(x), jnp.imag(x)], -1) if jnp.iscomplexobj(x) else x


class InRealParts:
    """A function from operands to outputs, of which those that are complex come and go as real parts."""

    def __init__(self, function, operands):
        self.function, self.complex = function, tuple(map(jnp.iscomplexobj, operands))

    def __eq__(self, other):
        return isinstance(other, InRealParts) and (self.function, self.complex) == (other.function, other.complex)

    def __hash__(self):
        return hash((self.function, self.complex))

    def __call__(self, *parts):
        pairs = zip(parts, self.complex, strict=True)
        outputs = self.function(*(lax.complex(x[..., 0], x[..., 1]) if whole else x for x, whole in pairs))
        return list(map(real_parts, outputs))


def unmixed_in_parts(primitive, params, operands, outputs) -> Table:
    """Along which axes a primitive with complex operands or outputs mixes nothing: as it would with real ones."""
    if primitive.name in PART_BY_PART:
        return [[same_axes(y.ndim) for _ in operands] for y in outputs]
    if primitive.name == "fft":
        return [[same_axes(y.ndim - len(params["fft_lengths"])) for _ in operands] for y in outputs]
    table: Table = []

    def find(*arrays):
        ys = [jnp.zeros(y.shape, jnp.float32) for y in outputs]
        for y, row in zip(ys, rules_for(primitive, params, arrays, ys), strict=True):
            pairs = zip(row, arrays, strict=True)
            table.append([axis_map(rule and rule(y, x)) for rule, x in pairs])

    real = [
        jax.ShapeDtypeStruct(x.shape, jnp.float32 if jnp.issubdtype(x.dtype, jnp.inexact) else x.dtype) for x in operands
    ]
    jax.eval_shape(find, *real)
    return table
