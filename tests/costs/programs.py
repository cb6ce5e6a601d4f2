"""Losses and models in plain JAX and optax, small, as they stand in people's repositories: what costs are counted of.

`loss(params, x, y)` gives one loss per example, or `scalar` says that it gives one number.  `model(params, x)` gives the
outputs that the loss is made of, where there are any, by `cost(outputs, y)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

rng = np.random.default_rng(0)


class Program(NamedTuple):
    name: str
    loss: Callable
    params: Any
    x: Any
    y: Any = None
    model: Callable | None = None
    scalar: bool = False
    cost: Callable = optax.softmax_cross_entropy_with_integer_labels


def classified(model, cost=optax.softmax_cross_entropy_with_integer_labels):
    return lambda p, x, y: cost(model(p, x), y)


def with_model(name, model, params, x, y, cost=optax.softmax_cross_entropy_with_integer_labels):
    return Program(name, classified(model, cost), params, x, y, model, cost=cost)


def r(*shape, scale=None):
    """Normal numbers; matrices so that they keep the size of what they multiply."""
    scale = 1 / np.sqrt(shape[-1]) if scale is None and len(shape) > 1 else scale or 1.0
    return np.asarray(rng.normal(size=shape) * scale, np.float32)


def labels(classes, *shape):
    return rng.integers(0, classes, shape).astype(np.int32)


B, D, H, C = 64, 32, 64, 10
X, Y = r(B, D, scale=1.0), labels(C, B)
MLP = {"w1": r(H, D), "b1": r(H), "w2": r(H, H), "b2": r(H), "w3": r(C, H), "b3": r(C)}


def mlp(p, x, act=jnp.tanh, between=lambda h: h):
    h = act(x @ p["w1"].T + p["b1"])
    h = act(between(h) @ p["w2"].T + p["b2"])
    return h @ p["w3"].T + p["b3"]


# --- every spelling of a classifier's loss ------------------------------------------------------------------------------


def by_range(z, y):
    return -jax.nn.log_softmax(z)[jnp.arange(len(y)), y]


def by_take(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)[:, 0]


def by_one_hot(z, y):
    return -jnp.sum(jax.nn.one_hot(y, z.shape[-1]) * jax.nn.log_softmax(z), -1)


def by_log_of_softmax(z, y):
    return -jnp.log(jnp.take_along_axis(jax.nn.softmax(z), y[:, None], 1)[:, 0] + 1e-9)


def by_logsumexp(z, y):
    return jax.scipy.special.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0]


def by_vmap(z, y):
    return jax.vmap(lambda z, y: -jax.nn.log_softmax(z)[y])(z, y)


def smoothed(z, y):
    return optax.softmax_cross_entropy(z, optax.smooth_labels(jax.nn.one_hot(y, z.shape[-1]), 0.1))


def focal(z, y):
    log_p = jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)[:, 0]
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def hinge(z, y):
    margins = 1 + z - jnp.take_along_axis(z, y[:, None], 1)
    return jnp.sum(jnp.maximum(margins, 0) * (1 - jax.nn.one_hot(y, z.shape[-1])), -1)


LOSSES = {
    "labels by range": by_range,
    "labels by take_along_axis": by_take,
    "labels one-hot": by_one_hot,
    "log of softmax": by_log_of_softmax,
    "logsumexp": by_logsumexp,
    "labels by vmap": by_vmap,
    "optax integer labels": optax.softmax_cross_entropy_with_integer_labels,
    "smoothed": smoothed,
    "focal": focal,
    "hinge": hinge,
    "squared": lambda z, y: jnp.sum((z - jax.nn.one_hot(y, z.shape[-1])) ** 2, -1),
    "sigmoids": lambda z, y: optax.sigmoid_binary_cross_entropy(z, jax.nn.one_hot(y, z.shape[-1])).sum(-1),
}
CLASSIFIERS = [with_model(name, mlp, MLP, X, Y, cost) for name, cost in LOSSES.items()]


def with_between(name, between):
    def model(p, x):
        return mlp(p, x, between=between)

    return with_model(name, model, MLP, X, Y)


@jax.custom_vjp
def clip_gradient(h):
    return h


clip_gradient.defvjp(lambda h: (h, None), lambda _, g: (jnp.clip(g, -1e3, 1e3),))


@jax.custom_jvp
def softplus(h):
    return jnp.logaddexp(h, 0.0)


softplus.defjvp(lambda p, t: (softplus(*p), jax.nn.sigmoid(p[0]) * t[0]))

# What people do to a hidden value of a batch.
BETWEEN = [
    with_between("a column set", lambda h: h.at[:, 0].set(0)),
    with_between("columns added", lambda h: h.at[:, :8].add(h[:, 8:16])),
    with_between("dynamic_update_slice", lambda h: lax.dynamic_update_slice(h, h[:, :8], (0, 16))),
    with_between("top_k", lambda h: lax.top_k(h, H)[0]),
    with_between("sort", lambda h: jnp.sort(h, -1)),
    with_between("argsort", lambda h: jnp.take_along_axis(h, jnp.argsort(h, -1), -1)),
    with_between("largest kept", lambda h: jnp.where(h >= lax.top_k(h, 8)[0][:, -1:], h, 0)),
    with_between("rfft", lambda h: jnp.abs(jnp.fft.rfft(h, n=2 * H - 2))),
    with_between("roll", lambda h: jnp.roll(h, 1, -1)),
    with_between("cond", lambda h: lax.cond(MLP["b1"][0] > 9, lambda h: 2 * h, jnp.sin, h)),
    with_between("scan", lambda h: lax.scan(lambda c, _: (jnp.sin(c), None), h, None, length=4)[0]),
    with_between("associative_scan", lambda h: lax.associative_scan(jnp.multiply, 1 + h / 9, axis=-1)),
    with_between("custom_vjp", clip_gradient),
    with_between("custom_jvp", softplus),
    with_between("optimization_barrier", lax.optimization_barrier),
    with_between("checkpoint", jax.checkpoint(lambda h: jnp.sin(h) * 2)),
    with_between("layer norm", lambda h: (h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-5)),
    with_between("rms norm", lambda h: h * lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)),
    with_between("gate", lambda h: jnp.concatenate([h[:, : H // 2] * jax.nn.sigmoid(h[:, H // 2 :])] * 2, -1)),
    with_between("residual", lambda h: h + jnp.tanh(h @ MLP["w2"].T)),
    with_between("vmap", jax.vmap(lambda v: jnp.cumsum(v) / H)),
    with_between("map", lambda h: lax.map(lambda v: v * v.sum(), h)),
]

# --- language -----------------------------------------------------------------------------------------------------------

V, T, E = 128, 16, 32
IDS, NEXT, NOISE = labels(V, 8, T), labels(V, 8, T), labels(V, 5)


def attention(p, h, causal=True, heads=4):
    q, k, v = (jnp.reshape(h @ p[name].T, (*h.shape[:2], heads, -1)) for name in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e9)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(h.shape) @ p["o"].T


def norm(h):
    return (h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-5)


def block(p, h, causal=True):
    h = h + attention(p, norm(h), causal)
    return h + jax.nn.gelu(norm(h) @ p["up"].T) @ p["down"].T


BLOCK = {**{name: r(E, E) for name in "qkvo"}, "up": r(4 * E, E), "down": r(E, 4 * E)}
LM = {"embed": r(V, E, scale=1.0), "place": r(T, E, scale=1.0), "block": BLOCK, "head": r(V, E)}


def part_of(params, *names):
    return {name: params[name] for name in names}


def token_losses(log_p, y):
    return -jnp.take_along_axis(log_p, y[..., None], -1)[..., 0].mean(-1)


def logits_of_tokens(p, ids):
    h = norm(block(p["block"], p["embed"][ids] + p["place"]))
    return h @ p["head" if "head" in p else "embed"].T


def losses_of_tokens(z, y):
    return token_losses(jax.nn.log_softmax(z), y)


def transformer(p, ids, y):
    return losses_of_tokens(logits_of_tokens(p, ids), y)


def bag_of_words(p, ids):
    return p["embed"][ids].mean(1) @ p["head"].T


def of_first_label(z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y[:, 0])


def skip_gram(p, centre, context):
    """word2vec with negative samples."""
    v = p["embed"][centre[:, 0]]
    good = jnp.sum(v * p["head"][context[:, 0]], -1)
    return -jax.nn.log_sigmoid(good) - jax.nn.log_sigmoid(-v @ p["head"][NOISE].T).sum(-1)


def unrolled_rnn(p, x):
    h = jnp.zeros((x.shape[0], D))
    for t in range(x.shape[1]):
        h = jnp.tanh(x[:, t] @ p["in"].T + h @ p["hidden"].T)
    return h @ p["out"].T


def rnn_of_tokens(p, x):
    """The same with outputs at all times."""
    h, outputs = jnp.zeros((x.shape[0], D)), []
    for t in range(x.shape[1]):
        h = jnp.tanh(x[:, t] @ p["in"].T + h @ p["hidden"].T)
        outputs.append(h @ p["out"].T)
    return jnp.stack(outputs, 1)


def mixture(p, x):
    """Two of four experts, chosen by the largest gates."""
    gates, chosen = lax.top_k(x @ p["gate"].T, 2)
    weight = jnp.zeros((x.shape[0], 4)).at[jnp.arange(x.shape[0])[:, None], chosen].set(jax.nn.softmax(gates))
    experts = jnp.tanh(jnp.einsum("bi,eoi->beo", x, p["experts"]))
    return jnp.einsum("be,beo->bo", weight, experts) @ p["out"].T


def lora(p, x):
    return mlp({**MLP, "w1": MLP["w1"] + p["b"] @ p["a"]}, x)


SHORT_TEXT = labels(16, 4, 6), labels(16, 4, 6)
SHORT_BLOCK = {**{name: r(8, 8) for name in "qkvo"}, "up": r(32, 8), "down": r(8, 32)}
SHORT_LM = {"embed": r(16, 8, scale=1.0), "place": r(6, 8, scale=1.0), "block": SHORT_BLOCK}
RNN = {"in": r(D, D), "hidden": r(D, D), "out": r(C, D)}


LANGUAGE = [
    Program("transformer", transformer, LM, IDS, NEXT),
    Program("tied transformer", transformer, part_of(LM, "embed", "place", "block"), IDS, NEXT),
    with_model("short text", logits_of_tokens, SHORT_LM, *SHORT_TEXT, losses_of_tokens),
    Program("head", lambda w, x, y: token_losses(jax.nn.log_softmax(x @ w.T), y), r(V, E), r(8, T, E, scale=1.0), NEXT),
    with_model("bag of words", bag_of_words, part_of(LM, "embed", "head"), IDS, NEXT, of_first_label),
    Program("skip-gram", skip_gram, part_of(LM, "embed", "head"), IDS, NEXT),
    with_model("unrolled RNN", unrolled_rnn, RNN, r(B, 12, D, scale=1.0), Y),
    with_model("RNN of tokens", rnn_of_tokens, RNN, r(8, 6, D, scale=1.0), labels(C, 8, 6), losses_of_tokens),
    with_model("mixture of experts", mixture, {"gate": r(4, D), "experts": r(4, H, D), "out": r(C, H)}, X, Y),
    with_model("LoRA", lora, {"a": r(4, D), "b": r(H, 4)}, X, Y),
]  # fmt: skip

# --- images, graphs, agents, physics ------------------------------------------------------------------------------------

IMAGES = r(16, 3, 12, 12, scale=1.0)
CONVNET = {"k1": r(8, 3, 3, 3, scale=0.2), "k2": r(16, 8, 3, 3, scale=0.1), "w": r(C, 16)}


def conv(x, k, stride=1):
    return lax.conv_general_dilated(x, k, (stride, stride), "SAME")


def convnet(p, x):
    h = jax.nn.relu(conv(jax.nn.relu(conv(x, p["k1"])), p["k2"], 2))
    return h.mean((2, 3)) @ p["w"].T


def resnet(p, x):
    h = jax.nn.relu(conv(x, p["k1"]))
    h = jax.nn.relu(h + conv(h, p["k2"][:8]))
    return h.mean((2, 3)) @ p["w"][:, :8].T


SOURCES, TARGETS = labels(50, 200), labels(50, 200)
NODES = r(50, D, scale=1.0)


def graph_network(p, x, y):
    h = jnp.tanh(x @ p["w1"].T + p["b1"])
    h = jnp.tanh(jnp.zeros_like(h).at[TARGETS].add(h[SOURCES]) @ p["w2"].T)
    return optax.softmax_cross_entropy_with_integer_labels(h @ p["w3"].T, y).mean()


def graph_attention(p, x, y):
    h = x @ p["w1"].T
    score = jax.nn.leaky_relu(jnp.sum(h[SOURCES] * h[TARGETS], -1))
    weight = jnp.exp(score - jax.ops.segment_max(score, TARGETS, 50)[TARGETS])
    weight = weight / (jax.ops.segment_sum(weight, TARGETS, 50)[TARGETS] + 1e-9)
    h = jnp.tanh(jax.ops.segment_sum(weight[:, None] * h[SOURCES], TARGETS, 50))
    return optax.softmax_cross_entropy_with_integer_labels(h @ p["w3"].T, y).mean()


def ppo(p, x, y):
    log_p = jax.nn.log_softmax(mlp(p, x))
    ratio = jnp.exp(jnp.take_along_axis(log_p, y[:, None], 1)[:, 0] + 2.3)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
    return -jnp.minimum(ratio * x[:, 0], jnp.clip(ratio, 0.8, 1.2) * x[:, 0]) - 0.01 * entropy


def dqn(p, x, y):
    chosen = mlp(p, x)[jnp.arange(len(y)), y]
    return optax.huber_loss(chosen, lax.stop_gradient(1 + 0.9 * mlp(p, x + 0.1).max(-1)))


def vae(p, x, y):
    h = jnp.tanh(x @ p["enc"].T)
    mean, log_var = jnp.split(h @ p["to"].T, 2, -1)
    z = mean + jnp.exp(log_var / 2) * 0.3
    back = jnp.tanh(z @ p["from"].T) @ p["dec"].T
    return jnp.sum((back - x) ** 2, -1) - 0.5 * jnp.sum(1 + log_var - mean**2 - jnp.exp(log_var), -1)


def contrastive(p, x, y):
    """InfoNCE: the examples of a batch meet."""
    a, b = (v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (mlp(p, x), mlp(p, x + 0.1)))
    return -jnp.diagonal(jax.nn.log_softmax(a @ b.T / 0.1)).mean()


def diffusion(p, x, y):
    level = (y[:, None] + 1) / (C + 1)
    noisy = jnp.sqrt(1 - level) * x + jnp.sqrt(level) * jnp.flip(x, -1)
    guess = mlp({**p, "w3": p["w1"].T, "b3": jnp.zeros(D)}, noisy)
    return jnp.mean((guess - jnp.flip(x, -1)) ** 2, -1)


def gaussian_process(p, x, y):
    distance = jnp.sum((x[:, None] - x[None]) ** 2, -1) * jnp.exp(p["scale"])
    gram = jnp.exp(-distance) + (jnp.exp(p["noise"]) + 0.1) * jnp.eye(len(x))
    chol = jnp.linalg.cholesky(gram)
    alpha = jax.scipy.linalg.cho_solve((chol, True), y.astype(x.dtype))
    return 0.5 * y @ alpha + jnp.sum(jnp.log(jnp.diagonal(chol)))


def flow(p, x, y):
    a, b = x[:, : D // 2], x[:, D // 2 :]
    shift, scale = jnp.split(jnp.tanh(a @ p["net"].T) @ p["out"].T, 2, -1)
    z = jnp.concatenate([a, b * jnp.exp(jnp.tanh(scale)) + shift], -1)
    return 0.5 * jnp.sum(z**2, -1) - jnp.sum(jnp.tanh(scale), -1)


def ctc(p, x, y):
    return optax.ctc_loss(x @ p.T, jnp.zeros(x.shape[:2]), y, jnp.zeros(y.shape))


OTHERS = [
    with_model("convnet", convnet, CONVNET, IMAGES, labels(C, 16)),
    with_model("resnet", resnet, CONVNET, IMAGES, labels(C, 16)),
    Program("graph network", graph_network, MLP, NODES, labels(C, 50), scalar=True),
    Program("graph attention", graph_attention, MLP, NODES, labels(C, 50), scalar=True),
    Program("PPO", ppo, MLP, X, Y),
    Program("DQN", dqn, MLP, X, Y),
    Program("VAE", vae, {"enc": r(H, D), "to": r(16, H), "from": r(H, 8), "dec": r(D, H)}, X, Y),
    Program("contrastive", contrastive, MLP, X, Y, scalar=True),
    Program("diffusion", diffusion, MLP, X, Y),
    Program("Gaussian process", gaussian_process, {"scale": np.float32(-3), "noise": np.float32(-1)}, X, Y, scalar=True),
    Program("flow", flow, {"net": r(H, D // 2), "out": r(D, H)}, X, Y),
    Program("CTC", ctc, r(C, E), r(4, T, E, scale=1.0), labels(C - 1, 4, 5) + 1),
]
PROGRAMS = [*CLASSIFIERS, *BETWEEN, *LANGUAGE, *OTHERS]
