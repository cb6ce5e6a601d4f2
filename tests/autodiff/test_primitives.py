"""The rules of single primitives: values, structure and the arrays that they store."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import sparse
from jax.extend.core import Primitive

import jaxnets
from jaxnets.autodiff import graph, primitives
from tests.autodiff.programs import distinct, pos, r, tied_values

A, B, P = r(3, 4), r(3, 4), pos(3, 4)
UNIT = 0.9 * np.tanh(r(3, 4))  # in (−1, 1)


def dot(contracting, batch=((), ())):
    return lambda a, b: lax.dot_general(a, b, (contracting, batch))


def sparse_array(data):
    """A sparse matrix with two entries at one place and one outside."""
    places = jnp.asarray([[0, 1], [2, 3], [0, 1], [1, 0], [3, 4]], jnp.int32)
    return sparse.BCOO((data, places), shape=(3, 4))


# name of the primitive, function, arguments, structure by each of them (None: the derivative is zero)
ELEMENTWISE = {
    "abs": (jnp.abs, A), "acos": (jnp.arccos, UNIT), "acosh": (jnp.arccosh, 1.5 + P), "asin": (jnp.arcsin, UNIT),
    "asinh": (jnp.arcsinh, A), "atan": (lax.atan, A), "atanh": (jnp.arctanh, UNIT), "cbrt": (lax.cbrt, A),
    "cos": (jnp.cos, A), "cosh": (jnp.cosh, A), "digamma": (lax.digamma, P), "erf": (lax.erf, A),
    "erf_inv": (lax.erf_inv, UNIT), "erfc": (lax.erfc, A), "exp": (jnp.exp, A), "exp2": (jnp.exp2, A),
    "expm1": (jnp.expm1, A), "integer_pow": (lambda x: lax.integer_pow(x, -3), A), "lgamma": (lax.lgamma, P),
    "log": (jnp.log, P), "log1p": (jnp.log1p, P), "rsqrt": (lax.rsqrt, P), "sin": (jnp.sin, A), "sinh": (jnp.sinh, A),
    "sqrt": (jnp.sqrt, P), "square": (lax.square, A), "tan": (jnp.tan, UNIT), "tanh": (jnp.tanh, A),
    "logistic": (lax.logistic, A), "bessel_i0e": (lax.bessel_i0e, A), "bessel_i1e": (lax.bessel_i1e, A),
    "add": (lax.add, A, B), "sub": (lax.sub, A, B), "mul": (lax.mul, A, B), "div": (lax.div, A, P), "max": (lax.max, A, B),
    "min": (lax.min, A, B), "pow": (lax.pow, P, B), "atan2": (lax.atan2, A, B), "rem": (lax.rem, A, P), "neg": (lax.neg, A),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.7), A), "select_n": (lambda x, y: lax.select(jnp.asarray(A > 0), x, y), A, B),
    "igamma": (lambda x: lax.igamma(jnp.asarray(P), x), P),
    "polygamma": (lambda x: lax.polygamma(jnp.full((3, 4), 2.0), x), P),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 11, 52), A), "copy": (jnp.copy, A),
    "convert_element_type": (lambda x: lax.convert_element_type(x, jnp.float32), A.astype(np.float32)),
}  # fmt: skip

AXES = {
    "reduce_sum": (lambda x: lax.reduce_sum_p.bind(x, axes=(np.int64(0), 2), out_sharding=None), [r(2, 3, 4)], ["sum"]),
    "reduce_max": (lambda x: x.max(1), [distinct], ["block diagonal"]),
    "reduce_max, ties": (lambda x: x.max(1), [tied_values], ["block diagonal"]),
    "reduce_min, ties": (lambda x: x.min(), [tied_values], ["dense"]),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)), [r(3, 1)], ["broadcast"]),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), [r(2, 3, 4)], ["permutation"]),
    "reshape": (lambda x: lax.reshape(x, (4, 3, 2)), [r(2, 2, 6)], ["identity"]),
    "reshape, permuted": (lambda x: lax.reshape(x, (3, 8), (1, 0, 2)), [r(2, 3, 4)], ["permutation"]),
    "squeeze": (lambda x: lax.squeeze(x, (1,)), [r(2, 1, 3)], ["identity"]),
    "expand_dims": (lambda x: lax.expand_dims(x, (0, 2)), [r(2, 3)], ["identity"]),
    "concatenate": (lambda *x: lax.concatenate(x, 1), [r(2, 3), r(2, 1), r(2, 2)], ["selection"] * 3),
    "stack": (lambda *x: jnp.stack(x, 1), [r(2, 3)] * 3, ["selection"] * 3),
    "unstack": (lambda x: jnp.unstack(x, axis=1)[2], [r(2, 3, 2)], ["selection"]),
    "unstack, one": (lambda x: jnp.unstack(x, axis=1)[0], [r(2, 1)], ["selection"]),
    "tile": (lambda x: jnp.tile(x, (4, 3)), [r(2, 4)], ["broadcast"]),
    "gather": (lambda x: x[jnp.asarray([2, 0, 2])], [r(3, 2)], ["selection"]),
    "gather, square": (lambda x: x[jnp.asarray([2, 0, 0])], [r(3, 3)], ["selection"]),
    "gather, a middle axis": (lambda x: x[:, jnp.asarray([[1, 0], [2, 2]])], [r(2, 3, 4)], ["selection"]),
    "gather, pairs": (lambda x: x[jnp.asarray([0, 1, 1]), jnp.asarray([2, 0, 2])], [r(2, 3)], ["selection"]),
    "gather, along an axis": (lambda x: jnp.take_along_axis(x, jnp.asarray([[1, 1], [0, 2]]), 1), [r(2, 3)], ["selection"]),
    "gather, batch last": (
        lambda x: lax.gather(x, jnp.asarray([[1], [0]]), lax.GatherDimensionNumbers((), (0,), (0,), (1,), (0,)), (1, 1)),
        [r(3, 2)], ["selection"]),
    "gather, clipped": (lambda x: jnp.take(x, jnp.asarray([-7, 9, 1]), 0, mode="clip"), [r(3, 2)], ["selection"]),
    "device_put of two": (lambda *x: jax.device_put(list(x))[1], [r(2, 3)] * 2, ["zero", "identity"]),
    "optimization_barrier of two": (lambda *x: lax.optimization_barrier(x)[1], [r(2, 3)] * 2, ["zero", "identity"]),
    "sort": (lambda x: lax.sort(x, dimension=1), [distinct], ["selection"]),
    "sort, a middle axis": (lambda x: lax.sort(x, dimension=-2), [distinct.reshape(2, 3, 2)], ["selection"]),
    "sort by another array": (lambda *x: lax.sort(x, num_keys=1)[1], [distinct, r(*distinct.shape)], ["zero", "selection"]),
    "split": (lambda x: lax.split(x, (2, 1, 3), 1)[2], [r(2, 6)], ["selection"]),
    "split, one": (lambda x: lax.split(x, (4,), 1)[0], [r(2, 4)], ["identity"]),
    "bcoo_dot_general": (lambda d, x: sparse_array(d) @ x, [r(5), r(4, 2)], ["factored"] * 2),
    "bcoo_dot_general, both axes": (
        lambda d, x: sparse.bcoo_dot_general(sparse_array(d), x, dimension_numbers=(((1, 0), (1, 2)), ((), ()))),
        [r(5), r(2, 4, 3)], ["dense", "factored"]),
    "bcoo_transpose": (lambda d, x: x @ sparse_array(d).T, [r(5), r(2, 4)], ["factored"] * 2),
    "bcoo_todense": (lambda d: sparse_array(d).todense(), [r(5)], ["selection"]),
    "slice": (lambda x: lax.slice(x, (1, 0), (3, 4), (1, 3)), [r(4, 4)], ["selection"]),
    "slice, every entry": (lambda x: lax.slice(x, (1, 0), (3, 2)), [r(4, 4)], ["selection"]),
    "pad": (lambda x: lax.pad(x, 0.0, ((1, 2, 1), (0, 0, 0))), [r(3, 2)], ["selection"]),
    "pad, by its value": (lambda x, v: lax.pad(x, v, ((0, 1, 0),)), [r(3), r()], ["selection", "dense"]),
    "dynamic_slice, clamped": (lambda x: lax.dynamic_slice(x, (jnp.asarray(9), -1), (2, 2)), [r(4, 3)], ["selection"]),
    "dynamic_slice, start": (lambda x: lax.dynamic_slice(x, (jnp.asarray(0), -9), (2, 2)), [r(4, 3)], ["selection"]),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (jnp.asarray(1), 0), (2, 3)), [r(4, 3)], ["selection"]),
    "dot, matrix": (dot(((1,), (0,))), [r(2, 3), r(3, 4)], ["Kronecker", "Kronecker"]),
    "dot, square": (dot(((1,), (0,))), [r(3, 3), r(3, 3)], ["Kronecker", "Kronecker"]),
    "dot, vectors": (dot(((0,), (0,))), [r(3), r(3)], ["dense", "dense"]),
    "dot, batch": (dot(((2,), (1,)), ((0,), (0,))), [r(2, 3, 4), r(2, 4, 2)], ["block diagonal", "block diagonal"]),
    "dot, batch last": (dot(((0,), (0,)), ((1,), (1,))), [r(4, 2), r(4, 2)], ["block diagonal", "block diagonal"]),
    "dot, outer": (dot(((), ())), [r(2), r(3)], ["Kronecker", "Kronecker"]),
    "dot, batch of scalars": (dot(((), ()), ((0,), (0,))), [r(3), r(3)], ["diagonal", "diagonal"]),
    "dot, two contractions": (dot(((0, 2), (1, 0))), [r(2, 3, 4), r(4, 2, 5)], ["Kronecker", "Kronecker"]),
    "rev": (lambda x: lax.rev(x, (2, 1)), [r(2, 3, 3)], ["selection"]),
    "conv_general_dilated": (
        lambda x, w: lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
        [r(2, 4, 2), r(3, 2, 2)], ["convolution"] * 2),
    "conv_general_dilated, axes mixed": (
        lambda x, w: lax.conv_general_dilated(
            x, w, (2, 1), [(1, 0), (0, 2)], (2, 1), (1, 2), ("HNWC", "OHIW", "CWNH"), 2),
        [r(5, 2, 3, 4), r(6, 2, 2, 2)], ["convolution"] * 2),
    "reduce_window_max": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2), (1, 1, 2), "SAME"),
        [distinct.reshape(2, 3, 2)], ["selection"]),
    "reduce_window_max, a first axis": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 1), (1, 1), [(1, 0), (0, 0)]), [distinct], ["selection"]),
    "reduce_window_max, ties": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3), (1, 1), "VALID"), [tied_values], ["selection"]),
    "reduce_window_min": (
        lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2, 1), (1, 1), "SAME"), [distinct], ["selection"]),
    "reduce_window_sum": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 3), (1, 1, 2), [(0, 0), (2, 0), (0, 1)]),
        [r(2, 3, 4)], ["factored"]),
    "reduce_window_sum, tiled": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2), (1, 2), "VALID"), [r(3, 4)], ["sum"]),
    "psum": (
        lambda x: jax.vmap(lambda v: v - lax.psum(v, "batch"), axis_name="batch")(x), [r(3, 2)], ["identity + ones"]),
    "dot, contraction of size 1": (dot(((1,), (0,))), [r(2, 1), r(1, 3)], ["Kronecker", "Kronecker"]),
    "dot, empty contraction": (dot(((1,), (0,))), [r(2, 0), r(0, 3)], ["zero", "zero"]),
}  # fmt: skip

# Without a rule of their own: the axes that do not mix are still known, so a batch stays a batch.
SHARED = {
    "cumsum": (lambda x: lax.cumsum(x, 1), [r(3, 4)]),
    "cumsum, reverse": (lambda x: lax.cumsum(x, 1, reverse=True), [r(3, 4)]),
    "cumprod": (lambda x: lax.cumprod(x, 1), [r(3, 4)]),
    "cummax": (lambda x: lax.cummax(x, 1), [distinct]),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), [r(3, 4)]),
    "reduce_prod": (lambda x: x.prod(1), [r(3, 4)]),
    "reduce_prod, two axes": (lambda x: x.prod((1, 3)), [r(2, 3, 2, 2)]),
    "take_along_axis": (lambda x: jnp.take_along_axis(x, jnp.asarray([[1], [3], [0]]), 1), [r(3, 4)]),
}  # fmt: skip


def run(f, args, on_opaque="error"):
    """Our Jacobians, and dense ones of both sides."""
    args = jax.device_put(list(args))
    every = tuple(range(len(args)))

    def both(*args):
        ours = jaxnets.jacobian(f, every, on_opaque=on_opaque)(*args)
        return ours, jaxnets.dense(ours), jax.jacrev(f, every)(*args)

    jacobians, ours, theirs = jax.jit(both)(*args)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerance = 1e-11 if a.dtype == jnp.float64 else 1e-6
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))
    return jacobians


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name):
    f, *args = ELEMENTWISE[name]
    for j in run(f, args):
        assert j.structure in ("diagonal", "identity", "scaled identity")
        assert j.nbytes <= args[0].nbytes


@pytest.mark.parametrize("name", AXES)
def test_axes(name):
    f, args, structures = AXES[name]
    jacobians = run(f, args)
    assert [j.structure for j in jacobians] == structures
    for j in jacobians:
        assert j.nbytes <= sum(a.nbytes for a in args)


# Forms that a rule leaves to the opaque map.
OPAQUE = {
    "reshape": (lambda x: lax.reshape(x, (2, 6)), [r(3, 4)]),
    "pad, cropped at one end": (lambda x: lax.pad(x, 0.0, ((-1, 2, 0),)), [r(4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPAQUE)
def test_forms_without_a_rule(name):
    f, args = OPAQUE[name]
    (j,) = run(f, args, on_opaque="allow")
    assert j.structure == name.split(",")[0]


@pytest.mark.parametrize("name", SHARED)
def test_unstructured_primitives_keep_the_batch(name):
    f, args = SHARED[name]
    (j,) = run(f, args, on_opaque="error")  # a shared axis is structure enough
    whole = np.asarray(jax.jit(jaxnets.dense)(j))
    blocks = np.stack([np.moveaxis(whole[i], len(j.out_shape) - 1, 0)[i] for i in range(len(whole))])
    np.testing.assert_allclose(jax.jit(lambda j: j.per_example())(j), blocks, atol=1e-11)


@pytest.mark.parametrize("f", [jnp.sign, jnp.floor, jnp.ceil, jnp.round, lax.stop_gradient, lambda x: (x > 0) * 1.0])
def test_constant_primitives(f):
    assert run(f, [A])[0].structure == "zero"


def test_calls_of_jaxprs_are_entered():
    """Value and gradient of a loop that is recomputed hold a call of a jaxpr, which is read like the rest in every JAX."""

    def step(carry, v):
        return carry + jnp.sin(v), jnp.tanh(carry) * v

    f = jax.checkpoint(lambda x: lax.scan(step, x[0], x)[1].sum())
    x = jax.device_put(r(3, 2))
    names = {node.name for node in graph.read_graph(jax.jit(jax.value_and_grad(f)), [x], ["x"]).topological_nodes()}
    assert "scan" in names
    assert not names & {"jit", "remat2", "closed_call", "eval_jaxpr"}


NAMES = primitives.ELEMENTWISE | primitives.WITHOUT_DERIVATIVE | primitives.LIKE_IDENTITY | set(primitives.RULES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_are_names_of_primitives(name):
    """A misspelt name in a table would silently make its primitive opaque."""
    assert name in known_primitives() | NEWER


def known_primitives():
    """Every primitive that some module of JAX defines."""
    modules = [m for n, m in list(sys.modules.items()) if n.startswith(("jax._src", "jax.experimental")) and m]
    return {v.name for m in modules for v in list(vars(m).values()) if isinstance(v, Primitive)}


NEWER = {"log2", "one_minus_square"}  # in jax 0.12, not in 0.10


def test_every_elementwise_primitive_has_a_case():
    other = {"one_minus_square", "regularized_incomplete_beta", "igammac", "log2", "zeta"}  # rare, or newer than 0.10
    assert primitives.ELEMENTWISE - other - set(ELEMENTWISE) == set()


KINKS = {
    "max at a tie": (lambda x: lax.max(x, 0.0), 0.0), "min at a tie": (lambda x: lax.min(x, 0.0), 0.0),
    "clamp at its lower edge": (lambda x: lax.clamp(0.0, x, 1.0), 0.0),
    "clamp at its upper edge": (lambda x: lax.clamp(0.0, x, 1.0), 1.0),
    "abs at 0": (jnp.abs, 0.0), "x^0 at 0": (lambda x: x**0, 0.0), "x^1 at 0": (lambda x: x**1, 0.0),
    "x^2.0 at 0": (lambda x: x**2.0, 0.0), "square at 0": (lambda x: x**2, 0.0), "sign at 0": (jnp.sign, 0.0),
    "sqrt at 0": (jnp.sqrt, 0.0), "log at 0": (jnp.log, 0.0), "exp, far left": (jnp.exp, -800.0),
    "where guards": (lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), 0.0),
    "infinity": (jnp.arctan, np.inf), "NaN": (jnp.sin, np.nan),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_special_values_of_plain_primitives(name):
    """Where a primitive has no rule of the package's own making, JAX's convention holds."""
    f, x = KINKS[name]
    np.testing.assert_array_equal(*jax.jit(lambda x: (jaxnets.grad(f)(x), jax.grad(f)(x)))(x))


@pytest.mark.parametrize("x", [-400.0, -40.0, -15.0, -1.0, 0.0, 1.0, 15.0, 40.0, 300.0])
def test_tails_are_better_than_autodiff(x):
    """tanh' and σ' by the stable forms: exact tails, where JAX's own derivative is 0."""
    with np.errstate(over="ignore"):
        q = np.exp(-2 * abs(np.longdouble(x)))
        tanh = float(4 * q / (1 + q) ** 2)
        s = np.exp(-abs(np.longdouble(x)))
        logistic = float(s / (1 + s) ** 2)
    np.testing.assert_allclose(jaxnets.grad(jnp.tanh)(x), tanh, rtol=1e-14)
    np.testing.assert_allclose(jaxnets.grad(lax.logistic)(x), logistic, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes_are_kept(dtype):
    def f(x, w):
        return jnp.maximum(jnp.tanh(x @ w), 0).sum(0)

    x, w = jnp.asarray(A, dtype), jax.device_put(r(4, 2, dtype=dtype))

    @jax.jit
    def run(x, w):
        value, j = jaxnets.value_and_jacobian(f, (0, 1))(x, w)
        return value, j[0].dense(), j[1].dense(), j[0] @ x, value @ j[1]

    assert {y.dtype for y in run(x, w)} == {x.dtype}
