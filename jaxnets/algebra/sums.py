"""Sums of terms: which are added, which share a factor, which are alike."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from .boxes import Box, placed, put_into
from .contraction import contract, scaled_tensor, sum_of_tensors
from .factors import Factor, Label, Tensor, distinct_labels, entries_over, labels_of, shape_of
from .planning import cheapest, is_planning
from .sharding import compatible
from .terms import Term, Unifier, highest_id, pattern, with_shifted_ids

MAX_FACTORED_TERMS = 8  # of more terms each is multiplied into one array, so that they can be added


def merged_terms(terms: Sequence[Term]) -> list[Term]:
    """The terms reduced; a term that fits into the array of another one is added to it.

    Those that slices place in the same part of the whole are added there.
    """
    terms = [term.reduced() for term in terms]
    parts: dict[Box, list[tuple[Term, Term]]] = {}
    for term in terms:
        inner, box = placed(term)
        parts.setdefault(box, []).append((term, inner))
    found: list[Term] = []
    for box, pairs in parts.items():
        shape = shape_of(terms[0].out + terms[0].inp)
        if len(pairs) == 1 or box.shape == shape:
            found += [term for term, _ in pairs]
        else:
            found += [put_into(box, term, shape) for term in _merged([inner for _, inner in pairs])]
    return _merged(found)


def _merged(terms: list[Term]) -> list[Term]:
    """Terms that are reduced already; those that fit into the array of another one are added to it."""
    if len(terms) == 1:
        return terms
    if len(terms) > MAX_FACTORED_TERMS:
        terms = [term.reduced(fully=True) for term in terms]
    single: dict[Any, Term] = {}
    others: list[Term] = []
    for term in terms:
        if len(term.factors) > 1 or not term.is_stored:
            others.append(term)
        else:
            key = term.label_pattern
            single[key] = _sum_of_terms(single[key], term) if key in single else term
    result: list[Term] = []
    for term in sorted([*single.values(), *others], key=_largest_first):
        host = next((host for host in result if host.is_one_full_array), None)
        total = host and _added_to_full_array(host, term)
        if host and total:
            result[result.index(host)] = total
        else:
            result.append(term)
    return result


def _largest_first(term: Term):
    """The key by which those come first that take up others: full arrays over the most entries."""
    return -entries_over(term.external_labels), not term.is_one_full_array, len(term.factors)


def _added_to_full_array(host: Term, term: Term) -> Term | None:
    """The sum of two terms, the first one full array; None if the second shares labels that the first does not."""
    host, term = _split_as(host, term), _split_as(term, host)
    value = term.with_labels(host.out, host.inp)
    return replace(host, factors=(sum_of_tensors(host.as_tensor(), value),), scale=1.0) if value else None


def _split_as(term: Term, other: Term) -> Term:
    """The term with its labels split where those of another term of equal shape are finer, as channels in groups are."""
    unifier = Unifier(highest_id(term))
    for own, theirs in zip(term.out + term.inp, other.out + other.inp, strict=True):
        if not unifier.unify(own, tuple(unifier.fresh_label(label.size, "") for label in theirs)):
            return term
    out, inp = tuple(map(unifier.resolve, term.out)), tuple(map(unifier.resolve, term.inp))
    return replace(term, out=out, inp=inp, factors=tuple(f.relabel(unifier.resolve) for f in term.factors))


def _sum_of_terms(a: Term, b: Term) -> Term:
    """The sum of two reduced terms of the same label pattern with at most one factor each, as one term."""
    if not a.factors and not b.factors:
        return replace(a, scale=a.scale + b.scale)
    same = dict(zip(b.external_labels, a.external_labels, strict=True))  # equal but for the names
    b = replace(a, factors=tuple(f.relabel(lambda g: tuple(same[x] for x in g)) for f in b.factors), scale=b.scale)
    return replace(a, factors=(sum_of_tensors(a.as_tensor(), b.as_tensor()),), scale=1.0)


def with_common_factors(terms: Sequence[Term]) -> list[Term]:
    """The terms, of which those that share stored factors are one: a·c + b·c = (a + b)·c.

    The sum inside is carried out, so this is for terms of which somebody asks numbers, where it takes fewer products.
    """
    places = _most_common_factor(terms)
    if len(places) < 2:
        return list(terms)
    rest = [term for i, term in enumerate(terms) if i not in places]
    return with_common_factors([*rest, _with_common_factor([(terms[i], place) for i, place in places.items()])])


def _most_common_factor(terms: Sequence[Term]) -> dict[int, int]:
    """The terms that have the stored factor which most of them have, and its place in each."""
    shared: dict[Any, dict[int, int]] = {}
    for i, term in enumerate(terms):
        if term.is_stored:
            for place, factor in enumerate(term.factors):
                shared.setdefault((term.label_pattern, _identity(factor, term)), {})[i] = place
    return max(shared.values(), key=len, default={})


def in_cheapest_sum(terms: Sequence[Term]) -> list[Term]:
    """The terms as they are or with common factors, whichever can be summed with fewer multiplications."""
    if len(_most_common_factor(terms)) < 2:
        return list(terms)
    ways = [lambda: list(terms), lambda: with_common_factors(terms)]
    return ways[cheapest(*(lambda way=way: _dense_of(way()) for way in ways))]()


def _dense_of(terms: Sequence[Term]):
    return [term.dense() for term in terms]


def _identity(factor: Factor, term: Term):
    """Equal for factors of two terms of one label pattern that are the same array along the same labels."""
    external = {label.id for label in term.external_labels}
    inner: dict[int, int] = {}
    for label in labels_of(factor.axes):
        if label.id not in external:
            inner.setdefault(label.id, -1 - len(inner))
    axes = tuple(tuple((inner.get(label.id, label.id), label.size) for label in group) for group in factor.axes)
    return id(factor.as_tensor().value), axes


def _with_common_factor(terms: list[tuple[Term, int]]) -> Term:
    """The sum of terms that share a factor, of which the place in each is given."""
    first, place = terms[0]
    common = first.factors[place]
    kept = distinct_labels([*first.out, *first.inp, *common.axes])
    above = max(highest_id(term) for term, _ in terms) + 1
    parts = []
    for term, i in terms:
        own = with_shifted_ids(term, above)  # so that no label of this term is taken for one of the first
        labels = distinct_labels([*own.out, *own.inp, *own.factors[i].axes])
        same = dict(zip(labels, kept, strict=True))
        rest = [f for j, f in enumerate(own.factors) if j != i]
        factors = tuple(f.relabel(lambda group, same=same: tuple(same.get(x, x) for x in group)) for f in rest)
        parts.append(Term(tuple((label,) for label in kept), (), factors, own.scale))
    parts = with_common_factors(parts)
    if len(parts) == 1:
        return replace(first, factors=(*parts[0].factors, common), scale=parts[0].scale)
    summands = [part.as_tensor() if part.factors else _number(part.scale, common) for part in parts]
    return replace(first, factors=(functools.reduce(sum_of_tensors, summands), common), scale=1.0)


def _number(scale: float, like: Factor) -> Tensor:
    """A number that is added to what meets a factor, in the dtype of that, so that the sum is no wider."""
    dtype = jnp.promote_types(like.as_tensor().value.dtype, jnp.float32)
    return contract((), ()) if is_planning() else Tensor(jnp.asarray(scale, dtype), ())


def stacked_terms(terms: Sequence[Term]) -> list[Term]:
    """The terms, of which those of the same form are one: Σ_k a_k·b_k is a product of two arrays with one more index, k.

    A weight that is used at several places, as at the times of a sequence, gives such terms.
    """
    alike: dict[Any, list[Term]] = {}
    for i, term in enumerate(terms):
        alike.setdefault(_form(term) or i, []).append(term)
    return [_stack(group) if len(group) > 1 else group[0] for group in alike.values()]


def _form(term: Term):
    """Equal for two products of stored arrays that differ in their numbers alone; None for other terms."""
    stored = [f for f in term.factors if isinstance(f, Tensor)]
    if not 1 < len(stored) == len(term.factors):
        return None
    return term.label_pattern, tuple((f.value.shape, f.value.dtype, pattern(f.axes)) for f in stored)


def _stack(terms: list[Term]) -> Term:
    """The sum of terms of the same form as one term, with one more label."""
    place = (Label(highest_id(terms[0]) + 1, len(terms)),)
    columns = [[f.as_tensor() for f in column] for column in zip(*(term.factors for term in terms), strict=True)]
    columns[0] = [scaled_tensor(f, term.scale) for f, term in zip(columns[0], terms, strict=True)]
    factors = [
        Tensor(jnp.stack(compatible(*(f.value for f in column))), (place, *column[0].axes), column[0].name)
        for column in columns
    ]
    return replace(terms[0], factors=tuple(factors), scale=1.0)
