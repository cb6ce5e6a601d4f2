"""Models as pairs of functions, their descriptions in words, and the data that presets show them on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ShapeError, SpecError, data, models


def made(text, shape=(8,), batch=3):
    model = models.parse(text)
    params = model.init(jax.random.key(0), shape, jnp.float64)
    return model, params, model.apply(params, jnp.ones((batch, *shape)))


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


def test_weights_are_kaiming_normal_and_biases_zero():
    params = models.linear(500).init(jax.random.key(1), (400,), jnp.float64)
    assert params["w"].shape == (500, 400)
    assert abs(float(jnp.var(params["w"])) * 400 / 2 - 1) < 0.02
    assert not params["b"].any()


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "empty"),
        ("  ", "empty"),
        ("linear", "linear(FEATURES)"),
        ("linear()", "linear(FEATURES)"),
        ("linear(0)", "from 1"),
        ("linear(-3)", "cannot read"),
        ("linear(3.5)", "cannot read"),
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
    ],
)
def test_bad_descriptions_name_the_word(text, words):
    with pytest.raises(SpecError) as error:
        models.parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match="flatten first"):
        made("linear(5)", (3, 4))
    with pytest.raises(ShapeError, match="must have one shape"):
        made("residual(linear(5))")


@pytest.mark.parametrize("name", ["mynet", "spiral", "digits", "autoencoder"])
def test_presets_run(name):
    preset = models.preset(name, None)
    x, targets, source = preset.data(jax.random.key(0), 5)
    params = preset.model.init(jax.random.key(1), x.shape[1:], x.dtype)
    losses = preset.loss(preset.model.apply(params, x), targets)
    assert len(losses) == 5
    assert jnp.isfinite(losses).all()
    assert source


def test_mynet_is_the_lecture_network():
    preset = models.preset("mynet", None)
    x, _, _ = preset.data(jax.random.key(0), 2)
    params = preset.model.init(jax.random.key(1), x.shape[1:], x.dtype)
    assert x.shape == (2, 3, 10, 20)
    assert [p["w"].shape for p in params if p] == [(60, 600), (40, 60), (10, 40)]


def test_digits_are_the_real_ones():
    x, y, _ = data.digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max()) == (0, 1)
    assert np.bincount(y).min() > 170


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxnets\[data\]"):
        data.digits()


def test_spiral_is_equation_1():
    x, y, _ = data.spiral(points=5, classes=3, noise=0)
    assert x.shape == (15, 2)
    np.testing.assert_array_equal(y, np.repeat([0, 1, 2], 5))
    t, k = 0.75, 2
    np.testing.assert_allclose(
        x[5 + 3], [t * np.sin(2 * np.pi / 3 * (2 * t + k - 1)), t * np.cos(2 * np.pi / 3 * (2 * t + k - 1))]
    )
    noisy, _, _ = data.spiral(points=2000, noise=0.2)
    radius = np.hypot(*noisy.T)
    np.testing.assert_allclose(
        radius, np.tile(np.linspace(0, 1, 2000), 3), atol=1e-12
    )  # the noise turns, it does not stretch


@pytest.mark.parametrize("size", [0, -1, 2000])
def test_batches_are_of_a_possible_size(size):
    with pytest.raises(ValueError, match="batch must be"):
        data.first(data.digits)(jax.random.key(0), size)
