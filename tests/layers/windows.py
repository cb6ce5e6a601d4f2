"""What tests of convolutions and pooling share: numbers, comparisons, convolutions as loops in plain NumPy."""

import jax
import numpy as np

INF, NAN = np.inf, np.nan


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max())
    )


def array_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual, np.float64), np.asarray(expected, np.float64))


def at_once(function, *args):
    """All that a function computes, as one program, in arrays of NumPy."""
    return jax.device_get(jax.jit(function)(*args))


def spread(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def pairs(padding, rank):
    return [pair if isinstance(pair, tuple) else (pair, pair) for pair in spread(padding, rank)]


def conv_loop(x, w, stride=1, padding=0, dilation=1, groups=1):
    """y[b, o, p] of x [b, c, *space], one number at a time."""
    rank = w.ndim - 2
    stride, dilation, pads = spread(stride, rank), spread(dilation, rank), pairs(padding, rank)
    rows = zip(x.shape[2:], w.shape[2:], stride, dilation, pads, strict=True)
    space = [len(range(0, n + sum(pad) - d * (k - 1), s)) for n, k, s, d, pad in rows]
    y = np.zeros((len(x), len(w), *space))
    for b, o, *p in np.ndindex(y.shape):
        group = o // (len(w) // groups)
        for i, *k in np.ndindex(w.shape[1:]):
            at = [s * q + d * m - low for s, q, d, m, (low, _) in zip(stride, p, dilation, k, pads, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
                y[b, o, *p] += w[o, i, *k] * x[b, group * w.shape[1] + i, *at]
    return y


def conv_transpose_loop(x, w, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """Every entry of x adds a multiple of its kernel to a canvas, whose edges are cut off."""
    rank = w.ndim - 2
    stride, dilation, pads = spread(stride, rank), spread(dilation, rank), pairs(padding, rank)
    more = spread(output_padding, rank)
    rows = zip(x.shape[2:], w.shape[2:], stride, dilation, more, strict=True)
    canvas = np.zeros((len(x), groups * w.shape[1], *((n - 1) * s + d * (k - 1) + 1 + m for n, k, s, d, m in rows)))
    per_group = len(w) // groups
    for b, i, *u in np.ndindex(x.shape):
        for o, *k in np.ndindex(w.shape[1:]):
            at = [s * a + d * m for s, a, d, m in zip(stride, u, dilation, k, strict=True)]
            canvas[b, i // per_group * w.shape[1] + o, *at] += w[i, o, *k] * x[b, i, *u]
    return canvas[:, :, *(slice(low, n - high) for (low, high), n in zip(pads, canvas.shape[2:], strict=True))]
