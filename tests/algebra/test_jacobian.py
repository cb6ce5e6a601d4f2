"""The algebra of Jacobians, every operation against the same operation on dense arrays."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxnets
from tests.autodiff.programs import clipped_gradient, r, spd

from ..sweeps import swept

W, V, SQUARE, BLOCKS = r(2, 3), r(3, 2), spd(3), r(4, 2, 3)
IDS = np.array([3, 0, 0, 9])  # a repeated row, and one out of range

# name: function, input shape, the word for its structure (None where no single word is promised)
MAPS = {
    "identity": (lambda x: x, (4, 3), "identity"),
    "diagonal": (jnp.tanh, (4, 3), "diagonal"),
    "scaled": (lambda x: -2.5 * x, (4, 3), None),
    "Kronecker": (lambda x: x @ W.T, (4, 3), "Kronecker"),
    "Kronecker by W": (lambda w: jnp.asarray(r5x3) @ w.T, (2, 3), "Kronecker"),
    "dense": (lambda x: W @ x, (3,), "dense"),
    "block diagonal": (lambda x: jnp.einsum("bij,bj->bi", BLOCKS, x), (4, 3), "block diagonal"),
    "sum": (lambda x: x.sum(), (4, 3), "sum"),
    "sum of rows": (lambda x: x.sum(1), (4, 3), "sum"),
    "broadcast": (lambda x: jnp.broadcast_to(x, (4, 3)), (3,), "broadcast"),
    "permutation": (lambda x: x.T, (4, 3), "permutation"),
    "permutation of three": (lambda x: jnp.sin(x).transpose(2, 0, 1), (2, 3, 2), None),
    "slice": (lambda x: x[1:4:2], (4, 3), "selection"),
    "slices of both axes": (lambda x: x[1:3, ::2], (4, 3), None),
    "embedding": (lambda x: x.at[IDS].get(mode="fill", fill_value=0), (4, 3), None),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (jnp.asarray(1), 0), (2, 3)), (4, 3), "selection"),
    "two dynamic slices": (lambda x: lax.dynamic_slice(x, (jnp.asarray(1), jnp.asarray(1)), (2, 2)), (4, 3), None),
    "softmax": (jaxnets.softmax, (4, 3), None),
    "log-softmax": (jaxnets.log_softmax, (4, 3), None),
    "centred": (lambda x: x - x.mean(0), (4, 3), None),
    "x plus its transpose": (lambda x: x + 2 * x.T, (3, 3), None),
    "normalised": (lambda x: x / jnp.sqrt((x**2).sum(-1, keepdims=True)), (4, 3), None),
    "factored": (lambda w: jnp.tanh(jnp.asarray(r5x3) @ w.T) @ jnp.asarray(W), (2, 3), "factored"),
    "residual": (lambda x: x + jnp.tanh(x @ SQUARE), (4, 3), None),
    "opaque": (lambda x: jnp.cumsum(x.ravel()), (4, 3), "cumsum"),
    "opaque by row": (lambda x: jnp.cumsum(x, 1), (4, 3), "cumsum"),
    "opaque chain": (lambda x: jnp.sin(jnp.cumsum(jnp.sin(x))) @ V, (3,), None),
    "opaque, of two arguments": (lambda x: jnp.convolve(jnp.sin(x), x, mode="same"), (4,), None),
    "opaque scan": (lambda x: lax.scan(lambda c, a: (c * a.sum() + 1, c * a), 1.0, x)[1], (4, 3), None),
    "opaque pullback": (lambda x: clipped_gradient(jnp.sin(x)) * x, (4, 3), None),
    "complex inside": (lambda x: jnp.fft.fft(x).real, (4,), None),
    "linear solve": (lambda x: jnp.linalg.solve(SQUARE, x * jnp.sin(x)), (3,), None),
    "zero": (lambda x: jnp.ones((2, 2)), (4, 3), "zero"),
    "merge": (lambda x: x.reshape(12), (4, 3), "identity"),
    "split": (lambda x: x.reshape(2, 2, 3), (4, 3), "identity"),
    "shift a factor": (lambda x: jnp.sin(x).reshape(8, 3), (4, 6), "diagonal"),
    "no common refinement": (lambda x: x.reshape(6, 2), (4, 3), None),
    "scrambled": (lambda x: x.reshape(2, 2, 3).transpose(1, 0, 2).reshape(4, 3), (4, 3), "permutation"),
    "outer product": (lambda x: x[:, None] * x, (3,), None),
    "concatenate": (lambda x: jnp.concatenate([x, 2 * x], 1), (4, 3), None),
    "pad": (lambda x: lax.pad(x, 0.0, ((1, 1, 1), (0, 1, 0))), (4, 3), None),
    "empty input": (jnp.tanh, (0, 3), "zero"),
    "empty output": (lambda x: x[:, :0], (4, 3), "zero"),
    "sum over nothing": (lambda x: x.sum(0), (0, 3), "zero"),
    "size-1 axes": (lambda x: jnp.tanh(x), (1, 3, 1), "diagonal"),
    "size-1 broadcast": (lambda x: x * jnp.ones((4, 3)), (4, 1), None),
    "all axes of size 1": (lambda x: 2 * x, (1, 1), None),
    "scalar": (jnp.tanh, (), None),
    "scalar to array": (lambda x: x * jnp.asarray(W), (), None),
    "array to scalar": (lambda x: jnp.sin(x).sum() ** 2, (4, 3), None),
}  # fmt: skip
r5x3 = r(5, 3)


EAGER = ["diagonal", "softmax", "slice", "dynamic slice", "opaque", "scalar", "zero"]  # the others come out of jit


@functools.cache
def made(name):
    """The Jacobian, and its dense twin from JAX."""
    f, shape, _ = MAPS[name]
    x = np.random.default_rng(len(name)).normal(size=shape)
    jacobian = jaxnets.jacobian(f, on_opaque="allow")
    if name in EAGER:
        return jacobian(jnp.asarray(x)), np.asarray(jax.jit(jax.jacrev(f))(x))
    j, dense = jax.jit(lambda x: (jacobian(x), jax.jacrev(f)(x)))(x)
    return j, np.asarray(dense)


over_maps = pytest.mark.parametrize("name", MAPS)


def close(ours, theirs, tolerance=1e-10):
    assert ours.shape == theirs.shape
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max(initial=0)))


def flat(j, d):
    """The dense twin as a matrix."""
    return d.reshape(math.prod(j.out_shape), math.prod(j.in_shape))


@pytest.mark.parametrize("name", swept(MAPS, 2))
def test_everything_against_the_dense_twin(name):
    """All operations of one Jacobian, compiled at once because that is what takes the time."""
    j, d = made(name)
    out, inp, m = j.out_shape, j.in_shape, flat(*made(name))
    v, u = r(*inp), r(*out)

    @jax.jit
    def run(j, c, v, u):
        got = {
            "dense": j.dense(), "matrix": j.matrix(), "T": j.T.dense(), "T.T": j.T.T.dense(), "-J": (-j).dense(),
            "cJ": (c * j).dense(), "J+J": (j + j).dense(), "J-2J": (j - 2 * j).dense(), "reduced": j.reduced().dense(),
            "Jv": j @ v, "uJ": u @ j, "J.T u": j.T @ u, "J J.T": (j @ j.T).dense(), "J.T J": (j.T @ j).dense(),
            "(J.T J) J.T u": (j.T @ j) @ j.T @ u, "trace": (j @ j.T).diagonal(), "c(J+J).T": (c * (j + j)).T.dense(),
        }  # fmt: skip
        for value in (repr(j), j.formula, j.structure, repr(c * j), repr(j.T @ j)):  # on tracers
            assert isinstance(value, str) and value
        return got

    got = run(j, jnp.asarray(-1.5), v, u)
    t, mtm = m.T.reshape(inp + out), m.T @ m
    uj, jv = (u.ravel() @ m).reshape(inp), (m @ v.ravel()).reshape(out)
    expected = {
        "dense": d, "matrix": m, "T": t, "T.T": d, "-J": -d, "cJ": -1.5 * d, "J+J": 2 * d, "J-2J": -d, "reduced": d,
        "Jv": jv, "uJ": uj, "J.T u": uj,
        "J J.T": (m @ m.T).reshape(out + out), "J.T J": mtm.reshape(inp + inp),
        "(J.T J) J.T u": (mtm @ uj.ravel()).reshape(inp), "trace": np.diag(m @ m.T).reshape(out), "c(J+J).T": -3 * t,
    }  # fmt: skip
    for key, value in expected.items():
        np.testing.assert_allclose(
            np.asarray(got[key]), value, rtol=0, atol=1e-10 * max(1.0, np.abs(value).max(initial=0)), err_msg=key
        )
        assert got[key].shape == value.shape, key
        assert got[key].dtype == np.float64, key


@over_maps
def test_facts(name):
    """What is known without computing."""
    j, d = made(name)
    assert j.shape == j.out_shape + j.in_shape == d.shape
    assert j.dtype == d.dtype
    assert j.dense_nbytes == d.nbytes
    assert j.nbytes >= 0
    expected = MAPS[name][2]
    assert expected is None or j.structure == expected
    assert isinstance(j.structure, str) and j.structure
    assert j.formula.startswith("∂y")
    assert repr(j).startswith("Jacobian(∂y")
    assert j.structure in repr(j)
    assert (j.structure == "zero") == (not j.terms)


@over_maps
def test_per_example(name):
    """Blocks along the first axis where the dense twin has no others, an error where it has."""
    j, d = made(name)
    if not j.out_shape or not j.in_shape or j.out_shape[0] != j.in_shape[0]:
        with pytest.raises(jaxnets.ShapeError, match=re.escape(str(j.in_shape))):
            j.per_example()
        return
    n, k = j.out_shape[0], len(j.out_shape)
    blocks = np.moveaxis(d, k, 1)
    if any(np.any(blocks[a, b]) for a in range(n) for b in range(n) if a != b):
        with pytest.raises(jaxnets.ShapeError, match="depend"):
            j.per_example()
    else:
        try:
            ours = jax.jit(lambda j: j.per_example())(j)
        except jaxnets.ShapeError:
            assert "opaque" in name or name in ("embedding", "concatenate"), "an error although examples are independent"
            return
        close(ours, np.stack([blocks[a, a] for a in range(n)]) if n else np.zeros(j.out_shape + j.in_shape[1:]))


@over_maps
def test_diagonal(name):
    j, d = made(name)
    if j.out_shape != j.in_shape:
        with pytest.raises(jaxnets.ShapeError, match=re.escape(f"{j.out_shape}")):
            j.diagonal()
    else:
        close(jax.jit(lambda j: j.diagonal())(j), np.diag(flat(j, d)).reshape(j.out_shape))


@over_maps
def test_pytree(name):
    j, _ = made(name)
    leaves, tree = jax.tree.flatten(j)
    again = jax.tree.unflatten(tree, leaves)
    assert repr(again) == repr(j)
    assert (again.shape, again.dtype, again.nbytes) == (j.shape, j.dtype, j.nbytes)
    out = jax.jit(lambda j: j)(j)
    assert jax.tree.structure(out) == tree
    assert hash(jax.tree.structure(out)) == hash(tree)
    assert (out.formula, out.structure) == (j.formula, j.structure)
    assert out.nbytes >= j.nbytes  # an array that was used twice comes out of jit as two
    assert jax.tree.structure(jax.tree.map(lambda x: x, j)) == tree
    abstract = jax.eval_shape(lambda: j)
    assert (abstract.formula, abstract.structure, abstract.dense_nbytes) == (j.formula, j.structure, j.dense_nbytes)


@pytest.mark.parametrize("name", ["diagonal", "factored", "softmax", "slice", "opaque", "centred", "shift a factor"])
def test_equal_structure_does_not_recompile(name):
    f, shape, _ = MAPS[name]
    traces = []

    @jax.jit
    def use(j):
        traces.append(1)
        return j.dense().sum()

    for _ in range(3):
        use(jaxnets.jacobian(f, on_opaque="allow")(jnp.asarray(r(*shape))))
    assert len(traces) == 1


def test_tree_map_acts_on_the_arrays():
    j, d = made("diagonal")
    close(jax.tree.map(lambda x: 2 * x, j).dense(), 2 * d)


# --- products with vectors ------------------------------------------------------------------------------------------


@functools.cache
def j23():
    return jax.jit(jaxnets.jacobian(lambda x: jnp.tanh(W @ x)))(np.ones(3))


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, list], ids=["numpy", "jax", "list"])
def test_vectors_of_any_kind(kind):
    j = j23()
    d = np.asarray(j.dense())
    close(j @ kind(np.arange(3.0)), d @ np.arange(3.0))
    close(kind(np.arange(2.0)) @ j, np.arange(2.0) @ d)


SCALARS = [2, 2.0, np.float64(2), np.float32(2), np.array(2.0), np.int64(2)]


@pytest.mark.parametrize("c", SCALARS, ids=lambda c: type(c).__name__)
def test_scalars_of_any_kind(c):
    j = j23()
    every = c * j, j * c, jnp.asarray(c) * j, j * jnp.asarray(c)
    for scaled in every:
        assert isinstance(scaled, jaxnets.Jacobian)
        assert scaled.dtype == jnp.float64
    *found, d = jax.jit(jaxnets.dense)([*every, j])
    for dense in found:
        close(dense, 2 * np.asarray(d))


def test_integer_vectors():
    close(j23() @ np.array([1, 0, 2]), np.asarray(j23().dense()) @ [1.0, 0, 2])


def test_products_under_grad_and_vmap():
    """J @ v is linear in v and may be differentiated and mapped."""
    j = j23()

    @jax.jit
    def run(j):
        gradient = jax.grad(lambda v: (j @ v).sum())(jnp.ones(3))
        return j.dense(), gradient, jax.vmap(lambda v: j @ v)(jnp.eye(3)), jax.vmap(lambda u: u @ j)(jnp.eye(2))

    d, gradient, pushed, pulled = map(np.asarray, run(j))
    close(gradient, d.sum(0))
    close(pushed, d.T)
    close(pulled, d)


def test_zero_and_empty_sums():
    zero, d = made("zero")
    assert (zero + zero).structure == "zero"
    assert (3 * zero).nbytes == 0
    assert (zero @ made("identity")[0]).structure == "zero"


# --- errors ---------------------------------------------------------------------------------------------------------

SHAPE_ERRORS = {
    "A @ B": (lambda a, b: a @ a, (3,), (2,)),
    "A + B": (lambda a, b: a + b, (3,), (4, 3)),
    "A - B": (lambda a, b: a - b, (3,), (4, 3)),
    "A + A.T": (lambda a, b: a + a.T, (3,), (2,)),
    "J @ v": (lambda a, b: a @ jnp.ones(7), (3,), (7,)),
    "J @ v, not broadcast": (lambda a, b: a @ jnp.ones((1, 3)), (3,), (1, 3)),
    "J @ scalar": (lambda a, b: a @ jnp.ones(()), (3,), ()),
    "u @ J": (lambda a, b: np.ones(5) @ a, (2,), (5,)),
    "array * J": (lambda a, b: jnp.ones(2) * a, (2,)),
    "diagonal": (lambda a, b: a.diagonal(), (2,), (3,)),
    "per_example": (lambda a, b: a.per_example(), (2,), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPE_ERRORS.values(), ids=SHAPE_ERRORS)
def test_shape_errors_name_both_shapes(case):
    operation, *shapes = case
    with pytest.raises(jaxnets.ShapeError) as caught:
        operation(j23(), made("diagonal")[0])
    for shape in shapes:
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize("operation", [lambda j: j + 1, lambda j: 1 + j, lambda j: j - np.ones((2, 3)), lambda j: j * None])
def test_arithmetic_with_other_things_is_refused(operation):
    with pytest.raises((TypeError, ValueError)):
        operation(j23())


# --- size guard -----------------------------------------------------------------------------------------------------


def big():
    """8 TB dense, 8 MB stored."""
    return jax.jit(jaxnets.jacobian(jnp.tanh))(np.zeros(1_000_000))


@pytest.mark.parametrize("method", ["dense", "matrix"])
def test_too_large_is_refused_before_allocation(method):
    j = big()
    with pytest.raises(jaxnets.JacobianTooLarge) as caught:
        getattr(j, method)()
    message = str(caught.value)
    assert re.search(r"8e\+03 GB|8000 GB|8 TB", message)
    assert "8 MB" in message
    for alternative in ("J @ v", "u @ J", "diagonal()", "limit="):
        assert alternative in message
    assert issubclass(jaxnets.JacobianTooLarge, MemoryError)
    close(j @ jnp.ones(1_000_000), jnp.ones(1_000_000))
    close(j.diagonal(), jnp.ones(1_000_000))


def test_limit():
    j, d = made("diagonal")
    close(j.dense(limit=math.inf), d)
    close(j.dense(limit=d.nbytes), d)
    close(j.matrix(limit=math.inf), d.reshape(12, 12))
    for method in (j.dense, j.matrix, j.per_example):
        with pytest.raises(jaxnets.JacobianTooLarge, match="limit is 10 B"):
            method(limit=10)
    with pytest.raises(jaxnets.JacobianTooLarge, match="limit is 10 B"):
        jaxnets.dense({"a": j}, limit=10)
    close(j.per_example(limit=4 * 3 * 3 * 8), np.einsum("biaj,ab->bij", d, np.eye(4)))


def test_limit_under_jit():
    """Shapes are known while tracing, so the guard works there."""
    with pytest.raises(jaxnets.JacobianTooLarge):
        jax.jit(lambda x: jaxnets.jacobian(jnp.tanh)(x).dense())(jnp.zeros(1_000_000))


def test_default_limit_lets_small_things_pass():
    assert jaxnets.jacobian(jnp.tanh)(jnp.zeros(1000)).dense().shape == (1000, 1000)


# --- stated sizes and formulae --------------------------------------------------------------------------------------

BYTES = {  # of float64: what must be stored and no more
    "identity": 0, "diagonal": 8 * 12, "Kronecker": 8 * 6, "Kronecker by W": 8 * 15, "dense": 8 * 6, "sum": 0,
    "broadcast": 0, "permutation": 0, "slice": 0, "softmax": 8 * 12, "log-softmax": 8 * 12, "zero": 0, "merge": 0,
    "scrambled": 0, "block diagonal": 8 * 24, "factored": 8 * (6 + 10 + 15), "shift a factor": 8 * 24, "empty input": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_stored_bytes(name):
    f, shape, _ = MAPS[name]
    sizes = []
    jax.eval_shape(lambda x: sizes.append(jaxnets.jacobian(f, on_opaque="allow")(x).nbytes), np.zeros(shape))
    assert sizes == [BYTES[name]]


def test_array_used_twice_counts_once():
    j = made("diagonal")[0]
    assert (j + j).nbytes == j.nbytes
    assert (2 * j).nbytes == j.nbytes


X, B = np.ones((4, 3)), np.ones(2)
FORMULAE = {
    "∂y[b,o]/∂x[b,i] = w[o,i]": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 0), X, W, B),
    "∂y[b,o]/∂w[o,i] = x[b,i]": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 1), X, W, B),
    "∂y[b,o]/∂b[o] = 1": lambda: jax.eval_shape(jaxnets.jacobian(jaxnets.linear, 2), X, W, B),
    "∂y/∂x[b,i] = 1": lambda: made("sum")[0],
    "∂y/∂x = 0": lambda: made("zero")[0],
    "∂y[b,i]/∂x[b,i] = tanh'[b,i]": lambda: made("diagonal")[0],
    "∂y[b,i]/∂x[b,i] = −tanh'[b,i]": lambda: -made("diagonal")[0],
    "∂y[b,i]/∂x[b,i] = 2·tanh'[b,i]": lambda: 2 * made("diagonal")[0],
    "∂y[b,i]/∂x[b,j] = p[b,i]·(δ(i,j) − p[b,j])": lambda: made("softmax")[0],
}


@pytest.mark.parametrize("formula", FORMULAE)
def test_formula(formula):
    assert FORMULAE[formula]().formula == formula


def test_repr_is_one_line_with_sizes():
    text = repr(made("diagonal")[0])
    assert text == "Jacobian(∂y[b,i]/∂x[b,i] = tanh'[b,i], [4, 3]×[4, 3], diagonal, 96 B of 1.15 kB)"


# --- random chains --------------------------------------------------------------------------------------------------

# Maps between a few shapes: every map of a chain takes the shape that the one before gives.  The reshapes split (24) as
# 4·6, 2·2·6, 8·3 and 3·8: composed, their labels are misaligned.
ARROWS = {
    (4, 6): [jnp.sin, lambda x: x * 2.0, lambda x: x @ r6x6, jaxnets.softmax, lambda x: x - x.mean(0), lambda x: x[::-1],
             lambda x: jnp.cumsum(x, 1), lambda x: jnp.roll(x, 1, 0), lambda x: x.reshape(24), lambda x: x.reshape(2, 2, 6),
             lambda x: jnp.sin(x).reshape(8, 3), lambda x: x.sum(0), lambda x: x.reshape(3, 8)],
    (2, 2, 6): [lambda x: x.transpose(1, 0, 2), lambda x: x.reshape(4, 6), lambda x: x.reshape(24), jnp.cos,
                lambda x: x.transpose(2, 0, 1).reshape(3, 8), lambda x: x * x.sum(-1, keepdims=True)],
    (24,): [lambda x: x.reshape(4, 6), lambda x: x.reshape(3, 8), lambda x: x.reshape(8, 3), jnp.tanh,
            lambda x: jnp.cumsum(x), lambda x: x * x.sum(), lambda x: x.at[np.arange(24)[::-1]].get() * 2],
    (8, 3): [lambda x: x.reshape(24), lambda x: x.T, lambda x: x.reshape(4, 6), jaxnets.log_softmax,
             lambda x: jnp.concatenate([x[4:], jnp.sin(x[:4])])],
    (3, 8): [lambda x: x.reshape(24), lambda x: x.T, lambda x: x.T.reshape(24), lambda x: x * jnp.sin(x),
             lambda x: jnp.einsum("ij,ij->i", x, x)[:, None] * x],
    (6,): [lambda x: jnp.broadcast_to(x, (4, 6)), jnp.sin, lambda x: x.reshape(2, 3).T.reshape(6), lambda x: r6x6 @ x],
}  # fmt: skip
r6x6 = r(6, 6) / 2


@functools.cache
def arrow(shape, index):
    f = ARROWS[shape][index]
    x, jacobian = np.random.default_rng(index).normal(size=shape), jaxnets.jacobian(f, on_opaque="allow")
    j, dense = jax.jit(lambda x: (jacobian(x), jax.jacrev(f)(x)))(x)
    return j, np.asarray(dense).reshape(math.prod(j.out_shape), -1)


def chains(draw, length):
    shape, chain = draw(st.sampled_from(sorted(ARROWS))), []
    for _ in range(length):
        chain.append(arrow(shape, draw(st.integers(0, len(ARROWS[shape]) - 1))))
        shape = chain[-1][0].out_shape
    return chain[::-1]  # the last map stands on the left of the product


@st.composite
def products(draw):
    """A chain and a random way to put parentheses: at every step, which neighbours to multiply."""
    chain = chains(draw, draw(st.integers(2, 6)))
    return chain, [draw(st.integers(0, n - 2)) for n in range(len(chain), 1, -1)]


@given(products())
def test_random_chains_in_random_association(product):
    chain, steps = product
    expected = functools.reduce(np.matmul, [m for _, m in chain])

    @jax.jit
    def run(js):
        for k in steps:
            js = [*js[:k], js[k] @ js[k + 1], *js[k + 2 :]]
        return js[0].matrix(), js[0].T.matrix(), js[0].reduced().matrix()

    ours, transposed, reduced = run([j for j, _ in chain])
    close(ours, expected)
    close(transposed, expected.T)
    close(reduced, expected)


@st.composite
def sums(draw):
    """Several maps between equal shapes: A B + c C - D …"""
    terms = [chains(draw, 2) for _ in range(3)]
    first = terms[0]
    same = [t for t in terms if (t[0][0].out_shape, t[-1][0].in_shape) == (first[0][0].out_shape, first[-1][0].in_shape)]
    return same, [draw(st.sampled_from([1, -1, 0.5])) for _ in same]


@given(sums())
def test_random_sums(case):
    terms, scales = case
    expected = sum(c * (a[1] @ b[1]) for c, (a, b) in zip(scales, terms, strict=True))

    @jax.jit
    def run(pairs):
        total = functools.reduce(lambda s, t: s + t, [c * (a @ b) for c, (a, b) in zip(scales, pairs, strict=True)])
        gram = total.T @ total
        return total.matrix(), total.reduced().matrix(), gram.matrix(), gram.diagonal()

    ours, reduced, gram, diagonal = run([(a[0], b[0]) for a, b in terms])
    close(ours, expected)
    close(reduced, expected)
    close(gram, expected.T @ expected)
    close(diagonal.ravel(), np.diag(expected.T @ expected))


MISALIGNED = {
    "4·6 then 3·8": lambda x: jnp.sin(jnp.sin(x).reshape(24)).reshape(3, 8),
    "batched, 4·6 then 3·8": lambda x: (x @ r6x6).reshape(24).reshape(3, 8),
    "one axis is summed": lambda x: x.sum(1).reshape(2, 2),
    "broadcast then merge": lambda x: jnp.broadcast_to(x[:, :, None], (4, 6, 2)).reshape(3, 16),
    "transpose between": lambda x: x.T.reshape(24).reshape(8, 3).T.reshape(4, 6),
    "merge with a slice": lambda x: x[:3].reshape(18).reshape(2, 9)[:, 2:5],
    "merge with a gather": lambda x: x[np.array([0, 2, 2])].reshape(18)[4:10],
    "merge with repeated use": lambda x: (x * x.reshape(24)[5]).reshape(3, 8),
    "square of a reshape": lambda x: x.reshape(3, 8) @ x.reshape(8, 3),
    "softmax over a merged axis": lambda x: jaxnets.softmax(x.reshape(24)).reshape(3, 8),
    "softmax then misaligned": lambda x: jaxnets.softmax(x).reshape(3, 8),
    "there and back": lambda x: jnp.cos(jnp.sin(x).reshape(24).reshape(3, 8)).reshape(24).reshape(4, 6),
}


@pytest.mark.parametrize("name", MISALIGNED)
def test_misaligned_reshapes(name):
    f, jacobian = MISALIGNED[name], jaxnets.jacobian(MISALIGNED[name], on_opaque="allow")
    close(*jax.jit(lambda x: (jacobian(x).dense(), jax.jacrev(f)(x)))(r(4, 6)))


def test_diagonal_across_misaligned_groups():
    j = jaxnets.jacobian(lambda x: (2 * x).reshape(6, 4).T.reshape(4, 6), on_opaque="allow")(jnp.asarray(r(4, 6)))
    close(j.diagonal(), np.diag(np.asarray(j.matrix())).reshape(4, 6))


# --- rules ----------------------------------------------------------------------------------------------------------


def test_einsum_rule_by_hand():
    x, y = jnp.ones((5, 3)), jnp.ones((5, 2))
    j = jaxnets.rules.einsum("...o", "...i", (jnp.asarray(W), "oi", "w"))(y, x)
    close(j.dense(), np.einsum("oi,ab->aobi", W, np.eye(5)))
    close(jaxnets.rules.scaled(-3.0)(x, x).diagonal(), -3 * np.ones((5, 3)))
    close(jaxnets.rules.diagonal(2 * x)(x, x).diagonal(), 2 * np.ones((5, 3)))


def test_einsum_rule_refuses_what_does_not_fit():
    x, y = jnp.ones((5, 3)), jnp.ones((5, 2))
    with pytest.raises(jaxnets.ShapeError, match=r"'i'.*3.*4|'i'.*4.*3"):
        jaxnets.rules.einsum("...o", "...i", (jnp.ones((2, 4)), "oi"))(y, x)
    with pytest.raises(jaxnets.ShapeError, match=r"\(2, 3\)"):
        jaxnets.rules.einsum("...o", "...i", (jnp.asarray(W), "o"))(y, x)
