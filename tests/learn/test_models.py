"""Models as pairs of functions, against NumPy, and their descriptions in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets import DTypeError, ShapeError, SpecError, models
from jaxnets.learn import spec
from jaxnets.learn.data import digits, split

from ..sweeps import swept


def made(text, shape=(8,), batch=3):
    model = spec.parse(text)
    params = jax.jit(lambda key: model.init(key, shape, jnp.float64))(jax.random.key(0))
    return model, params, jax.jit(model.apply)(params, jnp.ones((batch, *shape)))


def test_a_description_is_the_network_it_says():
    model, params, y = made("linear(6) relu linear(4) log_softmax")
    x = np.ones((3, 8))
    hidden = np.maximum(x @ np.asarray(params[0]["w"]).T, 0) @ np.asarray(params[2]["w"]).T
    expected = hidden - np.log(np.exp(hidden).sum(1, keepdims=True))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert model.output_shape((8,)) == (4,)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 6 * 8 + 6 + 4 * 6 + 4


def test_residual_adds_its_input():
    _, params, y = made("residual(linear(8) tanh)")
    w = np.asarray(params[0][0]["w"])
    np.testing.assert_allclose(y, 1 + np.tanh(np.ones((3, 8)) @ w.T), rtol=1e-12)


def test_images_are_flattened():
    assert made("flatten linear(5)", (3, 4, 2))[2].shape == (3, 5)


def test_sequences_of_indices():
    """`embedding` takes rows of its table, and the recurrent models begin as in PyTorch."""
    model = spec.parse("embedding(5, 3) lstm(4) gru(2) each_step(linear(6))")
    x = np.array([[0.0, 4.0, 2.0]])
    params = model.init(jax.random.key(0), (3,))
    rows = models.embedding(5, 3).apply(params[0], x)
    np.testing.assert_array_equal(rows, np.asarray(params[0]["table"])[[[0, 4, 2]]])
    assert model.apply(params, x).shape == (1, 3, 6) == (1, *model.output_shape((3,)))
    assert [len(params[i]["w_hh"]) for i in (1, 2)] == [16, 6]
    for leaf in jax.tree.leaves(params[1]):
        assert 0.3 < float(jnp.abs(leaf).max()) <= 0.5


def test_weights_are_kaiming_normal_and_biases_zero():
    params = models.linear(500).init(jax.random.key(1), (400,), jnp.float64)
    assert params["w"].shape == (500, 400)
    assert abs(float(jnp.var(params["w"])) * 400 / 2 - 1) < 0.02
    assert not params["b"].any()


# --- every builder against NumPy ----------------------------------------------------------------------------------


def affine(p, x):
    return x @ np.asarray(p["w"]).T + np.asarray(p["b"])


def convolved(p, x):
    """A sum over the places of the kernel, each a shifted image."""
    w, b = np.asarray(p["w"]), np.asarray(p["b"])
    size, (height, width) = w.shape[-1], x.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)])
    shifted = [
        np.einsum("bihw,oi->bohw", padded[:, :, m : m + height, n : n + width], w[:, :, m, n])
        for m in range(size)
        for n in range(size)
    ]
    return sum(shifted) + b[:, None, None]


def pooled(x, n=2):
    b, c, h, w = x.shape
    return x[:, :, : h // n * n, : w // n * n].reshape(b, c, h // n, n, w // n, n).max((3, 5))


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def rnn(p, x):
    """One step after the other."""
    w_ih, w_hh, b_ih, b_hh = (np.asarray(p[name]) for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    h, found = np.zeros((len(x), len(w_hh))), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
        found.append(h)
    return np.stack(found, 1)


def convnet(p, x):
    x = pooled(relu(convolved(p[3], pooled(relu(convolved(p[0], x))))))
    *_, hidden, last = [q for q in p if q]
    return log_softmax(affine(last, relu(affine(hidden, x.reshape(len(x), -1)))))


def residual_mlp(p, x):
    x = affine(p[0], x)
    for block in p[1:3]:
        x = x + affine(block[2], relu(affine(block[0], x)))
    return log_softmax(affine(p[3], x))


BUILDERS = {  # model, the shape of an input, of a prediction, and the same in NumPy
    "linear": (models.linear(3), (4,), (3,), affine),
    "linear without bias": (models.linear(3, bias=False), (4,), (3,), lambda p, x: x @ np.asarray(p["w"]).T),
    "conv": (models.conv(2), (3, 5, 4), (2, 5, 4), convolved),
    "conv of 5×5": (models.conv(2, 5), (1, 4, 6), (2, 4, 6), convolved),
    "plain": (models.plain("tanh"), (2, 3), (2, 3), lambda p, x: np.tanh(x)),
    "flatten": (models.plain("flatten"), (2, 3, 2), (12,), lambda p, x: x.reshape(len(x), -1)),
    "max_pool": (models.max_pool(2), (2, 4, 6), (2, 2, 3), lambda p, x: pooled(x)),
    "max_pool with a rest": (models.max_pool(3), (1, 7, 8), (1, 2, 2), lambda p, x: pooled(x, 3)),
    "dropout": (models.dropout(0.3), (4,), (4,), lambda p, x: x),
    "serial": (
        models.serial(models.linear(5), models.plain("sigmoid")),
        (4,),
        (5,),
        lambda p, x: sigmoid(affine(p[0], x)),
    ),
    "residual": (
        models.residual(models.linear(4), models.plain("tanh")),
        (4,),
        (4,),
        lambda p, x: x + np.tanh(affine(p[0], x)),
    ),
    "rnn": (models.rnn(3), (4, 2), (4, 3), rnn),
    "each_step": (models.each_step(models.linear(3)), (5, 2), (5, 3), lambda p, x: affine(p[0], x)),
    "mlp": (models.mlp(5, 3), (4,), (3,), lambda p, x: log_softmax(affine(p[2], relu(affine(p[0], x))))),
    "mlp without last": (
        models.mlp(5, 6, 3, activation="tanh", last=None),
        (4,),
        (3,),
        lambda p, x: affine(p[4], np.tanh(affine(p[2], np.tanh(affine(p[0], x))))),
    ),
    "convnet": (models.convnet((2, 3), 6, 4), (1, 8, 9), (4,), convnet),
    "convnet with dropout": (models.convnet((2, 3), 6, 4, rate=0.5), (1, 8, 9), (4,), convnet),
    "autoencoder": (
        models.autoencoder(6, 4, 2),
        (6,),
        (6,),
        lambda p, x: sigmoid(affine(p[6], np.tanh(affine(p[4], np.tanh(affine(p[2], np.tanh(affine(p[0], x)))))))),
    ),
    "residual_mlp": (models.residual_mlp(4, 2, 3), (5,), (3,), residual_mlp),
    "nearest_neighbour": (
        models.nearest_neighbour(7),
        (2, 3),
        (),
        lambda p, x: ((x[:, None] - np.asarray(p["w"])) ** 2).sum((2, 3)).argmin(1),
    ),
}
NETWORKS = [name for name in BUILDERS if name != "nearest_neighbour"]


def abstract(model, shape, dtype=jnp.float64):
    """Shapes and dtypes of parameters, without compiling what draws them."""
    return jax.eval_shape(lambda key: model.init(key, shape, dtype), jax.random.key(0))


def drawn(name, batch=3):
    """A model with parameters, none of them zero, and inputs."""
    model, shape, *_ = BUILDERS[name]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), abstract(model, shape))
    return model, params, rng.normal(size=(batch, *shape))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_model_is_what_it_says(name):
    model, params, x = drawn(name)
    *_, shape, expected = BUILDERS[name]
    y = jax.jit(model.apply)(params, x)
    assert y.shape == (3, *shape)
    assert tuple(model.output_shape(x.shape[1:])) == shape
    np.testing.assert_allclose(y, expected(params, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BUILDERS)
def test_parameters_have_the_dtype_asked_for(name):
    model, shape, *_ = BUILDERS[name]
    for dtype in (jnp.float32, jnp.float64):
        assert {leaf.dtype for leaf in jax.tree.leaves(abstract(model, shape, dtype))} <= {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", ["conv", "residual", "nearest_neighbour"])
def test_parameters_depend_on_the_key_alone(name):
    model, shape, *_ = BUILDERS[name]
    first, again, other = (jax.tree.leaves(model.init(jax.random.key(k), shape, jnp.float32)) for k in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not a.any() or (a != c).all()  # biases are zero, weights drawn


def test_layers_of_one_shape_are_drawn_apart():
    first, _, second, _, third = models.mlp(4, 4, 4, last=None).init(jax.random.key(0), (4,))
    assert (first["w"] != second["w"]).all()
    assert (second["w"] != third["w"]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_name_describes_its_model(name):
    model, params, x = drawn(name)
    again = spec.parse(model.name)
    assert again.name == model.name
    listed = (
        params if isinstance(params, list) and name not in ("residual", "each_step") else [params]
    )  # parse gives a serial model
    assert str(jax.make_jaxpr(again.apply)(listed, x)) == str(jax.make_jaxpr(model.apply)(params, x))
    if "without bias" not in name:
        assert jax.tree.map(jnp.shape, abstract(again, x.shape[1:])) == jax.tree.map(jnp.shape, listed)


@pytest.mark.parametrize("name", swept([name for name in NETWORKS if name not in ("dropout", "convnet with dropout")], 3))
def test_jacobians_are_those_of_autodiff(name):
    model, params, x = drawn(name, batch=2)

    @jax.jit
    def both(params, x):
        ours, theirs = (way(model.apply, (0, 1))(params, x) for way in (jn.jacobian, jax.jacrev))
        return jn.dense(ours), theirs

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), *both(params, x))


# --- dropout ------------------------------------------------------------------------------------------------------


def test_dropout_drops_in_training_only_and_by_its_key():
    model, x = models.dropout(0.25), jnp.ones((200, 50))
    assert model.init(jax.random.key(0), (50,)) == {}
    y = model.apply({}, x, key=jax.random.key(1), training=True)
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(y, model.apply({}, x, key=jax.random.key(1), training=True))
    assert (y != model.apply({}, x, key=jax.random.key(2), training=True)).any()
    np.testing.assert_array_equal(model.apply({}, x, key=jax.random.key(1)), x)
    with pytest.raises(DTypeError, match="key"):
        model.apply({}, x, training=True)


def test_every_dropout_of_a_model_draws_for_itself():
    once = models.dropout(0.5)
    x = jnp.ones((1, 4000))
    for model in (models.serial(once, once), models.residual(once, once)):
        y = model.apply([{}, {}], x, key=jax.random.key(0), training=True)
        y = y - x if model.name.startswith("residual") else y
        assert set(np.unique(y)) == {0, 4}
        assert abs((y == 4).mean() - 0.25) < 0.03  # ½ if both had dropped the same


@pytest.mark.parametrize("name", ["convnet with dropout", "mlp"])
def test_training_needs_a_key_where_the_model_drops(name):
    model, params, x = drawn(name)

    def layers(**config):
        program = jax.make_jaxpr(lambda params, x: model.apply(params, x, **config))(params, x)
        return [str(equation.params["config"]) for equation in program.eqns if equation.primitive.name == "layer"]

    assert layers(key=jax.random.key(0)) == layers()
    if name == "mlp":
        assert layers(training=True) == layers()
    else:
        assert layers(key=jax.random.key(0), training=True) != layers()
        with pytest.raises(DTypeError, match="key"):
            layers(training=True)


# --- the nearest neighbour ----------------------------------------------------------------------------------------


def test_the_first_of_several_nearest_is_taken():
    params = {"w": jnp.array([[1.0, 0], [0, 1], [1, 0]])}
    found = models.nearest_neighbour(3).apply(params, jnp.array([[1.0, 0], [0, 2], [0.5, 0.5]]))
    np.testing.assert_array_equal(found, [0, 1, 0])


def test_nearest_neighbours_know_digits():
    training, held_out = split(digits(), 400)
    nearest = models.nearest_neighbour(training.size).apply({"w": jnp.asarray(training.x)}, jnp.asarray(held_out.x))
    assert (training.y[nearest] == held_out.y).mean() > 0.97


def test_a_neighbour_has_no_gradient_and_no_word():
    model, params, x = drawn("nearest_neighbour")
    with pytest.raises(DTypeError, match="int"):
        jn.grad(lambda p: model.apply(p, x)[0])(params)
    with pytest.raises(ShapeError, match="expected"):
        model.apply(params, x[:, 0])
    with pytest.raises(SpecError, match="unknown word 'nearest_neighbour'"):
        spec.parse(model.name)


# --- descriptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "empty"),
        ("  ", "empty"),
        ("linear", "linear(FEATURES)"),
        ("linear()", "linear(FEATURES)"),
        ("linear(0)", "from 1"),
        ("linear(-3)", "cannot read"),
        ("linear(3.5)", "linear(FEATURES)"),
        ("linear(99999999)", "1000000"),
        ("linear(3", "linear(FEATURES)"),
        ("linear(3))", "unexpected ')'"),
        ("relu(3)", "unknown word '('"),
        ("residual", "residual(WORDS)"),
        ("residual()", "residual(WORDS)"),
        ("residual(linear(3)", "residual(WORDS)"),
        ("nonsense linear(3)", "unknown word 'nonsense'; known: linear(FEATURES)"),
        ("tanh liner(3)", "unknown word 'liner', did you mean linear?"),
        ("add", "unknown word 'add'"),
        ("duplicate", "unknown word 'duplicate'"),
        ("__import__('os')", "cannot read"),
        ("linear(3); relu", "cannot read"),
        ("linear(٣)", "cannot read"),
        ("linear(1e3)", "linear(FEATURES)"),
        (f"linear({'9' * 5000})", "linear(FEATURES)"),
        ("conv", "conv(CHANNELS)"),
        ("conv()", "conv(CHANNELS)"),
        ("conv(0)", "conv(CHANNELS)"),
        ("conv(3,)", "conv(CHANNELS)"),
        ("conv(3 5)", "conv(CHANNELS)"),
        ("conv(3, relu)", "conv(CHANNELS)"),
        ("conv(3, 5, 7)", "conv(CHANNELS)"),
        ("conv(3, 4)", "must be odd"),
        ("conv(3, 5", "conv(CHANNELS)"),
        ("max_pool", "max_pool(SIZE)"),
        ("max_pool(0)", "max_pool(SIZE)"),
        ("max_pool(1.5)", "max_pool(SIZE)"),
        ("max_pool(2000)", "max_pool(SIZE)"),
        ("max_pool(2, 2)", "max_pool(SIZE)"),
        ("dropout", "dropout(RATE)"),
        ("dropout()", "dropout(RATE)"),
        ("dropout(1.5)", "RATE from 0 to 1"),
        ("dropout(-0.5)", "cannot read"),
        ("dropout(.5)", "cannot read"),
        ("dropout(1e999)", "dropout(RATE)"),
        (", linear(3)", "unexpected ','"),
        ("residual(tanh, tanh)", "residual(WORDS)"),
        ("residual tanh)", "residual(WORDS)"),
        ("each_step()", "each_step(WORDS)"),
        ("embedding", "embedding(COUNT, FEATURES)"),
        ("lstm(0)", "lstm(FEATURES)"),
    ],
)
def test_bad_descriptions_name_the_word(text, words):
    with pytest.raises(SpecError) as error:
        spec.parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("depth", [101, 400, 900, 50_000])
def test_deep_nesting_is_refused(depth):
    with pytest.raises(SpecError, match="nested too deeply"):
        spec.parse("residual(" * depth + "tanh" + ")" * depth)


def test_allowed_nesting_runs():
    _, _, y = made("residual(" * 100 + "identity" + ")" * 100)
    np.testing.assert_allclose(y, 101)


def test_numbers_may_be_written_in_several_ways():
    assert spec.parse(" conv( 007 ,\n5)dropout(1e-05) max_pool(2)relu").name == "conv(7, 5) dropout(1e-05) max_pool(2) relu"
    assert spec.parse("conv(4)").name == "conv(4, 3)"
    assert spec.parse("dropout(1)").apply([{}], jnp.ones(3), key=jax.random.key(0), training=True).sum() == 0


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match="flatten first"):
        made("linear(5)", (3, 4))
    with pytest.raises(ShapeError, match="must have one shape"):
        made("residual(linear(5))")
    with pytest.raises(ShapeError, match="channels, height, width"):
        made("conv(5)", (3, 4))
    with pytest.raises(ShapeError, match="max_pool"):
        made("max_pool(5)", (1, 4, 4))
    with pytest.raises(ShapeError, match="steps and features"):
        made("gru(5)", (4,))
    with pytest.raises(ShapeError, match="steps first"):
        made("each_step(tanh)", (4,))
    with pytest.raises(ShapeError, match="must be odd"):
        models.conv(3, 2)
