"""Effective rank and alignment of kernels, against their definitions in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .nets import Draws

r = Draws(13)


@pytest.mark.parametrize("eigenvalues", [(1.0,), (3.0, 3.0, 3.0), (5.0, 1.0, 0.2, 0.0), (1e-200, 1e-200)])
def test_effective_rank_is_the_exponential_of_the_entropy(eigenvalues):
    turn = np.linalg.qr(r(len(eigenvalues), len(eigenvalues)))[0]
    p = np.array([v for v in eigenvalues if v > 0]) / sum(eigenvalues)
    found = jn.effective_rank(turn * np.array(eigenvalues) @ turn.T)
    np.testing.assert_allclose(found, np.prod(p**-p), rtol=1e-9)


def test_effective_rank_of_several():
    a = r(3, 4, 4)
    kernels = a @ a.swapaxes(1, 2)
    np.testing.assert_allclose(jn.effective_rank(kernels), [jn.effective_rank(k) for k in kernels], rtol=1e-12)


@pytest.mark.parametrize("outputs", [(), (3,)])
@pytest.mark.parametrize("centred", [False, True])
def test_alignment_is_the_cosine_of_two_kernels(outputs, centred):
    a, y = r(6, 4) + 1, r(6, *outputs) + 2
    ours, theirs = a @ a.T, np.outer(y, y) if not outputs else y @ y.T
    if centred:
        h = np.eye(6) - 1 / 6
        ours, theirs = h @ ours @ h, h @ theirs @ h
    expected = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
    np.testing.assert_allclose(jn.kernel_alignment(a @ a.T, y, centred=centred), expected, rtol=1e-12)


def test_labels_may_be_integers():
    a = r(4, 2)
    found = jn.kernel_alignment(a @ a.T, np.array([0, 1, 1, 0]))
    np.testing.assert_allclose(found, jn.kernel_alignment(a @ a.T, np.array([0.0, 1, 1, 0])), rtol=1e-15)


def test_what_does_not_fit_is_refused():
    with pytest.raises(jn.ShapeError, match=r"effective_rank: kernel has shape \(3, 2\), expected \(…, n, n\)"):
        jn.effective_rank(np.ones((3, 2)))
    with pytest.raises(jn.DTypeError, match="effective_rank: kernel must be a floating dtype"):
        jn.effective_rank(np.ones((2, 2), int))
    with pytest.raises(jn.ShapeError, match=r"kernel_alignment: kernel has shape \(3, 3\) and targets \(2,\)"):
        jn.kernel_alignment(np.ones((3, 3)), np.ones(2))
    with pytest.raises(jn.ShapeError, match=r"kernel_alignment: kernel has shape \(0, 0\)"):
        jn.kernel_alignment(np.zeros((0, 0)), np.zeros(0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bit_kernels_do_not_overflow(dtype):
    """Entries near the largest number of float16, whose squares it does not hold."""
    a = r(6, 3)
    kernel = (a @ a.T) * 1e4 / np.abs(a @ a.T).max()
    narrow = jnp.asarray(kernel, dtype)
    wide, y = narrow.astype("float64"), r(6)
    np.testing.assert_allclose(jn.kernel_alignment(narrow, y), jn.kernel_alignment(wide, y), rtol=1e-4)
    np.testing.assert_allclose(jn.effective_rank(narrow), jn.effective_rank(wide), rtol=1e-3)
