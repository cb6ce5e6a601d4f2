"""Products of all patches of an image with each other, against patches that JAX stores and NumPy multiplies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets as jn
from jaxnets.layers.shifted_products import Windows

CASES = {  # sizes, kernel, stride, padding, dilation, and the least share of the products of all pairs
    "3×3": ((8, 9), (3, 3), 1, ((1, 1), (1, 1)), (1, 1), 0.31),
    "without padding": ((6, 5), (3, 3), 1, ((0, 0), (0, 0)), (1, 1), 0.6),
    "stride, dilation and uneven padding": ((9, 8), (4, 3), (3, 2), ((4, 3), (1, 0)), (2, 1), 0.4),
    "images smaller than the kernel": ((2, 1), (3, 3), 1, ((1, 1), (1, 1)), (1, 1), 0.4),
    "7×7, stride 2": ((14, 13), (7, 7), 2, ((3, 3), (3, 3)), (1, 1), 0.22),
    "one axis": ((9,), (5,), 1, ((2, 2),), (1,), 0.24),
    "three axes": ((5, 4, 3), (3, 2, 3), (2, 1, 1), ((1, 1), (0, 1), (1, 1)), (1, 1, 1), 0.4),
}


def of_patches(x, kernel, stride, padding, dilation):
    """The products of [entries, examples and places] with themselves."""
    strides = (stride,) * len(kernel) if isinstance(stride, int) else stride
    patches = lax.conv_general_dilated_patches(x, kernel, strides, padding, rhs_dilation=dilation)
    rows = np.moveaxis(np.asarray(patches), 1, 0).reshape(patches.shape[1], -1)
    return rows @ rows.T, rows.shape[1]


@pytest.mark.parametrize("name", CASES)
def test_products_of_patches(name):
    """The factor of a kernel's inputs, which has the mean over examples and places."""
    sizes, kernel, stride, padding, dilation, _ = CASES[name]
    x = np.random.default_rng(0).normal(size=(2, 3, *sizes))
    w = np.ones((1, 3, *kernel))

    def factor(w, x):
        def f(w, x):
            return jnp.tanh(jn.flatten(jn.conv(x, w, stride=stride, padding=padding, dilation=dilation)))

        return jn.kfac_factors(f, jn.squared_error, curvature="empirical")(w, x, jnp.zeros(f(w, x).shape)).last

    products, places = of_patches(x, kernel, stride, padding, dilation)
    np.testing.assert_allclose(jax.jit(factor)(w, x), products / places, rtol=0, atol=1e-13 * np.abs(products).max())


@pytest.mark.parametrize("name", CASES)
def test_few_pairs_of_rows_are_multiplied(name):
    (size, *_), (kernel, *_), stride, ((low, high), *_), (dilation, *_), share = CASES[name]
    stride = stride if isinstance(stride, int) else stride[0]
    outputs = (size + low + high - dilation * (kernel - 1) - 1) // stride + 1
    windows = Windows(size, outputs, kernel, stride, dilation, low)
    assert windows.multiplied_rows <= share * outputs * kernel**2


def test_groups_have_the_whole_block():
    """Their kernels' blocks are no Kronecker products."""
    x, w = jnp.ones((2, 4, 3)), jnp.ones((4, 2, 2))

    def f(w, x):
        return jn.flatten(jnp.tanh(jn.conv(x, w, groups=2)))

    block = jn.kfac_factors(f, jn.squared_error)(w, x, jnp.zeros((2, 8)))
    assert (block.first.shape, block.last.shape) == ((16, 16), (1, 1))
