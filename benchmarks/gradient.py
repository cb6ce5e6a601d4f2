"""How long do the gradient of an average loss and a whole training step with it take, compared with jax.grad?"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax

import jaxnets as jn

from .harness import Result, measure
from .networks import Network, convnet, mlp

CASES = (  # batch, network
    (64, lambda: mlp(784, 512, 512, 10)),
    (256, lambda: mlp(784, 512, 512, 10)),
    (256, lambda: mlp(64, 48, 24, 10, name="digits")),
    (64, lambda: convnet()),
)
QUICK = ((4, lambda: mlp(8, 6, 5)),)
ADAM = optax.adam(1e-3)


def per_example_losses(network: Network) -> tuple[Callable, Callable]:
    """The cross-entropy of every example as a function of (params, x, labels), with jaxnets' layers and in plain JAX."""

    def loss(params, x, labels):
        return jn.cross_entropy(network.layers(params, x), labels)

    def plain(params, x, labels):
        scores = jax.nn.log_softmax(network.plain(params, x))
        return -jnp.take_along_axis(scores, labels[..., None], -1)[..., 0]

    return loss, plain


def mean_losses(network: Network) -> tuple[Callable, Callable]:
    """The means of `per_example_losses`."""
    loss, plain = per_example_losses(network)
    return (lambda *args: jn.mean(loss(*args))), (lambda *args: jnp.mean(plain(*args)))


def labelled_batch(network: Network, batch: int):
    """Inputs and labels."""
    x = network.inputs(batch)
    return x, jnp.arange(batch) % network.plain(network.params, x[:1]).shape[-1]


def gradients(network: Network, ours: Callable, theirs: Callable) -> dict[str, Callable]:
    """The contenders for a gradient.  `ours` and `theirs` are `grad` or `value_and_grad`, of jaxnets and of JAX."""
    loss, plain = mean_losses(network)
    name = theirs.__name__
    return {
        f"jaxnets.{name}": ours(loss),
        f"jaxnets.{name}, plain jax.numpy": ours(plain),
        f"jaxnets.with_rules, jax.{name}": theirs(jn.with_rules(loss)),
        f"jax.{name}": theirs(plain),
    }


def training_step(value_and_grad: Callable) -> Callable:
    def step(params, x, labels, state):
        value, gradient = value_and_grad(params, x, labels)
        updates, state = ADAM.update(gradient, state)
        return value, optax.apply_updates(params, updates), state

    return step


def warm_adam_state(params):
    """Adam's state with second moments of 1; with the zeros that it begins with, it would divide rounding errors by 0."""
    moments, *rest = ADAM.init(params)
    return moments._replace(nu=jax.tree.map(jnp.ones_like, params)), *rest


def run(quick: bool, scale: int) -> Iterator[Result]:
    for batch, make in QUICK if quick else CASES:
        network = make()
        case, args = f"{network.name}, B={batch * scale}", (network.params, *labelled_batch(network, batch * scale))
        yield measure("gradient", case, gradients(network, jn.grad, jax.grad), args, quick)
        steps = gradients(network, jn.value_and_grad, jax.value_and_grad)
        steps = {name: training_step(function) for name, function in steps.items()}
        yield measure("gradient", f"training step (adam), {case}", steps, (*args, warm_adam_state(network.params)), quick)
