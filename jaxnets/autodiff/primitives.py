"""Jacobian rules for JAX's own primitives, so that plain `jax.numpy` code keeps its structure.

`rules_for` answers for every primitive: most elementwise ones share one generic rule; a primitive that nobody wrote a
rule for becomes an `Opaque` map, which is correct and has no structure.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra.factors import Label, Opaque, Selection, Slice, Tensor
from ..algebra.rules import (
    Rule,
    axis_names,
    diagonal,
    fresh_groups,
    from_groups,
    identity,
    placed,
    rearranged,
    regroup,
    scaled,
    sliced,
    transposed,
)
from ..layers.conv import ConvAxis, convolution_rules
from ..layers.elementwise import sigmoid_derivative
from ..layers.pool import largest_in_windows, mean_rule, selection_rule

# rule(y, *arguments, **parameters) -> a Rule (None: derivative 0) for every argument; of many outputs, a row for each
RULES: dict[str, Callable] = {}

ELEMENTWISE = {
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e", "cbrt", "clamp",
    "cos", "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "igamma", "igammac",
    "integer_pow", "lgamma", "log", "log1p", "log2", "max", "min", "one_minus_square", "polygamma", "pow",
    "regularized_incomplete_beta", "rem", "rsqrt", "sin", "sinh", "sqrt", "square", "tan", "zeta",
}  # fmt: skip
WITHOUT_DERIVATIVE = {"ceil", "floor", "is_finite", "nextafter", "round", "sign", "stop_gradient"}
LIKE_IDENTITY = {"convert_element_type", "copy", "name", "optimization_barrier", "real", "reduce_precision"}


def primitive(*names):
    def register(rule):
        for name in names:
            RULES[name] = rule
        return rule

    return register


def rules_for(prim, params, arguments, outputs, one_way="") -> list[list[Rule | None]]:
    """For every output, a rule an argument.  `one_way`: see `Opaque`."""
    if prim.name in WITHOUT_DERIVATIVE:
        return [[None] * len(arguments)] * len(outputs)
    if prim.name in LIKE_IDENTITY and len(outputs) == 1:
        return [[identity] * len(arguments)]
    if prim.name in RULES:
        found = RULES[prim.name](outputs if prim.multiple_results else outputs[0], *arguments, **params)
        if found is not None:
            return list(found) if prim.multiple_results else [list(found)]
    if prim.name in ELEMENTWISE:
        return [[_elementwise_rule(prim, params, arguments, i) for i in range(len(arguments))]]
    shared = UNMIXED_AXES.get(prim.name, lambda i, x, y, params: ())
    function = BoundPrimitive(prim, params)
    one_way = "push" if prim.name == "while" else one_way
    inert = INERT_OPERANDS.get(prim.name, lambda params: ())(params)

    def rule(i, x, o, y):
        return None if i in inert else _opaque_rule(prim.name, function, arguments, i, o, shared(i, x, y, params), one_way)

    return [[rule(i, x, o, y) for i, x in enumerate(arguments)] for o, y in enumerate(outputs)]


def _elementwise_rule(prim, params, arguments, i) -> Rule:
    """∂y[...]/∂x_i[...] from JAX's own derivative of the primitive, along the vector of ones."""

    def rule(y, x):
        x_i = jnp.broadcast_to(x, y.shape)

        def along(a):
            return prim.bind(*arguments[:i], a, *arguments[i + 1 :], **params)

        return diagonal(jax.jvp(along, (x_i,), (jnp.ones_like(x_i),))[1], prim.name + "'")(y, x)

    return rule


class BoundPrimitive:
    """A primitive with its parameters, as a function from operands to a list of outputs."""

    def __init__(self, prim, params):
        self.prim, self.params = prim, params

    def __eq__(self, other):
        return isinstance(other, BoundPrimitive) and self.prim is other.prim and self.params == other.params

    def __hash__(self):
        return hash(self.prim)

    def __call__(self, *operands):
        out = self.prim.bind(*operands, **self.params)
        return out if self.prim.multiple_results else [out]


def _opaque_rule(name, function, arguments, i, o, shared, one_way) -> Rule:
    """`shared`: pairs of (output axis, input axis) along which nothing mixes."""

    def rule(y, x):
        out = list(fresh_groups(y.shape, axis_names(len(y.shape))))
        inp = list(fresh_groups(x.shape, axis_names(len(x.shape), "j"), start=len(out)))
        for a, b in shared:
            inp[b] = out[a]
        ours, theirs = tuple(a for a, _ in shared), tuple(b for _, b in shared)
        axes = [out[a] for a in ours]
        axes += [group for a, group in enumerate(out) if a not in ours]
        axes += [group for b, group in enumerate(inp) if b not in theirs]
        counts = (len(ours), len(out) - len(ours))
        operator = Opaque(tuple(arguments), function, i, o, tuple(axes), name, *counts, ours, theirs, one_way)
        return from_groups(out, inp, operator)(y, x)

    return rule


def opaque_rules(name, function, arguments, outputs, one_way) -> list[list[Rule]]:
    """Rules without structure for a function that is no primitive, from operands to a list of outputs."""
    arity, count = len(arguments), len(outputs)
    return [[_opaque_rule(name, function, arguments, i, o, (), one_way) for i in range(arity)] for o in range(count)]


# Primitives that are linear maps or windows along some axes only: (argument, its shape, output, parameters) to the pairs
# of axes along which nothing mixes.


def _unmixed_but_one(axis_name):
    def shared(i, x, y, params):
        return [(a, a) for a in range(len(x.shape)) if a != params[axis_name] % len(x.shape)]

    return shared


def _axes_without_windows(window_dimensions, window_strides, padding, base_dilation=(), **_):
    """The axes along which windows are single places."""
    plain = zip(window_dimensions, window_strides, padding, base_dilation or (1,) * len(padding), strict=True)
    return [a for a, (w, s, p, d) in enumerate(plain) if (w, s, tuple(p), d) == (1, 1, (0, 0), 1)]


def _unmixed_by_windows(i, x, y, params):
    return [(a, a) for a in _axes_without_windows(**params)]


def _unmixed_but_several(axes_name):
    def shared(i, x, y, params):
        return list(enumerate(a for a in range(len(x.shape)) if a not in params[axes_name]))

    return shared


UNMIXED_AXES = {
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _unmixed_but_one("axis")),
    "sort": _unmixed_but_one("dimension"),
    **dict.fromkeys(["reduce_window_sum", "reduce_window_max", "reduce_window_min"], _unmixed_by_windows),
    "reduce_prod": _unmixed_but_several("axes"),
}


def _solver_operands(params):
    """A linear solve differentiates A·x = b: only through what A is made of and b, not through what the solver uses."""
    lengths = params["const_lengths"]
    return range(lengths.matvec, lengths.matvec + lengths.vecmat + lengths.solve + lengths.transpose_solve)


INERT_OPERANDS = {"custom_linear_solve": _solver_operands}  # operands that carry no derivative


# Arithmetic.


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
    q = jnp.exp(-2 * jnp.abs(x))  # as accurate as the layer's, but where q is subnormal
    return (diagonal(4 * q / jnp.square(1 + q), "tanh'"),)


@primitive("logistic")
def _(y, x, **_):
    return (diagonal(sigmoid_derivative(x), "logistic'"),)


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


# Windows.


@primitive("conv_general_dilated")
def _(y, x, w, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, **more):
    if more["batch_group_count"] != 1:
        return None
    numbers = zip(window_strides, rhs_dilation, lhs_dilation, padding, strict=True)
    axes = tuple(ConvAxis(stride, dilation, spread, low) for stride, dilation, spread, (low, _) in numbers)
    of_x, of_w, of_y = dimension_numbers
    arrays = y.transpose(of_y), x.transpose(of_x), w.transpose(of_w)
    by_x, by_w, _ = convolution_rules(*arrays, axes, feature_group_count)
    return rearranged(by_x, of_y, of_x), rearranged(by_w, of_y, of_w)


def _window_rule(rule) -> Callable:
    """The rule of windows over the last axes, given x, y and the table of windows along each, for windows over any axes."""

    def by_window(y, x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
        if any(n != 1 for n in base_dilation):
            return None
        lead = _axes_without_windows(window_dimensions, window_strides, padding)
        order = [*lead, *(a for a in range(x.ndim) if a not in lead)]
        tables = []
        for a in order[len(lead) :]:
            place = window_strides[a] * np.arange(y.shape[a])[:, None] + window_dilation[a] * np.arange(window_dimensions[a])
            tables.append(place - padding[a][0])
        return (rearranged(rule(y.transpose(order), x.transpose(order), tables), order, order),)

    return by_window


def _extremum_rule(sign: int) -> Callable:
    """Of equal entries the first, as in JAX; NaN is beyond all numbers."""
    return _window_rule(lambda y, x, tables: selection_rule(x, largest_in_windows(sign * x, tables)[1], len(tables)))


RULES["reduce_window_max"], RULES["reduce_window_min"] = _extremum_rule(1), _extremum_rule(-1)
RULES["reduce_window_sum"] = _window_rule(lambda y, x, tables: mean_rule(y, x, tables, [np.ones(len(t)) for t in tables]))


# Axes.


@primitive("reduce_sum", "psum")
def _(y, x, *, axes, axis_index_groups=None, **_):
    """`psum` is left where vmap has made its named axis a position."""
    if axis_index_groups is not None or not all(isinstance(axis, (int, np.integer)) for axis in axes):
        return None
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    return (from_groups([g for i, g in enumerate(inp) if i not in axes], inp),)


@primitive("reduce_max", "reduce_min")
def _(y, x, *, axes, **_):
    """Ties share evenly, as in JAX."""
    hit = (x == jnp.expand_dims(y, axes)).astype(x.dtype)
    share = hit / jnp.sum(hit, axes, keepdims=True)
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    return (from_groups([g for i, g in enumerate(inp) if i not in axes], inp, Tensor(share, inp, "m")),)


@primitive("broadcast_in_dim")
def _(y, x, *_, broadcast_dimensions, **__):
    out = fresh_groups(y.shape, axis_names(y.ndim))
    inp = [out[d] if n == y.shape[d] else () for n, d in zip(x.shape, broadcast_dimensions, strict=True)]
    return (from_groups(out, inp),)


@primitive("transpose")
def _(y, x, *, permutation):
    return (transposed(permutation),)


@primitive("squeeze")
def _(y, x, **_):
    return (regroup,)


@primitive("reshape")
def _(y, x, *_, dimensions=None, **__):
    """With `dimensions`, which vmap gives, the axes are permuted first."""
    order = dimensions or range(x.ndim)
    permuted = jax.ShapeDtypeStruct([x.shape[a] for a in order], x.dtype)
    if regroup(y, permuted) is None:
        return None
    if dimensions is None:
        return (regroup,)
    return (lambda y, x: regroup(y, permuted) @ transposed(order)(permuted, x),)


@primitive("concatenate")
def _(y, *xs, dimension):
    starts = np.cumsum([0, *(x.shape[dimension] for x in xs)])
    return [placed({dimension: (int(start), 1)}) for start in starts[:-1]]


@primitive("stack")
def _(y, *xs, axis):
    inp = fresh_groups(xs[0].shape, axis_names(xs[0].ndim))
    new = (Label(xs[0].ndim, len(xs)),)
    out = [*inp[:axis], new, *inp[axis:]]
    return [from_groups(out, inp, Slice(i, 1, ((), new))) for i in range(len(xs))]


@primitive("unstack")
def _(ys, x, *, axis):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out = [group for a, group in enumerate(inp) if a != axis]
    return [[from_groups(out, inp, Slice(i, 1, ((), inp[axis])))] for i in range(len(ys))]


@primitive("tile")
def _(y, x, *, reps):
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    return (from_groups([(Label(x.ndim + i, n), *group) for i, (n, group) in enumerate(zip(reps, inp, strict=True))], inp),)


@primitive("split")
def _(ys, x, *, sizes, axis):
    starts = np.cumsum([0, *sizes])
    return [[sliced({axis: (int(start), 1)})] for start in starts[:-1]]


@primitive("slice")
def _(y, x, *, start_indices, strides, **_):
    strides = strides or (1,) * x.ndim
    return (sliced(dict(enumerate(zip(start_indices, strides, strict=True)))),)


def _entries_rule(x, places) -> Rule:
    """The rule of x at some places along each axis of `places`, `{axis: index}`."""
    inp = fresh_groups(x.shape, axis_names(x.ndim))
    out, factors = list(inp), []
    for axis, index in places.items():
        out[axis] = (Label(x.ndim + axis, len(index), inp[axis][0].name),)
        factors.append(Selection(index, (out[axis], inp[axis]), "k"))
    return from_groups(out, inp, *factors)


@primitive("rev")
def _(y, x, *, dimensions):
    return (_entries_rule(x, {axis: jnp.arange(x.shape[axis])[::-1] for axis in dimensions}),)


@primitive("pad")
def _(y, x, value, *, padding_config):
    if any(low < 0 or high < 0 for low, high, _ in padding_config):
        return None
    starts = {axis: (low, inner + 1) for axis, (low, _, inner) in enumerate(padding_config)}
    outside = jax.lax.pad(jnp.zeros(x.shape, y.dtype), jnp.ones((), y.dtype), padding_config)
    return placed(starts), diagonal(outside, "outside")


@primitive("dynamic_slice")
def _(y, x, *starts, slice_sizes, **_):
    rows = enumerate(zip(starts, slice_sizes, x.shape, strict=False))
    places = {a: jnp.clip(start, 0, n - size) + jnp.arange(size) for a, (start, size, n) in rows if size != n}
    return _entries_rule(x, places), *[None] * len(starts)


@primitive("gather")
def _(y, x, indices, *, dimension_numbers, slice_sizes, mode, **_):
    """Whole slices at given places: x[index], jnp.take, take_along_axis.  Other gathers are opaque."""
    numbers = dimension_numbers
    picked = dict(zip(numbers.start_index_map, range(indices.shape[-1]), strict=True))
    whole = [a for a in range(x.ndim) if a not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
    if set(picked) != set(numbers.collapsed_slice_dims) or any(slice_sizes[a] != x.shape[a] for a in whole):
        return None
    inp = list(fresh_groups(x.shape, axis_names(x.ndim)))
    batch = fresh_groups(indices.shape[:-1], start=x.ndim)
    for a, b in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        inp[a] = batch[b]
    slices, places = iter(inp[a] for a in whole), iter(batch)
    out = [next(slices) if a in numbers.offset_dims else next(places) for a in range(y.ndim)]
    factors = []
    for a, i in picked.items():
        index = indices[..., i]
        if mode == jax.lax.GatherScatterMode.CLIP:
            index = jnp.clip(index, 0, x.shape[a] - 1)
        factors.append(Selection(index, (*batch, inp[a]), "k"))
    return from_groups(out, inp, *factors), None
