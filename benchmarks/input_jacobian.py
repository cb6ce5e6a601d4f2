"""How long does the Jacobian of a batched function by every example's input take, compared with JAX, torch and others?"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

import jaxnets as jn

from .harness import Contender, Missing, Result, jitted, measure
from .networks import Network, attention, convnet, elementwise, mlp, residual
from .peers import by_asdex, by_sparsejac, by_torch

CASES = (  # batch, network
    (256, lambda: mlp(784, 512, 512, 10)),
    (64, lambda: mlp(2048, 512, 128, 10)),
    (256, lambda: mlp(64, 48, 24, 10, name="digits")),
    (4, lambda: mlp(784, 512, 32, 512, 784, name="autoencoder")),
    (32, lambda: mlp(32, 512, 512, 784, name="generator")),
    (4, lambda: residual(50, 128)),
    (16, lambda: convnet()),
    (4, lambda: attention()),
)
QUICK = ((2, lambda: convnet(4, (1, 2), 3)), (2, lambda: attention(2, 4, 2)))
DENSE = 10**4  # numbers in an elementwise chain whose dense Jacobian still fits: 400 MB


def jacobians(network: Network) -> dict[str, Callable]:
    """The contenders in JAX for the Jacobians [B, *out, *in]: functions of (params, x)."""
    layers, plain = network.layers, network.plain
    return {
        "jaxnets, batched": per_example(layers),
        "jaxnets, vmapped": jax.vmap(lambda params, x: jn.jacobian(layers, 1)(params, x).dense(), (None, 0)),
        "jaxnets, plain jax.numpy": per_example(plain),
        "vmap(jacrev)": jax.vmap(jax.jacrev(plain, 1), (None, 0)),
        "vmap(jacfwd)": jax.vmap(jax.jacfwd(plain, 1), (None, 0)),
    }


def torch_jacobians(network: Network) -> dict:
    modes = ("jacrev", "jacfwd") if network.torch else ()
    return {f"torch.func vmap({mode})": by_torch(network.torch, mode) for mode in modes}


def per_example(function):
    return lambda params, x: jn.jacobian(function, 1)(params, x).per_example()


def diagonals(network: Network) -> dict:
    """The contenders for the diagonal of an elementwise function's Jacobian, which is all of it that is not zero."""
    plain, n = network.plain, network.shape[0]

    def dense(transform) -> Contender | Missing:
        if n > DENSE:
            return Missing(f"too large: {4 * n * n / 1e9:.0f} GB")
        return jitted(transform(plain, 1), jnp.diagonal)

    return {
        "jaxnets, diagonal": lambda params, x: jn.jacobian(network.layers, 1)(params, x).diagonal(),
        "jaxnets, plain jax.numpy": lambda params, x: jn.jacobian(plain, 1)(params, x).diagonal(),
        "jacrev, dense": dense(jax.jacrev),
        "jacfwd, dense": dense(jax.jacfwd),
        # XLA may see through the matrix, and somebody who knows that it is diagonal needs only one product
        "diagonal of jacrev": lambda params, x: jnp.diagonal(jax.jacrev(plain, 1)(params, x)),
        "jvp of ones, structure known": lambda params, x: jax.jvp(lambda x: plain(params, x), (x,), (jnp.ones_like(x),))[1],
        "asdex": by_asdex(plain),
        "sparsejac": by_sparsejac(plain),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, network.inputs(batch * scale))
        contenders = jacobians(network) | torch_jacobians(network)
        yield measure("input_jacobian", f"{network.name}, B={batch * scale}", contenders, args, quick)
    for n in (100,) if quick else (10**4, 10**5, 10**6):
        network = elementwise(n)
        yield measure("input_jacobian", network.name, diagonals(network), (network.params, network.inputs(1)[0]), quick)
