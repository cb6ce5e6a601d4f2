"""Terms: products of factors with labels for the output and the input, and how terms are composed."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp

from .contraction import contract, scaled_tensor, with_deltas, with_free_labels_summed, with_fused_labels
from .factors import (
    Factor,
    Group,
    Label,
    Tensor,
    distinct_labels,
    entries_over,
    labels_of,
    pytree,
    shape_of,
    tensor,
)
from .planning import is_planning, planned_array
from .selections import Selection, Slice
from .sharding import reshaped
from .symbols import scale_text


@pytree("factors")
class Term:
    """`scale · Π factors`, with one group of labels for every output axis and every input axis."""

    out: tuple[Group, ...]
    inp: tuple[Group, ...]
    factors: tuple[Factor, ...]
    scale: float = 1.0

    @property
    def external_labels(self) -> list[Label]:
        """The labels of the output and the input, each once."""
        return distinct_labels(self.out + self.inp)

    @property
    def label_pattern(self):
        """Equal for two terms whose output and input share labels in the same way, so that their arrays can be added."""
        return pattern(self.out + self.inp)

    def __repr__(self):
        out, inp = (list(shape_of(side)) for side in (self.out, self.inp))
        return f"Term({out}×{inp}, {scale_text(self.scale)}, {list(self.factors)})"

    @property
    def is_stored(self) -> bool:
        """Whether every factor is a stored array."""
        return all(isinstance(f, Tensor) for f in self.factors)

    @property
    def is_one_full_array(self) -> bool:
        """Whether it is one array over all external labels, so that adding other terms to it takes no memory."""
        return len(self.factors) == 1 and self.is_stored and self.factors[0].labels == set(self.external_labels)

    def as_tensor(self) -> Tensor:
        """One stored array, whose labels are external ones."""
        return contract(self.factors, self.external_labels, self.scale)

    def reduced(self, fully=False) -> "Term":
        """The term with internal labels summed; with `fully` the remaining factors are multiplied into one array, too."""
        external, scale = set(self.external_labels), self.scale
        factors = with_free_labels_summed(_with_entries_taken(self.factors), external)
        stored = [f for f in factors if isinstance(f, Tensor)]
        if scale != 1 and stored:  # the smallest array takes the scale: that is cheapest
            smallest = min(stored, key=lambda f: entries_over(f.labels))
            factors[factors.index(smallest)] = scaled_tensor(smallest, scale)
            scale = 1.0
        groups = [[f] for f in factors]
        for label in set().union(*(f.labels for f in factors)) - external:
            touched = [group for group in groups if any(label in f.labels for f in group)]
            groups = [group for group in groups if group not in touched] + [sum(touched, [])]
        if fully and groups:
            groups = [sum(groups, [])]

        def done(group):  # there is nothing to sum, or it is a product of selections, which an array would only enlarge
            alone = len(group) == 1 and group[0].labels <= external
            return alone or (not fully and all(isinstance(f, (Selection, Slice)) for f in group))

        factors = [f for g in groups for f in (g if done(g) else [contract(g, external)])]
        while pair := _absorbable_pair(factors):  # this costs nothing
            factors = [f for f in factors if f not in pair] + [contract(pair, external)]
        return replace(self, factors=tuple(_with_entries_taken(factors)), scale=scale)

    def with_labels(self, out, inp) -> Tensor | None:
        """The same map with these labels: times a Kronecker delta where they share less, None if they share more."""
        ours, theirs = labels_of(self.out) + labels_of(self.inp), labels_of(out) + labels_of(inp)
        if [label.size for label in ours] != [label.size for label in theirs]:
            return None
        source = dict(zip(theirs, ours, strict=True))
        if any(source[new] != old for new, old in zip(theirs, ours, strict=True)):
            return None
        first = {old: new for new, old in reversed(source.items())}
        repeats = [(first[old], new) for new, old in source.items() if first[old] != new]
        value = self.as_tensor().relabel(lambda group: tuple(first[label] for label in group))
        return with_deltas(value, list(source), repeats)

    def dense(self) -> jax.Array:
        """The array of shape [*output, *input]; its shape alone where products are planned."""
        labels = iter([label._replace(id=i) for i, label in enumerate(labels_of(self.out) + labels_of(self.inp))])
        out, inp = ([tuple(next(labels) for _ in group) for group in side] for side in (self.out, self.inp))
        value = self.with_labels(out, inp)
        assert value is not None  # labels that are all different share least
        shape = shape_of(self.out) + shape_of(self.inp)
        if is_planning():
            return planned_array(shape)
        return reshaped(value.broadcast_to(labels_of(out) + labels_of(inp)), shape)


def _with_entries_taken(factors) -> list[Factor]:
    """The factors, of which arrays keep only the entries that a slice takes: a[q] δ(q, o+s) = a[o+s] δ(q, o+s)."""
    found = list(factors)
    for part in factors:
        if isinstance(part, Slice) and part.axes[1] and len(set(labels_of(part.axes))) == len(labels_of(part.axes)):
            small, big = map(set, part.axes)
            for i, factor in enumerate(found):
                if isinstance(factor, Tensor) and factor.labels >= big and factor.labels.isdisjoint(small):
                    found[i] = contract([factor, part], (factor.labels - big) | small)
    return found


def _absorbable_pair(factors):
    """Two stored arrays, the first without a label that the second lacks; None if there are no such two."""
    stored = [f for f in factors if isinstance(f, Tensor)]
    return next(((f, g) for f in stored for g in stored if f is not g and f.labels <= g.labels), None)


def pattern(groups):
    """The axes by their labels without names, which mean nothing for what is equal."""
    return tuple(tuple((label.id, label.size) for label in group) for group in groups)


def make_term(out, inp, factors, scale=1.0) -> Term:
    """A term in canonical form: labels are numbered in order of appearance, and none has size 1."""
    ids: dict[Label, Group] = {}

    def rename(group):
        for label in group:
            if label not in ids:
                ids[label] = () if label.size == 1 else (label._replace(id=len(ids)),)
        return tuple(new for label in group for new in ids[label])

    out, inp = tuple(map(rename, out)), tuple(map(rename, inp))
    if isinstance(scale, jax.Array):  # 1/n of a size that is only known to an exported function
        factors, scale = [*factors, Tensor(scale, (), "c")], 1.0
    return Term(out, inp, tuple(f.relabel(rename) for f in factors), float(scale))


def with_shifted_ids(term: Term, by: int) -> Term:
    """The term with other labels, as many and as large: their ids are larger by this number."""

    def rename(group):
        return tuple(label._replace(id=label.id + by) for label in group)

    return replace(
        term,
        out=tuple(map(rename, term.out)),
        inp=tuple(map(rename, term.inp)),
        factors=tuple(f.relabel(rename) for f in term.factors),
    )


def highest_id(term: Term) -> int:
    inner = [label for f in term.factors for label in f.labels]
    return max((label.id for label in [*term.external_labels, *inner]), default=-1)


class Unifier:
    """Makes two groups of the same size equal.  It splits a label where the other group is finer."""

    def __init__(self, next_id: int):
        self.next_id = next_id
        self.known: dict[Label, Group] = {}

    def resolve(self, group: Group) -> Group:
        """The group with the labels that stand for its labels now."""
        result: Group = ()
        for label in group:
            if label in self.known:
                result += self.resolve(self.known[label])
            elif label.size != 1:
                result += (label,)
        return result

    def fresh_label(self, size, name) -> Label:
        self.next_id += 1
        return Label(self.next_id, size, name)

    def unify(self, left: Group, right: Group) -> bool:
        """Make the groups equal, or return False if they have no common refinement, as (3, 4) and (2, 6) have none."""
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
            self.known[big] = (self.fresh_label(big.size // small.size, ""), self.fresh_label(small.size, ""))


def compose(a: Term, b: Term) -> Term:
    """The term of the product a·b: the input labels of a and the output labels of b are made equal."""
    b = with_shifted_ids(b, highest_id(a) + 1)
    unifier = Unifier(highest_id(b))
    for axis, (left, right) in enumerate(zip(a.inp, b.out, strict=True)):
        if not unifier.unify(left, right):
            return compose(_with_fused_axis(a, axis), _transposed_term(_with_fused_axis(_transposed_term(b), axis)))
    out, inp = tuple(map(unifier.resolve, a.out)), tuple(map(unifier.resolve, b.inp))
    factors = [f.relabel(unifier.resolve) for f in a.factors + b.factors]
    scale = a.scale * b.scale
    used = set(labels_of(out + inp)).union(*(f.labels for f in factors))
    for label in set(labels_of(map(unifier.resolve, a.inp))) - used:  # it is summed, and no factor depends on it
        scale *= label.size
    return make_term(out, inp, factors, scale)


def _transposed_term(term: Term) -> Term:
    return replace(term, out=term.inp, inp=term.out)


def _with_fused_axis(term: Term, axis: int) -> Term:
    """The same term, which has on this input axis a single label that no other axis has."""
    group = term.inp[axis]
    taken = set(labels_of(term.out)) | {label for i, g in enumerate(term.inp) if i != axis for label in g}
    if not group or (len(group) == 1 and group[0] not in taken):
        return term
    next_id, own, factors = highest_id(term), [], list(term.factors)
    for label in group:
        next_id += 1
        fresh = label._replace(id=next_id)
        if label in taken:
            factors.append(tensor(jnp.eye(label.size, dtype=jnp.float32), (label, fresh), "δ"))
        else:
            factors.append(tensor(jnp.ones(label.size, jnp.float32), (fresh,), "1"))
            factors = [f.relabel(lambda g, old=label, new=fresh: tuple(new if x == old else x for x in g)) for f in factors]
        own.append(fresh)
    touched = [f for f in factors if f.labels & set(own)]
    product = contract(touched, taken | set(own))
    whole = Label(next_id + 1, math.prod(label.size for label in own))
    factors = [f for f in factors if f not in touched] + [with_fused_labels(product, own, whole)]
    return replace(term, inp=(*term.inp[:axis], (whole,), *term.inp[axis + 1 :]), factors=tuple(factors))


def with_distinct_symbols(left: tuple[Term, ...], right: tuple[Term, ...]) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """The terms, in which arrays of the same name that differ have different numbers, those on the right the lower ones.

    Within one network they are numbered when it is read; this is for Jacobians that somebody composes.
    """
    if is_planning():  # nobody reads the formula of a plan
        return left, right
    ours, theirs = _arrays_by_name(left), _arrays_by_name(right)
    names = {name for name in ours.keys() & theirs.keys() if _clash(ours[name], theirs[name])}
    if not names:
        return left, right
    above = max(f.notes.number or 1 for term in right for f in term.factors if names & set(f.symbols))

    def shifted(terms, by):
        def renumbered(f):
            if f.notes.chain or not names & set(f.symbols):
                return f
            return replace(f, notes=f.notes._replace(number=max(1, f.notes.number) + by))

        return tuple(replace(term, factors=tuple(map(renumbered, term.factors))) for term in terms)

    return shifted(left, above), shifted(right, 0)


def _arrays_by_name(terms) -> dict[str, dict[int, set[tuple[int, ...]]]]:
    """The arrays of every name and number in the formulae of these terms, but for those inside products."""
    found: dict[str, dict[int, set[tuple[int, ...]]]] = {}
    for f in (f for term in terms for f in term.factors if not f.notes.chain):
        for name in f.symbols:
            found.setdefault(name, {}).setdefault(f.notes.number, set()).add(tuple(map(id, jax.tree.leaves(f))))
    return found


def _clash(ours, theirs) -> bool:
    """Whether a number stands for two arrays, or some arrays have numbers and others have none."""
    return any(ours[n] != theirs[n] for n in ours.keys() & theirs.keys()) or (0 in ours) != (0 in theirs)


def diagonal_part(term: Term, axes) -> Term:
    """The term where output and input have the same index along these axes, which become the last input axes."""
    out, inp, common, factors = _with_equal_indices(term, axes)
    return make_term(out, [*inp, *common], factors, term.scale)


def traced_out(term: Term, axes) -> Term:
    """The term where output and input have the same index along these axes, summed over these indices."""
    out, inp, common, factors = _with_equal_indices(term, axes)
    scale = term.scale
    for label in set(labels_of(common)) - set(labels_of([*out, *inp])).union(*(f.labels for f in factors)):
        scale *= label.size  # no factor depends on it
    return make_term(out, inp, factors, scale)


def _with_equal_indices(term: Term, axes):
    """The other output axes, the other input axes, the axes that both now share, and the factors."""
    unifier = Unifier(highest_id(term))
    for axis in axes:
        if not unifier.unify(term.out[axis], term.inp[axis]):
            single = _transposed_term(_with_fused_axis(_transposed_term(_with_fused_axis(term, axis)), axis))
            return _with_equal_indices(single, axes)
    out, inp = ([unifier.resolve(group) for a, group in enumerate(side) if a not in axes] for side in (term.out, term.inp))
    common = [unifier.resolve(term.out[axis]) for axis in axes]
    return out, inp, common, [f.relabel(unifier.resolve) for f in term.factors]
