"""The gradient of an average loss: how long, against jax.grad?"""

import jax
import jax.numpy as jnp

import jaxnets as jn

from .harness import measure
from .networks import dense_layers, mlp, plain_mlp


def loss(params, x, labels):
    return jn.mean(jn.cross_entropy(mlp(params, x), labels))


def plain_loss(params, x, labels):
    scores = jax.nn.log_softmax(plain_mlp(params, x))
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))


def run(quick: bool):
    for widths, batch in (((784, 512, 512, 10), 64), ((784, 512, 512, 10), 256), ((64, 48, 24, 10), 256)):
        batch = 4 if quick else batch
        params = dense_layers(*widths)
        x = jax.random.normal(jax.random.key(1), (batch, widths[0]))
        labels = jnp.arange(batch) % widths[-1]
        contenders = {
            "jaxnets.grad": jn.grad(loss),
            "jaxnets.grad, plain jax.numpy": jn.grad(plain_loss),
            "jaxnets.with_rules, jax.grad": jax.grad(jn.with_rules(loss)),
            "jax.grad": jax.grad(plain_loss),
        }
        case = f"MLP {'-'.join(map(str, widths))}, B={batch}"
        yield measure("gradient", case, contenders, (params, x, labels), 3 if quick else 60)
