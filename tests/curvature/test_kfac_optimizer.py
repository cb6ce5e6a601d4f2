"""K-FAC, step by step, against NumPy from its definition."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.learn import checkpoint

from ..computing import close
from .nets import Draws

r = Draws(11)
BATCHES = [(r(5, 3), np.array(labels)) for labels in ([0, 1, 2, 1, 0], [2, 2, 0, 1, 1], [0, 0, 1, 2, 1])]
PARAMS = {"w": r(4, 3), "b": r(4), "v": r(3, 4)}
LIKE = BATCHES[0]


def f(params, x):
    return jn.linear(jnp.tanh(jn.linear(x, params["w"], params["b"])), params["v"])


def gradient_of(params, x, y):
    return jax.grad(lambda params: jn.cross_entropy(f(params, x), y).mean())(params)


def run(optimizer, params, steps=6):
    """The updates and states of some steps, which go over the batches in turn."""

    @jax.jit
    def step(params, state, x, y, key):
        updates, state = optimizer.update(gradient_of(params, x, y), state, params, x=x, targets=y, key=key)
        return updates, state

    state, found = jax.jit(optimizer.init)(params), []
    for i in range(steps):
        updates, state = step(params, state, *BATCHES[i % 3], jax.random.key(i))
        params = optax.apply_updates(params, updates)
        found.append((updates, state))
    return found


# K-FAC in NumPy


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def pieces(p, x, y):
    """The average loss, its gradient, the factors of the blocks, and the dense matrix in the order w, b, v."""
    count, a = len(x), np.tanh(x @ p["w"].T + p["b"])
    prob = softmax(a @ p["v"].T)
    loss = -np.log(prob[np.arange(count), y]).mean()
    send = (prob - np.eye(3)[y]) / count
    back = send @ p["v"] * (1 - a**2)
    gradient = {"w": back.T @ x, "b": back.sum(0), "v": send.T @ a}
    hessian = np.einsum("bi,ij->bij", prob, np.eye(3)) - np.einsum("bi,bj->bij", prob, prob)
    by_hidden = p["v"] * (1 - a**2)[:, None]  # [b, class, unit]
    first = np.einsum("bcu,bcd,bdt->ut", by_hidden, hessian, by_hidden) / count
    factors = {
        "w": (first, x.T @ x / count),
        "b": (first, np.ones((1, 1))),
        "v": (hessian.mean(0), a.T @ a / count),
    }
    j_v = np.einsum("cd,bi->bcdi", np.eye(3), a).reshape(count, 3, -1)
    j = np.concatenate([np.einsum("bcu,bi->bcui", by_hidden, x).reshape(count, 3, -1), by_hidden, j_v], 2)
    return loss, gradient, factors, np.einsum("bcp,bcd,bdq->pq", j, hessian, j) / count


def vector(tree):
    return np.concatenate([np.ravel(tree[name]) for name in ("w", "b", "v")])


def solve(factors, damping, v):
    """One array times the inverse of its damped block."""
    first, last = factors
    if len(last) == 1:
        return np.linalg.solve(first * last + damping * np.eye(len(first)), v)
    balance = np.sqrt((np.trace(first) / len(first)) / (np.trace(last) / len(last)))
    a = first + balance * np.sqrt(damping) * np.eye(len(first))
    b = last + np.sqrt(damping) / balance * np.eye(len(last))
    return np.linalg.solve(a, v) @ np.linalg.inv(b).T


def by_numpy(params, steps, rate, momentum, damping, decay, every, factors_every, adapt_every, kl_clip=None):
    p, blocks, at, last = dict(params), None, None, {name: np.zeros_like(a) for name, a in params.items()}
    for i in range(steps):
        x, y = BATCHES[i % 3]
        loss, g, new, dense = pieces(p, x, y)
        if i % factors_every == 0:
            weight = min(1 - 1 / (i // factors_every + 1), decay)
            blocks = new if blocks is None else {
                name: tuple(weight * old + (1 - weight) * b for old, b in zip(blocks[name], new[name], strict=True))
                for name in blocks
            }  # fmt: skip
        if i % every == 0 or i < 3:
            at = blocks, damping
        direction = {name: -solve(at[0][name], at[1], g[name]) for name in g}
        matrix = dense + damping * np.eye(len(dense))
        both = np.stack([vector(direction), vector(last)], 1)
        if rate is None and momentum is None:
            quadratic, linear = both.T @ matrix @ both, both.T @ vector(g)
            one = np.array([-linear[0] / quadratic[0, 0], 0])
            alpha, mu = one if i == 0 else -np.linalg.solve(quadratic, linear)
        else:
            alpha, mu = rate, momentum
        if kl_clip is not None:
            alpha = alpha * min(1, np.sqrt(kl_clip / -(alpha**2 * vector(g) @ vector(direction))))
        last = {name: alpha * direction[name] + mu * last[name] for name in g}
        after = {name: p[name] + last[name] for name in g}
        if (i + 1) % adapt_every == 0:
            delta = vector(last)
            ratio = (pieces(after, x, y)[0] - loss) / (vector(g) @ delta + delta @ matrix @ delta / 2)
            damping *= 0.95**adapt_every if ratio > 0.75 else 0.95**-adapt_every if ratio < 0.25 else 1
        p = after
        yield last, damping, blocks


OPTIONS = {
    "given": {"rate": 0.3, "momentum": 0.6, "factors_every": 2, "adapt_every": 2, "kl_clip": 2e-3},
    "by the model": {"rate": None, "momentum": None, "factors_every": 1, "adapt_every": 1},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_steps_are_those_of_the_definition(kind):
    """Averages, inverses, damping, learning rate and momentum of six steps, each in the steps in which it is due."""
    common = {"damping": 0.3, "decay": 0.7, "every": 4} | OPTIONS[kind]
    ours = {"learning_rate" if name == "rate" else name: value for name, value in common.items()}
    optimizer = jn.kfac(f, jn.cross_entropy, LIKE, samples=None, **ours)
    expected = list(by_numpy(PARAMS, 6, **common))
    for i, ((updates, state), (last, damping, blocks)) in enumerate(zip(run(optimizer, PARAMS), expected, strict=True)):
        close(vector(updates), vector(last), what=f"step {i}")
        close(state.damping, damping)
        for name, (first, other) in blocks.items():
            close(np.kron(state.blocks[name].first, state.blocks[name].last), np.kron(first, other))
    assert len({float(damping) for _, damping, _ in expected}) > 1, "the damping is adapted on the way"


def test_damped_inverses_are_those_of_mpmath():
    """`(first + π√λ)⁻¹ ⊗ (last + √λ/π)⁻¹`, and `(first + λ)⁻¹` for a whole block; a block of 0 is not divided by 0."""
    first, last = (a @ a.T for a in (r(3, 3), r(2, 2)))

    def inverse(matrix, shift):
        return np.array((mpmath.matrix(matrix) + shift * mpmath.eye(len(matrix))) ** -1, float).reshape(matrix.shape)

    with mpmath.workdps(40):
        damping = mpmath.mpf("0.1")
        balance = mpmath.sqrt(mpmath.mpf(np.trace(first) / 3) / mpmath.mpf(np.trace(last) / 2))
        expected = np.kron(inverse(first, balance * mpmath.sqrt(damping)), inverse(last, mpmath.sqrt(damping) / balance))
        whole = inverse(first, damping)
    blocks = jn.Kronecker(jnp.asarray(first), jnp.asarray(last), (3, 2)), jn.Kronecker(first, jnp.ones((1, 1)), (3,))
    zero = jn.Kronecker(jnp.zeros((3, 3)), jnp.zeros((2, 2)), (3, 2))
    found = jax.jit(lambda *blocks: [b.damped(0.1).inverse().matrix() for b in blocks])(*blocks, zero)
    for matrix, by_mpmath in zip(found, (expected, whole, 10 * np.eye(6)), strict=True):
        close(matrix, by_mpmath)


def test_a_factor_that_is_too_large_gives_way_to_the_diagonal():
    """And numbers may be arrays that are not known before the program runs, as `optax.inject_hyperparams` makes them."""
    x, y = LIKE
    options = {"momentum": 0.0, "samples": None, "largest": 3}

    @jax.jit
    def step(rate, damping):
        numbers = {"learning_rate": rate, "damping": damping, "min_damping": damping}
        made = jn.kfac(f, jn.cross_entropy, LIKE, **options, **numbers)
        return made.update(gradient_of(PARAMS, x, y), made.init(PARAMS), PARAMS, x=x, targets=y)[0]

    _, g, _, dense = pieces(PARAMS, x, y)
    close(vector(step(0.5, 0.2)), -0.5 * vector(g) / (np.diag(dense) + 0.2))


def features(w, x):
    return jn.linear(jnp.concatenate([x, x**2], 1), w)


def test_a_linear_model_with_normal_noise_is_solved_in_one_step():
    x, y, w = r(9, 2), r(9, 2), r(2, 4)
    options = {"learning_rate": 1.0, "momentum": 0.0, "damping": 1e-22, "samples": None, "adapt_every": None}
    optimizer = jn.kfac(features, jn.squared_error, (x, y), **options)
    gradient = jax.grad(lambda w: jn.squared_error(features(w, x), y).mean())(w)
    updates, state = jax.jit(optimizer.update)(gradient, optimizer.init(w), w, x=x, targets=y)
    close(w + updates, np.linalg.lstsq(np.concatenate([x, x**2], 1), y)[0].T, 1e-9)
    close(state.damping, 1e-22)


def test_damping_follows_how_well_the_model_foresees_the_loss():
    """It shrinks where the loss is quadratic, and grows for a step that is much too long."""
    x, y, w = r(9, 2), r(9, 2), r(2, 4)
    gradient = jax.grad(lambda w: jn.squared_error(features(w, x), y).mean())(w)
    found = []
    for rate in (1.0, 1.9):
        optimizer = jn.kfac(
            features,
            jn.squared_error,
            (x, y),
            learning_rate=rate,
            momentum=0.0,
            damping=1e-2,
            min_damping=1e-3,
            adapt_every=1,
            samples=None,
        )
        state = optimizer.init(w)
        found.append(float(jax.jit(optimizer.update)(gradient, state, w, x=x, targets=y)[1].damping))
    close(found[0], 1e-2 * 0.95)

    def cubes(w, x):
        return features(w, x) ** 3

    small = 0.1 * w
    far = jn.kfac(cubes, jn.squared_error, (x, y), momentum=0.0, damping=1e-2, adapt_every=1, samples=None)
    steep = jax.grad(lambda w: jn.squared_error(cubes(w, x), y).mean())(small)
    close(jax.jit(far.update)(steep, far.init(w), small, x=x, targets=y)[1].damping, 1e-2 / 0.95)


def convnet(params, x):
    x = jn.max_pool(jn.tanh(jn.conv(x, params["k"], params["c"])), kernel_size=2)
    return jn.linear(jn.layer_norm(jn.flatten(x), params["gain"], params["shift"]), params["w"])


@functools.cache
def small_training():
    """A scan of K-FAC over keys, in bfloat16, with convolutions, norms and samples."""
    x, y = jnp.asarray(r(6, 1, 4, 4), jnp.bfloat16), jnp.array([0, 1, 0, 1, 1, 0])
    shapes = {"k": (2, 1, 3, 3), "c": (2,), "gain": (2,), "shift": (2,), "w": (2, 2)}
    params = {name: jnp.asarray(r(*shape), jnp.bfloat16) for name, shape in shapes.items()}
    optimizer = jn.kfac(convnet, jn.cross_entropy, (x, y), learning_rate=0.05, momentum=0.5, every=2, adapt_every=2)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda params: jn.cross_entropy(convnet(params, x), y).mean())(params)
        updates, state = optimizer.update(gradient, state, params, x=x, targets=y, key=key)
        return (optax.apply_updates(params, updates), state), updates

    @jax.jit
    def train(carry, keys):
        return jax.lax.scan(step, carry, keys)

    return train, (params, optimizer.init(params))


def test_a_scan_in_bfloat16_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    train, start = small_training()
    keys = jax.random.split(jax.random.key(0), 4)
    half, updates = train(start, keys[:2])
    whole, _ = train(half, keys[2:])
    assert {a.dtype for a in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert all(np.isfinite(np.asarray(a, np.float64)).all() and np.any(a) for a in jax.tree.leaves(updates))
    assert jax.tree.leaves(whole[1].blocks)[0].dtype == jnp.float32
    checkpoint.save(tmp_path, half, {}, 2)
    found = checkpoint.load(tmp_path, half).tree
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(half), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    ended, _ = train(jax.tree.map(jnp.asarray, found), keys[2:])
    for a, b in zip(jax.tree.leaves(ended), jax.tree.leaves(whole), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_fit_hands_batches_and_keys_to_the_optimizer(tmp_path):
    """A small network learns, and a training that is resumed ends with the same bits."""
    data, model = jn.data.spiral(points=16), jn.models.mlp(6, 3)
    like = data.x[:2].astype(np.float32), data.y[:2]

    def fitted(epochs, **options):
        optimizer = jn.kfac(model.apply, jn.nll, like, learning_rate=0.1, momentum=0.5, damping=0.1)
        return jn.fit(model, jn.nll, data, optimizer, epochs=epochs, batch_size=24, checkpoint=tmp_path / "run", **options)

    fitted(2)
    resumed = fitted(4, resume=True)
    (tmp_path / "run").rename(tmp_path / "first")
    whole = fitted(4)
    assert whole.history[-1]["loss"] < 0.9 * whole.history[0]["loss"]
    for a, b in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(whole.params), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def optimizer(**options):
    return jn.kfac(f, jn.cross_entropy, LIKE, **options)


def updated(**given):
    made = optimizer(learning_rate=0.1, momentum=0.9)
    x, y = LIKE
    usual = {"params": PARAMS, "x": x, "targets": y, "key": jax.random.key(0), "state": made.init(PARAMS)} | given
    return made.update(PARAMS, usual.pop("state"), usual.pop("params"), **usual)


BAD = [
    (lambda: optimizer(damping=-1.0), ValueError, "kfac: damping must be positive"),
    (lambda: optimizer(min_damping=0.0), ValueError, "kfac: min_damping must be positive"),
    (lambda: optimizer(learning_rate=-1.0), ValueError, "kfac: learning_rate must be positive"),
    (lambda: optimizer(momentum=1.5), ValueError, "kfac: momentum must be between 0 and 1"),
    (lambda: optimizer(decay=2.0), ValueError, "kfac: decay must be between 0 and 1"),
    (lambda: optimizer(every=0), ValueError, "kfac: every must be at least 1"),
    (lambda: optimizer(adapt_every=0), ValueError, "kfac: adapt_every must be at least 1"),
    (lambda: optimizer(samples=0), ValueError, "kfac: samples must be at least 1"),
    (lambda: optimizer(kl_clip=1e-3), ValueError, "kfac: kl_clip bounds steps of a given learning_rate"),
    (lambda: optimizer(curvature="empirical"), ValueError, r"kfac: curvature must be one of \('fisher', 'ggn'\)"),
    (lambda: optimizer(sharing="all").init(PARAMS), ValueError, "kfac: sharing must be one of"),
    (lambda: jn.kfac(f, jn.cross_entropy, LIKE[0]), TypeError, r"kfac: like must be a pair \(x, targets\)"),
    (lambda: jn.kfac(f, jn.absolute_error, (LIKE[0], LIKE[0])).init(PARAMS), TypeError, "is no negative log-likelihood"),
    (lambda: updated(params=None), TypeError, "kfac: update needs params, x= and targets="),
    (lambda: updated(x=None), TypeError, "kfac: update needs params, x= and targets="),
    (lambda: updated(targets=None), TypeError, "kfac: update needs params, x= and targets="),
    (lambda: updated(key=None), TypeError, "kfac: key must be a key of jax.random, got None"),
    (lambda: updated(state=None), TypeError, r"kfac: state must be what init\(params\) returns"),
    (
        lambda: updated(x=np.zeros((0, 3)), targets=LIKE[1][:0]),
        jn.ShapeError,
        r"kfac: x has shape \(0, 3\), a batch without",
    ),
]


@pytest.mark.parametrize("call, error, message", BAD)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
