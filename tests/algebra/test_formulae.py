"""Every formula parses, and evaluating it on the numbers of its symbols gives the dense Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.catalogue import catalogue
from jaxnets.layers import elementwise, piecewise

from ..cases import CASES, FIRST
from ..computing import numbers
from ..sweeps import swept
from .formulae import Parser, tolerance


def is_jacobian(x):
    return isinstance(x, jn.Jacobian)


def check(tree):
    leaves = jax.tree.leaves(tree, is_leaf=is_jacobian)
    for j, dense in zip(leaves, map(np.asarray, jax.jit(jn.dense)(leaves)), strict=True):
        formula = j.formula
        assert formula.count("(") == formula.count(")"), formula
        np.testing.assert_allclose(
            Parser(j).dense(), dense, rtol=0, atol=tolerance(formula) * max(1, np.abs(dense).max(initial=0)), err_msg=formula
        )


@pytest.mark.parametrize("case", swept(CASES, list(map(str, list(FIRST.values())[::3]))), ids=str)
def test_the_formula_of_a_layer(case):
    args = case.values()
    real = [args[i] for i in case.real]
    check(jax.jit(jn.jacobian(case.function(args), tuple(range(len(real))), on_opaque="allow"))(*real))


CHAINS = [
    ("linear(5) tanh linear(4) log_softmax", (3,)),
    ("linear(5) tanh linear(4) relu linear(2)", (3,)),
    ("linear(4) layer_norm sigmoid linear(3) softmax", (3,)),
    ("layer_norm softmax layer_norm softmax", (3,)),
    ("residual(linear(3) tanh) residual(linear(3) softplus) linear(2)", (3,)),
    ("conv(2) relu max_pool(2) flatten linear(3) log_softmax", (1, 4, 4)),
    ("conv(2) gelu conv(1) flatten linear(2)", (2, 3, 3)),
    ("linear(3) linear(3) linear(3) linear(3) linear(3) linear(3) tanh linear(2)", (3,)),
    ("softmax tanh softmax linear(2)", (4,)),
    ("linear(4) glu silu", (3,)),
]


@pytest.mark.parametrize("words, shape", swept(CHAINS, CHAINS[::2], several=True))
def test_the_formula_of_a_network(words, shape):
    model = jn.parse(words)
    x = numbers((3, *shape))

    @jax.jit
    def run():
        params = model.init(jax.random.key(1), shape, jnp.float64)
        return [jn.jacobian(model.apply, (0, 1), order=order)(params, x) for order in ("auto", "reverse")]

    check(run())


def linear(seed, out, inp, batch=3):
    return jax.jit(jn.jacobian(jn.linear))(numbers((batch, inp), 2 * seed), numbers((out, inp), 2 * seed + 1))


def test_composed_jacobians_number_what_has_one_name():
    a, b, c = linear(0, 5, 4), linear(1, 4, 2), linear(2, 2, 6)
    assert (a @ b).formula == "∂y[b,o]/∂x[b,i] = Σ_j w₂[o,j]·w₁[j,i]"
    assert (a @ (b @ c)).formula == ((a @ b) @ c).formula == "∂y[b,o]/∂x[b,i] = Σ_jk w₃[o,j]·w₂[j,k]·w₁[k,i]"
    assert (linear(3, 4, 4) + linear(4, 4, 4)).formula == "∂y[b,o]/∂x[b,i] = w₂[o,i] + w₁[o,i]"
    assert (a @ a.T).formula.count("w[") == 2  # it is one weight
    for j in (a @ b, a @ (b @ c), (a @ b).reduced(), a @ a.T, -2 / 3 * a, a + linear(5, 5, 4) * 0.1234567):
        check(j)


NETWORK = jn.parse("linear(5) tanh linear(4) tanh linear(3) log_softmax")


@jax.jit
def jacobians():
    params = NETWORK.init(jax.random.key(0), (2,))
    return jn.jacobian(NETWORK.apply, (0, 1))(params, jnp.ones((6, 2)))


def test_weights_and_slopes_are_numbered_from_the_input_in_every_jacobian_of_a_network():
    by_params, by_x = jacobians()
    assert by_x.formula.endswith("(log_softmax'·w₃·h₂'·w₂·h₁'·w₁)[b,i,j]")
    assert by_params[2]["w"].formula.endswith("·x₂[b,k]")
    x = np.ones((6, 2))
    alone = jax.jit(lambda key: jn.jacobian(lambda p: NETWORK.apply(p, x))(NETWORK.init(key, (2,))))(jax.random.key(0))
    assert "(log_softmax'·w₃·h₂'·w₂·h₁')" in alone[0]["b"].formula  # though nothing depends on w₁


def test_one_weight_has_one_name_wherever_it_is_used():
    w = np.eye(2)
    j = jax.jit(jn.jacobian(lambda x: jn.linear(jn.tanh(jn.linear(x, w)), w)))(np.ones((6, 2)))
    assert j.formula.endswith("w[o,j]·h'[b,j]·w[j,i]")


def test_the_legend_says_what_symbols_stand_for():
    by_params, by_x = jacobians()
    assert by_x.legend == {
        "log_softmax'": "δ(i,j) − p[j] with p = softmax(x)",
        "w₃": "params[4]['w']",
        "h₂'": "1 − y² (tanh)",
        "w₂": "params[2]['w']",
        "h₁'": "1 − y² (tanh)",
        "w₁": "params[0]['w']",
    }
    assert by_params[4]["w"].legend["x₃"] == "the output of tanh"
    assert str(by_x).splitlines()[1:3] == ["  log_softmax' = δ(i,j) − p[j] with p = softmax(x)", "  w₃ = params[4]['w']"]
    assert "\n" not in repr(by_x) + by_x.formula
    assert "w₃ = params[4]" in by_x._repr_html_()
    plain = jax.jit(jn.jacobian(lambda x: jnp.tanh(x @ jnp.ones((2, 3))) @ jnp.ones((3, 2))))(np.ones((6, 2)))
    assert plain.legend == {
        "x2₂": "operand 2 of dot_general",
        "tanh'": "1 − y² (tanh)",
        "x2₁": "operand 2 of dot_general",
    }
    out = jax.jit(jn.jacobian(jn.tanh))(np.ones(3))
    assert out.legend == {"h'": "1 − y²"}


ACTIVATIONS = [*elementwise.__all__, *piecewise.__all__, "dropout"]


def test_every_activation_and_loss_says_what_its_slope_is_as_its_docstring_does():
    slopes = [entry for entry in catalogue().entries if any("h'" in formula for formula in entry.formulae)]
    for entry in slopes:
        documentation = " ".join(jn.LAYERS[entry.name].__doc__.split())
        meaning = " ".join(entry.legend["h'"].split())
        assert f"h' = {meaning}" in documentation, entry.name
    assert {entry.name for entry in slopes} >= set(ACTIVATIONS) - {"identity", "swish"}


def test_a_constant_in_a_slope_has_its_meaning():
    assert jax.jit(jn.jacobian(jn.squared_error, 1))(np.ones(2), np.ones(2)).legend == {"(2e)": "2 (predictions − targets)"}


def test_an_average_says_one_over_n():
    x = np.ones((3, 4))
    j = jax.jit(jn.jacobian(jn.mean))(x)
    assert j.formula == "∂y/∂x[b,i] = 1/n" and j.legend == {"n": "12"}
    assert jax.jit(jn.jacobian(lambda x: jn.mean(x, axis=1)))(x).legend == {"n": "4"}
    assert (j * 3).formula == "∂y/∂x[b,i] = 0.25"
    assert (jax.jit(jn.jacobian(lambda x: jn.mean(x[:, :1])))(x) / 5).formula == "∂y/∂x[b,i] = 1/15·δ(i, 0)"


def jacobian_by_input(model):
    return jax.eval_shape(
        lambda key: jn.jacobian(model.apply, 1)(model.init(key, (3,)), jnp.ones((2, 3))), jax.random.key(0)
    )


def test_long_chains_and_sums_are_shortened_not_cut():
    deep = jn.parse(" ".join(["residual(linear(3) tanh)"] * 12))
    j = jacobian_by_input(deep)
    assert len(j.formula) < 1000 and j.formula.count("(") == j.formula.count(")")
    plain = jn.parse(" ".join(["linear(3)"] * 30))
    j = jacobian_by_input(plain)
    assert "(w₃₀·w₂₉·" in j.formula and "·…·" in j.formula and "·w₂)[o,j]·w₁[j,i]" in j.formula
