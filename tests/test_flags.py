"""JAX's flags for finding faults in a user's code find none in ours, and change no result."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn

from .cases import CASES, FIRST
from .computing import leaks_looked_for, nested, reals, reference, same_blocks
from .sweeps import swept

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")
LINES = list(FIRST.values())


@contextlib.contextmanager
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def values_and_jacobians(case):
    """A function from the real arguments to the outputs and the dense Jacobians."""
    wrt = tuple(range(len(case.real)))
    function = jn.value_and_jacobian(case.function(case.values()), wrt)

    def run(*real):
        outputs, jacobians = function(*real)
        return outputs, jn.dense(jacobians)

    return run


FURTHER = [pytest.param(case, marks=pytest.mark.sweep) for case in CASES if case not in LINES]


@pytest.mark.parametrize("case", [*LINES, *FURTHER], ids=str)
def test_every_layer_promotes_explicitly(case):
    with strict():
        jax.eval_shape(values_and_jacobians(case), *reals(case, case.values()))


@pytest.mark.parametrize("case", swept(LINES, 20), ids=str)
def test_no_layer_leaks_a_tracer(case):
    with leaks_looked_for():
        jax.eval_shape(values_and_jacobians(case), *reals(case, case.values()))


# --- what is made of Jacobians --------------------------------------------------------------------------------------

X, LABELS = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])
PARAMS = [np.ones(shape, np.float32) for shape in ((5, 3), (5,), (2, 5))]


def net(p, x):
    return jn.linear(jn.tanh(jn.linear(x, p[0], p[1])), p[2])


def loss(p, x, y):
    return jn.cross_entropy(net(p, x), y)


def products():
    j = jn.jacobian(jn.softmax)(X)
    return j @ X, X @ j, (j.T @ j).dense(), (j + 2 * j).dense(), j.per_example(), j.diagonal(), j.matrix()


def convolution():
    k = np.ones((2, 1, 3, 3), np.float32)
    return jn.grad(lambda k: jn.mean(jn.max_pool(jn.conv(np.ones((2, 1, 8, 8), np.float32), k, padding=1), kernel_size=2)))(
        k
    )


QUANTITIES = {
    "products": products,
    "convolution": convolution,
    "hessian of a mean": lambda: jn.dense(jn.hessian(lambda x: jn.mean(jn.tanh(x)))(X)),
    "hessian of softmax": lambda: jn.dense(jn.hessian(lambda x: jnp.sum(jn.softmax(x) ** 2))(X)),
    "laplacian": lambda: jn.laplacian(lambda x: jn.sum(net(PARAMS, x), axis=1))(X),
    "divergence": lambda: jn.divergence(jn.tanh)(X),
    "norm": lambda: jn.jacobian_norm(lambda x: net(PARAMS, x))(X),
    "ntk": lambda: jn.ntk(net)(PARAMS, X),
    "per-example gradients": lambda: jn.per_example_grads(loss)(PARAMS, X, LABELS),
    "norms of gradients": lambda: jn.per_example_grad_norms(loss)(PARAMS, X, LABELS),
    "variance": lambda: jn.gradient_variance(loss)(PARAMS, X, LABELS),
    "noise scale": lambda: jn.gradient_noise_scale(loss)(PARAMS, X, LABELS),
    "Gauss-Newton matrix": lambda: jn.ggn(net, jn.cross_entropy)(PARAMS, X, LABELS).matrix(),
    "Gauss-Newton step": lambda: jn.ggn(net, jn.cross_entropy)(PARAMS, X, LABELS).solve(PARAMS, 1.0),
    "diagonal of Gauss-Newton": lambda: jn.ggn_diagonal(net, jn.cross_entropy)(PARAMS, X, LABELS),
    "Kronecker factors": lambda: jn.kfac_factors(net, jn.cross_entropy)(PARAMS, X, LABELS),
    "diagonal of the Hessian": lambda: jn.hessian_diagonal(lambda p: jn.mean(loss(p, X, LABELS)))(PARAMS),
    "Hessian of a loss": lambda: jn.loss_hessian(jn.cross_entropy, net(PARAMS, X), LABELS).dense(),
    "rules in JAX": lambda: jax.grad(jn.with_rules(lambda p: jn.mean(loss(p, X, LABELS))))(PARAMS),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_promotes_explicitly(name):
    with strict():
        jax.eval_shape(QUANTITIES[name])


@pytest.mark.parametrize("name", swept(QUANTITIES, ["products", "norms of gradients", "Gauss-Newton step", "rules in JAX"]))
def test_no_quantity_leaks_a_tracer(name):
    with leaks_looked_for():
        jax.eval_shape(QUANTITIES[name])


def test_a_leaked_tracer_is_found():
    kept = []
    with leaks_looked_for(), pytest.raises(Exception, match="Leaked trace"):
        jax.eval_shape(lambda x: kept.append(2 * x), X)


def test_code_of_users_is_still_checked():
    @jn.layer
    def biased(x, b):
        return x + b

    try:
        with jax.numpy_rank_promotion("raise"):
            for function in (biased, jnp.add):
                with pytest.raises(ValueError, match="rank_promotion"):
                    jn.jacobian(function)(X, X[0])
    finally:
        del jn.LAYERS["biased"]


# --- what is looked for while numbers are computed ------------------------------------------------------------------

MAY_BE_NAN = ["nll", "multi_class_hinge", "cosine_embedding", "gaussian_nll", "l2_norm", "embedding"]


@pytest.mark.parametrize("case", swept(LINES, [FIRST[name] for name in MAY_BE_NAN]), ids=str)
def test_no_nan_is_written_where_none_comes_out(case):
    real, function = reals(case, case.values()), case.function(case.values())
    wrt = tuple(range(len(real)))
    with jax.debug_nans(True):
        case.call(*case.values())
        jn.dense(jn.jacobian(function, wrt)(*real))
        jax.grad(lambda *real: sum(map(jnp.sum, function(*real))), wrt)(*real)


def test_a_nan_that_comes_out_is_found():
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jax.jit(jn.gaussian_nll)(X, X, -X).block_until_ready()  # of a negative variance


@pytest.mark.parametrize("case", swept(LINES, [FIRST[name] for name in ("softmax", "nll")]), ids=str)
def test_values_without_compilation(case):
    with jax.disable_jit():
        _, found = values_and_jacobians(case)(*reals(case, case.values()))
    same_blocks(nested(case, found), reference(case), 1e-12)


@pytest.mark.parametrize("name", ["linear", "matmul", "attention", "conv"])
def test_products_have_the_precision_that_is_asked_for(name):
    case = FIRST[name]

    def products():
        text = jax.jit(values_and_jacobians(case)).lower(*reals(case, case.values())).as_text()
        return [line for line in text.splitlines() if "stablehlo.dot_general" in line or "stablehlo.convolution" in line]

    assert products() and not any("HIGHEST" in line for line in products())
    with jax.default_matmul_precision("highest"):
        assert products() and all("HIGHEST" in line for line in products())
