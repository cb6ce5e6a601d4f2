"""A part of a function that JAX pulls back as a whole: where one row is wanted, and the structure would take more memory."""

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
