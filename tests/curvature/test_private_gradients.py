"""Clipped gradients against per-example gradients of JAX that NumPy clips and sums, and what they promise to privacy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from benchmarks import nanogpt

from ..sweeps import swept
from .nets import Draws, convnet, embedding, mlp, recurrent, same, tied

r = Draws(17)
B = 4
SIZES = nanogpt.Sizes(words=7, length=5, layers=1, heads=2, width=4)


class Case(NamedTuple):
    """A loss of a batch of one example, whose weight may be NaN, and its arguments."""

    name: str
    loss: Any
    params: Any
    batch: tuple

    def __str__(self):
        return self.name


def classified(f, cost=jn.cross_entropy):
    return lambda params, x, target, weight: jnp.mean(weight * cost(f(params, x), target))


def gpt(params, ids, following, weight):
    return jnp.mean(weight * nanogpt.losses(params, ids, following, SIZES.heads))


def doubled(tree):
    """The parameters of the GPT in float64, and so large that the softmax is not flat."""
    return jax.tree.map(lambda a: 20 * np.asarray(a, np.float64), tree)


LABELS = np.array([0, 1, 1, 0])
CASES = [
    Case("mlp", classified(mlp), r.weights(3, 4, 2), (r(B, 3), LABELS)),
    Case("convnet", classified(convnet), [(r(2, 1, 3, 3), r(2)), (r(2, 8), r(2))], (r(B, 1, 4, 4), LABELS)),
    Case("tied", classified(tied, jn.squared_error), r(3, 3), (r(B, 3), r(B, 3))),
    Case("embedding", classified(embedding), (r(5, 3), r(2, 3)), (r.rng.integers(5, size=(B, 3)), LABELS)),
    Case("scan", classified(recurrent), (r(2, 2), r(2, 2), r(2, 2)), (r(B, 3, 2), LABELS)),
    Case(
        "lstm",
        lambda params, x, weight: jnp.mean(weight * jnp.sum(jn.lstm(x, *params) ** 2, (1, 2))),
        (r(8, 3), r(8, 2), r(8)),
        (r(B, 4, 3),),
    ),
    Case("gpt", gpt, doubled(nanogpt.params(SIZES)), nanogpt.texts(SIZES, B)),
]
SHORT = {"convnet", "lstm", "gpt"}


def per_example_gradients(case, weights) -> list[np.ndarray]:
    """By JAX, each of the leaves as [B, -1]."""

    def one(*batch):
        return jax.grad(case.loss)(case.params, *(a[None] for a in batch))

    found = jax.jit(jax.vmap(one))(*case.batch, weights)
    return [np.reshape(leaf, (B, -1)) for leaf in jax.tree.leaves(found)]


def clipped_by_numpy(gradients, limits, kept, unit=False):
    """The sum over the `kept` examples, and the norms of all, of groups {limit: leaves}, as a list."""
    total, norms = [None] * len(gradients), []
    for limit, leaves in limits:
        norm = np.sqrt(sum((gradients[i] ** 2).sum(1) for i in leaves))
        factor = np.minimum(1, limit / norm) / (limit if unit and limit else 1)
        factor = 1 / norm if unit and not limit else factor
        norms.append(norm)
        for i in leaves:
            total[i] = (factor[:, None] * gradients[i])[kept].sum(0)
    return total, norms


@pytest.mark.parametrize("case", swept(CASES, SHORT), ids=str)
def test_clipped_gradients_are_those_that_numpy_clips(case):
    """All together, in two microbatches, and leaf by leaf with every norm made 1; with one example that is not finite."""
    leaves, tree = jax.tree.flatten(case.params)
    every = range(len(leaves))
    batch_argnums = tuple(range(1, len(case.batch) + 2))
    weights = r.positive(B)
    expected = per_example_gradients(case, weights)
    norm = np.sqrt(sum((g**2).sum(1) for g in expected))
    limit = float(np.median(norm))  # some are clipped, some are not
    by_leaf = [0.0 if i == 0 else float(np.median(np.linalg.norm(expected[i], axis=1))) or 1.0 for i in every]
    made = functools.partial(jn.clipped_grad, case.loss, batch_argnums=batch_argnums)
    whole = made(l2_clip_norm=limit, return_grad_norms=True, return_values=True)
    parts = made(l2_clip_norm=limit, microbatch_size=B // 2, normalize_by=3.0, return_grad_norms=True)
    units = made(l2_clip_norm=jax.tree.unflatten(tree, by_leaf), rescale_to_unit_norm=True, return_grad_norms=True)

    @jax.jit
    def found(weights, padding):
        args = (case.params, *case.batch, weights)
        return whole(*args, is_padding_example=padding), parts(*args), units(*args)

    def check(weights, kept, padding):
        (gradient, told), (of_parts, told_parts), (of_units, told_units) = found(weights, padding)
        total, (norms,) = clipped_by_numpy(expected, [(limit, every)], kept & ~padding)
        unpadded, _ = clipped_by_numpy(expected, [(limit, every)], kept)
        apart, norms_apart = clipped_by_numpy(expected, [(c, [i]) for i, c in enumerate(by_leaf)], kept, unit=True)
        for i, (leaf, part, unit) in enumerate(zip(*map(jax.tree.leaves, (gradient, of_parts, of_units)), strict=True)):
            same(leaf.ravel(), total[i], f"{i}", least=limit)
            same(part.ravel(), unpadded[i] / 3, f"{i} of microbatches", least=limit)
            same(unit.ravel(), apart[i], f"{i} by itself", least=1)
        for norms_found in (told.grad_norms, told_parts.grad_norms):
            same(norms_found[kept], norms[kept])
        for one, other in zip(jax.tree.leaves(told_units.grad_norms), norms_apart, strict=True):
            same(one[kept], other[kept])
        return told.values

    none = np.zeros(B, bool)
    values = check(weights, ~none, none)
    same(values, [case.loss(case.params, *(a[b : b + 1] for a in (*case.batch, weights))) for b in range(B)])
    bad = np.arange(B) == 2
    check(np.where(bad, np.nan, weights), ~bad, np.arange(B) == 0)
    for b in range(B):  # what one example contributes
        gradient, _ = found(weights, np.arange(B) != b)[0]
        length = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
        assert length <= limit * (1 + 1e-12)
        assert length == pytest.approx(min(limit, norm[b]))


X, W = r(3, 2), r(2, 2)


def linear_loss(w, x):
    """Of a batch; without a batch axis, of one example."""
    return jnp.sum(jnp.square(jn.linear(x, w)))


def test_limits_at_the_ends():
    """0 leaves nothing or norms of 1, ∞ changes nothing, and a gradient of zero stays what it is."""
    x = np.array([[0.0, 0.0], [1.0, 2.0]])
    g = jax.grad(linear_loss)(W, x[1:])
    nothing, norm = jnp.zeros_like(g), jnp.sqrt(jnp.sum(g**2))

    def clipped(limit, **options):
        return jn.clipped_grad(linear_loss, l2_clip_norm=limit, **options)(W, x)

    same(clipped(jnp.inf), g)
    same(clipped(0), nothing)
    same(clipped(0, rescale_to_unit_norm=True), g / norm)
    same(clipped(jnp.inf, rescale_to_unit_norm=True), nothing)
    tiny = jn.clipped_grad(linear_loss, l2_clip_norm=0, rescale_to_unit_norm=True)(1e-180 * W, x)
    assert jnp.linalg.norm(tiny) <= 1  # its square is 0 in float64
    same(jax.jit(clipped)(-1.0), nothing)  # a limit that is computed cannot be refused
    same(jn.clip_per_example(lambda w, x: jnp.sum(jnp.square(jn.linear(x, w)), 1), jnp.inf)(W, x)[0], g)


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e200])
def test_examples_that_are_not_finite_are_left_out_whole(broken):
    """NaN in the data, and numbers whose product is too large; without `nan_safe`, NaN is seen in the sum."""
    x = np.array([[1.0, 2.0], [broken, 1.0]])
    g = jax.grad(linear_loss)(W, x[:1])

    def clipped(**options):
        return jn.clipped_grad(linear_loss, l2_clip_norm=jnp.inf, **options)(W, x)

    same(clipped(), g)
    same(clipped(microbatch_size=1), g)
    assert np.isfinite(clipped(nan_safe=False)).all() == (broken == 1e200)
    padded = jn.clipped_grad(linear_loss, l2_clip_norm=jnp.inf, nan_safe=False)
    same(padded(W, x, is_padding_example=np.array([False, True])), g)


def test_places_that_cancel_are_clipped_enough():
    """Nor may rounding let an example through: its norm, a millionth of its parts, is found as 0 or many times too large."""
    x = r(B, 2, 64)
    x[:, 1] = x[:, 0] + 1e-6 * x[:, 1]
    x, sign, w = jnp.asarray(100 * x, jnp.float32), jnp.array([[1.0], [-1.0]], jnp.float32), jnp.ones((64, 64), jnp.float32)

    def loss(w, x):
        return jnp.sum(sign * jn.linear(x[0], w))

    limit = 1e-3
    clipped = jax.jit(jn.clipped_grad(loss, l2_clip_norm=limit, return_grad_norms=True))
    exact = 8 * np.linalg.norm(np.diff(np.asarray(x, np.float64), axis=1)[:, 0], axis=1)
    for b in range(B):
        gradient, told = clipped(w, x, is_padding_example=np.arange(B) != b)
        assert np.linalg.norm(gradient) <= limit
    assert np.any(told.grad_norms < exact / 2)  # so this is a test


def test_a_batch_norm_cannot_carry_one_example_into_another():
    """What an example contributes does not depend on the others, even where the loss of a batch couples them."""

    def loss(w, x):
        return jnp.sum(jnp.tanh(jn.linear(x, w) - jnp.mean(jn.linear(x, w), 0) + x))

    clipped = jn.clipped_grad(loss, l2_clip_norm=1.0)
    alone = sum(clipped(W, X[b : b + 1]) for b in range(len(X)))
    same(clipped(W, X), alone)


def test_arguments_are_those_of_jax_privacy():
    """Several arguments to differentiate by, keywords, auxiliary outputs, groups of examples, and the dtype."""

    def loss(shift, x, w, *, power):
        y = jnp.abs(jn.linear(x + shift, w)) ** power
        return jnp.sum(y), {"y": y, "sum": jnp.sum(x)}

    shift = r(2)
    options = {"argnums": (2, 0), "has_aux": True, "l2_clip_norm": jnp.inf, "return_values": True}
    (by_w, by_shift), told = jax.jit(functools.partial(jn.clipped_grad(loss, **options), power=3))(shift, X, W)
    expected = jax.grad(lambda w, shift: loss(shift, X, w, power=3)[0], (0, 1))(W, shift)
    same((by_w, by_shift), expected)
    assert told.grad_norms is None
    assert told.aux["y"].shape == (3, 2)
    same(told.aux["sum"], X.sum(1))
    (values, aux), gradient = jn.value_and_clipped_grad(loss, has_aux=True, l2_clip_norm=jnp.inf)(shift, X, W, power=3)
    same((values, aux["y"], gradient), (told.values, told.aux["y"], expected[1]))

    users = r(3, 4, 2)  # of four examples each
    grouped = jn.clipped_grad(linear_loss, l2_clip_norm=1.0, keep_batch_dim=False, return_grad_norms=True)(W, users)
    by_user = jax.vmap(jax.grad(linear_loss), (None, 0))(W, users)
    norms = np.linalg.norm(by_user.reshape(3, -1), axis=1)
    same(grouped[1].grad_norms, norms)
    same(grouped[0], np.einsum("u,uoi->oi", 1 / np.maximum(norms, 1), by_user))

    narrow = jn.clipped_grad(linear_loss, l2_clip_norm=1.0)(W.astype(jnp.bfloat16), X.astype(jnp.bfloat16))
    wide = jn.clipped_grad(linear_loss, l2_clip_norm=1.0, dtype=jnp.float32)(W.astype(jnp.bfloat16), X)
    assert (narrow.dtype, wide.dtype) == (jnp.bfloat16, jnp.float32)
    model = {"w": W, "f": jnp.tanh}  # what is no array has no gradient
    assert jn.clipped_grad(lambda m, x: jnp.sum(m["f"](x @ m["w"])), l2_clip_norm=1.0)(model, X)["f"] is None


def test_sensitivity():
    """That of one example that is there or not; another example in its place changes the sum by twice as much."""

    def bound(**options):
        return jn.clipped_grad(linear_loss, **options).l2_norm_bound

    assert bound(l2_clip_norm=2.0, normalize_by=4.0) == 0.5
    assert bound(l2_clip_norm=(3.0, {"a": 4.0})) == 5
    assert bound(l2_clip_norm=(3.0, 4.0, 0.0, 1.0), rescale_to_unit_norm=True, normalize_by=2.0) == 1
    clipped = jn.clipped_grad(linear_loss, l2_clip_norm=2.0)
    assert (clipped.sensitivity(), clipped.sensitivity("replace_one")) == (2, 4)
    moved = np.linalg.norm(clipped(W, X) - clipped(W, X[:-1]))
    assert 0 < moved <= clipped.sensitivity("add_or_remove_one") * (1 + 1e-12)
