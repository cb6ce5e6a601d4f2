"""Jacobians as sums of einsums.

A `Jacobian` maps input axes to output axes.  It is a sum of terms; a term is a product of factors whose axes carry
labels.  A label that the output and the input share is structure: `∂y[b,o]/∂x[b,i] = w[o,i]` says that example b of y
depends on example b of x alone, and no array with two b axes is ever made.  Composition only unifies labels and
concatenates factors; numbers are multiplied when somebody asks for numbers.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from .errors import JacobianTooLarge, ShapeError
from .factors import Factor, Group, Label, Tensor, add, contract, flatten, fused, pytree, shape_of, tensor, with_deltas

# --- terms: out labels, in labels, a product of factors -----------------------------------------------------------


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
        return list(dict.fromkeys(flatten(self.out) + flatten(self.inp)))

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
        external = set(self.external)
        groups = [[f] for f in self.factors]
        for label in set().union(*(f.labels for f in self.factors)) - external:
            touched = [group for group in groups if any(label in f.labels for f in group)]
            groups = [group for group in groups if group not in touched] + [sum(touched, [])]
        if fully and groups:
            groups = [sum(groups, [])]
        factors = [g[0] if len(g) == 1 and g[0].labels <= external else contract(g, external) for g in groups]
        while pair := _inside_another(factors):  # costs nothing: absorb it
            factors = [f for f in factors if f not in pair] + [contract(pair, external)]
        return replace(self, factors=tuple(factors))

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
        array = self.spread(out, inp).arranged(flatten(out) + flatten(inp))
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

    return replace(term, out=tuple(map(rename, term.out)), inp=tuple(map(rename, term.inp)),
                   factors=tuple(f.relabel(rename) for f in term.factors))


def _highest(term: Term) -> int:
    return max([label.id for label in term.external] + [label.id for f in term.factors for label in f.labels], default=-1)


class _Unifier:
    """Makes two groups of the same size equal, splitting labels where one group is finer than the other."""

    def __init__(self, next_id: int):
        self.next_id, self.known = next_id, {}

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
    unifier = _Unifier(_highest(b))
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
    if len(group) <= 1:
        return term
    taken = set(flatten(term.out)) | {label for i, g in enumerate(term.inp) if i != axis for label in g}
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


def _on_diagonal(term: Term) -> Term:
    """The term without input axes, its input indices set equal to its output indices."""
    unifier = _Unifier(_highest(term))
    for axis, (left, right) in enumerate(zip(term.out, term.inp, strict=True)):
        if not unifier.unify(left, right):
            return _on_diagonal(_transposed(_fused(_transposed(_fused(term, axis)), axis)))
    return make_term(map(unifier.resolve, term.out), (), [f.relabel(unifier.resolve) for f in term.factors], term.scale)


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
        host = next((i for i, host in enumerate(result) if host.full and term.stored), None)
        value = None if host is None else term.spread(result[host].out, result[host].inp)
        if value is None:
            result.append(term)
        else:
            result[host] = replace(result[host], factors=(add(result[host].array(), value),), scale=1.0)
    return result


# --- the public object --------------------------------------------------------------------------------------------


@pytree("terms")
class Jacobian:
    """∂y/∂x in structured form: `J.shape == (*y.shape, *x.shape)`, numerator first.

    `A @ B` composes, `J @ v` is the JVP (v of x's shape), `u @ J` the VJP (u of y's shape); `A + B`, `-A`, `2 * A`
    and `J.T` stay structured.  `dense()`, `matrix()`, `per_example()` and `diagonal()` give arrays.
    Jacobians are pytrees: the structure is static, the arrays are leaves, so they pass through `jax.jit`.
    """

    terms: tuple[Term, ...]
    out_shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    dtype: Any
    names: tuple[str, str] = ("y", "x")

    __array_ufunc__ = None  # numpy arrays on the left leave `u @ J` to us

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_shape + self.in_shape

    # algebra

    def __matmul__(self, other):
        if not isinstance(other, Jacobian):
            v = _array(other)
            if v.shape != self.in_shape:
                raise ShapeError(f"J @ v: v has shape {v.shape}, the input of J has shape {self.in_shape}")
            return (self @ _column(v)).dense(limit=math.inf).astype(jnp.result_type(v, self.dtype))
        if self.in_shape != other.out_shape:
            raise ShapeError(f"A @ B: the input of A has shape {self.in_shape}, the output of B {other.out_shape}")
        terms = [compose(a, b) for a in self.terms for b in other.terms]
        return jacobian_of(terms, self.out_shape, other.in_shape, other.dtype, (self.names[0], other.names[1]))

    def __rmatmul__(self, other):
        u = _array(other)
        if u.shape != self.out_shape:
            raise ShapeError(f"u @ J: u has shape {u.shape}, the output of J has shape {self.out_shape}")
        return self.T @ u

    def __add__(self, other):
        if not isinstance(other, Jacobian):
            return NotImplemented
        if (self.out_shape, self.in_shape) != (other.out_shape, other.in_shape):
            raise ShapeError(f"A + B: A maps {self.in_shape} to {self.out_shape}, B {other.in_shape} to {other.out_shape}")
        return replace(self, terms=self.terms + other.terms)

    def __neg__(self):
        return -1.0 * self

    def __sub__(self, other):
        return self + -other

    def __mul__(self, scale):
        if isinstance(scale, (int, float)):
            return replace(self, terms=tuple(replace(t, scale=t.scale * scale) for t in self.terms))
        scale = _array(scale)
        if scale.shape != ():
            raise ShapeError(f"scale * J: scale has shape {scale.shape}, a scalar was expected")
        return replace(self, terms=tuple(replace(t, factors=(*t.factors, Tensor(scale, (), "c"))) for t in self.terms))

    __rmul__ = __mul__

    @property
    def T(self) -> "Jacobian":
        """The transpose: input and output change places."""
        terms = tuple(make_term(t.inp, t.out, t.factors, t.scale) for t in self.terms)
        return Jacobian(terms, self.in_shape, self.out_shape, self.dtype, self.names[::-1])

    def reduced(self) -> "Jacobian":
        """The same Jacobian with inner sums carried out and terms of equal structure added."""
        return replace(self, terms=tuple(merged(self.terms)))

    # arrays

    def dense(self, limit: float | None = None) -> jax.Array:
        """The whole array, of shape `(*out, *in)`.

        Raises JacobianTooLarge, before anything is allocated, beyond `limit` bytes (default: half of the memory that is
        free now; `math.inf` for no limit).
        """
        self._check_size(self.shape, limit)
        return self._total([term.dense() for term in self.terms], self.shape)

    def matrix(self, limit: float | None = None) -> jax.Array:
        """`dense()` with the output and the input flattened to one axis each."""
        return self.dense(limit).reshape(math.prod(self.out_shape), math.prod(self.in_shape))

    def per_example(self, limit: float | None = None) -> jax.Array:
        """`[B, *out, *in]`: the blocks along the first axis, for a Jacobian that does not couple examples.

        Raises ShapeError where the first axes differ, or where example b depends on others (batch norm does).
        """
        if not self.out_shape or not self.in_shape or self.out_shape[0] != self.in_shape[0]:
            raise ShapeError(
                f"per_example: output {self.out_shape} and input {self.in_shape} have no common first axis"
            )
        if any(t.out[0] != t.inp[0] for t in self.terms):
            raise ShapeError("per_example: examples along the first axis depend on each other; use dense()")
        shape = self.out_shape + self.in_shape[1:]
        self._check_size(shape, limit)
        return self._total([replace(t, inp=t.inp[1:]).dense() for t in self.terms], shape)

    def diagonal(self) -> jax.Array:
        """∂y[i]/∂x[i] for every index, of the output's shape; output and input must have the same shape."""
        if self.out_shape != self.in_shape:
            raise ShapeError(f"diagonal: output {self.out_shape} and input {self.in_shape} differ")
        return self._total([_on_diagonal(term).dense() for term in self.terms], self.out_shape)

    def _total(self, arrays, shape):
        total = reduce(jnp.add, arrays) if arrays else jnp.zeros(shape)
        return total.astype(self.dtype)

    def _check_size(self, shape, limit):
        need = math.prod(shape) * self.dtype.itemsize
        limit = available_memory() / 2 if limit is None else limit
        if need > limit:
            raise JacobianTooLarge(
                f"the dense Jacobian of shape {list(shape)} needs {show_bytes(need)}, the limit is {show_bytes(limit)}; "
                f"it is stored as {self.structure} in {show_bytes(self.nbytes)}: use J @ v, u @ J, J.diagonal() or "
                "J.per_example(), or pass limit="
            )

    # what it is, in words

    @property
    def nbytes(self) -> int:
        """Bytes that the structured form stores; an array used twice counts once."""
        leaves = {id(leaf): leaf for leaf in jax.tree.leaves(self.terms)}.values()
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    @property
    def dense_nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def structure(self) -> str:
        """A short word: identity, diagonal, Kronecker, block diagonal, selection, rank-1 update, dense, zero, …"""
        if not self.terms:
            return "zero"
        return " + ".join(dict.fromkeys(_structure(term) for term in self.terms))

    @property
    def formula(self) -> str:
        """The Jacobian in index notation, as `∂y[b,o]/∂x[b,i] = w[o,i]`."""
        return _Namer(self).formula()

    def __repr__(self):
        return (f"Jacobian({self.formula}, {list(self.out_shape)}×{list(self.in_shape)}, {self.structure}, "
                f"{show_bytes(self.nbytes)} of {show_bytes(self.dense_nbytes)})")


def jacobian_of(terms, out_shape, in_shape, dtype, names=("y", "x")) -> Jacobian:
    """A Jacobian from terms; terms over an empty axis are zero and left out."""
    labels = [set(t.external).union(*(f.labels for f in t.factors)) for t in terms]
    terms = tuple(t for t, own in zip(terms, labels, strict=True) if all(label.size for label in own))
    if 0 in out_shape or 0 in in_shape:
        terms = ()
    return Jacobian(terms, tuple(out_shape), tuple(in_shape), jnp.dtype(dtype), names)


def _array(x) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _column(v) -> Jacobian:
    """v as the Jacobian of a function of nothing."""
    groups = fresh_groups(v.shape)
    return jacobian_of([make_term(groups, (), [Tensor(v, groups, "v")])], v.shape, (), v.dtype, ("v", ""))


def available_memory() -> float:
    """Free bytes: on the default device where it tells, else of this machine."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    free = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(free) * os.sysconf("SC_PAGE_SIZE")


def show_bytes(n: float) -> str:
    if n == math.inf:
        return "unlimited"
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} B" if unit == "B" else f"{n:.3g} {unit}"
        n /= 1000
    raise AssertionError


# --- how rules are written ----------------------------------------------------------------------------------------

Rule = Callable[[Any, Any], Jacobian]  # from the output and one argument (arrays or their shapes) to the Jacobian


def fresh_groups(shape, names=(), start=0) -> tuple[Group, ...]:
    """One new label an axis."""
    names = [*names, *[""] * (len(shape) - len(names))]
    return tuple((Label(start + i, n, names[i]),) for i, n in enumerate(shape))


def axis_names(count: int, last: str = "i") -> list[str]:
    """Names for the axes of an array: batch first."""
    return [*"btsrq"[: count - 1], *"a" * max(0, count - 6), last] if count else []


def einsum(out: str, inp: str, *factors, scale: float = 1.0) -> Rule:
    """∂y[out]/∂x[inp] as a product of (array, indices) factors: `einsum("...o", "...i", (w, "oi"))`.

    Indices are letters; "..." stands for leading axes, aligned on the right, and axes of size 1 are repeated, as NumPy
    broadcasts.  An index that y and x share is structure; one that only factors have is summed.  A third entry of a
    factor is its name in formulae.
    """

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
        parts = [Tensor(array, groups(array, indices), *name) for array, indices, *name in factors]
        return jacobian_of([make_term(y_groups, x_groups, parts, scale)], y.shape, x.shape, x.dtype)

    return rule


def identity(y, x) -> Jacobian:
    """∂y/∂x = 1 on every shared index; x may be broadcast."""
    return einsum("...", "...")(y, x)


def diagonal(derivative, name="h'") -> Rule:
    """∂y[...]/∂x[...] = h'[...]: every index shared."""
    return einsum("...", "...", (derivative, "...", name))


def scaled(scale: float) -> Rule:
    """∂y/∂x = scale on every shared index."""
    return einsum("...", "...", scale=scale)


def regroup(y, x) -> Jacobian | None:
    """∂y/∂x of a reshape: only names move.  None where the shapes have no common refinement, as (3, 4) and (2, 6)."""
    if 0 in x.shape:
        return jacobian_of([], y.shape, x.shape, x.dtype)
    names = axis_names(len(x.shape)) if len(x.shape) <= 3 else [*"bchw"][: len(x.shape)]
    inp = fresh_groups(x.shape, names)
    out = fresh_groups(y.shape, start=len(inp))
    unifier = _Unifier(len(inp) + len(out))
    if not unifier.unify(flatten(inp), flatten(out)):
        return None
    return jacobian_of([make_term(map(unifier.resolve, out), map(unifier.resolve, inp), ())], y.shape, x.shape, x.dtype)


def from_groups(out, inp, *factors: Factor, scale: float = 1.0) -> Rule:
    """A rule from label groups, for maps whose axes do not spell as an einsum: reshapes, slices, operators."""
    return lambda y, x: jacobian_of([make_term(out, inp, factors, scale)], y.shape, x.shape, x.dtype)


# --- structure and formulae ---------------------------------------------------------------------------------------


def _structure(term: Term) -> str:
    out, inp = set(flatten(term.out)), set(flatten(term.inp))
    shared = out & inp
    special = [f.kind for f in term.factors if not isinstance(f, Tensor)]
    if special:
        return special[0] if len(term.factors) == 1 else f"{special[0]} product"
    if out == inp:
        if any(f.labels for f in term.factors):
            return "diagonal"
        if term.factors or term.scale != 1:
            return "scaled identity" if out else "scalar"
        return "identity" if flatten(term.out) == flatten(term.inp) else "permutation"
    if not term.factors:
        return "broadcast" if inp < out else "sum" if out < inp else "ones"
    if len(term.factors) > 1:
        return "factored"
    if not shared:
        return "dense"
    return "block diagonal" if shared & term.factors[0].labels else "Kronecker"


class _Namer:
    """Gives the indices of a Jacobian letters and writes its formula."""

    def __init__(self, jacobian: Jacobian):
        self.jacobian = jacobian
        terms = jacobian.terms
        sizes = [[label.size for label in flatten(t.out) + flatten(t.inp)] for t in terms]
        self.terms = [t for t, own in zip(terms, sizes, strict=True) if own == sizes[0]]
        self.strange = len(terms) - len(self.terms)  # terms whose axes are split in another way
        self.letters: list[str] = []  # one for every label position of the output, then of the input

    def formula(self) -> str:
        y, x = self.jacobian.names
        if not self.terms:
            return f"∂{y}/∂{x} = 0"
        first = self.terms[0]
        self.name_positions()
        letters = iter(self.letters)
        sides = []
        for groups in (first.out, first.inp):
            texts = ["".join(next(letters) for _ in group) or "·" for group in groups]
            sides.append(f"[{','.join(texts)}]" if texts else "")
        text = " + ".join(self.product(term) for term in self.terms).replace("+ −", "− ")
        return f"∂{y}{sides[0]}/∂{x}{sides[1]} = {text}{' + …' if self.strange else ''}"

    def name_positions(self):
        rows = [flatten(t.out) + flatten(t.inp) for t in self.terms]
        count = len(flatten(self.terms[0].out))
        for position in range(len(rows[0])):
            shared = next((p for p in range(position) if all(row[p] == row[position] for row in rows)), None)
            if shared is not None and position >= count:
                self.letters.append(self.letters[shared])
            else:
                hint = rows[0][position].name if rows[0].index(rows[0][position]) == position else ""
                self.letters.append(self.fresh(hint, self.letters))

    def fresh(self, hint, used) -> str:
        pool = [hint, *"ijklmnopqrstuvwxyz"] if hint else "ijklmnopqrstuvwxyz"
        return next((n for n in pool if n not in used), f"i{len(used)}")

    def product(self, term: Term) -> str:
        names: dict[Label, str] = {}
        parts = []
        for label, letter in zip(flatten(term.out) + flatten(term.inp), self.letters, strict=True):
            if names.setdefault(label, letter) != letter:
                parts.append(f"δ({names[label]},{letter})")
        inner = [label for f in term.factors for label in flatten(f.axes) if label not in names]
        for label in dict.fromkeys(inner):
            names[label] = self.fresh(label.name, [*self.letters, *names.values()])

        def show(groups):
            texts = ["".join(names[label] for label in group) or "·" for group in groups]
            return f"[{','.join(texts)}]" if texts else ""

        parts += [f.formula(show) for f in term.factors]
        scale = "" if term.scale == 1 else "−" if term.scale == -1 else f"{term.scale:.4g}".replace("-", "−")
        if not parts:
            return scale + "1" if scale in ("", "−") else scale
        total = f"Σ_{''.join(names[label] for label in dict.fromkeys(inner))} " if inner else ""
        return f"{total}{scale}{'·' if scale not in ('', '−') else ''}{'·'.join(parts)}"
