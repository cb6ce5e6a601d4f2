"""The noise of private training has the deviation that it states, and a guide's recipe the privacy that it states."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.guide import page_texts

from .nets import same

KEY = jax.random.key(3)
SIZE = 40_000
DEVIATION = 2.5


def noise_of(privatizer, like, steps=1):
    """What is added to zeros, in each step."""
    state, found = privatizer.init(like), []
    for _ in range(steps):
        noise, state = jax.jit(privatizer.update)(jax.tree.map(jnp.zeros_like, like), state)
        found.append(noise)
    return found


def test_noise_is_normal_with_its_deviation():
    """Mean, deviation and fourth moment, each within five standard errors; leaves, steps and keys are independent."""
    like = {"a": jnp.ones((200, SIZE // 200)), "b": jnp.ones(SIZE)}
    first, second = noise_of(jn.gaussian_privatizer(stddev=DEVIATION, key=KEY), like, steps=2)
    (other,) = noise_of(jn.gaussian_privatizer(stddev=DEVIATION, key=jax.random.key(4)), like)
    drawn = [np.ravel(leaf) / DEVIATION for noise in (first, second, other) for leaf in jax.tree.leaves(noise)]
    assert all(noise.dtype == np.float64 for noise in drawn)
    for noise in drawn:
        assert abs(noise.mean()) < 5 / SIZE**0.5
        assert abs(noise.std() - 1) < 5 / (2 * SIZE) ** 0.5
        assert abs((noise**4).mean() - 3) < 5 * (96 / SIZE) ** 0.5
    correlations = np.corrcoef(drawn)
    assert np.abs(correlations - np.eye(len(drawn))).max() < 5 / SIZE**0.5


def test_noise_is_added_to_the_gradient_before_the_optimizer():
    """The dtype is the gradient's, the same key gives the same noise, and no deviation gives none."""
    gradient = (jnp.ones(3, jnp.bfloat16), jnp.arange(4.0))
    optimizer = optax.chain(jn.gaussian_privatizer(stddev=1.0, key=KEY), optax.sgd(0.5))
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    (noise,) = noise_of(jn.gaussian_privatizer(stddev=1.0, key=KEY), gradient)
    assert (updates[0].dtype, noise[0].dtype) == (jnp.bfloat16, jnp.bfloat16)
    same(updates[1], -0.5 * (gradient[1] + noise[1]))
    (none,) = noise_of(jn.gaussian_privatizer(stddev=0.0, key=KEY), gradient)
    assert not np.any(none[1])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: jn.gaussian_privatizer(stddev=-1.0, key=KEY), ValueError, "gaussian_privatizer: stddev.*-1"),
        (lambda: jn.gaussian_privatizer(stddev=math.inf, key=KEY), ValueError, "gaussian_privatizer: stddev.*inf"),
        (lambda: jn.gaussian_privatizer(stddev=1.0, key=3), TypeError, "gaussian_privatizer: key must be a key.*3"),
        (lambda: jn.gaussian_privatizer(stddev=1.0, key=KEY).update(jnp.ones(1), ()), TypeError, "state must be what init"),
        (lambda: noise_of(jn.gaussian_privatizer(stddev=1.0, key=KEY), jnp.ones(3, int)), jn.DTypeError, "has dtype int"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def renyi_divergence(order: int, rate: float, noise: float) -> float:
    """That of normal noise on a Poisson sample, of integer order (Mironov, Talwar, Zhang 2019, arXiv 1908.10530)."""
    logs = [
        math.log(math.comb(order, k)) + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * noise**2)
        for k in range(order + 1)
    ]
    return float(np.logaddexp.reduce(logs)) / (order - 1)


def test_the_recipe_is_as_private_as_it_says():
    """By a closed bound for orders that are integers, which the accountant, who tries others, too, cannot exceed by much."""
    page = page_texts()["recipes"]
    rate, steps, noise = re.search(r"rate, steps, noise = 1 / (\d+), (\d+), ([\d.]+)", page).groups()
    stated, exponent = re.search(r"\(ε, δ\) = \(([\d.]+), 10⁻([⁰-⁹])\)", page).groups()
    rate, steps, noise, delta = 1 / int(rate), int(steps), float(noise), 10.0 ** -"⁰¹²³⁴⁵⁶⁷⁸⁹".index(exponent)

    def epsilon(order):  # Canonne, Kamath, Steinke 2020, proposition 12
        return (
            steps * renyi_divergence(order, rate, noise)
            + math.log1p(-1 / order)
            - (math.log(delta) + math.log(order)) / (order - 1)
        )

    assert min(map(epsilon, range(2, 64))) == pytest.approx(float(stated), rel=0.02)
