"""Further architectures as they stand in people's repositories, some of them written in Flax and Equinox."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import sparse

from .programs import IMAGES, MLP, B, C, D, H, Program, X, Y, classified, conv, labels, mlp, norm, r, with_model


def classifier(name, model, params, x):
    return with_model(name, model, params, x, labels(C, len(x)))


# --- modules of other libraries -----------------------------------------------------------------------------------------


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.LayerNorm()(nn.Dense(H)(x)))
        return nn.Dense(C)(x + nn.Dense(H)(x))


class Conv(nn.Module):
    """Channels last, as Flax has them, with a group norm and a depthwise convolution."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(4)(nn.Conv(8, (3, 3), strides=2)(x)))
        x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=8, kernel_dilation=2)(x))
        return nn.Dense(C)(x.mean((1, 2)))


def filled(tree):
    """Numbers for the shapes that a module was made of: to make the module itself would compile a hundred programs."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), np.float32), tree)


KEY = np.zeros(2, np.uint32)
DENSE, CONV = Dense(), Conv()
CHANNELS_LAST = np.ascontiguousarray(np.moveaxis(IMAGES, 1, -1))
EQUINOX, EQUINOX_STATIC = eqx.partition(
    eqx.filter_eval_shape(lambda key: eqx.nn.MLP(D, C, H, 2, key=key), KEY), lambda x: isinstance(x, jax.ShapeDtypeStruct)
)


def equinox_mlp(p, x):
    return jax.vmap(eqx.combine(p, EQUINOX_STATIC))(x)


# --- images -------------------------------------------------------------------------------------------------------------


def u_net(p, x):
    """Down by a strided convolution, up by a transposed one, a skip between; a class for every pixel."""
    first = jax.nn.relu(conv(x, p["in"]))
    low = jax.nn.relu(conv(first, p["down"], 2))
    up = lax.conv_transpose(low, p["up"], (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return conv(jnp.concatenate([first, up], 1), p["out"])


def of_pixels(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z, 1), y[:, None], 1).mean((1, 2, 3))


def patches(x):
    return x.reshape(len(x), 3, 3, 4, 3, 4).transpose(0, 2, 4, 1, 3, 5).reshape(len(x), 9, 48)


def vision_transformer(p, x):
    h = patches(x) @ p["embed"].T + p["place"]
    q, k, v = (norm(h) @ p[name].T for name in "qkv")
    h = h + jax.nn.softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])) @ v
    h = h + jax.nn.gelu(norm(h) @ p["up"].T) @ p["down"].T
    return h.mean(1) @ p["out"].T


def mixer(p, x):
    """MLP-Mixer: one network over the patches, one over the channels."""
    h = patches(x) @ p["embed"].T
    h = h + (jax.nn.gelu(norm(h).swapaxes(1, 2) @ p["tokens"].T) @ p["back"].T).swapaxes(1, 2)
    h = h + jax.nn.gelu(norm(h) @ p["up"].T) @ p["down"].T
    return h.mean(1) @ p["out"].T


# --- sequences ----------------------------------------------------------------------------------------------------------


def rotated(x):
    """Rotary positions of [b, t, heads, d]."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] / 100 ** (np.arange(half) / half)
    cos, sin = (np.asarray(f(angle), np.float32)[:, None] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def grouped_queries(p, x):
    """Four heads of queries on two of keys and values, rotary positions, and a mask of what is padding."""
    q = rotated((x @ p["q"].T).reshape(*x.shape[:2], 4, 8))
    k, v = ((x @ p[name].T).reshape(*x.shape[:2], 2, 8) for name in "kv")
    k, v = jnp.repeat(rotated(k), 2, 2), jnp.repeat(v, 2, 2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    scores = jnp.where(x[:, None, None, :, 0] > -1, scores, -1e9)
    h = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(x.shape)
    return h.mean(1) @ p["out"].T


def hopfield(p, x):
    """Three updates of a modern Hopfield network, whose patterns are weights; of sequences, their average."""
    for _ in range(3):
        x = jax.nn.softmax(4 * x @ p["patterns"].T) @ p["patterns"]
    return (x.mean(1) if x.ndim == 3 else x) @ p["out"].T


def hidden_markov(p, x, y):
    """The likelihood of observations by the forward algorithm, in logarithms, unrolled."""
    log_a, log_b = jax.nn.log_softmax(p["a"], 1), jax.nn.log_softmax(p["b"], 1)
    alpha = jnp.broadcast_to(log_b[:, 0], (len(x), len(log_a))) + log_b.T[x[:, 0]]
    for t in range(1, x.shape[1]):
        alpha = jax.nn.logsumexp(alpha[:, :, None] + log_a, 1) + log_b.T[x[:, t]]
    return -jax.nn.logsumexp(alpha, 1)


# --- operators, physics, agents -----------------------------------------------------------------------------------------


def fourier_layer(p, x):
    """A spectral convolution: eight low modes are multiplied by complex weights."""
    modes = jnp.fft.rfft(x)[:, :8] * (p["re"] + 1j * p["im"])
    return jax.nn.gelu(jnp.fft.irfft(modes, n=x.shape[-1]) + x @ p["w"].T) @ p["out"].T


def deep_o_net(p, x):
    """Values of an operator at ten places, by a branch and a trunk."""
    places = jnp.linspace(0, 1, 10)[:, None]
    return jnp.tanh(x @ p["branch"].T) @ jnp.tanh(places @ p["trunk"].T).T


def physics_informed(p, x, y):
    """The residual of u″ = −u at every point, the second derivative by JAX inside."""

    def u(t):
        return jnp.tanh(jnp.tanh(t * p["w1"]) @ p["w2"].T) @ p["w3"]

    return jax.vmap(lambda t: (jax.hessian(u)(t) + u(t)) ** 2)(x)


def determinants(p, x, y):
    """Electrons on the rows, orbitals on the columns, as in FermiNet: −log |ψ|."""
    orbitals = jnp.tanh(x @ p["w1"].T) @ p["w2"].T
    return -jnp.linalg.slogdet(orbitals + jnp.eye(4))[1]


def soft_actor(p, x, y):
    """The loss of SAC's actor: a squashed normal action, with its entropy, judged by a fixed critic."""
    mean, log_std = jnp.split(mlp(p, x), 2, -1)
    raw = mean + jnp.exp(jnp.clip(log_std, -5, 2)) * 0.3
    log_p = (
        -0.5 * ((raw - mean) / jnp.exp(log_std)) ** 2 - log_std - 2 * (np.log(2) - raw - jax.nn.softplus(-2 * raw))
    ).sum(-1)
    return 0.2 * log_p - jnp.tanh(raw).sum(-1)


def k_means(p, x, y):
    return jnp.min(jnp.sum((x[:, None] - p) ** 2, -1), 1)


MASKED = r(H, D) * (r(H, D) > 0.1)
PLACES = np.argwhere(MASKED).astype(np.int32)


def sparse_layer(p, x):
    """A matrix with a fixed pattern of entries that are weights."""
    weights = sparse.BCOO((p["entries"], PLACES), shape=MASKED.shape)
    return jnp.tanh((weights @ x.T).T) @ p["out"].T


E = 32
TOKENS = {"embed": r(E, 48), "out": r(C, E), "up": r(2 * E, E), "down": r(E, 2 * E)}
SEQUENCES = r(16, 12, E, scale=1.0)
HOPFIELD = {"patterns": r(20, D), "out": r(C, D)}
U_NET = {
    "in": r(6, 3, 3, 3, scale=0.2),
    "down": r(8, 6, 3, 3, scale=0.2),
    "up": r(6, 8, 3, 3, scale=0.2),
    "out": r(4, 12, 1, 1),
}
ARCHITECTURES = [
    classifier("Flax dense", DENSE.apply, filled(jax.eval_shape(DENSE.init, KEY, X)), X),
    classifier("Flax convolutions", CONV.apply, filled(jax.eval_shape(CONV.init, KEY, CHANNELS_LAST)), CHANNELS_LAST),
    classifier("Equinox MLP", equinox_mlp, filled(EQUINOX), X),
    Program("U-Net", classified(u_net, of_pixels), U_NET, IMAGES, labels(4, 16, 12, 12)),
    with_model("segmentation", u_net, U_NET, IMAGES[:2], labels(4, 2, 12, 12), of_pixels),
    classifier(
        "vision transformer",
        vision_transformer,
        {**TOKENS, "place": r(9, E), **{name: r(E, E) for name in "qkv"}},
        IMAGES,
    ),
    classifier("MLP-Mixer", mixer, {**TOKENS, "tokens": r(16, 9), "back": r(9, 16)}, IMAGES),
    classifier(
        "grouped queries",
        grouped_queries,
        {"q": r(E, E), "k": r(16, E), "v": r(16, E), "out": r(C, E)},
        SEQUENCES,
    ),
    classifier("Hopfield", hopfield, HOPFIELD, X),
    classifier("Hopfield of sequences", hopfield, HOPFIELD, SEQUENCES),
    Program("hidden Markov model", hidden_markov, {"a": r(5, 5), "b": r(5, 7)}, labels(7, 16, 8)),
    classifier("Fourier layer", fourier_layer, {"re": r(8), "im": r(8), "w": r(D, D), "out": r(C, D)}, X),
    classifier("DeepONet", deep_o_net, {"branch": r(H, D), "trunk": r(H, 1)}, X),
    Program("physics-informed", physics_informed, {"w1": r(H, scale=1.0), "w2": r(H, H), "w3": r(H)}, r(B, scale=1.0)),
    Program("determinants", determinants, {"w1": r(16, 3), "w2": r(4, 16)}, r(B, 4, 3, scale=1.0)),
    Program("SAC", soft_actor, MLP, X, Y),
    Program("k-means", k_means, r(C, D), X),
    Program("sparse layer", classified(sparse_layer), {"entries": MASKED[MASKED != 0], "out": r(C, H)}, X, Y),
]
