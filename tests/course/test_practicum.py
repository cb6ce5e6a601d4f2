"""The practicum: what its networks reach, the pictures they leave, and input that it refuses before training."""

import json
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxnets import CheckpointError, ShapeError, SpecError, fit, nll, parse
from jaxnets.course import practicum
from jaxnets.course.practicum import RECIPES, evaluate, space, train
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, checkpoints
from jaxnets.learn.data import Dataset
from jaxnets.learn.models import Model
from jaxnets.show import plots

from ..learn.runs import checksums


@pytest.fixture
def few_images(monkeypatch):
    """1,040 images of noise with a bright row that tells the class, for those of MNIST."""
    rng = np.random.default_rng(0)
    labels = np.arange(1040) % 10
    x = 0.1 * rng.random((1040, 1, 28, 28), np.float32)
    x[np.arange(1040), 0, 4 + 2 * labels] = 1
    monkeypatch.setattr(practicum.data, "mnist", lambda: Dataset(x, labels, "stripes", 10))


@pytest.fixture(scope="module")
def spiral(tmp_path_factory, request):
    """The folder of a spiral and its report: trained to the end with `--all`, else for a few epochs."""
    epochs = RECIPES["spiral"].epochs if request.config.getoption("--all") else 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(practicum.points, "FRAMES", 4)
        folder = tmp_path_factory.mktemp("spiral")
        return folder, train("spiral", epochs=epochs, output=folder)


def check_pictures(report, folder, names, least=400):
    assert [path.name for path in report.pictures] == names
    for path in report.pictures:
        assert path.parent == folder
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) >= least
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
            assert path.suffix == (".gif" if picture.format == "GIF" else ".png")
            assert getattr(picture, "n_frames", 1) > 1 or path.suffix == ".png"
        assert path.stat().st_size < 2e6
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()
    assert not list(folder.glob("*.part"))


@pytest.mark.sweep
def test_a_spiral_needs_a_non_linearity(spiral):
    _, report = spiral
    numbers = report.numbers
    for part in ("training_accuracy", "held_out_accuracy"):
        assert 0.4 < numbers["linear"][part] < 0.65
        assert numbers[part] > 0.95
        assert numbers["hidden"][part] > 0.95
    assert (numbers["training_examples"], numbers["held_out_examples"]) == (2400, 600)
    assert "linear(100) relu linear(3)" in str(report).replace("│", "")


@pytest.mark.parametrize("task", ["circles", pytest.param("moons", marks=pytest.mark.sweep), "xor"])
def test_a_ring_and_xor_need_a_non_linearity_too(task):
    numbers = train(task, epochs=5, pictures=False).numbers
    assert (numbers["training_examples"], numbers["held_out_examples"]) == (1600, 400)
    assert numbers["held_out_accuracy"] > 0.95
    assert numbers["linear"]["held_out_accuracy"] < (0.95 if task == "moons" else 0.7)


def test_spiral_leaves_pictures_logs_and_checkpoints(spiral):
    folder, report = spiral
    check_pictures(report, folder, ["spiral.png", "boundary.gif", "hidden.gif"])
    for place in (folder, folder / "linear", folder / "hidden"):
        assert len((place / "metrics.jsonl").read_text().splitlines()) == report.numbers["epochs"]
    assert evaluate(folder).accuracy == report.numbers["held_out_accuracy"]
    assert evaluate(folder / "linear" / "checkpoints").accuracy == report.numbers["linear"]["held_out_accuracy"]


def test_a_checkpoint_with_another_task_in_its_description_is_refused(spiral, tmp_path):
    path = Path(shutil.copytree(checkpoints(spiral[0] / "checkpoints")[-1], tmp_path / "step-0000000001"))
    config = json.loads((path / CONFIG).read_text())
    for changes in ({"task": "digits"}, {"seed": -1}, {"seed": 10**30}, {"seed": True}):
        (path / CONFIG).write_text(json.dumps(config | changes))
        (path / SUMS).write_bytes(checksums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))
        with pytest.raises(CheckpointError):
            evaluate(path)


@pytest.mark.sweep
def test_ensembles_disagree_where_they_saw_no_data(tmp_path):
    report = train("regression", epochs=150, learning_rate=0.03, output=tmp_path)
    assert list(report.numbers["ensembles"]) == ["ReLU", "tanh"]
    for found in report.numbers["ensembles"].values():
        assert found["deviation_outside"] > 3 * found["deviation_inside"] > 0
        assert found["laplace_outside"] > 3 * found["laplace_inside"] > 0  # of one network by itself
        assert found["rmse"] < 0.15  # the noise alone: 0.087
    check_pictures(report, tmp_path, ["regression.png", "variance.png"])
    with pytest.raises(CheckpointError, match="of regression, expected one with classes"):
        evaluate(tmp_path)


def test_members_of_an_ensemble_learn_as_if_alone():
    model = parse("linear(5) tanh linear(1)")
    together = practicum.regression._ensemble(model, 3)
    x = np.random.default_rng(0).standard_normal((4, 2))

    @jax.jit
    def run(key):
        params = together.init(key, (2,))
        alone = [model.apply(jax.tree.map(lambda leaf, i=i: leaf[i], params), x)[:, 0] for i in range(3)]
        return params[0]["b"], together.apply(params, x), alone

    b, found, alone = run(jax.random.key(0))
    assert len(np.unique(b)) == 15
    np.testing.assert_allclose(found, np.stack(alone, 1), rtol=1e-6)


def test_digits_are_learned_and_training_goes_on_in_its_folder(tmp_path):
    options = {"epochs": 8, "model": parse("flatten linear(64) relu linear(10) log_softmax"), "output": tmp_path}
    report = train("digits", **options)
    assert report.numbers["held_out_accuracy"] > 0.85
    check_pictures(report, tmp_path, ["curves.png", "confusion.png", "calibration.png", "mistakes.png"], least=300)
    with pytest.raises(CheckpointError, match="resume"):
        train("digits", **options)
    again = train("digits", **options, resume=True, pictures=False)
    assert again.pictures == []
    assert again.numbers["held_out_loss"] == report.numbers["held_out_loss"]


def test_images_come_with_distorted_copies(few_images):
    training, held_out = RECIPES["mnist"].data(0)
    assert (training.size, held_out.size) == (5 * 40, 1000)
    plain, *copies = training.x.reshape(5, 40, 28, 28)
    assert plain.dtype == training.x.dtype == np.float32
    for copy in copies:
        assert copy.min() >= 0 and copy.max() <= 1 and not np.array_equal(copy, plain)
    rows = np.arange(28)
    place = [(np.clip(x - 0.2, 0, 1).sum(2) * rows).sum(1) / np.clip(x - 0.2, 0, 1).sum((1, 2)) for x in (plain, copies[0])]
    assert 0.1 < np.abs(place[0] - place[1]).mean() < 4
    np.testing.assert_array_equal(training.y.reshape(5, 40)[0], training.y.reshape(5, 40)[4])


def test_a_text_is_learned_and_written(tmp_path):
    training, held_out = RECIPES["text"].data(0)
    assert (training.classes, training.y.shape) == (97, training.x.shape)
    assert training.size > 8 * held_out.size > 0
    model = "embedding(97, 8) gru(16) each_step(linear(97)) log_softmax"
    report = train("text", model=model, epochs=2, output=tmp_path)
    assert report.numbers["held_out_accuracy"] > 0.15  # a space is the most frequent, one in seven
    assert len(report.numbers["written"]) == 400
    assert report.numbers["bits_per_character"] < 4.7
    check_pictures(report, tmp_path, ["curves.png"], least=300)
    assert evaluate(tmp_path).accuracy == report.numbers["held_out_accuracy"]
    assert "A held-out character takes" in str(report)


def test_a_text_is_drawn_from_what_is_foreseen():
    """A model that is sure that after each character comes the next one of the alphabet."""

    def apply(params, x, *, key=None, training=False):
        return jnp.log(jax.nn.one_hot((x + params).astype(int) % 97, 97))

    model = Model("counts", lambda key, shape: 1.0, apply, lambda shape: (*shape, 97))
    start = np.array([3, 33])  # the character after it is A
    assert practicum.text.sample(model, jnp.ones(()), start, 5, jax.random.key(0)) == "ABCDE"


def test_the_hand_written_rule_gives_the_gradient_of_a_text():
    """Two steps with it leave the parameters where JAX's own gradient leaves them."""
    training, _ = RECIPES["text"].data(0)
    model = parse("embedding(97, 4) lstm(5) each_step(linear(97)) log_softmax")
    ends = [
        fit(model, nll, training.take(slice(32)), optax.sgd(0.5), epochs=1, batch_size=16, gradient=gradient)
        for gradient in ("autodiff", "manual")
    ]
    assert ends[0].step == 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *(end.params for end in ends))


def test_without_output_nothing_is_written(few_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = train("mnist", epochs=1, batch_size=0, model="max_pool(4) flatten linear(10) log_softmax")
    assert report.pictures == [] and os.listdir(tmp_path) == []
    assert report.numbers["batch_size"] is None


def test_space_is_stretched(tmp_path):
    report = space(tmp_path)
    for one in report.numbers["linear_maps"]:
        np.testing.assert_allclose(np.linalg.norm(one["matrix"]) ** 2, np.sum(np.square(one["singular_values"])))
        np.testing.assert_allclose(abs(one["determinant"]), np.prod(one["singular_values"]))
    corners = [one["near_a_corner"] for one in report.numbers["tanh"]]
    assert corners == sorted(corners) and corners[0] < 0.05 < 0.4 < corners[-1]
    networks = report.numbers["networks"]
    assert networks["2-2-2 relu"]["linear_pieces"] <= 4  # two lines
    assert networks["2-5-2 relu"]["linear_pieces"] <= 16  # five lines cut the plane into 1 + 5 + 10 parts at most
    assert networks["2-2-2 relu"]["collapsed"] > 0
    check_pictures(report, tmp_path, ["linear_maps.png", "tanh.png", "networks.png"])
    assert space(seed=0).numbers == report.numbers


@pytest.mark.parametrize(
    "name, options, error, words",
    [
        (
            "spirals",
            {},
            ValueError,
            "unknown task 'spirals'; known: spiral, circles, moons, xor, regression, digits, digits_conv, mnist",
        ),
        ("spiral", {"epochs": 0}, ValueError, "epochs must be 1 to 2³¹, got 0"),
        ("spiral", {"seed": -1}, ValueError, "seed must be 0 to"),
        ("spiral", {"batch_size": -5}, ValueError, "batch_size must be 0 to"),
        ("spiral", {"batch_size": 5000}, ValueError, "batch_size must be 1 to 2400"),
        ("spiral", {"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ("spiral", {"learning_rate": float("nan")}, ValueError, "learning_rate must be positive"),
        ("spiral", {"gradient": "numeric"}, ValueError, "gradient must be one of"),
        ("spiral", {"resume": True}, ValueError, "resume needs output"),
        ("spiral", {"model": "liner(3)"}, SpecError, "did you mean linear"),
        ("spiral", {"model": "linear(4) log_softmax"}, ShapeError, r"shape \(4,\), expected \(3,\) for spiral"),
        ("spiral", {"model": "linear(3)"}, ValueError, "log_softmax"),
        ("spiral", {"model": "conv(3) flatten linear(3) log_softmax"}, ShapeError, "expected"),
        ("regression", {"model": "linear(2)"}, ShapeError, r"shape \(2,\), expected \(1,\)"),
        ("digits", {"model": "linear(10) log_softmax"}, ShapeError, "flatten first"),
        ("mnist", {"model": "flatten linear(9) log_softmax"}, ShapeError, r"shape \(9,\), expected \(10,\) for mnist"),
    ],
)
def test_bad_input_is_refused_before_training(name, options, error, words, few_images):
    with pytest.raises(error, match=words):
        train(name, **options)


def test_matplotlib_is_asked_for_before_training(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for run in (lambda: train("spiral", output=tmp_path), lambda: space(tmp_path)):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxnets\[plot\]'"):
            run()
    assert os.listdir(tmp_path) == []


def test_half_a_picture_is_none(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("before")

    def draw(figure, frame):
        raise ZeroDivisionError

    class Broken(Figure):
        def savefig(self, file, **options):
            file.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        plots.save(Broken(), path)
    with pytest.raises(ZeroDivisionError):
        plots.save_animation([0], draw, path)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["picture.png"]


def test_pictures_of_nothing_are_pictures(tmp_path):
    none = np.zeros(0)
    plots.save(plots.mistakes(np.zeros((0, 8, 8)), none, none, none, title="no mistakes"), tmp_path / "mistakes.png")
    plots.save(plots.learning_curves([{"epoch": 1, "loss": 0.5, "accuracy": 1.0}]), tmp_path / "curves.png")
    plots.save(plots.calibration(np.zeros((10, 3))), tmp_path / "calibration.png")
    assert len(os.listdir(tmp_path)) == 3
