"""Functions that stay accurate where the textbook form, or XLA's own function, loses digits.

In units of the last place (ULP) the errors of XLA's expm1 and tanh reach 6 and 7, those of its erfc hundreds in the tail,
and a product like x·exp(x) loses all digits where exp(x) alone is subnormal.  Here errors stay around 4, those of gelu below
12.
"""

import math
from functools import reduce

import jax.numpy as jnp
import numpy as np
from numpy.polynomial.polynomial import polyadd, polymulx

LIMIT = {"float32": 100.0, "float64": 730.0}  # from there on even 1000·exp(−x) is 0


def minus_abs(x):
    """−|x|, whose derivative at x = 0 autodiff does not take for 0."""
    return jnp.where(x < 0, x, -x)


def nan_unless(condition, dtype):
    """0 where the condition holds, else NaN.  Where all is well no NaN is written, which `jax_debug_nans` would report."""
    return jnp.sqrt(jnp.where(condition, 0, -1).astype(dtype))


def bounded(x):
    """x limited to the range in which exp(−|x|) is not 0, so that there is no ∞·0."""
    limit = LIMIT[x.dtype.name]
    return jnp.clip(x, -limit, limit)


def polynomial(coefficients, x):
    """Σ_k coefficients[k] x^k."""
    return reduce(lambda total, c: c + x * total, reversed(coefficients))


def distance(x, zero, rest):
    """x − (zero + rest) without loss of digits; `rest` is the part of the constant that a float64 `zero` lacks."""
    near = np.asarray(zero, x.dtype)
    far = np.asarray(zero - float(near) + rest, x.dtype)
    return (x - near) - jnp.where(x == x, far, 0)  # XLA would merge two constants


def split_exp(a):
    """e and m with exp(a) = e·m, for a ≤ 0.  A product with first one and then the other does not underflow early."""
    deep = a < -40
    e = jnp.exp(jnp.where(deep, a / 2, a))
    return e, jnp.where(deep, e, 1)


# Hyperbolic functions.  The continued fraction tanh x = x / (1 + x²/(3 + x²/(5 + …))) is cut off after some steps.  It gives
# tanh x = x·N₂/N₁ and x − tanh x = x³·N₃/N₁ with polynomials in x² whose coefficients are positive.


def _continued_fraction(steps):
    numerators = [[1.0], [2.0 * steps - 1]]
    for k in range(steps - 1, 0, -1):
        numerators.append(polyadd(np.multiply(2 * k - 1, numerators[-1]), polymulx(numerators[-2])))
    n3, n2, n1 = numerators[-3:]
    return [(n / n3[0]).tolist() for n in (n1, n2, n3)]


FRACTION = {"float32": _continued_fraction(7), "float64": _continued_fraction(10)}
COSH = [4.0**k / math.factorial(2 * k) for k in range(1, 12)]  # cosh 2x − 1 = x²·Σ_k COSH[k] x^2k


def _near_zero(x, limit):
    """Where |x| is below the limit, and an array that is x there and 0 elsewhere."""
    near = jnp.abs(x) < limit
    return near, jnp.where(near, x, 0)


def expm1(x, scale=1.0, rate=1.0):
    """scale·(exp(x/rate) − 1); near 0 it is computed from exp(r) − 1 = 2t / (1 − t) with t = tanh(r/2)."""
    r = x / rate
    near, z = _near_zero(r, 0.7)
    return jnp.where(near, small_expm1(z, jnp.where(near, x, 0) * (scale / rate)), scale * (jnp.exp(r) - 1))


def small_expm1(z, factor=None):
    """exp(z) − 1 for |z| < 0.7; with a `factor`, that times the factor over z."""
    n1, n2, _ = FRACTION[z.dtype.name]
    s = jnp.square(z) / 4
    p = polynomial(n2, s)
    return (z if factor is None else factor) * p / (polynomial(n1, s) - z * p / 2)


def tanh(x):
    near, z = _near_zero(x, 0.6)
    n1, n2, _ = FRACTION[x.dtype.name]
    s = jnp.square(z)
    q = jnp.exp(2 * minus_abs(x))
    far = 1 - 2 * q / (1 + q)
    return jnp.where(near, z * (polynomial(n2, s) / polynomial(n1, s)), jnp.where(x < 0, -far, far))


def tanh_squared(x):
    near, z = _near_zero(x, 0.9)
    s = jnp.square(z)
    c = s * polynomial(COSH, s)
    q = jnp.exp(2 * minus_abs(x))
    return jnp.where(near, c / (2 + c), 1 - 4 * q / jnp.square(1 + q))


def tanh_derivative(x):
    """1 − tanh²(x) = 4q / (1 + q)²,  q = exp(−2|x|)."""
    e, m = split_exp(2 * minus_abs(x))
    q = e * m
    return 4 * e * m / (1 + q * (2 + q))


def x_minus_tanh(x):
    near, z = _near_zero(x, 1.5)
    n1, _, n3 = FRACTION[x.dtype.name]
    s = jnp.square(z)
    return jnp.where(near, z * (s * (polynomial(n3, s) / polynomial(n1, s))), x - tanh(x))


# The logistic function σ.


def sigmoid_derivative(x, factor=1.0):
    """factor · σ(x) σ(−x) = factor · q / (1 + q)²,  q = exp(−|x|)."""
    e, m = split_exp(minus_abs(x))
    q = e * m
    return factor * e * m / (1 + q * (2 + q))


def times_sigmoid(factor, x):
    """factor · σ(x)."""
    e, m = split_exp(minus_abs(x))
    return jnp.where(x < 0, factor * e * m, factor) / (1 + e * m)


def cubic(x, scale, bend):
    """scale·(x + bend·x³)."""
    return bounded(x * (scale + (scale * bend) * jnp.square(x)))


def gate_derivative(x, zero, scale=1.0, bend=0.0):
    """d/dx x σ(v) = σ(v) (1 + x v' σ(−v)) with v = scale·(x + bend·x³).

    For x < 0 it is N e / (1 + e)² with e = exp(v), N = 1 + x v' + e.  Around the zero x₀ of N, with u = x − x₀ and
    s = x² + x x₀ + x₀², no digits cancel in N = u·scale·(1 + 3 bend·s) + exp(v₀)·expm1(u·scale·(1 + bend·s)).
    """
    x = bounded(x)
    v = cubic(x, scale, bend)
    e, m = split_exp(minus_abs(v))
    q = e * m
    z = x * (scale + (3 * scale * bend) * jnp.square(x))
    near, u = _near_zero(distance(x, *zero), 0.4)
    x0 = sum(zero)
    s = bend * (jnp.square(x) + x0 * x + x0**2)
    rise = u * scale * (1 + 3 * s) + math.exp(scale * (x0 + bend * x0**3)) * small_expm1(u * scale * (1 + s))
    n = jnp.where(near, rise, 1 + z + q)
    return jnp.where(x < 0, n * e * m, 1 + q * (1 + z)) / (1 + q * (2 + q))


SILU_ZERO = (-1.2784645427610737, -1.0946994183093437e-16)


def silu_derivative(x):
    """σ(x) (1 + x σ(−x))."""
    return gate_derivative(x, SILU_ZERO)


GELU_SCALE, GELU_BEND = math.sqrt(8 / math.pi), 0.044715
TANH_GELU_ZERO = (-0.7524614220710163, 3.635560509207687e-17)


def tanh_gelu(x):
    """x σ(v) = x (1 + tanh(v/2)) / 2 with v = √(8/π) (x + 0.044715 x³)."""
    return times_sigmoid(jnp.maximum(x, -LIMIT[x.dtype.name]), cubic(x, GELU_SCALE, GELU_BEND))


def tanh_gelu_derivative(x):
    return gate_derivative(x, TANH_GELU_ZERO, GELU_SCALE, GELU_BEND)


def mish(x):
    """x tanh(log(1 + exp(x))) = x (1 − 2 / (1 + (1 + exp(x))²))."""
    x = jnp.maximum(x, -LIMIT[x.dtype.name])
    e, m = split_exp(minus_abs(x))
    q = e * m
    return jnp.where(x < 0, x * e * m * (1 - q * (1 + q) / (2 + q * (2 + q))), x * (1 - 2 * q * q / (1 + 2 * q * (1 + q))))


MISH_ZERO = (-1.1924312145154952, -4.8484829848031044e-17)
_E = math.exp(sum(MISH_ZERO))
MISH = [
    2 * _E * (3 + 2 * sum(MISH_ZERO)) + 8 * _E**2 + 3 * _E**3,
    4 * _E**2 + 3 * _E**3,
    _E**3,
]


def mish_derivative(x):
    """e·ω / (1 + (1 + e)²)²,  e = exp(x),  ω = 4 (1 + x) + e (6 + 4x) + 4e² + e³.

    Around its zero x₀, with u = x − x₀ and w = expm1(u), no digits cancel in ω = w·(polynomial in w) + 4u (1 + e).
    """
    x = bounded(x)
    e, m = split_exp(minus_abs(x))
    q = e * m
    u = distance(x, *MISH_ZERO)
    near, v = _near_zero(u, 0.4)
    w = small_expm1(v)
    omega = jnp.where(near, w * polynomial(MISH, w) + 4 * v * (1 + q), 4 * (1 + x) + q * (6 + 4 * x + q * (4 + q)))
    below = omega * e * m / (4 + q * (8 + q * (8 + q * (4 + q))))
    c = 1 + 2 * q * (1 + q)
    return jnp.where(x < 0, below, 1 + 2 * q * q * (2 * x * (1 + q) / c - 1) / c)


# The normal distribution.  Φ(−a) = exp(−a²/2)·P(a)/Q(a) for 0 ≤ a ≤ 40, with an error of 5e-18: P and Q interpolate it at 22
# points, which are denser where it bends.  With φ = Φ', the derivative of xΦ(x) at −a is Φ(−a) − aφ(a), which is
# exp(−a²/2)·R(a)/Q(a).

P = [
    0.5, 0.8397238516497012, 0.6982727602091924, 0.37192452783763086, 0.13928366284975416, 0.03816139660020786,
    0.007739168579230838, 0.001149051027146752, 0.00012005960001504811, 8.035499103095841e-06, 2.653253973520101e-07,
]  # fmt: skip
Q = [
    1.0, 2.4773322641022686, 2.873170685924359, 2.063602974742614, 1.0223739910768512, 0.36793634334707037,
    0.09849639564512642, 0.019698833422242146, 0.0029003858029829008, 0.00030160986018029965, 2.014200925260325e-05,
    6.650721429802094e-07,
]  # fmt: skip
PHI_0 = 1 / math.sqrt(2 * math.pi)
R = [p - q * PHI_0 for p, q in zip([*P, 0.0, 0.0], [0.0, *Q], strict=True)]
GELU_ZERO = (0.7517915246935645, -1.4956759177009883e-17)


def _around_gelu_zero(count):
    """Coefficients c with R/Q = Σ_k c[k] u^(k+1) at GELU_ZERO + u: M = Φ(−a)/φ(a) obeys M' = aM − 1, and M(a) = a there."""
    a = sum(GELU_ZERO)
    m = [a, a * a - 1]
    for k in range(1, count):
        m.append(a * m[k] + k * m[k - 1])
    return [PHI_0 * (m[k] / math.factorial(k) - (k == 1)) for k in range(1, count + 1)]


AROUND_GELU_ZERO = _around_gelu_zero(18)


def _times_gaussian(factor, a):
    """factor · exp(−a²/2) for a ≥ 0.  A part of a that has few digits is squared without rounding."""
    part = jnp.round(a * 64) / 64
    e, m = split_exp(-jnp.square(part) / 2)
    return e * (factor * jnp.exp((part - a) * (part + a) / 2)) * m


def gelu(x):
    """x Φ(x)."""
    a = jnp.minimum(-minus_abs(x), 40)
    y = _times_gaussian(a * (polynomial(P, a) / polynomial(Q, a)), a)
    return jnp.where(x < 0, -y, x - y)


def gelu_derivative(x):
    """Φ(x) + x φ(x)."""
    a = jnp.minimum(-minus_abs(x), 40)
    u = distance(a, *GELU_ZERO)
    near, v = _near_zero(u, 0.35)
    ratio = jnp.where(near, v * polynomial(AROUND_GELU_ZERO, v), polynomial(R, a) / polynomial(Q, a))
    y = _times_gaussian(ratio, a)
    return jnp.where(x < 0, y, 1 - y)
