"""The table of all layers and losses: a line each, more where shapes or configuration change the Jacobian.

Every property of properties.py runs over every line.  To test a new layer, add its line to CASES.
"""

import math
import zlib
from dataclasses import dataclass, field
from functools import lru_cache, partial
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets
from jaxnets.layers.samples import Labels, Mask, Positive, Probabilities, RandomKey, Real, Signs, Unit


@dataclass(frozen=True, eq=False)
class Case:
    """A layer, what to call it with, and what is claimed of its Jacobians.

    `arguments` holds for every argument a shape (real numbers), a kind of samples.py or None; `structure` the word
    that `Jacobian.structure` gives for it, None where there is no Jacobian; `batch` the arguments whose first axis is a
    batch axis; `ulp` the error allowed to 16-bit results, in units of the entry's last place; for results that are sums
    also `eps`, in units of the last place of the largest entry or of 1; `cut` where a derivative is 0 by convention, which
    differences do not see.
    """

    name: str
    arguments: tuple
    structure: tuple[str | None, ...]
    config: dict = field(default_factory=dict)
    batch: tuple[int, ...] = ()
    ulp: float = 2
    eps: float = 0
    cut: bool = False

    def __str__(self):
        last = max((i for i, a in enumerate(self.arguments) if a is not None), default=-1)
        shapes = ["none" if a is None else a.letter + ("x".join(map(str, a.shape)) or "scalar") for a in self.arguments]
        shapes = shapes[: last + 1]
        return " ".join([self.name, *shapes, *(f"{k}={v}" for k, v in self.config.items())])

    @property
    def layer(self):
        return jaxnets.LAYERS[self.name]

    @property
    def full_config(self):
        """The configuration with the layer's defaults."""
        parameters = self.layer.signature.parameters.values()
        return {p.name: self.config.get(p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def real(self):
        """The positions of the arguments that may be differentiated."""
        return tuple(i for i, a in enumerate(self.arguments) if a is not None and a.differentiable)

    def values(self, dtype="float64", draw=0):
        """The arguments as arrays; another `draw` gives other numbers."""
        arrays = _drawn(self, draw)
        return [a if a is None or a.dtype != jnp.float64 else jax.device_put(np.asarray(a).astype(dtype)) for a in arrays]

    def call(self, *args):
        """The outputs of the layer, as a tuple."""
        out = self.layer.of_arrays(self.config)(*args)
        return out if isinstance(out, tuple) else (out,)

    def call_arguments(self, args):
        """The arguments as a call takes them: what goes by position, and by name arrays and configuration."""
        count = min(self.layer.by_position, len(args))
        names = self.layer.argument_names(len(args))[count:]
        return args[:count], dict(zip(names, args[count:], strict=True)) | self.config

    def function(self, args):
        """The layer as a function of its real arguments alone, with a tuple of outputs."""

        return lambda *real: self.call(*self.whole(args, real))

    def whole(self, args, real):
        """The arguments with the real ones replaced."""
        whole = list(args)
        for i, value in zip(self.real, real, strict=True):
            whole[i] = value
        return whole


@lru_cache(None)
def _drawn(case, draw):
    """Shuffled quantiles of the normal distribution: no two are equal and none is 0, so no argument lies on a kink."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()) + draw)
    sizes = [0 if a is None else math.prod(a.shape) for a in case.arguments]
    count = 2 * (sum(sizes) // 2 + 1)
    pool = rng.permutation([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    arrays = []
    with jax.ensure_compile_time_eval():
        for kind, size in zip(case.arguments, sizes, strict=True):
            values, pool = pool[:size], pool[size:]
            array = kind and jax.device_put(values.reshape(kind.shape))
            arrays.append(array if kind is None or type(kind) is Real else _of_kind(kind, array))
    return arrays


@partial(jax.jit, static_argnums=0)
def _of_kind(kind, normal):
    return kind.from_normal(normal)


class Inner(Unit):
    """Far from 0 and 1, where differences at a fixed step see nothing of a logarithm."""

    def from_normal(self, normal):
        return super().from_normal(normal / 3)


class Even(Probabilities):
    """None near 0, for the same reason."""

    def from_normal(self, normal):
        return super().from_normal(normal / 3)


class BelowLast(Labels):
    """Labels that are not the last class."""

    def from_normal(self, normal):
        return Labels(self.shape, self.classes - 1).from_normal(normal)


def line(name, arguments, structure, config=None, **claims):
    parameters = jaxnets.LAYERS[name].signature.parameters.values()
    optional = [None] * sum(p.default is None and p.kind is not p.KEYWORD_ONLY for p in parameters)
    required = len([p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]) - len(optional)
    missing = optional[max(0, len(arguments) - required) :]
    arguments = [*(Real(a) if isinstance(a, tuple) else a for a in arguments), *missing]
    structure = [*structure, *missing]
    return Case(name, tuple(arguments), tuple(structure), config or {}, **claims)


DIAGONAL = ["diagonal"]
ACTIVATIONS = [
    "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "softsign", "log_sigmoid", "hard_sigmoid",
    "hard_swish", "hard_tanh", "tanh_shrink", "soft_shrink", "hard_shrink", "clip", "squareplus",
]  # fmt: skip
CONVOLUTION = ["convolution", "convolution", "broadcast"]
AFFINE, BY_AFFINE = [(3,), (3,)], [("block diagonal", "zero", "zero"), ("broadcast", "zero", "zero")]
TRAINED, PLAIN = ("factored", "sum", "block diagonal"), ("rank-2 update", "sum", "block diagonal")
MOVED = [("zero", "scaled identity", "zero"), ("zero", "zero", "scaled identity")]
EVALUATED, KEPT = ("diagonal", "zero", "zero"), [("factored", "identity", "zero"), ("factored", "zero", "identity")]
KEPT_OF_ONE = [("diagonal", "identity", "zero"), ("diagonal", "zero", "identity")]
RECURRENT = ["factored"] * 3 + ["recurrence"] * 4
KEYS, ATTENDED = [(2, 2, 4, 2), (2, 2, 4, 2)], ["factored", "factored", "block diagonal", "factored"]
WEIGHED = ["factored", "factored", "rank-1 update"]

CASES = [
    line("identity", [(3, 4)], ["identity"], batch=(0,)),
    line("relu", [(3, 4)], DIAGONAL, batch=(0,)),
    line("relu", [()], ["scalar"]),
    line("tanh", [(3, 4)], DIAGONAL, batch=(0,)),
    line("tanh", [(0, 4)], ["zero"]),
    line("sigmoid", [(3, 4)], DIAGONAL, batch=(0,)),
    line("sigmoid", [(2, 1, 3)], DIAGONAL, batch=(0,)),
    line("softplus", [(3, 4)], DIAGONAL, batch=(0,)),
    line("softplus", [(5,)], DIAGONAL),
    *(line(name, [(3, 4)], DIAGONAL, batch=(0,), ulp=1) for name in ACTIVATIONS),
    line("leaky_relu", [(2, 3)], DIAGONAL, {"negative_slope": -0.25}, ulp=1),
    line("elu", [(2, 3)], DIAGONAL, {"alpha": 0.7}, ulp=1),
    line("celu", [(2, 3)], DIAGONAL, {"alpha": 0.7}, ulp=1),
    line("celu", [(2, 3)], DIAGONAL, {"alpha": -2.0}, ulp=1),
    line("gelu", [(2, 3)], DIAGONAL, {"approximate": True}, ulp=1),
    line("selu", [(2, 3)], DIAGONAL, {"alpha": 2.0, "gamma": 3.0}, ulp=1),
    line("silu", [(2, 3)], DIAGONAL, {"alpha": -0.7}, ulp=1),
    line("squareplus", [(2, 3)], DIAGONAL, {"b": 0.3}, ulp=1),
    line("hard_sigmoid", [(2, 3)], DIAGONAL, {"slope": 0.7, "offset": 0.4}, ulp=1),
    line("softplus", [(2, 3)], DIAGONAL, {"beta": 3.0, "threshold": 2.0}, ulp=1),
    line("softplus", [(2, 3)], DIAGONAL, {"beta": -0.5}, ulp=1),
    line("hard_tanh", [(2, 3)], DIAGONAL, {"min_val": -0.3, "max_val": 0.9}, ulp=1),
    line("soft_shrink", [(2, 3)], DIAGONAL, {"lambd": 0.3}, ulp=1),
    line("hard_shrink", [(2, 3)], DIAGONAL, {"lambd": 0.3}, ulp=1),
    line("threshold", [(3, 4)], DIAGONAL, {"threshold": 0.4, "value": -2.0}, batch=(0,), ulp=1),
    line("clip", [(2, 3)], DIAGONAL, {"min": -0.6, "max": 0.7}, ulp=1),
    line("clip", [(2, 3)], DIAGONAL, {"max": 0.3}, ulp=1),
    line("prelu", [(3, 4), (4,)], ["diagonal", "block diagonal"], {"axis": -1}, batch=(0,), ulp=1),
    line("prelu", [(2, 3, 4), (3,)], ["diagonal", "block diagonal"], ulp=1),
    line("prelu", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1), ulp=1),
    line("prelu", [(3, 4), (1,)], ["diagonal", "dense"], batch=(0,), ulp=1),
    line("prelu", [(4,), ()], ["diagonal", "dense"], ulp=1),
    line("glu", [(3, 4)], ["factored"], batch=(0,), ulp=1),
    line("glu", [(4, 3)], ["factored"], {"axis": 0}, ulp=1),
    line("glu", [(2,)], ["factored"], ulp=1),
    line("swiglu", [(3, 4)], ["factored"], batch=(0,), ulp=1),
    line("swiglu", [(2, 2, 3)], ["factored"], {"axis": -2}, batch=(0,), ulp=1),
    line("linear", [(3, 4), (2, 4), (2,)], ["Kronecker", "Kronecker", "broadcast"], batch=(0,), eps=2),
    line("linear", [(3, 4), (2, 4), None], ["Kronecker", "Kronecker", None], batch=(0,), eps=2),
    line("linear", [(2, 3, 4), (2, 4), (2,)], ["Kronecker", "Kronecker", "broadcast"], batch=(0,), eps=2),
    line("linear", [(4,), (3, 4), (3,)], ["dense", "Kronecker", "identity"], eps=2),
    line("linear", [(1, 4), (1, 4), (1,)], ["dense", "dense", "identity"], eps=2),
    line("linear", [(0, 4), (2, 4), (2,)], ["zero", "zero", "zero"]),
    line("duplicate", [(3, 4)], ["identity"], batch=(0,)),
    line("duplicate", [(2, 3)], ["identity"], {"n": 3}),
    line("bilinear", [(3, 2), (3, 4), (2, 2, 4), (2,)], ["factored"] * 3 + ["broadcast"], batch=(0, 1), eps=2),
    line("bilinear", [(2,), (3,), (2, 2, 3), None], ["factored", "factored", "factored", None], eps=2),
    line("matmul", [(2, 3, 4), (2, 4, 2)], ["block diagonal", "block diagonal"], batch=(0, 1), eps=2),
    line("matmul", [(2, 3, 4), (4, 2)], ["Kronecker", "Kronecker"], batch=(0,), eps=2),
    line("matmul", [(1, 2, 3), (2, 3, 2)], ["Kronecker", "Kronecker"], eps=2),
    line("matmul", [(4,), (2, 4, 3)], ["dense", "Kronecker"], batch=(1,), eps=2),
    line("matmul", [(3, 4), (4,)], ["Kronecker", "dense"], batch=(0,), eps=2),
    line("matmul", [(4,), (4,)], ["dense", "dense"], eps=2),
    line("einsum", [(3, 4), (2, 4)], ["Kronecker", "Kronecker"], {"subscripts": "...i,oi->...o"}, batch=(0,), eps=2),
    line("einsum", [(3, 4), (2, 4), (2,)], ["factored"] * 3, {"subscripts": "bi,oi,o->bo"}, eps=2),
    line("einsum", [(2, 3, 4), (4, 3)], ["Kronecker", "dense"], {"subscripts": "...ij,ji"}, batch=(0,), eps=2),
    line("einsum", [(3, 3)], ["permutation"], {"subscripts": "ii->i"}),
    line("embedding", [Labels((3,), 5), (5, 2)], [None, "selection"], batch=(0,)),
    line("embedding", [Labels((2, 3), 4), (4, 2)], [None, "selection"], {"padding_index": 1}, batch=(0,), cut=True),
    line("embedding", [Labels((), 4), (4, 3)], [None, "selection"], {"padding_index": -1}, cut=True),
    line("embedding", [Labels((2, 3), 4), (4, 2)], [None, "factored"], {"max_norm": 0.9}, batch=(0,), eps=1),
    line(
        "embedding",
        [Labels((4,), 3), (3, 3)],
        [None, "factored"],
        {"max_norm": 0.7, "norm_type": 3, "padding_index": 2},
        batch=(0,),
        eps=1,
        cut=True,
    ),
    line("add", [(3, 4), (3, 4)], ["identity", "identity"], batch=(0, 1)),
    line("add", [(3, 4), (4,)], ["identity", "broadcast"], batch=(0,)),
    line("add", [(3, 1), (4,)], ["broadcast", "broadcast"]),
    line("subtract", [(3, 4), (3, 4)], ["identity", "scaled identity"], batch=(0, 1)),
    line("subtract", [(3, 4), ()], ["identity", "broadcast"], batch=(0,)),
    line("multiply", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("multiply", [(3, 4), ()], ["scaled identity", "dense"], batch=(0,)),
    line("multiply", [(3, 1), (2, 1, 4)], ["Kronecker", "Kronecker"]),
    line("maximum", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("maximum", [(3, 4), (3, 1)], ["diagonal", "block diagonal"], batch=(0, 1)),
    line("minimum", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("minimum", [(3, 4), (3, 1)], ["diagonal", "block diagonal"], batch=(0, 1)),
    line("logaddexp", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1), ulp=1, eps=1),
    line("logaddexp", [(3, 1), (2, 3, 4)], ["block diagonal", "diagonal"], ulp=1, eps=1),
    line("stack", [(3, 4), (3, 4)], ["selection", "selection"], {"axis": 1}),
    line("stack", [(3,)], ["selection"]),
    line("stack", [(2,), (2,), (2,)], ["selection"] * 3, {"axis": -1}, batch=(0, 1, 2)),
    line("split", [(3, 4)], ["selection"], batch=(0,)),
    line("split", [(5, 2)], ["selection"], {"sections": (2, 3), "axis": 0}),
    line("concatenate", [(3, 2), (3, 4)], ["selection", "selection"], batch=(0, 1)),
    line("concatenate", [(2, 3), (1, 3), (2, 3)], ["selection", "selection", "selection"], {"axis": 0}),
    line("concatenate", [(2, 3), (2, 0)], ["identity", "zero"]),
    line("flatten", [(2, 3, 2)], ["identity"]),
    line("pad", [(3, 4)], ["selection"], {"padding": ((1, 2),), "value": 3.0}, batch=(0,)),
    line("pad", [(2, 3)], ["selection"], {"padding": 1}),
    line("pad", [(2, 3)], ["identity"], {"padding": 0}),
    line("pad", [(3, 4)], ["selection"], {"padding": ((1, 2),), "mode": "reflect"}, batch=(0,)),
    line("pad", [(2, 3, 2)], ["selection"], {"padding": (1, 0, 5), "mode": "symmetric"}),
    line("pad", [(2, 3)], ["selection"], {"padding": ((0, 4),), "mode": "circular"}, batch=(0,)),
    line("pad", [(2, 3)], ["selection"], {"padding": ((2, 1), (1, 1)), "mode": "replicate"}),
    line("interpolate", [(2, 2, 4, 3)], ["factored"], {"size": (3, 5), "mode": "linear"}, batch=(0,), eps=1),
    line("interpolate", [(2, 5)], ["Kronecker"], {"size": (3,), "mode": "cubic", "antialias": True}, batch=(0,), eps=1),
    line("interpolate", [(2, 4)], ["Kronecker"], {"size": (7,), "mode": "cubic", "align_corners": True}, batch=(0,), eps=1),
    line("interpolate", [(2, 2, 3)], ["selection"], {"scale_factor": (1.7,)}, batch=(0,)),
    line("interpolate", [(4, 3)], ["selection"], {"size": (2, 5), "mode": "nearest-exact"}),
    line("pixel_unshuffle", [(2, 1, 6, 4)], ["permutation"], {"factor": 2}, batch=(0,)),
    line("channel_shuffle", [(2, 6, 3)], ["permutation"], {"groups": 2}),
    line("channel_shuffle", [(3, 4)], ["permutation"], {"groups": 2, "axis": -1}),
    line("pixel_shuffle", [(2, 4, 3, 2)], ["permutation"], {"factor": 2}, batch=(0,)),
    line("pixel_shuffle", [(9, 2, 1)], ["permutation"], {"factor": 3}),
    line("flatten", [(2, 3, 2, 2)], ["identity"], {"start": 2}),
    line("mean", [(5,)], ["sum"], eps=1),
    line("mean", [(2, 3, 4)], ["sum"], {"axis": (0, -1)}, eps=1),
    line("mean", [(3, 4)], ["sum"], {"axis": 1}, eps=1),
    line("mean", [(3, 4), Mask((3, 4))], ["block diagonal", None], {"axis": -1}, batch=(0, 1), eps=1),
    line("mean", [(3, 4), Mask((4,))], ["dense", None], {"keepdims": True}, eps=1),
    line("sum", [(3, 4)], ["sum"], {"axis": -1}, batch=(0,), eps=2),
    line("sum", [(3, 4), Mask((3, 1))], ["block diagonal", None], {"axis": 0, "keepdims": True}, eps=2),
    line("max", [(3, 4)], ["block diagonal"], {"axis": -1}, batch=(0,)),
    line("max", [(2, 3, 4), Mask((2, 3, 4))], ["block diagonal", None], {"axis": (-2, -1), "keepdims": True}, batch=(0, 1)),
    line("min", [(3, 4)], ["block diagonal"], {"axis": -1}, batch=(0,)),
    line("min", [(2, 3, 4), Mask((3, 1))], ["block diagonal", None], {"axis": (0, 2)}),
    line("var", [(3, 4)], ["block diagonal"], {"axis": -1}, batch=(0,), eps=1),
    line("var", [(3, 4), Mask((3, 4))], ["dense", None], {"correction": 1, "keepdims": True}, eps=1),
    line("std", [(3, 4)], ["block diagonal"], {"axis": -1, "correction": 1}, batch=(0,), eps=1),
    line("std", [(2, 3, 4), Mask((2, 3, 4))], ["block diagonal", None], {"axis": (0, 2)}, eps=1),
    line("logsumexp", [(3, 4)], ["block diagonal"], {"axis": -1}, batch=(0,), eps=1),
    line("logsumexp", [(2, 3, 2), Mask((3, 2))], ["block diagonal", None], {"axis": (0, -1), "keepdims": True}, eps=1),
    line("logsumexp", [(4,)], ["dense"], eps=1),
    line("l2_norm", [(3, 4)], ["block diagonal"], {"axis": -1}, batch=(0,)),
    line("l2_norm", [(2, 3)], ["dense"], {"keepdims": True}),
    line("vector_norm", [(3, 4)], ["block diagonal"], {"p": 3, "axis": -1}, batch=(0,), eps=1),
    line("vector_norm", [(2, 3, 2)], ["block diagonal"], {"p": -1.5, "axis": (0, 2), "keepdims": True}, eps=1),
    line("vector_norm", [(5,)], ["dense"], {"p": math.inf}),
    line("vector_norm", [(3, 4)], ["block diagonal"], {"p": -math.inf, "axis": -1}, batch=(0,)),
    line("vector_norm", [(3, 4)], ["block diagonal"], {"p": 1, "axis": 0}, eps=1),
    line("pairwise_distance", [(3, 4), (3, 4)], ["block diagonal"] * 2, batch=(0, 1), eps=1),
    line("pairwise_distance", [(3, 4), (3, 4)], ["block diagonal"] * 2, {"p": 1.5, "keepdims": True}, batch=(0, 1), eps=1),
    line("normalize", [(3, 4)], ["diagonal + factored"], {"p": 1}, batch=(0,), eps=1),
    line("normalize", [(2, 3, 2)], ["diagonal + factored"], {"p": 3.5, "axis": (0, 2)}, eps=1),
    line("cosine_similarity", [(3, 4), (3, 4)], ["block diagonal"] * 2, batch=(0, 1), eps=1),
    line("cosine_similarity", [(4, 2), (4, 2)], ["block diagonal"] * 2, {"axis": 0, "eps": 1e-3}, eps=1),
    line("softmax", [(3, 4), Mask((3, 4))], ["rank-1 update", None], batch=(0, 1)),
    line("softmax", [(2, 3, 2), Mask((3, 1))], ["rank-1 update", None], {"axis": (0, 2)}),
    line("softmin", [(3, 4)], ["rank-1 update"], batch=(0,)),
    line("softmin", [(4, 3), Mask((4, 3))], ["rank-1 update", None], {"axis": 0}),
    line("sparsemax", [(3, 4)], ["diagonal + factored"], batch=(0,), eps=1),
    line("sparsemax", [(4, 2, 3)], ["diagonal + factored"], {"axis": 0}, eps=1),
    line("log_softmax", [(2, 3, 2)], ["rank-1 update"], {"axis": (-2, -1)}, batch=(0,)),
    line("softmax", [(3, 4)], ["rank-1 update"], batch=(0,)),
    line("softmax", [(4, 2, 3)], ["rank-1 update"], {"axis": 0}),
    line("softmax", [(2, 3, 4)], ["rank-1 update"], {"axis": 1}),
    line("softmax", [(2, 1)], ["rank-1 update"]),
    line("log_softmax", [(3, 4)], ["rank-1 update"], batch=(0,)),
    line("log_softmax", [(4, 3)], ["rank-1 update"], {"axis": 0}),
    line("log_softmax", [(5,)], ["rank-1 update"]),
    line("log_softmax", [(0, 4)], ["zero"]),
    line("log_softmax", [(2, 0)], ["zero"]),
    line("conv", [(2, 2, 5), (3, 2, 2), (3,)], CONVOLUTION, batch=(0,), eps=2),
    line("conv", [(2, 2, 6), (2, 2, 3), None], [*CONVOLUTION[:2], None], {"stride": 2, "padding": 1}, batch=(0,), eps=2),
    line("conv", [(2, 6), (2, 1, 2), (2,)], CONVOLUTION, {"padding": "SAME", "dilation": 2, "groups": 2}, eps=2),
    line("conv", [(3, 2, 4), (4, 1, 1), (4,)], ["block diagonal"] * 2 + ["broadcast"], {"groups": 2}, batch=(0,), eps=2),
    line("conv", [(2, 2, 1, 3), (2, 1, 2), (2,)], CONVOLUTION, batch=(0,), eps=2),
    line("conv", [(0, 2, 4), (3, 2, 2), (3,)], ["zero"] * 3),
    line("conv1d", [(2, 2, 4), (2, 2, 4), None], [*CONVOLUTION[:2], None], batch=(0,), eps=2),
    line("conv1d", [(2, 5), (2, 2, 2), None], [*CONVOLUTION[:2], None], {"dilation": 2}, eps=2),
    line(
        "conv2d", [(2, 2, 4, 3), (1, 2, 2, 2), (1,)], CONVOLUTION, {"dilation": (2, 1), "padding": ((1, 0), (0, 2))}, eps=2
    ),
    line("conv3d", [(2, 1, 2, 3, 2), (2, 1, 1, 2, 2), None], [*CONVOLUTION[:2], None], {"dilation": (1, 2, 1)}, eps=2),
    line("conv_transpose", [(2, 2, 3), (2, 3, 2), (3,)], CONVOLUTION, batch=(0,), eps=2),
    line("conv_transpose", [(2, 3), (2, 1, 3), (2,)], CONVOLUTION, {"stride": 2, "output_padding": 1, "groups": 2}, eps=2),
    line("conv_transpose", [(2, 3), (2, 3, 1), None], ["Kronecker", "Kronecker", None], eps=2),
    line("conv_transpose1d", [(2, 2, 3), (2, 2, 2), None], [*CONVOLUTION[:2], None], {"stride": 3, "padding": 1}, eps=2),
    line("conv_transpose2d", [(2, 2, 2, 3), (2, 1, 2, 2), (1,)], CONVOLUTION, {"dilation": (2, 1), "padding": (1, 0)}),
    line("conv_transpose3d", [(2, 1, 2, 2, 1), (1, 1, 1, 2, 2), None], [*CONVOLUTION[:2], None], {"dilation": (1, 1, 2)}),
    line("max_pool", [(2, 2, 6)], ["selection"], {"kernel_size": (2,)}, batch=(0,)),
    line("max_pool", [(2, 2, 4, 5)], ["selection"], {"kernel_size": 3, "stride": 2, "padding": 1}),
    line("max_pool", [(7, 3)], ["selection"], {"kernel_size": (3, 2), "dilation": (2, 1), "padding": 1, "ceil_mode": True}),
    line("avg_pool", [(2, 2, 4, 6)], ["sum"], {"kernel_size": 2}),
    line(
        "avg_pool",
        [(2, 5, 4)],
        ["factored"],
        {"kernel_size": (4, 2), "stride": (2, 1), "padding": (2, 0), "ceil_mode": True},
    ),  # fmt: skip
    line("avg_pool", [(2, 7)], ["Kronecker"], {"kernel_size": (3,), "stride": 2, "padding": 1, "count_include_pad": False}),
    line("avg_pool", [(2, 5)], ["Kronecker"], {"kernel_size": (2,), "stride": 1, "divisor_override": 3}, batch=(0,)),
    line("max_pool", [(2, 2, 4, 5)], ["selection"], {"kernel_size": (3, 3), "stride": 2, "padding": "same"}, batch=(0,)),
    line("max_pool", [(2, 7)], ["selection"], {"kernel_size": (4,), "stride": 2, "padding": ((1, 2),)}),
    line("avg_pool", [(2, 5)], ["Kronecker"], {"kernel_size": (2,), "stride": 1, "dilation": 2, "padding": ((0, 1),)}),
    line("avg_pool", [(2, 5)], ["Kronecker"], {"kernel_size": (2,), "padding": "same", "count_include_pad": False}),
    line(
        "lp_pool",
        [(2, 2, 4, 5)],
        ["factored"],
        {"kernel_size": (3, 3), "stride": 2, "padding": 1, "p": 3},
        batch=(0,),
        eps=1,
    ),
    line("lp_pool", [(2, 6)], ["factored"], {"kernel_size": (3,), "dilation": 2, "stride": 1, "p": 1.5}, batch=(0,), eps=1),
    line("global_lp_pool", [(2, 3, 2, 4)], ["block diagonal"], eps=1),
    line("global_lp_pool", [(2, 3, 5)], ["block diagonal"], {"p": 1.5, "keepdims": True}, eps=1),
    line("max_unpool", [(2, 2, 3), Labels((2, 2, 3), 3)], ["selection", None], {"kernel_size": (2,)}, batch=(0, 1)),
    line(
        "max_unpool",
        [(3, 2, 2), Labels((3, 2, 2), 2)],
        ["selection", None],
        {"kernel_size": (2, 2), "stride": 1, "output_size": (2, 4)},
        batch=(0, 1),
    ),
    line("global_max_pool", [(2, 3, 2, 4)], ["selection"], {"keepdims": True}, batch=()),
    line("global_avg_pool", [(2, 3, 2, 4)], ["sum"], {"keepdims": True}, eps=1),
    line("adaptive_max_pool", [(2, 2, 5, 3)], ["selection"], {"output_size": (3, None)}, batch=(0,)),
    line("adaptive_avg_pool", [(2, 2, 5, 4)], ["Kronecker"], {"output_size": (3, 2)}, batch=(0,), eps=1),
    line("adaptive_avg_pool", [(1, 2, 3, 2)], ["factored"], {"output_size": (2, 3)}, eps=1),
    line("global_max_pool", [(2, 3, 2, 4)], ["selection"]),
    line("global_max_pool", [(2, 3, 5)], ["selection"]),
    line("global_avg_pool", [(2, 3, 2, 4)], ["sum"], eps=1),
    line("global_avg_pool", [(2, 3, 5)], ["sum"], eps=1),
    line("layer_norm", [(3, 4), (4,), (4,)], ["factored", "block diagonal", "broadcast"], batch=(0,), eps=1),
    line("layer_norm", [(1, 4), (4,)], ["factored", "diagonal"], eps=1),
    line("layer_norm", [(2, 3, 2)], ["rank-2 update"], {"axis": (-1, -2)}, batch=(0,), eps=1),
    line("layer_norm", [(2, 3, 4), (2, 4)], ["factored", "block diagonal"], {"axis": (2, 0), "eps": 0.1}, eps=1),
    line("layer_norm", [(5,), None, (5,)], ["rank-2 update", None, "identity"], eps=1),
    line("layer_norm", [(0, 4), (4,), (4,)], ["zero"] * 3),
    line("layer_norm_statistics", [(3, 4)], [("sum", "block diagonal")], batch=(0,), eps=1),
    line("layer_norm_statistics", [(2, 3, 2)], [("sum", "block diagonal")], {"axis": (0, 2), "keepdims": True, "eps": 0.1}),
    line("rms_norm", [(3, 4), (4,)], ["factored", "block diagonal"], batch=(0,), eps=1),
    line("rms_norm", [(3, 4), (4,)], ["factored", "block diagonal"], {"unit_offset": True}, eps=1),
    line("rms_norm", [(2, 3, 2)], ["rank-1 update"], {"axis": (0, 2), "eps": 0.1}, eps=1),
    line("weight_norm", [(4, 3), (4,)], ["factored", "block diagonal"], eps=1),
    line("weight_norm", [(2, 3, 2), (3,)], ["factored", "block diagonal"], {"axis": 1}, eps=1),
    line("weight_norm", [(2, 3), ()], ["factored", "dense"], {"axis": None}, eps=1),
    line("spectral_norm", [(4, 3), (4,)], ["scaled identity + factored", "factored"], eps=2),
    line("spectral_norm", [(2, 3, 2), (3,)], ["scaled identity + factored", "factored"], {"axis": 1}, eps=2),
    line("group_norm", [(2, 4, 3), (4,), (4,)], ["factored", "block diagonal", "broadcast"], {"groups": 2}, eps=1),
    line("group_norm", [(2, 6)], ["rank-2 update"], {"groups": 2, "eps": 0.1}, eps=1),
    line("group_norm", [(1, 3, 2, 2), (3,)], ["factored", "block diagonal"], {"groups": 1}, eps=1),
    line("local_response_norm", [(2, 4, 3)], ["diagonal + factored"], {"size": 3, "alpha": 0.9}, eps=1),
    line("local_response_norm", [(3, 4)], ["diagonal + factored"], {"size": 2, "beta": 1.5, "k": 0.5}, eps=1),
    line("instance_norm", [(2, 3, 4), (3,), (3,)], ["factored", "block diagonal", "broadcast"], eps=1),
    line("instance_norm", [(2, 2, 2, 2)], ["rank-2 update"], {"eps": 0.1}, eps=1),
    line("batch_norm", [(4, 3), *AFFINE, (3,), Positive((3,))], [TRAINED, *BY_AFFINE, *MOVED], {"training": True}, eps=1),
    line(
        "batch_norm", [(2, 3, 2, 2), None, None, (3,)], [PLAIN, None, None, MOVED[0]], {"training": True, "eps": 0.1}, eps=1
    ),
    line("batch_norm", [(1, 2, 3)], [PLAIN], {"training": True, "momentum": 0.3}, eps=1),
    line("batch_norm", [(4, 3, 2), *AFFINE, (3,), Positive((3,))], [EVALUATED, *BY_AFFINE, *KEPT], eps=1),
    line("batch_norm", [(1, 3), None, None, (3,), Positive((3,))], [EVALUATED, None, None, *KEPT_OF_ONE], eps=1),
    line("standardize", [(4, 3)], ["rank-2 update"], eps=1),
    line("standardize", [(2, 3, 2)], ["rank-2 update"], {"axis": (0, 2), "eps": 0.1}, eps=1),
    line("standardize", [(3, 4)], ["rank-2 update"], {"axis": -1}, batch=(0,), eps=1),
    line("standardize", [(4, 3), (3,), Positive((3,))], ["diagonal", "block diagonal", "block diagonal"], eps=1),
    line("normalize", [(3, 4)], ["rank-1 update"], batch=(0,), eps=1),
    line("normalize", [(2, 3, 2)], ["rank-1 update"], {"axis": (0, 2), "eps": 1e-3}, eps=1),
    line("attention", [(2, 2, 3, 2), *KEYS, (3, 4), Mask((2, 1, 3, 4))], [*ATTENDED, None], batch=(0, 1, 2, 4), eps=2),
    line("attention", [(2, 4, 3, 2), *KEYS, (4, 1, 4)], ATTENDED, {"causal": True, "scale": 0.4}, batch=(0, 1, 2), eps=2),
    line("attention", [(3, 2), (3, 2), (3, 2)], ["factored", "factored", "Kronecker"], {"causal": True}, eps=2),
    line("attention", [(2, 4, 3, 2), *KEYS, (3, 4)], ATTENDED, {"softcap": 0.7, "window": (1, 0), "offset": 1}, eps=2),
    line("attention", [(2, 2, 3, 2), *KEYS, (3, 4), None, RandomKey()], ["factored"] * 4, {"dropout": 0.4}, eps=2),
    line("attention", [(3, 1, 2, 3, 2), (1, 2, 2, 4, 2), (3, 2, 2, 4, 2)], ["factored"] * 2 + ["block diagonal"], eps=2),
    line("attention", [(1, 2, 3, 2), (1, 1, 4, 2), (2, 1, 4, 2), (2, 1, 1, 4)], ATTENDED, eps=2),
    line("attention_weights", [(2, 4, 3, 2), (2, 2, 4, 2), (3, 4), Mask((4,))], WEIGHED, batch=(0, 1), eps=2),
    line("attention_weights", [(2, 3, 2), (1, 4, 2)], ["factored"] * 2, {"softcap": 2.0, "causal": True}, eps=2),
    line("attention_weights", [(3, 1, 2, 2), (1, 1, 3, 2), (2, 3)], WEIGHED, {"scale": -0.4}, eps=2),
    line("rotary", [(2, 3, 4)], ["block diagonal"], batch=(0,), eps=1),
    line(
        "rotary", [(2, 2, 3, 4), Labels((2, 1, 3), 50)], ["block diagonal", None], {"interleaved": True}, batch=(0, 1), eps=1
    ),
    line(
        "rotary", [(2, 3, 5), Labels((1,), 9)], ["factored + selection", None], {"dim": 4, "base": 50.0}, batch=(0,), eps=1
    ),
    line("rotary", [(3, 6)], ["factored + selection"], {"dim": 2, "interleaved": True}, eps=1),
    line("rnn", [(2, 3, 2), (2, 2), (2, 2), (2,), (2,), (2, 2)], RECURRENT[:6], batch=(0, 5), eps=4),
    line("rnn", [(3, 2), (3, 2), (3, 3)], RECURRENT[:3], eps=4),
    line("rnn", [(2, 0, 2), (2, 2), (2, 2)], ["zero"] * 3),
    line("lstm", [(3, 3, 2), (12, 2), (12, 3), (12,), (12,), (3, 3), (3, 3)], RECURRENT, batch=(0, 5, 6), eps=4),
    line("lstm", [(2, 1, 2), (4, 2), (4, 1), None, (4,)], [*RECURRENT[:3], None, "recurrence"], batch=(0,), eps=4),
    line("gru", [(3, 3, 2), (12, 2), (12, 4), (12,), (12,), (3, 4)], RECURRENT[:6], batch=(0, 5), eps=4),
    line("gru", [(2, 2, 3, 3), (6, 3), (6, 2)], RECURRENT[:3], batch=(0,), eps=4),
    line("diagonal_recurrence", [(2, 3, 2), (2,), (2,), (2, 2)], RECURRENT[:4], batch=(0, 3), eps=4),
    line("diagonal_recurrence", [(4, 3), (3,)], ["recurrence", "factored"], eps=4),
    line("dropout", [(3, 4), RandomKey()], ["diagonal", None]),
    line("dropout", [(2, 3, 4), RandomKey()], ["diagonal", None], {"rate": 0.3, "shared": (-1,)}),
    line("dropout", [(3, 4)], ["identity"], {"training": False}, batch=(0,)),
    line("squared_error", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("squared_error", [(), ()], ["scalar", "scalar"]),
    line("absolute_error", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("huber", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("huber", [(4,), (4,)], ["diagonal", "diagonal"], {"delta": 0.4}),
    line("smooth_l1", [(3, 4), (3, 4)], ["diagonal", "diagonal"], {"beta": 0.7}, batch=(0, 1)),
    line("smooth_l1", [(2, 3), (2, 3)], ["diagonal", "diagonal"], {"beta": 0}),
    line("quantile", [(3, 4), (3, 4)], ["diagonal", "diagonal"], {"q": 0.3}, batch=(0, 1)),
    line("quantile", [(), ()], ["scalar", "scalar"]),
    line("hinge_embedding", [(3, 4), Signs((3, 4), True)], ["diagonal", None], {"margin": 0.5}, batch=(0, 1)),
    line("hinge_embedding", [(4,), Signs((4,), True)], ["diagonal", None]),
    line("multilabel_margin", [(3, 4), Labels((3, 4), 4)], ["block diagonal", None], batch=(0, 1), eps=1),
    line("multilabel_margin", [(4,), Labels((4,), 4)], ["dense", None], eps=1),
    line("multilabel_soft_margin", [(3, 4), Unit((3, 4))], ["block diagonal"] * 2, batch=(0, 1), eps=1),
    line(
        "multilabel_soft_margin",
        [(3, 4), Labels((3, 4), 2), Positive((4,))],
        ["block diagonal", None, "dense"],
        batch=(0, 1),
        eps=1,
    ),
    line("focal", [(3, 4), Unit((3, 4))], ["diagonal", "diagonal"], batch=(0, 1), eps=1),
    line("focal", [(3,), Labels((3,), 2)], ["diagonal", None], {"gamma": 1.5, "alpha": 0.25}, eps=1),
    line("dice", [Unit((3, 4)), Unit((3, 4))], ["block diagonal"] * 2, batch=(0, 1), eps=1),
    line("dice", [Unit((4,)), Labels((4,), 2)], ["dense", None], {"eps": 0.1}, eps=1),
    line("info_nce", [(3, 4), (3, 4)], ["block diagonal", "factored"], {"temperature": 1.0}, eps=4),
    line("info_nce", [(2, 3, 2), (2, 3, 2)], ["block diagonal", "factored"], {"temperature": 0.5}, batch=(0, 1), eps=4),
    line("ctc", [(2, 4, 3), BelowLast((2, 2), 3)], ["block diagonal", None], {"blank": -1}, batch=(0, 1), eps=2),
    line(
        "ctc",
        [(2, 5, 4), BelowLast((2, 3), 4), Labels((2,), 5), Labels((2,), 3)],
        ["block diagonal"] + [None] * 3,
        {"blank": -1, "zero_infinity": True},
        batch=(0, 1, 2, 3),
        eps=2,
    ),
    line("ctc", [(6, 2), BelowLast((3,), 2)], ["dense", None], {"blank": -1}, eps=2),
    line("log_cosh", [(3, 4), (3, 4)], ["diagonal", "diagonal"], batch=(0, 1)),
    line("binary_cross_entropy", [Inner((3, 4)), Unit((3, 4))], ["diagonal", "diagonal"], batch=(0, 1), eps=2),
    line("binary_cross_entropy", [Inner((3,)), Labels((3,), 2)], ["diagonal", None], eps=2),
    line("binary_cross_entropy_with_logits", [(3, 4), Unit((3, 4))], ["diagonal", "diagonal"], batch=(0, 1), eps=1),
    line("binary_cross_entropy_with_logits", [(3, 4), Labels((3, 4), 2)], ["diagonal", None], batch=(0, 1)),
    line(
        "binary_cross_entropy_with_logits",
        [(3, 4), Unit((3, 4)), None, Positive((4,))],
        ["diagonal"] * 2 + [None, "block diagonal"],
        batch=(0, 1),
        eps=1,
    ),
    line(
        "binary_cross_entropy_with_logits",
        [(3, 4), Unit((3, 4)), Positive((3, 1)), Positive((3, 4))],
        ["diagonal"] * 2 + ["block diagonal", "diagonal"],
        batch=(0, 1, 2, 3),
        eps=1,
    ),
    line("binary_cross_entropy", [Inner((3,)), Unit((3,)), Positive((3,))], ["diagonal"] * 3, eps=2),
    line("hinge", [(3, 4), Signs((3, 4))], ["diagonal", "diagonal"], batch=(0, 1)),
    line("hinge", [(4,), Signs((4,), True)], ["diagonal", None]),
    line("perceptron", [(3, 4), Signs((3, 4))], ["diagonal", "diagonal"], batch=(0, 1)),
    line("perceptron", [(4,), Signs((4,), True)], ["diagonal", None]),
    line("soft_margin", [(3, 4), Signs((3, 4))], ["diagonal", "diagonal"], batch=(0, 1)),
    line("soft_margin", [(4,), Signs((4,), True)], ["diagonal", None]),
    line("kl_divergence", [Probabilities((3, 4), True), Even((3, 4))], ["block diagonal"] * 2, batch=(0, 1), eps=2),
    line(
        "kl_divergence",
        [(2, 3, 2), Probabilities((2, 3, 2), True)],
        ["block diagonal"] * 2,
        {"log_targets": True},
        batch=(0, 1),
        eps=2,
    ),
    line(
        "kl_divergence",
        [(2, 3, 4), Even((2, 3, 4))],
        ["block diagonal"] * 2,
        {"axis": -2},
        batch=(0, 1),
        eps=2,
    ),
    line("kl_divergence", [(3, 4), Even((3, 4))], ["diagonal"] * 2, {"axis": None}, eps=2),
    line("poisson_nll", [(3, 4), Positive((3, 4))], ["diagonal", "diagonal"], {"full": True}, batch=(0, 1), eps=1),
    line("poisson_nll", [Positive((2, 3)), Positive((2, 3))], ["diagonal"] * 2, {"log_input": False, "eps": 0.3}, eps=1),
    line(
        "poisson_nll",
        [Positive((3, 4)), Labels((3, 4), 6)],
        ["diagonal", None],
        {"log_input": False, "eps": 0.1},
        batch=(0, 1),
        eps=1,
    ),
    line("gaussian_nll", [(3, 4), (3, 4), Positive((3, 4))], ["diagonal"] * 3, {"eps": 0.4}, batch=(0, 1, 2), eps=1),
    line(
        "gaussian_nll",
        [(3, 4), (3, 4), Positive((3, 1))],
        ["diagonal"] * 2 + ["block diagonal"],
        {"full": True},
        batch=(0, 1, 2),
        eps=1,
    ),
    line(
        "cosine_embedding",
        [(3, 4), (3, 4), Signs((3,), True)],
        ["block diagonal"] * 2 + [None],
        {"margin": -0.4},
        batch=(0, 1, 2),
        eps=1,
    ),
    line("triplet", [(3, 4), (3, 4), (3, 4)], ["block diagonal"] * 3, batch=(0, 1, 2), eps=1),
    line("triplet", [(4, 3), (4, 3), (4, 3)], ["block diagonal"] * 3, {"p": 1, "swap": True, "margin": 2.0}, eps=1),
    line("triplet", [(4, 3), (4, 3), (4, 3)], ["block diagonal"] * 3, {"p": 3.5, "swap": True, "eps": 0.0}, eps=1),
    line("triplet", [(4, 3), (4, 3), (4, 3)], ["block diagonal"] * 3, {"p": math.inf}, eps=1),
    line("margin_ranking", [(3, 4), (3, 4), Signs((3, 4))], ["diagonal"] * 3, {"margin": 0.3}, batch=(0, 1, 2)),
    line("margin_ranking", [(4,), (4,), Signs((4,), True)], ["diagonal", "diagonal", None]),
    line(
        "multi_class_hinge",
        [(3, 4), Labels((3,), 4), Positive((4,))],
        ["block diagonal", None, "factored"],
        {"margin": 0.8},
        batch=(0, 1),
    ),
    line(
        "multi_class_hinge", [(2, 3, 4), Labels((2, 3), 4)], ["block diagonal", None], {"margin": 0.5, "p": 2}, batch=(0, 1)
    ),
    line("sparsemax_loss", [(3, 4), Labels((3,), 4)], ["block diagonal", None], batch=(0, 1), eps=1),
    line("sparsemax_loss", [(4,), Labels((), 4)], ["dense", None], eps=1),
    line("nll", [(3, 4), Labels((3,), 4)], ["selection", None], batch=(0, 1)),
    line("nll", [(2, 3, 4), Labels((2, 3), 4)], ["selection", None], batch=(0, 1)),
    line("nll", [(4,), Labels((), 4)], ["selection", None]),
    line("nll", [(3, 4), Labels((3,), 4), (4,)], ["factored", None, "factored"], batch=(0, 1)),
    line("nll", [(3, 4), Labels((3,), 4), (4,)], ["factored", None, "factored"], {"ignore_index": 2}, batch=(0, 1)),
    line("nll", [(2, 4, 3), Labels((2, 3), 4), (4,)], ["factored", None, "factored"], {"axis": -2}, batch=(0, 1)),
    line("cross_entropy", [(3, 4), Labels((3,), 4)], ["block diagonal", None], batch=(0, 1), eps=2),
    line(
        "cross_entropy",
        [(2, 4, 3), Labels((2, 3), 4), Positive((4,))],
        ["block diagonal", None, "factored"],
        {"axis": -2},
        batch=(0, 1),
        eps=2,
    ),
    line(
        "cross_entropy",
        [(2, 4, 3), Even((2, 4, 3))],
        ["block diagonal"] * 2,
        {"axis": -2, "label_smoothing": 0.1},
        batch=(0, 1),
        eps=2,
    ),
    line("cross_entropy", [(3, 4), Probabilities((3, 4))], ["block diagonal"] * 2, batch=(0, 1), eps=2),
    line("cross_entropy", [(2, 3, 4), Labels((2, 3), 4)], ["block diagonal", None], batch=(0, 1), eps=2),
    line("cross_entropy", [(4,), Labels((), 4)], ["dense", None], eps=2),
    line(
        "cross_entropy",
        [(3, 4), Labels((3,), 4), (4,)],
        ["block diagonal", None, "factored"],
        {"ignore_index": 1},
        batch=(0, 1),
        eps=2,
    ),
    line(
        "cross_entropy",
        [(3, 4), Labels((3,), 4), Positive((4,))],
        ["block diagonal", None, "dense"],
        {"ignore_index": 1, "label_smoothing": 0.1},
        batch=(0, 1),
        eps=2,
    ),
    line(
        "cross_entropy",
        [(3, 4), Probabilities((3, 4)), Positive((4,))],
        ["block diagonal", "block diagonal", "dense"],
        {"label_smoothing": 0.2},
        batch=(0, 1),
        eps=2,
    ),
]

# The first line of every layer: the plainest arguments.
FIRST = {case.name: case for case in reversed(CASES)}
# The first layer of every structure: one that is multiplied, summed and mapped like no other before it.
STRUCTURES = {case.structure: case for case in FIRST.values()}
# One of these for every word for a structure, whatever the other arguments have.
WORDS = {word: case for case in STRUCTURES.values() for word in jax.tree.leaves(case.structure)}
