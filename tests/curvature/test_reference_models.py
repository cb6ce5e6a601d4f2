"""Norms, Gauss-Newton products and Kronecker factors of tiny versions of the reference models, against dense float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnets as jn
from benchmarks import lstm, nanogpt, reference_models, resnet, vit
from benchmarks.model_curvature import KEY, captured, joined, split
from benchmarks.models import gradients

from ..sweeps import swept
from .nets import Draws, flat, same

MODELS = reference_models.TINY | {
    "ResNet-18, in training": lambda: reference_models.residual(
        resnet.Sizes(False, (1,), width=2, image=8, classes=3), 3, training=True
    )
}
SHORT = ["nanoGPT", "LSTM", "ResNet-18, in training"]


@functools.cache
def model_of(name):
    """In float64, and with numbers so different that neither a gradient nor a softmax is flat."""
    r = Draws(3)
    model = MODELS[name]()
    params = jax.tree.map(lambda a: np.asarray(a, np.float64) + 0.1 * r(*a.shape), model.params)
    inputs = model.inputs if model.inputs.dtype == np.int32 else np.asarray(model.inputs, np.float64)
    return model._replace(params=params, inputs=inputs, running=None)


@pytest.mark.parametrize("model, published, count", [
    (resnet, resnet.RESNET_18, 11_689_512),
    (resnet, resnet.RESNET_50, 25_557_032),
    (vit, vit.PUBLISHED, 22_050_664),
    (lstm, lstm.PUBLISHED, 19_775_200),
    (nanogpt, nanogpt.PUBLISHED, 124_475_904),
])  # fmt: skip
def test_published_sizes_have_as_many_parameters_as_published(model, published, count):
    """torchvision and timm tell those of the first three, nanoGPT that of GPT-2, here with 47 words more."""
    shapes = jax.eval_shape(lambda: model.params(published))
    assert reference_models.count(shapes) == count
    largest = model.sizes(published, 8) if model is resnet else model.sizes(8)
    assert largest == published


def hessian_of_cross_entropies(z):
    """Of their sum over all rows of logits, as a matrix over all logits."""
    p = np.exp(z - z.max(-1, keepdims=True))
    p = (p / p.sum(-1, keepdims=True)).reshape(-1, z.shape[-1])
    rows = np.eye(len(p))[:, None, :, None]
    return (rows * (p[..., None] * (np.eye(p.shape[1]) - p[:, None])).swapaxes(1, 2)[:, :, None]).reshape(z.size, z.size)


@pytest.mark.parametrize("name", swept(MODELS, SHORT))
def test_reference_models_agree_with_dense_computation(name):
    """In training batch norm mixes the examples: then J and the rows are those of all examples together."""
    model = model_of(name)
    params, inputs, targets = model.args
    theta, unravel = ravel_pytree(params)
    weights, rest = split(params)
    v = np.cos(np.arange(theta.size))

    @jax.jit
    def found(params):
        norms = jn.per_example_grad_norms(model.losses)(params, inputs, targets)
        return norms, flat(jn.ggn_vector_product(model.logits, jn.cross_entropy)(params, unravel(v), inputs, targets))

    @jax.jit
    def expected(theta):
        z = model.logits(unravel(theta), inputs)
        rows = jax.jacrev(lambda theta: model.losses(unravel(theta), inputs, targets))(theta)
        return z, jax.jacrev(lambda theta: model.logits(unravel(theta), inputs))(theta).reshape(z.size, -1), rows

    z, j, rows = jax.tree.map(np.asarray, expected(theta))
    norms, product = found(params)
    same(norms, np.linalg.norm(rows, axis=1))
    same(product, j.T @ (hessian_of_cross_entropies(z) @ (j @ v)))
    if "training" in name:
        return
    each = flat(gradients(model)(*model.args), 1)
    same(norms, np.linalg.norm(each, axis=1))

    @jax.jit
    def factors(weights):
        def logits(weights, inputs):
            return model.logits(joined(weights, rest), inputs)

        blocks = jn.kfac_factors(logits, jn.cross_entropy, samples=1, key=KEY)(weights, inputs, targets)
        return [(k.first, k.last) for k in jax.tree.leaves(blocks, is_leaf=lambda k: isinstance(k, jn.Kronecker))]

    signs = np.asarray(jax.random.rademacher(jax.random.fold_in(KEY, 0), (*z.shape, 1), z.dtype))[..., 0]
    _, uses, pull = captured(model, params, weights, inputs)
    p = np.asarray(jax.nn.softmax(z))
    root = np.sqrt(p) * signs
    gradients_of_uses = list(map(np.asarray, pull(jnp.asarray(root - p * root.sum(-1, keepdims=True)))))
    for i, (first, last) in enumerate(factors(weights)):
        own = [(g, np.asarray(x)) for g, (place, x) in zip(gradients_of_uses, uses, strict=True) if place == i]
        same(first, sum(g.T @ g for g, _ in own), f"first {i}")
        same(last, sum(x.T @ x for _, x in own) / sum(len(x) for _, x in own), f"last {i}")
