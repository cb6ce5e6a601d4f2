"""The algebra of Jacobians: every operation against the same on dense arrays, products with vectors, errors, rules."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnets
from tests.autodiff.programs import r

from ..sweeps import swept
from .maps import MAPS, W, close, flat, made, over_maps


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
        use(jaxnets.jacobian(f, on_opaque="allow")(jax.device_put(r(*shape))))
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


def test_numpy_gets_the_dense_array():
    x = np.array([0.3, -0.7])
    j = jaxnets.jacobian(jaxnets.tanh)(x)
    expected = np.diag(1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(j, expected, rtol=1e-14)
    assert np.allclose(j, expected) and np.asarray(j).dtype == np.float64 and np.asarray(j, np.float32).dtype == np.float32
    assert np.array([j, j]).shape == (2, 2, 2)
    np.testing.assert_allclose(x @ j, x @ expected)  # still the product with the structured form
    with pytest.raises(ValueError, match="copy"):
        np.asarray(j, copy=False)
    with pytest.raises(jaxnets.JacobianTooLarge, match="diagonal"):
        np.asarray(jax.jit(jaxnets.jacobian(jaxnets.tanh))(np.zeros(10**6)))
