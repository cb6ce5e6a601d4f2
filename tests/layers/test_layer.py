"""The marker of a layer: every transformation of JAX sees through it, the graph reader sees the layer."""

import functools
import importlib.util

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array, Float

import jaxnets
from tests.autodiff.programs import r
from tests.cases import FIRST

from ..sweeps import swept


def throw_away(forward):
    """A layer that is taken out of the table of all layers again: other tests run over that table."""
    layer = jaxnets.layer(forward)
    del jaxnets.LAYERS[layer.name]
    return layer


@throw_away
def wave(x: Float[Array, "... n"], w: Float[Array, "n"], shift: Float[Array, "..."] | None = None, *, power: int = 2):
    """y = sin(w x)^power + shift, a layer that is nowhere else."""
    y = jnp.sin(w * x) ** power
    return y if shift is None else y + shift[..., None]


@wave.jacobian
def _(y, x, w, shift, *, power):
    slope = power * jnp.sin(w * x) ** (power - 1) * jnp.cos(w * x)
    return (
        jaxnets.rules.diagonal(slope * w),
        jaxnets.rules.einsum("...n", "n", (slope * x, "...n")),
        jaxnets.rules.einsum("...n", "..."),
    )


@throw_away
def both(x: Float[Array, "..."], y: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two outputs: x y and x + 2 y."""
    return x * y, x + 2 * y


@both.jacobian
def _(outputs, x, y):
    assert isinstance(outputs, tuple)
    return (jaxnets.rules.diagonal(y), jaxnets.rules.diagonal(x)), (jaxnets.rules.scaled(1.0), jaxnets.rules.scaled(2.0))


def from_case(case):
    """The layer of a case and its plain forward function, by the real arguments alone."""
    args = case.values()

    def of(function):
        return lambda *real: function(*case.whole(args, real))

    forward = functools.partial(case.layer.forward, **case.config)
    return of(case.layer.of_arrays(case.config)), of(forward), [args[i] for i in case.real]


X, W, S = jax.device_put(r(3, 4)), jax.device_put(r(4)), jax.device_put(r(3))
LAYERS = {
    "throw-away": lambda: (wave, wave.forward, [X, W, S]),
    "throw-away without shift": lambda: (lambda x, w: wave(x, w, power=3), lambda x, w: wave.forward(x, w, power=3), [X, W]),
    "two outputs": lambda: (both, both.forward, [X, jnp.asarray(2 * np.asarray(X))]),
    **{name: lambda case=case: from_case(case) for name, case in FIRST.items()},
}
# One of each kind for what the marker does alike for all: arity, outputs, integers, keys, configuration.
KINDS = [
    "throw-away", "throw-away without shift", "two outputs", "relu", "softplus", "linear", "embedding", "concatenate",
    "split", "softmax", "conv", "max_pool", "batch_norm", "attention", "dropout", "cross_entropy", "gaussian_nll",
]  # fmt: skip
over_layers = pytest.mark.parametrize("name", swept(LAYERS, KINDS))


def same(ours, theirs, tolerance=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def total(f):
    return lambda *args: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(*args)))


@over_layers
def test_eager_and_jit(name):
    layer, forward, args = LAYERS[name]()
    inside, plain = jax.jit(lambda *args: (layer(*args), forward(*args)))(*args)
    same(inside, plain)
    same(layer(*args), plain)


@pytest.mark.parametrize("name", KINDS)
def test_vmap(name):
    layer, forward, args = LAYERS[name]()
    stacked = [np.stack([a, 2 * np.asarray(a)]) for a in args]
    first = (0, *[None] * (len(args) - 1))

    def mapped(f):
        return jax.vmap(f)(*stacked), jax.vmap(f, first)(stacked[0], *args[1:])

    same(*jax.jit(lambda: (mapped(layer), mapped(forward)))())


def every_transformation(f, args, hessian):
    """All that JAX can do with a function of arrays."""
    every = tuple(range(len(args)))
    y, pull = jax.vjp(f, *args)
    z, push = jax.linearize(f, *args)
    first = (0, *[None] * (len(args) - 1))

    def scanned(c):
        return lax.scan(lambda c, _: (c, f(*(a * c for a in args))), c, None, length=2)[1]

    return {
        "jacfwd": jax.jacfwd(f, every)(*args),
        "jacrev": jax.jacrev(f, every)(*args),
        "grad": jax.grad(total(f), every)(*args),
        "hessian": jax.hessian(total(f), 0)(*args) if hessian else 0.0,
        "checkpoint": jax.grad(total(jax.checkpoint(f)), every)(*args),
        "vjp": (y, pull(jax.tree.map(jnp.ones_like, y))),
        "linearize": (z, push(*args)),
        "jvp of one": jax.jvp(lambda a: f(a, *args[1:]), args[:1], args[:1]),
        "scan": scanned(1.0),
        "grad of scan": jax.grad(total(scanned))(1.0),
        "vmap of grad": jax.vmap(jax.grad(total(f)), first)(jnp.stack([args[0]] * 2), *args[1:]),
        "grad of vmap": jax.grad(total(jax.vmap(lambda a: f(a, *args[1:]))))(jnp.stack([args[0]] * 2)),
        "cond": lax.cond(jnp.sum(args[0]) > 1e9, total(f), lambda *a: 2 * total(f)(*a), *args),
    }  # fmt: skip


@pytest.mark.parametrize("name", swept(KINDS, 3))
def test_every_transformation_of_jax(name):
    layer, forward, args = LAYERS[name]()
    small = sum(a.size for a in args[:1]) <= 64
    ours, theirs = jax.jit(lambda args: [every_transformation(f, args, small) for f in (layer, forward)])(args)
    for key in theirs:
        same(ours[key], theirs[key], 1e-10)


@pytest.mark.parametrize("name", ["throw-away", "two outputs", "softmax", "linear", "relu"])
def test_eager_gradient(name):
    """Without jit the rules of the marker run one by one."""
    layer, forward, args = LAYERS[name]()
    same(jax.grad(total(layer))(*args), jax.jit(jax.grad(total(forward)))(*args), 1e-10)


def primitives(jaxpr):
    """Names of all primitives, those of inner jaxprs too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


@over_layers
def test_jaxpr_shows_the_layer(name):
    layer, _, args = LAYERS[name]()
    jaxpr = jax.make_jaxpr(layer)(*args)
    assert "layer" in list(primitives(jaxpr.jaxpr))
    text = str(jaxpr)
    assert "layer" in text
    assert (name if name in FIRST else "wave" if "throw" in name else "both") in text


@over_layers
def test_forward_has_no_rule_of_its_own(name):
    """A custom derivative in the forward would make jax.grad repeat our rule, and comparing with it would prove nothing."""
    _, forward, args = LAYERS[name]()
    inside = set(primitives(jax.make_jaxpr(forward)(*args).jaxpr))
    assert not {p for p in inside if "custom" in p}


def test_primitives_looks_inside():
    """The helper above does find custom rules under jit, scan and cond."""

    def f(x):
        return lax.scan(lambda c, _: (jax.jit(jax.nn.relu)(c), None), x, None, length=2)[0]

    assert "custom_jvp_call" in set(primitives(jax.make_jaxpr(f)(X).jaxpr))
    g = jax.make_jaxpr(lambda x, c: lax.cond(c, jax.nn.relu, jnp.sin, x))(X, True)
    assert "custom_jvp_call" in set(primitives(g.jaxpr))


@pytest.mark.parametrize("name", ["throw-away", "two outputs", "softmax", "linear", "cross_entropy"])
def test_export(name):
    """Exported, with its derivative."""
    layer, forward, args = LAYERS[name]()
    exported = jax.export.export(jax.jit(layer))(*args)
    if importlib.util.find_spec("flatbuffers"):  # JAX writes files with it, and does not depend on it
        exported = jax.export.deserialize(exported.serialize(vjp_order=1))

    @jax.jit
    def run(*args):
        return [(f(*args), jax.grad(total(f))(*args)) for f in (exported.call, forward)]

    (y, gradient), (plain, expected) = run(*args)
    same(y, plain)
    same(gradient, expected, 1e-10)


@over_layers
def test_rule_under_vmap(name):
    """The layer mapped over a new axis, inside jaxnets.jacobian: right, and not opaque."""
    layer, forward, args = LAYERS[name]()
    stacked = [np.stack([a, np.asarray(a) / 2]) for a in args]  # probabilities stay below 1
    every = tuple(range(len(args)))
    opaque = "allow" if name.startswith("conv") else "error"  # JAX's own convolution has no structured rule

    @jax.jit
    def run(*stacked):
        ours = jaxnets.jacobian(jax.vmap(layer), every, on_opaque=opaque)(*stacked)
        return jaxnets.dense(ours), jax.jacrev(jax.vmap(forward), every)(*stacked)

    same(*run(*stacked), 1e-10)


def test_vmap_keeps_examples_apart():
    j = jax.eval_shape(jaxnets.jacobian(jax.vmap(lambda x: wave(x, W)), on_opaque="error"), X)
    assert j.structure == "diagonal"
    assert jax.eval_shape(lambda j: j.per_example(), j).shape == (3, 4, 4)


@pytest.mark.parametrize("name", ["throw-away", "throw-away without shift", "two outputs"])
def test_own_rule_is_used(name):
    """jaxnets.jacobian agrees with JAX, and its graph has one node, the layer."""
    layer, forward, args = LAYERS[name]()
    every = tuple(range(len(args)))

    @jax.jit
    def run(*args):
        ours = jaxnets.jacobian(layer, every, on_opaque="error")(*args)
        return jaxnets.dense(ours), jax.jacrev(forward, every)(*args)

    same(*run(*args), 1e-10)


def test_rule_not_forward_is_differentiated():
    """A layer with a wrong rule shows that jaxnets.jacobian uses the rule and jax.grad the forward."""

    @throw_away
    def liar(x):
        return 2 * x

    liar.jacobian(lambda y, x: (jaxnets.rules.scaled(7.0),))
    wrapped = liar, jax.jit(liar), jax.checkpoint(liar), lambda x: jax.jit(jax.jit(liar))(x)
    ours = jax.jit(lambda x: [jaxnets.grad(lambda x: f(x).sum())(x) for f in wrapped])(X)  # noqa: B023
    assert all(np.asarray(gradient)[0, 0] == 7 for gradient in ours)
    assert np.asarray(jax.jit(jax.grad(lambda x: liar(x).sum()))(X))[0, 0] == 2


def test_rule_gets_the_output_and_the_configuration():
    seen = []

    @throw_away
    def spy(x, w=None, *, a=1, b="text"):
        return a * x

    @spy.jacobian
    def _(y, x, w, *, a, b):
        seen.append((np.asarray(y), w, a, b))
        return jaxnets.rules.scaled(a), None

    j = jaxnets.jacobian(lambda x: spy(x, a=3))(X)
    np.testing.assert_array_equal(seen[0][0], 3 * X)
    assert seen[0][1:] == (None, 3, "text")
    np.testing.assert_allclose(j.diagonal(), 3)


def test_many_arguments():
    @throw_away
    def plus(*xs):
        return sum(xs)

    plus.jacobian(lambda y, *xs: tuple(jaxnets.rules.scaled(1.0) for _ in xs))
    j = jaxnets.jacobian(lambda a, b, c: plus(a, b, c), (0, 2))(X, X, X)
    assert [k.structure for k in j] == ["identity", "identity"]


def test_integer_arguments_are_constants():
    @throw_away
    def pick(x, k):
        return jnp.where(jnp.arange(x.shape[-1]) == k[..., None], x, 0)

    pick.jacobian(lambda y, x, k: (jaxnets.rules.diagonal((jnp.arange(x.shape[-1]) == k[..., None]).astype(x.dtype)), None))
    k = np.array([1, 0, 3])
    diagonal = jax.jit(lambda x: jaxnets.jacobian(lambda x: pick(x, k))(x).diagonal())(X)
    np.testing.assert_allclose(diagonal, np.eye(4)[k])
    _, pulled = jax.eval_shape(lambda x, k: jax.vjp(pick, x, k)[1](x), X, k)
    assert pulled.dtype == jax.dtypes.float0


def test_numbers_of_numpy_in_the_configuration():
    """A float64 of NumPy would widen float32; forward and rule get the number of Python."""

    @throw_away
    def scale(x, *, by, sizes=()):
        assert (type(by), *map(type, sizes)) == (float, int)
        return by * x

    scale.jacobian(lambda y, x, *, by, sizes: (jaxnets.rules.scaled(by),))

    def compute(x):
        j = jaxnets.jacobian(lambda x: scale(x, by=np.float64(0.5), sizes=[np.int64(2)]))(x)
        return scale(x, by=np.float32(0.5), sizes=(2,)), j.dense()

    y, dense = jax.eval_shape(compute, np.ones(3, "float32"))
    assert y.dtype == dense.dtype == np.float32


# --- errors ---------------------------------------------------------------------------------------------------------


def test_errors_of_calls():
    with pytest.raises(TypeError, match="wave.*'w'"):
        wave(X)
    with pytest.raises(TypeError, match="wave.*'speed'"):
        wave(X, W, speed=3)
    with pytest.raises(TypeError, match="wave.*power"):
        wave(X, W, power={2: 1})
    with pytest.raises(jaxnets.DTypeError, match="wave.*'x'.*int"):
        wave(np.ones((3, 4), int), W)
    with pytest.raises(jaxnets.DTypeError, match="wave.*'w'.*str"):
        wave(X, "word")
    with pytest.raises(jaxnets.ShapeError, match=r"wave.*'w'.*\(5,\).*4"):
        wave(X, np.ones(5))
    with pytest.raises(jaxnets.ShapeError, match=r"wave.*'w'.*\(2, 4\)"):
        wave(X, np.ones((2, 4)))


def test_errors_of_rules():
    @throw_away
    def bare(x, w):
        return x * w

    with pytest.raises(jaxnets.RuleError, match="bare.*no Jacobian rule"):
        jaxnets.jacobian(bare)(X, X)
    np.testing.assert_array_equal(bare(X, X), X * X)  # without a rule it is still a function
    rule = bare.jacobian(lambda y, x, w: (jaxnets.rules.diagonal(w),))
    assert callable(rule)
    with pytest.raises(jaxnets.RuleError, match="bare.*already"):
        bare.jacobian(rule)
    with pytest.raises(jaxnets.RuleError, match="bare.*2 arguments"):
        jaxnets.jacobian(bare)(X, X)

    @throw_away
    def odd(x):
        return 2 * x

    odd.jacobian(lambda y, x: (lambda y, x: jnp.ones(3),))
    with pytest.raises(jaxnets.RuleError, match="'x'.*expected a Jacobian"):
        jaxnets.jacobian(odd)(X)


def test_looks_like_its_function():
    assert wave.__name__ == "wave"
    assert "nowhere else" in wave.__doc__
    assert repr(wave) == "<layer wave>"


def test_layers_are_in_the_table_by_name():
    layer = jaxnets.layer(wave.forward)
    try:
        assert jaxnets.LAYERS["wave"] is layer is not wave
    finally:
        del jaxnets.LAYERS["wave"]
