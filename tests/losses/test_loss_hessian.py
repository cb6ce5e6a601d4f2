"""Hessians of losses and their roots: against autodiff, at kinks, in tails, of what has no Hessian by hand."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

import jaxnets as jn
from benchmarks.oracles import ulps

from ..cases import CASES
from ..computing import equal
from ..sweeps import swept
from .comparisons import TAILS

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]
LOSSES = list(dict.fromkeys(case.name for case in CASES if "jaxnets.losses" in case.layer.forward.__module__))


def diagonals(loss, x, *others, **config):
    """The diagonals of the Hessian and of its root, from one program."""
    return compiled_diagonals(loss, tuple(config.items()))(x, *others)


@functools.cache
def compiled_diagonals(loss, config):
    return jax.jit(
        lambda *args: [jn.loss_hessian(loss, *args, root=root, **dict(config)).diagonal() for root in (False, True)]
    )


FULL = [case for case in CASES if case.name in LOSSES and case.arguments[0].shape and 0 not in case.arguments[0].shape]
ROOTLESS = {"cosine_embedding", "triplet", "focal", "dice", "info_nce", "ctc"}
WORDS = {
    **dict.fromkeys([
        "absolute_error", "quantile", "hinge", "hinge_embedding", "multilabel_margin", "nll", "kl_divergence",
        "margin_ranking", "perceptron"], "zero"),
    "squared_error": "scaled identity",
    "cross_entropy": ("rank-1 update", "factored"),
    "sparsemax_loss": "diagonal + factored",
    "multi_class_hinge": ("zero", "diagonal + factored"),
    **dict.fromkeys(
        ["huber", "smooth_l1", "log_cosh", "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin",
         "multilabel_soft_margin", "focal", "poisson_nll", "gaussian_nll"], "diagonal"),
}  # fmt: skip


@pytest.mark.parametrize("case", swept(FULL, 3), ids=str)
def test_hessian_is_that_of_autodiff(case):
    x, *others = case.values()
    if case.name == "cross_entropy" and others[1] is not None:
        others[1] = np.abs(others[1])  # with a negative weight there is no root
    v = np.random.default_rng(0).normal(size=x.shape)
    (_, *others), config = case.call_arguments([x, *others])

    @jax.jit
    def both(x):
        h = jn.loss_hessian(case.layer, x, *others, **config)
        expected = jax.hessian(lambda x: jnp.sum(case.layer(x, *others, **config)))(x)
        if h.terms and case.name in ROOTLESS:
            with pytest.raises(jn.RuleError, match=f"loss_hessian.*'{case.name}'"):
                jn.loss_hessian(case.layer, x, *others, root=True, **config)
            return h, h.dense(), expected, None
        s = jn.loss_hessian(case.layer, x, *others, root=True, **config)
        return h, h.dense(), expected, (s.matrix(), (s @ s.T).matrix(), s @ v, v @ s, s.diagonal())

    h, found, expected, root = both(x)
    assert h.shape == found.shape == x.shape * 2
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert h.structure in WORDS.get(case.name, h.structure)
    assert h.batched or not h.terms or x.ndim == (2 if case.name == "ctc" else 1)  # then it is one example
    if root:
        matrix, *products = root
        whole = matrix @ matrix.T, matrix @ np.ravel(v), np.ravel(v) @ matrix, np.diag(matrix)
        np.testing.assert_allclose(whole[0], expected.reshape(matrix.shape), atol=1e-12)
        for actual, right in zip(products, whole, strict=True):
            np.testing.assert_allclose(np.ravel(actual), np.ravel(right), atol=1e-12)


def test_names_of_the_hessian():
    def names(x):
        h, root = (jn.loss_hessian(jn.cross_entropy, x, np.array([0, 1]), root=root) for root in (False, True))
        assert h.formula == "∂g[b,i]/∂predictions[b,j] = p[b,i]·(δ(i,j) − p[b,j])"
        assert root.formula == "∂g[b,i]/∂r[b,j] = (√p[b,i]·δ(i,j) − p[b,i]·√p[b,j])"
        assert jn.loss_hessian(jn.triplet, x, x + 1, x - 1).names == ("g", "anchor")

    jax.eval_shape(names, np.ones((2, 3)))


@pytest.mark.parametrize(
    "name, config", [("huber", {"delta": 2.0}), ("smooth_l1", {"beta": 2.0}), ("smooth_l1", {"beta": 0})]
)
def test_curvature_at_kinks_is_0(name, config):
    edge = float(max(config.values()))
    x = np.array([-edge, edge, 0.0, -3.0])
    for root, found in enumerate(diagonals(jn.LAYERS[name], x, np.zeros(4), **config)):
        inside = 0 if edge == 0 else 1 if name == "huber" else 0.5**0.5 if root else 0.5
        equal(found, [0, 0, inside, 0])


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name, points, target, oracle", TAILS)
def test_tails_of_the_hessian(name, points, target, oracle, dtype):
    loss, x = jn.LAYERS[name], np.array(points, dtype)
    t = np.full(x.shape, target, dtype)
    with mpmath.workdps(60):
        exact = [oracle(mpf(float(a)))[2] for a in x]
        for found, right in zip(diagonals(loss, x, t), (exact, [mpmath.sqrt(h) for h in exact]), strict=True):
            errors = ulps(found, right, dtype)
            assert errors.max() <= 6, f"{errors.max():.3g} ULP at {x[np.argmax(errors)]}"


@pytest.mark.parametrize("name, x, t, h", [
    ("squared_error", 3.0, 1.0, 2),
    ("binary_cross_entropy", 0.0, 0.0, 1),
    ("binary_cross_entropy", 1.0, 1.0, 1),
    ("binary_cross_entropy", 0.0, 1.0, INF),
    ("binary_cross_entropy", 0.5, 1, 4),
    ("binary_cross_entropy_with_logits", INF, 1.0, 0),
    ("binary_cross_entropy_with_logits", 0.0, 1, 0.25),
    ("soft_margin", -INF, 1.0, 0),
    ("soft_margin", 0.0, -2, 1),
    ("log_cosh", 1e4, 0.0, 0),
    ("log_cosh", 0.0, 0.0, 1),
    ("poisson_nll", -INF, 0.0, 0),
    ("poisson_nll", 0.0, 3, 1),
])  # fmt: skip
def test_special_values_of_the_hessian(name, x, t, h):
    equal(diagonals(jn.LAYERS[name], np.array([x]), np.array([t])), [[h], [h**0.5]])


def test_hessian_of_counts():
    """h = t / (x + eps)², 0 where there is no count."""
    x, t = np.array([0.0, 1.0, 3.0]), np.array([0, 3, 12])
    h, root = diagonals(jn.poisson_nll, x, t, log_input=False, eps=1.0)
    np.testing.assert_allclose(h, [0, 0.75, 0.75], rtol=1e-15)
    np.testing.assert_allclose(root, [0, 0.75**0.5, 0.75**0.5], rtol=1e-15)
    equal(diagonals(jn.poisson_nll, x, t, log_input=False, eps=0.0)[0][0], 0)


def test_hessian_of_a_constant_variance():
    x = np.zeros((2, 2))
    equal(diagonals(jn.gaussian_nll, x, x, np.array([[0.0], [4.0]]), eps=0.25)[0], [[4, 4], [0.25, 0.25]])
    equal(diagonals(jn.gaussian_nll, x, x, np.array(4.0))[1], np.full((2, 2), 0.5))
    assert np.isnan(diagonals(jn.gaussian_nll, x, x, np.array(-4.0))[0]).all()


def mp_softmax(x):
    e = [mpmath.exp(mpf(float(a)) - mpf(float(max(x)))) for a in x]
    return [a / mpmath.fsum(e) for a in e]


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("logits", swept([[40, 0], [0, 25, -25], [3, 1, 2], [-30, 30, 29, 0]], 2), ids=str)
def test_hessian_of_cross_entropy_in_the_tail(logits, dtype):
    """Entries and products of H and of its root, where p − p² and p (v − ⟨p, v⟩) lose everything."""
    x, n = np.array(logits, dtype), range(len(logits))
    v = np.random.default_rng(4).normal(size=len(x)).astype(dtype)
    with mpmath.workdps(60):
        p, w = mp_softmax(logits), [mpf(float(a)) for a in v]
        others = [mpmath.fsum(b for j, b in enumerate(p) if j != i) for i in n]
        h = [[p[i] * others[i] if i == j else -p[i] * p[j] for j in n] for i in n]
        s = [[mpmath.sqrt(p[i]) * others[i] if i == j else -p[i] * mpmath.sqrt(p[j]) for j in n] for i in n]

        @jax.jit
        def compute(x, v):
            pair = [jn.loss_hessian(jn.cross_entropy, x, 1, root=root) for root in (False, True)]
            return [(j.dense(), [j.diagonal()], [j @ v], [v @ j]) for j in pair]

        for found, exact in zip(compute(x, v), (h, s), strict=True):
            expected = [
                exact,
                [[exact[i][i] for i in n]],
                [[mpmath.fsum(exact[i][k] * w[k] for k in n) for i in n]],
                [[mpmath.fsum(exact[i][k] * w[i] for i in n) for k in n]],
            ]
            for actual, right in zip(found, expected, strict=True):
                for entries, row in zip(actual, right, strict=True):
                    assert ulps(np.append(entries, [1, 1]), [*row, mpf(1), mpf(1)], dtype).max() <= 64


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_root_of_the_hessian_of_cross_entropy(dtype):
    """S √p = 0 and 1ᵀ S = 0, far below the rounding of its largest entries."""

    @jax.jit
    def compute(x):
        root, tail = jn.loss_hessian(jn.cross_entropy, x, np.array([0, 2]), root=True), jn.softmax(x)
        return jnp.ones_like(x) @ root, root @ jnp.sqrt(tail), tail

    left, right, tail = map(np.asarray, compute(np.array([[40, 0, -3], [2, 2, 1]], dtype)))
    equal(left, np.zeros((2, 3)))
    assert (np.abs(right)[0] <= 4 * np.finfo(dtype).eps * tail[0, 1:].max()).all()


def test_products_with_the_root_in_half_precision_do_not_overflow():
    @jax.jit
    def products(x, v):
        s = jn.loss_hessian(jn.cross_entropy, x, 0, root=True)
        return s @ v, v @ s

    found = products(np.zeros(2, "float16"), np.array([6e4, -6e4], "float16"))
    np.testing.assert_allclose(found, np.array([[1, -1]] * 2) * 6e4 * 0.5**0.5, rtol=1e-3)


def test_derivative_of_the_root_with_an_impossible_class():
    def entries(x):
        return jnp.sum(jnp.sin(jn.loss_hessian(jn.cross_entropy, x, 0, root=True).dense()))

    found, expected = jax.jit(lambda x: (jax.grad(entries)(x), jax.grad(entries)(x[::2])))(np.array([0.5, -INF, 1.0]))
    np.testing.assert_allclose(found, [expected[0], 0, expected[1]], rtol=1e-12)


def test_hessian_of_ignored_and_impossible_classes():
    x = np.array([[0.0, -INF, 1.0], [NAN, 1.0, 2.0], [-INF, -INF, 3.0]])

    @functools.partial(jax.jit, static_argnames="root")
    def compute(x, root):
        h = jn.loss_hessian(jn.cross_entropy, x, np.array([0, -1, 2]), ignore_index=-1, root=root)
        kept = jn.loss_hessian(jn.cross_entropy, x[0, ::2], 0, root=root)
        return h.per_example(), kept.dense(), (h @ jnp.ones((3, 3)), jnp.ones((3, 3)) @ h)

    for root in (False, True):
        whole, kept, products = compute(x, root=root)
        whole = np.asarray(whole)
        equal(whole[1], np.zeros((3, 3)))
        equal(whole[2], np.zeros((3, 3)))
        equal(whole[0, 1], np.zeros(3))
        equal(whole[0, :, 1], np.zeros(3))
        np.testing.assert_allclose(whole[0][::2, ::2], kept, rtol=1e-13)
        for product in products:
            equal(product, np.zeros((3, 3))) if not root else None
            assert np.isfinite(product).all()


@pytest.mark.parametrize("name", ["squared_error", "cross_entropy", "binary_cross_entropy_with_logits", "triplet"])
@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["float16"]))
def test_hessian_of_half_precision(name, dtype):
    rng = np.random.default_rng(5)
    args = [rng.uniform(size=(2, 4)).astype(dtype) for _ in range(3 if name == "triplet" else 2)]

    @jax.jit
    def compute(args, exact_args):
        h = jn.loss_hessian(jn.LAYERS[name], *args)
        return h, h.dense(), jn.loss_hessian(jn.LAYERS[name], *exact_args).dense()

    h, found, exact = compute(args, [a.astype("float64") for a in args])
    assert h.dtype == found.dtype == dtype
    tolerance = 4 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(found, "float64"), exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())


def test_hessian_of_any_function():
    """A composition, a plain function, a layer that is no loss; of an argument that is a NumPy array."""
    x, t = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def scaled(x, t, *, scale=1.0):
        return scale * jn.binary_cross_entropy_with_logits(jn.tanh(x), t)

    for loss, others, config in ((scaled, [t], {"scale": 3.0}), (lambda x, t: jnp.sum((x - t) ** 4, -1), [t], {}),
                                 (jn.softplus, [], {})):  # fmt: skip

        @jax.jit
        def compute(x, f=loss, a=others, c=config):
            h = jn.loss_hessian(f, x, *a, **c)
            return h, h.dense(), jax.hessian(lambda x: jnp.sum(f(x, *a, **c)))(x)

        h, found, expected = compute(x)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert h.structure == "diagonal"
    equal(jn.loss_hessian(lambda x: x**3, x).diagonal(), 6 * x)
    with pytest.raises(jn.RuleError, match="no root"):
        jn.loss_hessian(lambda x: x**3, x, root=True)
    with pytest.raises(jn.ShapeError, match="squared_error"):
        jn.loss_hessian(jn.squared_error, x, t[0])
    with pytest.raises(jn.DTypeError, match="squared_error"):
        jn.loss_hessian(jn.squared_error, np.arange(3), np.ones(3))
    with pytest.raises(TypeError, match="huber"):
        jn.loss_hessian(jn.huber, x, t, gamma=1.0)
