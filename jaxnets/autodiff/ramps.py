"""Indices that count along an axis, as `jnp.arange(n)` in `x[jnp.arange(n), y]`: there the axis of x is one of the result.

While JAX traces, an index has no numbers, so they are followed from `iota` through what indexing does with them.
"""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import numpy as np


class Ramp(NamedTuple):
    """Integers `start, start + 1, …` along an axis, and the same along all others."""

    axis: int
    start: int = 0


class Columns(NamedTuple):
    """What is known of every entry along the last axis: a Ramp or None."""

    ramps: tuple[Ramp | None, ...]


class Operand(NamedTuple):
    """What is known of an operand (a Ramp, Columns, False for "nowhere true", or a number), and its shape."""

    known: Any
    shape: tuple[int, ...]


class Ramps:
    """What is known of the integers of one trace, by the array.  The arrays are kept, since ids are used again."""

    def __init__(self):
        self._known: dict[int, tuple[Any, Any]] = {}

    def of(self, x) -> Any:
        if id(x) in self._known:
            return self._known[id(x)][1]
        return None if isinstance(x, jax.Array) or np.shape(x) else _number(x)  # no value is fetched from a device

    def follow(self, primitive, operands, outputs, params):
        """Note what a primitive makes of integers that are known."""
        if primitive.name not in STEPS and primitive.name != "jit":
            return
        found = _followed(
            primitive, [Operand(self.of(x), np.shape(x)) for x in operands], list(map(np.shape, outputs)), params
        )
        for y, known in zip(outputs, found, strict=True):
            if known is not None:
                self._known[id(y)] = y, known


def _number(x):
    try:
        return operator.index(x)
    except TypeError:
        return None


def _followed(primitive, operands, shapes, params) -> list:
    """What is known of the outputs of a primitive."""
    if primitive.name == "jit" and any(isinstance(x.known, (Ramp, Columns)) for x in operands):
        return _followed_inside(params["jaxpr"], operands)
    step = STEPS.get(primitive.name)
    return [step(shapes[0], *operands, **params)] if step else [None] * len(shapes)


def _followed_inside(closed, operands) -> list:
    """What is known of the outputs of a jaxpr."""
    jaxpr = getattr(closed, "jaxpr", closed)
    known = dict(zip(jaxpr.invars, (x.known for x in operands), strict=True))

    def operand(atom):
        return Operand(_number(atom.val) if hasattr(atom, "val") else known.get(atom), np.shape(atom.aval))

    for equation in jaxpr.eqns:
        shapes = [np.shape(v.aval) for v in equation.outvars]
        known |= zip(
            equation.outvars,
            _followed(equation.primitive, list(map(operand, equation.invars)), shapes, equation.params),
            strict=True,
        )
    return [operand(v).known for v in jaxpr.outvars]


def _iota(out, *, dimension, **_):
    return Ramp(dimension)


def _broadcast(out, x, *_, broadcast_dimensions, **__):
    if not isinstance(x.known, Ramp):
        return None
    axis = broadcast_dimensions[x.known.axis]
    return Ramp(axis, x.known.start) if out[axis] == x.shape[x.known.axis] else None


def _reshape(out, x, *_, **__):
    """Axes of size 1 come and go."""
    before, after = ([a for a, n in enumerate(sizes) if n != 1] for sizes in (x.shape, out))
    same = [x.shape[a] for a in before] == [out[a] for a in after]
    if not isinstance(x.known, Ramp) or not same or x.known.axis not in before:
        return None
    return Ramp(after[before.index(x.known.axis)], x.known.start)


def _same(out, x, **_):
    return x.known


def _shifted(sign):
    def step(out, x, by, **_):
        number = isinstance(by.known, int) and not isinstance(by.known, bool)
        return Ramp(x.known.axis, x.known.start + sign * by.known) if isinstance(x.known, Ramp) and number else None

    return step


def _less(out, x, bound, **_):
    return False if isinstance(x.known, Ramp) and isinstance(bound.known, int) and x.known.start >= bound.known else None


def _select(out, which, *cases, **_):
    return cases[0].known if which.known is False else None


def _columns(out, *xs, dimension, **_):
    columns = dimension == len(out) - 1 and all(x.shape[-1] == 1 for x in xs)
    return Columns(tuple(x.known if isinstance(x.known, Ramp) else None for x in xs)) if columns else None


# A step takes the shape of the output, the operands and the parameters of a primitive, and returns what is known then.
STEPS = {
    "iota": _iota, "broadcast_in_dim": _broadcast, "reshape": _reshape, "squeeze": _reshape, "convert_element_type": _same,
    "add": _shifted(1), "sub": _shifted(-1), "lt": _less, "select_n": _select, "concatenate": _columns,
}  # fmt: skip

_ramps: ContextVar[Ramps | None] = ContextVar("ramps", default=None)


@contextmanager
def knowing(ramps: Ramps) -> Iterator[None]:
    """A context in which rules can ask what is known of their indices."""
    token = _ramps.set(ramps)
    try:
        yield
    finally:
        _ramps.reset(token)


def counted_axis(indices, column: int, size: int) -> int | None:
    """The axis of the indices along which this column counts 0, 1, … up to this size; None if it does not."""
    ramps = _ramps.get()
    known = ramps.of(indices) if ramps is not None else None
    ramp = known.ramps[column] if isinstance(known, Columns) else known
    if not isinstance(ramp, Ramp) or ramp.axis == indices.ndim - 1:
        return None
    return ramp.axis if ramp.start == 0 and indices.shape[ramp.axis] == size else None
