"""Images of other sizes and other orders, against NumPy and JAX: interpolation, padding, shuffles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxnets as jn

from ..computing import equal
from ..sweeps import swept
from .windows import array_equal, at_once, close, normal

SIZES = st.integers(1, 9)


def places(n, m, align_corners=False):
    """Where the m outputs lie among n entries."""
    p = np.arange(m)
    return np.linspace(0, n - 1, m) if align_corners else (p + 0.5) * n / m - 0.5


@given(SIZES, SIZES, st.booleans())
def test_linear_is_interp_of_numpy(n, m, align_corners):
    x = normal(2, n)
    found = jn.interpolate(x, size=(m,), mode="linear", align_corners=align_corners)
    close(found, [np.interp(places(n, m, align_corners), np.arange(n), row) for row in x])


def hermite(row, z, a=-0.75):
    """Between two entries the cubic polynomial whose slopes there are −a times the differences of their neighbours."""
    i, edge = int(np.floor(z)), len(row) - 1
    left, first, second, right = (row[min(max(k, 0), edge)] for k in range(i - 1, i + 3))
    t, slopes = z - i, (-a * (second - left), -a * (right - first))
    return (
        (2 * t**3 - 3 * t**2 + 1) * first
        + (t**3 - 2 * t**2 + t) * slopes[0]
        + (3 * t**2 - 2 * t**3) * second
        + (t**3 - t**2) * slopes[1]
    )


@given(SIZES, SIZES, st.booleans())
def test_cubic_is_a_piecewise_polynomial(n, m, align_corners):
    x = normal(n)
    found = jn.interpolate(x, size=(m,), mode="cubic", align_corners=align_corners)
    close(found, [hermite(x, z) for z in places(n, m, align_corners)])


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("n, m", [(3, 8), (9, 4), (16, 5), (1, 3)])
def test_antialias_is_resize_of_jax(n, m, mode):
    x = normal(2, n, 4)
    found, expected = at_once(
        lambda x: (jn.interpolate(x, size=(m, 4), mode=mode, antialias=True), jax.image.resize(x, (2, m, 4), mode)), x
    )
    close(found, expected)


@given(SIZES, SIZES)
def test_nearest(n, m):
    x = np.arange(n) * 1.0
    array_equal(jn.interpolate(x, size=(m,)), [n * p // m for p in range(m)])
    array_equal(jn.interpolate(x, size=(m,), mode="nearest-exact"), [n * (2 * p + 1) // (2 * m) for p in range(m)])


def test_scale_factors():
    """The factor itself says where the outputs lie, not the sizes; it may be a number that binary fractions do not hit."""
    x = normal(1, 1, 7)
    equal(jn.interpolate(x, scale_factor=2), np.repeat(x, 2, -1))
    equal(jn.interpolate(np.arange(10.0), scale_factor=(0.1,)), [0])
    equal(jn.interpolate(np.arange(7.0), scale_factor=(1.5,)), [0, 0, 1, 2, 2, 3, 4, 4, 5, 6])
    z = (np.arange(10) + 0.5) / 1.5 - 0.5
    close(jn.interpolate(x, scale_factor=1.5, mode="linear")[0, 0], np.interp(z, np.arange(7), x[0, 0]))


def test_number_tuple_and_names_of_modes():
    x = normal(2, 3, 4, 5)

    def run(x):
        both = jn.interpolate(x, size=(3, 2), mode="bilinear")
        one_by_one = jn.interpolate(jn.interpolate(x, size=(2,), mode="linear"), size=(3, 2), mode="linear")
        square = [jn.interpolate(x, size=size, mode="bicubic") for size in (3, (3, 3))]
        same = jn.interpolate(x, size=(4, 5), mode="cubic")
        return both, one_by_one, *square, same, jn.interpolate(x, scale_factor=(2.0, 1.0))

    both, one_by_one, square, same_square, same, tall = at_once(run, x)
    close(both, one_by_one)
    array_equal(square, same_square)
    close(same, x)
    array_equal(tall, np.repeat(x, 2, 2))


def test_interpolation_stores_small_matrices():
    x = np.zeros((2, 3, 8, 6), "float32")

    def stored(**config):
        return jax.eval_shape(jn.jacobian(lambda x: jn.interpolate(x, **config)), x).nbytes

    assert stored(size=(16, 12), mode="linear") == 4 * (16 * 8 + 12 * 6)
    assert stored(size=(16, 12)) == 4 * (16 + 12)


@pytest.mark.parametrize("ours, numpys", [
    ("reflect", "reflect"), ("symmetric", "symmetric"), ("replicate", "edge"), ("edge", "edge"), ("circular", "wrap"),
    ("wrap", "wrap"),
])  # fmt: skip
@pytest.mark.parametrize("n", swept([1, 2, 3, 7], [1, 3]))
def test_pad_as_numpy(ours, numpys, n):
    """Also by more than there is to repeat; the gradient counts how often an entry was taken."""
    x, edges = normal(n, 4), ((5, 8), (1, 0))

    def run(x):
        return jn.pad(x, padding=edges, mode=ours), jn.grad(lambda x: jnp.sum(jn.pad(x, padding=edges, mode=ours)))(x)

    y, slope = at_once(run, x)
    array_equal(y, np.pad(x, edges, mode=numpys))
    _, counts = np.unique(np.pad(np.arange(4 * n).reshape(n, 4), edges, mode=numpys), return_counts=True)
    array_equal(np.sort(slope, None), np.sort(np.concatenate([counts, np.zeros(4 * n - len(counts))])))


def test_pixel_unshuffle_undoes_pixel_shuffle():
    x = normal(2, 12, 2, 3)
    there, back = at_once(
        lambda x: (
            jn.pixel_unshuffle(x[:, :, :, :2], factor=2),
            jn.pixel_unshuffle(jn.pixel_shuffle(x, factor=2), factor=2),
        ),
        x,
    )
    array_equal(back, x)
    assert there.shape == (2, 48, 1, 1)
    array_equal(there[0, 1, 0, 0], x[0, 0, 0, 1])
    array_equal(there[0, 2, 0, 0], x[0, 0, 1, 0])


def test_channel_shuffle_takes_groups_in_turn():
    x = np.arange(6.0)
    array_equal(jn.channel_shuffle(x[None], groups=2)[0], [0, 3, 1, 4, 2, 5])
    array_equal(jn.channel_shuffle(x[None], groups=3)[0], [0, 2, 4, 1, 3, 5])
    array_equal(jn.channel_shuffle(x[:, None], groups=2, axis=0)[:, 0], [0, 3, 1, 4, 2, 5])
