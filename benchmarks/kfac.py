"""How long do exact Kronecker factors of the cross-entropy's Gauss-Newton matrix take, compared with BackPACK and JAX?"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from .ggn import root_of_hessian
from .gradient import labelled_batch
from .harness import Result, jitted, measure, reference
from .networks import Network, mlp
from .peers import by_backpack
from .per_example import one_gradient

CASES = ((128, lambda: mlp(784, 512, 512, 10)),)  # batch, network
QUICK = ((4, lambda: mlp(8, 6, 5)),)


def normalised_factors(pairs) -> list[tuple[np.ndarray, np.ndarray]]:
    """Factors of the same products, the second of them with trace 1, because libraries put 1/B into different factors."""
    found = []
    for first, *rest in pairs:
        last = np.asarray(rest[0]) if rest else np.ones((1, 1), np.float32)
        found.append((np.asarray(first) * np.trace(last), last / np.trace(last)))
    return found


def factors_of_ours(tree) -> list:
    return normalised_factors(
        (k.first, k.last) for k in jax.tree.leaves(tree, is_leaf=lambda k: isinstance(k, jn.Kronecker))
    )


def by_hand(params, x, labels):
    """The factors of an MLP with ReLU: Σ_b V Vᵀ of gradients and the mean of x xᵀ for weights; only the first for biases."""
    inputs = []

    def logits(shifts):  # a shift is added to each layer's output, so its gradient is that by the output
        inputs.clear()
        y = x
        for i, ((w, b), shift) in enumerate(zip(params, shifts, strict=True)):
            inputs.append(y if i == 0 else jax.nn.relu(y))
            y = inputs[-1] @ w.T + b + shift
        return y, tuple(inputs)

    y, pull, seen = jax.vjp(logits, [jnp.zeros((len(x), len(b))) for _, b in params], has_aux=True)
    root = jax.vmap(root_of_hessian)(jax.nn.softmax(y))
    (gradients,) = jax.vmap(pull)(jnp.moveaxis(root, 2, 0))
    found = []
    for v, z in zip(gradients, seen, strict=True):
        first = jnp.einsum("rbo,rbp->op", v, v)
        found += [(first, z.T @ z / len(x)), (first,)]
    return found


def factors(network: Network) -> dict:
    """The contenders for the factors of every array of parameters: functions of (params, x, labels)."""

    def with_curvature(f: Callable):
        return jitted(jn.kfac_factors(f, jn.cross_entropy), factors_of_ours)

    return {
        "jaxnets.kfac_factors": with_curvature(network.layers),
        "jaxnets.kfac_factors, plain jax.numpy": with_curvature(network.plain),
        "plain JAX by hand": jitted(by_hand, normalised_factors),
        "BackPACK KFLR": by_backpack(network.module, "KFLR", as_numpy=normalised_factors),
        **one_gradient(network),
        "BackPACK KFAC, one sample": reference(by_backpack(network.module, "KFAC")),  # another answer: Monte Carlo
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, *labelled_batch(network, batch * scale))
        case = f"{network.name}, B={batch * scale}: factors"
        # where a row of V nearly cancels, every library is left with few digits: errors of 1e-5 of its size in float32
        yield measure("kfac", case, factors(network), args, quick, 1e-4)
