"""Gauss-Newton by conjugate gradients against dense solutions by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.learn import checkpoint

from ..computing import close
from .nets import Draws
from .test_kfac_optimizer import BATCHES, LIKE, PARAMS, f, features, gradient_of, pieces, vector

r = Draws(12)
STEP = {"params": PARAMS, "x": LIKE[0], "targets": LIKE[1]}


def stepped(optimizer, key=None, params=PARAMS, batch=LIKE, state=None):
    """The updates and the state after one step."""
    x, y = batch

    @jax.jit
    def step(params, state):
        return optimizer.update(gradient_of(params, x, y), state, params, x=x, targets=y, key=key)

    return step(params, optimizer.init(params) if state is None else state)


def dense_step(damping, batch=LIKE):
    _, gradient, _, matrix = pieces(PARAMS, *batch)
    return -np.linalg.solve(matrix + damping * np.eye(len(matrix)), vector(gradient))


@pytest.mark.parametrize("preconditioner, samples", [(None, None), ("diagonal", 1), ("kfac", None)])
def test_conjugate_gradients_reach_the_dense_solution(preconditioner, samples):
    """With every preconditioner, and then at once from where the step before ended."""
    options = {"iterations": 80, "tolerance": 0.0, "warm_start": 1.0, "adapt": False, "learning_rate": 0.5}
    made = jn.gauss_newton_cg(f, jn.cross_entropy, damping=0.05, preconditioner=preconditioner, samples=samples, **options)
    key = None if samples is None else jax.random.key(0)
    updates, state = stepped(made, key)
    expected = dense_step(0.05)
    close(vector(state.solution), expected, 1e-8)
    close(vector(updates), 0.5 * expected, 1e-8)
    assert 5 < state.iterations <= 80
    again = stepped(made, key, state=state)[1]
    assert again.iterations < 0.5 * state.iterations
    close(vector(again.solution), expected, 1e-8)


def test_a_loose_tolerance_ends_early_by_the_progress_of_the_model():
    """After the first iteration in which the last ten improved the model by less than the tolerance for each of them."""
    damping, tolerance = 1e-4, 0.02
    _, gradient, _, matrix = pieces(PARAMS, *LIKE)
    matrix, b = matrix + damping * np.eye(len(matrix)), -vector(gradient)
    v, residual, values = np.zeros_like(b), b, [0.0]
    along = residual
    while not (len(values) > 11 and values[-11] - values[-1] <= -values[-1] * 10 * tolerance):
        rate = residual @ residual / (along @ matrix @ along)
        v, new = v + rate * along, residual - rate * (matrix @ along)
        along, residual = new + (new @ new) / (residual @ residual) * along, new
        values.append(v @ matrix @ v / 2 - b @ v)
    count = len(values) - 1
    assert 10 < count < 60
    options = {"damping": damping, "iterations": 60, "adapt": False, "learning_rate": 0.01}
    state = stepped(jn.gauss_newton_cg(f, jn.cross_entropy, tolerance=tolerance, **options))[1]
    assert state.iterations == count
    close(vector(state.solution), v, 1e-6)
    few = stepped(jn.gauss_newton_cg(f, jn.cross_entropy, tolerance=tolerance, **(options | {"iterations": 3})))[1]
    assert few.iterations == 3


def test_a_linear_model_with_normal_noise_is_solved_in_one_step():
    x, y, w = r(9, 2), r(9, 2), r(2, 4)
    made = jn.gauss_newton_cg(features, jn.squared_error, damping=1e-12, tolerance=0.0)
    gradient = jax.grad(lambda w: jn.squared_error(features(w, x), y).mean())(w)
    updates, _ = jax.jit(made.update)(gradient, made.init(w), w, x=x, targets=y)
    close(w + updates, np.linalg.lstsq(np.concatenate([x, x**2], 1), y)[0].T, 1e-9)


def test_damping_follows_the_loss_and_a_step_that_does_not_help_is_not_taken():
    x, y, w = r(9, 2), r(9, 2), r(2, 4)

    def cubes(w, x):
        return features(w, x) ** 3

    def step(f, w, sign):
        made = jn.gauss_newton_cg(f, jn.squared_error, damping=0.1)
        gradient = jax.grad(lambda w: sign * jn.squared_error(f(w, x), y).mean())(w)
        return jax.jit(made.update)(gradient, made.init(w), w, x=x, targets=y)

    for net, at, sign, factor in ((features, w, 1.0, 1 / 1.5), (cubes, 0.1 * w, 1.0, 1.5), (features, w, -1.0, 1.5)):
        updates, state = step(net, at, sign)
        close(state.damping, 0.1 * factor)
        assert np.any(updates) == np.any(state.solution) == (factor < 1)


def test_a_scan_in_bfloat16_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    made = jn.gauss_newton_cg(f, jn.cross_entropy, iterations=5, preconditioner="kfac")
    params = {name: jnp.asarray(a, jnp.bfloat16) for name, a in PARAMS.items()}
    x = jnp.asarray(np.stack([x for x, _ in BATCHES]), jnp.bfloat16)
    y = jnp.asarray(np.stack([y for _, y in BATCHES]))

    @jax.jit
    def train(carry, seed):
        def step(carry, batch):
            (params, state), (x, y, key) = carry, batch
            updates, state = made.update(gradient_of(params, x, y), state, params, x=x, targets=y, key=key)
            return (optax.apply_updates(params, updates), state), updates

        return jax.lax.scan(step, carry, (x, y, jax.random.split(jax.random.key(seed), 3)))

    half, updates = train((params, made.init(params)), 0)
    assert {a.dtype for a in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert half[1].step == 3 and all(np.isfinite(np.asarray(a, float)).all() for a in jax.tree.leaves(half))
    checkpoint.save(tmp_path, half, {}, 3)
    found = jax.tree.map(jnp.asarray, checkpoint.load(tmp_path, half).tree)
    for a, b in zip(jax.tree.leaves(train(found, 1)), jax.tree.leaves(train(half, 1)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def optimizer(**options):
    return jn.gauss_newton_cg(f, jn.cross_entropy, **options)


def updated(**given):
    made = optimizer(preconditioner="diagonal")
    usual = STEP | {"key": jax.random.key(0), "state": made.init(PARAMS)} | given
    return made.update(PARAMS, usual.pop("state"), usual.pop("params"), **usual)


BAD = [
    (lambda: optimizer(damping=-1.0), ValueError, "gauss_newton_cg: damping must be positive"),
    (lambda: optimizer(learning_rate=0.0), ValueError, "gauss_newton_cg: learning_rate must be positive"),
    (lambda: optimizer(iterations=0), ValueError, "gauss_newton_cg: iterations must be at least 1"),
    (lambda: optimizer(tolerance=-1.0), ValueError, "gauss_newton_cg: tolerance must not be negative"),
    (lambda: optimizer(warm_start=1.1), ValueError, "gauss_newton_cg: warm_start must be between 0 and 1"),
    (lambda: optimizer(preconditioner="lu"), ValueError, "gauss_newton_cg: preconditioner must be one of.*'lu'"),
    (lambda: optimizer(samples=0), ValueError, "gauss_newton_cg: samples must be at least 1"),
    (lambda: optimizer(curvature="empirical"), ValueError, "gauss_newton_cg: curvature must be one of"),
    (lambda: updated(x=None), TypeError, "gauss_newton_cg: update needs params, x= and targets="),
    (lambda: updated(targets=None), TypeError, "gauss_newton_cg: update needs params, x= and targets="),
    (lambda: updated(key=None), TypeError, "gauss_newton_cg: key must be a key of jax.random, got None"),
    (lambda: updated(state=()), TypeError, r"gauss_newton_cg: state must be what init\(params\) returns"),
    (lambda: updated(x=np.zeros((0, 3))), jn.ShapeError, r"gauss_newton_cg: x has shape \(0, 3\), a batch without examples"),
]


@pytest.mark.parametrize("call, error, message", BAD)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
