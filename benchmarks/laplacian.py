"""How long does the Laplacian by the input of every example take, compared with folx and the trace of jax.hessian?"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from .harness import Contender, Result, jitted, measure
from .networks import Network, mlp
from .peers import laplacian_by_folx

CASES = (  # batch, network
    (64, lambda: mlp(64, 256, 256, 256, 1, smooth=True)),
    (64, lambda: mlp(96, 512, 512, 512, 1, smooth=True)),
)
QUICK = ((4, lambda: mlp(8, 6, 5, 1, smooth=True)),)


def of_batch(answer) -> np.ndarray:
    """The Laplacians [B].  They are sums of terms with both signs, so errors are relative to the largest of the batch."""
    return np.asarray(answer)[:, 0]


def laplacians(network: Network) -> dict:
    """The contenders for [B, 1]: functions of (params, x)."""
    plain = network.plain

    def of(f: Callable) -> Contender:
        return jitted(lambda params, x: jn.laplacian(lambda x: f(params, x))(x), of_batch)

    def trace(params, x):
        return jnp.trace(jax.hessian(plain, 1)(params, x), axis1=-2, axis2=-1)

    return {
        "jaxnets.laplacian": of(network.layers),
        "jaxnets.laplacian, plain jax.numpy": of(plain),
        "vmap(folx.forward_laplacian)": laplacian_by_folx(plain, of_batch),
        "vmap(trace of jax.hessian)": jitted(jax.vmap(trace, (None, 0)), of_batch),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, network.inputs(batch * scale))
        yield measure("laplacian", f"{network.name} with tanh, B={batch * scale}", laplacians(network), args, quick)
