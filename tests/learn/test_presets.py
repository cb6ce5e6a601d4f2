"""Presets: models by name, on a batch of their data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets as jn
from jaxnets import data
from jaxnets.course.practicum import RECIPES
from jaxnets.learn import presets


def abstract(model, shape, dtype=jnp.float64):
    """Shapes and dtypes of parameters, without compiling what draws them."""
    return jax.eval_shape(lambda key: model.init(key, shape, dtype), jax.random.key(0))


@pytest.mark.parametrize("name", ["mynet", "spiral", "digits", "autoencoder"])
def test_presets_run(name):
    preset = presets.find_preset(name, None)
    x, targets, source = preset.data(jax.random.key(0), 5)
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), abstract(preset.model, x.shape[1:], x.dtype))
    losses = jax.jit(lambda params: preset.loss(preset.model.apply(params, x), targets))(params)
    assert len(losses) == 5
    assert jnp.isfinite(losses).all()
    assert source


def test_mynet_is_the_lecture_network():
    preset = presets.find_preset("mynet", None)
    x, _, _ = preset.data(jax.random.key(0), 2)
    params = abstract(preset.model, x.shape[1:])
    assert x.shape == (2, 3, 10, 20)
    assert [p["w"].shape for p in params if p] == [(60, 600), (40, 60), (10, 40)]


def test_a_preset_shows_its_own_examples():
    made = data.spiral(20)
    x, y, source = presets.labelled_batch(lambda: made)(jax.random.key(0), 30)
    places = [int(np.flatnonzero((made.x == row).all(1) & (made.y == label))[0]) for row, label in zip(x, y, strict=True)]
    assert len(set(places)) >= 28  # the three arms meet at 0
    assert source == "30 of 60 examples of a spiral with 3 arms"
    x, targets, _ = presets.reconstruction_batch(lambda: made)(jax.random.key(0), 5)
    np.testing.assert_array_equal(x, targets)


def test_noise_has_the_shapes_asked_for():
    x, y, _ = presets.noise_batch((2, 3), 4)(jax.random.key(0), 50)
    assert x.shape == (50, 2, 3)
    assert set(np.unique(y)) == {0, 1, 2, 3}
    x, y, _ = presets.noise_batch((2,), None, (3, 4))(jax.random.key(0), 5)
    assert y.shape == (5, 3, 4)
    assert (x.reshape(-1) != y.reshape(-1)[: x.size]).all()


def test_a_described_classifier_has_labels_and_nll():
    for words, shape in (("linear(3) log_softmax", ()), ("tanh log_softmax", (2,))):
        preset = presets.find_preset(words, (*shape, 5))
        x, labels, _ = preset.data(jax.random.key(0), 7)
        assert preset.loss.name == "nll" and labels.shape == (7, *shape) and jnp.issubdtype(labels.dtype, jnp.integer)
        predictions = jax.eval_shape(jn.parse(words).apply, abstract_zeros(preset.model, x.shape[1:]), x)
        assert jax.eval_shape(preset.loss, predictions, labels).shape == labels.shape
    for words in ("linear(3)", "log_softmax linear(3)", "residual(linear(8) log_softmax)"):
        assert presets.find_preset(words, None).loss.name == "squared_error"


def abstract_zeros(model, shape):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape), abstract(model, shape))


def test_the_task_and_the_preset_of_a_name_are_one_network():
    for name in ("digits", "spiral"):
        assert RECIPES[name].model.removeprefix("flatten ") == presets.find_preset(name, None).model.name


@pytest.mark.parametrize("size", [0, -1, 2000])
def test_batches_of_presets_are_of_a_possible_size(size):
    with pytest.raises(ValueError, match="batch must be"):
        presets.labelled_batch(data.digits)(jax.random.key(0), size)
    if size < 1:
        with pytest.raises(ValueError, match="batch must be"):
            presets.noise_batch((2,))(jax.random.key(0), size)
