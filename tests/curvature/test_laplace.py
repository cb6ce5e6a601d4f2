"""Laplace's approximation of a classifier, for every structure and subset, against dense matrices of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.special import log_softmax, logsumexp

import jaxnets as jn

from ..computing import close
from ..sweeps import swept
from .nets import Draws

r = Draws(29)
PARAMS = [{"w": r(4, 3), "b": r(4)}, (), {"w": r(3, 4), "b": r(3)}]
X, AT, LABELS, PRIOR, SCALE = r(30, 3), r(5, 3), np.arange(30) % 3, 0.7, 1.3
SUBSETS = {  # and the leaves that they hold, in JAX's order
    "all": (None, [0, 1, 2, 3]),
    "last layer": ("last_layer", [2, 3]),
    "weights": ([{"w": True, "b": False}, (), {"w": True, "b": False}], [1, 3]),
}
CASES = [(structure, subset) for structure in ("full", "kfac", "ekfac") for subset in SUBSETS]


def network(params, x):
    hidden = jn.tanh(jn.linear(x, params[0]["w"], params[0]["b"]))
    return jn.log_softmax(jn.linear(hidden, params[2]["w"], params[2]["b"]))


def by_numpy(x):
    """The output y `[b,k]`, and for every layer its inputs `[b,i]` and ∂y/∂(its outputs) `[b,k,o]`."""
    hidden = np.tanh(x @ PARAMS[0]["w"].T + PARAMS[0]["b"])
    y = log_softmax(hidden @ PARAMS[2]["w"].T + PARAMS[2]["b"], 1)
    last = np.eye(3) - np.exp(y)[:, None]
    return y, [(x, last @ PARAMS[2]["w"] * (1 - hidden**2)[:, None]), (hidden, last)]


def dense_rows(layers):
    """The Jacobian by the bias and the weights of every layer, `[b,k,p]` each."""
    rows = []
    for inputs, v in layers:
        rows += [v, np.einsum("bko,bi->bkoi", v, inputs).reshape(*v.shape[:2], -1)]
    return rows


def dense_curvature(structure, leaves):
    """The Gauss-Newton matrix of the chosen leaves in this structure."""
    y, layers = by_numpy(X)
    p = np.exp(y)
    hessians = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None]
    values, vectors = np.linalg.eigh(hessians)
    root = np.sqrt(SCALE * np.maximum(values, 0))[:, None] * vectors  # H = S Sᵀ
    curved = [(inputs, np.einsum("bkr,bko->bro", root, v)) for inputs, v in layers]
    if structure == "full":
        rows = dense_rows(curved)
        whole = np.concatenate([rows[i] for i in leaves], 2).reshape(-1, sum(rows[i].shape[2] for i in leaves))
        return whole.T @ whole
    blocks = []
    for inputs, v in curved:
        first, last = np.einsum("bro,brp->op", v, v), inputs.T @ inputs / len(inputs)
        of_weights = np.kron(first, last)
        if structure == "ekfac":
            basis = np.kron(np.linalg.eigh(first)[1], np.linalg.eigh(last)[1])
            rows = np.einsum("bro,bi->broi", v, inputs).reshape(-1, len(basis))
            of_weights = basis * np.square(rows @ basis).sum(0) @ basis.T
        blocks += [first, of_weights]
    return block_diag(*[blocks[i] for i in leaves])


def evidence(precision, matrix, squares):
    """log p(targets) for a prior precision."""
    y, _ = by_numpy(X)
    total = -SCALE * y[np.arange(len(X)), LABELS].sum()
    logdet = np.linalg.slogdet(matrix + precision * np.eye(len(matrix)))[1]
    return -total - precision * squares / 2 + len(matrix) / 2 * np.log(precision) - logdet / 2


@pytest.mark.parametrize(
    "structure, subset", swept(CASES, [("full", "all"), ("kfac", "last layer"), ("ekfac", "weights")], several=True)
)
def test_posterior_predictive_and_evidence(structure, subset):
    given, leaves = SUBSETS[subset]
    make = jn.laplace(network, jn.nll, prior_precision=PRIOR, scale=SCALE, structure=structure, subset=given)

    @jax.jit
    def run(params, x, labels, at):
        posterior = make(params, x, labels)
        best = posterior.with_best_prior()
        found = posterior.covariance(at), posterior.covariance_of_each_example(at), posterior.variance(at)
        return *found, posterior.log_probabilities(at), posterior.log_evidence(), best.prior_precision, best.log_evidence()

    whole, each, variance, predicted, found_evidence, best, best_evidence = run(PARAMS, X, LABELS, AT)
    matrix = dense_curvature(structure, leaves)
    y, layers = by_numpy(AT)
    rows = dense_rows(layers)
    rows = np.concatenate([rows[i] for i in leaves], 2)
    covariance = np.einsum("bkp,pq,clq->bkcl", rows, np.linalg.inv(matrix + PRIOR * np.eye(len(matrix))), rows)
    own = np.einsum("bkbl->bkl", covariance)
    tight = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(whole, covariance, **tight)
    np.testing.assert_allclose(each, own, **tight)
    np.testing.assert_allclose(variance, np.einsum("bkk->bk", own), **tight)
    expected = np.zeros((5, 3))
    for b, k in np.ndindex(5, 3):  # MacKay's moderation of every difference of two classes
        kappa = [1 / np.sqrt(1 + np.pi / 8 * (own[b, k, k] + own[b, j, j] - 2 * own[b, k, j])) for j in range(3)]
        expected[b, k] = 1 / sum(np.exp(kappa[j] * (y[b, j] - y[b, k])) for j in range(3))
    np.testing.assert_allclose(predicted, np.log(expected / expected.sum(1, keepdims=True)), **tight)
    squares = sum(np.sum(np.square(jax.tree.leaves(PARAMS)[i])) for i in leaves)
    np.testing.assert_allclose(found_evidence, evidence(PRIOR, matrix, squares), **tight)
    np.testing.assert_allclose(best_evidence, evidence(best, matrix, squares), **tight)
    others = [evidence(best * factor, matrix, squares) for factor in (1e-3, 0.5, 0.99, 1.01, 2, 1e3)]
    assert best_evidence > max(others)


def test_where_outputs_are_fewer_than_parameters():
    """The same in output space: the kernel of two examples, and the eigenvalues that are zero left out."""
    make = jn.laplace(network, jn.nll, prior_precision=PRIOR)

    def run(params, x, labels, at):
        posterior = make(params, x, labels)
        return posterior.matrix.matrix(), posterior.covariance_of_each_example(at), posterior.with_best_prior()

    matrix, each, best = jax.jit(run)(PARAMS, X[:2], LABELS[:2], AT)
    rows = np.concatenate(dense_rows(by_numpy(AT)[1]), 2)
    inverse = np.linalg.inv(np.asarray(matrix) + PRIOR * np.eye(len(matrix)))
    np.testing.assert_allclose(each, np.einsum("bkp,pq,blq->bkl", rows, inverse, rows), rtol=1e-10, atol=1e-10)
    squares = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(PARAMS))
    values, t = np.linalg.eigvalsh(matrix), best.prior_precision
    np.testing.assert_allclose(t * squares, np.sum(values / (values + t)), rtol=1e-8)  # MacKay's condition


def test_samples_agree_with_the_softmax_of_normal_logits():
    make = jn.laplace(network, jn.nll, prior_precision=PRIOR, structure="kfac")
    posterior = jax.jit(make)(PARAMS, X, LABELS)

    @jax.jit
    def run(posterior, key):
        return posterior.log_probabilities(AT, samples=20_000, key=key), posterior.covariance_of_each_example(AT)

    found, covariance = run(posterior, jax.random.key(0))
    y, _ = by_numpy(AT)
    rng = np.random.default_rng(0)
    for b in range(5):
        drawn = rng.multivariate_normal(y[b], covariance[b], 20_000, method="eigh")
        np.testing.assert_allclose(np.exp(found[b]), np.exp(log_softmax(drawn, 1)).mean(0), atol=0.01)
    np.testing.assert_allclose(logsumexp(found, axis=1), 0, atol=1e-12)
    near = jax.jit(lambda posterior: posterior.log_probabilities(AT))(posterior)
    assert np.abs(np.exp(near) - np.exp(found)).max() < 0.05
    assert np.abs(np.exp(y) - np.exp(found)).max() > 0.05  # the posterior matters here


def test_logits_and_log_probabilities_have_the_same_predictive():
    """The softmax forgets a number that is added to all logits, and so does its average."""

    def logits(params, x):
        return jn.linear(jn.tanh(jn.linear(x, params[0]["w"], params[0]["b"])), params[2]["w"], params[2]["b"])

    def run(params):
        both = (logits, jn.cross_entropy), (network, jn.nll)
        made = [jn.laplace(f, loss, prior_precision=PRIOR, structure="kfac")(params, X, LABELS) for f, loss in both]
        return [posterior.log_probabilities(AT) for posterior in made]

    close(*jax.jit(run)(PARAMS))


def test_two_classes_are_mackays():
    w, x, labels = r(2, 3), r(6, 3), np.arange(6) % 2

    def run(w):
        posterior = jn.laplace(lambda w, x: jn.linear(x, w), jn.cross_entropy, prior_precision=PRIOR)(w, x, labels)
        return posterior.log_probabilities(AT), posterior.covariance_of_each_example(AT)

    found, covariance = jax.jit(run)(w)
    z = AT @ w.T
    variance = np.einsum("k,bkl,l->b", [-1, 1], covariance, [-1, 1])
    expected = 1 / (1 + np.exp(-(z[:, 1] - z[:, 0]) / np.sqrt(1 + np.pi / 8 * variance)))
    np.testing.assert_allclose(np.exp(found[:, 1]), expected, rtol=1e-10)


def test_another_prior_and_none():
    posterior = jax.jit(jn.laplace(network, jn.nll, prior_precision=PRIOR, structure="ekfac"))(PARAMS, X, LABELS)
    assert posterior.with_prior(2.0).prior_precision == 2.0
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    zero = jax.jit(jn.laplace(network, jn.nll, prior_precision=PRIOR, structure="ekfac"))(nothing, X, LABELS)
    assert np.isnan(zero.with_best_prior().prior_precision)
    assert repr(posterior).startswith("Posterior(normal, 31 parameters, precision BlockDiagonal([EigenKronecker([4] ⊗ [1]")


@pytest.mark.parametrize("structure", ["full", "kfac", "ekfac"])
def test_influence_and_self_influence(structure):
    damping = 0.3

    @jax.jit
    def run(params, x, labels, at):
        own = jn.self_influence(network, jn.nll, damping=damping, structure=structure, scale=SCALE)(params, x, labels)
        return own, jn.influence(network, jn.nll, damping=damping, structure=structure)(params, at, x, labels)

    own, moved = run(PARAMS, X, LABELS, AT)
    y, layers = by_numpy(X)
    gradients = -np.concatenate(dense_rows(layers), 2)[np.arange(len(X)), LABELS]
    matrix = dense_curvature(structure, [0, 1, 2, 3])
    solved = np.linalg.solve(matrix + damping * np.eye(len(matrix)), gradients.T)
    np.testing.assert_allclose(own, np.einsum("bp,pb->b", gradients, solved), rtol=1e-10)
    solved = np.linalg.solve(matrix / SCALE + damping * np.eye(len(matrix)), gradients.T)
    rows = np.concatenate(dense_rows(by_numpy(AT)[1]), 2)
    np.testing.assert_allclose(moved, np.einsum("bkp,pn->bkn", rows, solved), rtol=1e-9, atol=1e-10)


def fit(params=PARAMS, f=network, **options):
    return jn.laplace(f, jn.nll, **{"prior_precision": PRIOR} | options)(params, X, LABELS)


BAD = [
    (lambda: fit(structure="diagonal"), ValueError, r"laplace: structure must be one of \('full', 'kfac', 'ekfac'\)"),
    (lambda: fit(subset="first"), ValueError, "laplace: subset must be None, 'last_layer' or a tree"),
    (lambda: fit(subset=[True, 1, True]), TypeError, "laplace: subset must hold True and False, got 1"),
    (lambda: fit(subset=[True, False]), jn.ShapeError, "laplace: subset must be a prefix of params"),
    (lambda: fit(subset=False), ValueError, "laplace: subset must not be empty, got False"),
    (lambda: fit({"w": X}, subset="last_layer"), TypeError, "laplace: subset 'last_layer' is for params that are a list"),
    (lambda: fit().with_prior(0.0), ValueError, "with_prior: prior_precision must be positive, got 0.0"),
    (lambda: fit().log_probabilities(AT, samples=0), ValueError, "log_probabilities: samples must be at least 1"),
    (lambda: fit().log_probabilities(AT, samples=3), TypeError, "log_probabilities: key must be a key of jax.random"),
    (lambda: fit().log_probabilities(AT, key=jax.random.key(0)), TypeError, "log_probabilities: samples must be an integer"),
    (lambda: jn.self_influence(network, jn.nll, damping=0.0), ValueError, "self_influence: damping must be positive"),
    (lambda: jn.self_influence(network, jn.nll, damping=1.0, structure="x"), ValueError, "self_influence: structure must"),
    (lambda: jn.influence(network, jn.nll, damping=1.0, structure="x"), ValueError, "influence: structure must be one of"),
]


@pytest.mark.parametrize("call, error, message", BAD, ids=[message for *_, message in BAD])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_probabilities_need_classes():
    posterior = jn.laplace(lambda w, x: (x @ w)[:, 0], jn.squared_error, prior_precision=1.0)(r(3, 1), X, r(30))
    with pytest.raises(jn.ShapeError, match=r"log_probabilities: f must return \[B, classes\], got shape \(5,\)"):
        posterior.log_probabilities(AT)
