"""The steps of a loop around the values of one run: each is a small graph, and all of them a product of Jacobians."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp

from .factors import Factor, Group, Label, Operator, pytree
from .jacobian import Jacobian
from .pullback import SolvedTogether
from .repeated import Repeated

LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"


class Part(NamedTuple):
    """One of several arrays that lie in one: its shape, and for each axis that all of them share the place among its own."""

    shape: tuple[int, ...]
    shared: tuple[int, ...]

    @property
    def own(self) -> tuple[int, ...]:
        """The axes that are not shared."""
        return tuple(a for a in range(len(self.shape)) if a not in self.shared)

    @property
    def own_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.own)

    @property
    def size(self) -> int:
        """The number of entries at one place along the shared axes."""
        return math.prod(self.own_shape)

    def axes_with(self, shared: tuple[Label, ...]) -> list[Group]:
        """A label for each axis: the given ones for shared axes, new ones for the others."""
        axes: list[Group] = [(Label(100 + a, n),) for a, n in enumerate(self.shape)]
        for label, a in zip(shared, self.shared, strict=True):
            axes[a] = (label,)
        return axes


class Link(NamedTuple):
    """A local Jacobian of one step, between two of its values by their numbers."""

    output: int
    input: int


@pytree("jacobians")
class Steps:
    """The steps of a loop, each as a small graph, around the values of one run.

    The first values of a step are the arrays of the carry before it, the last ones those after it, and `jacobians[k]` is the
    local one of `links[k]`; those leaves that `is_stacked` names hold all steps along a first axis.  `entries` are the other
    values into which something comes from outside, and `seen` those that are looked at from there at every step, with their
    numbers; if there are none, the carry at the end is.  With `reverse` the loop runs from the last step to the first.
    """

    jacobians: tuple[Jacobian, ...]
    is_stacked: tuple[bool, ...]
    links: tuple[Link, ...]
    carry: tuple[Part, ...]
    entries: tuple[tuple[int, Part], ...]
    seen: tuple[tuple[int, Part], ...]
    length: int
    reverse: bool

    def __repr__(self):
        sizes = ", ".join(str(list(part.shape)) for part in self.carry)
        return f"Steps({self.length} of a carry {sizes}, {len(self.links)} local Jacobians)"

    @property
    def dtype(self):
        return jnp.result_type(*(j.dtype for j in self.jacobians))

    @cached_property
    def one_way(self) -> str:
        """That of the operators of a step."""
        ways = {factor.one_way for factor in every_factor(self.jacobians) if isinstance(factor, Operator)}
        return min(ways - {""}, default="")

    @cached_property
    def multiplies_per_vector(self) -> int:
        """How many multiplications all steps take for one vector."""
        return self.length * sum(j.multiplies_per_vector for j in self.jacobians)

    def product_to(self, number: int) -> str:
        """What is seen of the loop by what comes in at a value of this number, in words: a product of Jacobians of steps.

        c[r] is the carry after step r, and u[s] what comes in at step s; it comes in at the start if the value is the carry.
        """
        size, own, mark = sum(part.size for part in self.carry), self.part(number).size, self.mark(number)
        is_by_start, place = number < len(self.carry), self._place_of_seen()
        earlier, before, after, start, end = "r−1", "t−1", "s+1", "0", str(self.length - 1)
        if self.reverse:
            earlier, before, after, start, end = "r+1", "t+1", "s−1", end, start
        last = {"at the end": end, "after": "t"}.get(place, before)
        factors = [f"C[{last}]⋯C[{start if is_by_start else after}]"]
        meanings = [f"C[r] = ∂c[r]/∂c[{earlier}] [{size}×{size}]"]
        if not is_by_start:
            factors.append(f"E{mark}[s]")
            meanings.append(f"E{mark}[s] = ∂c[s]/∂u{mark}[s] [{size}×{own}]")
        rows: list[int] = []
        columns = [number] if is_by_start else []
        if place == "inside":
            factors.insert(0, "F[t]")
            meanings.insert(0, f"F[t] = ∂y[t]/∂c[{before}] [{sum(part.size for _, part in self.seen)}×{size}]")
            meanings += [] if is_by_start else [f"∂y[s]/∂u{mark}[s] at t = s"]
        elif place != "at the end":
            rows = [self._number_in_carry(k) for k, _ in self.seen]
        parts = [f"{name} {self._entries_of(some)}" for name, some in (("rows", rows), ("columns", columns)) if some]
        part = ", ".join(parts) + " of " if parts and len(self.carry) > 1 else ""
        return f"{part}{'·'.join(factors)} with {', '.join(meanings)}; {self.length} step{'s' * (self.length != 1)}"

    def _number_in_carry(self, number: int) -> int:
        """The number of the array of the carry that a value is before a step, or after it; −1 if it is none."""
        if number < len(self.carry):
            return number
        first = max(link.output for link in self.links) - len(self.carry) + 1
        ends = {link.input: link.output - first for link in self.links if link.output >= first}
        return number - first if number >= first else ends.get(number, -1)

    def _place_of_seen(self) -> str:
        """Where the values that are seen lie: "before" or "after" a step if they are of the carry, else "inside" of it."""
        if not self.seen:
            return "at the end"
        if all(number < len(self.carry) for number, _ in self.seen):
            return "before"
        is_after = all(number >= len(self.carry) and self._number_in_carry(number) >= 0 for number, _ in self.seen)
        return "after" if is_after else "inside"

    def _entries_of(self, numbers: Sequence[int]) -> str:
        """The entries of the whole carry that these arrays of it are."""
        ends = list(itertools.accumulate((part.size for part in self.carry), initial=0))
        return ", ".join(f"{ends[k]}–{ends[k + 1] - 1}" for k in numbers)

    def mark(self, number: int) -> str:
        """What tells several entries, or several arrays at the start, apart: nothing for the first one, then ᵇ, ᶜ, …"""
        k = number if number < len(self.carry) else [entry for entry, _ in self.entries].index(number)
        return LETTERS[k % len(LETTERS)] * (1 + k // len(LETTERS)) if k else ""

    def part(self, number: int) -> Part:
        """The layout of an entry, of a value that is seen, or of an array of the carry before the step."""
        return self.carry[number] if number < len(self.carry) else dict(self.entries + self.seen)[number]

    @property
    def results(self) -> tuple[Part, ...]:
        """The layouts of what is seen: of values at every step, or of the carry at the end."""
        return tuple(part for _, part in self.seen) or self.carry


def every_factor(jacobians: Iterable[Jacobian]) -> Iterator[Factor]:
    """The factors of Jacobians, also those inside of loops."""
    for factor in (f for j in jacobians for term in j.terms for f in term.factors):
        yield factor.inner if isinstance(factor, Repeated) else factor
        if isinstance(factor, SolvedTogether) and isinstance(factor.whole, Steps):
            yield from every_factor(factor.whole.jacobians)
