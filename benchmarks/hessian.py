"""How long does the Hessian of a loss by every example's input and by the last weights take, compared with jax.hessian?"""

from collections.abc import Iterator

import jax

import jaxnets as jn

from .gradient import labelled_batch, mean_losses, per_example_losses
from .harness import Result, measure
from .networks import Network, mlp

CASES = (  # batch, network
    (64, lambda: mlp(64, 48, 24, 10, name="digits", smooth=True)),
    (16, lambda: mlp(256, 128, 64, 10, smooth=True)),
)
QUICK = ((4, lambda: mlp(8, 6, 5, smooth=True)),)


def by_input(network: Network) -> dict:
    """The contenders for [B, in, in]: functions of (params, x, labels)."""

    loss, plain = per_example_losses(network)

    def batched(params, x, labels):
        return jn.loss_hessian(lambda x: loss(params, x, labels), x).per_example()

    def of_one(params, x, label):
        return jn.hessian(loss, 1)(params, x, label).dense()

    each = (None, 0, 0)
    return {
        "jaxnets.loss_hessian, batched": batched,
        "jaxnets.hessian, vmapped": jax.vmap(of_one, each),
        "vmap(jax.hessian)": jax.vmap(jax.hessian(plain, 1), each),
        "vmap(jacrev(jacrev))": jax.vmap(jax.jacrev(jax.jacrev(plain, 1), 1), each),
    }


def by_last_weights(network: Network) -> dict:
    """The contenders for [out, in, out, in] of the mean loss: functions of (w, params, x, labels)."""

    def of_last(loss):
        def of_weights(w, params, x, labels):
            *before, (_, b) = params
            return loss([*before, (w, b)], x, labels)

        return of_weights

    loss, plain = map(of_last, mean_losses(network))
    return {
        "jaxnets.hessian": lambda *args: jn.hessian(loss)(*args).dense(),
        "jaxnets.hessian, plain jax.numpy": lambda *args: jn.hessian(plain)(*args).dense(),
        "jax.hessian": jax.hessian(plain),
        "jacrev(jacrev)": jax.jacrev(jax.jacrev(plain)),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, *labelled_batch(network, batch * scale))
        case = f"{network.name} with tanh, B={batch * scale}"
        yield measure("hessian", f"{case}, by the input", by_input(network), args, quick)
        args = (network.params[-1][0], *args)
        yield measure("hessian", f"{case}, by the last weights", by_last_weights(network), args, quick)
