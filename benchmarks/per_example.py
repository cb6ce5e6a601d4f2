"""How long does the norm of every example's gradient take, compared with one gradient, JAX, torch.func and BackPACK?"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

import jaxnets as jn

from .gradient import labelled_batch, per_example_losses
from .harness import Contender, Missing, Result, measure, reference
from .networks import Network, convnet, mlp, torch_function
from .peers import by_backpack, gradient_by_torch, on_torch

CASES = (  # batch, network
    (256, lambda: mlp(784, 512, 512, 10)),
    (64, lambda: convnet()),
)
QUICK = ((4, lambda: mlp(8, 6, 5)), (2, lambda: convnet(4, (1, 2), 3, hidden=(4,))))


def one_gradient(network: Network) -> dict[str, Contender | Missing]:
    """The references: the gradient of the summed loss, by JAX and by torch."""
    plain = per_example_losses(network)[1]
    return {
        "jax.grad, one gradient": reference(jax.grad(lambda *args: jnp.sum(plain(*args)))),
        "torch, one gradient": reference(gradient_by_torch(network.module)),
    }


def vmapped_by_torch(network: Network) -> Contender | Missing:
    """The norms of the per-example gradients of torch.func."""

    def loss(params, x, label):
        return torch_function("cross_entropy", network.torch(params, x), label)

    def make(params, x, labels):
        import torch

        gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
        return lambda: norms_by_torch(jax.tree.leaves(gradients(params, x, labels)))

    return on_torch(make)


def norms_by_torch(gradients: list):
    return sum((g.flatten(1) ** 2).sum(1) for g in gradients).sqrt()


def norms(network: Network) -> dict:
    """The contenders for [B]: functions of (params, x, labels)."""
    loss, plain = per_example_losses(network)

    def vmapped(*args):
        gradients = jax.vmap(jax.grad(plain), (None, 0, 0))(*args)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(g), -1) ** 2, 1) for g in jax.tree.leaves(gradients)))

    return {
        "jaxnets.per_example_grad_norms": jn.per_example_grad_norms(loss),
        "jaxnets.per_example_grad_norms, plain jax.numpy": jn.per_example_grad_norms(plain),
        "norms of vmap(jax.grad)": vmapped,
        "norms of torch.func vmap(grad)": vmapped_by_torch(network),
        "BackPACK BatchL2Grad": by_backpack(network.module, "BatchL2Grad", lambda squares: sum(squares).sqrt()),
        "norms of BackPACK BatchGrad": by_backpack(network.module, "BatchGrad", norms_by_torch),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, *labelled_batch(network, batch * scale))
        contenders = norms(network) | one_gradient(network)
        yield measure("per_example", f"{network.name}, B={batch * scale}: norms", contenders, args, quick)
