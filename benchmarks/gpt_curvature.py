"""Gauss-Newton products and Kronecker factors of nanoGPT, by jaxnets and by hand in plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from . import nanogpt
from .harness import jitted

LINEAR = ("qkv", "out", "up", "down")  # the linear layers of a block
KEY = jax.random.key(0)  # of the sample


def products(heads: int) -> dict:
    """The contenders for the product with v: functions of (params, v, ids, following)."""

    def by_hand(params, v, ids, following):
        z, push = jax.linearize(lambda params: nanogpt.logits(params, ids, heads), params)

        def loss(z):
            return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(z), following[..., None], -1))

        curved = jax.jvp(jax.grad(loss), (z,), (push(v),))[1]
        return jax.linear_transpose(push, params)(curved)[0]

    def logits(params, ids):
        return nanogpt.logits(params, ids, heads)

    return {
        "jaxnets.ggn_vector_product": jn.ggn_vector_product(logits, jn.cross_entropy),
        "jvp, jvp of grad, vjp": by_hand,
    }


def split(params):
    """The weights of the blocks' linear layers, and all other parameters.

    The head has a weight for every word, so a factor of it would be of words × words.
    """
    weights = [{name: block[name]["w"] for name in LINEAR} for block in params["blocks"]]
    blocks = [{name: {"b": p["b"]} if name in LINEAR else p for name, p in block.items()} for block in params["blocks"]]
    return weights, params | {"blocks": blocks}


def joined(weights, rest):
    """The parameters that were split."""
    blocks = [
        block | {name: block[name] | {"w": own[name]} for name in LINEAR}
        for block, own in zip(rest["blocks"], weights, strict=True)
    ]
    return rest | {"blocks": blocks}


def factors(heads: int) -> dict:
    """The contenders for the Kronecker factors with one sample: functions of (weights, rest, ids, following)."""

    def ours(weights, rest, ids, following):
        def logits(weights, ids):
            return nanogpt.logits(joined(weights, rest), ids, heads)

        return jn.kfac_factors(logits, jn.cross_entropy, samples=1, key=KEY)(weights, ids, following)

    def as_pairs(tree):
        blocks = jax.tree.leaves(tree, is_leaf=lambda k: isinstance(k, jn.Kronecker))
        return [(np.asarray(k.first), np.asarray(k.last)) for k in blocks]

    return {
        "jaxnets.kfac_factors, one sample": jitted(ours, as_pairs),
        "plain JAX by hand, one sample": lambda *args: by_hand(*args, heads),
    }


def by_hand(weights, rest, ids, following, heads: int):
    """Σ V Vᵀ of the gradients V of a random combination S ε by every layer's output, and the mean of x xᵀ of its inputs."""
    params = joined(weights, rest)
    shapes = [p[name].shape[0] for p in weights for name in sorted(LINEAR)]

    def logits(shifts):  # a shift is added to each layer's output, so its gradient is that by the output
        places = {
            id(block[name]): i for i, (block, name) in enumerate((b, n) for b in params["blocks"] for n in sorted(LINEAR))
        }
        inputs: list = [None] * len(shifts)

        def affine(x, p):
            inputs[places[id(p)]] = x
            return nanogpt.affine(x, p) + shifts[places[id(p)]]

        z = nanogpt.logits(params, ids, heads, affine)
        return z, tuple(inputs)

    z, pull, inputs = jax.vjp(logits, [jnp.zeros((*ids.shape, n)) for n in shapes], has_aux=True)
    p = jax.nn.softmax(z)
    signs = jax.random.rademacher(jax.random.fold_in(KEY, 0), (*z.shape, 1), z.dtype)[..., 0]
    sampled = jnp.sqrt(p) * signs - p * jnp.sum(jnp.sqrt(p) * signs, -1, keepdims=True)
    (gradients,) = pull(sampled)
    rows = ids.size
    return [
        (jnp.einsum("bto,btp->op", v, v), jnp.einsum("bti,btj->ij", x, x) / rows)
        for v, x in zip(gradients, inputs, strict=True)
    ]
