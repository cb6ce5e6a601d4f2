"""Convolutions in the sense of neural networks: weighted sums over windows, with a kernel that is not reversed."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..checks import check_integer, check_per_axis
from ..errors import ShapeError
from .conv_operators import ConvAxes, ConvAxis, convolution_rules, correlate, transposed_kernel, with_one_batch_axis
from .layer import Layer, layer
from .samples import Example

__all__ = [
    "conv", "conv1d", "conv2d", "conv3d", "conv_transpose", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
]  # fmt: skip

Numbers = int | tuple[int, ...]  # one for every axis of space
Padding = str | int | tuple[int, ...] | tuple[tuple[int, int], ...]


def _check_shapes(layer: str, x, w, groups, transposed=False):
    """ShapeError unless the ranks and channels fit and no axis of space is empty."""
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


def padding_pairs(layer: str, padding, rank: int, same=()) -> list[tuple[int, int]]:
    """The padding before and after along each axis of space.  `same` is what "same" stands for, if words are allowed."""
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
    before, after = (check_per_axis(layer, "padding", side, rank, 0) for side in (low, high))
    return list(zip(before, after, strict=True))


def _axes_and_sizes(layer: str, x, w, stride, padding, dilation, groups) -> tuple[ConvAxes, list[int]]:
    """The axes along which outputs, kernel entries and inputs of a convolution meet, and the sizes of its output."""
    _check_shapes(layer, x, w, groups)
    kernel, rank = w.shape[2:], w.ndim - 2
    stride, dilation = check_per_axis(layer, "stride", stride, rank), check_per_axis(layer, "dilation", dilation, rank)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    rows = list(zip(x.shape[-rank:], stride, reach, strict=True))
    pads = padding_pairs(layer, padding, rank, [max(0, (n - 1) // s * s + r - n) for n, s, r in rows])
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
    """The same for a transposed convolution."""
    _check_shapes(layer, x, w, groups, transposed=True)
    rank = w.ndim - 2
    stride, dilation = check_per_axis(layer, "stride", stride, rank), check_per_axis(layer, "dilation", dilation, rank)
    pads, more = padding_pairs(layer, padding, rank), check_per_axis(layer, "output_padding", output_padding, rank, 0)
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
    axes = (ConvAxis(s, d, 1, low) for s, d, (low, _) in zip(stride, dilation, pads, strict=True))
    return tuple(axis.output_and_input_swapped for axis in axes), sizes


def _with_batch_axes_and_bias(y, x, w, b):
    """[n, o, *p] with the leading axes of x, plus the bias of every channel, in the dtype of the arguments."""
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
    """The layer of a forward function under this name, with this rule, and with arguments of these shapes as its example."""
    forward.__name__ = forward.__qualname__ = name
    made = layer(plain=True, example=Example(*shapes))(forward)
    made.jacobian(rule)
    return made


def _make_conv(rank: int | None = None) -> Layer:
    """The layer that convolves over `rank` axes of space, or over as many as w has."""
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

        With more axes of space  ∂y[b,o,p,q]/∂x[b,i,u,v] = w[o,i,u−p,v−q]     ∂y[b,o,p,q]/∂w[o,i,k,l] = x[b,i,p+k,q+l]
        ∂y[b,o,p,q]/∂b[o] = 1     ∂y[b,o,p,q,r]/∂x[b,i,u,v,t] = w[o,i,u−p,v−q,t−r]
        ∂y[b,o,p,q,r]/∂w[o,i,k,l,m] = x[b,i,p+k,q+l,r+m]     ∂y[b,o,p,q,r]/∂b[o] = 1

        Entries outside w and x are 0, and kernels are not reversed.  x is [..., c, *space], w [o, c/groups, *kernel].
        `conv` takes the number of axes of space from w; `conv1d`, `conv2d` and `conv3d` have a fixed number.  `stride` and
        `dilation` are one number or one for each axis.  `padding` can also be pairs (before, after), "valid" for none, or
        "same" for ⌈n/stride⌉ outputs of n inputs.  Neither Jacobian is stored: products with them are convolutions.  Sums
        are accumulated in float32 or wider.
        """
        axes, sizes = _axes_and_sizes(name, x, w, stride, padding, dilation, groups)
        y = correlate(with_one_batch_axis(x, w.ndim - 2), w, axes, sizes, feature_group_count=groups)
        return _with_batch_axes_and_bias(y, x, w, b)

    count = 2 + (rank or 2)
    return _make_layer(forward, name, _conv_rules, (4, 3, 8, 7, 6)[:count], (5, 3, 3, 2, 2)[:count], (5,))


def _make_conv_transpose(rank: int | None = None) -> Layer:
    """The layer of the transposed convolution over `rank` axes of space, or over as many as w has."""
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

        With more axes of space  ∂y[b,o,p,q]/∂x[b,i,u,v] = w[i,o,p−u,q−v]     ∂y[b,o,p,q]/∂w[i,o,k,l] = x[b,i,p−k,q−l]
        ∂y[b,o,p,q]/∂b[o] = 1     ∂y[b,o,p,q,r]/∂x[b,i,u,v,t] = w[i,o,p−u,q−v,r−t]
        ∂y[b,o,p,q,r]/∂w[i,o,k,l,m] = x[b,i,p−k,q−l,r−m]     ∂y[b,o,p,q,r]/∂b[o] = 1

        x is [..., c, *space], w [c, o/groups, *kernel].  As a map of x it is the transpose of the convolution with the same
        w and configuration, so `padding` makes the output smaller.  Inputs of several sizes give that convolution an output
        of the size of x; `output_padding` chooses one: it is added to the smallest of them, and must be smaller than the
        stride or the dilation.
        """
        axes, sizes = _transposed_axes_and_sizes(name, x, w, stride, padding, output_padding, dilation, groups)
        o = groups * w.shape[1]
        if b is not None and len(b) != o:
            raise ShapeError(f"{name}: argument 'b' has shape {b.shape}, expected o = {o} as in 'w' of shape {w.shape}")
        kernel = transposed_kernel(w, groups)
        y = correlate(with_one_batch_axis(x, w.ndim - 2), kernel, axes, sizes, feature_group_count=groups)
        return _with_batch_axes_and_bias(y, x, w, b)

    count = 2 + (rank or 2)
    return _make_layer(forward, name, _conv_transpose_rules, (4, 3, 8, 7, 6)[:count], (3, 5, 3, 2, 2)[:count], (5,))


conv, conv1d, conv2d, conv3d = map(_make_conv, (None, 1, 2, 3))
conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_make_conv_transpose, (None, 1, 2, 3))
