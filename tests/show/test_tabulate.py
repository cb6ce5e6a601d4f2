"""The table of layers: rows, dimensions, the chain, batch, and the partial table before an error."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

import jaxnets as jn
from jaxnets.show.diagram import diagram

PARAMS = [{"w": (60, 600), "b": (60,)}, {"w": (40, 60), "b": (40,)}, {"w": (10, 40), "b": (10,)}]


def shapes(tree):
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), tree, is_leaf=lambda s: isinstance(s, tuple))


def network(params, x):
    x = jn.flatten(x)
    for i, p in enumerate(params):
        x = jn.linear(x if i == 0 else jn.relu(x), p["w"], p["b"])
    return jn.log_softmax(x)


def lecture(batch=4):
    return jn.tabulate(network, shapes(PARAMS), jax.ShapeDtypeStruct((batch, 3, 10, 20), jnp.float32))


def test_a_row_a_layer_with_dimensions_and_formulae():
    rows = lecture().rows
    assert [row.layer for row in rows] == ["flatten", "linear", "relu", "linear", "relu", "linear", "log_softmax"]
    first = rows[1]
    assert first.output == (4, 60)
    assert [(b.argument, b.dims, b.formula) for b in first.states] == [("x", "[60×600]", "∂y[b,o]/∂x[b,i] = w[o,i]")]
    assert [(b.argument, b.dims) for b in first.weights] == [("w", "[60×60·600]"), ("b", "[60×60]")]
    assert [b.structure for b in rows[2].states] == ["diagonal"]
    assert not any(row.weights for row in rows if row.layer != "linear")


def test_stored_and_dense_bytes_are_of_the_arrays():
    block = lecture().rows[1].states[0]
    assert block.stored == 60 * 600 * 4
    assert block.dense == 4 * 60 * 4 * 600 * 4


@pytest.mark.parametrize("batch", [1, 4])
def test_inner_dimensions_of_the_chain_cancel(batch):
    chain = lecture(batch).chain
    assert chain == "[10×10]·[10×40]·[40×40]·[40×60]·[60×60]·[60×600]·[600×600]"
    factors = [tuple(map(int, pair)) for pair in re.findall(r"\[(\d+)×(\d+)\]", chain)]
    assert all(a[1] == b[0] for a, b in zip(factors, factors[1:], strict=False))


def test_average_loss_keeps_the_batch_axis_out_of_the_chain():
    def loss(params, x, labels):
        return jn.mean(jn.nll(network(params, x), labels))

    image, labels = jax.ShapeDtypeStruct((4, 3, 10, 20), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    table = jn.tabulate(loss, shapes(PARAMS), image, labels)
    assert table.chain.startswith("[1×1]·[1×10]·[10×10]")
    factors = [block.dims.replace("×3·10·20", "×600") for row in table.rows for block in row.states]
    assert "·".join(reversed(factors)) == table.chain  # a row says what the chain says
    assert "axis 0 is batch, of size 4" in table.batch


def test_coupled_examples_are_said_to_be():
    table = jn.tabulate(lambda x: x - jnp.mean(x, 0), jnp.ones((5, 3)))
    assert "no axis is batch" in table.batch
    assert table.rows[-1].output == (5, 3)


def test_plain_jax_numpy_is_tabulated_too():
    table = jn.tabulate(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 2)), jnp.ones((4, 3)))
    assert [row.layer for row in table.rows] == ["dot_general", "tanh"]
    assert [b.argument for b in table.rows[0].weights] == ["x2"]


def test_nothing_is_computed():
    def explode(x):
        raise AssertionError("ran")

    def f(x):
        return jax.pure_callback(explode, jax.ShapeDtypeStruct((), jnp.float32), jnp.sum(x)) * jn.tanh(x)

    assert jn.tabulate(f, jnp.ones(3, jnp.float32)).rows


def test_control_flow_on_values_needs_concrete_arguments():
    def f(x):
        return jn.tanh(x) if x.sum() > 0 else jn.relu(x)

    with pytest.raises(jax.errors.TracerBoolConversionError):
        jn.tabulate(f, jnp.ones(3))
    assert "tanh" in [row.layer for row in jn.tabulate(f, jnp.ones(3), abstract=False).rows]


def test_rows_up_to_the_failing_layer_are_printed(capsys):
    with pytest.raises(jn.ShapeError, match=r"linear: argument 'w' has shape \(60, 600\).*i = 630"):
        jn.tabulate(network, shapes(PARAMS), jax.ShapeDtypeStruct((4, 3, 10, 21), jnp.float32))
    printed = capsys.readouterr().out
    assert "flatten" in printed
    assert "linear" not in printed


def test_prints_as_text_and_json():
    table = lecture()
    text = str(table)
    assert "\x1b" not in text
    for words in ("∂y[b,o]/∂w[o,i] = x[b,i]", "rank-1 update", "chain: [10×10]", "per example"):
        assert words in text
    data = table.to_json()
    assert data["rows"][1]["states"][0]["dims"] == "[60×600]"
    assert sum(math.prod(row["output"]) for row in data["rows"]) == 4 * (600 + 60 + 60 + 40 + 40 + 10 + 10)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_width_loses_text(width):
    """Cells are folded, never cut: without spaces and borders the table says the same at every width."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(lecture())
    text = re.sub(r"[\s│]", "", capture.get())
    assert "…" not in text
    for words in ("Kronecker", "rank-1", "154kB"):
        assert words in text


# --- modules of other libraries -----------------------------------------------------------------------------------------


def linen_model(x):
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.relu(nn.Dense(4, name="up")(x)))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(Block()(x)))

    model = Net()
    return model.apply, jax.eval_shape(model.init, jax.random.key(0), x)


def nnx_model(x):
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.layers = nnx.Linear(3, 4, rngs=rngs), nnx.List([nnx.Linear(4, 2, rngs=rngs)])

        def __call__(self, x):
            return self.layers[0](nnx.relu(self.first(x)))

    return lambda net, x: net(x), Net(nnx.Rngs(0))


def equinox_model(x):
    eqx = pytest.importorskip("equinox")
    return lambda model, x: jax.vmap(model)(x), eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))


def haiku_model(x):
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))
    return model.apply, jax.eval_shape(model.init, jax.random.key(0), x)


LIBRARIES = {
    linen_model: (
        ["Net/Block_0/up", "Net/Block_0", "Net/Block_0/Dense_0", "Net/BatchNorm_0", "Net/Dense_0"],
        3 * 4 + 4 + 4 * 2 + 2 + 2 + 2 + 2 * 3 + 3,
    ),
    nnx_model: (["first", "", "layers[0]"], 3 * 4 + 4 + 4 * 2 + 2),
    equinox_model: (
        ["eqx.nn.MLP/eqx.nn.Linear, layers[0]", "eqx.nn.MLP", "eqx.nn.MLP/eqx.nn.Linear, layers[1]"],
        3 * 4 + 4 + 4 * 2 + 2,
    ),
    haiku_model: (["mlp/linear_0", "mlp", "mlp/linear_1"], 3 * 4 + 4 + 4 * 2 + 2),
}


@pytest.mark.parametrize("build", LIBRARIES, ids=lambda build: build.__name__)
def test_modules_of_other_libraries_have_their_names_and_parameters_are_counted(build):
    x = jnp.ones((5, 3), jnp.float32)
    apply, params = build(x)
    table = jn.tabulate(apply, params, x)
    modules, count = LIBRARIES[build]
    found = [row.module for row in table.rows]
    assert [name for name in dict.fromkeys(found) if name in modules] == modules, found
    assert table.parameters == count
    assert f"parameters: {count}" in str(table) and f"parameters: {count}" in table._repr_html_()
    assert all(name in str(table).replace("\n", "") for name in modules if len(name) < 25)
    assert table.to_json()["rows"][0]["module"] == modules[0]


def test_own_layers_have_the_name_of_their_scope():
    def apply(params, x):
        with jax.named_scope("block"):
            return jn.tanh(jn.linear(x, params[0]["w"]))

    table = jn.tabulate(apply, [{"w": jnp.ones((2, 3))}], jnp.ones((4, 3)))
    assert [row.module for row in table.rows] == ["block", "block"] and table.parameters == 6
    assert [row.module for row in lecture().rows] == [""] * 7 and lecture().parameters == 38_910
    assert jn.tabulate(jn.tanh, jnp.ones(3)).parameters == 0


def test_a_model_with_functions_in_it_is_shown_by_all_tables():
    function, model = equinox_model(None)
    x = jnp.ones((5, 3), jnp.float32)
    assert jn.compare(function, model, x, timed=False).ok
    assert jn.explain_plan(function, model, x).costs
    assert diagram(function, model, x).items
