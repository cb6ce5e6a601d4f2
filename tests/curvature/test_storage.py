"""What curvature stores and multiplies: no gradient of an example, no Jacobian of the outputs, nothing quadratic."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from ..computing import largest
from .nets import Draws, layer, mlp, same

r = Draws(5)


def abstract(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float64)


def test_no_gradient_of_an_example_is_stored():
    params, x = [(abstract(64, 32), abstract(64)), (abstract(10, 64), abstract(10))], abstract(50, 32)

    def losses(params, x):
        return jn.cross_entropy(mlp(params, x), jnp.zeros(50, int))

    for quantity in (jn.per_example_grad_norms(losses), jn.gradient_variance(losses), jn.clip_per_example(losses, 1.0),
                     jn.gradient_noise_scale(losses)):  # fmt: skip
        assert largest(quantity, params, x) <= 50 * 64  # the values of the widest layer


def test_gradients_of_examples_are_carried_out_where_that_is_cheaper_and_small():
    """A weight [o, i] used at t places: by products of rows t²·(o + i) multiplications an example, by gradients t·o·i."""

    def losses(w, x):
        return jnp.sum(jnp.tanh(x @ w.T), (1, 2))

    def multiplies(quantity, t, o, i):
        return sum(p.multiplies for p in jn.explain_plan(quantity, abstract(o, i), abstract(7, t, i)).products)

    norms, clipped = jn.per_example_grad_norms(losses), jn.clip_per_example(losses, 1.0)
    assert multiplies(norms, 20, 8, 6) == 7 * (20 * 8 * 6 + 8 * 6)
    assert multiplies(clipped, 20, 8, 6) == 7 * (20 * 8 * 6 + 8 * 6 + 8 * 6)
    for quantity in (norms, clipped):
        assert multiplies(quantity, 2, 80, 60) < 7 * 3 * 80 * 60
        assert largest(quantity, abstract(80, 60), abstract(7, 2, 60)) == 80 * 60  # gradients of examples have 7 · 80 · 60


def test_a_weight_that_is_used_twenty_times_costs_one_product():
    def losses(w, x):
        h = jnp.zeros(x.shape[:1] + w.shape[:1])
        for t in range(x.shape[1]):
            h = jnp.tanh(x[:, t] + h @ w.T)
        return h.sum(1)

    def products(steps):
        norms = jn.per_example_grad_norms(losses)
        return len(jn.explain_plan(norms, abstract(4, 4), abstract(3, steps, 4)).products)

    assert products(20) - products(10) == 2 * 10  # what is passed back to a time: by w and by the slope of tanh
    assert products(20) - 2 * 20 <= 3
    w, x = r(4, 4), r(3, 6, 4)
    expected = jax.vmap(jax.grad(lambda w, x: losses(w, x[None])[0]), (None, 0))(w, x)
    same(jn.per_example_grad_norms(losses)(w, x), np.sqrt(np.square(expected).sum((1, 2))))


def test_no_jacobian_of_the_outputs_is_stored():
    """1000 outputs of 3 examples by 9,000 parameters would be 27 million entries."""
    params, x = [(abstract(8, 4), abstract(8)), (abstract(1000, 8), abstract(1000))], abstract(3, 4)
    assert largest(jn.ntk(mlp, "trace"), params, x) <= 9000
    assert largest(jn.ntk(mlp, "diagonal"), params, x) <= 9000
    assert largest(jn.ntk(mlp), params, x) <= 3000**2  # the kernel
    assert largest(jn.ntk(mlp, block_size=1), params, x) <= 3000**2
    squared, entropy = jn.ggn_diagonal(mlp, jn.squared_error), jn.ggn_diagonal(mlp, jn.cross_entropy)
    assert largest(squared, params, x, np.zeros((3, 1000))) <= 9000
    assert largest(entropy, params, x, np.zeros(3, int)) <= 3 * 1000**2  # roots of the Hessians


def test_fewer_outputs_than_parameters_are_solved_among_themselves():
    def both(w, x, target):
        matrix = jn.ggn(layer, jn.squared_error)(w, x, target)
        return matrix.solve(w, 1.0), matrix.logdet(1.0)

    assert largest(both, abstract(2, 500), abstract(3, 500), np.zeros((3, 2))) <= 3000  # the matrix has 1000² entries
    w, x = r(2, 3), r(3, 3)  # of equal number: no damping is needed
    found = jax.jit(lambda w: jn.ggn(layer, jn.squared_error)(w, x, x[:, :2]).logdet())(w)
    same(found, np.linalg.slogdet(2 * np.kron(np.eye(2), x.T @ x))[1])


def test_structure_of_functions_of_the_input():
    """No n×n array by entries; of rank one only in the branch that a zero needs."""
    x = abstract(2, 10**4)

    def chain(x):
        return jn.tanh(x * jnp.sin(x)) ** 2 + x

    for quantity in (jn.laplacian(chain), jn.logdet(chain), jn.divergence(chain), jn.jacobian_norm(chain)):
        assert largest(quantity, x) <= 2 * 10**4
    assert largest(jn.laplacian(jn.softmax), abstract(50, 4)) <= 50 * 4 * 4  # examples apart
    u, v, x = np.ones(64), np.ones(64), abstract(2, 64)

    def flow(x):
        return x + u * jnp.tanh(x @ v)[:, None]

    assert largest(jn.logdet(flow), x, branches=False) <= 2 * 64
    assert largest(jn.logdet(flow), x) >= 64 * 64
    assert largest(jn.logdet(lambda x: jn.linear(x, jnp.eye(64))), abstract(500, 64)) <= 500 * 64  # one determinant


def test_products_are_those_by_hand():
    """5 examples, widths 3-4-2: by gradients g1 [5,4] and g2 [5,2] the norms are Σ g² Σ x² by weights, Σ g² by biases."""
    params, x = [(abstract(4, 3), abstract(4)), (abstract(2, 4), abstract(2))], abstract(5, 3)
    plan = jn.explain_plan(jn.per_example_grad_norms(lambda p, x: jn.cross_entropy(mlp(p, x), jnp.zeros(5, int))), params, x)
    backward = 5 * 2 * 4 + 5 * 4
    first, last = (5 * 4 + 5 * 3 + 5) + 5 * 4, (5 * 2 + 5 * 4 + 5) + 5 * 2
    assert sum(product.multiplies for product in plan.products) == backward + first + last
    assert plan.products[0] == ((5, 2), (2, 4), (2,), (5, 4), 40)
    assert plan.to_json()["products"][0] == {
        "left": (5, 2), "right": (2, 4), "summed": (2,), "result": (5, 4), "multiplies": 40
    }  # fmt: skip
    assert plan.to_json()["name"] == plan.name == "per_example_grad_norms"
    assert f"products of per_example_grad_norms: {backward + first + last} multiplications" in str(plan)
    kernel = jn.explain_plan(jn.ntk(lambda w, x: jn.linear(x, w)), *jax.device_put((r(4, 3), r(5, 3))))
    assert [product.multiplies for product in kernel.products] == [5 * 3 * 5]
