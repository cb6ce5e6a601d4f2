"""Trained networks for other programs: a function that JAX alone can call, and parameters by their names."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from safetensors.numpy import save as bytes_of

from ..checks import checked, is_integer, show_value
from ..errors import ShapeError
from ..files import written_atomically
from .encoding import Encoding, encoding_like
from .evaluate import floating_dtype, parameters_explained
from .models import Model

FUNCTION, PARAMETERS = ".jax", ".safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")


@checked
def export(model: Model, params, path: str | os.PathLike, *, like: Any = None) -> Path:
    """Write a trained model to a file `.jax` or `.safetensors`, and return its path.

    `.jax` is a function of `jax.export`, which needs no jaxnets: `jax.export.deserialize(content).call(x)` gives the
    predictions [example, ...] for inputs [example, ...] of any number of examples.  It holds the parameters and, where the
    encoding of `like` has them, the means and deviations of the training set: raw numbers go in, and numbers come out in the
    units of the target; of classifiers come logits or log-probabilities, as the model gives them.  `like` tells what an
    input is: the description that `restore` returns, a data set, an encoding, or the shape of one input.  This needs the
    extra `export`.

    `.safetensors` holds the parameters by their names, such as `0.w`, and in the metadata `model`, the description of the
    model, and `encoding` as JSON, if `like` tells it; there the network takes standardized inputs.

    Raises ValueError for other endings, and ShapeError where the model does not fit the inputs.

    >>> import tempfile
    >>> model = jn.models.mlp(30, 3)
    >>> params = model.init(jax.random.key(0), (2,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     content = jn.export(model, params, f"{folder}/model.jax", like=(2,)).read_bytes()
    >>> jax.export.deserialize(bytearray(content)).call(jnp.ones((50, 2))).shape
    (50, 3)
    """
    path = Path(path)
    is_shape = isinstance(like, (tuple, list)) and like and all(is_integer(n) and n >= 0 for n in like)
    told = Encoding("arrays", tuple(like)) if is_shape else like
    encoding = None if told is None else encoding_like("export", told)
    if path.suffix == FUNCTION:
        if encoding is None:
            raise ValueError(
                "export: like must tell what an input is: the description that restore returns, a data set, or a shape"
            )
        content = _function(model, params, encoding)
    elif path.suffix == PARAMETERS:
        content = _parameters(model, params, encoding)
    else:
        raise ValueError(f"export: path must end in {FUNCTION} or {PARAMETERS}, got '{path}'")
    with written_atomically(path) as part:
        part.write_bytes(content)
    return path


def _function(model: Model, params, encoding: Encoding) -> bytes:
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError("export: functions need flatbuffers: pip install 'jaxnets[export]'") from None

    def predictions(x):
        x = x if encoding.scale is None else encoding.scale.standardize(x)
        found = model.apply(params, x)
        return found if encoding.target_scale is None else encoding.target_scale.undo(found)

    with parameters_explained("export", model, params, encoding.shape):
        dtype = floating_dtype(params)
        (examples,) = jax.export.symbolic_shape("examples")
        inputs = jax.ShapeDtypeStruct((examples, *encoding.shape), dtype)
        return bytes(jax.export.export(jax.jit(predictions), platforms=PLATFORMS)(inputs).serialize())


def _parameters(model: Model, params, encoding: Encoding | None) -> bytes:
    leaves, _ = tree_flatten_with_path(params)
    if not all(hasattr(leaf, "dtype") for _, leaf in leaves):
        raise ShapeError(f"export: params must be a tree of arrays, got {show_value(params)}")
    arrays = {keystr(place, simple=True, separator="."): np.asarray(leaf, order="C") for place, leaf in leaves}
    metadata = {"model": model.name}
    if encoding is not None:
        metadata["encoding"] = json.dumps(encoding.to_json(), allow_nan=False)
    return bytes_of(arrays, metadata)
