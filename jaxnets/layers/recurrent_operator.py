"""What the rules of recurrent layers are made of: the local Jacobians of one step, and the recurrence that they make."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..algebra.factors import Factor, Group, Label
from ..algebra.jacobian import Jacobian
from ..algebra.recurrence import Recurrence
from ..algebra.rules import Rule, fresh_groups, from_groups, named_tensor
from ..algebra.steps import Link, Part, Steps


def steps_first(x):
    """[t, ..., i] from [..., t, i]."""
    return jnp.moveaxis(x, -2, 0)


def one_step(y, width: int | None = None) -> jax.ShapeDtypeStruct:
    """A state of one step, or another value with `width` entries."""
    return jax.ShapeDtypeStruct((*y.shape[:-2], y.shape[-1] if width is None else width), y.dtype)


class Local(NamedTuple):
    """The local Jacobian of one step between two of its values, which have numbers as `Steps` says."""

    link: Link
    jacobian: Jacobian
    is_stacked: bool  # whether its arrays hold all steps along a first axis


def same_at_all_steps(output: int, input: int, rule: Rule, y, x) -> Local:
    return Local(Link(output, input), rule(y, x), False)


def at_each_step(output: int, input: int, make: Callable[..., Rule], y, x, *arrays) -> Local:
    """The Jacobian that the rule `make(*arrays)` of a step gives, from arrays [..., t, i] of all steps."""
    jacobian = jax.vmap(lambda *own: make(*own)(y, x))(*map(steps_first, arrays))
    return Local(Link(output, input), jacobian, True)


class Loop:
    """The rules of y[..., t, o], the first array of the carry after the steps, by what comes in at values of all steps.

    The carry has `carry` arrays of one shape.  `entries` are the numbers of the values at which something comes in, `width`
    numbers at each.  With `is_diagonal` a step maps every number of the carry by itself.
    """

    def __init__(self, y, carry: int, entries: Sequence[int], width: int, local: Sequence[Local], is_diagonal=False):
        *lead, length, hidden = y.shape
        output = "i" if is_diagonal else "o"
        names = ["b"] * bool(lead) + [""] * (len(lead) - 1)
        sizes = [*lead, length, length, hidden, hidden, width]
        *groups, self.t, self.s, self.o, self.k, self.a = fresh_groups(sizes, [*names, *"ts", output, *"ka"])
        self.lead: tuple[Group, ...] = tuple(groups)
        self.next_id, self.is_diagonal = len(sizes), is_diagonal
        if is_diagonal:
            self.k, self.a = self.o, self.o
        self.shared = (*self.lead, self.o) if is_diagonal else self.lead
        shared = tuple(range(len(self.shared)))
        state, entry = Part((*lead, hidden), shared), Part((*lead, width), shared)
        leaves = [(one, jax.tree.leaves(one.jacobian)) for one in local]
        after = max(one.link.output for one in local) - carry + 1
        self.steps = Steps(
            tuple(one.jacobian for one in local),
            tuple(one.is_stacked for one, own in leaves for _ in own),
            tuple(one.link for one in local),
            (state,) * carry,
            tuple((number, entry) for number in entries),
            ((after, state),),
            length,
            reverse=False,
        )

    @property
    def entry(self) -> tuple[Group, ...]:
        """The axes of what comes in at all steps, [..., s, a]."""
        return (*self.lead, self.s, self.a)

    def by(self, number: int, inp: Sequence[Group], *factors: Factor) -> Rule:
        """The rule by an argument with these axes, by which the value of this number has the product of these factors."""
        out = (*self.lead, self.t, self.o)
        return from_groups(out, inp, self._after_steps(number, self.s, self.a), *factors)

    def by_start(self, number: int) -> Rule:
        """The rule by an array of the carry at the start."""
        out, start = (*self.lead, self.t, self.o), (*self.lead, self.k)
        return from_groups(out, start, self._after_steps(number, self.k))

    def by_input(self, number: int, w) -> Rule:
        """The rule by x, if w[a, i] x[..., s, i] comes in."""
        i = self._inputs(w.shape[-1])
        return self.by(number, (*self.lead, self.s, i), named_tensor(w, (self.a, i), "w_ih"))

    def by_weight(self, number: int, x, *words: str) -> Rule:
        """The rule by w, if w[a, i] x[..., s, i] comes in; x has this name, and a meaning."""
        i = self._inputs(x.shape[-1])
        return self.by(number, (self.a, i), named_tensor(x, (*self.lead, self.s, i), *words))

    def by_bias(self, number: int) -> Rule:
        """The rule by what is added to that which comes in at every step."""
        return self.by(number, (self.a,))

    def _inputs(self, size: int) -> Group:
        return (Label(self.next_id, size, "i"),)

    def _after_steps(self, number: int, *inp: Group) -> Recurrence:
        own = (self.t, (), *inp[:-1], ()) if self.is_diagonal else (self.t, self.o, *inp)
        return Recurrence(self.steps, number, (*self.shared, *own), len(self.shared))
