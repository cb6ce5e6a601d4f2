"""Jacobians as sums of einsums.

A `Jacobian` maps input axes to output axes.  It is a sum of terms, and a term is a product of factors whose axes carry
labels.  A label that the output and the input share is structure: `∂y[b,o]/∂x[b,i] = w[o,i]` says that example b of y
depends on example b of x alone, and no array with two b axes is ever made.  Composing two Jacobians multiplies nothing: it
unifies labels and collects factors.  When you ask for an array, the factors of each term are multiplied.
"""

import contextlib
import itertools
import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_array, check_integer, checked
from ..errors import DTypeError, ShapeError
from .boxes import by_box
from .factors import Label, Tensor, entries_over, labels_of, pytree
from .notation import formula, legend, structure
from .picture import Markup, code, figure, heat_map
from .places import dense_sum
from .promotion import numbers_of, usual_promotion
from .sharding import reshaped
from .sizes import check_bytes, count_entries, nbytes_of, show_bytes
from .sums import merged_terms
from .terms import Term, compose, diagonal_part, make_term, traced_out, with_distinct_symbols

SMALL_BYTES = 1 << 20  # of a dense Jacobian whose corner is cut out of the whole


@pytree("terms")
class Jacobian:
    """∂y/∂x in structured form: `J.shape == (*y.shape, *x.shape)`, numerator first.

    `A @ B` composes, `J @ v` is the JVP (v of x's shape), `u @ J` the VJP (u of y's shape); `A + B`, `-A`, `2 * A`
    and `J.T` stay structured.  `dense()`, `matrix()`, `per_example()` and `diagonal()` give arrays.
    Jacobians are pytrees: the structure is static, the arrays are leaves, so they pass through `jax.jit`.

    >>> J = jn.jacobian(jn.linear)(jnp.ones((64, 784)), jnp.ones((10, 784)))
    >>> J
    Jacobian(∂y[b,o]/∂x[b,i] = w[o,i], [64, 10]×[64, 784], Kronecker, 31.4 kB of 128 MB)
    >>> (J @ jnp.ones((64, 784))).shape, J.per_example().shape
    ((64, 10), (64, 10, 784))
    """

    terms: tuple[Term, ...]
    out_shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    dtype: Any
    names: tuple[str, str] = ("y", "x")

    __array_ufunc__ = None  # numpy arrays on the left leave `u @ J` to us

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape, then the input's: that of `dense()`."""
        return self.out_shape + self.in_shape

    def __matmul__(self, other):
        if not isinstance(other, Jacobian):
            v = _as_floating("J @ v: v", other)
            if v.shape != self.in_shape:
                raise ShapeError(f"J @ v: v has shape {v.shape}, the input of J has shape {self.in_shape}")
            return replace(self @ column(v), dtype=jnp.result_type(v, self.dtype)).dense(limit=math.inf)
        if self.in_shape != other.out_shape:
            raise ShapeError(f"A @ B: the input of A has shape {self.in_shape}, the output of B {other.out_shape}")
        left, right = with_distinct_symbols(self.terms, other.terms)
        terms = [compose(a, b) for a in left for b in right]
        return jacobian_of(terms, self.out_shape, other.in_shape, other.dtype, (self.names[0], other.names[1]))

    def __rmatmul__(self, other):
        u = _as_floating("u @ J: u", other)
        if u.shape != self.out_shape:
            raise ShapeError(f"u @ J: u has shape {u.shape}, the output of J has shape {self.out_shape}")
        return self.T @ u

    def __add__(self, other):
        if not isinstance(other, Jacobian):
            return NotImplemented
        if (self.out_shape, self.in_shape) != (other.out_shape, other.in_shape):
            raise ShapeError(f"A + B: A maps {self.in_shape} to {self.out_shape}, B {other.in_shape} to {other.out_shape}")
        left, right = with_distinct_symbols(self.terms, other.terms)
        return replace(self, terms=left + right, dtype=jnp.promote_types(self.dtype, other.dtype))

    def __radd__(self, other):
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() starts from 0

    def __neg__(self):
        return -1.0 * self

    def __sub__(self, other):
        return self + -other

    def __mul__(self, scale):
        if isinstance(scale, (int, float)):
            return replace(self, terms=tuple(replace(t, scale=t.scale * scale) for t in self.terms))
        scale = _as_floating("scale * J: scale", scale)
        if jnp.iscomplexobj(scale):
            raise DTypeError(f"scale * J: scale has dtype {scale.dtype}, a real number was expected")
        if scale.shape != ():
            raise ShapeError(f"scale * J: scale has shape {scale.shape}, a scalar was expected")
        return replace(self, terms=tuple(replace(t, factors=(*t.factors, Tensor(scale, (), "c"))) for t in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, scale):
        return self * (1 / scale)

    @property
    def T(self) -> "Jacobian":
        """The transpose: input and output change places."""
        terms = tuple(make_term(t.inp, t.out, t.factors, t.scale) for t in self.terms)
        return Jacobian(terms, self.in_shape, self.out_shape, self.dtype, self.names[::-1])

    @usual_promotion()
    def reduced(self) -> "Jacobian":
        """The same Jacobian with internal labels summed, and with terms of equal structure added.

        Its arrays are no wider than its dtype (or float32), as cotangents in JAX: float64 labels do not make them float64.
        """
        widest = jnp.promote_types(self.dtype, jnp.float32)

        def narrowed(leaf):
            wider = jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.promote_types(leaf.dtype, widest) != widest
            return leaf.astype(widest) if wider else leaf

        with numbers_of(self.dtype):
            terms = tuple(merged_terms(self.terms))
        return replace(self, terms=jax.tree.map(narrowed, terms))

    def carried_out(self) -> "Jacobian":
        """The same Jacobian with every term multiplied into one array, and those added that fit together.

        Terms that lie in different places, as those of values that are stacked, are joined rather than padded and added.
        """
        alike: dict[Any, list[Term]] = {}
        for term in self.terms:
            alike.setdefault(term.label_pattern, []).append(term)
        parts = [replace(self, terms=tuple(own), dtype=jnp.promote_types(self.dtype, jnp.float32)) for own in alike.values()]
        multiplied = [
            part.as_one_array().terms if part._are_joined() else [term.reduced(fully=True) for term in part.terms]
            for part in parts
        ]
        return replace(self, terms=tuple(itertools.chain(*multiplied))).reduced()

    def _are_joined(self) -> bool:
        """Whether terms of one label pattern lie in different places, and are no larger as one array."""
        own = [n for b, n in enumerate(self.in_shape) if b not in self.shared_axes().values()]
        size = count_entries([*self.out_shape, *own])
        return len(by_box(self.terms)) > 1 and size == entries_over(self.terms[0].external_labels)

    def as_one_array(self) -> "Jacobian":
        """The same Jacobian as one stored array, in which only axes are shared that every term shares."""
        if not self.terms:
            return self
        common = self.shared_axes()
        own = [b for b in range(len(self.in_shape)) if b not in common.values()]
        shape = self.out_shape + tuple(self.in_shape[b] for b in own)
        parts = [replace(t, inp=tuple(t.inp[b] for b in own)) for t in self.terms]
        array = dense_sum(parts, shape, self.dtype)
        out = [(Label(a, n),) for a, n in enumerate(self.out_shape)]
        inp = [(Label(len(out) + b, n),) for b, n in enumerate(self.in_shape)]
        for a, b in common.items():
            inp[b] = out[a]
        factor = Tensor(array, (*out, *(inp[b] for b in own)), "J")
        return replace(self, terms=(make_term(out, inp, [factor]),))

    @property
    def multiplies_per_vector(self) -> int:
        """How many multiplications a product with one column takes."""
        total = 0
        for term in self.terms:
            shared = set(labels_of(term.out)) & set(labels_of(term.inp))
            total += sum(factor.multiplies_per_vector * entries_over(shared - factor.labels) for factor in term.factors)
        return total

    def shared_axes(self) -> dict[int, int]:
        """The output axes that are one with an input axis in every term, and which ones."""
        pairs = [{a: b for b, g in enumerate(t.inp) for a, own in enumerate(t.out) if g and g == own} for t in self.terms]
        return {a: b for a, b in pairs[0].items() if all(other.get(a) == b for other in pairs)} if pairs else {}

    @checked
    def dense(self, limit: float | None = None) -> jax.Array:
        """The whole array, of shape `(*out, *in)`.

        Raises JacobianTooLarge, before anything is allocated, beyond `limit` bytes (default: half of the memory that is
        free now; `math.inf` for no limit).
        """
        self._check_size(self.shape, limit)
        return dense_sum(self.terms, self.shape, self.dtype)

    @checked
    def matrix(self, limit: float | None = None) -> jax.Array:
        """`dense()` with the output and the input flattened to one axis each."""
        return reshaped(self.dense(limit), (math.prod(self.out_shape), math.prod(self.in_shape)))

    @property
    def batched(self) -> bool:
        """Whether output and input share their first axis, so that example b depends on example b alone."""
        same = self.out_shape[:1] == self.in_shape[:1] and self.out_shape != ()
        return same and all(t.out[0] == t.inp[0] for t in self.terms)

    @checked
    def per_example(self, limit: float | None = None) -> jax.Array:
        """`[B, *out, *in]`: one block for each example, the first axis, for a Jacobian that does not couple examples.

        Raises ShapeError where the first axes differ, or where example b depends on others (batch norm does).
        """
        if self.out_shape[:1] != self.in_shape[:1] or not self.out_shape:
            raise ShapeError(f"per_example: output {self.out_shape} and input {self.in_shape} have no common first axis")
        if not self.batched:
            raise ShapeError(
                f"per_example: the structure ({self.structure}) does not show that examples along the first axis are "
                "independent; use dense()"
            )
        shape = self.out_shape + self.in_shape[1:]
        self._check_size(shape, limit)
        return dense_sum([replace(t, inp=t.inp[1:]) for t in self.terms], shape, self.dtype)

    @checked
    def diagonal(self, axes: tuple[int, ...] | None = None) -> jax.Array:
        """∂y[i]/∂x[i] for every index i of these axes (default: of all), `[*other outputs, *other inputs, *axes]`.

        Raises ShapeError where output and input differ along them.
        """
        axes = self._checked_pairs("diagonal", axes)
        shape = (*self._shape_without(axes), *(self.out_shape[a] for a in axes))
        return dense_sum([diagonal_part(term, axes) for term in self.terms], shape, self.dtype)

    @checked
    def trace(self, axes: tuple[int, ...] | None = None) -> jax.Array:
        """Σ_i ∂y[i]/∂x[i] over the indices of these axes (default: of all), `[*other outputs, *other inputs]`.

        Raises ShapeError where output and input differ along them.
        """
        axes = self._checked_pairs("trace", axes)
        return dense_sum([traced_out(term, axes) for term in self.terms], self._shape_without(axes), self.dtype)

    @checked
    def sparsity(self, limit: float | None = None) -> jax.Array:
        """Which entries of `dense()` may differ from zero: False where the structure alone makes the entry zero.

        Entries that a selection (max, embedding, …) leaves out count as zero by structure.  Raises what `dense` raises.

        >>> jn.jacobian(jn.relu)(jnp.zeros(2)).sparsity()
        Array([[ True, False],
               [False,  True]], dtype=bool)
        """
        return self._with_arbitrary_numbers().dense(limit) != 0

    def _with_arbitrary_numbers(self) -> "Jacobian":
        """The same structure with arbitrary positive numbers, so that its own numbers need not be known."""
        draw = np.random.default_rng(0)

        def other(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return draw.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)

        return replace(self, terms=jax.tree.map(other, self.terms))

    @checked
    def corner(self, rows: int = 32, columns: int = 32) -> jax.Array:
        """The first `rows` × `columns` of `matrix()`, or of the first example's block if examples are independent.

        It serves to look at Jacobians of any size: a large one is multiplied by unit vectors of the corner's shorter side.
        """
        for name, count in (("rows", rows), ("columns", columns)):
            check_integer("corner", name, count, 1)
        return _corner(self, rows, columns, cut_out=self.dense_nbytes <= SMALL_BYTES)

    def _row(self, i) -> jax.Array:
        return (unit_array(self.out_shape, i, self.dtype) @ self).reshape(-1)

    def _column(self, i) -> jax.Array:
        return (self @ unit_array(self.in_shape, i, self.dtype)).reshape(-1)

    @checked
    def possible(self, rows: int = 32, columns: int = 32) -> jax.Array:
        """The part of `sparsity()` that belongs to `corner`."""
        return self._with_arbitrary_numbers().corner(rows, columns) != 0

    @property
    def examples_are_independent(self) -> bool:
        """Whether the batch axis can be dropped when this Jacobian is shown.

        It is batched, and not a vector by a vector: the entries of a vector are taken for features.
        """
        return self.batched and len(self.out_shape + self.in_shape) > 2

    @property
    def block_shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of output and input that are shown: those of one example if examples are independent."""
        return (self.out_shape[1:], self.in_shape[1:]) if self.examples_are_independent else (self.out_shape, self.in_shape)

    def outline(self) -> "Jacobian":
        """The same Jacobian with shapes in place of real numbers, which suffice for its formula and for its structure."""

        def shape(leaf):
            known = not jnp.issubdtype(leaf.dtype, jnp.floating) and _holds_numbers(leaf)
            return leaf if known else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

        return replace(self, terms=jax.tree.map(shape, self.terms))

    @checked
    def picture(self, rows: int = 32, columns: int = 32, width: int = 260) -> Markup:
        """An SVG of `corner`: numbers are blue (negative) to orange; entries that are zero by structure are hatched.

        If the numbers are not known (inside `jit`, or in an `outline`), only the structure is shown.
        """
        leaves = jax.tree.leaves(self.terms)
        if not all(_holds_numbers(leaf) for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)):
            return Markup()
        with _numbers_while_traced():
            possible = np.asarray(self._with_arbitrary_numbers().corner(rows, columns)) != 0
            values = np.asarray(self.corner(rows, columns)) if all(map(_holds_numbers, leaves)) else None
        whole = "×".join(str(math.prod(side)) for side in self.block_shape)
        shown = "×".join(map(str, possible.shape))
        words = f"{self.names[0]} by {self.names[1]}, {'an example, ' * self.examples_are_independent}{whole}"
        return heat_map(values, possible, words + (f", the first {shown}" if shown != whole else ""), width)

    def _checked_pairs(self, name, axes) -> tuple[int, ...]:
        """These axes, counted from 0; ShapeError unless output and input both have them, in the same size."""
        out, inp = self.out_shape, self.in_shape
        if axes is None and len(out) != len(inp):
            raise ShapeError(f"{name}: output {out} and input {inp} differ")
        axes = tuple(range(len(out))) if axes is None else tuple(a + len(out) if a < 0 else a for a in axes)
        if any(not 0 <= a < min(len(out), len(inp)) or out[a] != inp[a] for a in axes):
            raise ShapeError(f"{name}: output {out} and input {inp} differ along axes {axes}")
        return axes

    def _shape_without(self, axes) -> tuple[int, ...]:
        """The output's shape, then the input's, both without these axes."""
        return tuple(n for side in (self.out_shape, self.in_shape) for a, n in enumerate(side) if a not in axes)

    def _check_size(self, shape, limit):
        stored = f"it is stored as {self.structure} in {show_bytes(self.nbytes)}"
        advice = f"{stored}: use J @ v, u @ J, J.diagonal() or J.per_example(), or pass limit="
        check_bytes("the dense Jacobian", shape, self.dtype, limit, advice)

    @property
    def nbytes(self) -> int:
        """The bytes that the structured form stores.  An array that is used twice counts once."""
        return nbytes_of(self.terms)

    @property
    def dense_nbytes(self) -> int:
        """The bytes that `dense()` would take."""
        return count_entries(self.shape) * self.dtype.itemsize

    @property
    def structure(self) -> str:
        """A short word: identity, diagonal, Kronecker, block diagonal, selection, rank-1 update, dense, zero, …"""
        if not self.terms:
            return "zero"
        return " + ".join(dict.fromkeys(structure(term) for term in self.terms))

    @property
    def formula(self) -> str:
        """The Jacobian in index notation, as `∂y[b,o]/∂x[b,i] = w[o,i]`."""
        return formula(self.terms, self.names)

    @property
    def legend(self) -> dict[str, str]:
        """What the symbols of the formula stand for, where that is known, as `{"h'": "1 − y²"}`.

        >>> jn.jacobian(lambda w: jn.tanh(jn.linear(jnp.ones((4, 3)), w)))(jnp.ones((2, 3))).legend
        {"h'": '1 − y² (tanh)', 'x': 'argument x of linear'}
        """
        return legend(self.terms, self.names)

    def __str__(self):
        return "\n".join([repr(self), *(f"  {symbol} = {meaning}" for symbol, meaning in self.legend.items())])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The dense array for NumPy, within the limit of `dense()`."""
        if copy is False:
            raise ValueError("a Jacobian is no array: NumPy gets a copy of its dense form")
        return np.asarray(self.dense(), dtype)

    def _repr_html_(self):
        words = f"{list(self.out_shape)}×{list(self.in_shape)}, {self.structure}"
        size = f"{show_bytes(self.nbytes)} of {show_bytes(self.dense_nbytes)}"
        legend = [code(f"{symbol} = {meaning}") for symbol, meaning in self.legend.items()]
        return figure([code(self.formula), *legend, f"{words}, {size}"], self.picture())

    def __repr__(self):
        return (
            f"Jacobian({self.formula}, {list(self.out_shape)}×{list(self.in_shape)}, {self.structure}, "
            f"{show_bytes(self.nbytes)} of {show_bytes(self.dense_nbytes)})"
        )


def jacobian_of(terms, out_shape, in_shape, dtype, names=("y", "x")) -> Jacobian:
    """The Jacobian that is the sum of these terms.  A term over an empty axis is zero and left out."""
    labels = [set(t.external_labels).union(*(f.labels for f in t.factors)) for t in terms]
    terms = tuple(t for t, own in zip(terms, labels, strict=True) if all(label.size for label in own))
    return Jacobian(terms, tuple(out_shape), tuple(in_shape), jnp.dtype(dtype), names)


def _as_floating(what: str, x) -> jax.Array:
    x = as_array(what, x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _holds_numbers(leaf) -> bool:
    """Whether it holds numbers; shapes and traced arrays do not."""
    return isinstance(leaf, (jax.Array, np.ndarray)) and not isinstance(leaf, jax.core.Tracer)


def _numbers_while_traced():
    """Inside of a trace, what is computed from known numbers is computed at once, operation by operation.

    That compiles a program for each of them, also inside of `jit`, so it is not asked for where nothing is traced.
    """
    traced = isinstance(jax.device_put(0), jax.core.Tracer)
    return jax.ensure_compile_time_eval() if traced else contextlib.nullcontext()


def column(v) -> Jacobian:
    """v as a Jacobian without input axes: a column."""
    groups = tuple((Label(i, n),) for i, n in enumerate(v.shape))
    return jacobian_of([make_term(groups, (), [Tensor(v, groups, "v")])], v.shape, (), v.dtype, ("v", ""))


def unit_array(shape, i, dtype) -> jax.Array:
    """An array of zeros with 1 as its i-th entry, row-major."""
    return jnp.zeros(math.prod(shape), dtype).at[i].set(1).reshape(shape)


@partial(jax.jit, static_argnames=("rows", "columns", "cut_out"))
def _corner(j, rows, columns, cut_out) -> jax.Array:
    """`j.corner(rows, columns)`, cut out of the whole or row by row."""
    out, inp = map(math.prod, j.block_shape)
    rows, columns = min(rows, out), min(columns, inp)
    if cut_out:
        return j.matrix()[:rows, :columns]
    if rows <= columns:
        return jax.lax.map(lambda i: j._row(i)[:columns], jnp.arange(rows))
    return jax.lax.map(lambda i: j._column(i)[:rows], jnp.arange(columns)).T
