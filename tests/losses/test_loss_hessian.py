"""Hessians of losses and their roots: against autodiff, at kinks, in tails, of what has no Hessian by hand."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

import jaxnets as jn
from benchmarks.oracles import ulps

from ..cases import CASES
from ..sweeps import swept
from .test_losses import TAILS

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]
LOSSES = list(dict.fromkeys(case.name for case in CASES if "jaxnets.losses" in case.layer.forward.__module__))


def equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


FULL = [case for case in CASES if case.name in LOSSES and case.arguments[0].shape and 0 not in case.arguments[0].shape]
ROOTLESS = {"cosine_embedding", "triplet", "multi_class_hinge"}
WORDS = {
    **dict.fromkeys(["absolute_error", "hinge", "nll", "kl_divergence", "margin_ranking"], "zero"),
    "squared_error": "scaled identity",
    "cross_entropy": ("rank-1 update", "factored"),
    **dict.fromkeys(
        ["huber", "smooth_l1", "log_cosh", "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin",
         "poisson_nll", "gaussian_nll"], "diagonal"),
}  # fmt: skip


@pytest.mark.parametrize("case", swept(FULL, 3), ids=str)
def test_hessian_is_that_of_autodiff(case):
    x, *others = case.values()
    if case.name == "cross_entropy" and others[1] is not None:
        others[1] = jnp.abs(others[1])  # with a negative weight there is no root
    v = np.random.default_rng(0).normal(size=x.shape)

    @jax.jit
    def both(x):
        h = jn.loss_hessian(case.layer, x, *others, **case.config)
        expected = jax.hessian(lambda x: jnp.sum(case.layer(x, *others, **case.config)))(x)
        if h.terms and case.name in ROOTLESS:
            with pytest.raises(jn.RuleError, match=f"loss_hessian.*'{case.name}'"):
                jn.loss_hessian(case.layer, x, *others, root=True, **case.config)
            return h, h.dense(), expected, None
        s = jn.loss_hessian(case.layer, x, *others, root=True, **case.config)
        return h, h.dense(), expected, (s.matrix(), (s @ s.T).matrix(), s @ v, v @ s, s.diagonal())

    h, found, expected, root = both(x)
    assert h.shape == found.shape == x.shape * 2
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert h.structure in WORDS.get(case.name, h.structure)
    assert h.batched or not h.terms or x.ndim == 1
    if root:
        matrix, *products = root
        whole = matrix @ matrix.T, matrix @ np.ravel(v), np.ravel(v) @ matrix, np.diag(matrix)
        np.testing.assert_allclose(whole[0], expected.reshape(matrix.shape), atol=1e-12)
        for actual, right in zip(products, whole, strict=True):
            np.testing.assert_allclose(np.ravel(actual), np.ravel(right), atol=1e-12)


def test_names_of_the_hessian():
    x, labels = jnp.ones((2, 3)), np.array([0, 1])
    assert jn.loss_hessian(jn.cross_entropy, x, labels).formula == ("∂g[b,i]/∂predictions[b,j] = p[b,i]·(δ(i,j) − p[b,j])")
    assert jn.loss_hessian(jn.cross_entropy, x, labels, root=True).formula == (
        "∂g[b,i]/∂r[b,j] = (√p[b,i]·δ(i,j) − p[b,i]·√p[b,j])"
    )
    assert jn.loss_hessian(jn.triplet, x, x + 1, x - 1).names == ("g", "anchor")


@pytest.mark.parametrize(
    "name, config", [("huber", {"delta": 2.0}), ("smooth_l1", {"beta": 2.0}), ("smooth_l1", {"beta": 0})]
)
def test_curvature_at_kinks_is_0(name, config):
    edge = float(max(config.values()))
    x = jnp.array([-edge, edge, 0.0, -3.0])
    for root in (False, True):
        found = jn.loss_hessian(jn.LAYERS[name], x, jnp.zeros(4), root=root, **config).diagonal()
        inside = 0 if edge == 0 else 1 if name == "huber" else 0.5**0.5 if root else 0.5
        equal(found, [0, 0, inside, 0])


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
@pytest.mark.parametrize("name, points, target, oracle", TAILS)
def test_tails_of_the_hessian(name, points, target, oracle, dtype):
    loss, x = jn.LAYERS[name], np.array(points, dtype)
    t = np.full(x.shape, target, dtype)
    with mpmath.workdps(60):
        exact = [oracle(mpf(float(a)))[2] for a in x]
        for root, right in ((False, exact), (True, [mpmath.sqrt(h) for h in exact])):
            errors = ulps(jn.loss_hessian(loss, x, t, root=root).diagonal(), right, dtype)
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
    for root in (False, True):
        found = jn.loss_hessian(jn.LAYERS[name], jnp.array([x]), jnp.array([t]), root=root)
        equal(found.diagonal(), [h**0.5 if root else h])


def test_hessian_of_counts():
    """h = t / (x + eps)², 0 where there is no count."""
    x, t = jnp.array([0.0, 1.0, 3.0]), jnp.array([0, 3, 12])
    h = jn.loss_hessian(jn.poisson_nll, x, t, log_input=False, eps=1.0)
    np.testing.assert_allclose(h.diagonal(), [0, 0.75, 0.75], rtol=1e-15)
    equal(jn.loss_hessian(jn.poisson_nll, x, t, log_input=False, eps=0.0).diagonal()[0], 0)
    root = jn.loss_hessian(jn.poisson_nll, x, t, log_input=False, eps=1.0, root=True)
    np.testing.assert_allclose(root.diagonal(), [0, 0.75**0.5, 0.75**0.5], rtol=1e-15)


def test_hessian_of_a_constant_variance():
    x = jnp.zeros((2, 2))
    h = jn.loss_hessian(jn.gaussian_nll, x, x, jnp.array([[0.0], [4.0]]), eps=0.25)
    equal(h.diagonal(), [[4, 4], [0.25, 0.25]])
    equal(jn.loss_hessian(jn.gaussian_nll, x, x, jnp.array(4.0), root=True).diagonal(), np.full((2, 2), 0.5))
    assert np.isnan(jn.loss_hessian(jn.gaussian_nll, x, x, jnp.array(-4.0)).diagonal()).all()


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
        for root, exact in ((False, h), (True, s)):
            j = jn.loss_hessian(jn.cross_entropy, x, 1, root=root)
            pairs = [
                (j.dense(), exact),
                ([j.diagonal()], [[exact[i][i] for i in n]]),
                ([j @ v], [[mpmath.fsum(exact[i][k] * w[k] for k in n) for i in n]]),
                ([v @ j], [[mpmath.fsum(exact[i][k] * w[i] for i in n) for k in n]]),
            ]
            for actual, right in pairs:
                for found, row in zip(actual, right, strict=True):
                    assert ulps(np.append(found, [1, 1]), [*row, mpf(1), mpf(1)], dtype).max() <= 64


@pytest.mark.parametrize("dtype", swept(DTYPES, ["float32"]))
def test_root_of_the_hessian_of_cross_entropy(dtype):
    """S √p = 0 and 1ᵀ S = 0, far below the rounding of its largest entries."""
    x = np.array([[40, 0, -3], [2, 2, 1]], dtype)
    s = jn.loss_hessian(jn.cross_entropy, x, np.array([0, 2]), root=True)
    tail = np.asarray(jn.softmax(x))
    equal(jnp.ones_like(x) @ s, np.zeros((2, 3)))
    assert (np.abs(s @ np.sqrt(tail))[0] <= 4 * np.finfo(dtype).eps * tail[0, 1:].max()).all()


def test_products_with_the_root_in_half_precision_do_not_overflow():
    v = jnp.array([6e4, -6e4], "float16")
    s = jn.loss_hessian(jn.cross_entropy, jnp.zeros(2, "float16"), 0, root=True)
    np.testing.assert_allclose([s @ v, v @ s], np.array([[1, -1]] * 2) * 6e4 * 0.5**0.5, rtol=1e-3)


def test_derivative_of_the_root_with_an_impossible_class():
    def entries(x):
        return jnp.sum(jnp.sin(jn.loss_hessian(jn.cross_entropy, x, 0, root=True).dense()))

    x = jnp.array([0.5, -INF, 1.0])
    found, expected = jax.grad(entries)(x), jax.grad(entries)(x[::2])
    np.testing.assert_allclose(found, [expected[0], 0, expected[1]], rtol=1e-12)


def test_hessian_of_ignored_and_impossible_classes():
    x = jnp.array([[0.0, -INF, 1.0], [NAN, 1.0, 2.0], [-INF, -INF, 3.0]])
    labels = np.array([0, -1, 2])
    for root in (False, True):
        h = jn.loss_hessian(jn.cross_entropy, x, labels, ignore_index=-1, root=root)
        whole = h.per_example()
        equal(whole[1], np.zeros((3, 3)))
        equal(whole[2], np.zeros((3, 3)))
        equal(whole[0, 1], np.zeros(3))
        equal(whole[0, :, 1], np.zeros(3))
        np.testing.assert_allclose(
            whole[0][::2, ::2], jn.loss_hessian(jn.cross_entropy, x[0, ::2], 0, root=root).dense(), rtol=1e-13
        )
        for product in (h @ jnp.ones((3, 3)), jnp.ones((3, 3)) @ h):
            equal(product, np.zeros((3, 3))) if not root else None
            assert np.isfinite(product).all()


@pytest.mark.parametrize("name", ["squared_error", "cross_entropy", "binary_cross_entropy_with_logits", "triplet"])
@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["float16"]))
def test_hessian_of_half_precision(name, dtype):
    rng = np.random.default_rng(5)
    args = [jnp.asarray(rng.uniform(size=(2, 4)), dtype) for _ in range(3 if name == "triplet" else 2)]
    hessian = jax.jit(lambda *args: jn.loss_hessian(jn.LAYERS[name], *args))
    exact, h = hessian(*(a.astype("float64") for a in args)).dense(), hessian(*args)
    assert h.dtype == h.dense().dtype == dtype
    tolerance = 4 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(h.dense().astype("float64"), exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())


def test_hessian_of_any_function():
    """A composition, a plain function, a layer that is no loss; of an argument that is a NumPy array."""
    x, t = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def scaled(x, t, *, scale=1.0):
        return scale * jn.binary_cross_entropy_with_logits(jn.tanh(x), t)

    for loss, others, config in ((scaled, [t], {"scale": 3.0}), (lambda x, t: jnp.sum((x - t) ** 4, -1), [t], {}),
                                 (jn.softplus, [], {})):  # fmt: skip
        expected = jax.jit(jax.hessian(lambda x, f=loss, a=others, c=config: jnp.sum(f(x, *a, **c))))(x)
        h = jax.jit(lambda x, f=loss, a=others, c=config: jn.loss_hessian(f, x, *a, **c))(x)
        np.testing.assert_allclose(h.dense(), expected, atol=1e-12)
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
