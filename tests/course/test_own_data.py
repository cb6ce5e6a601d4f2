"""Networks that learn people's own files, from the command line and from Python."""

import csv
import io
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import jaxnets as jn
from jaxnets import CheckpointError, data
from jaxnets.course.practicum import evaluate, own_data, predict_file, train_on
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, checkpoints
from jaxnets.learn.data import Dataset

from ..learn.runs import checksums

NAMES = ("dune", "forest", "lake")


def made_table(path: Path, rows=60, seed=0):
    """A table whose `place` follows from a number and a word, and whose `height` is a sum of them in hundreds."""
    rng = np.random.default_rng(seed)
    lines = ["rain,soil,place,height"]
    for i in range(rows):
        rain, soil = 1000 + 10 * rng.normal() + 100 * (i % 3 == 2), ("sand", "clay")[i % 3 > 0]
        lines.append(f"{rain:.3f},{soil},{NAMES[i % 3]},{5 * rain + 300 * (soil == 'clay'):.3f}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """The table, and the folder of a run that tells its places apart."""
    folder = tmp_path_factory.mktemp("classified")
    table = made_table(folder / "places.csv")
    trained = train_on(table, target="place", epochs=40, learning_rate=0.01, output=folder / "run", format="svg")
    return table, folder / "run", trained


def rows_of(predictions):
    return list(csv.DictReader(io.StringIO(predictions.to_csv())))


def test_a_table_is_learned_and_leaves_pictures_with_names(classified):
    _, folder, trained = classified
    assert trained.numbers["held_out_accuracy"] > 0.8
    assert (trained.numbers["task"], trained.numbers["training_examples"]) == ("places", 48)
    assert [path.name for path in trained.pictures] == ["curves.svg", "confusion.svg", "calibration.svg"]
    assert all(path.read_text().startswith("<?xml") for path in trained.pictures)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 40
    assert f"jaxnets evaluate {folder}" in str(trained) and f"jaxnets predict {folder} FILE" in str(trained)


def test_what_was_held_out_is_evaluated_again(classified):
    table, folder, trained = classified
    found = evaluate(folder)
    assert (found.examples, found.accuracy, found.names) == (12, trained.numbers["held_out_accuracy"], NAMES)
    assert found.loss == pytest.approx(trained.numbers["held_out_loss"], rel=1e-5)
    assert evaluate(folder / "checkpoints", table).examples == 60


def test_a_file_that_is_gone_or_has_changed_is_told(classified, tmp_path):
    table, folder, _ = classified
    content = table.read_text()
    try:
        table.write_text(content + content.splitlines()[-1] + "\n")
        with pytest.raises(ValueError, match=r"has changed since the training.*--data"):
            evaluate(folder)
        table.unlink()
        with pytest.raises(ValueError, match=r"no longer there.*--data"):
            evaluate(folder)
    finally:
        table.write_text(content)
    new = tmp_path / "new.csv"
    new.write_text("rain,soil,height\n1000,sand,5000\n")
    with pytest.raises(ValueError, match="no answers to compare with, no column 'place'"):
        evaluate(folder, new)


def test_predictions_are_names_and_probabilities_and_equal_the_exported_function(classified, tmp_path):
    table, folder, _ = classified
    found = rows_of(predict_file(folder, table))
    assert list(found[0]) == ["predicted", *NAMES] and len(found) == 60
    p = np.array([[float(row[name]) for name in NAMES] for row in found])
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert [row["predicted"] for row in found] == [NAMES[i] for i in p.argmax(1)]
    model, params, description = jn.restore(folder)
    path = jn.export(model, params, tmp_path / "model.jax", like=description)
    raw = data.load(table, target="place").x
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    for count in (60, 7):
        given = np.exp(function.call(raw[:count].astype(function.in_avals[0].dtype)))
        np.testing.assert_allclose(given, p[:count], rtol=1e-3, atol=1e-5)
    jn.export(model, params, tmp_path / "model.safetensors", like=description)
    with safe_open(tmp_path / "model.safetensors", "np") as stored:
        assert sorted(stored.keys()) == ["0.b", "0.w", "2.b", "2.w", "4.b", "4.w"]
        np.testing.assert_array_equal(stored.get_tensor("4.w"), params[4]["w"])
        assert jn.parse(stored.metadata()["model"]).name == model.name
        assert jn.Encoding.from_json(json.loads(stored.metadata()["encoding"])).classes == NAMES


def test_the_same_seed_gives_the_same_bits_and_a_stopped_run_goes_on(classified, tmp_path):
    table, folder, _ = classified
    newest = checkpoints(folder / "checkpoints")[-1]
    train_on(table, target="place", epochs=40, learning_rate=0.01, output=tmp_path, pictures=False)
    assert (tmp_path / "checkpoints" / newest.name / ARRAYS).read_bytes() == (newest / ARRAYS).read_bytes()
    shutil.rmtree(tmp_path / "checkpoints" / newest.name)
    with pytest.raises(CheckpointError, match="resume"):
        train_on(table, target="place", epochs=40, learning_rate=0.01, output=tmp_path, pictures=False)
    train_on(table, target="place", epochs=40, learning_rate=0.01, output=tmp_path, pictures=False, resume=True)
    assert (tmp_path / "checkpoints" / newest.name / ARRAYS).read_bytes() == (newest / ARRAYS).read_bytes()
    with pytest.raises(CheckpointError, match="cannot go on"):
        train_on(table, target="soil", epochs=40, learning_rate=0.01, output=tmp_path, pictures=False, resume=True)


def test_numbers_are_predicted_in_their_units(tmp_path):
    table = made_table(tmp_path / "heights.csv")
    trained = train_on(table, target="height", epochs=60, learning_rate=0.01, output=tmp_path / "run")
    assert trained.numbers["held_out_r2"] > 0.9 and 1 < trained.numbers["held_out_rmse"] < 100
    assert [path.name for path in trained.pictures] == ["curves.png"]
    found = evaluate(tmp_path / "run")
    assert (found.examples, found.rmse) == (12, trained.numbers["held_out_rmse"])
    assert "R²" in str(trained)
    predicted = np.array([float(row["height"]) for row in rows_of(predict_file(tmp_path / "run", table))])
    truth = data.load(table, target="height")
    errors = predicted - truth.y[:, 0]
    assert math.sqrt(np.mean(errors**2)) < 100
    assert evaluate(tmp_path / "run", table).rmse == pytest.approx(math.sqrt(np.mean(errors**2)), rel=1e-4)
    path = jn.export(*jn.restore(tmp_path / "run")[:2], tmp_path / "model.jax", like=jn.restore(tmp_path / "run")[2])
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    given = function.call(truth.x.astype(function.in_avals[0].dtype))
    np.testing.assert_allclose(given[:, 0], predicted, rtol=1e-3)


def test_images_are_learned_and_predicted_by_their_files(tmp_path):
    for label, name in enumerate(("left", "right")):
        for i in range(10):
            pixels = np.zeros((6, 8), np.uint8)
            pixels[:, 1 + 5 * label] = 200 + i
            (tmp_path / "arrows" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "arrows" / name / f"{i}.png")
    model = "flatten linear(2) log_softmax"
    options = {"model": model, "epochs": 60, "learning_rate": 0.1, "pictures": False}
    trained = train_on(tmp_path / "arrows", output=tmp_path / "run", **options)
    assert trained.numbers["held_out_accuracy"] == 1
    assert evaluate(tmp_path / "run").names == ("left", "right")
    shutil.copytree(tmp_path / "arrows" / "right", tmp_path / "flat")
    found = rows_of(predict_file(tmp_path / "run", tmp_path / "flat"))
    assert [row["file"] for row in found] == sorted(f"{i}.png" for i in range(10))
    assert {row["predicted"] for row in found} == {"right"}
    assert rows_of(predict_file(tmp_path / "run", tmp_path / "arrows"))[0]["file"] == "left/0.png"


@pytest.mark.parametrize(
    "shape, y, expected",
    [
        ((5,), [0, 1], "linear(64) relu linear(64) relu linear(2) log_softmax"),
        ((5,), [[0.5], [1.5]], "linear(64) relu linear(64) relu linear(1)"),
        ((5, 2), [0, 1], "flatten linear(64) relu linear(64) relu linear(2) log_softmax"),
        ((1, 8, 8), [0, 1], "conv(16) relu conv(16) relu max_pool(2) flatten dropout(0.3) linear(64) relu dropout(0.3) "
         "linear(2) log_softmax"),
        ((3, 1, 1), [0, 1], "conv(16) relu conv(16) relu flatten dropout(0.3) linear(64) relu dropout(0.3) linear(2) "
         "log_softmax"),
        ((3, 70, 40), [0, 1], "conv(16) relu conv(16) relu max_pool(2) conv(32) relu max_pool(2) conv(32) relu "
         "max_pool(2) flatten dropout(0.3) linear(64) relu dropout(0.3) linear(2) log_softmax"),
    ],
)  # fmt: skip
def test_the_network_fits_the_kind_of_data(shape, y, expected):
    dataset = Dataset(np.zeros((2, *shape)), np.array(y), classes=None if np.ndim(y) > 1 else 2)
    assert own_data._network(dataset) == expected
    jn.parse(expected).output_shape(shape)


def test_a_run_of_python_and_arrays_of_bytes(tmp_path):
    import optax

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = np.column_stack([labels * 4.0, rng.normal(size=40)])
    np.savez(tmp_path / "xy.npz", x=x, y=labels)
    loaded = data.load(tmp_path / "xy.npz")
    jn.fit(jn.models.mlp(2), jn.nll, loaded, optax.adam(0.1), epochs=40, checkpoint=tmp_path / "run")
    assert evaluate(tmp_path / "run", tmp_path / "xy.npz").accuracy > 0.9
    assert [row["predicted"] for row in rows_of(predict_file(tmp_path / "run", tmp_path / "xy.npz"))][:2] == ["0", "1"]
    with pytest.raises(CheckpointError, match="of no task.*--data"):
        evaluate(tmp_path / "run")
    images = Dataset((rng.random((4, 1, 2, 2)) * 255).astype(np.uint8), np.arange(4) % 2, classes=2)
    scaled = jn.Encoding.of_dataset(images).fitted(images.x, images.y).inputs(images.x)
    np.testing.assert_allclose(scaled, images.x / 255, rtol=1e-6)


def test_more_classes_than_can_be_seen_are_not_drawn(tmp_path):
    labels = np.arange(80) % 40
    np.savez(tmp_path / "many.npz", x=np.eye(40)[labels], y=labels)
    trained = train_on(tmp_path / "many.npz", model="linear(40) log_softmax", epochs=1, output=tmp_path / "run")
    assert [path.name for path in trained.pictures] == ["curves.png", "calibration.png"]


def test_data_that_cannot_be_learned_from(tmp_path):
    np.savez(tmp_path / "nan.npz", x=np.array([[1.0], [np.nan]]), y=np.arange(2))
    for options, words in (
        ({}, "x holds NaN or infinity"),
        ({"held_out": 1.5}, "held_out must be between 0 and 1"),
        ({"epochs": 0}, "epochs must be 1 to"),
        ({"resume": True}, "resume needs output"),
        ({"target": "x"}, "target is for CSV files"),
    ):
        with pytest.raises(ValueError, match=words):
            train_on(tmp_path / "nan.npz", **options)


def test_descriptions_of_others_are_refused(classified, tmp_path):
    path = Path(shutil.copytree(checkpoints(classified[1] / "checkpoints")[-1], tmp_path / "step-0000000001"))
    config = json.loads((path / CONFIG).read_text())
    for changes in (
        {"source": {}}, {"source": 3}, {"source": config["source"] | {"seed": -1}},
        {"source": config["source"] | {"held_out": "x"}}, {"data_encoding": {"kind": "table"}}, {"data_encoding": 3},
    ):  # fmt: skip
        (path / CONFIG).write_text(json.dumps(config | changes))
        (path / SUMS).write_bytes(checksums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))
        with pytest.raises(CheckpointError):
            evaluate(path)
