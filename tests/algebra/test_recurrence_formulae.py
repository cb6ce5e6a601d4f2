"""The formula of a loop: it is right where it is evaluated, and its legend says what a product of steps it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnets as jn

from ..autodiff.programs import r
from .test_formulae import check

T, B, H = 4, 2, 3
W, XS, H0 = 0.7 * r(H, H), r(T, B, H), r(B, H)


def elman(w, h, xs, **options):
    return lax.scan(lambda h, u: (jnp.tanh(h @ w + u),) * 2, h, xs, **options)


def before_steps(xs):
    return lax.scan(lambda h, u: (jnp.tanh(h @ W + u), h), H0, xs)[1]


def inside_steps(xs):
    """Its readout is made of a value on the way to the state."""

    def step(h, u):
        a = jnp.sin(h @ W + u)
        return jnp.tanh(a @ W), a

    return lax.scan(step, H0, xs)[1]


def crossed(carry, xs):
    """Two arrays, each after a step made of both, and something that comes in at two values of the step."""

    def step(carry, u):
        a, b = carry
        a = jnp.tanh(a @ W + jnp.sin(b))
        return (a * u, a + b * b), a

    return lax.scan(step, carry, xs)


PROGRAMS = {
    "states by what comes in": (lambda xs: elman(W, H0, xs)[1], XS),
    "states of a loop that runs backwards": (lambda xs: elman(W, H0, xs, reverse=True)[1], XS),
    "states before a step": (before_steps, XS),
    "values inside a step": (inside_steps, XS),
    "the last state": (lambda xs: elman(W, H0, xs)[0], XS),
    "the last state by the first": (lambda h: elman(W, h, XS)[0], H0),
    "states by the first, backwards": (lambda h: elman(W, h, XS, reverse=True)[1], H0),
    "states by a weight": (lambda w: elman(w, H0, XS)[1], W),
    "one array used twice at the start": (lambda h: crossed((h, h), XS)[1], H0),
    "two arrays by what comes in": (lambda xs: crossed((H0, H0), xs)[0][1], XS),
    "one step": (lambda xs: elman(W, H0, xs)[1], XS[:1]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_formula_of_a_loop(name):
    function, x = PROGRAMS[name]
    found = jax.jit(lambda x: [jn.jacobian(function, order=order)(x) for order in ("auto", "forward", "reverse")])(x)
    assert any("R" in j.formula for j in found), found
    check(found)


def shown(function, x):
    j = jax.jit(jn.jacobian(function))(x)
    return j.formula, j.legend


def test_the_legend_says_which_product_of_steps_a_recurrence_is():
    forwards = "C[r] = ∂c[r]/∂c[r−1] [3×3], E[s] = ∂c[s]/∂u[s] [3×3]; 4 steps (scan)"
    backwards = forwards.replace("r−1", "r+1")
    by_start = "C[3]⋯C[0] with C[r] = ∂c[r]/∂c[r−1] [3×3]; 4 steps (scan)"
    by_start_backwards = "C[t]⋯C[3] with C[r] = ∂c[r]/∂c[r+1] [3×3]; 4 steps (scan)"
    expected = {
        "states by what comes in": ("∂y[t,b,i]/∂xs[j,b,k] = R₁[b,t,i,j,k]", {"R₁": f"C[t]⋯C[s+1]·E[s] with {forwards}"}),
        "states of a loop that runs backwards": (
            "∂y[t,b,i]/∂xs[j,b,k] = R₁[b,t,i,j,k]",
            {"R₁": f"C[t]⋯C[s−1]·E[s] with {backwards}"},
        ),
        "states before a step": ("∂y[t,b,i]/∂xs[j,b,k] = R₁[b,t,i,j,k]", {"R₁": f"C[t−1]⋯C[s+1]·E[s] with {forwards}"}),
        "the last state": ("∂y[b,i]/∂xs[t,b,j] = R₁[b,i,t,j]", {"R₁": f"C[3]⋯C[s+1]·E[s] with {forwards}"}),
        "the last state by the first": ("∂y[i,j]/∂h[i,k] = R⁰₁[i,j,k]", {"R⁰₁": by_start}),
        "states by the first, backwards": ("∂y[t,i,j]/∂h[i,k] = R⁰₁[i,t,j,k]", {"R⁰₁": by_start_backwards}),
    }
    for name, texts in expected.items():
        assert shown(*PROGRAMS[name]) == texts


def test_arrays_that_come_in_at_one_start_have_symbols_of_their_own():
    formula, legend = shown(lambda h: elman_and_count(h)[0][0], H0)
    assert formula.count("R⁰₁[") == formula.count("R⁰ᵇ₁[") == 1
    assert legend["R⁰₁"].startswith("columns 0–2 of C[3]⋯C[0] with C[r] = ∂c[r]/∂c[r−1] [6×6]")
    assert legend["R⁰ᵇ₁"].startswith("columns 3–5 of ")


def test_a_value_inside_of_a_step_is_made_of_the_carry_before_it():
    expected = (
        "F[t]·C[t−1]⋯C[s+1]·E[s] with F[t] = ∂y[t]/∂c[t−1] [3×3], C[r] = ∂c[r]/∂c[r−1] [3×3], "
        "E[s] = ∂c[s]/∂u[s] [3×3], ∂y[s]/∂u[s] at t = s; 4 steps (scan)"
    )
    assert list(shown(inside_steps, XS)[1].values()) == [expected]


def elman_and_count(h):
    return lax.scan(lambda c, u: ((jnp.tanh(c[1] @ W), c[0] * c[1] + u), None), (h, h), XS)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrence_is_the_product_that_its_legend_says(reverse):
    """C and E are taken from a step of plain JAX, and multiplied as the legend says."""
    before, after = np.zeros((T, B, H)), np.zeros((T, B, H))
    h = np.asarray(H0)
    for t in reversed(range(T)) if reverse else range(T):
        before[t], after[t] = h, np.tanh(h @ W + XS[t])
        h = after[t]
    slope = 1 - after**2
    c = slope[:, 0, :, None] * W.T  # ∂(after step t)/∂(before it), of example 0
    e = slope[:, 0, :, None] * np.eye(H)
    expected = np.zeros((T, H, T, H))
    for t in range(T):
        for s in range(t, T) if reverse else range(t + 1):
            product = e[s]
            between = reversed(range(t, s)) if reverse else range(s + 1, t + 1)
            for k in between:
                product = c[k] @ product
            expected[t, :, s] = product
    dense = jax.jit(lambda xs: jn.jacobian(lambda xs: elman(W, H0, xs, reverse=reverse)[1])(xs).dense())(XS)
    np.testing.assert_allclose(dense[:, 0, :, :, 0], expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 0.1
