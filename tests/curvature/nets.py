"""Networks and programs whose curvature is known densely, and what tests of curvature compare by."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from ..autodiff.other_models import double, library, partition, split
from ..computing import close


class Draws:
    """A generator of its own: called, it gives normal numbers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape):
        return self.rng.normal(size=shape)

    def positive(self, *shape):
        return np.exp(self(*shape))

    def weights(self, *widths):
        """Weights and biases of linear layers between these widths."""
        return [(self(o, i), self(o)) for i, o in itertools.pairwise(widths)]


def same(found, expected, what="", tolerance=1e-10, least=0.0):
    """Arrays and tuples of them."""
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other, what, tolerance, least)
    else:
        close(found, expected, tolerance, what, least)


def flat(tree, lead=0):
    """A tree like the parameters as an array whose last axis are all parameters, after `lead` others."""
    return jnp.concatenate([jnp.reshape(leaf, (*jnp.shape(leaf)[:lead], -1)) for leaf in jax.tree.leaves(tree)], -1)


class Net(NamedTuple):
    """`f(params, x)`, with a second batch x2, the loss and what it takes; `every` quantity is tried, or the main ones.

    A `coupled` net has no second batch: its examples depend on each other.
    """

    name: str
    f: Callable
    params: Any
    x: Any
    x2: Any
    loss: Callable = jn.cross_entropy
    target: Any = None
    every: bool = False
    both: bool = False
    coupled: bool = False

    def __str__(self):
        return self.name


NETS: list[Net] = []


def net(name, f, params, shape, loss=jn.cross_entropy, target=None, x=None, x2=None, **facts):
    x, x2 = (r(4, *shape), r(3, *shape)) if x is None else (x, x2)
    NETS.append(Net(name, f, params, x, x2, loss, np.array([0, 1, 1, 0]) if target is None else target, **facts))


def mlp(params, x, h=jn.tanh):
    for i, (w, b) in enumerate(params):
        x = jn.linear(x if i == 0 else h(x), w, b)
    return x


def convnet(params, x):
    (k, c), (w, b) = params
    x = jn.max_pool(jn.tanh(jn.conv(x, k, c, padding=1)), kernel_size=2)
    return jn.linear(jn.flatten(x), w, b)


def attention(params, x):
    *heads, w = params
    return jn.linear(jn.mean(jn.add(x, jn.multi_head_attention(x, x, *heads, heads=2)), axis=1), w)


def embedding(params, ids):
    table, w = params
    return jn.linear(jn.mean(jn.embedding(ids, table), axis=1), w)


def residual(params, x):
    for w, b in params:
        x = jn.add(x, jn.tanh(jn.linear(x, w, b)))
    return x


def normalized(params, x):
    w, gain, shift, last = params
    return jn.linear(jn.layer_norm(jn.linear(x, w), gain, shift), last)


def coupled(params, x):
    w, last = params
    return jn.linear(jn.tanh(jn.standardize(jn.linear(x, w))), last)


def tied(w, x):
    return jn.linear(jn.tanh(jn.linear(x, w)), w)


def autoencoder(params, x):
    return jax.nn.sigmoid(x @ params["w"].T + params["in"]) @ params["w"] + params["out"]


def nested(params, x):
    (first, gain), last = params["body"], params["head"]
    return jnp.sin(gain * (x @ first["w"])) @ last + gain


def scalars(params, x):
    return jnp.tanh(params["a"] * x + params["b"]) * params["a"]


def recurrent(params, xs):
    w, u, last = params
    return jax.lax.scan(lambda h, x: (jnp.tanh(h @ u + x @ w), None), jnp.zeros((len(xs), 2)), xs.swapaxes(0, 1))[0] @ last


def no_root(y, target):
    """Unknown to us, with examples that are apart and no diagonal Hessian."""
    return jax.nn.logsumexp(y, -1) ** 2 - jnp.sum(jnp.cos(y) * target, -1)


r = Draws(5)
smoothed = functools.partial(jn.cross_entropy, label_smoothing=0.2)
net("mlp of tanh", mlp, r.weights(3, 4, 2), (3,), every=True, both=True)
net("mlp of relu", functools.partial(mlp, h=jn.relu), r.weights(3, 4, 3, 2), (3,), smoothed)
net("convnet", convnet, [(r(2, 1, 3, 3), r(2)), (r(2, 8), r(2))], (1, 4, 4))
net("attention", attention, [r(2, 2), r(2, 2), r(2, 2), r(2, 2), r(2, 2)], (3, 2))
net("embedding", embedding, (r(5, 3), r(2, 3)), None, x=r.rng.integers(5, size=(4, 3)), x2=r.rng.integers(5, size=(3, 3)))
net("residual", residual, r.weights(2, 2, 2), (2,), no_root, r(4, 2))
net("linear", lambda w, x: jn.linear(x, w), r(2, 5), (5,), no_root, r(4, 2), every=True)
net("layer_norm", normalized, [r(3, 3), r(3), r(3), r(2, 3)], (3,))
net("standardize", coupled, [r(3, 3), r(2, 3)], (3,), coupled=True)
net("tied", tied, r(3, 3), (3,), jn.squared_error, r(4, 3))
net("autoencoder", autoencoder, {"w": r(2, 3), "in": r(2), "out": r(3)}, (3,), jn.huber, r(4, 3))
net("scalars", scalars, {"a": r(), "b": r(2)}, (2,), smoothed, every=True)
net(
    "nested",
    nested,
    {"body": ({"w": r(3, 2)}, r()), "head": r(2, 2), "unused": r(2)},
    (3,),
    jn.poisson_nll,
    r.positive(4, 2),
)
net("scan", recurrent, (r(2, 2), r(2, 2), r(2, 2)), (3, 2))


def equinox_net():
    import equinox as eqx

    module = eqx.nn.MLP(3, 2, width_size=3, depth=1, activation=jnp.tanh, key=jax.random.key(0))
    return partition(module)


def flax_net():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.first, self.norm, self.last = (
                nnx.Linear(3, 3, rngs=rngs),
                nnx.LayerNorm(3, rngs=rngs),
                nnx.Linear(3, 2, rngs=rngs),
            )

        def __call__(self, x):
            return self.last(nnx.tanh(self.norm(self.first(x))))

    return split(Net(rngs=nnx.Rngs(0)))


net("equinox", equinox_net, None, (3,))
net("flax.nnx", flax_net, None, (3,))


def whole(case: Net) -> Net:
    """With the model of another library made."""
    if case.params is None:
        library(case.name)
        f, params = case.f()
        return case._replace(f=f, params=double(params))
    return case._replace(params=jax.device_put(case.params))


def compare(table, params):
    """{name: (found, expected)} from `table(params)`, in one compilation."""
    for what, pair in jax.jit(table)(params).items():
        same(*pair, what)


def layer(w, x):
    return jn.linear(x, w)
