"""Jacobian rules for JAX's own primitives, so that plain `jax.numpy` code keeps its structure.

`rules_for` has an answer for every primitive.  Most elementwise ones share one generic rule.  A primitive without a rule
becomes an `Opaque` map, which is correct and has no structure.
"""

import jax
import jax.numpy as jnp

from ..algebra.factors import Tensor
from ..algebra.rules import Rule, diagonal, fresh_groups, from_groups, identity, scaled
from ..layers.accurate import sigmoid_derivative
from . import primitive_axes, primitive_places, primitive_windows  # noqa: F401  (they fill the table)
from .opaque import UNMIXED_AXES, BoundPrimitive, opaque_rules
from .primitive_table import RULES, primitive
from .unmixed import TABLES

ELEMENTWISE = {
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e", "cbrt", "clamp",
    "cos", "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "igamma", "igammac",
    "integer_pow", "lgamma", "log", "log1p", "log2", "max", "min", "one_minus_square", "polygamma", "pow",
    "regularized_incomplete_beta", "rem", "rsqrt", "sin", "sinh", "sqrt", "square", "tan", "zeta",
}  # fmt: skip
WITHOUT_DERIVATIVE = {"ceil", "floor", "is_finite", "nextafter", "round", "sign", "stop_gradient"}
# Each output is the operand at its place.
LIKE_IDENTITY = {
    "convert_element_type",
    "copy",
    "device_put",
    "name",
    "optimization_barrier",
    "real",
    "reduce_precision",
    "reshard",
    "sharding_constraint",
}


def rules_for(prim, params, arguments, outputs, one_way="", of_function=None) -> list[list[Rule | None]]:
    """For every output a list with one rule for each argument.

    `one_way` is that of `Opaque`, and `of_function(jaxpr, operands)` says along which axes nothing mixes in a jaxpr.
    """
    if prim.name in WITHOUT_DERIVATIVE:
        return [[None] * len(arguments)] * len(outputs)
    if prim.name in LIKE_IDENTITY:
        return [[identity if i == o else None for i in range(len(arguments))] for o in range(len(outputs))]
    if prim.name in RULES:
        found = RULES[prim.name](outputs if prim.multiple_results else outputs[0], *arguments, **params)
        if found is not None:
            return list(found) if prim.multiple_results else [list(found)]
    if prim.name in ELEMENTWISE:
        return [[_elementwise_rule(prim, params, arguments, i) for i in range(len(arguments))]]
    one_way = "push" if prim.name == "while" else one_way
    if prim.name in TABLES and of_function is not None:
        table = TABLES[prim.name](params, arguments, outputs, of_function)
    else:
        shared = UNMIXED_AXES.get(prim.name, lambda i, x, y, params: {})
        table = [[shared(i, x, y, params) for i, x in enumerate(arguments)] for y in outputs]
    return opaque_rules(prim.name, BoundPrimitive(prim, params), arguments, outputs, one_way, table)


def _elementwise_rule(prim, params, arguments, i) -> Rule:
    """∂y[...]/∂x_i[...] from JAX's own derivative of the primitive, along the vector of ones."""

    def rule(y, x):
        x_i = jnp.broadcast_to(x, y.shape)

        def along(a):
            return prim.bind(*arguments[:i], a, *arguments[i + 1 :], **params)

        return diagonal(jax.jvp(along, (x_i,), (jnp.ones_like(x_i),))[1], prim.name + "'", f"the derivative of {prim.name}")(
            y, x
        )

    return rule


@primitive("add", "add_any")
def _(y, a, b, **_):
    return identity, identity


@primitive("sub")
def _(y, a, b, **_):
    return identity, scaled(-1)


@primitive("neg")
def _(y, x, **_):
    return (scaled(-1),)


@primitive("mul")
def _(y, a, b, **_):
    return diagonal(b, "x2"), diagonal(a, "x1")


@primitive("tanh")
def _(y, x, **_):
    q = jnp.exp(-2 * jnp.abs(x))  # as accurate as the layer's, unless q is subnormal
    return (diagonal(4 * q / jnp.square(1 + q), "tanh'", "1 − y²"),)


@primitive("logistic")
def _(y, x, **_):
    return (diagonal(sigmoid_derivative(x), "logistic'", "y (1 − y)"),)


@primitive("select_n")
def _(y, which, *cases, **_):
    masks = [(which == i).astype(y.dtype) for i in range(len(cases))]
    return None, *(diagonal(mask, "m") for mask in masks)


@primitive("dot_general")
def _(y, a, b, *, dimension_numbers, **_):
    (a_sum, b_sum), (a_batch, b_batch) = dimension_numbers
    a_groups = fresh_groups(a.shape)
    b_groups = list(fresh_groups(b.shape, start=a.ndim))
    for i, j in zip((*a_sum, *a_batch), (*b_sum, *b_batch), strict=True):
        b_groups[j] = a_groups[i]
    out = [a_groups[i] for i in a_batch]
    out += [group for i, group in enumerate(a_groups) if i not in (*a_sum, *a_batch)]
    out += [group for i, group in enumerate(b_groups) if i not in (*b_sum, *b_batch)]
    return (
        from_groups(out, a_groups, Tensor(b, tuple(b_groups), "x2")),
        from_groups(out, b_groups, Tensor(a, tuple(a_groups), "x1")),
    )
