"""How long does the empirical neural tangent kernel of all outputs take, and how many bytes, compared with other ways?"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxnets as jn

from .harness import Contender, Missing, Result, dense, jitted, measure
from .networks import Network, convnet, mlp
from .peers import on_torch

CASES = (  # batch, network
    (64, lambda: mlp(784, 512, 512, 10)),
    (64, lambda: convnet()),
    (64, lambda: convnet(channels=(16, 32), hidden=(128,))),
    (8, lambda: mlp(784, 512, 512, 1000)),
)
QUICK = ((3, lambda: mlp(8, 6, 5)),)
CHUNK = 64  # unit vectors of outputs that are taken at one time
LARGE = 1e10  # bytes; larger Jacobians are not made


def as_matrix(kernel) -> np.ndarray:
    """The kernel as a matrix, so that errors are relative to whole rows: entries for another example may all be small."""
    kernel = np.asarray(dense(kernel))
    rows = int(np.prod(kernel.shape[: kernel.ndim // 2]))
    return kernel.reshape(rows, -1)


def contracted(f: Callable) -> Callable:
    """J Jᵀ, [B, out, B, out], from the Jacobians by the parameters."""

    def kernel(params, x):
        jacobians = jax.tree.leaves(jax.vmap(jax.jacrev(f), (None, 0))(params, x))
        flat = (j.reshape(*j.shape[:2], -1) for j in jacobians)
        return sum(jnp.tensordot(j, j, (2, 2)) for j in flat)

    return kernel


def by_products(f: Callable) -> Callable:
    """J Jᵀ from J (Jᵀ e) for the unit vectors e of the outputs, one example and CHUNK unit vectors at a time."""

    def kernel(params, x):
        y, push = jax.linearize(lambda params: f(params, x), params)
        units = jnp.eye(y.shape[-1])

        def rows(one):
            pull = jax.vjp(lambda params: f(params, one), params)[1]
            return lax.map(lambda unit: push(*pull(unit)), units, batch_size=min(CHUNK, len(units)))

        return lax.map(rows, x)

    return kernel


def contracted_by_torch(f: Callable) -> Contender | Missing:
    def make(params, x):
        import torch

        jacobian = torch.func.vmap(torch.func.jacrev(f), (None, 0))

        def call():
            flat = (j.flatten(2) for j in jax.tree.leaves(jacobian(params, x)))
            return sum(torch.einsum("acp,bdp->acbd", j, j) for j in flat)

        return call

    return on_torch(make, as_matrix)


def kernels(network: Network, batch: int) -> dict:
    """The contenders for [B, out, B, out]: functions of (params, x)."""
    layers, plain = network.layers, network.plain
    outputs = jax.eval_shape(plain, network.params, network.inputs(batch)).size
    size = 4 * outputs * sum(leaf.size for leaf in jax.tree.leaves(network.params))
    large = Missing(f"too large: Jacobians of {size / 1e9:.0f} GB") if size > LARGE else None
    slow = None
    if len(network.shape) > 1 and jax.default_backend() == "cpu":
        slow = Missing(f"too slow on a CPU: {outputs * batch} passes through convolutions")
    return {
        "jaxnets.ntk": jitted(jn.ntk(layers), as_matrix),
        "jaxnets.ntk, plain jax.numpy": jitted(jn.ntk(plain), as_matrix),
        "contraction of vmap(jacrev)": large or jitted(contracted(plain), as_matrix),
        "NTK-vector products, jvp of vjp": slow or jitted(by_products(plain), as_matrix),
        "contraction of torch.func vmap(jacrev)": large or contracted_by_torch(network.torch),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network, batch = make(), batch * scale
        case, args = f"{network.name}, {batch}×{batch} examples", (network.params, network.inputs(batch))
        yield measure("ntk", case, kernels(network, batch), args, quick)
