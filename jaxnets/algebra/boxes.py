"""Boxes: the parts of a Jacobian's array that terms fill, whose outer axes are placed by slices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from .factors import Group, Label, labels_of, shape_of
from .selections import Slice
from .terms import Term, highest_id, make_term


class Box(NamedTuple):
    """A part of an array: where it begins and where it ends, along every axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    def between(self, axis: int, start: int, stop: int) -> "Box":
        """The part of it between two places along an axis."""
        edges = ((*edge[:axis], place, *edge[axis + 1 :]) for edge, place in ((self.start, start), (self.stop, stop)))
        return Box(*edges)

    def holds(self, other: "Box", axis: int) -> bool:
        """Whether it holds the other along an axis."""
        return self.start[axis] <= other.start[axis] and other.stop[axis] <= self.stop[axis]

    def margins(self, whole: "Box") -> list[tuple[int, int, int]]:
        """What it lacks of the whole at both ends of every axis, as `lax.pad` wants it."""
        ends = zip(self.start, self.stop, whole.start, whole.stop, strict=True)
        return [(start - first, last - stop, 0) for start, stop, first, last in ends]


def placed(term: Term) -> tuple[Term, Box]:
    """The term without the slices that place its outer axes, and the box that it fills."""
    axes: list[Group] = [*term.out, *term.inp]
    start, factors = [0] * len(axes), list(term.factors)
    for factor in term.factors:
        if isinstance(factor, Slice) and (axis := _placed_axis(factor, axes, factors)) is not None:
            factors.remove(factor)
            axes[axis], start[axis] = factor.axes[0], start[axis] + factor.start
    out, inp = tuple(axes[: len(term.out)]), tuple(axes[len(term.out) :])
    stop = tuple(first + size for first, size in zip(start, shape_of(axes), strict=True))
    return replace(term, out=out, inp=inp, factors=tuple(factors)), Box(tuple(start), stop)


def _placed_axis(part: Slice, axes: list[Group], factors) -> int | None:
    """The outer axis that this slice alone places, without gaps; None if there is none."""
    whole = part.axes[1]
    if part.stride != 1 or whole not in axes or not all(isinstance(label.size, int) for label in whole):
        return None
    axis = axes.index(whole)
    others = {*labels_of(axes[:axis] + axes[axis + 1 :]), *labels_of(part.axes[:1])}
    others = others.union(*(f.labels for f in factors if f is not part))
    return None if others & set(whole) or len(set(whole)) < len(whole) else axis


def by_box(terms: Sequence[Term]) -> dict[Box, list[Term]]:
    """The terms without the slices that place them, by the boxes that they fill."""
    found: dict[Box, list[Term]] = {}
    for term in terms:
        inner, box = placed(term)
        found.setdefault(box, []).append(inner)
    return found


def put_into(box: Box, term: Term, shape: Sequence[int]) -> Term:
    """The term of an array of this shape that is the given one in the box, and zero elsewhere."""
    axes, factors, fresh = [*term.out, *term.inp], list(term.factors), highest_id(term) + 1
    for axis, (start, size) in enumerate(zip(box.start, shape, strict=True)):
        if shape_of(axes[axis : axis + 1]) != (size,):
            whole = (Label(fresh + axis, size),)
            factors.append(Slice(start, 1, (axes[axis], whole)))
            axes[axis] = whole
    return make_term(axes[: len(term.out)], axes[len(term.out) :], factors, term.scale)
