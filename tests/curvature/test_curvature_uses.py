"""What curvature is asked for: uncertainty, influence, an optimizer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn

from ..computing import close, numbers

X, NOISE, PRIOR = numbers((7, 3), 1), 0.3, 0.8


def features(w, x):
    """Linear in its parameters: the Laplace posterior is the exact one."""
    return jnp.concatenate([x, x**2], 1) @ w


def ridge(prior, x, y, scale):
    """Weights that minimise scale·Σ (Φw − y)² + prior/2·‖w‖², by NumPy, and the Hessian of that."""
    phi = np.concatenate([x, x**2], 1)
    hessian = 2 * scale * phi.T @ phi + prior * np.eye(6)
    return np.linalg.solve(hessian, 2 * scale * phi.T @ y), hessian


@pytest.mark.parametrize("count", [4, 7], ids=["fewer outputs", "fewer parameters"])
def test_laplace_is_the_exact_posterior_of_a_linear_model(count):
    x, y, at = X[:count], numbers((count, 1), 2), numbers((5, 3), 3)
    scale = 1 / (2 * NOISE**2)
    w, precision = ridge(PRIOR, x, y, scale)
    make = jn.laplace(features, jn.squared_error, prior_precision=PRIOR, scale=scale)

    def compute(w, x, y, at):
        posterior = make(w, x, y)
        return posterior.covariance(at).reshape(5, 5), posterior.variance(at), posterior.log_evidence()

    found, variance, found_evidence = jax.jit(compute)(w, x, y, at)
    phi = np.concatenate([at, at**2], 1)
    covariance = phi @ np.linalg.inv(precision) @ phi.T
    close(found, covariance)
    close(variance, np.diag(covariance)[:, None])
    whole = np.concatenate([x, x**2], 1)
    marginal = np.eye(count) * NOISE**2 + whole @ whole.T / PRIOR  # of the targets
    evidence = -0.5 * (y.T @ np.linalg.solve(marginal, y)).item() - 0.5 * np.linalg.slogdet(2 * np.pi * marginal)[1]
    constant = -0.5 * count * np.log(2 * np.pi * NOISE**2)  # of the loss
    close(found_evidence, evidence - constant)


def test_evidence_tells_priors_apart():
    x = np.linspace(-1, 1, 20)[:, None].repeat(3, 1) * [1, 0, 0]
    y = x[:, :1] * 0.5 + NOISE * numbers((20, 1), 5)
    found = {}
    for prior in (1e-4, 1.0, 1e4):
        w, _ = ridge(prior, x, y, 1 / (2 * NOISE**2))
        make = jn.laplace(features, jn.squared_error, prior_precision=prior, scale=1 / (2 * NOISE**2))
        found[prior] = jax.jit(lambda *args, make=make: make(*args).log_evidence())(w, x, y)
    assert max(found, key=found.get) == 1.0


def test_posteriors_pass_through_jit():
    w, y = numbers((6, 1), 4), numbers((7, 1), 2)
    posterior = jax.jit(jn.laplace(features, jn.squared_error, prior_precision=PRIOR))(w, X, y)
    other = dataclasses.replace(posterior, prior_precision=2.0)
    less, usual = jax.jit(lambda *posteriors: [posterior.variance(X) for posterior in posteriors])(other, posterior)
    assert np.all(np.asarray(less) < np.asarray(usual))


@pytest.mark.parametrize("count", [4, 7], ids=["fewer outputs", "fewer parameters"])
def test_influence_is_what_training_without_an_example_does(count):
    x, y, at = X[:count], numbers((count, 1), 2), numbers((5, 3), 3)
    damping = 60.0  # no example weighs much, so that first order is close to the truth
    w, hessian = ridge(damping, x, y, 1.0)
    found = np.asarray(jax.jit(jn.influence(features, jn.squared_error, damping=damping))(w, at, x, y))
    assert found.shape == (5, 1, count)
    move = jax.jit(lambda without, w, at: features(without, at) - features(w, at))
    phi = np.concatenate([x, x**2], 1)
    gradients = 2 * (phi @ w - y) * phi
    close(found[:, 0], np.concatenate([at, at**2], 1) @ np.linalg.solve(hessian, gradients.T))
    for n in range(count):
        rest = np.arange(count) != n
        without, _ = ridge(damping, x[rest], y[rest], 1.0)
        moved = move(without, w, at)
        close(found[..., n], moved, 0.5)
        assert np.corrcoef(np.ravel(found[..., n]), np.ravel(moved))[0, 1] > 0.99


def spiral_losses(make, steps):
    """The average loss on the spiral, step by step."""
    data = jn.data.spiral(points=60)
    x, y, model = np.asarray(data.x, np.float32), np.asarray(data.y), jn.models.mlp(40, 3)
    optimizer = make(model.apply)
    params = jax.jit(lambda key: model.init(key, (2,)))(jax.random.key(0))

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(lambda p: jn.cross_entropy(model.apply(p, x), y).mean())(params)
        updates, state = optimizer.update(gradient, state, params, x=x, targets=y)
        return optax.apply_updates(params, updates), state, value

    state, losses = jax.jit(optimizer.init)(params), []
    for _ in range(steps):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses


def test_natural_gradient_beats_adam_step_by_step_on_the_spiral():
    steps = 25
    ours = spiral_losses(lambda f: jn.natural_gradient(f, jn.cross_entropy), steps)
    adam = [
        spiral_losses(lambda f, rate=rate: optax.with_extra_args_support(optax.adam(rate)), steps)
        for rate in (0.01, 0.03, 0.1, 0.3, 1.0)
    ]
    for k in (5, 10, steps - 1):
        assert ours[k] < 0.6 * min(losses[k] for losses in adam)
    assert all(b <= a for a, b in zip(ours, ours[1:], strict=False)), "a step that does not help is not taken"


@pytest.mark.parametrize("curvature", ["ggn", "fisher", "empirical"])
def test_natural_gradient_divides_by_the_curvature(curvature):
    w, y = numbers((6, 1), 4), numbers((7, 1), 2)
    optimizer = jn.natural_gradient(features, jn.squared_error, learning_rate=0.5, damping=0.3, curvature=curvature)

    @jax.jit
    def compute(w, y):
        gradient = jax.grad(lambda w: jn.squared_error(features(w, X), y).mean())(w)
        return gradient, *optimizer.update(gradient, optimizer.init(w), w, x=X, targets=y)

    gradient, updates, state = compute(w, y)
    phi = np.concatenate([X, X**2], 1)
    rows = 2 * (phi @ w - y) * phi if curvature == "empirical" else np.sqrt(2) * phi
    close(updates, -0.5 * np.linalg.solve(rows.T @ rows / 7 + 0.3 * np.eye(6), gradient))
    close(state.damping, 0.1)


def test_natural_gradient_tries_more_damping_and_stands_still_where_nothing_helps():
    w, y = numbers((6, 1), 4), numbers((7, 1), 2)
    far = jn.natural_gradient(features, jn.squared_error, learning_rate=4.0, damping=1e-3)

    @jax.jit
    def compute(w, y):
        gradient = jax.grad(lambda w: jn.squared_error(features(w, X), y).mean())(w)
        updates, state = far.update(gradient, far.init(w), w, x=X, targets=y)
        return updates, state, *far.update(-gradient, far.init(w), w, x=X, targets=y)

    updates, state, up, stuck = compute(w, y)
    powers = np.log(np.asarray(state.damping) * 3 / 1e-3) / np.log(4)
    assert np.any(updates) and powers >= 1 and abs(powers - round(float(powers))) < 1e-6
    assert not np.any(up)
    close(stuck.damping, 1e-3 * 4**7)


BAD = [
    (lambda: jn.laplace(features, jn.squared_error, prior_precision=0.0), ValueError, "prior_precision must be positive"),
    (lambda: jn.influence(features, jn.squared_error, damping=-1.0), ValueError, "damping must be positive"),
    (lambda: jn.natural_gradient(features, jn.nll, curvature="exact"), ValueError, "curvature must be one of"),
    (lambda: jn.natural_gradient(features, jn.nll, damping=0), ValueError, "damping must be positive"),
    (lambda: jn.natural_gradient(features, jn.nll).update(X, None, X), TypeError, "update needs params, x= and targets="),
]


@pytest.mark.parametrize("call, error, message", BAD)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
