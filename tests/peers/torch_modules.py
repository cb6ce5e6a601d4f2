"""Modules of PyTorch, written with the functions beside: a call takes a module, its parameters by name, and its inputs."""

import inspect

import jax.numpy as jnp
from torch import Tensor

import jaxnets as jn

from .torch_functions import FUNCTIONS, VARIANT, leave_out, on_space

OF_ACTIVATIONS = ("alpha", "beta", "delta", "lambd", "margin", "max_val", "min_val", "negative_slope")  # attributes
ALIKE = {
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "Bilinear": "bilinear",
    "CELU": "celu",
    "CTCLoss": "ctc_loss",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "CrossEntropyLoss": "cross_entropy",
    "ELU": "elu",
    "Embedding": "embedding",
    "GELU": "gelu",
    "GLU": "glu",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "GroupNorm": "group_norm",
    "Hardshrink": "hardshrink",
    "Hardswish": "hardswish",
    "Hardtanh": "hardtanh",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "HuberLoss": "huber_loss",
    "L1Loss": "l1_loss",
    "LayerNorm": "layer_norm",
    "LeakyReLU": "leaky_relu",
    "Linear": "linear",
    "LocalResponseNorm": "local_response_norm",
    "LogSigmoid": "logsigmoid",
    "MSELoss": "mse_loss",
    "MarginRankingLoss": "margin_ranking_loss",
    "Mish": "mish",
    "MultiLabelMarginLoss": "multilabel_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "NLLLoss": "nll_loss",
    "PReLU": "prelu",
    "PoissonNLLLoss": "poisson_nll_loss",
    "RMSNorm": "rms_norm",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "SmoothL1Loss": "smooth_l1_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "Softmin": "softmin",
    "Softplus": "softplus",
    "Softshrink": "softshrink",
    "Softsign": "softsign",
    "Tanhshrink": "tanhshrink",
    "Threshold": "threshold",
}
IN_FUNCTIONAL = {
    "AdaptiveAvgPool": "adaptive_avg_pool",
    "AdaptiveMaxPool": "adaptive_max_pool",
    "AvgPool": "avg_pool",
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    "LPPool": "lp_pool",
    "MaxPool": "max_pool",
}
MODULES = {}


def alike(name, function):
    """A module whose parameters and attributes have the names of the arguments of its function."""
    parameters = inspect.signature(function).parameters
    names = set(parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        names |= set(OF_ACTIVATIONS)

    def call(module, weights, *args, **kwargs):
        given = inspect.signature(function).bind_partial(*args, **kwargs).arguments
        settings = {key: getattr(module, key) for key in names - set(given) - set(weights) if hasattr(module, key)}
        settings = {key: jnp.asarray(v.numpy()) if isinstance(v, Tensor) else v for key, v in settings.items()}
        return function(*args, **kwargs, **weights, **settings)

    MODULES[name] = call


for name, function in ALIKE.items():
    alike(name, FUNCTIONS[f"nn.functional.{function}"])
for name, function in IN_FUNCTIONAL.items():
    for rank in (1, 2, 3):
        alike(f"{name}{rank}d", FUNCTIONS[f"nn.functional.{function}{rank}d"])
for name in ("Sigmoid", "Tanh", "Softmax"):
    alike(name, FUNCTIONS[name.lower()])
alike("LogSoftmax", FUNCTIONS["log_softmax"])


def module(call):
    """Decorator: this is the module of PyTorch with the name of the call."""
    MODULES[call.__name__] = call
    return call


@module
def Softmax2d(module, weights, input):
    return jn.softmax(input, axis=-3)


def batch_norm(module, weights, input):
    statistics = {name: getattr(module, name) for name in ("running_mean", "running_var")}
    statistics = {name: None if v is None else jnp.asarray(v.numpy()) for name, v in statistics.items()}
    training = module.training or statistics["running_mean"] is None
    return FUNCTIONS["nn.functional.batch_norm"](input, **statistics, **weights, training=training, eps=module.eps)


def instance_norm(module, weights, input):
    leave_out(not module.training and module.track_running_stats, VARIANT)
    alone = input.ndim == module._get_no_batch_dim()
    y = FUNCTIONS["nn.functional.instance_norm"](input[None] if alone else input, **weights, eps=module.eps)
    return y[0] if alone else y


def padding(rank, mode):
    def call(module, weights, input):
        leave_out(input.ndim < rank + 1, VARIANT)
        pads = on_space(2 * rank, module.padding)
        return FUNCTIONS["nn.functional.pad"](input, pads, mode=mode, value=getattr(module, "value", None))

    return call


for rank in (1, 2, 3):
    MODULES[f"BatchNorm{rank}d"] = batch_norm
    MODULES[f"InstanceNorm{rank}d"] = instance_norm
    for name, mode in (
        ("ConstantPad", "constant"), ("ZeroPad", "constant"), ("CircularPad", "circular"), ("ReflectionPad", "reflect"),
        ("ReplicationPad", "replicate"),
    ):  # fmt: skip
        MODULES[f"{name}{rank}d"] = padding(rank, mode)


LAYERS = {"RNN_TANH": jn.rnn, "LSTM": jn.lstm, "GRU": jn.gru}


def recurrent(module, weights, input, hx=None):
    """Layers above one another, each in one direction or in both; the last cells of an LSTM are not returned."""
    leave_out(module.mode not in LAYERS or getattr(module, "proj_size", 0), VARIANT)
    layer, batch = LAYERS[module.mode], input.ndim == 3
    x = jnp.swapaxes(input, 0, 1) if batch and not module.batch_first else input
    states = () if hx is None else hx if module.mode == "LSTM" else (hx,)
    last = []
    for i in range(module.num_layers):
        sides = []
        for backward in range(1 + module.bidirectional):
            names = [f"{name}_l{i}{'_reverse' * backward}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            start = {name: state[len(last)] for name, state in zip(("h0", "c0"), states, strict=False)}
            y = layer(x[..., ::-1, :] if backward else x, *(weights.get(name) for name in names), **start)
            last.append(y[..., -1, :])
            sides.append(y[..., ::-1, :] if backward else y)
        x = jnp.concatenate(sides, -1)
    y = jnp.swapaxes(x, 0, 1) if batch and not module.batch_first else x
    last = jnp.stack(last)
    return y, (last, None) if module.mode == "LSTM" else last


def cell(layer):
    def call(module, weights, input, hx=None):
        leave_out(getattr(module, "nonlinearity", "tanh") != "tanh", VARIANT)
        states = () if hx is None else hx if layer is jn.lstm else (hx,)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        y = layer(input[..., None, :], *map(weights.get, names), **dict(zip(("h0", "c0"), states, strict=False)))[..., 0, :]
        return (y, None) if layer is jn.lstm else y

    return call


for name, layer in (("RNN", jn.rnn), ("LSTM", jn.lstm), ("GRU", jn.gru)):
    MODULES[name] = recurrent
    MODULES[f"{name}Cell"] = cell(layer)


@module
def MultiheadAttention(
    module, weights, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
    average_attn_weights=True, is_causal=False,
):  # fmt: skip
    leave_out(not average_attn_weights, VARIANT)
    batch = query.ndim == 3
    if batch and not module.batch_first:
        query, key, value = (jnp.swapaxes(x, 0, 1) for x in (query, key, value))
    if "in_proj_weight" in weights:
        wq, wk, wv = jnp.split(weights["in_proj_weight"], 3)
    else:
        wq, wk, wv = (weights[f"{name}_proj_weight"] for name in "qkv")
    bq, bk, bv = jnp.split(weights["in_proj_bias"], 3) if "in_proj_bias" in weights else (None,) * 3
    mask, bias = None, None
    for given, shape in ((key_padding_mask, (-1, 1, 1, key.shape[-2])), (attn_mask, None)):
        if given is not None:
            given = given.reshape(shape) if shape and batch else given
            if given.ndim == 3 and batch:  # one for each example and head
                given = given.reshape(-1, module.num_heads, *given.shape[1:])
            if given.dtype == bool:  # True hides
                mask = ~given if mask is None else mask & ~given
            else:
                bias = given if bias is None else bias + given
    learned = {name: weights[name].reshape(-1) for name in ("bias_k", "bias_v") if name in weights}
    y = jn.multi_head_attention(
        query, key, wq, wk, wv, weights["out_proj.weight"], mask, heads=module.num_heads, x_v=value, bq=bq, bk=bk, bv=bv,
        bo=weights.get("out_proj.bias"), bias=bias, add_zero_attention=module.add_zero_attn, return_weights=need_weights,
        **learned,
    )  # fmt: skip
    y, p = y if need_weights else (y, None)
    return jnp.swapaxes(y, 0, 1) if batch and not module.batch_first else y, p
