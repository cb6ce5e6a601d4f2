"""Parts of a function that are pulled back as a whole: by JAX, where one row is wanted, or by an author's own function."""

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..algebra.factors import Label, labels_of
from ..algebra.jacobian import Jacobian, jacobian_of
from ..algebra.pullback import Pullback
from ..algebra.rules import fresh_groups
from ..algebra.selections import Slice
from ..algebra.sizes import count_entries
from ..algebra.terms import make_term
from .nodes import Node

_in_pullback: ContextVar[bool] = ContextVar("in a pullback", default=False)


def is_in_pullback() -> bool:
    """Whether the backward function of a custom_vjp is followed, to see which axes its values mix.

    Then of another custom_vjp in it the function is followed, not the derivative.  That might have no end, too: the backward
    function of an ODE solver solves an ODE.
    """
    return _in_pullback.get()


@contextmanager
def in_pullback():
    """A context in which the backward function of a custom_vjp is followed."""
    token = _in_pullback.set(True)
    try:
        yield
    finally:
        _in_pullback.reset(token)


@dataclass(frozen=True)
class Whole:
    """All outputs of a call, which have these types, in one row, or the single output as it is."""

    types: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.types[0].shape) if len(self.types) == 1 else (sum(count_entries(y.shape) for y in self.types),)

    def part(self, i: int, node: Node) -> Jacobian:
        """∂(output i)/∂(all outputs)."""
        out = fresh_groups(node.shape)
        if len(self.types) == 1:
            term = make_term(out, out, [])
        else:
            row = (Label(len(out), self.shape[0]),)
            start = sum(count_entries(y.shape) for y in self.types[:i])
            term = make_term(out, [row], [Slice(start, 1, (labels_of(out), row))])
        return jacobian_of([term], node.shape, self.shape, node.dtype)

    def by_operand(self, function, i: int, node: Node) -> Jacobian:
        """∂(all outputs)/∂(operand i), of which `function(cotangents)` gives the products."""
        out = fresh_groups(self.shape)
        inp = fresh_groups(node.shape, start=len(out))
        factor = Pullback(function, self.types, i, (*out, *inp), len(out))
        return jacobian_of([make_term(out, inp, [factor])], self.shape, node.shape, node.dtype)
