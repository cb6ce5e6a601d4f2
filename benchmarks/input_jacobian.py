"""The Jacobian of every example, of a batched function: how long, against the best of vmap(jacrev) and vmap(jacfwd)?"""

import jax

import jaxnets as jn

from .harness import measure
from .networks import dense_layers, mlp, plain_mlp, plain_residual, residual

CASES = {  # name: widths, batch, network, the same network without jaxnets
    "MLP 784-512-512-10": ((784, 512, 512, 10), 256, mlp, plain_mlp),
    "digits 64-48-24-10": ((64, 48, 24, 10), 256, mlp, plain_mlp),
    "autoencoder 784-512-32-512-784": ((784, 512, 32, 512, 784), 4, mlp, plain_mlp),
    "generator 32-512-512-784": ((32, 512, 512, 784), 32, mlp, plain_mlp),
    "residual, 20 layers of 256": ((256,) * 21, 4, residual, plain_residual),
}


def run(quick: bool):
    for case, (widths, batch, network, plain) in CASES.items():
        params = dense_layers(*widths)
        batch = 4 if quick else batch
        x = jax.random.normal(jax.random.key(1), (batch, widths[0]))
        contenders = {
            "jaxnets, batched": lambda params, x, f=network: jn.jacobian(f, 1)(params, x).per_example(),
            "jaxnets, plain jax.numpy": lambda params, x, f=plain: jn.jacobian(f, 1)(params, x).per_example(),
            "vmap(jacrev)": jax.vmap(jax.jacrev(plain, 1), (None, 0)),
            "vmap(jacfwd)": jax.vmap(jax.jacfwd(plain, 1), (None, 0)),
        }
        yield measure("input_jacobian", f"{case}, B={batch}", contenders, (params, x), 3 if quick else 40)
