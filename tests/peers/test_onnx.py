"""ONNX's own cases of single operators: the values of every operator that has a counterpart."""

import functools
import warnings
from fnmatch import fnmatchcase

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX's cases need onnx: pip install -e '.[peers]'")

from onnx.backend.test.loader import load_model_tests  # noqa: E402
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype  # noqa: E402
from onnx.numpy_helper import to_array  # noqa: E402

from .onnx_operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.sweep
LEAST = 395  # cases that agree
LEFT_OUT = {  # why, by the names of the cases
    "clip_min_greater_than_max": "limits in the wrong order are refused",
    "reduce_max_empty_set": "the largest of no numbers is refused",
    "reduce_min_empty_set": "the largest of no numbers is refused",
    "lstm_with_peepholes": "gates do not read the cells",
    "lstm_reverse": "the last cells are not returned",
    "lstm_bidirectional": "the last cells are not returned",
    "gru_seq_length": "the reset gate multiplies after the product, as in PyTorch",
    "gru_reverse": "the reset gate multiplies after the product, as in PyTorch",
    "gru_bidirectional": "the reset gate multiplies after the product, as in PyTorch",
    "training_dropout*": "random numbers",
    "flexattention_*_mod": "a graph of ONNX as an attribute",
    "flexattention_causal_mask": "a graph of ONNX as an attribute",
    "flexattention_soft_cap": "a graph of ONNX as an attribute",
    "flexattention_relative_positional": "a graph of ONNX as an attribute",
    "averagepool_2d_pads": "padding of more than half of a window, which does not count",
    "maxunpool_export_with_output_shape": "places that are counted in an image of another size",
    "resize_*_sizes_nearest": "of two pixels that are equally near ONNX takes the first",
    "resize_upsample_sizes_nearest_axes_*": "of two pixels that are equally near ONNX takes the first",
    "resize_downsample_scales_*_align_corners": "sizes of parts of a pixel",
    "resize_*_pytorch_half_pixel": "an axis of one pixel is taken from the edge",
    "resize_*_antialias": "beyond the edges ONNX repeats the last entries",
    "resize_*_exclude_outside": "weights beyond the edges are those of the last entries",
    "resize_*_asymmetric": "a rule for the places of pixels that `interpolate` does not have",
    "resize_*_symmetric": "a rule for the places of pixels that `interpolate` does not have",
    "resize_tf_crop_and_resize*": "a part of the image is resized: cut it out first",
    "resize_*_nearest_floor_align_corners": "a rule for the places of pixels that `interpolate` does not have",
    "resize_*_nearest_ceil_half_pixel": "a rule for the places of pixels that `interpolate` does not have",
    "resize_*_not_larger": "sizes that keep the shape are for the caller to find",
    "resize_*_not_smaller": "sizes that keep the shape are for the caller to find",
}
KEPT = ("training_dropout_zero_ratio*",)  # that a pattern above would leave out


def why_left_out(name: str) -> str | None:
    if any(fnmatchcase(name, kept) for kept in KEPT):
        return None
    return next((reason for pattern, reason in LEFT_OUT.items() if fnmatchcase(name, pattern)), None)


def is_floating(dtype) -> bool:
    return dtype == "bfloat16" or np.issubdtype(dtype, np.floating)


def name_of(case) -> str:
    return case.name.removeprefix("test_")


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


def arrays(values):
    return [to_array(value) if isinstance(value, onnx.TensorProto) else value for value in values]


def disagreement(case) -> str:
    """How what we compute differs from a case; nothing where it agrees."""
    (node,) = case.model.graph.node
    attributes = {a.name: get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Split":
        attributes["num_outputs"] = len(node.output)
    for inputs, outputs in case.data_sets:
        given, expected = iter(arrays(inputs)), iter(arrays(outputs))
        found = OPERATORS[node.op_type](*(next(given) if name else None for name in node.input), **attributes)
        found = found if isinstance(found, tuple) else (found,)
        for name, ours in zip(node.output, found, strict=False):
            if name and (told := differ(ours, next(expected), case)):
                return f"{name} {told}"
        if any(node.output[len(found) :]):
            return f"{len(found)} outputs, expected {len(node.output)}"
    return ""


def differ(ours, expected, case) -> str:
    ours = np.asarray(ours)
    if ours.shape != expected.shape:
        return f"has shape {ours.shape}, expected {expected.shape}"
    rtol = max(case.rtol, 1e-2) if expected.dtype in ("float16", "bfloat16") else case.rtol
    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    close = np.allclose(ours, expected, rtol, case.atol, equal_nan=True)
    return "" if close else f"differs by {np.nanmax(np.abs(ours - expected))}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_values_of_an_operator(operator, record_property):
    reasons, agreeing = {}, 0
    for case in cases()[operator]:
        if reason := why_left_out(name_of(case)):
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            assert not disagreement(case), name_of(case)
            agreeing += 1
    record_property("agreeing", agreeing)
    record_property("left out", reasons)
    assert agreeing


def test_counts(record_property):
    names = [name_of(case) for found in cases().values() for case in found]
    left_out = {name: reason for name in names if (reason := why_left_out(name))}
    assert len(names) - len(left_out) >= LEAST
    for pattern in LEFT_OUT:
        assert any(fnmatchcase(name, pattern) for name in names), f"no case is called {pattern}"
    print(f"{len(names) - len(left_out)} of {len(names)} cases of ONNX")
