"""What a kernel matrix says of learning: how many directions it has, and whether the targets lie along the large ones."""

import jax
import jax.numpy as jnp

from ..algebra.factors import at_least_float32
from ..checks import as_array, check_floating_dtype, checked
from ..errors import ShapeError


@checked
def effective_rank(kernel) -> jax.Array:
    """exp(−Σ p log p), p the eigenvalues of a symmetric matrix [n, n] divided by their sum (Roy & Vetterli 2007).

    It is n if all are equal and 1 if all but one are 0.  Eigenvalues below 0, which are roundings, count as 0.  The matrix
    may have leading axes: [..., n, n] gives [...].  A matrix of zeros gives NaN.  Raises ShapeError unless it is square.

    >>> jn.effective_rank(jnp.diag(jnp.array([2.0, 2.0, 0.0])))
    Array(2., dtype=float32)
    """
    eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(_square("effective_rank", kernel)), 0)
    p = eigenvalues / jnp.sum(eigenvalues, -1, keepdims=True)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(p, p), -1))


@checked
def kernel_alignment(kernel, targets, *, centred: bool = True) -> jax.Array:
    """⟨K, Y Yᵀ⟩ / (‖K‖ ‖Y Yᵀ‖) for a kernel [n, n] and targets [n] or [n, outputs], such as one-hot labels: at most 1.

    It is large where the targets lie along the large eigenvectors of the kernel, which gradient descent learns first
    (Cristianini et al. 2001).  `centred` first takes the means off rows and columns of both (Cortes et al. 2012).  Numbers
    are taken as they are: give labels of more than two classes one-hot.  The sums are in float32 at least.  Where a kernel
    is 0, as that of constant targets is once it is centred, the result is NaN.  Raises ShapeError if the shapes do not fit.

    >>> y = jnp.array([1.0, -1.0, 1.0])
    >>> jn.kernel_alignment(jnp.outer(y, y), y).round(3)
    Array(1., dtype=float32)
    """
    kernel = _square("kernel_alignment", kernel)
    y = as_array("kernel_alignment: argument 'targets'", targets)
    if kernel.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(kernel) or not kernel.size:
        raise ShapeError(
            f"kernel_alignment: kernel has shape {kernel.shape} and targets {y.shape}, expected (n, n) and (n, …)"
        )
    y = y.reshape(len(y), -1).astype(jnp.promote_types(y.dtype, kernel.dtype))
    if centred:
        y = y - y.mean(0)
        kernel = kernel - kernel.mean(0)
        kernel = kernel - kernel.mean(1, keepdims=True)
    return jnp.sum(y * (kernel @ y)) / (jnp.linalg.norm(kernel) * jnp.linalg.norm(y.T @ y))


def _square(name: str, kernel) -> jax.Array:
    """The kernel in float32 at least; ShapeError unless its last two axes are alike, DTypeError unless it is floating."""
    kernel = as_array(f"{name}: argument 'kernel'", kernel)
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2]:
        raise ShapeError(f"{name}: kernel has shape {kernel.shape}, expected (…, n, n)")
    check_floating_dtype(name, "kernel", kernel.dtype)
    return at_least_float32(kernel)
