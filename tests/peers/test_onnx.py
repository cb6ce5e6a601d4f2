"""ONNX's own cases of single operators: the values of every operator that has a counterpart."""

import functools
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX's cases need onnx: pip install -e '.[peers]'")

from onnx.backend.test.loader import load_model_tests  # noqa: E402
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype  # noqa: E402
from onnx.numpy_helper import to_array  # noqa: E402

from .onnx_operators import OPERATORS  # noqa: E402

LEFT_OUT = {}


def is_floating(dtype):
    return dtype == "bfloat16" or np.issubdtype(dtype, np.floating)


@functools.cache
def cases():
    """By operator, the cases of one node whose operator has a counterpart and whose first input is floating."""
    found = {name: [] for name in OPERATORS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes its cases while it loads them
        everything = load_model_tests(kind="node")
    for case in everything:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in OPERATORS or case.name.endswith("_expanded"):
            continue
        kind = case.model.graph.input[0].type.tensor_type.elem_type
        if kind and is_floating(tensor_dtype_to_np_dtype(kind)):
            found[nodes[0].op_type].append(case)
    return found


def arrays_of(case, values):
    return [to_array(value) if isinstance(value, onnx.TensorProto) else value for value in values]


def disagreement(case) -> str:
    """How what we compute differs from a case; nothing where it agrees."""
    (node,) = case.model.graph.node
    attributes = {a.name: get_attribute_value(a) for a in node.attribute}
    attributes = {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in attributes.items()}
    for inputs, outputs in case.data_sets:
        given = iter(arrays_of(case, inputs))
        arrays = [next(given) if name else None for name in node.input]
        if node.op_type == "Split":
            attributes["num_outputs"] = len(node.output)
        try:
            found = OPERATORS[node.op_type](*arrays, **attributes)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        found = found if isinstance(found, tuple) else (found,)
        wanted = iter(arrays_of(case, outputs))
        for i, name in enumerate(node.output):
            if not name:
                continue
            expected = next(wanted)
            if i >= len(found) or found[i] is None:
                return f"no output '{name}'"
            ours = np.asarray(found[i])
            if ours.shape != expected.shape:
                return f"'{name}' has shape {ours.shape}, expected {expected.shape}"
            rtol, atol = case.rtol, case.atol
            if expected.dtype in ("float16", "bfloat16"):
                rtol = max(rtol, 1e-2)
            ours, expected = ours.astype(np.float64), expected.astype(np.float64)
            if not np.allclose(ours, expected, rtol, atol, equal_nan=True):
                return f"'{name}' differs by {np.nanmax(np.abs(ours - expected))}"
    return ""
