"""Complex numbers inside real functions: right, second derivatives too, and what shares axes still shares them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets

from .comparing import assert_same, both, check_that_examples_meet
from .programs import r

pytestmark = pytest.mark.filterwarnings("ignore:.*derivative is opaque")
X, PHASES, MIXING = r(5, 8), r(5) + 1j * r(5), r(8, 3) + 1j * r(8, 3)


def spectral_layer(x):
    """A Fourier layer: some modes are multiplied by weights, the others dropped."""
    modes = jnp.fft.rfft(x)
    return jnp.tanh(jnp.fft.irfft(modes.at[:, 3:].set(0) * PHASES, n=8))


EXAMPLES_STAY_APART = {
    "power": lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2,
    "spectral layer": spectral_layer,
    "twice": lambda x: jnp.real(jnp.fft.ifft(jnp.fft.fft(x) * jnp.exp(1j * x))),
    "angle": lambda x: jnp.angle(x + 1j * x**2 + 2),
    "matrix": lambda x: jnp.abs(jnp.exp(1j * x) @ MIXING),
    "sum": lambda x: jnp.real(jnp.exp(1j * x).sum(1)),
    "conjugate": lambda x: (jnp.conj(x + 1j * jnp.sin(x)) * (x * 1j + 2)).imag,
    "where": lambda x: jnp.abs(jnp.where(x > 0, x + 1j * x, 2 * x)),
    "checkpoint": jax.checkpoint(lambda x: jnp.abs(jnp.fft.rfft(x))),
}
EXAMPLES_MEET = {
    "over examples": lambda x: jnp.abs(jnp.fft.fft(x, axis=0)),
    "in a scan": lambda x: lax.scan(lambda c, u: (c * (0.5 + 0.5j) + u, (c * c).real), jnp.zeros(8) + 0j, x)[1],
    "eigenvalues": lambda x: jnp.abs(jnp.linalg.eigvals(x[:4, :4] @ x[:4, :4].T + jnp.diag(3 * jnp.arange(4.0)))),
}


@pytest.mark.parametrize("name", EXAMPLES_STAY_APART)
def test_real_functions_with_complex_values(name):
    f = EXAMPLES_STAY_APART[name]

    def loss(x):
        return jnp.sum(f(x) ** 2)

    def each(x):
        return jax.vmap(jax.jacrev(lambda v: f(v[None])[0]))(x)

    @jax.jit
    def run(x):
        ours = jaxnets.jacobian(f)(x).per_example(), jaxnets.grad(loss)(x), jaxnets.laplacian(loss)(x)
        hessian = jax.hessian(loss)(x).reshape(x.size, x.size)
        return ours, (each(x), jax.grad(loss)(x), jnp.trace(hessian))

    assert_same(*run(X), 1e-9)


@pytest.mark.parametrize("name", EXAMPLES_MEET)
def test_where_examples_meet_nothing_is_claimed(name):
    check_that_examples_meet(EXAMPLES_MEET[name], X)


def test_the_rest_of_the_function_keeps_its_structure():
    def f(w, x):
        return jnp.abs(jnp.fft.rfft(x @ w.T)) @ jnp.ones(3)

    w, x = np.ones((4, 8)), X
    j = jax.eval_shape(jaxnets.jacobian(f), w, x)
    assert j.nbytes < j.dense_nbytes
    ours = jaxnets.per_example_grads(lambda w, x: f(w, x) ** 2)
    theirs = jax.vmap(jax.grad(lambda w, x: f(w, x[None])[0] ** 2), (None, 0))
    assert_same(*both(ours, theirs)(w, x), 1e-9)
