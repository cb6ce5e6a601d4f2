"""One's own files: tables, folders of images, and a second file that is read as the first one was."""

import dataclasses
import json
import pickle
import re
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import jaxnets as jn
from jaxnets import DTypeError, Encoding, ShapeError, data
from jaxnets.learn.data import Dataset
from jaxnets.learn.encoding import Column, Scale
from jaxnets.learn.reading import fingerprint

TABLE = """size, colour ,price,kind
1,red,10.5,big
2,blue,20,"big, or not"
3.5,red,-1e2,small
-4,green,0.25,big
"""


@pytest.fixture(params=["polars", "pandas"])
def reader(request, monkeypatch):
    """Either library reads tables, in the same way."""
    pytest.importorskip(request.param)
    if request.param == "pandas":
        monkeypatch.setitem(sys.modules, "polars", None)


def written(folder, text, name="some.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_has_numbers_words_and_answers(reader, tmp_path):
    path = written(tmp_path, TABLE)
    found = data.load(path, target="kind")
    np.testing.assert_array_equal(found.x, [[1, 0, 0, 1, 10.5], [2, 1, 0, 0, 20], [3.5, 0, 0, 1, -100], [-4, 0, 1, 0, 0.25]])
    np.testing.assert_array_equal(found.y, [0, 1, 2, 0])
    assert (found.classes, found.name) == (3, str(path))
    assert found.encoding == Encoding(
        "table", (5,), (Column("size"), Column("colour", ("blue", "green", "red")), Column("price")), "kind",
        ("big", "big, or not", "small"),
    )  # fmt: skip
    numbers = data.load(path, target="price")
    np.testing.assert_array_equal(numbers.y, [[10.5], [20], [-100], [0.25]])
    assert numbers.classes is None and numbers.encoding.target_shape == (1,) and numbers.shape == (7,)


@pytest.mark.parametrize(
    "text, name",
    [
        ('size;"colour, or not";price;kind\n1;red;10,5;a\n2;blue;-,25e1;b\n3;red;4.5;a\n', "some.csv"),
        ("size\tcolour, or not\tprice\tkind\n1\tred\t10.5\ta\n2\tblue\t-2.5\tb\n3\tred\t4.5\ta\n", "some.tsv"),
    ],
)
def test_semicolons_and_tabs_separate_columns_too(reader, text, name, tmp_path):
    found = data.load(written(tmp_path, text, name), target="kind")
    np.testing.assert_array_equal(found.x, [[1, 0, 1, 10.5], [2, 1, 0, -2.5], [3, 0, 1, 4.5]])
    assert found.encoding.columns == (Column("size"), Column("colour, or not", ("blue", "red")), Column("price"))


def test_a_comma_in_a_cell_is_decimal_only_where_semicolons_separate(reader, tmp_path):
    found = data.load(written(tmp_path, 'x,y\n"1,5",a\n"2,5",b\n'), target="y")
    assert found.encoding.columns == (Column("x", ("1,5", "2,5")),)


@pytest.mark.parametrize(
    "answers, classes, names",
    [
        ("3 1 1 3", None, ("1", "3")),
        ("3 1 2 4", None, None),  # as many as rows
        ("1 1.5 1 1.5", None, None),
        ("0 1 1.0 0", None, ("0", "1")),
        ("0 2 2 0", 3, ("0", "1", "2")),
        ("1 2 2 1", 2, ("1", "2")),
        ("1 2 2 1", 0, None),
        ("a b b a", 2, ("a", "b")),
        ("true false true true", None, ("false", "true")),
    ],
)
def test_what_answers_are_labels(tmp_path, answers, classes, names):
    cells = answers.split()
    path = written(tmp_path, "\n".join(["x,y", *(f"{i},{cell}" for i, cell in enumerate(cells))]))
    found = data.load(path, classes, target="y")
    assert found.encoding.classes == names
    if names is None:
        np.testing.assert_array_equal(found.y[:, 0], np.array(cells, float))
    else:
        assert [names[label] for label in found.y] == [cell.removesuffix(".0") for cell in cells]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no rows"),
        ("x,y\n", "no rows"),
        ("x\n1\n", r"target= \(--target\); columns: x"),
        ("x|y\n1|2\n", r"target= \(--target\); columns: x|y"),
        ("x;y\n1;2\n2;3;4\n", "no table whose columns semicolons separate"),
        ("x,x,y\n1,2,3\n", "column 2 is named 'x' like another"),
        ("x,,y\n1,2,3\n", "column 2 has no name"),
        ("x,y\n1,2\n2,3,4\n", "no table whose columns commas separate"),
        ("x,y\n1,2\n,3\n", "column 'x', line 3: the value is missing"),
        ("x,y\n1,2\n3,\n", "column 'y', line 3: the value is missing"),
        ("x,w,y\n1,a,2\n2,,3\n", "column 'w', line 3: the value is missing"),
        ('w,x,y\n"a\nb",1,2\nc,1,2\nd,NA,3\n', "column 'x', line 5: 'NA' is no number"),
        ("x,y\n1,2\ninf,3\n", "column 'x', line 3: 'inf' is no number"),
        ("x,y\n" + "".join(f"1,word{i}\n" for i in range(300)), r"column 'y' has 300 .* classes=300 \(--classes\)"),
        ("x,y\n" + "".join(f"word{i},1\n" for i in range(300)), "column 'x' has 300 different words, at most 256"),
    ],
)
def test_a_table_that_cannot_be_read_names_column_and_line(reader, tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=words) as found:
        data.load(path, target="y")
    assert str(found.value).startswith(str(path))


def test_answers_that_are_asked_for_wrongly(tmp_path):
    path = written(tmp_path, TABLE)
    for options, words in (
        ({}, r"which column holds the answers\?.*size, colour, price, kind"),
        ({"target": "Kind"}, r"no column 'Kind'\."),
        ({"target": "kind", "classes": 2}, "column 'kind' has 3 different labels, expected 2 classes"),
        ({"target": "price", "classes": 2}, "column 'price' holds fractions, expected labels of 2 classes"),
        ({"target": "kind", "size": (2, 2)}, "load: size is for folders of images"),
        ({"target": "kind", "classes": -1}, "load: classes must be at least 0"),
        ({"like": data.load(path, target="kind"), "target": "kind"}, "load: target is already told by like"),
    ):
        with pytest.raises(ValueError, match=words):
            data.load(path, **options)
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.load(tmp_path / "nothing.csv", target="x")
    with pytest.raises(TypeError, match="load: like must be"):
        data.load(path, like={"a": 1})


def test_a_missing_reader_says_what_to_install(tmp_path, monkeypatch):
    for name in ("polars", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxnets\[tables\]'"):
        data.load(written(tmp_path, TABLE), target="kind")


def test_another_table_is_read_in_the_same_way(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="kind")
    other = written(tmp_path, "kind,price,size,colour\nsmall,1,2,blue\nbig,3,4,red\n", "other.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = data.load(other, like=first)
    np.testing.assert_array_equal(found.x, [[2, 1, 0, 0, 1], [4, 0, 0, 1, 3]])
    np.testing.assert_array_equal(found.y, [2, 0])
    without = data.load(written(tmp_path, "price,size,colour\n1,2,blue\n", "without.csv"), like=first)
    assert without.y.shape == (1, 0) and repr(without).endswith("no answers)")
    for text, words in (
        ("price,size,kind\n1,2,big\n", "no column 'colour'"),
        ("price,size,colour,weight\n1,2,red,3\n", "column 'weight' was not there"),
        ("price,size,colour,kind\n1,2,red,huge\n", "column 'kind', line 2: 'huge' is no known class"),
        ("price,size,colour\nred,2,red\n", "column 'price', line 2: 'red' is no number"),
    ):
        with pytest.raises(ValueError, match=words):
            data.load(written(tmp_path, text, "bad.csv"), like=first.encoding)


def test_a_word_that_is_new_is_none_of_the_known_and_is_told_once(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="kind")
    other = written(tmp_path, "price,size,colour\n1,2,pink\n3,4,red\n5,6,grey\n", "other.csv")
    with pytest.warns(UserWarning, match="column 'colour': 2 cells hold words .* such as 'pink'") as told:
        found = data.load(other, like=first)
    assert len(told) == 1
    np.testing.assert_array_equal(found.x[:, 1:4], [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


# --- images -------------------------------------------------------------------------------------------------------


def drawn(path, mode="L", size=(4, 3), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = Image.new("L", size, value)
    pixels.putpixel((1, 0), 255)
    pixels.convert(mode).save(path)


def test_a_folder_of_images_has_a_folder_for_each_class(tmp_path):
    for i, name in enumerate(("ox", "ant", "ox")):
        drawn(tmp_path / name / f"{i}.png", value=51 * i)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "ox" / "notes.txt").write_text("no image")
    found = data.load(tmp_path)
    assert (found.x.shape, found.x.dtype) == ((3, 1, 3, 4), np.float32)
    np.testing.assert_array_equal(found.y, [0, 1, 1])
    assert found.encoding == Encoding("images", (1, 3, 4), classes=("ant", "ox"))
    np.testing.assert_allclose(found.x[:, 0, 2, 3], [0.2, 0, 0.4])
    np.testing.assert_array_equal(found.x[:, 0, 0, 1], [1, 1, 1])
    drawn(tmp_path / "ox" / "9.jpg", "RGB")
    assert data.load(tmp_path).shape == (3, 3, 4)  # one of them has colours
    sized = data.load(tmp_path, size=(6, 2))
    assert sized.shape == (3, 6, 2) and sized.encoding.resized
    flat = tmp_path / "flat"
    drawn(flat / "a.png", size=(9, 9))
    again = data.load(flat, like=sized)
    assert again.x.shape == (1, 3, 6, 2) and again.y.size == 0
    assert data.load(flat / "a.png", like=sized).x.tobytes() == again.x.tobytes()
    with pytest.raises(ValueError, match=r"a\.png has 9×9 pixels and expected 3×4"):
        data.load(flat, like=found)


def test_images_that_do_not_fit_are_named(tmp_path):
    drawn(tmp_path / "one" / "a.png")
    drawn(tmp_path / "two" / "b.png", size=(5, 3))
    with pytest.raises(ValueError, match=r"b\.png has 3×5 pixels and .*a\.png has 3×4; size=\(height, width\)"):
        data.load(tmp_path)
    with pytest.raises(ValueError, match="2 folders of classes, expected classes=3"):
        data.load(tmp_path, 3, size=(2, 2))
    (tmp_path / "two" / "b.png").write_bytes(b"\x89PNG no")
    with pytest.raises(ValueError, match=r"b\.png: no image that can be read"):
        data.load(tmp_path)
    content = (tmp_path / "one" / "a.png").read_bytes()
    (tmp_path / "two" / "b.png").write_bytes(content[:-25])
    with pytest.raises(ValueError, match=r"b\.png: no image that can be read"):
        data.load(tmp_path)
    (tmp_path / "two" / "b.png").unlink()
    with pytest.raises(ValueError, match="the folder of the class 'two' holds no image"):
        data.load(tmp_path)
    drawn(tmp_path / "c.png")
    with pytest.raises(ValueError, match="lies beside the folders of classes"):
        data.load(tmp_path)
    with pytest.raises(ValueError, match="images in no folders of classes"):
        data.load(tmp_path / "one")
    with pytest.raises(ValueError, match="no known class; known: x"):
        drawn(tmp_path / "new" / "z" / "c.png")
        data.load(tmp_path / "new", like=Encoding("images", (1, 3, 4), classes=("x",)))


# --- arrays, encodings --------------------------------------------------------------------------------------------


def test_arrays_are_read_like_others(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=np.arange(3.0))
    numbers = Dataset(x, x[:, :1])
    assert data.load(tmp_path / "x.npz", like=numbers).y.shape == (3, 0)
    assert data.load(tmp_path / "xy.npz", like=numbers).y.shape == (3, 1)
    with pytest.raises(ShapeError, match=r"one input has shape \(2,\), expected \(4,\)"):
        data.load(tmp_path / "x.npz", like=Dataset(np.ones((1, 4)), np.ones(1)))
    with pytest.raises(ValueError, match="is read as arrays, but like tells of images"):
        data.load(tmp_path / "x.npz", like=Encoding("images", (1, 3, 4)))


def test_inputs_and_targets_are_standardized_by_the_training_set_alone(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="price")
    encoding = first.encoding.fitted(first.x, first.y)
    x, y = encoding.inputs(first.x), encoding.targets(first.y)
    np.testing.assert_allclose(x[:, 0], (first.x[:, 0] - first.x[:, 0].mean()) / first.x[:, 0].std())
    np.testing.assert_array_equal(x[:, 1:], first.x[:, 1:])  # words stay zeros and ones
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(encoding.answers(y), first.y, atol=1e-12)
    other = data.load(written(tmp_path, "size,colour,kind\n100,red,small\n", "other.csv"), like=encoding)
    np.testing.assert_allclose(other.x[0, 0], (100 - first.x[:, 0].mean()) / first.x[:, 0].std())
    constant = Scale.of(np.full((4, 1), 3.0))
    np.testing.assert_array_equal(constant.standardize(np.array([[3.0], [5.0]])), [[0], [2]])


def test_statistics_are_noted_in_the_encoding(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="kind")
    twice = first
    for _ in range(2):
        twice = data.Statistics.of(twice.x + 1).standardize(twice)
    np.testing.assert_allclose(data.load(tmp_path / "some.csv", like=twice).x, twice.x, atol=1e-12)


def test_an_encoding_is_json_and_nothing_else_is_one(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="price")
    encoding = first.encoding.fitted(first.x, first.y)
    text = json.dumps(encoding.to_json(), allow_nan=False)
    assert Encoding.from_json(json.loads(text)) == encoding
    found = json.loads(text)
    for changes in (
        {"kind": "other"}, {"shape": 3}, {"shape": [-1]}, {"shape": [6]}, {"columns": 1}, {"columns": [{"name": 1}]},
        {"classes": "ab", "target": 3}, {"scale": {"mean": [1, 2], "std": [1, 2]}}, {"scale": 5}, {"target_shape": ["x"]},
        {"scale": {"mean": [float("nan")] * 7, "std": [1] * 7}}, {"scale": {"mean": [1] * 7, "std": [1]}},
        {"scale": {"mean": [1], "std": [0]}}, {"target_scale": {"mean": [1, 2], "std": [1, 2]}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="from_json"):
            Encoding.from_json(found | changes)
    assert repr(encoding) == "Encoding(table of inputs [7], standardized, answers: numbers)"


def test_a_data_set_keeps_its_encoding(tmp_path):
    first = data.load(written(tmp_path, TABLE), target="kind")
    parts = data.split(first, 2)
    assert {part.encoding for part in parts} == {first.encoding}
    assert first.take([1, 0]).encoding is first.encoding
    with pytest.raises(ShapeError, match="encoding=None"):
        dataclasses.replace(first, x=first.x[:, :2])
    old = Dataset(first.x, first.y, "old", 3)
    del old.__dict__["encoding"]  # as it was pickled by a version without
    assert pickle.loads(pickle.dumps(old)).encoding is None
    with pytest.raises(DTypeError, match="predictions"):
        first.encoding.answers("abc")
    with pytest.raises(ShapeError, match=re.escape("expected (…, 3)")):
        first.encoding.answers(np.ones((2, 4)))


def test_a_fingerprint_changes_with_names_and_contents(tmp_path):
    drawn(tmp_path / "one" / "a.png")
    before = fingerprint(tmp_path)
    assert before == fingerprint(tmp_path)
    (tmp_path / "one" / "a.png").rename(tmp_path / "one" / "b.png")
    renamed = fingerprint(tmp_path)
    drawn(tmp_path / "one" / "b.png", value=7)
    assert len({before, renamed, fingerprint(tmp_path)}) == 3
    path = written(tmp_path, TABLE)
    assert len({fingerprint(path), fingerprint(written(tmp_path, TABLE + "1"))}) == 2


def test_a_run_remembers_its_encoding(tmp_path):
    import optax

    first = data.Statistics.of(np.ones((2, 5))).standardize(data.load(written(tmp_path, TABLE), target="kind"))
    jn.fit(jn.models.mlp(3), jn.nll, first, optax.sgd(0.1), epochs=1, checkpoint=tmp_path / "run" / "checkpoints")
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        model, params, config = jn.restore(folder)
        assert Encoding.from_json(config["data_encoding"]) == first.encoding
    again = data.load(tmp_path / "some.csv", like=config)
    assert again.x.tobytes() == first.x.tobytes()
    assert set(first.encoding.answers(jn.predict(model, params, again.x))) <= set(first.encoding.classes)
