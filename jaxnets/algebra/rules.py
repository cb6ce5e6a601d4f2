"""What one needs to write the rule of a layer: functions that take the output and one argument and return a `Jacobian`."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from ..checks import check_integer, check_shaped, checked, show_value
from ..errors import ShapeError
from .factors import Factor, Group, Label, Tensor, labels_of, shape_of
from .jacobian import Jacobian, jacobian_of
from .selections import Slice
from .symbols import Notes
from .terms import Unifier, make_term

MAX_AXES = 1000  # of an array, many more than JAX allows
Rule = Callable[[Any, Any], Jacobian]  # takes the output and one argument, as arrays or as shapes


def _named(name: str) -> Callable[[Rule], Rule]:
    """Decorator of rules: TypeError, under the name of the function that made the rule, if y or x is no array or shape."""

    def named(rule: Rule) -> Rule:
        def checked_rule(y, x) -> Jacobian:
            check_shaped(name, "y", y)
            check_shaped(name, "x", x)
            return rule(y, x)

        return checked_rule

    return named


@checked
def fresh_groups(shape: Sequence[Any], names: str | Sequence[str] = (), start: int = 0) -> tuple[Group, ...]:
    """One new label for each axis."""
    names = [*names, *[""] * (len(shape) - len(names))]
    return tuple((Label(start + i, n, names[i]),) for i, n in enumerate(shape))


@checked
def axis_names(count: int, last: str = "i") -> list[str]:
    """Letters for the axes of an array, the batch first."""
    check_integer("axis_names", "count", count, 0, MAX_AXES)
    return [*"btsrq"[: count - 1], *"a" * max(0, count - 6), last] if count else []


@checked
def einsum(out: str, inp: str, *factors, scale: float = 1.0) -> Rule:
    """∂y[out]/∂x[inp] as a product of (array, indices) factors: `einsum("...o", "...i", (w, "oi"))`.

    Indices are letters; "..." stands for leading axes, aligned on the right, and axes of size 1 are repeated, as NumPy
    broadcasts.  An index that y and x share is structure, and one that only factors have is summed.  A factor may
    have two more entries: its name in formulae, and what it stands for.

    >>> x, w = jnp.ones((4, 3)), jnp.ones((2, 3))
    >>> jn.rules.einsum("...o", "...i", (w, "oi", "w"))(x @ w.T, x).formula
    '∂y[b,o]/∂x[b,i] = w[o,i]'
    """

    for factor in factors:
        if not isinstance(factor, tuple) or len(factor) < 2 or not isinstance(factor[1], str):
            raise TypeError(f"einsum: factors must be tuples (array, indices), got {show_value(factor)}")
        check_shaped("einsum", "factors", factor[0])

    @_named("einsum")
    def rule(y, x) -> Jacobian:
        labels: dict[str, Label] = {}
        whole = len(y.shape) - len(out.replace("...", ""))
        names = axis_names(whole) if out == inp == "..." else axis_names(whole + 1)[:-1]

        def groups(array, indices):
            letters = indices.replace("...", "")
            batch = len(array.shape) - len(letters)
            if batch < 0 or (batch and "..." not in indices):
                raise ShapeError(f"einsum rule: '{indices}' does not fit an array of shape {array.shape}")
            keys = [f"...{batch - i}" for i in range(batch)]
            start = indices.index("...") if "..." in indices else 0
            keys = [*letters[:start], *keys, *letters[start:]]
            return tuple(label(key, size) for key, size in zip(keys, array.shape, strict=True))

        def label(key, size) -> Group:
            if size == 1:
                return ()
            name = key if key[0] != "." else (["", *names[::-1]][int(key[3:])] if int(key[3:]) <= whole else "")
            known = labels.setdefault(key, Label(len(labels), size, name))
            if known.size != size:
                raise ShapeError(f"einsum rule: index '{key}' is {known.size} in one array and {size} in another")
            return (known,)

        y_groups, x_groups = groups(y, out), groups(x, inp)
        parts = [named_tensor(array, groups(array, indices), *words) for array, indices, *words in factors]
        return jacobian_of([make_term(y_groups, x_groups, parts, scale)], y.shape, x.shape, x.dtype)

    return rule


@checked
def named_tensor(array, axes, name: str = "A", meaning: str = "") -> Tensor:
    """A stored array with its name in formulae, and what that stands for; `axes` holds the labels of every axis.

    Raises ShapeError if the labels have other sizes than the array.
    """
    check_shaped("named_tensor", "array", array)
    if isinstance(array, (int, float)):  # a literal of JAX, a number of Python that has a dtype
        array = jnp.asarray(array, getattr(array, "dtype", None))
    axes = _as_groups("named_tensor", "axes", axes)
    _check_sizes("named_tensor", "axes", axes, "array", array)
    return Tensor(array, axes, name, notes=Notes(meanings=((name.removeprefix("−"), meaning),) if meaning else ()))


def identity(y, x) -> Jacobian:
    """∂y/∂x = 1, where every index is shared; x may be broadcast."""
    return _broadcast_rule("identity")(y, x)


def _broadcast_rule(name: str, *factors, scale: float = 1.0) -> Rule:
    """The rule of this name that shares every index, as "..." does."""
    return _named(name)(einsum("...", "...", *factors, scale=scale))


def zero(y, x) -> Jacobian:
    """∂y/∂x = 0: y does not depend on x."""
    return _named("zero")(lambda y, x: jacobian_of([], y.shape, x.shape, x.dtype))(y, x)


@checked
def diagonal(derivative, name: str = "h'", meaning: str = "") -> Rule:
    """∂y[...]/∂x[...] = h'[...]: every index is shared.  `meaning` is a formula for h', as "1 − y²", that is shown with it.

    >>> x = jnp.ones(3)
    >>> jn.rules.diagonal(2 * x)(x**2, x).diagonal()
    Array([2., 2., 2.], dtype=float32)
    """
    check_shaped("diagonal", "derivative", derivative)
    return _broadcast_rule("diagonal", (derivative, "...", name, meaning))


@checked
def scaled(scale: float) -> Rule:
    """∂y/∂x = scale, where every index is shared."""
    return _broadcast_rule("scaled", scale=scale)


def regroup(y, x) -> Jacobian | None:
    """∂y/∂x of a reshape, which renames indices.  None if the shapes have no common refinement, as (3, 4) and (2, 6)."""
    check_shaped("regroup", "y", y)
    check_shaped("regroup", "x", x)
    if 0 in x.shape:
        return zero(y, x)
    names = axis_names(len(x.shape)) if len(x.shape) <= 3 else [*"bchw"][: len(x.shape)]
    inp = fresh_groups(x.shape, names)
    out = fresh_groups(y.shape, start=len(inp))
    unifier = Unifier(len(inp) + len(out))
    if not unifier.unify(labels_of(inp), labels_of(out)):
        return None
    return jacobian_of([make_term(map(unifier.resolve, out), map(unifier.resolve, inp), ())], y.shape, x.shape, x.dtype)


@checked
def transposed(order: Sequence[int]) -> Rule:
    """∂y/∂x of a transpose: axis a of y is axis order[a] of x."""

    @_named("transposed")
    def rule(y, x) -> Jacobian:
        _check_order("transposed", "order", order, x)
        inp = fresh_groups(x.shape, axis_names(len(x.shape)))
        return from_groups([inp[a] for a in order], inp)(y, x)

    return rule


@checked
def rearranged(rule: Rule, out: Sequence[int], inp: Sequence[int]) -> Rule:
    """`rule` with the axes in another order: axis a of its output is axis out[a] of y, and of its input axis inp[a] of x."""

    @_named("rearranged")
    def arranged(y, x) -> Jacobian:
        _check_order("rearranged", "out", out, y)
        _check_order("rearranged", "inp", inp, x)
        inner_y, inner_x = (jax.ShapeDtypeStruct([v.shape[a] for a in order], v.dtype) for v, order in ((y, out), (x, inp)))
        return (
            transposed(out)(inner_y, y).T
            @ _jacobian_by("rearranged", "rule", rule, inner_y, inner_x)
            @ transposed(inp)(inner_x, x)
        )

    return arranged


def _jacobian_by(name: str, argument: str, rule: Rule, y, x) -> Jacobian:
    """What a rule returns; TypeError if it is no Jacobian."""
    j = rule(y, x)
    if not isinstance(j, Jacobian):
        raise TypeError(f"{name}: {argument} must return a Jacobian, got {show_value(j)}")
    return j


def _check_order(name: str, argument: str, order, x):
    """ShapeError unless an order names every axis once."""
    if sorted(order) != list(range(len(x.shape))):
        raise ShapeError(f"{name}: {argument} {tuple(order)} is no order of the axes of an array of shape {tuple(x.shape)}")


@checked
def total(*rules: Rule) -> Rule:
    """The sum of several rules."""
    if not rules:
        raise TypeError("total: rules must hold one rule at least")
    return lambda y, x: reduce(operator.add, (_jacobian_by("total", "rules", rule, y, x) for rule in rules))


def first_largest(x):
    """The index of the first largest entry along the last axis, or of the first NaN.  XLA's argmax is slower on a CPU."""
    check_shaped("first_largest", "x", x)
    hit = (x == jnp.max(x, -1, keepdims=True, initial=-jnp.inf)) | jnp.isnan(x)
    return jnp.min(jnp.where(hit, jnp.arange(x.shape[-1], dtype=jnp.int32), x.shape[-1]), -1, initial=x.shape[-1])


@checked
def window(y, x, starts: dict[int, tuple[Any, Any]]) -> Jacobian:
    """∂y/∂x if y is a part of x: along each axis of `starts`, `{axis: (start, stride)}`, y[o] = x[start + stride·o]."""
    check_shaped("window", "y", y)
    check_shaped("window", "x", x)
    if len(y.shape) != len(x.shape) or not all(0 <= axis < len(x.shape) for axis in starts):
        raise ShapeError(f"window: starts {starts} do not make y of shape {y.shape} a part of x of shape {x.shape}")
    inp = fresh_groups(x.shape, axis_names(len(x.shape)))
    out, factors = list(inp), []
    for axis, (start, stride) in starts.items():
        if y.shape[axis] != x.shape[axis]:
            out[axis] = (Label(len(inp) + axis, y.shape[axis], "j"),)
            factors.append(Slice(start, stride, (out[axis], inp[axis])))
    return from_groups(out, inp, *factors)(y, x)


@checked
def sliced(starts: dict[int, tuple[Any, Any]]) -> Rule:
    """The rule if y is a part of x, as in `window`: slices and pieces."""
    return _named("sliced")(lambda y, x: window(y, x, starts))


@checked
def placed(starts: dict[int, tuple[Any, Any]]) -> Rule:
    """The rule if x is a part of y, and the rest of y does not depend on x: concatenation and padding."""
    return _named("placed")(lambda y, x: replace(window(x, y, starts).T, dtype=x.dtype))


@checked
def from_groups(out, inp, *factors: Factor, scale: float = 1.0) -> Rule:
    """A rule from groups of labels, for maps that `einsum` cannot describe: reshapes, slices, operators.

    `out` and `inp` hold the labels of every axis of y and x.  The rule raises ShapeError if these have other sizes.
    """
    out, inp = _as_groups("from_groups", "out", out), _as_groups("from_groups", "inp", inp)

    @_named("from_groups")
    def rule(y, x) -> Jacobian:
        _check_sizes("from_groups", "out", out, "y", y)
        _check_sizes("from_groups", "inp", inp, "x", x)
        return jacobian_of([make_term(out, inp, factors, scale)], y.shape, x.shape, x.dtype)

    return rule


def _as_groups(name: str, argument: str, groups) -> tuple[Group, ...]:
    """A tuple of labels for every axis; TypeError if it is none."""
    try:
        found = tuple(map(tuple, groups))
    except TypeError:
        found = None
    if found is None or not all(isinstance(label, Label) for label in labels_of(found)):
        raise TypeError(f"{name}: {argument} must hold a tuple of labels for every axis, got {show_value(groups)}")
    return found


def _check_sizes(name: str, argument: str, groups: tuple[Group, ...], other: str, array):
    """ShapeError unless the labels of every axis have together the size of that axis of an array."""
    if shape_of(groups) != tuple(array.shape):
        raise ShapeError(
            f"{name}: {argument} has labels of sizes {shape_of(groups)}, {other} has shape {tuple(array.shape)}"
        )
