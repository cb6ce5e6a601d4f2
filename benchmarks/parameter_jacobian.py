"""How long does the Jacobian of every example's output by the parameters take, and how many bytes, factored and dense?"""

from collections.abc import Iterator

import jax

import jaxnets as jn

from .harness import Result, is_jacobian, measure
from .networks import convnet, mlp

CASES = (  # batch, network
    (32, lambda: mlp(784, 128, 64, 10)),
    (256, lambda: mlp(64, 48, 24, 10, name="digits")),
    (16, lambda: convnet()),
)
QUICK = ((4, lambda: mlp(8, 6, 5)),)


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        args = (network.params, network.inputs(batch * scale))
        factored, plain = jn.jacobian(network.layers), jn.jacobian(network.plain)
        by_jax = {"vmap(jacrev)": jax.vmap(jax.jacrev(network.plain), (None, 0))}
        dense = {
            "jaxnets, dense": lambda params, x, f=factored: jn.dense(f(params, x)),
            "jaxnets, dense, plain jax.numpy": lambda params, x, f=plain: jn.dense(f(params, x)),
        }
        blocks = jax.tree.leaves(jax.eval_shape(factored, *args), is_leaf=is_jacobian)
        small, large = (
            f"{sum(sizes) / 1e6:.3g} MB" for sizes in zip(*((j.nbytes, j.dense_nbytes) for j in blocks), strict=True)
        )
        case = f"{network.name}, B={batch * scale}"
        yield measure("parameter_jacobian", f"{case}: dense, {large}", dense | by_jax, args, quick)
        case += f": factored, {small}, against dense"
        both = {"jaxnets, factored": factored, "jaxnets, factored, plain jax.numpy": plain} | by_jax
        yield measure("parameter_jacobian", case, both, args, quick)
