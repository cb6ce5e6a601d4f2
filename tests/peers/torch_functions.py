"""Functions of PyTorch, written with the layers of jaxnets: they take PyTorch's arguments, under PyTorch's names.

Arrays are JAX's.  What has no counterpart raises LeftOut with one of the reasons below; sizes and labels that do not fit go
through to the layer, which refuses them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

BROADCASTS = "PyTorch broadcasts, and losses of jaxnets never do"
COMPLEX = "complex numbers"
DEPRECATED = "an argument that PyTorch deprecated"
DTYPE = "computed in another dtype than that of the input"
IN_TORCH = "a gradient that is not the derivative of the value"
NEGATIVE_EPS = "a negative eps, which jaxnets refuses"
NEGATIVE_PADDING = "negative padding, which cuts off"
NORMALIZED_SHAPE = "a shape to normalize that is not that of the last axes; jaxnets has axes in its place"
NO_AXES = "an array without axes, which has none to reduce along"
PADDING_MODE = "a mode of padding that convolutions of jaxnets do not have: pad first"
RANDOM = "random numbers"
NAN = "a mean or variance of no numbers, which is NaN in PyTorch"
MASKED_ROW = "a row that is masked completely, which gives NaN in PyTorch"
MASKED_OUTPUT = "derivatives of outputs that are −∞, which are 0 here"
SIGNED_POWERS = "powers of negative entries, which PyTorch takes with their sign"
VARIANT = "a variant without a counterpart"

FUNCTIONS = {}


class LeftOut(Exception):
    """A sample that has no counterpart; the message is the reason."""


def function(call):
    """Decorator: this is the function of torch.nn.functional with the name of the call."""
    FUNCTIONS[f"nn.functional.{call.__name__.rstrip('_')}"] = call
    return call


def torch_function(call):
    """Decorator: this is the function of torch with the name of the call."""
    FUNCTIONS[call.__name__.rstrip("_")] = call
    return call


def is_known(array):
    """Whether an array has values, which it has not while JAX differentiates."""
    return not isinstance(array, jax.core.Tracer)


def leave_out(condition, reason):
    if condition:
        raise LeftOut(reason)


# Activations


def activation(name, layer):
    FUNCTIONS[name] = lambda input, inplace=False, **config: layer(input, **config)


for name, layer in (
    ("nn.functional.celu", jn.celu),
    ("nn.functional.elu", jn.elu),
    ("nn.functional.hardsigmoid", jn.hard_sigmoid),
    ("nn.functional.hardswish", jn.hard_swish),
    ("nn.functional.hardtanh", jn.hard_tanh),
    ("nn.functional.leaky_relu", jn.leaky_relu),
    ("nn.functional.logsigmoid", jn.log_sigmoid),
    ("nn.functional.mish", jn.mish),
    ("nn.functional.relu", jn.relu),
    ("nn.functional.selu", jn.selu),
    ("nn.functional.silu", jn.silu),
    ("nn.functional.softshrink", jn.soft_shrink),
    ("nn.functional.softsign", jn.softsign),
    ("nn.functional.tanhshrink", jn.tanh_shrink),
    ("sigmoid", jn.sigmoid),
    ("tanh", jn.tanh),
):
    activation(name, layer)


@function
def relu6(input, inplace=False):
    return jn.relu6(input)


@function
def hardshrink(input, lambd=0.5):
    leave_out(lambd < 0, "a negative threshold, which jaxnets refuses")
    return jn.hard_shrink(input, lambd=lambd)


@function
def gelu(input, *, approximate="none"):
    return jn.gelu(input, approximate={"none": False, "tanh": True}.get(approximate, approximate))


@function
def glu(input, dim=-1):
    return jn.glu(input, axis=dim)


@function
def prelu(input, weight):
    leave_out(input.ndim == 1 and weight.size > 1, VARIANT)
    return jn.prelu(input, weight.reshape(()) if weight.size == 1 else weight)


@function
def softplus(input, beta=1.0, threshold=20.0):
    return jn.softplus(input, beta=float(beta), threshold=float(threshold))


@function
def threshold(input, threshold, value, inplace=False):
    return jn.threshold(input, threshold=float(threshold), value=float(value))


def softmax_like(name, layer):
    def call(input, dim, dtype=None, mask=None, _stacklevel=3):
        leave_out(dtype is not None and str(dtype).removeprefix("torch.") != str(input.dtype), DTYPE)
        if mask is not None:
            leave_out(layer is jn.log_softmax and not np.all(mask), MASKED_OUTPUT)
            leave_out(not np.all(np.any(np.broadcast_to(mask, input.shape), dim)), MASKED_ROW)
        if input.ndim == 0:  # PyTorch gives a number one axis
            y = layer(input[None], None if mask is None else mask[None], axis=dim)
            return y[0]
        return layer(input, mask, axis=dim)

    FUNCTIONS[name] = call


softmax_like("softmax", jn.softmax)
softmax_like("log_softmax", jn.log_softmax)
softmax_like("nn.functional.softmin", jn.softmin)


@torch_function
def clamp(input, min=None, max=None):
    """With arrays as limits it is the larger and the smaller of two."""
    if not (isinstance(min, jax.Array) or isinstance(max, jax.Array)):
        return jn.clip(input, min=min, max=max)
    input = input if min is None else jn.maximum(input, jnp.asarray(min, input.dtype))
    return input if max is None else jn.minimum(input, jnp.asarray(max, input.dtype))


# Weighted sums


@function
def linear(input, weight, bias=None):
    if weight.ndim == 1:  # a vector of weights has no axis of outputs
        leave_out(bias is not None and bias.ndim > 1, VARIANT)
        return jn.linear(input, weight[None], None if bias is None else bias.reshape(1))[..., 0]
    return jn.linear(input, weight, bias)


@function
def bilinear(input1, input2, weight, bias=None):
    return jn.bilinear(input1, input2, weight, bias)


@function
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    leave_out(scale_grad_by_freq or max_norm is not None, IN_TORCH)
    if padding_idx is not None and padding_idx < 0:
        padding_idx += len(weight)
    return jn.embedding(input, weight, padding_index=padding_idx)


@function
def embedding_bag(
    input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
    per_sample_weights=None, include_last_offset=False, padding_idx=None,
):  # fmt: skip
    leave_out(scale_grad_by_freq or max_norm is not None, IN_TORCH)
    if offsets is not None:
        ends = [*map(int, offsets[1:]), *([] if include_last_offset else [len(input)])]
        lengths = {end - int(start) for start, end in zip(offsets, ends, strict=False)}
        leave_out(len(lengths) != 1 or 0 in lengths, "bags of different lengths, which jaxnets has filled up")
        input = input.reshape(-1, *lengths)
        per_sample_weights = per_sample_weights if per_sample_weights is None else per_sample_weights.reshape(input.shape)
    if padding_idx is not None and padding_idx < 0:
        padding_idx += len(weight)
    return jn.embedding_bag(input, weight, per_sample_weights, mode=mode, padding_index=padding_idx)


def product(name):
    FUNCTIONS[name] = lambda input, other: jn.matmul(input, other)


for name in ("matmul", "mm", "bmm", "mv", "dot"):
    product(name)


@torch_function
def einsum(equation, *operands):
    operands = operands[0] if isinstance(operands[0], (list, tuple)) else operands
    return jn.einsum(*operands, subscripts=equation)


# Branches and joins


def scaled(x, alpha):
    return x if alpha == 1 else alpha * x


@torch_function
def add(input, other, *, alpha=1):
    return jn.add(input, scaled(other, alpha))


@torch_function
def sub(input, other, *, alpha=1):
    return jn.subtract(input, scaled(other, alpha))


for name, layer in (
    ("mul", jn.multiply), ("maximum", jn.maximum), ("minimum", jn.minimum), ("logaddexp", jn.logaddexp),
    ("max.binary", jn.maximum), ("min.binary", jn.minimum),
):  # fmt: skip
    FUNCTIONS[name] = lambda input, other, layer=layer: layer(input, other)


@torch_function
def cat(tensors, dim=0):
    shapes = [jnp.shape(x) for x in tensors]
    leave_out((0,) in shapes and {len(shape) for shape in shapes} != {1}, "an empty vector among arrays of other ranks")
    return jn.concatenate(*tensors, axis=dim)


@torch_function
def stack(tensors, dim=0):
    return jn.stack(*tensors, axis=dim)


@torch_function
def split(tensor, split_size_or_sections, dim=0):
    n, size = tensor.shape[dim], split_size_or_sections
    sizes = [min(size, n - i) for i in range(0, n, size)] if isinstance(size, int) else size
    return jn.split(tensor, sections=tuple(sizes), axis=dim)


@torch_function
def split_with_sizes(input, split_sizes, dim=0):
    return jn.split(input, sections=tuple(split_sizes), axis=dim)


@torch_function
def chunk(input, chunks, dim=0):
    return split(input, -(-input.shape[dim] // chunks), dim)


@torch_function
def flatten(input, start_dim=0, end_dim=-1):
    leave_out(input.ndim == 0, NO_AXES)
    leave_out(end_dim % input.ndim != input.ndim - 1, VARIANT)
    return jn.flatten(input, start=start_dim % input.ndim)


def widths(rank, pads):
    """PyTorch's padding, a pair for each axis from the last one, as one pair for each axis."""
    pairs = [(0, 0)] * rank
    for i in range(len(pads) // 2):
        pairs[-1 - i] = tuple(pads[2 * i : 2 * i + 2])
    return tuple(pairs)


@function
def pad(input, pad, mode="constant", value=None):
    if mode == "constant":
        leave_out(any(width < 0 for width in pad), NEGATIVE_PADDING)
        return jn.pad(input, padding=widths(input.ndim, pad), value=0.0 if value is None else float(value))
    leave_out(any(width < 0 for width in pad), NEGATIVE_PADDING)
    return jn.pad(input, padding=widths(input.ndim, pad), mode=mode)


@function
def pixel_shuffle(input, upscale_factor):
    return jn.pixel_shuffle(input, factor=upscale_factor)


@function
def channel_shuffle(input, groups):
    return jn.channel_shuffle(input, groups=groups)


@function
def pixel_unshuffle(input, downscale_factor):
    return jn.pixel_unshuffle(input, factor=downscale_factor)


# Reductions


def reduction(name, layer):
    def call(input, dim=None, keepdim=False, *, dtype=None, mask=None, **config):
        leave_out(dtype is not None and str(dtype).removeprefix("torch.") != str(input.dtype), DTYPE)
        axis = tuple(dim) if isinstance(dim, (list, tuple)) else dim
        axis = None if axis == () else axis
        if input.ndim == 0 and axis is not None:
            leave_out(True, NO_AXES)
        mask = () if mask is None else (jnp.broadcast_to(mask, input.shape),)
        leave_out(layer is jn.mean and mask and not np.all(np.any(mask[0], axis)), MASKED_ROW)
        return layer(input, *mask, axis=axis, keepdims=keepdim, **config)

    FUNCTIONS[name] = call


reduction("sum", jn.sum)
reduction("mean", jn.mean)
reduction("amax", jn.max)
reduction("amin", jn.min)
reduction("logsumexp", jn.logsumexp)
FUNCTIONS["max.reduction_no_dim"] = lambda input: jn.max(input)
FUNCTIONS["min.reduction_no_dim"] = lambda input: jn.min(input)


def spread(layer):
    def call(input, dim=None, unbiased=None, keepdim=False, *, correction=None, mask=None):
        if isinstance(dim, bool):  # var(input, unbiased)
            dim, unbiased = None, dim
        if correction is None:
            correction = 1 if unbiased is None else int(unbiased)
        leave_out(input.ndim == 0 and dim is not None, NO_AXES)
        axis = tuple(dim) if isinstance(dim, (list, tuple)) else dim
        axis = None if axis == () else axis
        count = input.size if axis is None else math.prod(input.shape[a] for a in np.ravel(axis))
        leave_out(mask is None and count <= correction, NAN)
        mask = () if mask is None else (jnp.broadcast_to(mask, input.shape),)
        return layer(input, *mask, axis=axis, keepdims=keepdim, correction=correction)

    return call


FUNCTIONS["var"] = FUNCTIONS["var.unbiased"] = spread(jn.var)
FUNCTIONS["std"] = FUNCTIONS["std.unbiased"] = spread(jn.std)


def vector_norm(x, ord=2, dim=None, keepdim=False, dtype=None):
    leave_out(dtype is not None and str(dtype).removeprefix("torch.") != str(x.dtype), DTYPE)
    axis = tuple(dim) if isinstance(dim, (list, tuple)) else dim
    leave_out(x.ndim == 0 and axis is not None, NO_AXES)
    return jn.vector_norm(x, p=float(ord), axis=None if axis == () else axis, keepdims=keepdim)


FUNCTIONS["linalg.vector_norm"] = vector_norm


@function
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    leave_out(x1.shape != x2.shape, BROADCASTS)
    leave_out(x1.ndim == 0, NO_AXES)
    return jn.cosine_similarity(x1, x2, axis=dim, eps=eps)


@function
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    return jn.pairwise_distance(x1, x2, p=float(p), eps=eps, keepdims=keepdim)


@function
def normalize(input, p=2.0, dim=1, eps=1e-12):
    leave_out(input.ndim == 0, NO_AXES)
    leave_out(p <= 0, "an order that makes no norm")
    return jn.normalize(input, p=float(p), axis=tuple(dim) if isinstance(dim, (tuple, list)) else dim, eps=eps)


# Convolutions and pools


def whole(value):
    return tuple(value) if isinstance(value, (list, tuple)) else value


def convolution(rank):
    layer = {1: jn.conv1d, 2: jn.conv2d, 3: jn.conv3d}[rank]

    def call(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
        leave_out(padding_mode != "zeros", PADDING_MODE)
        config = {"stride": whole(stride), "padding": whole(padding), "dilation": whole(dilation), "groups": groups}
        return layer(input, weight, bias, **{key: one(value) for key, value in config.items()})

    FUNCTIONS[f"nn.functional.conv{rank}d"] = call


def one(value):
    """A tuple of one number as a number for all axes, as PyTorch takes it."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def transposed_convolution(rank):
    layer = {1: jn.conv_transpose1d, 2: jn.conv_transpose2d, 3: jn.conv_transpose3d}[rank]

    def call(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, padding_mode="zeros"):
        leave_out(padding_mode != "zeros", PADDING_MODE)
        config = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        return layer(input, weight, bias, groups=groups, **{key: one(whole(value)) for key, value in config.items()})

    FUNCTIONS[f"nn.functional.conv_transpose{rank}d"] = call


def on_space(rank, value):
    """One number for each of `rank` axes; None stays None."""
    if isinstance(value, (list, tuple)):
        return tuple(value) * (rank if len(value) == 1 else 1)
    return None if value is None else (value,) * rank


def stride_or_none(stride):
    return None if stride in (None, [], ()) else stride


def with_batch(rank, layer, input, **config):
    """A pool of an array with or without a batch axis."""
    if input.ndim not in (rank + 1, rank + 2):
        raise jn.ShapeError(f"{layer.name}: argument 'input' has shape {input.shape}")
    return layer(input, **config)


def max_pooling(rank):
    def call(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        config = {"kernel_size": kernel_size, "stride": stride_or_none(stride), "padding": padding, "dilation": dilation}
        config = {key: on_space(rank, value) for key, value in config.items()}
        y = with_batch(rank, jn.max_pool, input, ceil_mode=ceil_mode, **config)
        return (y, jn.max_pool_indices(input, ceil_mode=ceil_mode, **config)) if return_indices else y

    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        rows = np.reshape(indices, (-1, math.prod(indices.shape[-rank:])))
        leave_out(any(len(set(row)) < len(row) for row in rows.tolist()), IN_TORCH)  # of two at one place one is lost
        config = {"kernel_size": kernel_size, "stride": stride_or_none(stride), "padding": padding}
        config = {key: on_space(rank, value) for key, value in config.items()}
        output_size = None if output_size is None else tuple(output_size)[-rank:]
        return with_batch(rank, jn.max_unpool, input, indices=indices, output_size=output_size, **config)

    FUNCTIONS[f"nn.functional.max_pool{rank}d"] = call
    FUNCTIONS[f"nn.functional.max_unpool{rank}d"] = unpool


def norm_pooling(rank):
    def call(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        leave_out(norm_type % 2 and is_known(input) and bool(jnp.any(input < 0)), SIGNED_POWERS)
        config = {"kernel_size": on_space(rank, kernel_size), "stride": on_space(rank, stride_or_none(stride))}
        return with_batch(rank, jn.lp_pool, input, p=float(norm_type), ceil_mode=ceil_mode, **config)

    FUNCTIONS[f"nn.functional.lp_pool{rank}d"] = call


def average_pooling(rank):
    def call(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        config = {"kernel_size": kernel_size, "stride": stride_or_none(stride), "padding": padding}
        config = {key: on_space(rank, value) for key, value in config.items()}
        how = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        return with_batch(rank, jn.avg_pool, input, **how, **config)

    FUNCTIONS[f"nn.functional.avg_pool{rank}d"] = call


def adaptive_pooling(rank):
    def average(input, output_size):
        return with_batch(rank, jn.adaptive_avg_pool, input, output_size=on_space(rank, output_size))

    def largest(input, output_size, return_indices=False):
        size = on_space(rank, output_size)
        y = with_batch(rank, jn.adaptive_max_pool, input, output_size=size)
        return (y, jn.adaptive_max_pool_indices(input, output_size=size)) if return_indices else y

    FUNCTIONS[f"nn.functional.adaptive_avg_pool{rank}d"] = average
    FUNCTIONS[f"nn.functional.adaptive_max_pool{rank}d"] = largest


for rank in (1, 2, 3):
    convolution(rank)
    transposed_convolution(rank)
    max_pooling(rank)
    norm_pooling(rank)
    average_pooling(rank)
    adaptive_pooling(rank)


@function
def interpolate(
    input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False
):
    rank = input.ndim - 2
    factors = on_space(rank, scale_factor)
    if factors is not None and (recompute_scale_factor or mode == "area"):
        size, factors = tuple(math.floor(n * s) for n, s in zip(input.shape[2:], factors, strict=True)), None
    size = on_space(rank, size)
    if mode == "area":
        return jn.adaptive_avg_pool(input, output_size=size)
    factors = factors and tuple(map(float, factors))
    how = {"mode": mode, "align_corners": bool(align_corners), "antialias": antialias}
    return jn.interpolate(input, size=size, scale_factor=factors, **how)


@function
def upsample_bilinear(input, size=None, scale_factor=None):
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


@function
def upsample_nearest(input, size=None, scale_factor=None):
    return interpolate(input, size, scale_factor)


# Normalizations


@function
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    weights = {"scale": weight, "bias": bias, "eps": eps}
    leave_out(eps < 0, NEGATIVE_EPS)
    leave_out(input.size == 0, "a batch without entries, which has no statistics")
    if not training:
        return jn.batch_norm(input, running_mean=running_mean, running_var=running_var, **weights)[0]
    return jn.batch_norm(input, training=True, **weights)[0]


@function
def instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    leave_out(not use_input_stats, "instance norm with running statistics")
    return jn.instance_norm(input, scale=weight, bias=bias, eps=eps)


@function
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    leave_out(eps < 0, NEGATIVE_EPS)
    return jn.group_norm(input, scale=weight, bias=bias, groups=num_groups, eps=eps)


def last_axes(input, normalized_shape):
    leave_out(tuple(normalized_shape) != input.shape[-len(normalized_shape) :], NORMALIZED_SHAPE)
    return tuple(range(-len(normalized_shape), 0))


@function
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    leave_out(eps < 0, NEGATIVE_EPS)
    return jn.layer_norm(input, weight, bias, axis=last_axes(input, normalized_shape), eps=eps)


@function
def rms_norm(input, normalized_shape, weight=None, eps=None):
    eps = float(jnp.finfo(input.dtype).eps) if eps is None else eps
    leave_out(eps < 0, NEGATIVE_EPS)
    return jn.rms_norm(input, weight, axis=last_axes(input, normalized_shape), eps=eps)


@function
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    return jn.local_response_norm(input, size=size, alpha=alpha, beta=beta, k=float(k))


def dropout_like(name, shared):
    def call(input, p=0.5, training=True, inplace=False):
        leave_out(training and 0 < p < 1, RANDOM)
        return jn.dropout(input, jax.random.key(0), rate=float(p), training=training)

    FUNCTIONS[f"nn.functional.{name}"] = call


dropout_like("dropout", 0)
dropout_like("dropout2d", 2)
dropout_like("dropout3d", 3)


@function
def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    leave_out(dropout_p > 0, RANDOM)
    leave_out(query.ndim != key.ndim, "queries and keys of different numbers of axes")
    is_mask = attn_mask is not None and attn_mask.dtype == bool
    bias, mask = (None, attn_mask) if is_mask else (attn_mask, None)
    return jn.attention(query, key, value, bias, mask, causal=is_causal, scale=scale)


# Losses


def reduced(loss, reduction="mean", size_average=None, reduce=None):
    leave_out(size_average is not None or reduce is not None, DEPRECATED)
    return jn.reduce(loss, reduction)


def difference_loss(name, layer):
    def call(input, target, size_average=None, reduce=None, reduction="mean", weight=None, **config):
        leave_out(weight is not None, VARIANT)
        leave_out(input.shape != target.shape, BROADCASTS)
        config = {key: float(value) for key, value in config.items()}
        return reduced(layer(input, target, **config), reduction, size_average, reduce)

    FUNCTIONS[f"nn.functional.{name}"] = call


difference_loss("mse_loss", jn.squared_error)
difference_loss("l1_loss", jn.absolute_error)
difference_loss("smooth_l1_loss", jn.smooth_l1)
difference_loss("huber_loss", jn.huber)
difference_loss("soft_margin_loss", jn.soft_margin)


@function
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    leave_out(is_known(target) and not np.all(np.abs(target) == 1), "targets that are neither 1 nor −1")
    return reduced(jn.hinge_embedding(input, target, margin=float(margin)), reduction, size_average, reduce)


def label_loss(layer, input, target, weight, ignore_index, reduction, **config):
    axis = 0 if input.ndim == 1 else 1
    if jnp.issubdtype(target.dtype, jnp.floating):  # probabilities in the place of labels
        loss = layer(input, target, weight, axis=axis, **config)
        if reduction == "mean":
            return jnp.sum(loss) / max(1, loss.size)
        return jn.reduce(loss, reduction)
    kept = target != ignore_index
    known = jnp.where(kept, target, 0)
    loss = layer(input, target, weight, axis=axis, ignore_index=ignore_index, **config)
    weights = jnp.where(kept, jnp.ones(target.shape) if weight is None else weight[known], 0)
    if reduction == "mean":
        leave_out(is_known(weights) and not np.any(weights), NAN)
        return jnp.sum(loss) / jnp.sum(weights)
    return jn.reduce(loss, reduction)


@function
def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0
):
    leave_out(size_average is not None or reduce is not None, DEPRECATED)
    return label_loss(jn.cross_entropy, input, target, weight, ignore_index, reduction, label_smoothing=label_smoothing)


@function
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    leave_out(size_average is not None or reduce is not None, DEPRECATED)
    return label_loss(jn.nll, input, target, weight, ignore_index, reduction)


@function
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    leave_out(weight is not None and weight.shape != input.shape, BROADCASTS)
    return reduced(jn.binary_cross_entropy(input, target, weight=weight), reduction, size_average, reduce)


@function
def binary_cross_entropy_with_logits(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None
):
    loss = jn.binary_cross_entropy_with_logits(input, target, weight=weight, pos_weight=pos_weight)
    return reduced(loss, reduction, size_average, reduce)


@function
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    leave_out(input.shape != target.shape, BROADCASTS)
    leave_out(input.ndim == 0, NO_AXES)
    leave_out(not log_target and is_known(target) and bool(jnp.any(target < 0)), "negative probabilities, which give NaN")
    return reduced(jn.kl_divergence(input, target, log_targets=log_target, axis=None), reduction, size_average, reduce)


@function
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    leave_out(input.shape != target.shape, BROADCASTS)
    loss = jn.poisson_nll(input, target, log_input=log_input, full=full, eps=eps)
    return reduced(loss, reduction, size_average, reduce)


@function
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    leave_out(input.shape != target.shape, BROADCASTS)
    var = jnp.asarray(var, input.dtype)
    var = var[..., None] if var.ndim and var.shape == input.shape[:-1] else var  # one for each vector
    return reduced(jn.gaussian_nll(input, target, var, full=full, eps=eps), reduction)


@function
def cosine_embedding_loss(input1, input2, target, margin=0.0, size_average=None, reduce=None, reduction="mean"):
    loss = jn.cosine_embedding(input1, input2, target, margin=float(margin))
    return reduced(loss, reduction, size_average, reduce)


@function
def margin_ranking_loss(input1, input2, target, margin=0.0, size_average=None, reduce=None, reduction="mean"):
    leave_out(not input1.shape == input2.shape == target.shape, BROADCASTS)
    return reduced(jn.margin_ranking(input1, input2, target, margin=float(margin)), reduction, size_average, reduce)


@function
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    leave_out(input.ndim == 0, NO_AXES)
    target = target.reshape(()) if input.ndim == 1 and target.shape == (1,) else target
    loss = jn.multi_class_hinge(input, target, weight, p=p, margin=float(margin))
    return reduced(loss, reduction, size_average, reduce)


@function
def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    leave_out(input.ndim == 0, NO_AXES)
    return reduced(jn.multilabel_margin(input, target), reduction, size_average, reduce)


@function
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    leave_out(weight is not None and weight.ndim > 1, VARIANT)
    return reduced(jn.multilabel_soft_margin(input, target, weight), reduction, size_average, reduce)


@function
def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"
):
    leave_out(not anchor.shape == positive.shape == negative.shape, BROADCASTS)
    loss = jn.triplet(anchor, positive, negative, margin=float(margin), p=float(p), eps=eps, swap=swap)
    return reduced(loss, reduction, size_average, reduce)


# Masked reductions: masked entries count as if they were not there


def masked(name, call):
    FUNCTIONS[f"masked.{name}"] = call


for name in ("sum", "mean", "amax", "amin", "logsumexp", "softmax", "log_softmax", "var", "std"):
    masked(name, FUNCTIONS[name])
masked("softmin", FUNCTIONS["nn.functional.softmin"])


@function
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    batch = log_probs.ndim == 3
    predictions = jnp.swapaxes(log_probs, 0, 1) if batch else log_probs
    lengths, counts = (jnp.asarray(n, jnp.int32).reshape(predictions.shape[:-2]) for n in (input_lengths, target_lengths))
    if batch and targets.ndim == 1:  # the labels of all examples, one after another
        ends = np.cumsum(counts)
        most, other = int(max(counts)), 0 if blank else 1
        rows = [targets[end - n : end] for end, n in zip(ends, counts, strict=True)]
        targets = jnp.stack([jnp.pad(row, (0, most - len(row)), constant_values=other) for row in rows])
    config = {"input_lengths": lengths, "target_lengths": counts, "blank": blank, "zero_infinity": zero_infinity}
    loss = jn.ctc(predictions, targets, **config)
    return jn.reduce(loss / jnp.maximum(counts, 1) if reduction == "mean" else loss, reduction)


BY_POSITION = {  # where PyTorch's samples have the arguments in another order than its function
    "einsum": lambda tensors, equation: einsum(equation, *tensors),
    "nn.functional.embedding": lambda weight, input, **config: embedding(input, weight, **config),
    "nn.functional.embedding_bag": lambda weight, input, **config: embedding_bag(input, weight, **config),
}
