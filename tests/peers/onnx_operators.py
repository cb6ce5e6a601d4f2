"""Operators of ONNX, written with the layers of jaxnets: functions of ONNX's inputs and attributes, under ONNX's names.

Each returns what ONNX's operator returns, a tuple if that has several outputs.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

OPERATORS = {}


def operator(function):
    """Decorator: this is the operator of ONNX with the name of the function."""
    OPERATORS[function.__name__] = function
    return function


def elementwise(name, layer, **renamed):
    """The operator `name` is a layer of one array, whose attributes may have other names in ONNX."""
    OPERATORS[name] = lambda x, **attributes: layer(x, **{renamed[key]: value for key, value in attributes.items()})


for name, layer, renamed in (
    ("Celu", jn.celu, {"alpha": "alpha"}),
    ("HardSwish", jn.hard_swish, {}),
    ("Identity", jn.identity, {}),
    ("Mish", jn.mish, {}),
    ("Relu", jn.relu, {}),
    ("Sigmoid", jn.sigmoid, {}),
    ("Softplus", jn.softplus, {}),
    ("Softsign", jn.softsign, {}),
    ("Swish", jn.silu, {"alpha": "alpha"}),
    ("Tanh", jn.tanh, {}),
):
    elementwise(name, layer, **renamed)


def axes_of(axes):
    """The axes of a reduction as a tuple, None for all."""
    return None if axes is None or not np.size(axes) else tuple(np.ravel(axes).tolist())


def space_padding(x, pads, auto_pad, size, stride=None, dilation=None, ceil_mode=False):
    """Padding (before, after) for each axis of space, from ONNX's attributes."""
    rank = len(size)
    if auto_pad.startswith(b"SAME"):
        strides, dilations = stride or [1] * rank, dilation or [1] * rank
        rows = zip(x.shape[-rank:], size, strides, dilations, strict=True)
        needed = [max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n) for n, k, s, d in rows]
        low = [n // 2 if auto_pad == b"SAME_UPPER" else n - n // 2 for n in needed]
        return tuple((a, n - a) for a, n in zip(low, needed, strict=True))
    return tuple(zip(pads[:rank], pads[rank:], strict=True)) if pads else ((0, 0),) * rank


# Activations with attributes


@operator
def Clip(x, min=None, max=None):
    return jn.clip(x, min=None if min is None else float(min), max=None if max is None else float(max))


@operator
def Elu(x, *, alpha=1.0):
    return jn.elu(x, alpha=alpha)


@operator
def Gelu(x, *, approximate=b"none"):
    return jn.gelu(x, approximate=approximate == b"tanh")


@operator
def HardSigmoid(x, *, alpha=0.2, beta=0.5):
    return jn.hard_sigmoid(x, slope=alpha, offset=beta)


@operator
def LeakyRelu(x, *, alpha=0.01):
    return jn.leaky_relu(x, negative_slope=alpha)


@operator
def PRelu(x, slope):
    return jn.prelu(x, jnp.broadcast_to(slope, x.shape))


@operator
def Selu(x, *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return jn.selu(x, alpha=alpha, gamma=gamma)


@operator
def Shrink(x, *, bias=0.0, lambd=0.5):
    """ONNX has one operator for both kinds; where `bias` is neither 0 nor `lambd` it is no layer of ours."""
    layer = {0.0: jn.hard_shrink, lambd: jn.soft_shrink}[bias]
    return layer(x, lambd=lambd)


@operator
def SwiGLU(a, b, *, alpha=1.0):
    return jn.multiply(jn.silu(a, alpha=alpha), b)


@operator
def ThresholdedRelu(x, *, alpha=1.0):
    return jn.threshold(x, threshold=alpha, value=0.0)


@operator
def Softmax(x, *, axis=-1):
    return jn.softmax(x, axis=axis)


@operator
def LogSoftmax(x, *, axis=-1):
    return jn.log_softmax(x, axis=axis)


# Branches, joins and products


@operator
def Add(x, y):
    return jn.add(x, y)


@operator
def Sub(x, y):
    return jn.subtract(x, y)


@operator
def Mul(x, y):
    return jn.multiply(x, y)


def folded(layer, arrays):
    first, *others = arrays
    for other in others:
        first = layer(first, other)
    return first


@operator
def Max(*arrays):
    return folded(jn.maximum, arrays)


@operator
def Min(*arrays):
    return folded(jn.minimum, arrays)


@operator
def Sum(*arrays):
    return folded(jn.add, arrays)


@operator
def Mean(*arrays):
    return jn.mean(jn.stack(*arrays), axis=0)


@operator
def Concat(*arrays, axis):
    return jn.concatenate(*arrays, axis=axis)


@operator
def Split(x, split=None, *, axis=0, num_outputs):
    n = x.shape[axis]
    part = -(-n // num_outputs)  # equal parts, of which the last one may be shorter
    sizes = split if split is not None else [min(part, n - i) for i in range(0, part * num_outputs, part)]
    return jn.split(x, sections=tuple(map(int, sizes)), axis=axis)


@operator
def Flatten(x, *, axis=1):
    axis = axis % x.ndim if axis < 0 else axis
    return jn.flatten(x.reshape(math.prod(x.shape[:axis]), *x.shape[axis:]))


@operator
def MatMul(a, b):
    return jn.matmul(a, b)


@operator
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    y = alpha * jn.matmul(a.T if transA else a, b.T if transB else b)
    return y if c is None else jn.add(y, beta * c)


@operator
def Einsum(*arrays, equation):
    return jn.einsum(*arrays, subscripts=equation.decode())


@operator
def Gather(data, indices, *, axis=0):
    """Rows of a table, after the axis was moved to the front; negative indices count from the end."""
    table = jnp.moveaxis(data, axis, 0)
    rows = jn.embedding(jnp.asarray(indices) % data.shape[axis], table.reshape(len(table), -1))
    rows = rows.reshape(*indices.shape, *table.shape[1:])
    return jnp.moveaxis(rows, range(indices.ndim), range(axis, axis + indices.ndim))


@operator
def DepthToSpace(x, *, blocksize, mode=b"DCR"):
    b, c, h, w = x.shape
    if mode == b"DCR":  # ours is ONNX's CRD
        x = x.reshape(b, blocksize**2, -1, h, w).swapaxes(1, 2).reshape(x.shape)
    return jn.pixel_shuffle(x, factor=blocksize)


@operator
def SpaceToDepth(x, *, blocksize, mode=b"DCR"):
    y = jn.pixel_unshuffle(x, factor=blocksize)
    b, c, h, w = y.shape
    return y if mode == b"CRD" else y.reshape(b, -1, blocksize**2, h, w).swapaxes(1, 2).reshape(y.shape)


@operator
def Pad(x, pads, value=None, axes=None, *, mode=b"constant"):
    axes = range(x.ndim) if axes is None else np.asarray(axes) % x.ndim
    rank = len(axes)
    table = [(0, 0)] * x.ndim
    for axis, low, high in zip(axes, pads[:rank], pads[rank:], strict=True):
        table[axis] = int(low), int(high)
    if mode == b"constant":
        return jn.pad(x, padding=tuple(table), value=0.0 if value is None else float(value))
    words = {b"edge": "replicate", b"reflect": "reflect", b"wrap": "circular"}
    return jn.pad(x.astype(jnp.float32), padding=tuple(table), mode=words[mode]).astype(x.dtype)


# Reductions


def reduction(name, layer):
    def reduce(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        if noop_with_empty_axes and axes_of(axes) is None:
            return layer(x[None], axis=0, keepdims=False)
        return layer(x, axis=axes_of(axes), keepdims=bool(keepdims))

    OPERATORS[name] = reduce


reduction("ReduceSum", jn.sum)
reduction("ReduceMean", jn.mean)
reduction("ReduceMax", jn.max)
reduction("ReduceMin", jn.min)
reduction("ReduceLogSumExp", jn.logsumexp)
reduction("ReduceL2", jn.l2_norm)
reduction("ReduceL1", lambda x, **how: jn.vector_norm(x, p=1.0, **how))
reduction("ReduceSumSquare", lambda x, **how: jn.sum(jn.multiply(x, x), **how))


# Convolutions and pools


@operator
def Conv(x, w, b=None, *, auto_pad=b"NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
    size = w.shape[2:]
    dilation, stride = tuple(dilations or [1] * len(size)), tuple(strides or [1] * len(size))
    padding = space_padding(x, pads, auto_pad, size, stride, dilation)
    return jn.conv(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=group)


@operator
def ConvTranspose(
    x, w, b=None, *, auto_pad=b"NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None,
    output_shape=None, pads=None, strides=None,
):  # fmt: skip
    size = w.shape[2:]
    rank = len(size)
    stride, dilation = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    more = tuple(output_padding or [0] * rank)
    padding = space_padding(x, pads, b"NOTSET", size)
    if auto_pad.startswith(b"SAME"):
        output_shape = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    if output_shape:
        rows = zip(x.shape[2:], size, stride, dilation, more, output_shape, strict=True)
        total = [s * (n - 1) + o + d * (k - 1) + 1 - m for n, k, s, d, o, m in rows]
        low = [n // 2 if auto_pad == b"SAME_UPPER" else n - n // 2 for n in total]
        # What is missing is added behind, as output_padding is.
        padding = tuple((a, n - a) if n > 0 else (0, 0) for a, n in zip(low, total, strict=True))
        more = tuple(o - min(0, n) for o, n in zip(more, total, strict=True))
    return jn.conv_transpose(x, w, b, stride=stride, padding=padding, output_padding=more, dilation=dilation, groups=group)


def pooled(
    layer, x, outside, *, kernel_shape, strides=None, pads=None, auto_pad=b"NOTSET", dilations=None, ceil_mode=0, **how
):
    """A pool of x, which is padded first with `outside` where that is more than half of a window."""
    rank = len(kernel_shape)
    stride, dilation = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    padding = space_padding(x, pads, auto_pad, kernel_shape, stride, dilation)
    if any(2 * max(sides) > size for sides, size in zip(padding, kernel_shape, strict=True)):
        x, padding = jn.pad(x, padding=padding, value=outside), 0
    config = {"kernel_size": tuple(kernel_shape), "stride": stride, "padding": padding, "dilation": dilation}
    return layer(x, ceil_mode=bool(ceil_mode), **config, **how)


@operator
def AveragePool(x, *, count_include_pad=0, **how):
    return pooled(jn.avg_pool, x, 0.0, count_include_pad=bool(count_include_pad), **how)


@operator
def MaxPool(x, *, storage_order=0, **how):
    """ONNX counts places through the whole of x, and by `storage_order` along columns."""
    y = pooled(jn.max_pool, x, -math.inf, **how)
    rank = len(how["kernel_shape"])
    places, space = np.asarray(pooled(jn.max_pool_indices, x, -math.inf, **how)), x.shape[-rank:]
    if storage_order:
        places = np.ravel_multi_index(np.unravel_index(places, space), space, order="F")
    images = np.arange(math.prod(x.shape[:-rank])).reshape(*x.shape[:-rank], *[1] * rank)
    return y, images * math.prod(space) + places


@operator
def MaxUnpool(x, places, *, kernel_shape, strides):
    """Places count through the whole of y; here that is one image."""
    return jn.max_unpool(x, places, kernel_size=tuple(kernel_shape), stride=tuple(strides))


@operator
def LpPool(x, *, p=2, **how):
    return pooled(jn.lp_pool, x, 0.0, p=float(p), **how)


@operator
def GlobalAveragePool(x):
    return jn.global_avg_pool(x, keepdims=True)


@operator
def GlobalMaxPool(x):
    return jn.global_max_pool(x, keepdims=True)


@operator
def Resize(
    x, roi=None, scales=None, sizes=None, *, mode=b"nearest", coordinate_transformation_mode=b"half_pixel",
    nearest_mode=b"round_prefer_floor", cubic_coeff_a=-0.75, exclude_outside=0, antialias=0, axes=None,
    keep_aspect_ratio_policy=b"stretch", extrapolation_value=0.0,
):  # fmt: skip
    where = coordinate_transformation_mode.replace(b"pytorch_", b"")
    if mode == b"nearest":
        assert nearest_mode == b"round_prefer_floor" and where == b"half_pixel" and keep_aspect_ratio_policy == b"stretch"
    assert where in (b"half_pixel", b"align_corners") and not exclude_outside
    axes = range(x.ndim) if axes is None else axes
    full = list(x.shape) if sizes is not None else [1.0] * x.ndim
    for axis, n in zip(axes, scales if sizes is None else sizes, strict=True):
        full[axis] = n
    assert full[:2] == ([1.0, 1.0] if sizes is None else list(x.shape[:2]))
    how = {"size": tuple(map(int, full[2:]))} if sizes is not None else {"scale_factor": tuple(map(float, full[2:]))}
    words = {b"nearest": "nearest-exact", b"linear": "linear", b"cubic": "cubic"}
    return jn.interpolate(x, mode=words[mode], align_corners=where == b"align_corners", antialias=bool(antialias), **how)


# Normalizations


@operator
def BatchNormalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    weights = {"scale": scale, "bias": bias, "eps": epsilon}
    if not training_mode:
        return jn.batch_norm(x, running_mean=mean, running_var=var, **weights)[0]
    axes = (0, *range(2, x.ndim))
    y = jn.batch_norm(x, training=True, **weights)[0]
    new = (jn.mean(x, axis=axes), jn.var(x, axis=axes))
    return (y, *(momentum * old + (1 - momentum) * now for old, now in zip((mean, var), new, strict=True)))


@operator
def InstanceNormalization(x, scale, bias, *, epsilon=1e-5):
    return jn.instance_norm(x, scale=scale, bias=bias, eps=epsilon)


@operator
def GroupNormalization(x, scale, bias, *, num_groups, epsilon=1e-5):
    return jn.group_norm(x, scale=scale, bias=bias, groups=num_groups, eps=epsilon)


@operator
def LayerNormalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    statistics = jn.layer_norm_statistics(x, axis=axes, eps=epsilon, keepdims=True)
    return jn.layer_norm(x, scale, bias, axis=axes, eps=epsilon), *statistics


@operator
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5):
    return jn.rms_norm(x, scale, axis=tuple(range(axis % x.ndim, x.ndim)), eps=epsilon)


@operator
def LpNormalization(x, *, axis=-1, p=2):
    return jn.normalize(x, axis=axis, p=float(p))


@operator
def LRN(x, *, size, alpha=0.0001, beta=0.75, bias=1.0):
    return jn.local_response_norm(x, size=size, alpha=alpha, beta=beta, k=bias)


@operator
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    return jn.standardize(x, axis=tuple(axes), eps=1e-9)


# Recurrent layers


def recurrent(name, layer, gates, order):
    """An operator for sequences: x is [t, b, i], weights have an axis of directions, and `order` is that of our gates."""

    def run(
        x, w, r, b=None, sequence_lens=None, initial_h=None, initial_c=None, p=None, *, hidden_size,
        direction=b"forward", layout=0, linear_before_reset=0,
    ):  # fmt: skip
        if gates == 3 and not linear_before_reset:
            # ONNX's default multiplies the state by r before the product, torch's and ours after it: the same without
            # a first state and with one step, and nowhere else.
            assert x.shape[layout] == 1 and initial_h is None

        def in_order(rows):
            return jnp.concatenate([rows[i * hidden_size : (i + 1) * hidden_size] for i in order])

        x = x if layout else jnp.swapaxes(x, 0, 1)
        sides = []
        for side in range(len(w)):
            backward = direction == b"reverse" or side == 1
            biases = [None, None] if b is None else [in_order(half) for half in jnp.split(b[side], 2)]
            steps = x[:, ::-1] if backward else x
            states = {} if initial_h is None else {"h0": initial_h[side]}
            states |= {} if initial_c is None else {"c0": initial_c[side]}
            sides.append((layer(steps, in_order(w[side]), in_order(r[side]), *biases, **states), backward))
        last = jnp.stack([first_output(y)[:, -1] for y, _ in sides], layout)
        y = jnp.stack([first_output(y)[:, ::-1] if backward else first_output(y) for y, backward in sides], 2)
        y = y if layout else jnp.transpose(y, (1, 2, 0, 3))
        cells = jnp.stack([y[1][:, -1] for y, _ in sides], layout) if isinstance(sides[0][0], tuple) else None
        return y, last, cells

    OPERATORS[name] = run


def first_output(y):
    return y[0] if isinstance(y, tuple) else y


recurrent("RNN", jn.rnn, 1, (0,))
recurrent("LSTM", jn.lstm, 4, (0, 2, 3, 1))  # ONNX has i, o, f, c, ours is i, f, g, o
recurrent("GRU", jn.gru, 3, (1, 0, 2))  # ONNX has z, r, h, ours is r, z, n


# Losses


def reduced(loss, reduction, weights=None):
    if reduction == b"none":
        return loss
    if reduction == b"sum":
        return jn.reduce(loss, "sum")
    if weights is None:
        return jn.reduce(loss, "mean")
    return jnp.sum(loss) / jnp.sum(weights)


def label_loss(layer, x, labels, weight, ignore_index, reduction):
    loss = layer(x, labels, weight, axis=1, ignore_index=ignore_index)
    kept = labels != ignore_index
    known = jnp.where(kept, labels, 0)
    weights = jnp.where(kept, jnp.ones(labels.shape) if weight is None else weight[known], 0)
    return reduced(loss, reduction, weights)


@operator
def NegativeLogLikelihoodLoss(x, labels, weight=None, *, ignore_index=None, reduction=b"mean"):
    return label_loss(jn.nll, x, labels, weight, ignore_index, reduction)


@operator
def SoftmaxCrossEntropyLoss(x, labels, weight=None, *, ignore_index=None, reduction=b"mean"):
    return label_loss(jn.cross_entropy, x, labels, weight, ignore_index, reduction), jn.log_softmax(x, axis=1)


@operator
def Dropout(x, ratio=0.5, training=False, *, seed=0):
    """Without randomness: in evaluation, or at rate 0."""
    y = jn.dropout(x, jax.random.key(0), rate=float(ratio), training=bool(training))
    return y, jnp.ones(x.shape, bool)


# Attention


def in_heads(x, heads):
    """[b, t, h·d] as [b, h, t, d]."""
    return jnp.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


@operator
def Attention(
    q, k, v, attn_mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None, *, is_causal=0, kv_num_heads=None,
    q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0, softmax_precision=None, left_window_size=-1,
    right_window_size=-1,
):  # fmt: skip
    flat = q.ndim == 3
    if flat:
        q, k, v = (in_heads(x, n) for x, n in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads)))
    past = 0
    if past_key is not None:
        past = past_key.shape[2]
        k, v = (jn.concatenate(old, x, axis=2) for old, x in ((past_key, k), (past_value, v)))
    t, s = q.shape[2], k.shape[2]
    bias, mask = None, None
    if attn_mask is not None:
        missing = s - attn_mask.shape[-1] if attn_mask.shape[-1] > 1 else 0  # keys that it does not know are hidden
        widths = [(0, 0)] * (attn_mask.ndim - 1) + [(0, missing)]
        if attn_mask.dtype == bool:
            mask = jnp.pad(attn_mask, widths)
        else:
            bias = jnp.pad(attn_mask, widths, constant_values=-jnp.inf)
    offset = past
    if nonpad_kv_seqlen is not None:
        lengths = jnp.asarray(nonpad_kv_seqlen)[:, None, None, None]
        mask = both(mask, jnp.arange(s) < lengths)
        offset = lengths - t
    back = jnp.arange(t)[:, None] + offset - jnp.arange(s)  # how far back a key lies
    for wanted, visible in (
        (is_causal, back >= 0),
        (left_window_size >= 0, back <= left_window_size),
        (right_window_size >= 0, -back <= right_window_size),
    ):
        mask = both(mask, visible) if wanted else mask
    if bias is not None:  # a key with the bias −∞ is hidden
        mask = both(mask, ~jnp.isneginf(bias))
        bias = jnp.where(jnp.isneginf(bias), 0, bias)
    config = {"scale": scale} | ({"softcap": softcap} if softcap else {})
    y = jn.attention(q, k, v, bias, mask, **config)
    if qk_matmul_output_mode == 3:
        scores = jn.attention_weights(q, k, bias, mask, **config)
    else:
        scores = raw_scores(q, k, scale)
        scores = softcap * jn.tanh(scores / softcap) if softcap and qk_matmul_output_mode else scores
        if qk_matmul_output_mode == 2:
            scores = scores if bias is None else scores + bias
            scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    y = jnp.swapaxes(y, 1, 2).reshape(len(y), t, -1) if flat else y
    return y, k, v, scores


def both(mask, other):
    return other if mask is None else mask & other


def raw_scores(q, k, scale):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return scale * jn.matmul(q, jnp.swapaxes(jnp.repeat(k, q.shape[1] // k.shape[1], 1), -1, -2))


@operator
def FlexAttention(q, k, v, *, scale=None):
    return jn.attention(q, k, v, scale=scale)
