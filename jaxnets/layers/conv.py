"""Convolutions, in the sense of neural networks: sums over a window, with the kernel as it is, not reversed.

Along every axis of space an output p, a kernel entry k and an input n meet where stride·p + dilation·k = spread·n + low.
`correlate` sums over the k and n that meet p.  Solved for another of the three the same equation gives the transpose by
the input and the gradient of the kernel, so one function serves forward, backward, and transposed convolutions.
"""

import itertools
import math
import operator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..algebra.factors import Factor, Group, Operator, Tensor, distinct_labels, labels_of, pytree, shape_of, size_of, tensor
from ..algebra.rules import axis_names, fresh_groups, from_groups
from ..errors import ShapeError
from .layer import Layer, layer
from .samples import Example

__all__ = [
    "conv", "conv1d", "conv2d", "conv3d", "conv_transpose", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
]  # fmt: skip

Numbers = int | tuple[int, ...]  # one for every axis of space
Padding = str | int | tuple[int, ...] | tuple[tuple[int, int], ...]


class ConvAxis(NamedTuple):
    """Where output p, kernel entry k and input n meet: stride·p + dilation·k = spread·n + low."""

    stride: int
    dilation: int
    spread: int
    low: int

    @property
    def output_and_input_swapped(self) -> "ConvAxis":
        """With output and input in each other's place."""
        return ConvAxis(self.spread, -self.dilation, self.stride, -self.low)

    @property
    def output_and_kernel_swapped(self) -> "ConvAxis":
        """With output and kernel in each other's place."""
        return ConvAxis(self.dilation, self.stride, self.spread, self.low)

    @property
    def kernel_and_input_swapped(self) -> "ConvAxis":
        """With kernel and input in each other's place."""
        return ConvAxis(-self.stride, self.spread, self.dilation, -self.low)

    def input_table(self, p: int, k: int, n: int):
        """Which input each of p outputs meets by each of k kernel entries; n, one too many, where there is none."""
        place = self.stride * np.arange(p)[:, None] + self.dilation * np.arange(k) - self.low
        return np.where((place % self.spread == 0) & (place >= 0) & (place < n * self.spread), place // self.spread, n)

    def input_text(self, p: str, k: str) -> str:
        """The input that p and k meet, for formulae."""
        parts = [(self.stride, p), (self.dilation, k), (-self.low, "")]
        parts = [(c, name) for c, name in parts if c and name != "0"]
        parts.sort(key=lambda part: (part[1] == "", part[0] < 0))
        words = [f"{'−' if c < 0 else '+'}{'' if abs(c) == 1 and name else abs(c)}{name}" for c, name in parts]
        total = "".join(words).removeprefix("+") or "0"
        total = f"({total})" if self.spread > 1 and len(parts) > 1 else total
        return total if self.spread == 1 else f"{total}/{self.spread}"


ConvAxes = tuple[ConvAxis, ...]


def correlate(x, w, space: ConvAxes, size, **options):
    """y[b, o, p] = Σ_ik w[o, i, k] x[b, i, n] over all k and n that meet p, p < size; sums of 16-bit numbers in float32."""
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
    """Σ_{b,p} u[b, o, p] x[b, i, n] over all p and n that meet k, k < size: [o, i, k]."""
    swapped = (1, 0, *range(2, x.ndim))  # examples and channels change places
    space = tuple(axis.output_and_kernel_swapped for axis in space)
    return correlate(x, u, space, size, dimension_numbers=lax.ConvDimensionNumbers(*[swapped] * 3), batch_group_count=groups)


def transposed_kernel(w, groups: int):
    """[g·o, i, *k] as [g·i, o, *k]."""
    o, i, *kernel = w.shape
    return w.reshape(groups, o // groups, i, *kernel).swapaxes(1, 2).reshape(groups * i, o // groups, *kernel)


def _take_tables(x, tables):
    """x with two axes for each of its last ones, x[..., table]; 0 where the table is out of range."""
    first = x.ndim - len(tables)
    for a, table in enumerate(tables):
        x = jnp.take(x, table, first + 2 * a, mode="fill", fill_value=0)
    return x.transpose(*range(first), *range(first, x.ndim, 2), *range(first + 1, x.ndim, 2))


@pytree("w")
class ConvolutionByInput(Operator):
    """∂y[g·o, p]/∂x[g·i, n] = w[g·o, i, k] where p, k and n meet; axes are g, o, *p, i, *n.  The same for all examples."""

    w: Any
    space: ConvAxes
    axes: tuple[Group, ...]
    kind = "convolution"
    shared_rank = 1

    @property
    def output_rank(self):  # type: ignore[override]
        return 1 + len(self.space)

    @property
    def multiplies_per_vector(self):
        g, out, inp = self.sizes
        return g * math.prod(out) * inp[0] * math.prod(self.w.shape[2:])

    @property
    def sizes(self):
        """Of g, of o and p, of i and n."""
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
        array = _take_tables(self.w, [axis.kernel_and_input_swapped.input_table(p, n, k) for axis, p, n, k in meet])
        return jnp.moveaxis(array.reshape(g, out[0], inp[0], *out[1:], *inp[1:]), 2, 1 + len(out))

    def formula(self, show):
        group, out, inp = self.axes_by_role()
        channels = show([labels_of([*group, out[0]]), inp[0]])[1:-1]
        meet = zip(self.space, out[1:], inp[1:], strict=True)
        places = [axis.kernel_and_input_swapped.input_text(show([p])[1:-1], show([n])[1:-1]) for axis, p, n in meet]
        return f"w[{','.join([channels, *places])}]"


@pytree("x")
class ConvolutionByKernel(Operator):
    """∂y[b, g·o, p]/∂w[g·o, i, k] = x[b, g·i, n] where p, k and n meet; axes are *b, g, *p, i, *k.

    Products run one convolution: what else an array is indexed by, as o, takes the place of channels, and examples are
    summed inside.  Only where they are told apart, in gradients example by example, patches of x are stored.
    """

    x: Any
    space: ConvAxes
    axes: tuple[Group, ...]
    kind = "convolution"

    @property
    def output_rank(self):  # type: ignore[override]
        return len(self.space)

    @property
    def shared_rank(self):  # type: ignore[override]
        return len(self.axes) - 1 - 2 * len(self.space)

    @property
    def multiplies_per_vector(self):
        return size_of(self.labels)

    def with_one_batch_axis(self):
        """x with one axis for the leading ones."""
        return _with_one_batch_axis(self.x, len(self.space))

    def contract(self, x, keep):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        examples, out, inp = labels_of(batch), labels_of(p), labels_of([i, *k])
        if len(labels_of(self.axes)) != len(self.labels):
            return None
        extra = [label for label in distinct_labels(x.axes) if label not in self.labels]
        if set(inp) <= x.labels and not set(inp) & set(keep) and not {*examples, *out} & x.labels:
            w = x.broadcast_to([*g, *extra, *inp]).reshape(-1, *shape_of([i, *k]))
            array = correlate(self.with_one_batch_axis(), w, self.space, shape_of(p), feature_group_count=size_of(g))
            labels = [*examples, *g, *extra, *out]
        elif set(out) <= x.labels and not {*examples, *out} & set(keep) and not set(inp) & x.labels:
            u = x.broadcast_to([*examples, *g, *extra, *out]).reshape(size_of(examples), -1, *shape_of(p))
            array = kernel_gradient(self.with_one_batch_axis(), u, self.space, shape_of(k), size_of(g))
            labels = [*g, *extra, *inp]
        else:
            return None
        return tensor(array.reshape([label.size for label in labels]), labels)

    def array(self, forward=None):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        meet = zip(self.space, shape_of(p), shape_of(k), self.x.shape[-len(p) :], strict=True)
        array = _take_tables(self.with_one_batch_axis(), [axis.input_table(*sizes) for axis, *sizes in meet])
        array = array.reshape(size_of(labels_of(batch)), *shape_of([g, i, *p, *k]))
        return jnp.moveaxis(array, 2, 2 + len(p)).reshape(shape_of(self.axes))

    def formula(self, show):
        (*batch, g), p, (i, *k) = self.axes_by_role()
        places = [axis.input_text(show([a])[1:-1], show([b])[1:-1]) for axis, a, b in zip(self.space, p, k, strict=True)]
        return f"x[{','.join([show([*batch, g + i])[1:-1], *places])}]"


# --- layers -------------------------------------------------------------------------------------------------------


def check_integer(layer: str, name: str, value, least: int) -> int:
    """An integer that is not below `least`."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be an integer, got {value!r}") from None
    if found < least:
        raise ValueError(f"{layer}: {name} must be at least {least}, got {value}")
    return found


def check_per_axis(layer: str, name: str, value, rank: int, least: int = 1) -> tuple[int, ...]:
    """One integer, or one an axis, as one for each of `rank` axes."""
    values = value if isinstance(value, tuple) else (value,) * rank
    if len(values) != rank:
        raise ValueError(f"{layer}: {name} {value} has {len(values)} entries, expected one for each of {rank} axes of space")
    return tuple(check_integer(layer, name, v, least) for v in values)


def _check_shapes(layer: str, x, w, groups, transposed=False):
    """Ranks, channels, and axes of space that are not empty."""
    rank = w.ndim - 2
    if rank < 1:
        raise ShapeError(f"{layer}: argument 'w' has shape {w.shape}, expected two axes of channels, then those of space")
    if x.ndim <= rank:
        raise ShapeError(f"{layer}: argument 'x' has shape {x.shape}, expected channels and {rank} axes of space as 'w' has")
    for name, shape in (("x", x.shape[-rank:]), ("w", w.shape[2:])):
        if 0 in shape:
            raise ShapeError(f"{layer}: argument '{name}' has axes of space {shape}, expected none that is empty")
    check_integer(layer, "groups", groups, 1)
    if w.shape[0] % groups:
        raise ShapeError(f"{layer}: argument 'w' has shape {w.shape}, expected a first axis that {groups} groups divide")
    channels = w.shape[0] if transposed else groups * w.shape[1]
    if x.shape[-1 - rank] != channels:
        raise ShapeError(
            f"{layer}: argument 'x' has shape {x.shape}, expected {channels} channels for 'w' of shape {w.shape} and "
            f"groups = {groups}"
        )


def _padding_pairs(layer: str, padding, rank: int, same=()) -> list[tuple[int, int]]:
    """Padding before and after along each axis of space; `same` is how much of it keeps the size, where that is allowed."""
    word = padding.lower() if isinstance(padding, str) and same else padding
    if word == "same":
        return [(total // 2, total - total // 2) for total in same]
    if word == "valid":
        return [(0, 0)] * rank
    if isinstance(padding, str):
        raise ValueError(f"{layer}: unknown padding {padding!r}")
    low = high = padding
    if isinstance(padding, tuple) and padding and all(isinstance(pair, tuple) and len(pair) == 2 for pair in padding):
        low, high = zip(*padding, strict=True)
    return list(
        zip(check_per_axis(layer, "padding", low, rank, 0), check_per_axis(layer, "padding", high, rank, 0), strict=True)
    )


def _axes_and_sizes(layer: str, x, w, stride, padding, dilation, groups) -> tuple[ConvAxes, list[int]]:
    """Where the outputs of a convolution meet its inputs, and the sizes of its output."""
    _check_shapes(layer, x, w, groups)
    kernel, rank = w.shape[2:], w.ndim - 2
    stride, dilation = check_per_axis(layer, "stride", stride, rank), check_per_axis(layer, "dilation", dilation, rank)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    rows = list(zip(x.shape[-rank:], stride, reach, strict=True))
    pads = _padding_pairs(layer, padding, rank, [max(0, (n - 1) // s * s + r - n) for n, s, r in rows])
    sizes = [(n + low + high - r) // s + 1 for (n, s, r), (low, high) in zip(rows, pads, strict=True)]
    if min(sizes) < 1:
        raise ShapeError(
            f"{layer}: argument 'x' of shape {x.shape} with padding {padding} is smaller than the kernel of 'w' of shape "
            f"{w.shape} with dilation {dilation}"
        )
    return tuple(ConvAxis(s, d, 1, low) for s, d, (low, _) in zip(stride, dilation, pads, strict=True)), sizes


def _transposed_axes_and_sizes(
    layer: str, x, w, stride, padding, output_padding, dilation, groups
) -> tuple[ConvAxes, list[int]]:
    """The same of a transposed convolution."""
    _check_shapes(layer, x, w, groups, transposed=True)
    rank = w.ndim - 2
    stride, dilation = check_per_axis(layer, "stride", stride, rank), check_per_axis(layer, "dilation", dilation, rank)
    pads, more = _padding_pairs(layer, padding, rank), check_per_axis(layer, "output_padding", output_padding, rank, 0)
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ValueError(
            f"{layer}: output_padding {output_padding} must be smaller than stride {stride} or dilation {dilation}"
        )
    rows = zip(x.shape[-rank:], w.shape[2:], stride, dilation, pads, more, strict=True)
    sizes = [(n - 1) * s + d * (k - 1) + 1 + m - low - high for n, k, s, d, (low, high), m in rows]
    if min(sizes) < 1:
        raise ShapeError(
            f"{layer}: argument 'x' of shape {x.shape} with 'w' of shape {w.shape} leaves nothing beside padding {padding}"
        )
    return tuple(
        ConvAxis(s, d, 1, low).output_and_input_swapped for s, d, (low, _) in zip(stride, dilation, pads, strict=True)
    ), sizes


def _with_one_batch_axis(x, rank: int):
    """x with one axis for all before the channels and the `rank` axes of space."""
    return x.reshape(math.prod(x.shape[: -1 - rank]), *x.shape[-1 - rank :])


def convolution_rules(y, x, w, axes: ConvAxes, groups: int, transposed=False):
    """The rules by x, w and b; w has the channels of y first, or if `back` those of x.

    Where the kernel is one entry and nothing moves, places do not mix: y and x share their indices.
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


def _with_batch_axes_and_bias(y, x, w, b):
    """[n, o, *p] with the leading axes of x, plus a number for every channel, in the dtype of the arguments."""
    y = y.reshape(*x.shape[: x.ndim - w.ndim + 1], *y.shape[1:])
    y = y if b is None else y + b.reshape(-1, *[1] * (w.ndim - 2))
    return y.astype(jnp.result_type(x, w, *([] if b is None else [b])))


def _conv_rules(y, x, w, b, *, stride, padding, dilation, groups):
    axes = _axes_and_sizes("conv", x, w, stride, padding, dilation, groups)[0]
    return convolution_rules(y, x, w, axes, groups)


def _conv_transpose_rules(y, x, w, b, *, stride, padding, output_padding, dilation, groups):
    axes = _transposed_axes_and_sizes("conv_transpose", x, w, stride, padding, output_padding, dilation, groups)[0]
    return convolution_rules(y, x, w, axes, groups, transposed=True)


def _make_layer(forward, name: str, rule, *shapes) -> Layer:
    """The layer of a forward function under another name, with its rule, shown with arguments of these shapes."""
    forward.__name__ = forward.__qualname__ = name
    made = layer(plain=True, example=Example(*shapes))(forward)
    made.jacobian(rule)
    return made


def _make_conv(rank: int | None = None) -> Layer:
    """The convolution over `rank` axes of space alone, or over as many as w has."""
    name = f"conv{rank}d" if rank else "conv"
    x_axes = f"... i {' '.join('uvt'[:rank])}" if rank else "..."
    w_axes = f"o j {' '.join('klm'[:rank])}" if rank else "o j ..."

    def forward(
        x: Float[Array, x_axes],
        w: Float[Array, w_axes],
        b: Float[Array, "o"] | None = None,
        *,
        stride: Numbers = 1,
        padding: Padding = 0,
        dilation: Numbers = 1,
        groups: int = 1,
    ) -> Float[Array, "..."]:
        """Convolution  y[..., o, p] = Σ_ik w[o, i, k] x[..., i, stride·p + dilation·k − padding] + b[o].

        ∂y[b,o,p]/∂x[b,i,u] = w[o,i,u−p]     ∂y[b,o,p]/∂w[o,i,k] = x[b,i,p+k]     ∂y[b,o,p]/∂b[o] = 1

        and along more axes of space  ∂y[b,o,p,q]/∂x[b,i,u,v] = w[o,i,u−p,v−q]     ∂y[b,o,p,q]/∂w[o,i,k,l] = x[b,i,p+k,q+l]
        ∂y[b,o,p,q]/∂b[o] = 1     ∂y[b,o,p,q,r]/∂x[b,i,u,v,t] = w[o,i,u−p,v−q,t−r]
        ∂y[b,o,p,q,r]/∂w[o,i,k,l,m] = x[b,i,p+k,q+l,r+m]     ∂y[b,o,p,q,r]/∂b[o] = 1

        Entries outside w and x are 0, kernels are not reversed.  x is [..., c, *space], w [o, c/groups, *kernel]: `conv`
        goes by the axes of w, `conv1d`, `conv2d` and `conv3d` have a fixed number.  `stride` and `dilation` are a number
        or one for each axis; `padding` also pairs (before, after), "valid" for none and "same" for ⌈n/stride⌉ outputs of
        n inputs.  Neither Jacobian is stored: products with them are convolutions.  Sums are in float32 or wider.
        """
        axes, sizes = _axes_and_sizes(name, x, w, stride, padding, dilation, groups)
        return _with_batch_axes_and_bias(
            correlate(_with_one_batch_axis(x, w.ndim - 2), w, axes, sizes, feature_group_count=groups), x, w, b
        )

    count = 2 + (rank or 2)
    return _make_layer(forward, name, _conv_rules, (4, 3, 8, 7, 6)[:count], (5, 3, 3, 2, 2)[:count], (5,))


def _make_conv_transpose(rank: int | None = None) -> Layer:
    """The transposed convolution over `rank` axes of space alone, or over as many as w has."""
    name = f"conv_transpose{rank}d" if rank else "conv_transpose"
    x_axes = f"... i {' '.join('uvt'[:rank])}" if rank else "..."
    w_axes = f"i j {' '.join('klm'[:rank])}" if rank else "i j ..."

    def forward(
        x: Float[Array, x_axes],
        w: Float[Array, w_axes],
        b: Float[Array, "o"] | None = None,
        *,
        stride: Numbers = 1,
        padding: Numbers | tuple[tuple[int, int], ...] = 0,
        output_padding: Numbers = 0,
        dilation: Numbers = 1,
        groups: int = 1,
    ) -> Float[Array, "..."]:
        """Transposed convolution  y[..., o, p] = Σ_iku w[i, o, k] x[..., i, u] + b[o],  p = stride·u + dilation·k − padding.

        ∂y[b,o,p]/∂x[b,i,u] = w[i,o,p−u]     ∂y[b,o,p]/∂w[i,o,k] = x[b,i,p−k]     ∂y[b,o,p]/∂b[o] = 1

        and along more axes of space  ∂y[b,o,p,q]/∂x[b,i,u,v] = w[i,o,p−u,q−v]     ∂y[b,o,p,q]/∂w[i,o,k,l] = x[b,i,p−k,q−l]
        ∂y[b,o,p,q]/∂b[o] = 1     ∂y[b,o,p,q,r]/∂x[b,i,u,v,t] = w[i,o,p−u,q−v,r−t]
        ∂y[b,o,p,q,r]/∂w[i,o,k,l,m] = x[b,i,p−k,q−l,r−m]     ∂y[b,o,p,q,r]/∂b[o] = 1

        x is [..., c, *space], w [c, o/groups, *kernel].  As a map of x it is the transpose of the convolution with the same
        w and configuration, so `padding` takes away from the output.  That convolution has the same output for several
        sizes of its input; `output_padding` says by how much the largest is longer than the smallest, below the stride or
        the dilation.
        """
        axes, sizes = _transposed_axes_and_sizes(name, x, w, stride, padding, output_padding, dilation, groups)
        o = groups * w.shape[1]
        if b is not None and len(b) != o:
            raise ShapeError(f"{name}: argument 'b' has shape {b.shape}, expected o = {o} as in 'w' of shape {w.shape}")
        kernel = transposed_kernel(w, groups)
        return _with_batch_axes_and_bias(
            correlate(_with_one_batch_axis(x, w.ndim - 2), kernel, axes, sizes, feature_group_count=groups), x, w, b
        )

    count = 2 + (rank or 2)
    return _make_layer(forward, name, _conv_transpose_rules, (4, 3, 8, 7, 6)[:count], (3, 5, 3, 2, 2)[:count], (5,))


conv, conv1d, conv2d, conv3d = map(_make_conv, (None, 1, 2, 3))
conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_make_conv_transpose, (None, 1, 2, 3))
