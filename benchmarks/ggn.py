"""How long do the diagonal and a product of the cross-entropy's Gauss-Newton matrix take, compared with other ways?"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

import jaxnets as jn

from .gradient import labelled_batch
from .harness import Missing, Result, measure
from .networks import Network, convnet, mlp
from .peers import by_backpack, ggn_vector_by_curvlinops
from .per_example import one_gradient

CASES = (  # batch, network
    (128, lambda: mlp(784, 512, 512, 10)),
    (128, lambda: convnet()),
)
QUICK = ((4, lambda: mlp(8, 6, 5)),)
CHUNK = 16  # examples whose Jacobians are held at one time


def in_chunks(of_some: Callable) -> Callable:
    """The sum of `of_some(params, x)`, which is computed for at most CHUNK examples at a time."""

    def summed(params, x, labels):
        chunks = x.reshape(-1, math.gcd(CHUNK, len(x)), *x.shape[1:])
        start = jax.tree.map(jnp.zeros_like, params)
        return lax.scan(lambda sums, x: (jax.tree.map(jnp.add, sums, of_some(params, x)), None), start, chunks)[0]

    return summed


def by_jacobians(f: Callable) -> Callable:
    """Σ_b diag(J_bᵀ H_b J_b) from the Jacobians by the parameters, with H = diag(p) − p pᵀ."""

    def of_some(params, x):
        p = jax.nn.softmax(f(params, x))

        def of_leaf(j):
            weighted = p.reshape(*p.shape, *[1] * (j.ndim - 2)) * j
            return jnp.sum(jnp.sum(weighted * j, 1) - jnp.sum(weighted, 1) ** 2, 0)

        return jax.tree.map(of_leaf, jax.vmap(jax.jacrev(f), (None, 0))(params, x))

    return in_chunks(of_some)


def root_of_hessian(p):
    """S with S Sᵀ = diag(p) − p pᵀ, the Hessian of the cross-entropy of one example with probabilities p."""
    return jnp.diag(jnp.sqrt(p)) - p[:, None] * jnp.sqrt(p)


def by_root(f: Callable) -> Callable:
    """The same diagonal from the squares of Sᵀ J, with H = S Sᵀ."""

    def of_one(params, x):
        y, pull = jax.vjp(lambda params: f(params, x), params)
        return jax.vmap(pull, 1)(root_of_hessian(jax.nn.softmax(y)))[0]

    def of_some(params, x):
        rows = jax.vmap(of_one, (None, 0))(params, x)
        return jax.tree.map(lambda row: jnp.sum(row**2, (0, 1)), rows)

    return in_chunks(of_some)


def diagonals(network: Network) -> dict:
    """The contenders for the diagonal: functions of (params, x, labels) that return a tree like the parameters.

    H does not depend on the labels.
    """
    return {
        "jaxnets.ggn_diagonal": jn.ggn_diagonal(network.layers, jn.cross_entropy),
        "jaxnets.ggn_diagonal, plain jax.numpy": jn.ggn_diagonal(network.plain, jn.cross_entropy),
        "vmap(jacrev) and H": by_jacobians(network.plain),
        "vmap(vjp) of a root of H": by_root(network.plain),
        "BackPACK DiagGGNExact": by_backpack(network.module, "DiagGGNExact"),
    } | one_gradient(network)


def products(network: Network) -> dict:
    """The contenders for the product with v, a tree like the parameters: functions of (params, v, x, labels)."""

    def by_hand(params, v, x, labels):
        y, push = jax.linearize(lambda params: network.plain(params, x), params)

        def loss(y):
            return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(y), labels[:, None], 1))

        curved = jax.jvp(jax.grad(loss), (y,), (push(v),))[1]
        return jax.linear_transpose(push, params)(curved)[0]

    def without_v(contender):
        """A reference as a function of the same arguments."""
        if isinstance(contender, Missing):
            return contender
        return dataclasses.replace(contender, prepare=lambda params, v, x, labels: contender.prepare(params, x, labels))

    return {
        "jaxnets.ggn_vector_product": jn.ggn_vector_product(network.layers, jn.cross_entropy),
        "jaxnets.ggn_vector_product, plain jax.numpy": jn.ggn_vector_product(network.plain, jn.cross_entropy),
        "jvp, jvp of grad, vjp": by_hand,
        "curvlinops GGNLinearOperator": ggn_vector_by_curvlinops(network.module),
    } | {name: without_v(contender) for name, contender in one_gradient(network).items()}


def random_vector_like(params):
    """A random tree like the parameters."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    return jax.tree.unflatten(tree, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])


def run(quick: bool, scale: int) -> Iterator[Result]:
    for i, (batch, make) in enumerate(QUICK if quick else CASES):
        network = make()
        case, args = f"{network.name}, B={batch * scale}", (network.params, *labelled_batch(network, batch * scale))
        yield measure("ggn", f"{case}: diagonal", diagonals(network), args, quick)
        if i == 0:
            args = (network.params, random_vector_like(network.params), *args[1:])
            yield measure("ggn", f"{case}: product with a vector", products(network), args, quick)
