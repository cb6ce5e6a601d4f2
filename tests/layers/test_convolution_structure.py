"""What convolutions and their Jacobians compute and what they store, and networks of them against JAX."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets

from .windows import at_once, close, conv_loop, normal


def equations(function, *args):
    """Every primitive that the function runs, with the sizes of its outputs; those of inner functions too."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name, max(math.prod(v.aval.shape) for v in equation.outvars)
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", None)
                if inner is not None:
                    yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*args).jaxpr))


def test_gradient_of_a_kernel_is_one_convolution():
    """Summed over examples inside: no kernel for every example, and no patches of x."""
    x, w = np.zeros((50, 3, 8, 8)), np.zeros((4, 3, 5, 5))
    found = equations(jaxnets.grad(lambda w: jnp.sum(jnp.square(jaxnets.conv(x, w)))), w)
    assert [name for name, _ in found].count("conv_general_dilated") == 1  # but for the forward, inside the layer
    assert max(size for _, size in found) <= x.size
    assert max(size for _, size in found) < len(x) * w.size


def test_products_are_one_convolution():
    x, w = np.zeros((50, 3, 8, 8)), np.zeros((4, 3, 5, 5))
    for a, v in ((0, x), (1, w)):
        j = jax.eval_shape(jaxnets.jacobian(jaxnets.conv, a), x, w)
        for found in (equations(lambda j, v: j @ v, j, v), equations(lambda j, u: u @ j, j, np.zeros(j.out_shape))):
            names = [name for name, _ in found]
            assert names.count("conv_general_dilated") == 1
            assert not {"dot_general", "gather"} & set(names)


def test_products_of_the_operator_itself():
    """`push` and `pull` take and give [n, g, …], a row for each of n arrays."""
    x, w, u = normal(3, 4, 5), normal(6, 2, 2), normal(3, 6, 4)

    def run(x, w, u):
        (factor,) = jaxnets.jacobian(lambda x: jaxnets.conv(x, w, groups=2))(x).terms[0].factors
        return factor.push(x.reshape(3, 2, 2, 5)), factor.pull(u.reshape(3, 2, 3, 4))

    pushed, pulled = at_once(run, x, w, u)
    assert (pushed.shape, pulled.shape) == ((3, 2, 3, 4), (3, 2, 2, 5))
    close(pushed.reshape(u.shape), conv_loop(x, w, groups=2))
    close(np.vdot(pushed, u), np.vdot(x, pulled))


def test_gradients_example_by_example():
    """They keep the batch index: a product with patches of x."""
    x, w = normal(5, 2, 6), normal(3, 2, 3)

    def losses(w):
        return jnp.sum(jnp.tanh(jaxnets.conv(x, w, stride=2, padding=1)), (1, 2))

    close(*at_once(lambda w: (jaxnets.jacobian(losses)(w).dense(), jax.jacrev(losses)(w)), w))
    names = [name for name, _ in equations(lambda w: jaxnets.jacobian(losses)(w).dense(), w)]
    assert "dot_general" in names
    assert "conv_general_dilated" not in names


def test_jacobian_by_the_input_holds_the_kernel_once():
    x, w = np.zeros((64, 3, 32, 32)), np.zeros((8, 3, 3, 3))
    by_x, by_w = jax.eval_shape(jaxnets.jacobian(lambda x, w: jaxnets.conv(x, w, padding=1), (0, 1)), x, w)
    assert by_x.nbytes == w.nbytes
    assert by_w.nbytes == x.nbytes
    assert by_x.batched


def test_kernel_of_one_entry_does_not_mix_places():
    """A network of such kernels shares the places of its input with those of its output."""
    x, v, w = normal(2, 3, 4, 5), normal(6, 3, 1, 1), normal(3, 6, 1, 1)
    j = jax.eval_shape(jaxnets.jacobian(lambda x: jaxnets.conv(jnp.tanh(jaxnets.conv(x, v)), w)), x)
    assert j.formula.startswith("∂y[b,o,p,q]/∂x[b,i,p,q]")
    assert j.nbytes < 2 * 4 * 5 * (3 * 3 + 6 + 12) * 8


def convnet(params, x):
    w1, b1, w2, b2, w3, b3 = params
    x = jaxnets.max_pool(jaxnets.relu(jaxnets.conv(x, w1, b1, padding=1)), kernel_size=2)
    x = jaxnets.avg_pool(jaxnets.tanh(jaxnets.conv(x, w2, b2, stride=2)), kernel_size=2, stride=1)
    return jaxnets.linear(jaxnets.flatten(x), w3, b3)


def test_convolutional_network():
    """Gradient, Jacobian by the input and gradients example by example are those of JAX."""
    shapes = [(3, 1, 3, 3), (3,), (4, 3, 2, 2), (4,), (2, 4), (2,)]
    params, x = [normal(*shape, seed=7) for shape in shapes], normal(3, 1, 8, 8)
    labels = np.array([0, 1, 1])

    def loss(params, x):
        return jnp.mean(jaxnets.cross_entropy(convnet(params, x), labels))

    def run(params, x):
        jacobian = jaxnets.jacobian(convnet, (0, 1))(params, x)
        assert jacobian[1].batched
        by_rules = jax.grad(jaxnets.with_rules(loss))(params, x)
        gradient, expected = jax.grad(loss)(params, x), jax.jacrev(convnet, (0, 1))(params, x)
        return [jaxnets.grad(loss)(params, x), jaxnets.dense(jacobian), by_rules], [gradient, expected, gradient]

    for a, b in zip(*map(jax.tree.leaves, at_once(run, params, x)), strict=True):
        close(a, b)


def test_several_channels_of_cotangents():
    """Products with matrices on either side keep what the other side is indexed by."""
    x, w = normal(2, 2, 5), normal(3, 2, 2)

    def run(w):
        y, by_w = jaxnets.value_and_jacobian(lambda w: jaxnets.conv(x, w))(w)
        outer = jaxnets.jacobian(lambda y: jnp.einsum("bop,mbop->m", y, normal(4, 2, 3, 4)))(y)
        inner = jaxnets.jacobian(lambda z: jnp.einsum("oikn,n->oik", normal(3, 2, 2, 6), z))(normal(6))
        products = outer @ by_w, by_w @ inner, outer @ by_w @ inner, by_w @ by_w.T, by_w.T @ by_w
        return jaxnets.dense((by_w, outer, inner, products))

    whole, outer, inner, (left, right, both, gram, other) = at_once(run, w)
    close(left, np.tensordot(outer, whole, 3))
    close(right, np.tensordot(whole, inner, 3))
    close(both, np.tensordot(np.tensordot(outer, whole, 3), inner, 3))
    close(gram, np.tensordot(whole, whole, ((3, 4, 5), (3, 4, 5))))
    close(other, np.tensordot(whole, whole, ((0, 1, 2), (0, 1, 2))))
