"""Plain JAX programs, a line each: what people write without knowing jaxnets.

`test_transforms.py` compares their Jacobians with those of `jax.jacrev`.  No layer of the package appears here.
Arrays are NumPy's, so that importing this file does not fix JAX's precision; `Program.arrays` converts them.
"""

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import AxisType, PartitionSpec

_rng = np.random.default_rng(0)


class Program(NamedTuple):
    """A function with example arguments; it is differentiated by every argument whose leaves are all floats."""

    name: str
    function: Callable
    args: tuple
    forward_only: bool = False  # JAX has no reverse mode for it
    concrete: bool = False  # Python looks at the values, so it cannot be traced
    rounds: bool = False  # passes through float32

    @property
    def arrays(self) -> tuple:
        return jax.device_put(self.args)

    @property
    def argnums(self) -> tuple[int, ...]:
        return tuple(i for i, arg in enumerate(self.args) if all(_is_float(leaf) for leaf in jax.tree.leaves(arg)))

    @property
    def tolerance(self) -> float:
        """Relative to the largest entry; set by the narrowest dtype of the arguments."""
        floats = [np.asarray(leaf).dtype for leaf in jax.tree.leaves(self.args) if _is_float(leaf)]
        bits = min((np.finfo(dtype).bits for dtype in floats), default=64) if not self.rounds else 32
        return {64: 1e-10, 32: 2e-5, 16: 1e-2}[bits]


def _is_float(leaf) -> bool:
    return np.issubdtype(np.asarray(leaf).dtype, np.floating)


def r(*shape, dtype=np.float64):
    """Normal numbers, away from 0 so that kinks are not hit by chance."""
    x = _rng.normal(size=shape)
    return np.asarray(x + 0.05 * np.sign(x), dtype)


def pos(*shape):
    return np.exp(0.5 * r(*shape))


def spd(n):
    a = r(n, n)
    return a @ a.T + n * np.eye(n)


def ints(*values):
    return np.array(values, np.int32)


# --- functions that need more than a line --------------------------------------------------------------------------


def layers(*widths):
    return [{"w": r(o, i), "b": r(o)} for i, o in zip(widths[:-1], widths[1:], strict=True)]


def mlp(params, x, act=jnp.tanh):
    for p in params[:-1]:
        x = act(x @ p["w"].T + p["b"])
    return x @ params[-1]["w"].T + params[-1]["b"]


def residual(params, x):
    for p in params:
        x = x + jax.nn.gelu(x @ p["w"].T + p["b"], approximate=False)
    return x


def tied(w, x):
    return jnp.tanh(jnp.tanh(x @ w.T) @ w) @ w.T


def convnet(k1, k2, w, x):
    """[b, h, w, c] images."""
    numbers = ("NHWC", "HWIO", "NHWC")
    x = jax.nn.relu(lax.conv_general_dilated(x, k1, (1, 1), "SAME", dimension_numbers=numbers))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = lax.conv_general_dilated(x, k2, (2, 1), [(1, 0), (0, 1)], dimension_numbers=numbers)
    return x.reshape(x.shape[0], -1) @ w


def softmax_by_hand(x):
    e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


def layer_norm(x, g, b):
    mean = x.mean(-1, keepdims=True)
    return g * (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) + b


def batch_norm(x, g, b):
    return g * (x - x.mean(0)) * lax.rsqrt(x.var(0) + 1e-5) + b


def attention(q, k, v, mask):
    """Heads in the third axis: [b, t, h, d]."""
    s = jnp.einsum("bthd,bshd->bhts", q, k) / jnp.sqrt(q.shape[-1])
    p = jax.nn.softmax(jnp.where(mask, s, -1e9), -1)
    return jnp.einsum("bhts,bshd->bthd", p, v).reshape(*q.shape[:2], -1)


def loss_by_hand(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def filled(table, ids):
    return table.at[ids].get(mode="fill", fill_value=0)


def clamped(table, ids):
    return table.at[ids].get(mode="clip")


def grouped(x, k):
    return lax.conv_general_dilated(x, k, (1,), "SAME", feature_group_count=2)


def log_probability(logits, k):
    return jax.nn.log_softmax(logits)[jnp.arange(len(k)), k].sum()


def rnn(w, u, xs):
    def step(h, x):
        h = jnp.tanh(w @ h + u @ x)
        return h, h.sum()

    return lax.scan(step, jnp.zeros(len(w)), xs)


def lstm(w, x):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(jnp.concatenate([x, h], -1) @ w, 4, -1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], w.shape[1] // 4))
    return lax.scan(step, (zeros, zeros), x)[1]


def newton_root(x):
    return lax.while_loop(lambda s: s[1] < 6, lambda s: (0.5 * (s[0] + x / s[0]), s[1] + 1), (x, 0))[0]


@jax.custom_jvp
def cube(x):
    return x**3


cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * primals[0] ** 2 * tangents[0]))


@jax.custom_jvp
def hypotenuse(x, y):
    return jnp.sqrt(x**2 + y**2)


@hypotenuse.defjvp
def _(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    h = hypotenuse(x, y)
    return h, (x * dx + y * dy) / h


@jax.custom_jvp
def sine_elsewhere(x):
    """Outside of JAX, and so is its tangent."""
    return jax.pure_callback(np.sin, x, x, vmap_method="sequential")


@sine_elsewhere.defjvp
def _(primals, tangents):
    tangent = jax.pure_callback(lambda x, t: np.cos(x) * t, primals[0], *primals, *tangents, vmap_method="sequential")
    return sine_elsewhere(*primals), tangent


@jax.custom_vjp
def clipped_gradient(x):
    """The identity whose pullback clips: its Jacobian is no autodiff of the forward."""
    return 2 * x


clipped_gradient.defvjp(lambda x: (2 * x, x), lambda x, g: (jnp.where(x > 0, 3.0, 0.5) * g,))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def powered(n, x, y):
    return x**n * y


powered.defvjp(
    lambda n, x, y: (x**n * y, (x, y)), lambda n, kept, g: (g * n * kept[0] ** (n - 1) * kept[1], g * kept[0] ** n)
)


@jax.jit
def jitted(x, w):
    return jnp.sin(x @ jax.jit(jnp.tanh)(w))


def by_value(x):
    return x**2 if x.sum() > 0 else jnp.sin(x)


def ragged(tree):
    """A tree in, a tree out; one output does not use one input."""
    return {"a": tree["x"] * 2, "b": (tree["x"].sum() * tree["y"][0], tree["y"][1] ** 2)}


def many_uses(x):
    for _ in range(5):
        x = x + jnp.sin(x) * x
    return x


def mixed(x, w, n):
    return (x[n] @ w) * n.sum()


tied_values = np.array([[1.0, 3.0, 3.0, -2.0], [0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 2.0, 2.0]])
distinct = _rng.permutation(12).reshape(3, 4) / 3.0 - 1.9
mask = np.tril(np.ones((3, 3), bool))


def sharded(function):
    """Over a mesh of one device."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d"))


# Only primitives with a structured rule: nothing here may be opaque.

STRUCTURED = [
    Program("identity", lambda x: x, (r(3, 2),)),
    Program("scalar to scalar", lambda x: jnp.sin(x) * x, (r(),)),
    Program("python scalar", lambda x: x**3 + 2 * x, (0.7,)),
    Program("vector to scalar", lambda x: (x**2).sum(), (r(4),)),
    Program("scalar to matrix", lambda x: x * jnp.arange(6.0).reshape(2, 3), (r(),)),
    Program("elementwise chain", lambda x: jnp.tanh(jnp.exp(jnp.sin(x)) / (1 + x**2)), (r(3, 4),)),
    Program("log, sqrt, rsqrt", lambda x: jnp.log(x) + jnp.sqrt(x) * lax.rsqrt(x) + jnp.log1p(x), (pos(5),)),
    Program("expm1, erf, cbrt", lambda x: jnp.expm1(x) * lax.erf(x) + jnp.cbrt(x), (r(5),)),
    Program("trigonometry", lambda x: jnp.arctan(x) + jnp.sinh(x) - jnp.cosh(x) + jnp.arcsinh(x), (r(5),)),
    Program("atan2", jnp.arctan2, (r(4), r(4))),
    Program("special functions", lambda x: jax.scipy.special.gammaln(x) + jax.scipy.special.digamma(x), (pos(4),)),
    Program("power", lambda x, y: x**y + x**-1.5 + jnp.power(2.0, y), (pos(3, 2), r(2))),
    Program("square", lambda x: x**2, (r(3),)),
    Program("x times x", lambda x: x * x, (r(3),)),
    Program("x minus x", lambda x: x - x, (r(3),)),
    Program("x over x", lambda x: (x / x.sum()) @ x, (pos(4),)),
    Program("outer product by broadcasting", lambda x: x[:, None] * x[None, :], (r(3),)),
    Program("many uses", many_uses, (r(3),)),
    Program("constant output", lambda x: jnp.ones((2, 3)), (r(4),)),
    Program("constant of Python", lambda x: 3.0, (r(4),)),
    Program("one input unused", lambda x, y: x * 2, (r(2), r(3))),
    Program("zero by sign", lambda x: jnp.sign(x) + jnp.floor(x), (r(4),)),
    Program("stop gradient", lambda x: x * lax.stop_gradient(x), (r(4),)),
    Program("empty input", lambda x, y: y * x.sum(), (r(0, 3), r(2))),
    Program("empty output", lambda x: x[:0] * 2, (r(4),)),
    Program("batch of one", lambda x, w: jnp.tanh(x @ w), (r(1, 3), r(3, 1))),
    Program("tree", ragged, ({"x": r(2), "y": [r(), r(3)]},)),
    Program("tuple of outputs", lambda x: (x.sum(0), [x * 2, (x.sum(),)], None), (r(2, 3),)),
    Program("integer side input", mixed, (r(4, 3), r(3, 2), 2)),
    Program("MLP", mlp, (layers(3, 5, 4, 2), r(4, 3))),
    Program("MLP with relu", partial(mlp, act=lambda x: jnp.maximum(x, 0)), (layers(3, 5, 2), r(3, 3))),
    Program("tied weights", tied, (r(4, 3), r(2, 3))),
    Program("weights shared by layers", lambda w, x: mlp([{"w": w, "b": 0.0}] * 3, x), (r(3, 3), r(2, 3))),
    Program("softmax by hand", softmax_by_hand, (r(3, 4),)),
    Program("log-sum-exp by hand", lambda x: jnp.log(jnp.exp(x).sum(-1)), (r(3, 4),)),
    Program("layer norm", layer_norm, (r(3, 4), r(4), r(4))),
    Program("batch norm", batch_norm, (r(5, 3), r(3), r(3))),
    Program("matmul 1,1", jnp.matmul, (r(3), r(3))),
    Program("matmul 1,2", jnp.matmul, (r(3), r(3, 2))),
    Program("matmul 2,1", jnp.matmul, (r(2, 3), r(3))),
    Program("matmul 2,2", jnp.matmul, (r(2, 3), r(3, 4))),
    Program("matmul 3,3", jnp.matmul, (r(2, 3, 2), r(2, 2, 4))),
    Program("matmul 3,2", jnp.matmul, (r(2, 3, 2), r(2, 4))),
    Program("matmul with repeated batch", jnp.matmul, (r(2, 1, 2, 3), r(3, 3, 2))),
    Program("matrix times its transpose", lambda x: x @ x.T, (r(2, 3),)),
    Program("tensordot", lambda a, b: jnp.tensordot(a, b, ((0, 2), (1, 0))), (r(2, 3, 4), r(4, 2, 2))),
    Program("einsum", lambda a, b: jnp.einsum("bij,bjk->kb", a, b), (r(2, 3, 2), r(2, 2, 4))),
    Program("einsum of three", lambda a, b, c: jnp.einsum("i,ij,jk->k", a, b, c), (r(2), r(2, 3), r(3, 2))),
    Program("outer", jnp.outer, (r(3), r(2))),
    Program("kron", jnp.kron, (r(2, 3), r(2, 2))),
    Program("dot with integer array", lambda x: x @ jnp.arange(6).reshape(3, 2), (r(2, 3),)),
    Program("sum, mean", lambda x: x.sum(1) + x.mean((0, 1)) * x.sum(), (r(2, 3, 2),)),
    Program("variance, std", lambda x: x.var(0) + x.std(1).sum(), (r(3, 3),)),
    Program("max of rows", lambda x: x.max(1), (distinct,)),
    Program("max with ties", lambda x: x.max(1), (tied_values,)),
    Program("min with ties", lambda x: x.min((0, 1)), (tied_values,)),
    Program("maximum of two", lambda x, y: jnp.maximum(x, y) - jnp.minimum(x, 0.3), (r(3, 4), r(4))),
    Program("maximum of two with ties", jnp.maximum, (tied_values, tied_values[::-1])),
    Program("clip", lambda x: jnp.clip(x, -0.5, 0.8), (r(3, 4),)),
    Program("where", lambda x: jnp.where(x > 0, x**2, jnp.sin(x)), (r(3, 4),)),
    Program("where of scalars", lambda x, y: jnp.where(x.sum() > 0, x, y), (r(3), r(3))),
    Program("where hides a NaN branch", lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), x), (r(6),)),
    Program("select of three", lambda x: lax.select_n((x > 0).astype(int) + (x > 1), x, 2 * x, x**2), (r(6),)),
    Program("transpose", lambda x: x.transpose(2, 0, 1) * 2, (r(2, 3, 4),)),
    Program("swapaxes, moveaxis", lambda x: jnp.moveaxis(jnp.swapaxes(x, 0, 1), -1, 0), (r(2, 3, 2),)),
    Program("x plus its transpose", lambda x: x + x.T, (r(3, 3),)),
    Program("reshape merges", lambda x: (x * 2).reshape(6, 4), (r(2, 3, 4),)),
    Program("reshape splits", lambda x: jnp.sin(x).reshape(2, 3, 2), (r(2, 6),)),
    Program("reshape shifts a factor", lambda x: jnp.sin(x).reshape(8, 3), (r(4, 6),)),
    Program("reshape there and back", lambda x: jnp.sin(x.reshape(2, 6).reshape(4, 3)), (r(4, 3),)),
    Program("reshape, transpose, reshape", lambda x: x.reshape(2, 2, 3).transpose(2, 0, 1).reshape(-1), (r(4, 3),)),
    Program("flatten then matmul", lambda x, w: x.reshape(2, -1) @ w, (r(2, 3, 2), r(6, 2))),
    Program("squeeze, expand_dims", lambda x: jnp.squeeze(x, 1)[..., None, :] * 2, (r(2, 1, 3),)),
    Program("broadcast_to", lambda x: jnp.broadcast_to(x, (4, 2, 3)), (r(2, 1),)),
    Program("broadcasting", lambda x, y: x * y + y, (r(3, 1), r(1, 4))),
    Program("slice", lambda x: x[1:3, ::2] * 2, (r(4, 5),)),
    Program("strided slice", lambda x: x[1::3], (r(8, 2),)),
    Program("concatenate", lambda x, y: jnp.concatenate([x, jnp.sin(y), x], 1), (r(2, 3), r(2, 2))),
    Program("stack", lambda x, y: jnp.stack([x, y, x * y], -1), (r(2, 3), r(2, 3))),
    Program("unstack", lambda x: [2 * row for row in jnp.unstack(x, axis=1)], (r(3, 2),)),
    Program("split", lambda x: jnp.split(x**2, [1, 3], 1), (r(2, 6),)),
    Program("split in equal parts", lambda x: jnp.split(x, 3)[1] * 2, (r(6, 2),)),
    Program("pad", lambda x: jnp.pad(x**2, ((1, 2), (0, 1)), constant_values=3.0), (r(2, 3),)),
    Program("pad with interior", lambda x: lax.pad(x**2, 0.0, ((1, 0, 2), (0, 1, 1))), (r(3, 2),)),
    Program("pad by a value", lambda x, v: lax.pad(x, v, ((1, 1, 1), (0, 2, 0))), (r(3, 2), r())),
    Program("roll", lambda x: jnp.roll(x * 2, 1, 1), (r(2, 4),)),
    Program("tril", lambda x: jnp.tril(x) @ jnp.triu(x, 1), (r(3, 3),)),
    Program("repeat by broadcasting", lambda x: jnp.broadcast_to(x[:, None], (3, 2, 2)).reshape(6, 2), (r(3, 2),)),
    Program("tile", lambda x: jnp.tile(x, (2, 3)), (r(2, 2),)),
    Program("nested jit", jitted, (r(2, 3), r(3, 2))),
    Program("checkpoint", jax.checkpoint(lambda x, w: jnp.tanh(x @ w) @ w.T), (r(2, 3), r(3, 2))),
    Program("vmap inside", lambda x, w: jax.vmap(lambda v: jnp.tanh(w @ v))(x), (r(4, 3), r(2, 3))),
    Program("vmap over columns", jax.vmap(lambda v, s: s * v.sum() * v, (1, None), 1), (r(3, 4), r())),
    Program("custom_jvp", lambda x: cube(x) * x, (r(3),)),
    Program("custom_jvp of two", lambda x, y: hypotenuse(x, y.sum()), (r(3), r(2))),
    Program("custom_jvp with a constant", lambda x: hypotenuse(x, 2.0), (r(3),)),
    Program("relu, relu6 of jax.nn", lambda x: jax.nn.relu(x) + jax.nn.relu6(4 * x), (r(3, 4),)),
    Program("gelu, silu, elu", lambda x: jax.nn.gelu(x) + jax.nn.silu(x) * jax.nn.elu(x), (r(3, 4),)),
    Program("softplus, leaky relu", lambda x: jax.nn.softplus(x) - jax.nn.leaky_relu(x), (r(3, 4),)),
    Program("softmax of jax.nn", jax.nn.softmax, (r(3, 4),)),
    Program("log-softmax of jax.nn", partial(jax.nn.log_softmax, axis=0), (r(3, 4),)),
    Program("logsumexp of jax.nn", partial(jax.nn.logsumexp, axis=-1), (r(3, 4),)),
    Program("residual net", residual, (layers(3, 3, 3, 3), r(2, 3))),
    Program("attention", attention, (r(2, 3, 2, 2), r(2, 3, 2, 2), r(2, 3, 2, 3), mask)),
    Program("float32 to float64 inside", lambda x: jnp.sin(x.astype(jnp.float64)).sum(0), (r(2, 3, dtype=np.float32),)),
    Program("float32 inside", lambda x: (x.astype(jnp.float32) * 2.0).astype(jnp.float64), (r(3),), rounds=True),
    Program("float32", lambda x, w: jnp.tanh(x @ w), (r(2, 3, dtype=np.float32), r(3, 2, dtype=np.float32))),
    Program("float16", lambda x: jnp.tanh(x * 2) + x.sum(), (r(3, dtype=np.float16),)),
    Program("float32 and float64 mixed", lambda x, w: x * w + x @ w, (r(3, dtype=np.float32), r(3))),
    Program("squared error of optax", lambda x, t: optax.l2_loss(x, t).mean(), (r(3, 2), r(3, 2))),
    Program("huber of optax", optax.huber_loss, (2 * r(3, 3), r(3, 3))),
    Program("cross-entropy of optax", optax.softmax_cross_entropy, (r(3, 4), np.abs(r(3, 4)))),
    Program("binary cross-entropy of optax", optax.sigmoid_binary_cross_entropy, (r(3, 2), np.abs(r(3, 2)))),
    Program("convnet", convnet, (r(3, 3, 1, 2), r(2, 2, 2, 2), r(8, 2), r(2, 6, 4, 1))),
    Program("convolution in 1-d", lambda x, k: jnp.convolve(x, k, mode="same"), (r(6), r(3))),
    Program("convolution with groups", grouped, (r(2, 4, 5), r(4, 2, 3))),
    Program("average pool", lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 3), (1, 1, 2), "SAME") / 6, (r(2, 4, 5),)),
    Program("max pool with overlap", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1), "SAME"), (distinct,)),
    Program("scan in reverse", lambda x: lax.scan(lambda c, a: (c * a + 1, c), 1.0, x, reverse=True), (r(4),)),
    Program("map", lambda x: lax.map(lambda v: v @ v, x), (r(3, 2),)),
    Program("fori_loop", lambda x: lax.fori_loop(0, 3, lambda i, v: jnp.sin(v) * (i + 1), x), (r(3),)),
]

# Some primitive has no structured rule, or JAX picks the path: right values are promised, structure is not.

OTHERS = [
    Program("reshape does not refine", lambda x: jnp.sin(x).reshape(2, 6) * 2, (r(3, 4),)),
    Program("reshape does not refine, twice", lambda x: x.reshape(2, 6).reshape(4, 3) @ jnp.ones(3), (r(3, 4),)),
    Program("negative stride", lambda x: x[::-2, ::-1] * 2, (r(5, 3),)),
    Program("flip", lambda x: jnp.flip(x, 1) * x, (r(2, 4),)),
    Program("negative pad", lambda x: lax.pad(x * 2, 0.0, ((-1, 2, 0), (0, -1, 1))), (r(3, 4),)),
    Program("negative pad by a value", lambda x, v: lax.pad(x, v, ((-1, 2, 0), (0, -1, 0))), (r(3, 4), r())),
    Program("repeat", lambda x: jnp.repeat(x, 2, 1), (r(3, 2),)),
    Program("repeat of unequal counts", lambda x: jnp.repeat(x, jnp.array([1, 0, 3]), 0, total_repeat_length=4), (r(3, 2),)),
    Program("diag", lambda x: jnp.diag(x) @ jnp.diag(jnp.diag(x)), (r(3),)),
    Program("diagonal of a matrix", lambda x: jnp.diagonal(x, 1) * 2, (r(3, 4),)),
    Program("trace", jnp.trace, (r(3, 3),)),
    Program("cumsum", lambda x: jnp.cumsum(x, 1), (r(2, 4),)),
    Program("reverse cumsum of everything", lambda x: lax.cumsum(x.reshape(-1), reverse=True), (r(2, 3),)),
    Program("cumprod", lambda x: jnp.cumprod(x, 0), (r(4, 2),)),
    Program("cummax", lambda x: lax.cummax(x, 1), (distinct,)),
    Program("prod", lambda x: x.prod(1), (r(3, 4),)),
    Program("prod of everything", lambda x: jnp.prod(x), (r(2, 3),)),
    Program("sort", lambda x: jnp.sort(x, 1), (distinct,)),
    Program("sort of a vector", lambda x: jnp.sort(x)[::-1], (distinct.ravel(),)),
    Program("argsort", lambda x: x[jnp.argsort(x)] * jnp.arange(12.0), (distinct.ravel(),)),
    Program("top_k", lambda x: lax.top_k(x, 2)[0], (distinct,)),
    Program("median", lambda x: jnp.median(x, 1), (distinct,)),
    Program("index by argmax", lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1) * x, (distinct,)),
    Program("embedding", lambda table, ids: jnp.tanh(table[ids]), (r(5, 3), ints(1, 4, 1, 0))),
    Program("embedding of 2-d ids", lambda table, ids: jnp.take(table, ids, 0), (r(5, 2), ints([0, 4], [3, 3]))),
    Program("embedding, negative id", lambda table, ids: table[ids], (r(5, 2), ints(-1, -5, 2))),
    Program("embedding, id out of range", filled, (r(5, 2), ints(7, 1))),
    Program("embedding, id out of range clamps", clamped, (r(5, 2), ints(7, 1))),
    Program("index by int", lambda x: x[1] * x[-1], (r(3, 2),)),
    Program("index by array pairs", lambda x, i, j: x[i, j] ** 2, (r(3, 4), ints(0, 2), ints(3, 3))),
    Program("index by boolean", lambda x: x[np.array([True, False, True])] * 2, (r(3, 2),)),
    Program("index second axis", lambda x, i: x[:, i] * 2, (r(3, 4), ints(3, 0, 0))),
    Program("take_along_axis loss", loss_by_hand, (r(3, 4), ints(1, 3, 0))),
    Program("custom_jvp that calls back", lambda x: jnp.exp(sine_elsewhere(2 * x)), (r(3),), forward_only=True),
    Program("segment sum", lambda x, i: jax.ops.segment_sum(x, i, 3), (r(4, 2), ints(0, 2, 0, 1))),
    Program("dynamic slice", lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 2)) * 2, (r(4, 3), 1)),
    Program("dynamic slice clamps", lambda x, i: lax.dynamic_slice(x, (i, -1), (2, 2)), (r(4, 3), 9)),
    Program("dynamic index in dim", lambda x, i: lax.dynamic_index_in_dim(x, i, 1, False), (r(3, 4), 2)),
    Program("dynamic update slice", lambda x, v, i: lax.dynamic_update_slice(x, v, (i,)), (r(5), r(2), 2)),
    Program("optax with integer labels", optax.softmax_cross_entropy_with_integer_labels, (r(3, 4), ints(1, 3, 0))),
    Program("RNN", rnn, (r(3, 3), r(3, 2), r(4, 2))),
    Program("LSTM", lstm, (r(5, 12), r(4, 2, 2))),
    Program("polynomial", lambda x: jnp.polyval(jnp.array([1.0, -2.0, 0.5]), x), (r(4),)),
    Program("associative scan", lambda x: lax.associative_scan(jnp.multiply, x), (r(5),)),
    Program("while_loop", newton_root, (pos(3),), forward_only=True),
    Program("cond", lambda x: lax.cond(x[0] > 0, lambda v: v**2, jnp.sin, x), (r(3),)),
    Program("cond with closure", lambda x, y: lax.cond(y.sum() > 9, lambda: x * y, lambda: x + y.sum()), (r(3), r(3))),
    Program("switch", lambda x, i: lax.switch(i, [jnp.sin, jnp.cos, lambda v: v.sum() * v], x), (r(3), 2)),
    Program("vmap of cond", jax.vmap(lambda x: lax.cond(x > 0, jnp.exp, jnp.sin, x)), (r(5),)),
    Program("custom_vjp", lambda x: clipped_gradient(jnp.sin(x)) * x, (r(4),)),
    Program("custom_vjp, nondiff argument", lambda x, y: powered(3, x, y.sum() * x), (r(3), r(2))),
    Program("custom_vjp under jit and vmap", jax.jit(jax.vmap(clipped_gradient)), (r(3, 2),)),
    Program("gradient inside", lambda x: jax.grad(lambda v: (jnp.sin(v) ** 2).sum())(x) * x, (r(3),)),
    Program("shard_map", lambda x, y: sharded(lambda v: jnp.sin(v) * lax.psum(v.sum(), "d"))(x) * y, (r(3), r(3))),
    Program("shard_map with closure", lambda x, y: sharded(lambda v: v * y)(jnp.sin(x)), (r(3), r())),
    Program("jvp inside", lambda x: jax.jvp(jnp.tanh, (x,), (x,))[1], (r(3),)),
    Program("inverse", jnp.linalg.inv, (spd(3),)),
    Program("solve", jnp.linalg.solve, (spd(3), r(3))),
    Program("cholesky", lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(3)), (r(3, 3),)),
    Program("determinant", jnp.linalg.det, (r(3, 3),)),
    Program("eigenvalues", lambda x: jnp.linalg.eigvalsh(x + x.T), (r(3, 3),)),
    Program("norm", lambda x: jnp.linalg.norm(x, axis=1), (r(3, 2),)),
    Program("real part of FFT", lambda x: jnp.fft.fft(x).real, (r(4),)),
    Program("power spectrum", lambda x: jnp.abs(jnp.fft.rfft(x, axis=-1)) ** 2, (r(2, 4),)),
    Program("complex inside", lambda x: jnp.real(jnp.exp(1j * x) * x), (r(3),)),
    Program("logsumexp with weights", lambda x, b: jax.nn.logsumexp(x, 1, b=b), (r(2, 3), pos(3))),
    Program("data-dependent if", by_value, (pos(3),), concrete=True),
    Program("data-dependent loop", lambda x: reduce(operator.mul, [x] * int(3 + 0 * x[0])), (r(3),), concrete=True),
    Program("interpolation", lambda x, y: jnp.interp(x, jnp.arange(4.0), y), (np.array([0.3, 2.2]), r(4))),
    Program("categorical log-probability", log_probability, (r(3, 4), ints(1, 0, 3))),
]

PROGRAMS = STRUCTURED + OTHERS
