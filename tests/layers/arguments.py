"""What tests of bad arguments share: arrays of every kind, rows of their tables, and what a message must say."""

import re

import numpy as np
import pytest

import jaxnets
from jaxnets import DTypeError, ShapeError


def ones(*shape):
    return np.ones(shape)


INTS, COMPLEX, BOOLS = np.arange(3), np.ones(3, complex), np.ones(3, bool)


def of_two_arrays(layers):
    """Rows for layers of two arrays of one shape; `layers` has names, and of each the name of the second argument."""
    return [
        *((name, [ones(3), ones(4)], {}, ShapeError, [f"'{second}'", "(3,)", "(4,)"]) for name, second in layers),
        *((name, [ones(3), INTS], {}, DTypeError, [f"'{second}'", "int64"]) for name, second in layers),
        *((name, [ones(3), None], {}, TypeError, [f"'{second}'", "None"]) for name, second in layers),
        *((name, [ones(3)], {}, TypeError, [f"'{second}'"]) for name, second in layers),
        *((name, [ones(3), object()], {}, DTypeError, [f"'{second}'", "object"]) for name, second in layers),
    ]


def describe(row):
    name, args, config = row[:3]
    texts = [_text(a) if hasattr(a, "shape") else type(a).__name__ for a in args]
    return " ".join([name, *texts, *(f"{k}={_text(v) if isinstance(v, np.ndarray) else v}" for k, v in config.items())])


def _text(array):
    return f"{array.dtype}{list(array.shape)}".replace("float64", "")


def check_error(name, args, config, error, words):
    """It is of this type, and its message holds the name of the layer and these words."""
    with pytest.raises(error) as raised:
        jaxnets.LAYERS[name](*args, **config)
    message = str(raised.value)
    missing = [word for word in (name, *words) if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message)]
    assert not missing, f"{type(raised.value).__name__} does not say {missing}: {message}"
