"""Terms: products of factors between output labels and input labels, and their algebra."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from .contraction import add, contract, fused, scaled, with_deltas
from .factors import Factor, Group, Label, Selection, Slice, Tensor, distinct, flatten, pytree, shape_of, size_of, tensor


@pytree("factors")
class Term:
    """`scale · Π factors`, with a group of labels for every output axis and every input axis."""

    out: tuple[Group, ...]
    inp: tuple[Group, ...]
    factors: tuple[Factor, ...]
    scale: float = 1.0

    @property
    def external(self) -> list[Label]:
        """The labels of output and input, each once."""
        return distinct(self.out + self.inp)

    @property
    def signature(self):
        """Two terms with the same signature share labels in the same way: their arrays can be added."""
        return tuple(tuple((label.id, label.size) for label in group) for group in self.out + self.inp)

    @property
    def stored(self) -> bool:
        """No factor is a map without an array."""
        return all(isinstance(f, Tensor) for f in self.factors)

    @property
    def full(self) -> bool:
        """One array over all external labels: other terms can be added into it at no further memory."""
        return len(self.factors) == 1 and self.stored and self.factors[0].labels == set(self.external)

    def array(self) -> Tensor:
        """One stored array over (some of) the external labels."""
        return contract(self.factors, self.external, self.scale)

    def reduced(self, fully=False) -> "Term":
        """Sum over the internal labels; `fully` also multiplies what is left into one array."""
        external, scale, factors = set(self.external), self.scale, list(self.factors)
        stored = [f for f in factors if isinstance(f, Tensor)]
        if scale != 1 and stored:  # the smallest array takes the scale: everything after is larger
            smallest = min(stored, key=lambda f: size_of(f.labels))
            factors[factors.index(smallest)] = scaled(smallest, scale)
            scale = 1.0
        groups = [[f] for f in factors]
        for label in set().union(*(f.labels for f in factors)) - external:
            touched = [group for group in groups if any(label in f.labels for f in group)]
            groups = [group for group in groups if group not in touched] + [sum(touched, [])]
        if fully and groups:
            groups = [sum(groups, [])]

        def done(group):  # nothing to sum, or a product of selections, which would only get larger
            alone = len(group) == 1 and group[0].labels <= external
            return alone or (not fully and all(isinstance(f, (Selection, Slice)) for f in group))

        factors = [f for g in groups for f in (g if done(g) else [contract(g, external)])]
        while pair := _inside_another(factors):  # costs nothing: absorb it
            factors = [f for f in factors if f not in pair] + [contract(pair, external)]
        return replace(self, factors=tuple(factors), scale=scale)

    def spread(self, out, inp) -> Tensor | None:
        """The same map with these labels, a Kronecker delta where they share less; None where they share more."""
        ours, theirs = flatten(self.out) + flatten(self.inp), flatten(out) + flatten(inp)
        if [label.size for label in ours] != [label.size for label in theirs]:
            return None
        source = dict(zip(theirs, ours, strict=True))
        if any(source[new] != old for new, old in zip(theirs, ours, strict=True)):
            return None
        first = {old: new for new, old in reversed(source.items())}
        repeats = [(first[old], new) for new, old in source.items() if first[old] != new]
        value = self.array().relabel(lambda group: tuple(first[label] for label in group))
        return with_deltas(value, list(source), repeats)

    def dense(self) -> jax.Array:
        """The array with an axis for every axis of output and input."""
        labels = iter([label._replace(id=i) for i, label in enumerate(flatten(self.out) + flatten(self.inp))])
        out, inp = ([tuple(next(labels) for _ in group) for group in side] for side in (self.out, self.inp))
        value = self.spread(out, inp)
        assert value is not None  # labels that are all different share least
        array = value.arranged(flatten(out) + flatten(inp))
        return array.reshape(shape_of(self.out) + shape_of(self.inp))


def _inside_another(factors):
    """Two stored arrays of which one has no label of its own, or None."""
    stored = [f for f in factors if isinstance(f, Tensor)]
    return next(((f, g) for f in stored for g in stored if f is not g and f.labels <= g.labels), None)


def make_term(out, inp, factors, scale=1.0) -> Term:
    """A term in canonical form: labels numbered in order of appearance, none of size 1, none without a factor inside."""
    ids: dict[Label, Group] = {}

    def rename(group):
        for label in group:
            if label not in ids:
                ids[label] = () if label.size == 1 else (label._replace(id=len(ids)),)
        return tuple(new for label in group for new in ids[label])

    out, inp = tuple(map(rename, out)), tuple(map(rename, inp))
    return Term(out, inp, tuple(f.relabel(rename) for f in factors), float(scale))


def _shifted(term: Term, by: int) -> Term:
    def rename(group):
        return tuple(label._replace(id=label.id + by) for label in group)

    return replace(
        term,
        out=tuple(map(rename, term.out)),
        inp=tuple(map(rename, term.inp)),
        factors=tuple(f.relabel(rename) for f in term.factors),
    )


def _highest(term: Term) -> int:
    return max([label.id for label in term.external] + [label.id for f in term.factors for label in f.labels], default=-1)


class Unifier:
    """Makes two groups of the same size equal, splitting labels where one group is finer than the other."""

    def __init__(self, next_id: int):
        self.next_id = next_id
        self.known: dict[Label, Group] = {}

    def resolve(self, group: Group) -> Group:
        result: Group = ()
        for label in group:
            if label in self.known:
                result += self.resolve(self.known[label])
            elif label.size != 1:
                result += (label,)
        return result

    def fresh(self, size, name) -> Label:
        self.next_id += 1
        return Label(self.next_id, size, name)

    def unify(self, left: Group, right: Group) -> bool:
        """False where the two have no common refinement, as (3, 4) and (2, 6)."""
        while True:
            a, b = self.resolve(left), self.resolve(right)
            while a and b and a[-1] == b[-1]:
                a, b = a[:-1], b[:-1]
            if not a and not b:
                return True
            x, y = a[-1], b[-1]
            if x.size == y.size:
                old, new = (x, y) if y.name and not x.name else (y, x)
                self.known[old] = (new,)
                continue
            big, small = (x, y) if x.size > y.size else (y, x)
            if big.size % small.size:
                return False
            self.known[big] = (self.fresh(big.size // small.size, ""), self.fresh(small.size, ""))


def compose(a: Term, b: Term) -> Term:
    """The term of a·b: the input labels of a become the output labels of b."""
    b = _shifted(b, _highest(a) + 1)
    unifier = Unifier(_highest(b))
    for axis, (left, right) in enumerate(zip(a.inp, b.out, strict=True)):
        if not unifier.unify(left, right):
            return compose(_fused(a, axis), _transposed(_fused(_transposed(b), axis)))
    out, inp = tuple(map(unifier.resolve, a.out)), tuple(map(unifier.resolve, b.inp))
    factors = [f.relabel(unifier.resolve) for f in a.factors + b.factors]
    scale = a.scale * b.scale
    used = set(flatten(out + inp)).union(*(f.labels for f in factors))
    for label in set(flatten(map(unifier.resolve, a.inp))) - used:  # summed, and nothing depends on it
        scale *= label.size
    return make_term(out, inp, factors, scale)


def _transposed(term: Term) -> Term:
    return replace(term, out=term.inp, inp=term.out)


def _fused(term: Term, axis: int) -> Term:
    """The same term with a single label of its own on that input axis."""
    group = term.inp[axis]
    taken = set(flatten(term.out)) | {label for i, g in enumerate(term.inp) if i != axis for label in g}
    if not group or (len(group) == 1 and group[0] not in taken):
        return term
    next_id, own, factors = _highest(term), [], list(term.factors)
    for label in group:
        next_id += 1
        fresh = label._replace(id=next_id)
        if label in taken:
            factors.append(tensor(jnp.eye(label.size), (label, fresh), "δ"))
        else:
            factors.append(tensor(jnp.ones(label.size), (fresh,), "1"))
            factors = [f.relabel(lambda g, old=label, new=fresh: tuple(new if x == old else x for x in g)) for f in factors]
        own.append(fresh)
    touched = [f for f in factors if f.labels & set(own)]
    product = contract(touched, taken | set(own))
    whole = Label(next_id + 1, math.prod(label.size for label in own))
    factors = [f for f in factors if f not in touched] + [fused(product, own, whole)]
    return replace(term, inp=(*term.inp[:axis], (whole,), *term.inp[axis + 1 :]), factors=tuple(factors))


def tied(term: Term, axes, summed: bool) -> Term:
    """The term with its output and its input index set equal along these axes: summed, or as the last input axes."""
    unifier = Unifier(_highest(term))
    for axis in axes:
        if not unifier.unify(term.out[axis], term.inp[axis]):
            return tied(_transposed(_fused(_transposed(_fused(term, axis)), axis)), axes, summed)
    out, inp = ([unifier.resolve(group) for a, group in enumerate(side) if a not in axes] for side in (term.out, term.inp))
    common = [unifier.resolve(term.out[axis]) for axis in axes]
    factors, scale = [f.relabel(unifier.resolve) for f in term.factors], term.scale
    if not summed:
        return make_term(out, [*inp, *common], factors, scale)
    for label in set(flatten(common)) - set(flatten([*out, *inp])).union(*(f.labels for f in factors)):
        scale *= label.size  # nothing depends on it
    return make_term(out, inp, factors, scale)


def _sum(a: Term, b: Term) -> Term:
    """Two reduced terms of equal signature with at most one factor each, as one."""
    if not a.factors and not b.factors:
        return replace(a, scale=a.scale + b.scale)
    same = dict(zip(b.external, a.external, strict=True))  # equal but for the names
    b = replace(a, factors=tuple(f.relabel(lambda g: tuple(same[x] for x in g)) for f in b.factors), scale=b.scale)
    return replace(a, factors=(add(a.array(), b.array()),), scale=1.0)


MANY_TERMS = 8


def merged(terms: Sequence[Term]) -> list[Term]:
    """Reduced terms; those that can be are added into one stored array that is there anyway."""
    terms = [term.reduced() for term in terms]
    if len(terms) == 1:
        return terms
    if len(terms) > MANY_TERMS:
        terms = [term.reduced(fully=True) for term in terms]
    single: dict[Any, Term] = {}
    others: list[Term] = []
    for term in terms:
        if len(term.factors) > 1 or not term.stored:
            others.append(term)
        else:
            key = term.signature
            single[key] = _sum(single[key], term) if key in single else term
    result: list[Term] = []
    for term in sorted([*single.values(), *others], key=lambda term: (-len(term.external), len(term.factors))):
        host = next((host for host in result if host.full), None)
        value = host and term.spread(host.out, host.inp)
        if host and value:
            result[result.index(host)] = replace(host, factors=(add(host.array(), value),), scale=1.0)
        else:
            result.append(term)
    return result
