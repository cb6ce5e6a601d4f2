"""Bad arguments of losses: a typed error that names the loss, the argument and what was given."""

import numpy as np
import pytest

import jaxnets
from jaxnets import DTypeError, ShapeError

from ..layers.arguments import BOOLS, COMPLEX, INTS, check_error, describe, of_two_arrays, ones

FLOAT_LOSSES = ["absolute_error", "huber", "smooth_l1", "log_cosh", "quantile"]
NUMBER_LOSSES = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "hinge", "perceptron", "soft_margin", "poisson_nll", "focal",
]  # fmt: skip
VECTOR_LOSSES = ["multilabel_soft_margin", "dice"]
BINARY = NUMBER_LOSSES[:2]
LABEL_LOSSES = ["nll", "cross_entropy", "multi_class_hinge"]

# loss, arguments, configuration, error, words that the message must hold besides the loss's name
TABLE = [
    *of_two_arrays([(name, "targets") for name in ("squared_error", *FLOAT_LOSSES)]),
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
    *(
        row
        for name, key in [(BINARY[0], "weight"), (BINARY[1], "weight"), (BINARY[1], "pos_weight")]
        for row in [
            (name, [ones(3, 2), ones(3, 2)], {key: ones(3)}, ShapeError, [f"'{key}'", "(3,)"]),
            (name, [ones(3), ones(3)], {key: ones(2, 3)}, ShapeError, [f"'{key}'", "(2, 3)", "(3,)"]),
            (name, [ones(3), ones(3)], {key: INTS}, DTypeError, [f"'{key}'", "int64"]),
        ]
    ),
    *((name, [ones(3), ones(3), ones(3)], {}, TypeError, ["too many", "weight"]) for name in BINARY),
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
    ("sparsemax_loss", [ones(2, 3), ones(2)], {}, DTypeError, ["'targets'", "float64"]),
    ("sparsemax_loss", [ones(2, 3), np.array([0, 3])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("sparsemax_loss", [ones(2, 3), INTS], {}, ShapeError, ["'targets'", "(3,)", "(2,)"]),
    ("sparsemax_loss", [1.0, np.int32(0)], {}, ShapeError, ["'predictions'", "()"]),
    ("kl_divergence", [ones(2, 3), ones(2, 4)], {}, ShapeError, ["'targets'", "(2, 4)", "k = 3"]),
    ("kl_divergence", [ones(2, 3), ones(3)], {}, ShapeError, ["'targets'", "(3,)", "(2, 3)"]),
    ("kl_divergence", [ones(2, 3), np.zeros(2, int)], {}, DTypeError, ["'targets'", "int64"]),
    *((name, [ones(2, 4, 3), INTS], {"axis": 3}, ShapeError, ["axis 3", "(2, 4, 3)"]) for name in LABEL_LOSSES[:2]),
    *((name, [ones(3, 4), INTS], {"axis": 0}, ShapeError, ["'targets'", "(3,)", "(4,)"]) for name in LABEL_LOSSES[:2]),
    *((name, [ones(3, 4), INTS], {"axis": (0, 1)}, TypeError, ["axis", "(0, 1)"]) for name in LABEL_LOSSES[:2]),
    ("kl_divergence", [ones(2, 3), ones(2, 3)], {"axis": 2}, ShapeError, ["axis 2", "(2, 3)"]),
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
    *((name, [ones(2, 3), ones(3)], {}, ShapeError, ["'targets'", "(3,)", "(2, 3)"]) for name in VECTOR_LOSSES),
    *((name, [ones(2, 3), np.ones((2, 3), complex)], {}, DTypeError, ["'targets'", "complex128"]) for name in VECTOR_LOSSES),
    *((name, [1.0, 1.0], {}, ShapeError, ["'predictions'", "()"]) for name in VECTOR_LOSSES),
    ("multilabel_soft_margin", [ones(2, 3), ones(2, 3), ones(2)], {}, ShapeError, ["'weight'", "(2,)", "k = 3"]),
    ("dice", [ones(2, 3), ones(2, 3)], {"eps": -1.0}, ValueError, ["eps", "-1.0"]),
    ("quantile", [ones(3), ones(3)], {"q": 1.5}, ValueError, ["q", "1.5"]),
    ("quantile", [ones(3), ones(3)], {"q": None}, TypeError, ["q", "None"]),
    ("focal", [ones(3), ones(3)], {"gamma": -1.0}, ValueError, ["gamma", "-1.0"]),
    ("focal", [ones(3), ones(3)], {"alpha": 1.5}, ValueError, ["alpha", "1.5"]),
    ("hinge_embedding", [ones(3), ones(1)], {}, ShapeError, ["'targets'", "(1,)", "(3,)"]),
    ("hinge_embedding", [ones(3), np.array([1, 0, 1])], {}, ValueError, ["'targets'", "0", "1 or −1"]),
    ("hinge_embedding", [ones(3), ones(3)], {"margin": "0"}, TypeError, ["margin", "0"]),
    ("multilabel_margin", [ones(2, 3), np.ones((2, 3), int)[:, :2]], {}, ShapeError, ["'targets'", "(2, 2)", "k = 3"]),
    ("multilabel_margin", [ones(2, 3), ones(2, 3)], {}, DTypeError, ["'targets'", "float64"]),
    ("multilabel_margin", [ones(3), np.array([0, 3, -1])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("multilabel_margin", [ones(3), np.array([0, -2, -1])], {}, ValueError, ["'targets'", "-2", "0 to 2"]),
    ("info_nce", [ones(3, 2), ones(4, 2)], {}, ShapeError, ["'keys'", "(4, 2)", "n = 3"]),
    ("info_nce", [ones(2, 3, 2), ones(3, 2)], {}, ShapeError, ["'keys'", "(3, 2)", "(2, 3, 2)"]),
    ("info_nce", [ones(3), ones(3)], {}, ShapeError, ["'queries'", "(3,)"]),
    ("info_nce", [ones(3, 2), ones(3, 2)], {"temperature": 0}, ValueError, ["temperature", "0"]),
    ("ctc", [ones(5, 3), ones(2)], {}, DTypeError, ["'targets'", "float64"]),
    ("ctc", [ones(3), INTS], {}, ShapeError, ["'predictions'", "(3,)"]),
    ("ctc", [ones(2, 5, 3), np.ones((3, 2), int)], {}, ShapeError, ["'targets'", "(3, 2)", "(2, 2)"]),
    ("ctc", [ones(5, 3), np.array([1, 0])], {}, ValueError, ["'targets'", "0", "blank"]),
    ("ctc", [ones(5, 3), np.array([1, 3])], {}, ValueError, ["'targets'", "3", "0 to 2"]),
    ("ctc", [ones(5, 3), np.array([1, 2])], {"blank": 3}, ValueError, ["blank", "3"]),
    ("ctc", [ones(5, 3), np.array([1, 2])], {"blank": 1.0}, TypeError, ["blank", "1.0"]),
    ("ctc", [ones(5, 3), np.array([1, 2])], {"input_lengths": 6}, ValueError, ["'input_lengths'", "6", "0 to 5"]),
    ("ctc", [ones(5, 3), np.array([1, 2])], {"target_lengths": 3}, ValueError, ["'target_lengths'", "3", "0 to 2"]),
    ("ctc", [ones(5, 3), np.array([1, 2])], {"target_lengths": INTS}, ShapeError, ["'target_lengths'", "(3,)", "()"]),
    ("ctc", [ones(2, 5, 3), np.ones((2, 2), int)], {"input_lengths": 3}, ShapeError, ["'input_lengths'", "()", "(2,)"]),
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
    ("margin_ranking", [ones(3), ones(3), ones(3)], {"margin": -0.5}, ValueError, ["margin", "-0.5"]),
    ("triplet", [ones(3), ones(3), ones(3)], {"margin": -1.0}, ValueError, ["margin", "-1.0"]),
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


@pytest.mark.parametrize("name, args, config, error, words", TABLE, ids=map(describe, TABLE))
def test_bad_argument(name, args, config, error, words):
    check_error(name, args, config, error, words)


def test_labels_cannot_be_differentiated():
    with pytest.raises(DTypeError, match="targets.*int"):
        jaxnets.jacobian(jaxnets.nll, 1)(ones(2, 3), np.zeros(2, int))
