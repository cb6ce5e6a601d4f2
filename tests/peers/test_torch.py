"""PyTorch's own samples of its functions and modules: values, Jacobians and refused arguments, in float64."""

import functools
import random
import warnings
from collections import Counter

import numpy as np
import pytest

import jaxnets as jn

torch = pytest.importorskip("torch", reason="PyTorch's samples need torch: pip install -e '.[peers]'")
pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest: pip install -e '.[peers]'")

from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402
from torch.utils._pytree import tree_map  # noqa: E402

from .comparing import disagreement, to_jax  # noqa: E402
from .torch_functions import BY_POSITION, FUNCTIONS, LeftOut  # noqa: E402
from .torch_modules import MODULES  # noqa: E402

pytestmark = pytest.mark.sweep
MOST = 24  # samples of one function; of more, these are drawn
TOLERANCES = {  # where PyTorch has numbers in float32: a sixth as a slope, one over the number of rows in a bag
    "nn.functional.hardsigmoid": 1e-8,
    "nn.functional.embedding_bag": 1e-7,
}
ACCEPTED = {  # errors of PyTorch that are none here, or that nothing here can meet
    "padding='same' is not supported for strided convolutions": "the same is ⌈n / stride⌉ outputs",
    "tensor with optional 0 dim batch size": "leading axes are batch, and may be empty",
    "non-batch dimensions to have positive length": "leading axes are batch, and may be empty",
    "only tensors with up to 64 dims are supported": "NumPy and JAX have no arrays of so many axes",
}


def key_of(info) -> str:
    variant = f"{info.name}.{info.variant_test_name}"
    return variant if variant in FUNCTIONS else info.name


INFOS = {key: [info for info in op_db if key_of(info) == key and torch.float64 in info.dtypes] for key in FUNCTIONS}
MODULE_INFOS = {info.module_cls.__name__: info for info in module_db}
WITH_ERRORS = [key for key, infos in INFOS.items() if any(info.error_inputs_func for info in infos)]


@pytest.fixture(autouse=True)
def repeatable():
    """The samples that PyTorch draws are the same in every run; its warnings are none of ours."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(samples):
    return random.Random(0).sample(samples, MOST) if len(samples) > MOST else samples


def compared(samples, record_property, tolerance=1e-9):
    """Compare (theirs, ours, arguments) of all samples; what has no counterpart counts by its reason."""
    agreeing, reasons = 0, Counter()
    for theirs, ours, arguments in samples:
        try:
            told = disagreement(theirs, ours, arguments, tolerance)
        except LeftOut as reason:
            reasons[str(reason)] += 1
            continue
        assert not told, (told, arguments)
        agreeing += 1
    record_property("agreeing", agreeing)
    record_property("left out", dict(reasons))
    assert agreeing, reasons


@pytest.mark.parametrize("key", [key for key, infos in INFOS.items() if infos])
def test_values_and_jacobians_of_a_function(key, record_property):
    ours = BY_POSITION.get(key, FUNCTIONS[key])
    samples = [
        (info.op, ours, ((sample.input, *sample.args), sample.kwargs))
        for info in INFOS[key]
        for sample in some(list(info.sample_inputs("cpu", torch.float64, requires_grad=True)))
    ]
    compared(samples, record_property, TOLERANCES.get(key, 1e-9))


@pytest.mark.parametrize("name", MODULES)
def test_values_and_jacobians_of_a_module(name, record_property):
    def samples():
        info = MODULE_INFOS[name]
        for training in (False, True) if info.train_and_eval_differ else (False,):
            inputs = info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=training)
            for sample in some(inputs):
                made, given = sample.constructor_input, sample.forward_input
                module = info.module_cls(*made.args, **made.kwargs).double().train(training)
                weights = dict(module.named_parameters())
                theirs = functools.partial(call_with_weights, module)
                yield theirs, functools.partial(MODULES[name], module), ((weights, *given.args), given.kwargs)

    compared(samples(), record_property)


def call_with_weights(module, weights, *args, **kwargs):
    return torch.func.functional_call(module, weights, args, kwargs)


@pytest.mark.parametrize("key", WITH_ERRORS)
def test_what_a_function_refuses_is_refused(key, record_property):
    refused, reasons = 0, Counter()
    ours = BY_POSITION.get(key, FUNCTIONS[key])
    for info in INFOS[key]:
        for error in info.error_inputs("cpu") if info.error_inputs_func else ():
            sample = error.sample_input
            reason = next((why for words, why in ACCEPTED.items() if words in str(error.error_regex)), None)
            try:
                if reason:
                    raise LeftOut(reason)
                arguments = tree_map(to_jax, ((sample.input, *sample.args), sample.kwargs))
                if "out" in arguments[1]:
                    raise LeftOut("an array to write the result into")
                ours(*arguments[0], **arguments[1])
            except LeftOut as left_out:
                reasons[str(left_out)] += 1
            except (ValueError, TypeError) as mine:
                assert isinstance(mine, (jn.ShapeError, jn.DTypeError)) or ":" in str(mine), mine  # one of jaxnets' own
                refused += 1
            else:
                raise AssertionError(f"accepted: {error.error_regex}, {arguments}")
    record_property("refused", refused)
    record_property("left out", dict(reasons))
