"""`reduce`: mean, sum or nothing, with weights and masks, where nothing is left, and bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from ..computing import equal
from .comparisons import INF, NAN, both, near


def test_reduce_is_what_it_says():
    loss, w = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), np.array([[0.5], [2.0]])
    where = np.array([True, False, True])
    table = [
        ([], {}, loss.mean()),
        (["sum"], {}, 63),
        (["none"], {}, loss),
        ([], {"weights": w}, (0.5 * 7 + 2 * 56) / 7.5),
        (["sum"], {"weights": w}, 0.5 * 7 + 2 * 56),
        (["none"], {"weights": w}, loss * w),
        ([], {"where": where}, 45 / 4),
        (["sum"], {"where": where}, 45),
        (["none"], {"where": where}, loss * where),
        ([], {"weights": w, "where": where}, (0.5 * 5 + 2 * 40) / 5),
        (["batchmean"], {}, 63 / 2),
        (["batchmean"], {"weights": w}, (0.5 * 7 + 2 * 56) / 2),
        (["batchmean"], {"where": where}, 45 / 2),
        (["batchmean"], {"where": np.array([[False], [True]])}, 56),
    ]
    found = jax.jit(lambda loss: [jn.reduce(loss, *reduction, **arrays) for reduction, arrays, _ in table])(loss)
    for actual, (_, _, expected) in zip(found, table, strict=True):
        equal(actual, expected)
    equal(jn.reduce(np.float64(3.0)), 3)
    with pytest.raises(jn.ShapeError, match="reduce.*'loss'.*first axis"):
        jn.reduce(np.float64(3.0), "batchmean")


@pytest.mark.parametrize("weights", [None, np.array([2.0, 1.0, 1.0, NAN])])
@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean", "none"])
@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_what_is_masked_has_no_influence(reduction, weights, gradient):
    where = np.array([True, True, False, False])

    def total(x):
        return jnp.sum(jn.reduce(x, reduction, weights=weights, where=where))

    def alone(x):
        return jnp.sum(jn.reduce(x, reduction, weights=None if weights is None else weights[:2]))

    compute = jax.jit(lambda x: (total(x), alone(x[:2]), gradient(total)(x), jax.grad(alone)(x[:2])))
    for bad in (NAN, INF, -INF, 1e308):
        found, expected, slope, slope_alone = map(np.asarray, compute(np.array([1.0, 3.0, bad, bad])))
        equal(found, expected)
        near(slope[:2], slope_alone)
        equal(slope[2:], [0, 0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean", "none"])
@pytest.mark.parametrize("gradient", [jax.grad, jn.grad], ids=["jax", "jaxnets"])
def test_nothing_left(reduction, gradient):
    def total(x, w=None, where=None):
        return jnp.sum(jn.reduce(x, reduction, weights=w, where=where))

    x, w, nothing, second = np.array([NAN, 2.0]), np.array([0.5, 0.5]), np.zeros(2, bool), np.array([False, True])
    found = jax.jit(lambda x: (total(x, where=nothing), gradient(total)(x, where=nothing)))(x)
    equal(found[0], 0)
    equal(found[1], [0, 0])
    compute = jax.jit(lambda x, w, m: (total(x, w, m), *(gradient(total, i)(x, w, m) for i in (0, 1))))
    for weights, where in ((w, nothing), (0 * w, second)):
        found, by_x, by_weights = map(np.asarray, compute(x, weights, where))
        equal(found, 0)
        equal(by_x, [0, 0])
        equal(by_weights[~where], np.zeros(2)[~where])
        assert reduction != "mean" or not by_weights.any()
    equal(jax.jit(lambda x, y: (total(x), total(y, y)))(np.zeros((0, 3)), np.zeros(0)), [0, 0])


def test_derivative_of_a_weighted_mean_by_its_weights():
    x, w = np.array([1.0, 4.0, 7.0]), np.array([1.0, 2.0, 3.0])
    near(both(lambda w, x: jn.reduce(x, weights=w), w, x)[1], (x - 30 / 6) / 6)


def test_reduce_keeps_the_structure_of_the_loss():
    """No opaque edge, and the mean of a batch stays without numbers."""

    def structures(x, w):
        assert jn.jacobian(jn.reduce, on_opaque="error")(x).structure == "sum"
        assert jn.jacobian(lambda x: jn.reduce(x, "none"), on_opaque="error")(x).structure == "identity"
        where = np.ones((4, 1), bool)
        return jn.jacobian(lambda x, w: jn.reduce(x, weights=w, where=where), (0, 1), on_opaque="error")(x, w)

    jax.eval_shape(structures, np.ones((4, 3)), np.ones(3))


def test_reduce_adds_up_in_float32():
    @jax.jit
    def compute(ones):
        slope = jn.grad(lambda x: jn.reduce(x, weights=ones))(ones)
        weighted = [jn.reduce(x * ones, weights=w * ones) for x, w in ((1, 1), (1, 3), (2048, 32))]
        return jn.reduce(ones), slope, *weighted

    mean, slope, *weighted = compute(np.ones(2**16, "float16"))
    assert mean.dtype == slope.dtype == np.float16
    equal([mean, *weighted], [1, 1, 1, 2048])


@pytest.mark.parametrize("args, more, error, words", [
    ([np.ones(3), "max"], {}, ValueError, "reduction.*max"),
    ([np.arange(3)], {}, jn.DTypeError, "'loss'.*int64"),
    ([np.ones(3, complex)], {}, jn.DTypeError, "'loss'.*complex128"),
    ([object()], {}, jn.DTypeError, "'loss'.*object"),
    ([np.ones(3)], {"weights": np.ones(2)}, jn.ShapeError, r"'weights'.*\(2,\).*\(3,\)"),
    ([np.ones(3)], {"weights": np.ones((3, 1))}, jn.ShapeError, r"'weights'.*\(3, 1\).*\(3,\)"),
    ([np.ones(3)], {"weights": np.arange(3)}, jn.DTypeError, "'weights'.*int64"),
    ([np.ones((2, 3))], {"where": np.ones(2, bool)}, jn.ShapeError, r"'where'.*\(2,\).*\(2, 3\)"),
    ([np.ones(3)], {"where": np.ones(3)}, jn.DTypeError, "'where'.*float64.*bool"),
])  # fmt: skip
def test_bad_arguments_of_reduce(args, more, error, words):
    with pytest.raises(error, match="reduce.*" + words):
        jn.reduce(*args, **more)
