"""Convolutions as linear maps of the input and of the kernel.

Along every axis of space an output p, a kernel entry k and an input n meet where stride·p + dilation·k = spread·n + low.
`correlate` sums over the k and n that meet p.  Solved for another of the three, the same equation gives the transpose by
the input and the gradient by the kernel.  So one function serves forward, backward and transposed convolutions.
"""

import itertools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from ..algebra.factors import (
    Factor,
    Group,
    Operator,
    Tensor,
    at_least_float32,
    distinct_labels,
    entries_over,
    labels_of,
    pytree,
    shape_of,
    size_of,
    tensor,
)
from ..algebra.rules import axis_names, fresh_groups, from_groups
from ..algebra.sharding import replicated
from ..algebra.sizes import count_entries
from .shifted_products import Windows, shifted_products


class ConvAxis(NamedTuple):
    """One axis of space: output p, kernel entry k and input n meet where stride·p + dilation·k = spread·n + low."""

    stride: int
    dilation: int
    spread: int
    low: int

    @property
    def output_and_input_swapped(self) -> "ConvAxis":
        """The axis on which output and input have changed places."""
        return ConvAxis(self.spread, -self.dilation, self.stride, -self.low)

    @property
    def output_and_kernel_swapped(self) -> "ConvAxis":
        """The axis on which output and kernel have changed places."""
        return ConvAxis(self.dilation, self.stride, self.spread, self.low)

    @property
    def kernel_and_input_swapped(self) -> "ConvAxis":
        """The axis on which kernel and input have changed places."""
        return ConvAxis(-self.stride, self.spread, self.dilation, -self.low)

    def input_table(self, p: int, k: int, n: int):
        """[p, k]: the input that each output meets through each kernel entry; n, which is out of range, if there is none."""
        place = self.stride * np.arange(p)[:, None] + self.dilation * np.arange(k) - self.low
        return np.where((place % self.spread == 0) & (place >= 0) & (place < n * self.spread), place // self.spread, n)

    def input_text(self, p: str, k: str) -> str:
        """The input that p and k meet, as text for formulae."""
        parts = [(self.stride, p), (self.dilation, k), (-self.low, "")]
        parts = [(c, name) for c, name in parts if c and name != "0"]
        parts.sort(key=lambda part: (part[1] == "", part[0] < 0))
        words = [f"{'−' if c < 0 else '+'}{'' if abs(c) == 1 and name else abs(c)}{name}" for c, name in parts]
        total = "".join(words).removeprefix("+") or "0"
        total = f"({total})" if self.spread > 1 and len(parts) > 1 else total
        return total if self.spread == 1 else f"{total}/{self.spread}"


ConvAxes = tuple[ConvAxis, ...]


def correlate(x, w, space: ConvAxes, size, **options):
    """y[b, o, p] = Σ_ik w[o, i, k] x[b, i, n] over all k and n that meet p, for p < size; at least in float32."""
    padding = []
    for axis, p, k, n in zip(space, size, w.shape[2:], x.shape[2:], strict=True):
        low = axis.low - min(0, axis.dilation) * (k - 1) - min(0, axis.stride) * (p - 1)
        reach = abs(axis.stride) * (p - 1) + abs(axis.dilation) * (k - 1) - low
        padding.append((low, reach - axis.spread * (n - 1)))
    dtype = jnp.promote_types(x.dtype, w.dtype)
    y = lax.conv_general_dilated(
        x.astype(dtype),
        lax.rev(w.astype(dtype), [2 + a for a, axis in enumerate(space) if axis.dilation < 0]),
        [abs(axis.stride) for axis in space],
        padding,
        [axis.spread for axis in space],
        [abs(axis.dilation) for axis in space],
        preferred_element_type=jnp.promote_types(dtype, jnp.float32),
        **options,
    )
    return lax.rev(y, [2 + a for a, axis in enumerate(space) if axis.stride < 0])


def kernel_gradient(x, u, space: ConvAxes, size, groups: int):
    """[o, i, k]: Σ_{b,p} u[b, o, p] x[b, i, n] over all p and n that meet k, for k < size."""
    swapped = (1, 0, *range(2, x.ndim))  # examples and channels change places
    space = tuple(axis.output_and_kernel_swapped for axis in space)
    numbers = lax.ConvDimensionNumbers(*[swapped] * 3)
    return correlate(x, u, space, size, dimension_numbers=numbers, batch_group_count=groups, out_sharding=replicated(x))


def transposed_kernel(w, groups: int):
    """[g·o, i, *k] as [g·i, o, *k]."""
    o, i, *kernel = w.shape
    return w.reshape(groups, o // groups, i, *kernel).swapaxes(1, 2).reshape(groups * i, o // groups, *kernel)


def take_tables(x, tables):
    """x[..., table] along each of the last axes, which become two each; 0 where a table holds the size of the axis."""
    first = x.ndim - len(tables)
    x = jnp.pad(x, [(0, 0)] * first + [(0, 1)] * len(tables))
    for a, table in enumerate(tables):
        x = jnp.take(x, table, first + 2 * a, mode="clip")
    return x.transpose(*range(first), *range(first, x.ndim, 2), *range(first + 1, x.ndim, 2))


@pytree("w")
class ConvolutionByInput(Operator):
    """∂y[g·o, p]/∂x[g·i, n] = w[g·o, i, k] where p, k and n meet, for every example; axes are g, o, *p, i, *n."""

    w: Any
    space: ConvAxes
    axes: tuple[Group, ...]
    kind = "convolution"
    symbol = "w"
    symbols = {"w": ""}

    def legend_in_product(self):
        return self.legend()

    shared_rank = 1

    @property
    def output_rank(self):  # type: ignore[override]
        return 1 + len(self.space)

    @property
    def multiplies_per_vector(self):
        g, out, inp = self.sizes
        return count_entries([g, *out, inp[0], *self.w.shape[2:]])

    @property
    def sizes(self):
        """The sizes of g, of o and *p, and of i and *n."""
        (g,), out, inp = map(shape_of, self.axes_by_role())
        return g, out, inp

    def push(self, x):
        g, out, inp = self.sizes
        y = correlate(x.reshape(-1, g * inp[0], *inp[1:]), self.w, self.space, out[1:], feature_group_count=g)
        return y.reshape(-1, g, *out)

    def pull(self, x):
        g, out, inp = self.sizes
        x, w = x.reshape(-1, g * out[0], *out[1:]), transposed_kernel(self.w, g)
        y = correlate(x, w, tuple(axis.output_and_input_swapped for axis in self.space), inp[1:], feature_group_count=g)
        return y.reshape(-1, g, *inp)

    def array(self, forward=None):
        g, out, inp = self.sizes
        meet = zip(self.space, out[1:], inp[1:], self.w.shape[2:], strict=True)
        array = take_tables(self.w, [axis.kernel_and_input_swapped.input_table(p, n, k) for axis, p, n, k in meet])
        return jnp.moveaxis(array.reshape(g, out[0], inp[0], *out[1:], *inp[1:]), 2, 1 + len(out))

    def formula(self, show):
        group, out, inp = self.axes_by_role()
        channels = show([labels_of([*group, out[0]]), inp[0]])[1:-1]
        meet = zip(self.space, out[1:], inp[1:], strict=True)
        places = [axis.kernel_and_input_swapped.input_text(show([p])[1:-1], show([n])[1:-1]) for axis, p, n in meet]
        return f"{self.written('w')}[{','.join([channels, *places])}]"


@pytree("x")
class ConvolutionByKernel(Operator):
    """∂y[b, g·o, p]/∂w[g·o, i, k] = x[b, g·i, n] where p, k and n meet; axes are *b, g, *p, i, *k.

    A product is one convolution: further axes of an array, as o, take the place of channels, and examples are summed inside.
    Only where examples must stay separate, as in per-example gradients, patches of x are stored.
    """

    x: Any
    space: ConvAxes
    axes: tuple[Group, ...]
    kind = "convolution"
    symbol = "x"
    symbols = {"x": ""}

    def legend_in_product(self):
        return self.legend()

    @property
    def output_rank(self):  # type: ignore[override]
        return len(self.space)

    @property
    def shared_rank(self):  # type: ignore[override]
        return len(self.axes) - 1 - 2 * len(self.space)

    @property
    def multiplies_per_vector(self):
        return entries_over(self.labels)

    def of_all_steps(self, step, input_has_steps):
        """Steps that use the same kernel are like examples."""
        return None if input_has_steps else replace(self, axes=(step, *self.axes))

    def with_one_batch_axis(self):
        """x with its leading axes merged into one."""
        return with_one_batch_axis(self.x, len(self.space))

    def applies_to(self, labels, keep):
        if len(labels_of(self.axes)) != len(self.labels):
            return False
        _, out, inp = map(labels_of, self.axes_by_role())
        by_outputs = labels.issuperset(out) and keep.isdisjoint([*self._examples, *out]) and labels.isdisjoint(inp)
        return self._pushes(labels, keep) or by_outputs

    def times_itself(self, other, labels):
        """The products of all patches with each other, summed over examples and places."""
        (*batch, g), p, (i, *k) = self.axes_by_role()
        (*_, h), _, theirs = other.axes_by_role()
        ours, theirs = labels_of([i, *k]), labels_of(theirs)
        apart = len({*ours, *theirs}) == len(ours + theirs) and not (g or h)
        alike = self.space == other.space and self.axes[: -len(k) - 1] == other.axes[: -len(k) - 1]
        known = all(axis.stride > 0 and axis.spread == 1 and axis.dilation > 0 for axis in self.space)
        if not (apart and alike and known and set(labels) == set(labels_of([*batch, *p]))):
            return None
        others = entries_over(labels_of([*batch, *p[1:]])) * entries_over(labels_of([i, *k[1:]])) ** 2
        return ours + theirs, self._windows.multiplied_rows * others, self._products_of_patches

    @property
    def _windows(self) -> Windows:
        """Those along the first axis of space."""
        axis, p, (_, k, *_) = self.space[0], *map(shape_of, self.axes_by_role()[1:])
        return Windows(self.x.shape[-len(p)], p[0], k, axis.stride, axis.dilation, axis.low)

    def _products_of_patches(self):
        """[i, *k, i, *k]; of the patches, only those along all axes of space but the first are stored."""
        _, (_, *p), (i, _, *k) = map(shape_of, self.axes_by_role())
        x, rank = at_least_float32(self.with_one_batch_axis()), len(p)
        meet = zip(self.space[1:], p, k, x.shape[3:], strict=True)
        x = take_tables(x, [axis.input_table(*sizes) for axis, *sizes in meet])  # [b, i, n, *p, *k]
        x = x.transpose(2, 0, *range(3, 3 + rank), 1, *range(3 + rank, 3 + 2 * rank))
        found = jnp.moveaxis(shifted_products(x, self._windows, 1 + rank), (0, 2 + rank), (1, 3 + rank))
        return found.reshape([label.size for label in labels_of(self.axes_by_role()[2])] * 2)

    @property
    def _examples(self) -> Group:
        return labels_of(self.axes_by_role()[0][:-1])

    def _pushes(self, labels, keep) -> bool:
        """Whether a product with these labels is one with kernels; otherwise it is one with outputs."""
        _, out, inp = map(labels_of, self.axes_by_role())
        return labels.issuperset(inp) and keep.isdisjoint(inp) and labels.isdisjoint([*self._examples, *out])

    def contract(self, x, keep):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        examples, out, inp = labels_of(batch), labels_of(p), labels_of([i, *k])
        extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
        if self._pushes(x.labels, keep):
            w = x.broadcast_to([*g, *extra, *inp]).reshape(-1, *shape_of([i, *k]))
            array = correlate(self.with_one_batch_axis(), w, self.space, shape_of(p), feature_group_count=size_of(g))
            labels = [*examples, *g, *extra, *out]
        else:
            u = x.broadcast_to([*examples, *g, *extra, *out]).reshape(size_of(examples), -1, *shape_of(p))
            array = kernel_gradient(self.with_one_batch_axis(), u, self.space, shape_of(k), size_of(g))
            labels = [*g, *extra, *inp]
        return tensor(array.reshape([label.size for label in labels]), labels)

    def array(self, forward=None):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        meet = zip(self.space, shape_of(p), shape_of(k), self.x.shape[-len(p) :], strict=True)
        array = take_tables(self.with_one_batch_axis(), [axis.input_table(*sizes) for axis, *sizes in meet])
        array = array.reshape(size_of(labels_of(batch)), *shape_of([g, i, *p, *k]))
        return jnp.moveaxis(array, 2, 2 + len(p)).reshape(shape_of(self.axes))

    def formula(self, show):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        places = [axis.input_text(show([a])[1:-1], show([b])[1:-1]) for axis, a, b in zip(self.space, p, k, strict=True)]
        return f"{self.written('x')}[{','.join([show([*batch, g + i])[1:-1], *places])}]"


def with_one_batch_axis(x, rank: int):
    """x with one axis in place of all axes before the channels and the `rank` axes of space."""
    return x.reshape(math.prod(x.shape[: -1 - rank]), *x.shape[-1 - rank :])


def convolution_rules(y, x, w, axes: ConvAxes, groups: int, transposed=False):
    """The rules by x, w and b.  w has the channels of y first, or with `transposed` those of x.

    If the kernel has one entry and nothing is shifted, positions do not mix, and y and x share their indices.
    """
    rank = len(axes)
    lead, channels = x.shape[: -1 - rank], (groups, y.shape[-1 - rank] // groups, x.shape[-1 - rank] // groups)
    sizes = (*lead, *channels, *y.shape[-rank:], *x.shape[-rank:], *w.shape[2:])
    names = [[*word, *[""] * rank][:rank] for word in ("pqr", "uvt", "klm")]
    labels = iter(fresh_groups(sizes, [*axis_names(len(lead) + 1)[:-1], *"goi", *itertools.chain(*names)]))
    batch, (g, o, i), p, u, k = ([next(labels) for _ in range(n)] for n in (len(lead), 3, rank, rank, rank))
    first, second = (i, o) if transposed else (o, i)
    by_x: Factor
    by_w: Factor
    if all(n == axis.stride == axis.spread == 1 and axis.low == 0 for n, axis in zip(w.shape[2:], axes, strict=True)):
        u, by_x, by_w = p, Tensor(w.reshape(w.shape[:2]), (g + first, second), "w"), Tensor(x, (*batch, g + i, *p), "x")
    else:
        by_w = ConvolutionByKernel(x, axes, (*batch, g, *p, i, *k))
        if transposed:
            by_x = ConvolutionByInput(w, tuple(axis.output_and_input_swapped for axis in axes), (g, i, *u, o, *p))
        else:
            by_x = ConvolutionByInput(w, axes, (g, o, *p, i, *u))
    out = (*batch, g + o, *p)
    return (
        from_groups(out, (*batch, g + i, *u), by_x),
        from_groups(out, (g + first, second, *k), by_w),
        from_groups(out, (g + o,)),
    )
