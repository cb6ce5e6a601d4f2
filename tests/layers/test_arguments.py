"""Bad arguments: a typed error that names the layer, the argument and what was given."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from jaxnets import DTypeError, RuleError, ShapeError


def ones(*shape):
    return np.ones(shape)


INTS, COMPLEX, BOOLS = np.arange(3), np.ones(3, complex), np.ones(3, bool)
FLOAT_LOSSES = ["absolute_error", "huber", "smooth_l1", "log_cosh"]
NUMBER_LOSSES = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "hinge", "soft_margin", "poisson_nll"]
LABEL_LOSSES = ["nll", "cross_entropy", "multi_class_hinge"]
ONE_ARRAY = [
    "identity", "relu", "tanh", "sigmoid", "softplus", "duplicate", "flatten", "split", "l2_norm", "relu6", "leaky_relu",
    "elu", "celu", "selu", "gelu", "silu", "mish", "softsign", "log_sigmoid", "hard_sigmoid", "hard_swish", "hard_tanh",
    "tanh_shrink", "soft_shrink", "hard_shrink", "clip", "glu", "swiglu",
]  # fmt: skip
MASKED = ["sum", "mean", "max", "logsumexp", "softmax", "softmin", "log_softmax"]
TWO_ARRAYS = [
    *((name, "x2") for name in ("add", "subtract", "multiply", "maximum", "minimum")), ("squared_error", "targets"),
    *((name, "targets") for name in FLOAT_LOSSES),
]  # fmt: skip
CONV1 = ["conv", "conv1d", "conv_transpose", "conv_transpose1d"]
CONVOLUTIONS = [*CONV1, "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"]
WIDE, STEPS = ones(2, 9, 9, 9), ["stride", "dilation", "groups"]
WINDOWED = [
    ("max_pool", "kernel_size"), ("avg_pool", "kernel_size"),
    ("adaptive_max_pool", "output_size"), ("adaptive_avg_pool", "output_size"),
]  # fmt: skip
POOLS = {"global_max_pool": {}, "global_avg_pool": {}, **{name: {key: 2} for name, key in WINDOWED}}
NORMS = {"layer_norm": "axes", "rms_norm": "axes", "standardize": "axis", "normalize": "axis"}
CHANNEL_NORMS, GROUPS = ["group_norm", "instance_norm", "batch_norm"], {"group_norm": {"groups": 2}}

# layer, arguments, configuration, error, words that the message must hold besides the layer's name
TABLE = [
    *((name, [INTS], {}, DTypeError, ["'x'", "int64"]) for name in ONE_ARRAY + MASKED),
    *((name, [COMPLEX], {}, DTypeError, ["'x'", "complex128"]) for name in ONE_ARRAY + MASKED),
    *((name, [BOOLS], {}, DTypeError, ["'x'", "bool"]) for name in ONE_ARRAY + MASKED),
    *((name, ["word"], {}, DTypeError, ["'x'", "str"]) for name in ONE_ARRAY + MASKED),
    *((name, [None], {}, TypeError, ["'x'", "None"]) for name in ONE_ARRAY + MASKED),
    *((name, [], {}, TypeError, ["'x'"]) for name in ONE_ARRAY + MASKED),
    *((name, [ones(3), ones(3)], {}, TypeError, ["too many"]) for name in ONE_ARRAY),
    *((name, [ones(3)], {"colour": 1}, TypeError, ["'colour'"]) for name in ONE_ARRAY),
    *((name, [ones(3), ones(4)], {}, ShapeError, [f"'{second}'", "(3,)", "(4,)"]) for name, second in TWO_ARRAYS),
    *((name, [ones(3), INTS], {}, DTypeError, [f"'{second}'", "int64"]) for name, second in TWO_ARRAYS),
    *((name, [ones(3), None], {}, TypeError, [f"'{second}'", "None"]) for name, second in TWO_ARRAYS),
    *((name, [ones(3)], {}, TypeError, [f"'{second}'"]) for name, second in TWO_ARRAYS),
    *((name, [ones(3), object()], {}, DTypeError, [f"'{second}'", "object"]) for name, second in TWO_ARRAYS),
    ("add", [ones(2, 3), ones(2)], {}, ShapeError, ["'x2'", "(2,)", "(2, 3)"]),
    *((name, [ones(2, 3), np.ones(2, bool)], {}, ShapeError, ["'where'", "(2,)", "(2, 3)"]) for name in MASKED),
    *((name, [ones(2, 3), np.ones((1, 2, 3), bool)], {}, ShapeError, ["'where'", "(1, 2, 3)", "(2, 3)"]) for name in MASKED),
    *((name, [ones(2, 3), ones(2, 3)], {}, DTypeError, ["'where'", "float64", "bool"]) for name in MASKED),
    *((name, [ones(2, 3), -1], {}, DTypeError, ["'where'", "bool"]) for name in MASKED),
    *((name, [ones(2, 3)], {"axis": 2}, ShapeError, ["axis", "2", "(2, 3)"]) for name in [*MASKED, "l2_norm"]),
    *((name, [ones(2, 3)], {"axis": (0, -2)}, ShapeError, ["axis", "(2, 3)", "twice"]) for name in [*MASKED, "l2_norm"]),
    *((name, [ones(2, 3)], {"axis": 1.5}, TypeError, ["axis", "1.5"]) for name in [*MASKED, "l2_norm"]),
    ("max", [ones(0, 3)], {"axis": 0}, ShapeError, ["'x'", "(0, 3)", "no entries"]),
    ("max", [ones(0)], {}, ShapeError, ["'x'", "(0,)", "no entries"]),
    ("cosine_similarity", [ones(2, 3), ones(3)], {}, ShapeError, ["'x2'", "(3,)", "(2, 3)"]),
    ("cosine_similarity", [ones(2, 3), ones(2, 1)], {}, ShapeError, ["'x2'", "(2, 1)", "(2, 3)"]),
    ("cosine_similarity", [1.0, 2.0], {}, ShapeError, ["axis", "()"]),
    ("cosine_similarity", [ones(2, 3), ones(2, 3)], {"axis": 2}, ShapeError, ["axis", "2", "(2, 3)"]),
    ("stack", [], {}, TypeError, ["no arguments"]),
    ("stack", [ones(2, 3), ones(3)], {}, ShapeError, ["'xs2'", "(3,)", "(2, 3)"]),
    ("stack", [ones(2, 3), ones(2, 1)], {}, ShapeError, ["'xs2'", "(2, 1)", "(2, 3)"]),
    ("stack", [ones(2), ones(2)], {"axis": 2}, ShapeError, ["axis", "2"]),
    ("stack", [ones(2), np.arange(2)], {}, DTypeError, ["'xs2'", "int64"]),
    ("stack", [[ones(2), ones(2)]], {}, DTypeError, ["'xs1'", "list"]),
    ("split", [ones(5)], {}, ValueError, ["sections", "2", "(5,)"]),
    ("split", [ones(5)], {"sections": 0}, ValueError, ["sections", "0", "(5,)"]),
    ("split", [ones(5)], {"sections": (2, 2)}, ValueError, ["sections", "(2, 2)", "(5,)"]),
    ("split", [ones(5)], {"sections": (7, -2)}, ValueError, ["sections", "(7, -2)", "(5,)"]),
    ("split", [ones(5)], {"sections": 2.5}, TypeError, ["sections", "2.5"]),
    ("split", [ones(4)], {"axis": 1}, ShapeError, ["axis", "1", "(4,)"]),
    ("split", [np.arange(4)], {}, DTypeError, ["'x'", "int64"]),
    ("bilinear", [ones(2, 3), ones(4, 5), ones(1, 3, 5)], {}, ShapeError, ["'x2'", "(4, 5)", "(2,)"]),
    ("bilinear", [ones(2, 3), ones(2, 5), ones(1, 5, 3)], {}, ShapeError, ["'w'", "(1, 5, 3)", "i = 3"]),
    ("bilinear", [ones(2, 3), ones(2, 5), ones(3, 5)], {}, ShapeError, ["'w'", "(3, 5)"]),
    ("bilinear", [ones(2, 3), ones(2, 5), ones(1, 3, 5), ones(2)], {}, ShapeError, ["'b'", "(2,)", "o = 1"]),
    ("bilinear", [ones(2, 3), ones(2, 5)], {}, TypeError, ["'w'"]),
    ("matmul", [ones(2, 3), ones(2, 3)], {}, ShapeError, ["'x2'", "(2, 3)", "'x1'"]),
    ("matmul", [1.0, ones(3)], {}, ShapeError, ["'x1'", "()"]),
    ("matmul", [ones(3), 1.0], {}, ShapeError, ["'x2'", "()"]),
    ("matmul", [ones(2, 2, 3), ones(3, 3, 2)], {}, ShapeError, ["'x2'", "(3, 3, 2)", "(2, 2, 3)"]),
    ("matmul", [ones(3), INTS], {}, DTypeError, ["'x2'", "int64"]),
    ("einsum", [ones(2, 3), ones(4, 2)], {"subscripts": "ij,jk"}, ShapeError, ["'xs2'", "(4, 2)", "j = 3", "'xs1'"]),
    ("einsum", [ones(2, 3)], {"subscripts": "ijk"}, ShapeError, ["'xs1'", "'ijk'", "(2, 3)"]),
    ("einsum", [ones(2, 3)], {"subscripts": "ij,jk"}, ValueError, ["subscripts", "'ij,jk'"]),
    ("einsum", [ones(2, 3)], {"subscripts": "ij->k"}, ValueError, ["subscripts", "'ij->k'"]),
    ("einsum", [ones(2, 3)], {}, TypeError, ["'subscripts'"]),
    ("einsum", ["ij->ji", np.ones((2, 3), int)], {}, DTypeError, ["'xs1'", "int64"]),
    ("embedding", [ones(3), ones(4, 2)], {}, DTypeError, ["'indices'", "float64"]),
    ("embedding", [INTS, ones(4)], {}, ShapeError, ["'table'", "(4,)"]),
    ("embedding", [INTS, ones(2, 4)], {}, ValueError, ["'indices'", "2", "0 to 1"]),
    ("embedding", [INTS - 1, ones(3, 4)], {}, ValueError, ["'indices'", "-1", "0 to 2"]),
    ("embedding", [BOOLS, ones(3, 4)], {}, DTypeError, ["'indices'", "bool"]),
    ("embedding", [INTS, np.ones((3, 2), int)], {}, DTypeError, ["'table'", "int64"]),
    ("embedding", [INTS, ones(3, 2)], {"padding_index": 3}, ValueError, ["padding_index", "3", "(3, 2)"]),
    ("embedding", [INTS, None], {}, TypeError, ["'table'", "None"]),
    ("leaky_relu", [ones(3)], {"negative_slope": "0.1"}, TypeError, ["negative_slope", "0.1"]),
    ("leaky_relu", [ones(3)], {"negative_slope": None}, TypeError, ["negative_slope", "None"]),
    ("leaky_relu", [ones(3)], {"negative_slope": np.nan}, ValueError, ["negative_slope", "nan"]),
    ("elu", [ones(3)], {"alpha": 1j}, TypeError, ["alpha", "1j"]),
    ("elu", [ones(3)], {"alpha": True}, TypeError, ["alpha", "True"]),
    ("elu", [ones(3)], {"alpha": ones(2)}, TypeError, ["hashable", "alpha"]),
    ("elu", [ones(3)], {"alpha": [1.0]}, TypeError, ["alpha", "(1.0,)"]),
    ("celu", [ones(3)], {"alpha": 0}, ValueError, ["alpha", "0"]),
    ("celu", [ones(3)], {"alpha": "1"}, TypeError, ["alpha", "1"]),
    ("gelu", [ones(3)], {"approximate": "erf"}, ValueError, ["approximate", "erf"]),
    ("gelu", [ones(3)], {"approximate": None}, ValueError, ["approximate", "None"]),
    ("softplus", [ones(3)], {"beta": 0.0}, ValueError, ["beta", "0"]),
    ("softplus", [ones(3)], {"beta": "1"}, TypeError, ["beta", "1"]),
    ("softplus", [ones(3)], {"threshold": "20"}, TypeError, ["threshold", "20"]),
    ("softplus", [ones(3)], {"threshold": np.nan}, ValueError, ["threshold", "nan"]),
    ("hard_tanh", [ones(3)], {"min_val": 2.0}, ValueError, ["min_val", "2.0", "max_val", "1.0"]),
    ("hard_tanh", [ones(3)], {"max_val": None}, TypeError, ["max_val", "None"]),
    ("hard_tanh", [ones(3)], {"min_val": "-1"}, TypeError, ["min_val", "-1"]),
    ("clip", [ones(3)], {"min": 1.0, "max": 0.5}, ValueError, ["min", "1.0", "max", "0.5"]),
    ("clip", [ones(3)], {"min": "0"}, TypeError, ["min", "0"]),
    ("clip", [ones(3)], {"max": np.nan}, ValueError, ["max", "nan"]),
    ("clip", [ones(3)], {"max": ones(3)}, TypeError, ["hashable", "max"]),
    *((name, [ones(3)], {"lambd": -0.5}, ValueError, ["lambd", "-0.5"]) for name in ("soft_shrink", "hard_shrink")),
    *((name, [ones(3)], {"lambd": None}, TypeError, ["lambd", "None"]) for name in ("soft_shrink", "hard_shrink")),
    ("threshold", [INTS], {"threshold": 1.0, "value": 0.0}, DTypeError, ["'x'", "int64"]),
    ("threshold", [ones(3)], {"value": 0.0}, TypeError, ["'threshold'"]),
    ("threshold", [ones(3)], {"threshold": 0.0}, TypeError, ["'value'"]),
    ("threshold", [ones(3), 1.0, 2.0], {}, TypeError, ["too many"]),
    ("threshold", [ones(3)], {"threshold": "0", "value": 0.0}, TypeError, ["threshold", "0"]),
    ("threshold", [ones(3)], {"threshold": 0.0, "value": None}, TypeError, ["value", "None"]),
    ("prelu", [ones(2, 3), ones(2)], {}, ShapeError, ["'w'", "(2,)", "(3,)", "axis 1", "(2, 3)"]),
    ("prelu", [ones(2, 3), ones(3, 1)], {}, ShapeError, ["'w'", "(3, 1)", "(3,)"]),
    ("prelu", [ones(2, 3), ones(1, 1)], {}, ShapeError, ["'w'", "(1, 1)"]),
    ("prelu", [ones(3), ones(3)], {}, ShapeError, ["axis 1", "(3,)"]),
    ("prelu", [ones(2, 3), ones(3)], {"axis": 2}, ShapeError, ["axis 2", "(2, 3)"]),
    ("prelu", [ones(2, 3), ones(3)], {"axis": None}, TypeError, ["axis", "None"]),
    ("prelu", [ones(2, 3), INTS], {}, DTypeError, ["'w'", "int64"]),
    ("prelu", [INTS, 0.25], {}, DTypeError, ["'x'", "int64"]),
    ("prelu", [ones(2, 3), None], {}, TypeError, ["'w'", "None"]),
    ("prelu", [ones(2, 3)], {}, TypeError, ["'w'"]),
    *((name, [ones(2, 3)], {}, ShapeError, ["'x'", "(2, 3)", "axis -1"]) for name in ("glu", "swiglu")),
    *((name, [ones(4, 1)], {"axis": 1}, ShapeError, ["'x'", "(4, 1)", "axis 1"]) for name in ("glu", "swiglu")),
    *((name, [ones(2, 4)], {"axis": 2}, ShapeError, ["axis 2", "(2, 4)"]) for name in ("glu", "swiglu")),
    *((name, [ones(2, 4)], {"axis": (0, 1)}, TypeError, ["axis", "(0, 1)"]) for name in ("glu", "swiglu")),
    *((name, [1.0], {}, ShapeError, ["axis -1", "()"]) for name in ("glu", "swiglu")),
    ("linear", [1.0, ones(2, 3)], {}, ShapeError, ["'x'", "()"]),
    ("linear", [ones(4, 3), ones(3)], {}, ShapeError, ["'w'", "(3,)"]),
    ("linear", [ones(4, 3), ones(1, 2, 3)], {}, ShapeError, ["'w'", "(1, 2, 3)"]),
    ("linear", [ones(4, 3), ones(3, 2)], {}, ShapeError, ["'w'", "(3, 2)", "i = 3", "'x'"]),
    ("linear", [ones(4, 3), ones(2, 3), ones(3)], {}, ShapeError, ["'b'", "(3,)", "o = 2", "'w'"]),
    ("linear", [ones(4, 3), ones(2, 3), ones(1, 2)], {}, ShapeError, ["'b'", "(1, 2)"]),
    ("linear", [ones(4, 3), ones(2, 3), 1.0], {}, ShapeError, ["'b'", "()"]),
    ("linear", [ones(4, 3), ones(2, 3).astype(int)], {}, DTypeError, ["'w'", "int64"]),
    ("linear", [ones(4, 3), ones(2, 3), np.arange(2)], {}, DTypeError, ["'b'", "int64"]),
    ("linear", [ones(4, 3), None], {}, TypeError, ["'w'", "None"]),
    ("linear", [None, ones(2, 3)], {}, TypeError, ["'x'", "None"]),
    ("linear", [ones(4, 3)], {}, TypeError, ["'w'"]),
    ("linear", [ones(4, 3), [[1.0, 2.0], [3.0]]], {}, DTypeError, ["'w'", "list"]),
    ("concatenate", [], {}, TypeError, ["no arguments"]),
    ("concatenate", [ones(2, 3), ones(4, 3)], {}, ShapeError, ["(2, 3)", "(4, 3)", "-1"]),
    ("concatenate", [ones(2, 3), ones(3)], {}, ShapeError, ["(2, 3)", "(3,)"]),
    ("concatenate", [ones(2, 3), ones(2, 3)], {"axis": 2}, ShapeError, ["axis 2", "(2, 3)"]),
    ("concatenate", [1.0, 2.0], {}, ShapeError, ["()", "axis"]),
    ("concatenate", [ones(2, 3), np.ones((2, 3), int)], {}, DTypeError, ["'xs2'", "int64"]),
    ("concatenate", [ones(2, 3), None], {}, TypeError, ["'xs2'", "None"]),
    ("concatenate", [ones(2, 3)], {"axis": "last"}, TypeError, ["axis", "last"]),
    ("concatenate", [[ones(2, 3), ones(3, 3)]], {}, DTypeError, ["'xs1'", "list"]),
    ("flatten", [ones(2, 3)], {"start": 3}, ShapeError, ["start", "3", "(2, 3)"]),
    ("flatten", [ones(2, 3)], {"start": -3}, ShapeError, ["start", "-3", "(2, 3)"]),
    ("flatten", [ones(2, 3)], {"start": "1"}, TypeError, ["start", "1"]),
    ("flatten", [ones(2, 3)], {"start": 1.0}, TypeError, ["start", "1.0"]),
    ("mean", [ones(2, 3)], {"axis": 2}, ShapeError, ["axis", "2", "(2, 3)"]),
    ("mean", [ones(2, 3)], {"axis": (0, 3)}, ShapeError, ["axis", "3", "(2, 3)"]),
    ("mean", [ones(2, 3)], {"axis": (0, 0)}, ValueError, ["axis", "(0, 0)"]),
    ("mean", [ones(2, 3)], {"axis": "b"}, TypeError, ["axis", "b"]),
    *((name, [ones(2, 3)], {"axis": 2}, ShapeError, ["axis 2", "(2, 3)"]) for name in ("softmax", "log_softmax")),
    *((name, [ones(2, 3)], {"axis": -3}, ShapeError, ["axis -3", "(2, 3)"]) for name in ("softmax", "log_softmax")),
    *((name, [1.0], {}, ShapeError, ["axis -1", "()"]) for name in ("softmax", "log_softmax")),
    *((name, [ones(2, 3)], {"axis": 1.0}, TypeError, ["axis", "1.0"]) for name in ("softmax", "log_softmax")),
    ("duplicate", [ones(2)], {"n": -1}, ValueError, ["n", "-1"]),
    ("duplicate", [ones(2)], {"n": 1.5}, TypeError, ["n", "1.5"]),
    ("duplicate", [ones(2)], {"n": np.array([2])}, TypeError, ["hashable", "n"]),
    *((name, [WIDE, INTS], {}, DTypeError, ["'w'", "int64"]) for name in CONVOLUTIONS),
    *((name, [COMPLEX, ones(1, 1, 1)], {}, DTypeError, ["'x'", "complex128"]) for name in CONVOLUTIONS),
    *((name, [WIDE], {}, TypeError, ["'w'"]) for name in CONVOLUTIONS),
    *((name, [WIDE, None], {}, TypeError, ["'w'", "None"]) for name in CONVOLUTIONS),
    *((name, [WIDE, ones(2, 2)], {}, ShapeError, ["'w'", "(2, 2)"]) for name in CONVOLUTIONS),
    *((name, [ones(9), ones(1, 1, 3)], {}, ShapeError, ["'x'", "(9,)"]) for name in ("conv", "conv_transpose")),
    *((name, [ones(3, 9), ones(2, 2, 3)], {}, ShapeError, ["'x'", "(3, 9)", "2 channels"]) for name in CONV1[:3]),
    *((name, [ones(2, 9), ones(2, 1, 3)], {"groups": 4}, ShapeError, ["'w'", "(2, 1, 3)", "4"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3), ones(3)], {}, ShapeError, ["'b'", "(3,)", "o = 2", "'w'"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3), np.ones(2, int)], {}, DTypeError, ["'b'", "int64"]) for name in CONV1),
    *((name, [ones(2, 0), ones(2, 2, 1)], {}, ShapeError, ["'x'", "(0,)"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 0)], {}, ShapeError, ["'w'", "(0,)"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3)], {key: 0}, ValueError, [key, "0"]) for name in CONV1 for key in STEPS),
    *((name, [ones(2, 9), ones(2, 2, 3)], {key: 1.0}, TypeError, [key, "1.0"]) for name in CONV1 for key in STEPS),
    *((name, [ones(2, 9), ones(2, 2, 3)], {"stride": (1, 1)}, ValueError, ["stride", "(1, 1)"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3)], {"padding": -1}, ValueError, ["padding", "-1"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3)], {"padding": "reflect"}, ValueError, ["padding", "reflect"]) for name in CONV1),
    *((name, [ones(2, 9), ones(2, 2, 3)], {"padding": ((1, 2, 3),)}, TypeError, ["padding", "(1, 2, 3)"]) for name in CONV1),
    ("conv", [ones(2, 2), ones(2, 2, 3)], {}, ShapeError, ["'x'", "(2, 2)", "smaller", "'w'", "(2, 2, 3)"]),
    ("conv", [ones(2, 4), ones(2, 2, 3)], {"dilation": 2}, ShapeError, ["'x'", "(2, 4)", "(2, 2, 3)", "dilation", "2"]),
    ("conv", [ones(2, 9), ones(2, 1, 3)], {"groups": (2,)}, TypeError, ["groups", "(2,)"]),
    ("conv1d", [ones(2, 5, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'w'", "(2, 2, 3, 3)"]),
    ("conv2d", [ones(2, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'x'", "(2, 5)"]),
    ("conv3d", [ones(2, 5, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'x'", "(2, 5, 5)"]),
    ("conv_transpose", [ones(2, 2), ones(2, 2, 3)], {"padding": 2}, ShapeError, ["'x'", "(2, 2)", "(2, 2, 3)", "padding 2"]),
    ("conv_transpose", [ones(2, 2), ones(2, 2, 3)], {"output_padding": 1}, ValueError, ["output_padding", "1", "stride"]),
    ("conv_transpose", [ones(2, 2), ones(2, 2, 3)], {"output_padding": -1}, ValueError, ["output_padding", "-1"]),
    ("conv_transpose1d", [ones(2, 5, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'w'", "(2, 2, 3, 3)"]),
    ("conv_transpose2d", [ones(2, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'x'", "(2, 5)"]),
    ("conv_transpose3d", [ones(2, 5, 5), ones(2, 2, 3, 3)], {}, ShapeError, ["'x'", "(2, 5, 5)"]),
    *((name, [ones(2, 9)], {}, TypeError, ["'kernel_size'"]) for name in ("max_pool", "avg_pool")),
    *((name, [ones(2, 9)], {}, TypeError, ["'output_size'"]) for name in ("adaptive_max_pool", "adaptive_avg_pool")),
    *((name, [INTS], config, DTypeError, ["'x'", "int64"]) for name, config in POOLS.items()),
    *((name, [COMPLEX], config, DTypeError, ["'x'", "complex128"]) for name, config in POOLS.items()),
    *((name, [ones(2, 9)], config, ShapeError, ["'x'", "(2, 9)"]) for name, config in POOLS.items()),
    *((name, [ones(2, 3, 0)], config, ShapeError, ["'x'", "(2, 3, 0)", "empty"]) for name, config in POOLS.items()),
    *((name, [ones(9)], {key: (2, 2)}, ShapeError, ["'x'", "(9,)", "(2, 2)"]) for name, key in WINDOWED),
    *((name, [ones(2, 3, 9)], {key: 0}, ValueError, [key, "0"]) for name, key in WINDOWED),
    *((name, [ones(2, 3, 9)], {key: 2.0}, TypeError, [key, "2.0"]) for name, key in WINDOWED),
    *((name, [ones(2, 3, 9)], {key: "2"}, TypeError, [key, "2"]) for name, key in WINDOWED),
    *((name, [ones(2, 3, 9)], {"kernel_size": 2, "stride": 0}, ValueError, ["stride", "0"]) for name, _ in WINDOWED[:2]),
    *((name, [ones(2, 9)], {"kernel_size": (3,), "padding": 2}, ValueError, ["padding 2"]) for name, _ in WINDOWED[:2]),
    *((name, [ones(2, 3, 9)], {"kernel_size": 3, "padding": -1}, ValueError, ["padding", "-1"]) for name, _ in WINDOWED[:2]),
    *((name, [ones(2, 3, 4)], {"kernel_size": 5}, ShapeError, ["'x'", "(2, 3, 4)", "5"]) for name, _ in WINDOWED[:2]),
    ("max_pool", [ones(2, 3, 4)], {"kernel_size": 2, "dilation": 4}, ShapeError, ["'x'", "(2, 3, 4)", "dilation 4"]),
    ("max_pool", [ones(2, 3, 4)], {"kernel_size": (2,), "stride": (1, 2)}, ValueError, ["stride", "(1, 2)", "1 axes"]),
    ("avg_pool", [ones(2, 3, 4)], {"kernel_size": 2, "divisor_override": 0}, ValueError, ["divisor_override", "0"]),
    ("avg_pool", [ones(2, 3, 4)], {"kernel_size": 2, "divisor_override": "2"}, TypeError, ["divisor_override", "2"]),
    *((name, [INTS], {}, DTypeError, ["'x'", "int64"]) for name in NORMS),
    *(
        (
            name,
            [np.ones((2, 4, 3), complex)],
            {"groups": 2} if name == "group_norm" else {},
            DTypeError,
            ["'x'", "complex128"],
        )
        for name in (*NORMS, *CHANNEL_NORMS)
    ),
    *((name, [], {}, TypeError, ["'x'"]) for name in (*NORMS, *CHANNEL_NORMS)),
    *(
        (name, [ones(2, 4, 3)], {"eps": -1e-5, **GROUPS.get(name, {})}, ValueError, ["eps", "-1e-05"])
        for name in (*NORMS, *CHANNEL_NORMS)
    ),
    *(
        (name, [ones(2, 4, 3)], {"eps": None, **GROUPS.get(name, {})}, TypeError, ["eps", "None"])
        for name in (*NORMS, *CHANNEL_NORMS)
    ),
    *((name, [ones(2, 3)], {key: 2}, ShapeError, ["axis 2", "(2, 3)"]) for name, key in NORMS.items()),
    *((name, [ones(2, 3)], {key: (1, -1)}, ShapeError, ["(1, -1)", "twice"]) for name, key in NORMS.items()),
    *((name, [ones(2, 3)], {key: "i"}, TypeError, ["axis", "i"]) for name, key in NORMS.items()),
    *((name, [1.0], {}, ShapeError, ["axis", "()"]) for name in NORMS),
    *((name, [ones(4, 3), ones(4)], {}, ShapeError, ["'scale'", "(4,)", "(3,)"]) for name in ("layer_norm", "rms_norm")),
    ("layer_norm", [ones(4, 3), ones(1, 3)], {}, ShapeError, ["'scale'", "(1, 3)", "(3,)"]),
    ("layer_norm", [ones(4, 3), ones(3), 1.0], {}, ShapeError, ["'bias'", "()", "(3,)"]),
    ("layer_norm", [ones(2, 4, 3), ones(3, 4)], {"axes": (-1, -2)}, ShapeError, ["'scale'", "(3, 4)", "(4, 3)"]),
    ("layer_norm", [ones(4, 3), INTS], {}, DTypeError, ["'scale'", "int64"]),
    ("rms_norm", [ones(4, 3), ones(3), ones(3)], {}, TypeError, ["too many"]),
    *((name, [ones(3)], GROUPS.get(name, {}), ShapeError, ["'x'", "(3,)"]) for name in CHANNEL_NORMS),
    *(
        (name, [ones(2, 4, 3), ones(3)], GROUPS.get(name, {}), ShapeError, ["'scale'", "(3,)", "c = 4", "'x'"])
        for name in CHANNEL_NORMS
    ),
    *(
        (name, [ones(2, 4, 3), ones(4), ones(1)], GROUPS.get(name, {}), ShapeError, ["'bias'", "(1,)", "c = 4"])
        for name in CHANNEL_NORMS
    ),
    ("group_norm", [ones(2, 4)], {}, TypeError, ["'groups'"]),
    ("group_norm", [ones(2, 4)], {"groups": 3}, ShapeError, ["groups", "3", "'x'", "(2, 4)"]),
    ("group_norm", [ones(2, 4)], {"groups": 0}, ValueError, ["groups", "0"]),
    ("group_norm", [ones(2, 4)], {"groups": -2}, ValueError, ["groups", "-2"]),
    ("group_norm", [ones(2, 4)], {"groups": 2.0}, TypeError, ["groups", "2.0"]),
    ("instance_norm", [ones(2, 4)], {}, ShapeError, ["'x'", "(2, 4)", "spatial"]),
    ("batch_norm", [ones(2, 4)], {}, TypeError, ["'running_mean'", "None"]),
    ("batch_norm", [ones(2, 4), None, None, ones(4)], {}, TypeError, ["'running_var'", "None"]),
    ("batch_norm", [ones(2, 4), None, None, ones(4), ones(2)], {}, ShapeError, ["'running_var'", "(2,)", "c = 4"]),
    ("batch_norm", [ones(2, 4), None, None, ones(4), np.ones(4, int)], {}, DTypeError, ["'running_var'", "int64"]),
    ("batch_norm", [ones(1, 4)], {"training": True}, ValueError, ["'x'", "(1, 4)", "1", "two"]),
    ("batch_norm", [ones(1, 4, 1, 1)], {"training": True}, ValueError, ["'x'", "(1, 4, 1, 1)", "1", "two"]),
    ("batch_norm", [ones(0, 4)], {"training": True}, ValueError, ["'x'", "(0, 4)", "0", "two"]),
    ("batch_norm", [ones(2, 4)], {"training": True, "momentum": 1.5}, ValueError, ["momentum", "1.5"]),
    ("batch_norm", [ones(2, 4)], {"training": True, "momentum": None}, TypeError, ["momentum", "None"]),
    ("standardize", [ones(4, 3), ones(3)], {}, TypeError, ["'std'", "None", "both"]),
    ("standardize", [ones(4, 3), None, ones(3)], {}, TypeError, ["'mean'", "None", "both"]),
    ("standardize", [ones(4, 3), ones(4), ones(3)], {}, ShapeError, ["'mean'", "(4,)", "(4, 3)"]),
    ("standardize", [ones(3), ones(3), ones(2, 3)], {}, ShapeError, ["'std'", "(2, 3)", "(3,)"]),
    ("attention", [ones(3), ones(3), ones(3)], {}, ShapeError, ["'q'", "(3,)"]),
    ("attention", [ones(3, 2), ones(4, 3), ones(4, 2)], {}, ShapeError, ["'k'", "(4, 3)", "d = 2", "'q'"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(3, 2)], {}, ShapeError, ["'v'", "(3, 2)", "s = 4", "'k'"]),
    ("attention", [ones(2, 3, 2), ones(4, 2), ones(4, 2)], {}, ShapeError, ["'k'", "(4, 2)", "(2, 3, 2)"]),
    ("attention", [ones(3, 3, 2), ones(2, 4, 2), ones(2, 4, 2)], {}, ShapeError, ["'k'", "(2, 4, 2)", "(3, 3, 2)"]),
    ("attention", [ones(2, 3, 2), ones(4, 4, 2), ones(4, 4, 2)], {}, ShapeError, ["'k'", "(4, 4, 2)", "(2, 3, 2)"]),
    ("attention", [ones(5, 2, 3, 2), ones(1, 2, 4, 2), ones(1, 2, 4, 2)], {}, ShapeError, ["'k'", "(1, 2, 4, 2)", "(5,)"]),
    ("attention", [ones(2, 3, 2), ones(2, 4, 2), ones(1, 4, 2)], {}, ShapeError, ["'v'", "(1, 4, 2)", "(2,)"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(4, 2), ones(4, 3)], {}, ShapeError, ["'bias'", "(4, 3)", "(3, 4)"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(4, 2), ones(2, 3, 4)], {}, ShapeError, ["'bias'", "(2, 3, 4)", "(3, 4)"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(4, 2), None, BOOLS], {}, ShapeError, ["'mask'", "(3,)", "(3, 4)"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(4, 2), None, ones(3, 4)], {}, DTypeError, ["'mask'", "float64", "bool"]),
    ("attention", [np.ones((3, 2), int), ones(4, 2), ones(4, 2)], {}, DTypeError, ["'q'", "int64"]),
    ("attention", [ones(3, 2), ones(4, 2)], {}, TypeError, ["'v'"]),
    ("attention", [ones(3, 2), ones(4, 2), ones(4, 2)], {"scale": "half"}, TypeError, ["scale", "half"]),
    ("dropout", [ones(3)], {}, DTypeError, ["'key'", "None", "0.5"]),
    ("dropout", [ones(3)], {"rate": 1}, DTypeError, ["'key'", "None"]),
    ("dropout", [ones(3), 7], {}, DTypeError, ["'key'", "key"]),
    ("dropout", [ones(3), ones(2)], {}, DTypeError, ["'key'", "float64"]),
    ("dropout", [ones(3), jax.random.split(jax.random.key(0))], {}, ShapeError, ["'key'", "(2,)"]),
    ("dropout", [INTS, jax.random.key(0)], {}, DTypeError, ["'x'", "int64"]),
    *(("dropout", [ones(3), jax.random.key(0)], {"rate": rate}, ValueError, ["rate", str(rate)]) for rate in (-0.1, 1.5)),
    ("dropout", [ones(3)], {"rate": float("nan")}, ValueError, ["rate", "nan"]),
    ("dropout", [ones(3)], {"rate": "half"}, TypeError, ["rate", "half"]),
    ("dropout", [ones(3), jax.random.key(0)], {"shared": 1}, ShapeError, ["axis 1", "(3,)"]),
    ("squared_error", [ones(3, 1), ones(3)], {}, ShapeError, ["'targets'", "(3, 1)", "(3,)"]),
    ("squared_error", [INTS, ones(3)], {}, DTypeError, ["'predictions'", "int64"]),
    ("squared_error", [ones(3), 1.0], {}, ShapeError, ["'targets'", "()", "(3,)"]),
    *((name, [ones(3, 1), ones(3)], {}, ShapeError, ["'targets'", "(3, 1)", "(3,)"]) for name in FLOAT_LOSSES),
    *((name, [ones(3), 1.0], {}, ShapeError, ["'targets'", "()", "(3,)"]) for name in FLOAT_LOSSES),
    *((name, [INTS, ones(3)], {}, DTypeError, ["'predictions'", "int64"]) for name in FLOAT_LOSSES),
    *((name, [ones(3, 1), ones(3)], {}, ShapeError, ["'targets'", "(3, 1)", "(3,)"]) for name in NUMBER_LOSSES),
    *((name, [ones(3), np.int32(1)], {}, ShapeError, ["'targets'", "()", "(3,)"]) for name in NUMBER_LOSSES),
    *((name, [ones(3), COMPLEX], {}, DTypeError, ["'targets'", "complex128"]) for name in NUMBER_LOSSES),
    *((name, [ones(3), BOOLS], {}, DTypeError, ["'targets'", "bool"]) for name in NUMBER_LOSSES),
    *((name, [INTS, ones(3)], {}, DTypeError, ["'predictions'", "int64"]) for name in NUMBER_LOSSES),
    *((name, [ones(3), None], {}, TypeError, ["'targets'", "None"]) for name in NUMBER_LOSSES),
    ("huber", [ones(3), ones(3)], {"delta": -1.0}, ValueError, ["delta", "-1.0"]),
    ("huber", [ones(3), ones(3)], {"delta": 0}, ValueError, ["delta", "0"]),
    ("huber", [ones(3), ones(3)], {"delta": np.inf}, ValueError, ["delta", "inf"]),
    ("huber", [ones(3), ones(3)], {"delta": "1"}, TypeError, ["delta", "1"]),
    ("huber", [ones(3), ones(3), 1.0], {}, TypeError, ["too many"]),
    ("smooth_l1", [ones(3), ones(3)], {"beta": -0.5}, ValueError, ["beta", "-0.5"]),
    ("smooth_l1", [ones(3), ones(3)], {"beta": np.inf}, ValueError, ["beta", "inf"]),
    ("smooth_l1", [ones(3), ones(3)], {"beta": None}, TypeError, ["beta", "None"]),
    ("binary_cross_entropy_with_logits", [ones(3, 2), ones(3, 2), ones(3)], {}, ShapeError, ["'pos_weight'", "(3,)"]),
    ("binary_cross_entropy_with_logits", [ones(3), ones(3), ones(2, 3)], {}, ShapeError, ["'pos_weight'", "(2, 3)", "(3,)"]),
    ("binary_cross_entropy_with_logits", [ones(3), ones(3), INTS], {}, DTypeError, ["'pos_weight'", "int64"]),
    *((name, [ones(3, 4), INTS, ones(3)], {}, ShapeError, ["'weight'", "(3,)", "k = 4"]) for name in LABEL_LOSSES),
    *((name, [ones(3, 4), INTS, ones(4, 1)], {}, ShapeError, ["'weight'", "(4, 1)"]) for name in LABEL_LOSSES),
    *((name, [ones(3, 3), INTS, INTS], {}, DTypeError, ["'weight'", "int64"]) for name in LABEL_LOSSES),
    *((name, [ones(3, 4), INTS], {"ignore_index": 1.5}, TypeError, ["ignore_index", "1.5"]) for name in LABEL_LOSSES[:2]),
    *((name, [ones(3, 4), INTS - 1], {"ignore_index": 9}, ValueError, ["-1", "0 to 3"]) for name in LABEL_LOSSES[:2]),
    ("cross_entropy", [ones(2, 3), ones(2, 3)], {"ignore_index": 0}, ValueError, ["ignore_index", "0", "probabilities"]),
    ("cross_entropy", [ones(2, 3), np.zeros(2, int)], {"label_smoothing": 1.5}, ValueError, ["label_smoothing", "1.5"]),
    ("cross_entropy", [ones(2, 3), ones(2, 3)], {"label_smoothing": -0.1}, ValueError, ["label_smoothing", "-0.1"]),
    ("cross_entropy", [ones(2, 3), np.zeros(2, int)], {"label_smoothing": "a"}, TypeError, ["label_smoothing", "a"]),
    ("multi_class_hinge", [ones(2, 3), ones(2)], {}, DTypeError, ["'targets'", "float64"]),
    ("multi_class_hinge", [ones(2, 3), np.array([0, 3])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("multi_class_hinge", [ones(2, 3), INTS], {}, ShapeError, ["'targets'", "(3,)", "(2,)"]),
    ("multi_class_hinge", [ones(2, 3), np.zeros(2, int)], {"p": 3}, ValueError, ["p", "3"]),
    ("multi_class_hinge", [ones(2, 3), np.zeros(2, int)], {"margin": None}, TypeError, ["margin", "None"]),
    ("kl_divergence", [ones(2, 3), ones(2, 4)], {}, ShapeError, ["'targets'", "(2, 4)", "k = 3"]),
    ("kl_divergence", [ones(2, 3), ones(3)], {}, ShapeError, ["'targets'", "(3,)", "(2, 3)"]),
    ("kl_divergence", [ones(2, 3), np.zeros(2, int)], {}, DTypeError, ["'targets'", "int64"]),
    ("kl_divergence", [1.0, 1.0], {}, ShapeError, ["'predictions'", "()"]),
    ("poisson_nll", [ones(3), ones(3)], {"eps": -1e-8}, ValueError, ["eps", "-1e-08"]),
    ("poisson_nll", [ones(3), ones(3)], {"eps": "0"}, TypeError, ["eps", "0"]),
    ("gaussian_nll", [ones(3), ones(3)], {}, TypeError, ["'var'"]),
    ("gaussian_nll", [ones(3), ones(3, 1), ones(3)], {}, ShapeError, ["'targets'", "(3, 1)", "(3,)"]),
    ("gaussian_nll", [ones(2, 3), ones(2, 3), ones(2)], {}, ShapeError, ["'var'", "(2,)", "(2, 3)"]),
    ("gaussian_nll", [ones(3), ones(3), ones(2, 3)], {}, ShapeError, ["'var'", "(2, 3)", "(3,)"]),
    ("gaussian_nll", [ones(3), ones(3), INTS], {}, DTypeError, ["'var'", "int64"]),
    ("gaussian_nll", [ones(3), ones(3), ones(3)], {"eps": np.nan}, ValueError, ["eps", "nan"]),
    ("cosine_embedding", [ones(2, 3), ones(2, 4), np.ones(2, int)], {}, ShapeError, ["'x2'", "(2, 4)", "i = 3"]),
    ("cosine_embedding", [ones(2, 3), ones(1, 3), np.ones(2, int)], {}, ShapeError, ["'x2'", "(1, 3)", "(2, 3)"]),
    ("cosine_embedding", [ones(2, 3), ones(2, 3), np.ones(3, int)], {}, ShapeError, ["'targets'", "(3,)", "(2,)"]),
    ("cosine_embedding", [ones(2, 3), ones(2, 3), np.array([1, 0])], {}, ValueError, ["'targets'", "0", "1 or −1"]),
    ("cosine_embedding", [ones(2, 3), ones(2, 3), np.ones(2, complex)], {}, DTypeError, ["'targets'", "complex128"]),
    ("cosine_embedding", [ones(3), ones(3), 1], {"margin": "0"}, TypeError, ["margin", "0"]),
    ("triplet", [ones(2, 3), ones(2, 3)], {}, TypeError, ["'negative'"]),
    ("triplet", [ones(2, 3), ones(2, 3), ones(2, 2)], {}, ShapeError, ["'negative'", "(2, 2)", "i = 3"]),
    ("triplet", [ones(2, 3), ones(3), ones(2, 3)], {}, ShapeError, ["'positive'", "(3,)", "(2, 3)"]),
    ("triplet", [ones(3), ones(3), INTS], {}, DTypeError, ["'negative'", "int64"]),
    ("triplet", [ones(3), ones(3), ones(3)], {"p": 0.5}, ValueError, ["p", "0.5"]),
    ("triplet", [ones(3), ones(3), ones(3)], {"p": "2"}, TypeError, ["p", "2"]),
    ("triplet", [ones(3), ones(3), ones(3)], {"margin": None}, TypeError, ["margin", "None"]),
    ("margin_ranking", [ones(3), ones(3, 1), ones(3)], {}, ShapeError, ["'x2'", "(3, 1)", "(3,)"]),
    ("margin_ranking", [ones(3), ones(3), ones(1)], {}, ShapeError, ["'targets'", "(1,)", "(3,)"]),
    ("margin_ranking", [ones(3), INTS, ones(3)], {}, DTypeError, ["'x2'", "int64"]),
    ("margin_ranking", [ones(3), ones(3), BOOLS], {}, DTypeError, ["'targets'", "bool"]),
    ("margin_ranking", [ones(3), ones(3), ones(3)], {"margin": np.nan}, ValueError, ["margin", "nan"]),
    ("nll", [ones(2, 3), ones(2)], {}, DTypeError, ["'targets'", "float64", "integer"]),
    ("nll", [ones(2, 3), INTS], {}, ShapeError, ["'targets'", "(3,)", "(2,)"]),
    ("nll", [ones(2, 3), np.int32(1)], {}, ShapeError, ["'targets'", "()", "(2,)"]),
    ("nll", [ones(2, 3), np.zeros((2, 1), int)], {}, ShapeError, ["'targets'", "(2, 1)", "(2,)"]),
    ("nll", [ones(3), np.zeros(1, int)], {}, ShapeError, ["'targets'", "(1,)", "()"]),
    ("nll", [ones(2, 3), np.array([0, 3])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("nll", [ones(2, 3), np.array([-1, 0])], {}, ValueError, ["'targets'", "-1", "0 to 2"]),
    ("nll", [ones(2, 3), np.ones(2, bool)], {}, DTypeError, ["'targets'", "bool"]),
    ("nll", [ones(2, 3), np.ones(2, complex)], {}, DTypeError, ["'targets'", "complex128"]),
    ("nll", [1.0, np.int32(0)], {}, ShapeError, ["'predictions'", "()"]),
    ("nll", [np.ones((2, 3), int), np.zeros(2, int)], {}, DTypeError, ["'predictions'", "int64"]),
    ("nll", [ones(2, 3), None], {}, TypeError, ["'targets'", "None"]),
    ("nll", [ones(2, 3)], {}, TypeError, ["'targets'"]),
    ("cross_entropy", [ones(2, 3), ones(2)], {}, ShapeError, ["'targets'", "(2,)", "(2, 3)"]),
    ("cross_entropy", [ones(2, 3), ones(2, 4)], {}, ShapeError, ["'targets'", "(2, 4)", "(2, 3)"]),
    ("cross_entropy", [ones(2, 3), ones(3)], {}, ShapeError, ["'targets'", "(3,)", "(2, 3)"]),
    ("cross_entropy", [ones(2, 3), np.zeros((2, 3), int)], {}, ShapeError, ["'targets'", "(2, 3)", "(2,)"]),
    ("cross_entropy", [ones(2, 3), INTS], {}, ShapeError, ["'targets'", "(3,)", "(2,)"]),
    ("cross_entropy", [ones(2, 3), np.array([0, 3])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("cross_entropy", [ones(2, 3), np.array([0, -1])], {}, ValueError, ["'targets'", "-1", "0 to 2"]),
    ("cross_entropy", [ones(2, 3), np.ones(2, bool)], {}, DTypeError, ["'targets'", "bool"]),
    ("cross_entropy", [ones(2, 3), np.ones((2, 3), complex)], {}, DTypeError, ["'targets'", "complex128"]),
    ("cross_entropy", [1.0, np.int32(0)], {}, ShapeError, ["'predictions'", "()"]),
    ("cross_entropy", [ones(2, 3), "cat"], {}, DTypeError, ["'targets'", "str"]),
    ("cross_entropy", [ones(2, 3), None], {}, TypeError, ["'targets'", "None"]),
    ("cross_entropy", [ones(2, 3), np.zeros(2, int)], {"smoothing": 0.1}, TypeError, ["'smoothing'"]),
]


def describe(row):
    name, args, config = row[:3]
    texts = [f"{a.dtype}{list(a.shape)}".replace("float64", "") if hasattr(a, "shape") else type(a).__name__ for a in args]
    return " ".join([name, *texts, *(f"{k}={v}" for k, v in config.items())])


@pytest.mark.parametrize("name, args, config, error, words", TABLE, ids=map(describe, TABLE))
def test_bad_argument(name, args, config, error, words):
    with pytest.raises(error) as raised:
        jaxnets.LAYERS[name](*args, **config)
    message = str(raised.value)
    missing = [word for word in (name, *words) if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message)]
    assert not missing, f"{type(raised.value).__name__} does not say {missing}: {message}"


def test_every_layer_is_in_the_table():
    assert {row[0] for row in TABLE} == set(jaxnets.LAYERS)


@pytest.mark.parametrize("transform", [jax.jit, jaxnets.jacobian, jaxnets.grad], ids=["jit", "jacobian", "grad"])
def test_errors_are_the_same_inside_transformations(transform):
    with pytest.raises(ShapeError, match=r"linear.*'w'.*\(2, 4\).*i = 3"):
        transform(lambda x: jaxnets.linear(x, ones(2, 4)))(ones(3))


def test_labels_cannot_be_differentiated():
    with pytest.raises(DTypeError, match="targets.*int"):
        jaxnets.jacobian(jaxnets.nll, 1)(ones(2, 3), np.zeros(2, int))


# --- layers that are wrongly defined ------------------------------------------------------------------------------


@pytest.fixture
def scratch():
    """Layers made in a test are forgotten after it."""
    before = dict(jaxnets.LAYERS)
    yield
    jaxnets.LAYERS.clear()
    jaxnets.LAYERS.update(before)


def throwaway():
    @jaxnets.layer
    def throwaway(x):
        return 2 * x

    return throwaway


def test_layer_without_a_rule(scratch):
    layer = throwaway()
    np.testing.assert_array_equal(layer(ones(2)), [2, 2])
    with pytest.raises(RuleError, match="'throwaway'.*no Jacobian rule"):
        jaxnets.jacobian(layer)(ones(2))


def test_second_rule(scratch):
    layer = throwaway()
    layer.jacobian(lambda y, x: (jaxnets.rules.scaled(2.0),))
    np.testing.assert_array_equal(jaxnets.jacobian(layer)(ones(2)).dense(), 2 * np.eye(2))
    with pytest.raises(RuleError, match="'throwaway' already has"):
        layer.jacobian(lambda y, x: (jaxnets.rules.scaled(3.0),))


def test_second_layer_of_a_name(scratch):
    def relu(x):
        return x

    with pytest.raises(RuleError, match="'relu'.*twice"):
        jaxnets.layer(relu)


@pytest.mark.parametrize("rule", [
    lambda y, x: (), lambda y, x: (None, None), lambda y, x: jaxnets.rules.scaled(2.0), lambda y, x: (lambda y, x: 2.0,),
], ids=["none", "two", "no tuple", "no Jacobian"])  # fmt: skip
def test_rule_that_does_not_fit(scratch, rule):
    layer = throwaway()
    layer.jacobian(rule)
    with pytest.raises(RuleError, match="throwaway"):
        jaxnets.jacobian(layer)(ones(2))


def test_rule_of_a_wrong_shape(scratch):
    """A Jacobian that does not fit output and argument is refused, not returned."""
    layer = throwaway()
    layer.jacobian(lambda y, x: (lambda y, x: jaxnets.rules.scaled(2.0)(jnp.ones(3), jnp.ones(3)),))
    with pytest.raises((RuleError, ShapeError), match="throwaway"):
        jaxnets.jacobian(layer)(ones(2))
