"""Scalar programs of the elimination literature, written from their formulae: functions of one vector, entry by entry.

Orders of vertex elimination are compared on such programs in Lohoff and Neftci, Optimizing Automatic Differentiation with
Deep Reinforcement Learning, https://arxiv.org/abs/2406.05027.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

GAMMA = 1.4  # the ratio of specific heats of air


def roe_flux(states, momenta: int):
    """The flux along the first axis between two cells of a gas by Roe's approximate solver, J. Comput. Phys. 43 (1981).

    A state is the density, one to three momenta, and the energy; `states` has that on the left, then that on the right.
    The waves are those of Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, section 11.2.
    """
    entries = list(states)
    left, right = (_side(entries[i : i + momenta + 2]) for i in (0, momenta + 2))
    (density_l, speeds_l, pressure_l, enthalpy_l, root_l, flux_l) = left
    (density_r, speeds_r, pressure_r, enthalpy_r, root_r, flux_r) = right
    total = root_l + root_r
    u, *cross = [(root_l * a + root_r * b) / total for a, b in zip(speeds_l, speeds_r, strict=True)]
    enthalpy = (root_l * enthalpy_l + root_r * enthalpy_r) / total
    density = root_l * root_r
    kinetic = 0.5 * sum(v * v for v in cross) + 0.5 * u * u if cross else 0.5 * u * u
    sound2 = (GAMMA - 1) * (enthalpy - kinetic)
    sound = jnp.sqrt(sound2)
    jump_u, *jump_cross = [b - a for a, b in zip(speeds_l, speeds_r, strict=True)]
    jump_p = pressure_r - pressure_l
    slow = jnp.abs(u - sound) * (jump_p - density * sound * jump_u) / (2 * sound2)
    fast = jnp.abs(u + sound) * (jump_p + density * sound * jump_u) / (2 * sound2)
    middle = jnp.abs(u)
    entropy = middle * (density_r - density_l - jump_p / sound2)
    shears = [middle * density * jump for jump in jump_cross]
    waves = [
        slow + entropy + fast,
        slow * (u - sound) + entropy * u + fast * (u + sound),
        *((slow + entropy + fast) * v + shear for v, shear in zip(cross, shears, strict=True)),
        slow * (enthalpy - u * sound)
        + entropy * kinetic
        + fast * (enthalpy + u * sound)
        + sum(v * shear for v, shear in zip(cross, shears, strict=True)),
    ]
    return jnp.stack([0.5 * (a + b - wave) for a, b, wave in zip(flux_l, flux_r, waves, strict=True)])


def _side(state):
    """Density, speeds, pressure, enthalpy, the root of the density, and the flux of one side."""
    density, *momenta, energy = state
    speeds = [m / density for m in momenta]
    pressure = (GAMMA - 1) * (energy - 0.5 * sum(m * v for m, v in zip(momenta, speeds, strict=True)))
    enthalpy = (energy + pressure) / density
    u = speeds[0]
    flux = [momenta[0], momenta[0] * u + pressure, *(m * u for m in momenta[1:]), u * (energy + pressure)]
    return density, speeds, pressure, enthalpy, jnp.sqrt(density), flux


def robot_arm(angles):
    """Place, roll, pitch and yaw of a PUMA 560's hand by its six joints: Craig, Introduction to Robotics, section 3.7."""
    a2, a3, d3, d4 = 0.4318, 0.0203, 0.15, 0.4318
    t1, t2, t3, t4, t5, t6 = angles
    (c1, s1), (c2, s2), (c4, s4), (c5, s5), (c6, s6) = [(jnp.cos(t), jnp.sin(t)) for t in (t1, t2, t4, t5, t6)]
    c23, s23 = jnp.cos(t2 + t3), jnp.sin(t2 + t3)
    bent = c4 * c5 * c6 - s4 * s6
    inner = c23 * bent - s23 * s5 * c6
    side = s4 * c5 * c6 + c4 * s6
    r11, r21, r31 = c1 * inner + s1 * side, s1 * inner - c1 * side, -s23 * bent - c23 * s5 * c6
    r32 = s23 * (c4 * c5 * s6 + s4 * c6) + c23 * s5 * s6
    r33 = s23 * c4 * s5 - c23 * c5
    reach = a2 * c2 + a3 * c23 - d4 * s23
    place = c1 * reach - d3 * s1, s1 * reach + d3 * c1, -a3 * s23 - a2 * s2 - d4 * c23
    return jnp.stack([*place, jnp.arctan2(r32, r33), jnp.arctan2(-r31, jnp.sqrt(r11**2 + r21**2)), jnp.arctan2(r21, r11)])


def human_heart_dipole(x):
    """The residuals of two dipoles in the heart: Averick and others, The MINPACK-2 Test Problem Collection, 1992."""
    a, b, c, d, t, u, v, w = x
    sums = (0.485, -0.0019, -0.0581, 0.015, 0.105, 0.0406, 0.167, -0.399)
    tv, uw, t2, u2, v2, w2 = t * v, u * w, t**2, u**2, v**2, w**2
    first, second = t2 - v2, u2 - w2
    t3, v3, u3, w3 = t * (t2 - 3 * v2), v * (v2 - 3 * t2), u * (u2 - 3 * w2), w * (w2 - 3 * u2)
    found = (
        a + b,
        c + d,
        t * a + u * b - v * c - w * d,
        v * a + w * b + t * c + u * d,
        a * first - 2 * c * tv + b * second - 2 * d * uw,
        c * first + 2 * a * tv + d * second + 2 * b * uw,
        a * t3 + c * v3 + b * u3 + d * w3,
        c * t3 - a * v3 + d * u3 - b * w3,
    )
    return jnp.stack([value - given for value, given in zip(found, sums, strict=True)])


def propane_combustion(x):
    """The residuals of the equilibrium of propane burning in air, in full: The MINPACK-2 Test Problem Collection, 1992."""
    x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11 = x
    pressure, air = 40.0, 10.0
    k5, k6, k7, k8, k9, k10 = 1.930e-1, 2.597e-3, 3.448e-3, 1.799e-5, 2.155e-4, 3.846e-5
    ratio = pressure / x11
    root, root1, root2, root3, root4 = map(jnp.sqrt, (ratio, x1, x2, x3, x4))
    return jnp.stack([
        x1 + x4 - 3,
        2 * x1 + x2 + x4 + x7 + x8 + x9 + 2 * x10 - air,
        2 * x2 + 2 * x5 + x6 + x7 - 8,
        2 * x3 + x9 - 4 * air,
        k5 * x2 * x4 - x1 * x5,
        k6 * root2 * root4 - root1 * x6 * root,
        k7 * root1 * root2 - root4 * x7 * root,
        k8 * x1 - x4 * x8 * ratio,
        k9 * x1 * root3 - x4 * x9 * root,
        k10 * x1**2 - x4**2 * x10 * ratio,
        x11 - (x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10),
    ])  # fmt: skip


def black_scholes(x):
    """Price of a European call and its first derivatives, delta, vega, theta and rho, and gamma: Hull, chapter 19.

    By spot price, strike, interest rate, volatility and time; their Jacobian has second and third derivatives of the price.
    """
    spot, strike, rate, volatility, time = x
    root = jnp.sqrt(time)
    width = volatility * root
    d1 = (jnp.log(spot / strike) + (rate + 0.5 * volatility**2) * time) / width
    d2 = d1 - width
    delta, density = norm.cdf(d1), norm.pdf(d1)
    discounted = strike * jnp.exp(-rate * time)
    sold = discounted * norm.cdf(d2)
    price = spot * delta - sold
    gamma = density / (spot * width)
    vega = spot * density * root
    theta = -0.5 * spot * density * volatility / root - rate * sold
    return jnp.stack([price, delta, vega, theta, time * sold, gamma])


@dataclasses.dataclass(frozen=True)
class ScalarProgram:
    """A function of one vector, and points in the box between `low` and `high`."""

    function: Callable
    low: tuple[float, ...]
    high: tuple[float, ...]

    def points(self, count: int) -> np.ndarray:
        """Points [count, n], in float64."""
        return np.random.default_rng(0).uniform(self.low, self.high, (count, len(self.low)))


def _gas(momenta: int) -> ScalarProgram:
    low, high = (1.0, *[-0.5] * momenta, 2.0), (2.0, *[0.5] * momenta, 4.0)
    return ScalarProgram(lambda states: roe_flux(states, momenta), low * 2, high * 2)


PROGRAMS = {
    "Roe flux, 1-d": _gas(1),
    "Roe flux, 3-d": _gas(3),
    "robot arm": ScalarProgram(robot_arm, (0.2,) * 6, (1.2,) * 6),
    "human heart dipole": ScalarProgram(human_heart_dipole, (-1.0,) * 8, (1.0,) * 8),
    "propane combustion": ScalarProgram(propane_combustion, (0.5,) * 11, (2.0,) * 11),
    "Black-Scholes": ScalarProgram(black_scholes, (80.0, 80.0, 0.01, 0.1, 0.5), (120.0, 120.0, 0.05, 0.4, 2.0)),
}
