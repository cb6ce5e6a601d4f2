"""What is exactly right: values and derivatives of layers in mpmath, the points to judge at, and errors in ULP."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn

try:
    import mpmath
    from mpmath import mpf
except ImportError:
    mpmath = None

BITS = {"float32": 24, "float64": 53}
DIGITS = 60


def ulps(actual, exact, dtype) -> np.ndarray:
    """|actual − exact| in units of the last place of `exact` for every normal result, and 0 for the others.

    Nothing is promised for results that are subnormal or overflow: XLA flushes them to 0 on CPUs.
    """
    info, errors = np.finfo(dtype), []
    normal = [float(info.tiny) <= abs(e) <= float(info.max) for e in exact]
    if sum(normal) < 2:
        raise ValueError("no normal results to compare")
    for a, e, counts in zip(np.ravel(actual), exact, normal, strict=True):
        unit = mpf(2) ** (mpmath.frexp(e)[1] - BITS[dtype])
        errors.append(0.0 if not counts else float(abs(mpf(float(a)) - e) / unit) if np.isfinite(a) else np.inf)
    return np.array(errors)


def four_ulps(x):
    """The error in ULP that most layers are allowed at x."""
    return 4.0


@dataclasses.dataclass(frozen=True)
class Oracle:
    """The exact value and derivative of a layer in mpmath, and JAX's own function where there is one.

    `config` is the configuration of the layer, `zero` is where its derivative vanishes, `targets` is the second argument of
    a loss, and `allowed` are the errors in ULP of value and derivative that tests allow at x.
    """

    value: Callable
    derivative: Callable
    peer: Callable | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    zero: float | None = None
    targets: float | None = None
    allowed: tuple[Callable, Callable] = (four_ulps, four_ulps)


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def softplus(x):
    return mpmath.log1p(mpmath.exp(x))


def mish_derivative(x):
    e = mpmath.exp(x)
    return e * (4 * (1 + x) + e * (6 + 4 * x) + 4 * e**2 + e**3) / (2 + 2 * e + e**2) ** 2


def tanh_gelu_argument(x):
    """The argument of the logistic function in the tanh form of gelu, and its derivative."""
    scale, cubic = mpmath.sqrt(8 / mpmath.pi), mpf("0.044715")
    return scale * (x + cubic * x**3), scale * (1 + 3 * cubic * x**2)


def tanh_gelu_terms(x):
    v, slope = tanh_gelu_argument(x)
    return sigmoid(v), x * slope * sigmoid(v) * sigmoid(-v)


def gelu_limit(x):
    return min(4 + 2 * x * x, 12)


def tanh_gelu_limit(x):
    return 4 + 4 * x * x


def expm1_below(x, scale, rate=1):
    return x if x > 0 else scale * mpmath.expm1(x / rate)


def exp_below(x, scale, rate=1):
    return mpf(1) if x > 0 else scale * mpmath.exp(x / rate)


def selu_scale():
    return mpf("1.0507009873554804934193349852946")


def selu_alpha():
    return mpf("1.6732632423543772848170429916717")


def piecewise(*pieces):
    """A function defined in pieces (upper limit, function); a limit belongs to the piece below it."""
    return lambda x: mpf(next(piece(x) for limit, piece in pieces if x <= limit))


INF = float("inf")
nn = jax.nn

# The first word of a name is that of the layer.
ORACLES = {
    "identity": Oracle(lambda x: x, lambda x: mpf(1), nn.identity),
    "tanh": Oracle(lambda x: mpmath.tanh(x), lambda x: mpmath.sech(x) ** 2, jnp.tanh),
    "tanh_shrink": Oracle(lambda x: x - mpmath.tanh(x), lambda x: mpmath.tanh(x) ** 2, lambda x: x - jnp.tanh(x)),
    "sigmoid": Oracle(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), nn.sigmoid),
    "log_sigmoid": Oracle(lambda x: -softplus(-x), lambda x: sigmoid(-x), nn.log_sigmoid),
    "softplus": Oracle(softplus, sigmoid, nn.softplus),
    "softplus beta=2": Oracle(lambda x: softplus(2 * x) / 2, lambda x: sigmoid(2 * x), config={"beta": 2.0}),
    "softsign": Oracle(lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, nn.soft_sign),
    "elu": Oracle(lambda x: expm1_below(x, 1), lambda x: exp_below(x, 1), nn.elu),
    "celu alpha=2": Oracle(
        lambda x: expm1_below(x, 2, 2), lambda x: exp_below(x, 1, 2), lambda x: nn.celu(x, 2.0), {"alpha": 2.0}
    ),
    "selu": Oracle(
        lambda x: selu_scale() * expm1_below(x, selu_alpha()), lambda x: selu_scale() * exp_below(x, selu_alpha()), nn.selu
    ),
    "selu alpha=2 gamma=0.5": Oracle(
        lambda x: expm1_below(x, 2) / 2, lambda x: exp_below(x, 2) / 2, config={"alpha": 2.0, "gamma": 0.5}
    ),
    "squareplus": Oracle(
        lambda x: (x + mpmath.sqrt(x * x + 4)) / 2, lambda x: (1 + x / mpmath.sqrt(x * x + 4)) / 2, nn.squareplus
    ),
    "gelu": Oracle(
        lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2 + x * mpmath.npdf(x),
        lambda x: nn.gelu(x, approximate=False),
        zero=-0.7517915246935645,
        allowed=(gelu_limit, gelu_limit),
    ),
    "gelu approximate=tanh": Oracle(
        lambda x: x * sigmoid(tanh_gelu_argument(x)[0]),
        lambda x: sum(tanh_gelu_terms(x)),
        nn.gelu,
        {"approximate": "tanh"},
        zero=-0.7524614220710163,
        allowed=(tanh_gelu_limit, tanh_gelu_limit),
    ),
    "silu": Oracle(
        lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), nn.silu, zero=-1.2784645427610737
    ),
    "silu alpha=2": Oracle(
        lambda x: x * sigmoid(2 * x),
        lambda x: sigmoid(2 * x) * (1 + 2 * x * sigmoid(-2 * x)),
        config={"alpha": 2.0},
        zero=-0.63923227138053685,
    ),
    "mish": Oracle(lambda x: x * mpmath.tanh(softplus(x)), mish_derivative, nn.mish, zero=-1.1924312145154952),
    "relu": Oracle(lambda x: max(x, 0), lambda x: mpf(x > 0), nn.relu),
    "relu6": Oracle(lambda x: min(max(x, 0), 6), lambda x: mpf(0 < x < 6), nn.relu6),
    "leaky_relu": Oracle(
        lambda x: x if x > 0 else x / 100, lambda x: mpf(1) if x > 0 else mpf(1) / 100, nn.leaky_relu
    ),
    "hard_sigmoid": Oracle(
        piecewise((-3, lambda x: 0), (3, lambda x: (x + 3) / 6), (INF, lambda x: 1)),
        lambda x: mpf(-3 < x < 3) / 6,
        nn.hard_sigmoid,
    ),
    "hard_sigmoid slope=0.25": Oracle(
        piecewise((-2, lambda x: 0), (2, lambda x: (x + 2) / 4), (INF, lambda x: 1)),
        lambda x: mpf(-2 < x < 2) / 4,
        config={"slope": 0.25},
    ),
    "hard_swish": Oracle(
        piecewise((-3, lambda x: 0), (3, lambda x: x * (x + 3) / 6), (INF, lambda x: x)),
        piecewise((-3, lambda x: 0), (3, lambda x: (2 * x + 3) / 6), (INF, lambda x: 1)),
        nn.hard_swish,
        zero=-1.5,
    ),
    "hard_tanh": Oracle(lambda x: min(max(x, -1), 1), lambda x: mpf(-1 < x < 1), nn.hard_tanh),
    "soft_shrink": Oracle(lambda x: mpmath.sign(x) * max(abs(x) - 0.5, 0), lambda x: mpf(abs(x) > 0.5)),
    "hard_shrink": Oracle(lambda x: x * (abs(x) > 0.5), lambda x: mpf(abs(x) > 0.5)),
    "clip": Oracle(
        lambda x: min(max(x, -1), 2), lambda x: mpf(-1 < x < 2), lambda x: jnp.clip(x, -1, 2), {"min": -1.0, "max": 2.0}
    ),
    "threshold": Oracle(
        lambda x: x if x > 1 else mpf(-2), lambda x: mpf(x > 1), config={"threshold": 1.0, "value": -2.0}
    ),
    "binary_cross_entropy_with_logits targets=1": Oracle(
        lambda x: softplus(-x),
        lambda x: -sigmoid(-x),
        lambda x: optax.sigmoid_binary_cross_entropy(x, jnp.ones_like(x)),
        targets=1.0,
    ),
    "binary_cross_entropy_with_logits targets=0": Oracle(
        softplus, sigmoid, lambda x: optax.sigmoid_binary_cross_entropy(x, jnp.zeros_like(x)), targets=0.0
    ),
    "log_cosh targets=0": Oracle(
        lambda x: mpmath.log(mpmath.cosh(x)), lambda x: mpmath.tanh(x), lambda x: optax.log_cosh(x), targets=0.0
    ),
    "logaddexp targets=0": Oracle(softplus, sigmoid, lambda x: jnp.logaddexp(x, 0), targets=0.0),
    "focal targets=1": Oracle(
        lambda x: sigmoid(-x) ** 2 * softplus(-x),
        lambda x: -(sigmoid(-x) ** 2) * (sigmoid(-x) + 2 * sigmoid(x) * softplus(-x)),
        lambda x: optax.sigmoid_focal_loss(x, jnp.ones_like(x)),
        targets=1.0,
        allowed=(lambda x: 8, lambda x: 8),
    ),
    "focal targets=0": Oracle(
        lambda x: sigmoid(x) ** 2 * softplus(x),
        lambda x: sigmoid(x) ** 2 * (sigmoid(x) + 2 * sigmoid(-x) * softplus(x)),
        lambda x: optax.sigmoid_focal_loss(x, jnp.zeros_like(x)),
        targets=0.0,
        allowed=(lambda x: 8, lambda x: 8),
    ),
    "quantile q=0.25 targets=0": Oracle(
        lambda x: max(3 * x, -x) / 4, lambda x: mpf(3) / 4 if x > 0 else -mpf(1) / 4, config={"q": 0.25}, targets=0.0
    ),
    "hinge_embedding targets=-1": Oracle(lambda x: max(mpf(0), 1 - x), lambda x: -mpf(x < 1), targets=-1.0),
    "perceptron targets=-1": Oracle(
        lambda x: max(mpf(0), x),
        lambda x: mpf(x > 0),
        lambda x: optax.losses.perceptron_loss(x, -jnp.ones_like(x)),
        targets=-1.0,
    ),
    "squared_error targets=1": Oracle(
        lambda x: (x - 1) ** 2, lambda x: 2 * (x - 1), lambda x: 2 * optax.l2_loss(x, jnp.ones_like(x)), targets=1.0
    ),
}  # fmt: skip


def points(dtype, zero=None, quick=False) -> np.ndarray:
    """Numbers within ±30 and around 0, some out to where results vanish, and numbers close to a zero of the derivative."""
    rng, count = np.random.default_rng(0), 10 if quick else 150
    numbers = [*rng.uniform(-30, 30, count), *rng.normal(size=count // 3), *rng.uniform(-1e-3, 1e-3, count // 7)]
    numbers += [-80, -60, -40, 40, 60, 80, 1e-6, -1e-6, 43.3, -87, 88.8, -88.8, -91, -13, -12.5, -0.5, 0.5]
    if dtype == "float64":
        numbers += [-700, -500, -300, -150, 150, 300, 700, -708, -712, 710, -38, -35]
    numbers += [side * k * float(np.finfo(dtype).tiny) for k in (1.5, 3) for side in (-1, 1)]
    if zero is not None:
        numbers += [zero + side * 10.0**-k for k in range(1, 8) for side in (-1, 1)] + [zero, np.float32(zero)]
    return np.unique(np.array(numbers, dtype))


@lru_cache(None)
def exact_results(name, dtype, quick=False) -> tuple[np.ndarray, list, list]:
    """The points, and the exact values and derivatives there."""
    oracle = ORACLES[name]
    x = points(dtype, oracle.zero, quick)
    with mpmath.workdps(DIGITS):
        return x, *([f(mpf(float(a))) for a in x] for f in (oracle.value, oracle.derivative))


def layer_of(name) -> Callable:
    """The layer that an oracle judges, as a function of one array."""
    oracle = ORACLES[name]
    others = () if oracle.targets is None else (oracle.targets,)
    return lambda x: jn.LAYERS[name.split()[0]](x, *(jnp.full_like(x, value) for value in others), **oracle.config)


def mp_softmax(row):
    row = [mpf(float(a)) for a in row]
    e = [mpmath.exp(a - max(row)) for a in row]
    return [a / mpmath.fsum(e) for a in e]


def mp_complement(p, i):
    """1 − p[i]."""
    return mpmath.fsum(a for j, a in enumerate(p) if j != i)


def mp_log(p, i):
    """log p[i]."""
    return mpmath.log1p(-mp_complement(p, i)) if p[i] > 0.5 else mpmath.log(p[i])


def rows(dtype, count=24):
    """Random rows of up to 16 entries, one in three with a dominant entry, and some that saturate."""
    rng = np.random.default_rng(1)
    for k in range(count):
        row = rng.normal(size=(2, 3, 5, 16)[k % 4]) * (1, 3, 8)[k % 3]
        if k % 3 == 1:
            row[rng.integers(len(row))] += 20
        yield np.asarray(row, dtype)
    yield from (np.array(row, dtype) for row in ([40, 0], [0, 40], [-40, 0], [30, 0, -30], [60, 58, -20, 0]))


def exact_by_row(value, entry):
    """Two functions of p, the softmax of a row: the exact values, and the exact Jacobian made from `entry(p, i, j)`."""
    return value, lambda p: [entry(p, i, j) for i in range(len(value(p))) for j in range(len(p))]


def loss_derivative(p, i, j):
    return -mp_complement(p, 0) if j == 0 else p[j]


def mp_row(row):
    return [mpf(float(a)) for a in row]


def norm_and_gradient(p):
    """The p-norm of a row in mpmath, as a function, and its gradient."""

    def norm(x):
        return mpmath.fsum(abs(a) ** p for a in x) ** (mpf(1) / p)

    return lambda x: [norm(x)], lambda x: [mpmath.sign(a) * (abs(a) / norm(x)) ** (p - 1) for a in x]


def differences(x):
    return [a - mpmath.fsum(x) / len(x) for a in x]


def variance(x):
    return mpmath.fsum(d**2 for d in differences(x)) / len(x)


# name: (layer as a function of a row, exact values and Jacobian from the row's softmax, JAX's or optax's own)
SOFT_ROWS = {
    "softmax": (
        lambda x: jn.softmax(x),
        *exact_by_row(lambda p: p, lambda p, i, j: p[i] * (mp_complement(p, i) if i == j else -p[j])),
        jax.nn.softmax,
    ),
    "log_softmax": (
        lambda x: jn.log_softmax(x),
        *exact_by_row(
            lambda p: [mp_log(p, i) for i in range(len(p))], lambda p, i, j: mp_complement(p, i) if i == j else -p[j]
        ),
        jax.nn.log_softmax,
    ),
    "cross_entropy": (
        lambda x: jn.cross_entropy(x[None], np.zeros(1, np.int32)),
        *exact_by_row(lambda p: [-mp_log(p, 0)], loss_derivative),
        lambda x: optax.softmax_cross_entropy_with_integer_labels(x[None], np.zeros(1, np.int32)),
    ),
}  # fmt: skip
# The same from the row itself.
PLAIN_ROWS = {
    "vector_norm p=3": (lambda x: jn.vector_norm(x, p=3), *norm_and_gradient(3), lambda x: jnp.linalg.norm(x, 3)),
    "l2_norm": (jn.l2_norm, *norm_and_gradient(2), jnp.linalg.norm),
    "lp_pool p=3": (
        lambda x: jn.lp_pool(x, kernel_size=(len(x),), p=3),
        *norm_and_gradient(3),
        lambda x: jnp.sum(abs(x) ** 3, keepdims=True) ** (1 / 3),
    ),
    "var": (jn.var, lambda x: [variance(x)], lambda x: [2 * d / len(x) for d in differences(x)], jnp.var),
    "std": (
        jn.std,
        lambda x: [mpmath.sqrt(variance(x))],
        lambda x: [d / len(x) / mpmath.sqrt(variance(x)) for d in differences(x)],
        jnp.std,
    ),
}
ROWS = {
    **{name: (mp_softmax, *row) for name, row in SOFT_ROWS.items()},
    **{name: (mp_row, *row) for name, row in PLAIN_ROWS.items()},
}
