"""Normalisations: values by NumPy and mpmath, exact results where nothing varies, errors published for other libraries."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxnets as jn

from ..sweeps import swept

NAN, INF = np.nan, np.inf
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def near(actual, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual, np.float64), np.asarray(expected, np.float64), rtol, atol)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def trained(x, *args, **config):
    """The first output of batch norm in training."""
    return jn.batch_norm(x, *args, training=True, **config)[0]


def compiled(function):
    """The value, and the dense Jacobians by our rule and by JAX."""

    def call(x):
        y, j = jn.value_and_jacobian(function)(x)
        return y, j.dense(), jax.jacrev(function)(x)

    return at_once(call)


def at_once(function):
    """The function as one program, which gives arrays of NumPy."""
    compiled = jax.jit(function)
    return lambda *args: jax.device_get(compiled(*args))


# Every normalisation as a function of [b, c, s] alone, and the axes over which it goes.
OVER = {
    "layer_norm": (jn.layer_norm, (2,)),
    "layer_norm of two axes": (lambda x: jn.layer_norm(x, axes=(1, 2)), (1, 2)),
    "instance_norm": (jn.instance_norm, (2,)),
    "batch_norm": (trained, (0, 2)),
    "standardize": (jn.standardize, (0,)),
}


# --- values -------------------------------------------------------------------------------------------------------


def over_columns(x, axes, eps, centred=True):
    """x̂ computed by NumPy on one column for each row: E x² by sums of outer products, no keepdims."""
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    rows = np.transpose(x, order)
    shape = rows.shape
    rows = rows.reshape(int(np.prod(shape[: x.ndim - len(axes)])), -1)
    found = []
    for row in rows:
        row = row - sum(row) / len(row) * centred
        found.append(row / np.sqrt(np.dot(row, row) / len(row) + eps))
    return np.transpose(np.reshape(found, shape), np.argsort(order))


@pytest.mark.parametrize("axes", swept([-1, 0, 1, (1, 2), (-1, 0), (0, 1, 2)], 2), ids=str)
@pytest.mark.parametrize("name, eps", [("layer_norm", 1e-5), ("rms_norm", 1e-6), ("layer_norm", 0.3), ("rms_norm", 0.0)])
def test_layer_norm_and_rms_norm(name, eps, axes):
    x = normal(3, 4, 5)
    own = sorted(np.atleast_1d(axes) % 3)
    scale, bias = normal(*(x.shape[a] for a in own), seed=1), normal(*(x.shape[a] for a in own), seed=2)
    along = [n if a in own else 1 for a, n in enumerate(x.shape)]
    hat = over_columns(x, own, eps, name == "layer_norm")
    bias = None if name == "rms_norm" else bias
    parameters = [scale] if bias is None else [scale, bias]
    plain, scaled = jax.jit(lambda x: [jn.LAYERS[name](x, *more, axes=axes, eps=eps) for more in ([], parameters)])(x)
    near(plain, hat)
    near(scaled, hat * scale.reshape(along) + (0 if bias is None else bias.reshape(along)), atol=1e-15)


def test_default_eps():
    """That of torch for layer, group, instance and batch norm, that of flax for rms norm."""
    x = np.array([[[1e-3, -1e-3]]])
    layers = jn.layer_norm, jn.instance_norm, lambda x: jn.group_norm(x, groups=1), trained, jn.rms_norm
    *found, rms = at_once(lambda x: [layer(x) for layer in layers])(x)
    for y in found:
        near(y, x / np.sqrt(1e-6 + 1e-5))
    near(rms, x / np.sqrt(2e-6))


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (3, 6, 2, 2)], ids=str)
def test_group_norm_between_layer_norm_and_instance_norm(shape):
    x, scale, bias = normal(*shape), normal(6, seed=1), normal(6, seed=2)
    channel = [6 if a == 1 else 1 for a in range(len(shape))]

    @jax.jit
    def compute(x):
        whole = jn.layer_norm(x, axes=tuple(range(1, x.ndim)))
        own = jn.instance_norm(x, scale, bias) if x.ndim > 2 else None
        return [jn.group_norm(x, scale, bias, groups=n) for n in (1, 2, 3, 6)], jn.group_norm(x, groups=1), whole, own

    found, one, whole, own = compute(x)
    for groups, y in zip((1, 2, 3, 6), found, strict=True):
        parts = x.reshape(shape[0], groups, -1)
        hat = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)
        near(y, hat.reshape(shape) * scale.reshape(channel) + bias.reshape(channel), atol=1e-15)
    near(one, whole)
    if own is not None:
        near(found[-1], own, atol=1e-15)


def test_normalize():
    near(jn.normalize(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0.0, -1.0]], 1e-15)
    x = normal(3, 4, 5)
    of_two, short = at_once(lambda x: (jn.normalize(x, axis=(0, 2)), jn.normalize(x, axis=1, eps=10.0)))(x)
    near(of_two, x / np.linalg.norm(x.transpose(1, 0, 2).reshape(4, 15), axis=1)[:, None])
    near(short, x / 10)


def test_standardize():
    x, mean, std = normal(6, 3, 4), normal(3, 1, seed=1), np.array([[2.0], [1e-9], [0.0]])

    @at_once
    def compute(x, *given):
        return jn.standardize(x), jn.standardize(x, axis=(0, 2)), jn.standardize(x, *given, eps=1e-3)

    over_batch, over_two, by_given = compute(x, mean, std)
    near(over_batch, (x - x.mean(0)) / x.std(0))
    near(over_two, (x - x.mean((0, 2))[:, None]) / x.std((0, 2))[:, None])
    near(by_given, (x - mean) / np.array([[2.0], [1e-3], [1e-3]]))


def test_standardize_as_in_training():
    """Statistics of a training set go with other data."""
    train, test = normal(50, 3) * 5 + 2, normal(4, 3, seed=1)

    @at_once
    def compute(train, test, *given):
        j = jn.jacobian(lambda x: jn.standardize(x, *given))(test)
        assert j.batched and j.structure == "diagonal"
        return jn.standardize(train, *given), jn.standardize(train), j.diagonal()

    by_given, own, diagonal = compute(train, test, train.mean(0), train.std(0))
    equal(by_given.shape, train.shape)
    near(by_given, own, atol=1e-14)
    near(diagonal, np.broadcast_to(1 / train.std(0), test.shape))


# --- accuracy -----------------------------------------------------------------------------------------------------


def mp_row(row, eps, centred):
    """x̂ and the root, at 50 digits."""
    row = [mpmath.mpf(float(a)) for a in row]
    mean = mpmath.fsum(row) / len(row) if centred else 0
    row = [a - mean for a in row]
    root = mpmath.sqrt(mpmath.fsum(a * a for a in row) / len(row) + mpmath.mpf(eps))
    return [a / root for a in row], root


ROWS = {
    "random": normal(7),
    "mean 1e4": 1e4 + np.arange(8.0),
    "mean -1e6": -1e6 + np.array([0.5, 1.25, -3.0, 8.0, 2.0]),
    "small": 1e-3 * normal(6, seed=3),
    "outlier": np.array([3e3, 0.1, -0.2, 0.3, 0.05]),
}


@pytest.mark.parametrize("dtype", swept(["float32", "float64"], ["float32"]))
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("row", ROWS)
def test_error_in_units_of_the_largest_entry(row, name, dtype):
    """Within 4 units of the last place of the largest x̂, and 8 of the largest entry of the Jacobian, also far from 0."""
    x, layer, unit = np.asarray(ROWS[row], dtype), jn.LAYERS[name], float(np.finfo(dtype).eps)
    n, centred = len(x), name == "layer_norm"
    with mpmath.workdps(50):
        hat, root = mp_row(x, 1e-5, centred)
        exact = [[((a == b) - mpmath.mpf(centred) / n - hat[a] * hat[b] / n) / root for b in range(n)] for a in range(n)]
        hat, exact = np.array(hat, float), np.array(exact, float)

    @jax.jit
    def compute(x):
        y, j = jn.value_and_jacobian(lambda x: layer(x, eps=1e-5))(x)
        return y, j.dense(), j.diagonal(), jnp.stack([j @ unit for unit in jnp.eye(n, dtype=dtype)], 1)

    y, dense, diagonal, columns = compute(x)
    near(y, hat, 0, 4 * unit * np.abs(hat).max())
    limit = 8 * unit * max(float(1 / root), np.abs(exact).max())
    near(dense, exact, 0, limit)
    near(diagonal, np.diag(exact), 0, limit)
    near(columns, exact, 0, limit)


def test_two_passes_jax_standardize():
    """jax.nn.standardize gives −1107 for the first of these, in float32."""
    x = 1e4 + np.arange(8, dtype="float32")
    expected = (np.arange(8) - 3.5) / np.arange(8).std()
    layers = jn.standardize, lambda x: jn.layer_norm(x, eps=0.0), lambda x: trained(x[:, None], eps=0.0)[:, 0]
    for y in at_once(lambda x: [layer(x) for layer in layers])(x):
        near(y, expected, 3e-7)


statistics = at_once(lambda x: jn.batch_norm(x, training=True))


@pytest.mark.parametrize("seed", range(5))
def test_variance_is_never_negative_flax1491(seed):
    x = (1e3 + 1e-4 * normal(64, 2, seed=seed)).astype("float32")
    y, mean, var = statistics(x)
    assert np.isfinite(y).all() and (np.asarray(var) >= 0).all()
    near(mean, x.astype("float64").mean(0), 1e-6)
    near(var, x.astype("float64").var(0, ddof=1), 1e-5)


def units(actual, exact, dtype):
    """Errors in units of the last place of `exact`, above those of the largest entry or 1."""
    exact = np.asarray(exact, np.float64)
    eps = float(jnp.finfo(dtype).eps)
    size = np.maximum(np.abs(exact), float(jnp.finfo(dtype).tiny))
    error = np.abs(np.asarray(actual, np.float64) - exact) - eps * max(1, np.abs(exact).max())
    return np.max(error / (eps * 2.0 ** np.floor(np.log2(size))))


LONG = {
    "layer_norm": jn.layer_norm,
    "rms_norm": jn.rms_norm,
    "normalize": jn.normalize,
    "standardize": lambda x: jn.standardize(x, axis=-1),
    "group_norm": lambda x: jn.group_norm(x[:, :, None], groups=1)[..., 0],
    "instance_norm": lambda x: jn.instance_norm(x[None])[0],
    "batch_norm": lambda x: trained(x.T).T,
}


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["float16"]))
@pytest.mark.parametrize("name", LONG)
def test_rows_of_16_bit_numbers(name, dtype):
    """131072 entries a row, the squares of which sum to more than float16 holds: jax#39899."""
    x, v = (normal(2, 2**17) * 20 + 30).astype(dtype), normal(2, 2**17, seed=1).astype(dtype)

    @jax.jit
    def compute(x, v):
        y, j = jn.value_and_jacobian(LONG[name])(x)
        return y, j @ v, v @ j

    found, exact = compute(x, v), compute(x.astype("float64"), v.astype("float64"))
    for actual, expected in zip(found, exact, strict=True):
        assert actual.dtype == dtype
        assert units(actual, expected, dtype) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_length_neither_overflows_nor_vanishes(dtype):
    largest, smallest = float(jnp.finfo(dtype).max) / 64, float(jnp.finfo(dtype).tiny) * 64
    rows = np.array([[3 * c, -4 * c] for c in (largest, smallest)], dtype), np.array([3e4, -4e4], "float16")
    *found, half = at_once(lambda x, half: [*(jn.normalize(row, eps=0.0) for row in x), jn.normalize(half)])(*rows)
    for y in found:
        near(y, [0.6, -0.8], 1e-2 if dtype == "bfloat16" else 1e-6)
    near(half, [0.6, -0.8], 1e-3)


# --- where nothing varies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", swept(["float16", "float32", "float64"], ["float32"]))
@pytest.mark.parametrize("name", OVER)
def test_equal_numbers_give_zero(name, dtype):
    """And their spread of 0 has a derivative, not NaN: jax#11716."""
    layer, _ = OVER[name]

    def first(x):
        return layer(x)[0, 0, 0]

    compute = at_once(lambda x: (layer(x), jn.grad(first)(x), jax.grad(first)(x)))
    for value in (0.0, -0.0, 0.1, -3.3, 1e4, 6e4 if dtype == "float16" else 1e30):
        y, ours, theirs = compute(np.full((3, 7, 5), value, dtype))
        equal(y, np.zeros(y.shape))
        assert not np.isnan(ours).any() and not np.isnan(theirs).any()


@pytest.mark.parametrize("eps, divisor", [(1e-5, np.sqrt(1e-5)), (0.0, None)])
@pytest.mark.parametrize("name", ["layer_norm", "instance_norm", "batch_norm"])
def test_jacobian_at_equal_numbers(name, eps, divisor):
    """Only centring remains; with eps = 0 nothing does."""
    x, n = np.full((1, 1, 4), 2.5), 4
    layer = trained if name == "batch_norm" else jn.LAYERS[name]
    expected = (np.eye(n) - 1 / n) / divisor if divisor else np.zeros((n, n))
    ours, theirs = compiled(lambda x: layer(x, eps=eps))(x)[1:]
    near(ours.reshape(n, n), expected, 1e-14)
    near(theirs.reshape(n, n), expected, 1e-14)


@pytest.mark.parametrize("eps, slope", [(1e-2, 1e2), (0.0, 0.0)])
def test_feature_that_does_not_vary(eps, slope):
    """σ ≤ eps counts as the constant eps: only centring remains."""
    x = np.array([[7.0, 1.0], [7.0, 2.0], [7.0, 4.0]])
    compute, expected = compiled(lambda x: jn.standardize(x, eps=eps)), slope * (np.eye(3) - 1 / 3)
    y, ours, theirs = compute(x)
    equal(y[:, 0], [0, 0, 0])
    near(ours[:, 0, :, 0], expected, 1e-13)
    near(ours, theirs, atol=1e-12)
    if eps:  # σ = 4.7e-4 is still below eps = 1e-2
        near(compute(x + np.eye(3, 2) * [1e-3, 0])[1][:, 0, :, 0], expected, 1e-13)


def test_deviation_of_just_eps():
    """max(σ, eps) is eps at the tie, which does not depend on x."""

    @at_once
    def compute(x, std):
        by_std = jn.jacobian(lambda std: jn.standardize(jnp.ones((1, 1)), jnp.zeros(1), std, eps=0.5))(std)
        return jn.jacobian(lambda x: jn.standardize(x, eps=1.0))(x).matrix(), by_std.matrix()

    found, by_std = compute(np.array([[-1.0], [1.0]]), np.array([0.5]))
    equal(found, [[0.5, -0.5], [-0.5, 0.5]])
    equal(by_std, [[0]])


def test_std_of_a_training_set_that_is_zero():
    x, mean, std = np.ones((2, 2)), np.zeros(2), np.array([0.0, 2.0])
    js = jn.jacobian(lambda *a: jn.standardize(*a, eps=0.5), (0, 1, 2))
    by_x, by_mean, by_std = at_once(lambda *args: jn.dense(js(*args)))(x, mean, std)
    equal(np.diagonal(by_x.reshape(4, 4)), [2, 0.5, 2, 0.5])
    equal(by_mean[0], [[-2, 0], [0, -0.5]])
    equal(by_std[0], [[0, 0], [0, -0.25]])


@pytest.mark.parametrize("row, slope", [([0.0, 0.0], 1e3), ([-0.0, 0.0], 1e3), ([3e-4, 4e-4], 1e3)])
def test_vectors_shorter_than_eps(row, slope):
    """The norm has derivative 0 at the zero vector (jax#21723, #39792), and eps is a constant: the Jacobian is I / eps."""
    x = np.array(row)
    y, ours, theirs = compiled(lambda x: jn.normalize(x, eps=1e-3))(x)
    near(y, 1e3 * x)
    near(ours, slope * np.eye(2), 1e-14)
    near(theirs, slope * np.eye(2), 1e-14)


def test_zero_vector_at_the_default_eps():
    @at_once
    def compute(x):
        y, j = jn.value_and_jacobian(jn.normalize)(x)
        none, of_none = jn.value_and_jacobian(lambda x: jn.normalize(x, eps=0.0))(x[0])
        return y, j.diagonal(), none, of_none.dense()

    for dtype in ("float32", "float64"):
        y, diagonal, none, of_none = compute(np.zeros((2, 3), dtype))
        equal(y, np.zeros((2, 3)))
        near(diagonal, np.full((2, 3), 1e12), 1e-7)
        equal(none, np.zeros(3))
        equal(of_none, np.zeros((3, 3)))


@pytest.mark.parametrize("name", OVER)
def test_nan_stays_in_its_group(name):
    layer, axes = OVER[name]
    x, layer = normal(3, 4, 5), at_once(layer)
    for bad in (NAN, INF):
        x[1, 2, 3] = bad
        wrong = np.isnan(layer(x))
        index = tuple(slice(None) if a in axes else i for a, i in enumerate((1, 2, 3)))
        expected = np.zeros(x.shape, bool)
        expected[index] = True
        equal(wrong, expected)


def test_second_derivatives_where_nothing_varies():
    x = np.full((2, 3), 4.0)

    def scalar(x):
        return sum(jnp.sum(jnp.sin(layer(x))) for layer in (jn.layer_norm, jn.standardize, trained))

    ours, theirs = jax.jit(lambda x: (jn.hessian(scalar)(x).dense(), jax.hessian(scalar)(x)))(x)
    near(ours, theirs, 1e-9, 1e-9 * np.abs(theirs).max())


# --- batch norm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 1), (2, 3, 4, 2), (1, 3, 2)], ids=str)
def test_running_statistics(shape):
    """Biased variance in x̂, unbiased in the running variance, momentum as in torch: torch#60528."""
    x, axes = normal(*shape) * 3 + 1, tuple(a for a in range(len(shape)) if a != 1)
    channel = [3 if a == 1 else 1 for a in range(len(shape))]
    mean, var, n = x.mean(axes), x.var(axes, ddof=1), x.size // 3

    @at_once
    def compute(x, *statistics):
        return [jn.batch_norm(x, None, None, *given, training=True, momentum=0.25) for given in (statistics, ())]

    (y, new_mean, new_var), (_, own_mean, own_var) = compute(x, np.zeros(3), np.ones(3))
    near(y, (x - mean.reshape(channel)) / np.sqrt(var.reshape(channel) * (n - 1) / n + 1e-5), atol=1e-15)
    near(new_mean, 0.25 * mean)
    near(new_var, 0.75 + 0.25 * var)
    near(own_mean, mean)
    near(own_var, var)


def test_momentum_of_zero_and_one():
    x, mean, var = normal(5, 2), np.array([1.0, 2.0]), np.array([3.0, 4.0])

    @at_once
    def compute(x, *statistics):
        return [jn.batch_norm(x, None, None, *statistics, training=True, momentum=m) for m in (0.0, 1.0)]

    kept, moved = compute(x, mean, var)
    near(kept[1], mean)
    near(kept[2], var)
    near(moved[1], x.mean(0))
    near(moved[2], x.var(0, ddof=1))


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (0, 2), (2, 2, 3)], ids=str)
def test_evaluation(shape):
    """The running statistics are used and come back as they were; the examples do not know each other."""
    x, scale, bias = normal(*shape), np.array([2.0, -1.0]), np.array([0.5, 0.0])
    mean, var = np.array([1.0, -2.0]), np.array([4.0, 0.25])
    channel = [2 if a == 1 else 1 for a in range(len(shape))]
    expected = (x - mean.reshape(channel)) / np.sqrt(var.reshape(channel) + 1e-5) * scale.reshape(channel)
    y, new_mean, new_var = at_once(jn.batch_norm)(x, scale, bias, mean, var)
    near(y, expected + bias.reshape(channel), atol=1e-15)
    equal(new_mean, mean)
    equal(new_var, var)
    j = jax.eval_shape(jn.jacobian(lambda x: jn.batch_norm(x, scale, bias, mean, var)[0]), x)
    assert j.structure == ("diagonal" if x.size else "zero")
    assert not x.size or shape[0] == 1 or j.batched


def test_training_couples_the_examples():
    x = normal(4, 3, 2)
    j = jax.eval_shape(jn.jacobian(trained), x)
    assert not j.batched
    with pytest.raises(jn.ShapeError, match="independent"):
        j.per_example()
    _, ours, theirs = compiled(trained)(x)
    near(ours, theirs, atol=1e-13)
    assert np.abs(np.asarray(ours)[0, :, :, 1]).max() > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_statistics_keep_their_dtype(dtype):
    """So that they can be carried through a loop over batches."""
    x = np.asarray(normal(4, 8, 3), "float32")

    def step(state, batch):
        y, *state = jn.batch_norm(batch, None, None, *state, training=True)
        return tuple(state), y

    (mean, var), y = jax.lax.scan(step, (np.zeros(3, dtype), np.ones(3, dtype)), x)
    assert mean.dtype == var.dtype == dtype
    assert y.dtype == "float32"
    expected = np.zeros(3)
    for batch in x.astype("float64"):
        expected = 0.9 * expected + 0.1 * batch.mean(0)
    near(mean, expected, atol=1e-2)


def test_normalizing_in_float32_of_half_precision_inputs():
    """Statistics and parameters are often float32 where the activations are bfloat16."""
    x, scale = np.asarray(normal(64, 3) + 100, "bfloat16"), np.ones(3, "float32")
    layers = trained, lambda x, scale: jn.layer_norm(x, scale, axes=1), lambda x, s: jn.group_norm(x, s, groups=1)
    compute = at_once(lambda x, scale: [layer(x, scale) for layer in layers])
    for y, exact in zip(compute(x, scale), compute(x.astype("float64"), scale.astype("float64")), strict=True):
        assert y.dtype == "float32"
        near(y, exact, 0, 1e-5)


# --- structure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["group_norm", "instance_norm", "layer_norm", "rms_norm", "normalize"])
def test_examples_are_independent(name):
    x, config = normal(3, 4, 2), {"groups": 2} if name == "group_norm" else {}

    @jax.jit
    def compute(x):
        y, j = jn.value_and_jacobian(lambda x: jn.LAYERS[name](x, **config))(x)
        assert j.batched or len(x) == 1
        return y, j.per_example() if j.batched else j.dense()[:, :, :, 0]

    whole, blocks = compute(x)
    for b in range(len(x)):
        y, block = compute(x[b : b + 1])
        near(whole[b : b + 1], y, 1e-14)
        near(blocks[b : b + 1], block, atol=1e-14)


def largest(function, *args):
    """The most entries of any array that a function makes."""
    return max(v.aval.size for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns for v in eqn.outvars)


@pytest.mark.parametrize("name", OVER)
def test_products_store_nothing_quadratic(name):
    layer, _ = OVER[name]
    x = normal(4, 5, 60)
    j = jax.eval_shape(jn.jacobian(layer), x)
    assert j.nbytes < 3 * x.nbytes
    assert largest(lambda j, v: j @ v, j, x) == x.size
    assert largest(lambda j, u: u @ j, j, x) == x.size
    assert largest(jn.grad(lambda x: jnp.sum(layer(x) ** 2)), x) == x.size


@pytest.mark.parametrize("name", OVER)
def test_null_space(name):
    """Adding a constant changes nothing; nor does scaling, but for eps."""
    layer, axes = OVER[name]
    x = normal(3, 4, 5)

    @at_once
    def compute(x):
        y, j = jn.value_and_jacobian(layer)(x)
        return j @ jnp.ones(x.shape), j @ x, j @ y, y @ j

    shifted, scaled, pushed, pulled = compute(x)
    near(shifted, np.zeros(x.shape), atol=1e-14)
    near(scaled, np.zeros(x.shape), atol=1e-3)
    near(pushed, pulled, atol=1e-14)  # symmetric


def test_formulas():
    def formula(layer, x):
        return jax.eval_shape(jn.jacobian(layer), x).formula

    x = np.ones((2, 4, 3))
    assert formula(lambda x: jn.layer_norm(x, axes=(1, 2)), x) == (
        "∂y[b,t,i]/∂x[b,j,k] = r[b]·(δ(ti,jk) − 1/n − x̂[b,t,i]·x̂[b,j,k]/n)"
    )
    assert formula(trained, x) == "∂y[b,c,s]/∂x[i,c,j] = r[c]·(δ(bs,ij) − 1/n − x̂[b,c,s]·x̂[i,c,j]/n)"
    assert formula(jn.normalize, x[0, 0]) == "∂y[i]/∂x[j] = r·(δ(i,j) − x̂[i]·x̂[j])"
