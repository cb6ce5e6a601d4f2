"""Data sets and how training sees them: the type, parts, labels, standardized features, orders and batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import DTypeError, ShapeError, data
from jaxnets.learn.data import Dataset, Statistics

from .runs import same


def test_a_data_set_is_its_arrays():
    found = Dataset([[1, 2, 3], [4, 5, 6]], [1, 0], classes=2)
    assert (found.size, found.shape, found.name) == (2, (3,), "data")
    assert isinstance(found.x, np.ndarray)
    part = found.take([1], "a part")
    assert (part.x.tolist(), part.y.tolist(), part.classes, part.name) == ([[4, 5, 6]], [0], 2, "a part")
    assert found.take(slice(1)).name == "data"
    assert Dataset(np.ones((2, 3)), np.ones((2, 4, 5))).y.shape == (2, 4, 5)


@pytest.mark.parametrize(
    "x, y, classes, error, words",
    [
        (np.ones((3, 2)), np.ones(4), None, ShapeError, r"x has shape \(3, 2\) and y \(4,\)"),
        (np.ones(3), np.ones(3), None, ShapeError, "features"),
        (np.ones((0, 2)), np.ones(0), None, ShapeError, "expected"),
        (np.ones((3, 2)), 1.0, None, ShapeError, "expected"),
        (np.full((3, 2), "a"), np.ones(3), None, DTypeError, "x has dtype"),
        (np.ones((3, 2)) * 1j, np.ones(3), None, DTypeError, "x has dtype"),
        (np.ones((3, 2)), np.full(3, None), None, DTypeError, "y is no array of numbers"),
        (np.ones((3, 2)), np.zeros(3), 2, DTypeError, "one integer per example"),
        (np.ones((3, 2)), np.zeros((3, 1), int), 2, DTypeError, "one integer per example"),
        (np.ones((3, 2)), np.array([0, 1, 2]), 2, ValueError, "reach from 0 to 2, expected 0 to 1"),
        (np.ones((3, 2)), np.array([0, -1, 1]), 2, ValueError, "reach from -1 to 1"),
    ],
)
def test_a_data_set_that_cannot_be_says_why(x, y, classes, error, words):
    with pytest.raises(error, match=words):
        Dataset(x, y, classes=classes)


def test_every_step_of_a_sequence_may_have_a_label():
    x, y = np.zeros((4, 3, 2)), np.arange(12).reshape(4, 3) % 5
    found = Dataset(x, y, "steps", 5)
    assert (found.size, found.shape) == (4, (3, 2))
    for part in data.split(found, 1):
        assert part.y.shape == (part.size, 3)
    for wrong in (y[:, :2], y[..., None], y.astype(float)):
        with pytest.raises(DTypeError, match="one integer per example"):
            Dataset(x, wrong, classes=5)
    with pytest.raises(ValueError, match="reach from 0 to 4, expected 0 to 3"):
        Dataset(x, y, classes=4)


def test_a_text_in_pieces():
    found = data.characters("ab\nÄ~abc", 3)
    a, tilde = 1 + ord("a") - 32, 1 + ord("~") - 32
    assert (found.classes, tilde) == (97, 95)
    assert found.x.tolist() == [[a, a + 1, 0], [96, tilde, a]]
    assert found.y.tolist() == [[a + 1, 0, 96], [tilde, a, a + 1]]
    assert "".join(data.CHARACTERS[i] for i in found.x[0]) == "ab\n"
    with pytest.raises(ValueError, match="text has 3 characters, expected at least length \\+ 1 = 4"):
        data.characters("abc", 3)


# --- parts --------------------------------------------------------------------------------------------------------


def numbered(labels):
    """A data set whose inputs are the places of its examples."""
    return Dataset(np.arange(len(labels))[:, None], np.asarray(labels), "numbers", int(np.max(labels)) + 1)


@pytest.mark.parametrize("held_out", [1, 20, 0.25, 0.5, 0.99, np.float64(0.1), np.int64(7)])
def test_a_split_has_every_example_once_and_of_every_class_its_share(held_out):
    whole = numbered(np.random.default_rng(1).choice(4, 200, p=[0.6, 0.3, 0.08, 0.02]))
    training, held = data.split(whole, held_out)
    count = round(held_out * 200) if held_out < 1 else held_out
    assert (training.size, held.size) == (200 - count, count)
    np.testing.assert_array_equal(np.sort(np.concatenate([training.x, held.x])[:, 0]), np.arange(200))
    for part in (training, held):
        np.testing.assert_array_equal(part.y, whole.y[part.x[:, 0]])
        assert part.classes == whole.classes
    share = np.bincount(whole.y) * count / 200
    assert (np.abs(np.bincount(held.y, minlength=4) - share) <= 1).all()
    assert (training.name, held.name) == ("numbers, training", "numbers, held out")


def test_a_split_depends_on_its_seed_alone():
    whole = numbered([0, 1] * 50)
    for one, other in zip(data.split(whole, 0.3), data.split(whole, 0.3), strict=True):
        assert same(one, other)
    assert set(data.split(whole, 30)[1].x[:, 0]) != set(data.split(whole, 30, seed=1)[1].x[:, 0])


def test_a_split_of_numbers_is_at_random():
    whole = Dataset(np.arange(100)[:, None], np.arange(100.0))
    training, held = data.split(whole, 40)
    np.testing.assert_array_equal(np.sort(np.concatenate([training.y, held.y])), np.arange(100))
    np.testing.assert_array_equal(held.y, held.x[:, 0])
    assert 30 < held.y.mean() < 70
    assert (np.diff(training.y) < 0).any()


@pytest.mark.parametrize("held_out", [0, -1, 10, 11, 0.0, 0.01, 1.0, -0.5, 2.5, float("nan")])
def test_both_parts_of_a_split_have_examples(held_out):
    with pytest.raises(ValueError, match="NaN" if held_out != held_out else "in both parts of 10"):
        data.split(numbered([0, 1] * 5), held_out)


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 2, 1, 2], [[0, 1], [2, 0]], 1, np.array([], int), np.array([1, 2], np.uint8)])
def test_one_hot_is_a_row_of_the_identity(labels):
    found = data.one_hot(labels, 3)
    np.testing.assert_array_equal(found, np.eye(3)[np.asarray(labels)])
    assert found.dtype == jnp.result_type(float)


@pytest.mark.parametrize(
    "labels, error", [([0.0, 1], DTypeError), ([True], DTypeError), ([3], ValueError), ([-1], ValueError)]
)
def test_one_hot_refuses_what_is_no_label(labels, error):
    with pytest.raises(error, match="one_hot"):
        data.one_hot(labels, 3)


def test_held_out_data_are_standardized_by_the_training_set():
    rng = np.random.default_rng(0)
    training, held = (Dataset(rng.normal(3, 2, (n, 2, 3)), np.zeros(n, int), "some", 1) for n in (50, 20))
    statistics = Statistics.of(training.x)
    mean, std = training.x.sum(0) / 50, np.sqrt(((training.x - training.x.mean(0)) ** 2).sum(0) / 50)
    for part in (training, held):
        found = statistics.standardize(part)
        np.testing.assert_allclose(found.x, (part.x - mean) / std, rtol=1e-12)
        assert (found.name, found.classes) == ("some", 1)
        np.testing.assert_array_equal(found.y, part.y)
    np.testing.assert_allclose(statistics.standardize(training).x.std(0), 1)
    assert abs(statistics.standardize(held).x.mean(0)).min() > 1e-3  # its own mean would give 0


def test_a_constant_feature_is_divided_by_eps():
    training, held = Dataset([[5.0, 1], [5, 3]], [0.0, 0]), Dataset([[5.5, 2]], [0.0])
    statistics = Statistics.of(training.x)
    np.testing.assert_allclose(statistics.standardize(training).x, [[0, -1], [0, 1]])
    np.testing.assert_allclose(statistics.standardize(held, eps=0.25).x, [[2, 0]])
    np.testing.assert_allclose(statistics.standardize(training, eps=4).x, [[0, -0.25], [0, 0.25]])


def test_large_means_cost_no_digits():
    large = Dataset(1e8 + np.arange(6.0)[:, None], np.zeros(6))
    with jax.enable_x64(False):
        found = Statistics.of(large.x).standardize(large)
    assert found.x.dtype == np.float32
    np.testing.assert_allclose(found.x[:, 0], (np.arange(6) - 2.5) / np.arange(6).std(), rtol=1e-6)
    whole = Dataset(np.arange(6, dtype=np.uint8)[:, None], np.zeros(6))
    np.testing.assert_allclose(Statistics.of(whole.x).standardize(whole).x, found.x, rtol=1e-6)


def test_standardize_refuses_what_does_not_fit():
    statistics = Statistics.of(np.ones((4, 3)))
    with pytest.raises(ShapeError, match=r"shape \(2,\), expected \(3,\)"):
        statistics.standardize(Dataset(np.ones((4, 2)), np.ones(4)))
    with pytest.raises(ValueError, match="eps must be positive"):
        statistics.standardize(Dataset(np.ones((4, 3)), np.ones(4)), eps=0)


# --- order --------------------------------------------------------------------------------------------------------


def test_an_order_is_a_permutation_of_key_and_epoch():
    key = jax.random.key(3)
    orders = [np.asarray(data.order(key, epoch, 50)) for epoch in range(4)]
    for found in orders:
        np.testing.assert_array_equal(np.sort(found), np.arange(50))
    assert len({tuple(found) for found in [*orders, np.asarray(data.order(jax.random.key(4), 0, 50))]}) == 5
    np.testing.assert_array_equal(orders[2], data.order(key, 2, 50))


def test_batches_are_the_order_cut_in_parts():
    key = jax.random.key(3)
    found = data.batches(key, 1, 50, 8)
    assert found.shape == (6, 8)
    np.testing.assert_array_equal(found.reshape(-1), data.order(key, 1, 50)[:48])
    left = [set(range(50)) - set(np.asarray(data.batches(key, epoch, 50, 8)).flat) for epoch in range(3)]
    assert len(set(map(frozenset, left))) > 1
    assert data.batches(key, 0, 50, 50).shape == (1, 50)


@pytest.mark.parametrize("size", [0, -1, 51])
def test_a_batch_is_part_of_the_data(size):
    with pytest.raises(ValueError, match=f"batch_size must be 1 to 50, got {size}"):
        data.batches(jax.random.key(0), 0, 50, size)
