"""Exported functions and parameters, and what `export` refuses."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors import safe_open

import jaxnets as jn
from jaxnets import data

MODEL = jn.parse("conv(2) relu max_pool(2) flatten residual(linear(4) tanh) linear(3)")
PARAMS = jax.jit(MODEL.init, static_argnums=1)(jax.random.key(0), (1, 2, 4))
X = np.random.default_rng(0).normal(size=(5, 1, 2, 4)).astype(np.float32)


def test_a_function_needs_no_jaxnets_and_takes_any_number_of_examples(tmp_path):
    path = jn.export(MODEL, PARAMS, tmp_path / "model.jax", like=(1, 2, 4))
    np.save(tmp_path / "x.npy", X)
    code = """
import sys
sys.modules["jaxnets"] = None
import jax, numpy as np
function = jax.export.deserialize(bytearray(open("model.jax", "rb").read()))
x = np.load("x.npy")
np.save("y.npy", np.concatenate([function.call(x[:2]), function.call(x[2:])]))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=100)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), jn.predict(MODEL, PARAMS, X), rtol=1e-5, atol=1e-6)
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}


def test_parameters_have_dotted_names(tmp_path):
    jn.export(MODEL, PARAMS, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "np") as stored:
        assert set(stored.keys()) == {"0.w", "0.b", "4.0.w", "4.0.b", "5.w", "5.b"}
        assert stored.metadata() == {"model": MODEL.name}
        np.testing.assert_array_equal(stored.get_tensor("4.0.w"), PARAMS[4][0]["w"])


def test_standardization_is_inside_the_function(tmp_path):
    model = jn.parse("linear(2)")
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (3,))
    raw = np.random.default_rng(0).normal(5, 3, (6, 3))
    dataset = data.Dataset(raw, raw[:, :2])
    encoding = jn.Encoding.of_dataset(dataset).fitted(dataset.x, dataset.y)
    path = jn.export(model, params, tmp_path / "model.jax", like=encoding)
    given = jax.export.deserialize(bytearray(path.read_bytes())).call(raw.astype(np.float32))
    expected = encoding.answers(jn.predict(model, params, encoding.inputs(raw)))
    np.testing.assert_allclose(given, expected, rtol=1e-4)


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    for path, like, error, words in (
        ("model.jax", None, ValueError, "export: like must tell what an input is"),
        ("model.onnx", (1, 2, 4), ValueError, "export: path must end in .jax or .safetensors"),
        ("model.jax", (1, 2), ValueError, "conv"),
        ("model.jax", 3, TypeError, "export: like must be"),
    ):
        with pytest.raises(error, match=words):
            jn.export(MODEL, PARAMS, tmp_path / path, like=like)
    with pytest.raises(jn.ShapeError, match="export: params"):
        jn.export(MODEL, [], tmp_path / "model.jax", like=(1, 2, 4))
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxnets\[export\]'"):
        jn.export(MODEL, PARAMS, tmp_path / "model.jax", like=(1, 2, 4))
    assert not list(tmp_path.iterdir())
