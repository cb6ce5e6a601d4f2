"""Gauss-Newton products and Kronecker factors of a reference model, by jaxnets and by hand in plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxnets as jn

from .harness import jitted
from .reference_models import Model

KEY = jax.random.key(0)  # of the sample


def products(model: Model) -> dict:
    """The contenders for the product with v: functions of (params, v, inputs, targets)."""

    def by_hand(params, v, inputs, targets):
        z, push = jax.linearize(lambda params: model.logits(params, inputs), params)

        def loss(z):
            return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(z), targets[..., None], -1))

        curved = jax.jvp(jax.grad(loss), (z,), (push(v),))[1]
        return jax.linear_transpose(push, params)(curved)[0]

    return {
        "jaxnets.ggn_vector_product": jn.ggn_vector_product(model.logits, jn.cross_entropy),
        "jvp, jvp of grad, vjp": by_hand,
    }


def split(params):
    """The weights of linear layers and convolutions, and all other parameters, each with None in place of the rest.

    A weight for every word is not among them: one of its factors would be of words × words.
    """
    paths, tree = jax.tree.flatten_with_path(params)
    chosen = [getattr(path[-1], "key", None) == "w" for path, _ in paths]
    sides = [[leaf if c == side else None for c, (_, leaf) in zip(chosen, paths, strict=True)] for side in (True, False)]
    return tuple(jax.tree.unflatten(tree, side) for side in sides)


def joined(weights, rest):
    """The parameters that were split."""
    return jax.tree.map(lambda w, other: other if w is None else w, weights, rest, is_leaf=lambda leaf: leaf is None)


def factors(model: Model) -> dict:
    """The contenders for the Kronecker factors with one sample: functions of (weights, rest, inputs, targets)."""

    def ours(weights, rest, inputs, targets):
        def logits(weights, inputs):
            return model.logits(joined(weights, rest), inputs)

        return jn.kfac_factors(logits, jn.cross_entropy, samples=1, key=KEY)(weights, inputs, targets)

    return {
        "jaxnets.kfac_factors, one sample": jitted(ours, as_pairs),
        "plain JAX by hand, one sample": lambda *args: factors_by_hand(model, *args),
    }


def as_pairs(tree) -> list[tuple[np.ndarray, np.ndarray]]:
    blocks = jax.tree.leaves(tree, is_leaf=lambda k: isinstance(k, jn.Kronecker))
    return [(np.asarray(k.first), np.asarray(k.last)) for k in blocks]


def captured(model: Model, params, weights, inputs):
    """What the weights take and give: the logits, for every use of a weight its place among the leaves of `weights` and the
    rows that it takes, and a function from the logits' cotangents to those of what it gives, one for every use."""
    places = {id(w): i for i, w in enumerate(jax.tree.leaves(weights))}
    given: list = []

    def seen(layer, x, p):
        given.append(layer(x, p))
        return given[-1]

    jax.eval_shape(lambda: model.logits(params, inputs, seen))

    which: list[int] = []

    def logits(shifts):  # a shift is added to what a weight gives, so its gradient is that by the latter
        left, rows = iter(shifts), []
        which.clear()

        def use(layer, x, p):
            which.append(places[id(p["w"])])
            rows.append(input_rows(layer, x, p["w"]))
            return layer(x, p) + next(left)

        return model.logits(params, inputs, use), rows

    z, pull, rows = jax.vjp(logits, [jnp.zeros(y.shape, y.dtype) for y in given], has_aux=True)
    return z, list(zip(which, rows, strict=True)), lambda u: list(map(output_rows, pull(u)[0], rows))


def input_rows(layer, x, w):
    """The inputs of a linear layer, or the patches of a convolution, as rows."""
    if w.ndim == 2:
        return x.reshape(-1, x.shape[-1])
    k, stride = w.shape[-1], layer.keywords.get("stride", 1) if hasattr(layer, "keywords") else 1
    patches = lax.conv_general_dilated_patches(x, (k, k), (stride, stride), [(k // 2, k // 2)] * 2)
    return jnp.moveaxis(patches, 1, -1).reshape(-1, patches.shape[1])


def output_rows(v, x):
    """The same for what comes out, as many rows as x has."""
    return (jnp.moveaxis(v, 1, -1) if v.ndim == 4 else v).reshape(len(x), -1)


def factors_by_hand(model: Model, weights, rest, inputs, targets):
    """Σ V Vᵀ of the gradients V of a random combination S ε by what a weight gives, and the mean of x xᵀ of what it takes.

    A weight that is used again has the sums and the mean over all its uses.
    """
    z, uses, pull = captured(model, joined(weights, rest), weights, inputs)
    p = jax.nn.softmax(z)
    signs = jax.random.rademacher(jax.random.fold_in(KEY, 0), (*z.shape, 1), z.dtype)[..., 0]
    gradients = pull(jnp.sqrt(p) * signs - p * jnp.sum(jnp.sqrt(p) * signs, -1, keepdims=True))
    found = []
    for place in range(len(jax.tree.leaves(weights))):
        own = [(v, x) for v, (i, x) in zip(gradients, uses, strict=True) if i == place]
        found.append((sum(v.T @ v for v, _ in own), sum(x.T @ x for _, x in own) / sum(len(x) for _, x in own)))
    return found
