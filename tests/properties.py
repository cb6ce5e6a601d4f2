"""What must hold for every layer: one function a property, over one line of cases.py; AssertionError where it does not."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets

TIGHT = 1e-10


def close(actual, expected, tolerance=TIGHT, what="", least=0.0):
    """Equal shapes, and values within `tolerance` times the largest expected one (or `least`)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.size:
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        scale = max(np.abs(expected).max(), least) or 1.0
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def blocks(case, args):
    """{(output, argument): Jacobian} straight from the layer's rule."""
    table = case.layer.jacobians(list(case.call(*args)), args, case.full_config)
    return {(o, i): j for o, row in enumerate(table) for i, j in enumerate(row) if j is not None}


def same_blocks(actual, expected, tolerance=TIGHT):
    assert actual.keys() == expected.keys(), f"Jacobians for {sorted(actual)}, expected {sorted(expected)}"
    for key, value in expected.items():
        close(actual[key], value, tolerance, f"∂y{key[0]}/∂(argument {key[1]})")


def dense(table):
    return {key: j.dense() for key, j in table.items()}


def nested(case, rows):
    """{(output, argument): leaf} of what jax.jacrev returns."""
    return {(o, i): leaf for o, row in enumerate(rows) for i, leaf in zip(case.real, row, strict=True)}


def reals(case, args):
    return [args[i] for i in case.real]


def numbers(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@lru_cache(None)
def _autodiff(case, mode):
    """JAX's own dense Jacobians as a compiled function of the real arguments, and which of them are not empty."""
    args = case.values()
    function, real = case.function(args), reals(case, args)
    full = [k for k, x in enumerate(real) if x.size]  # jacrev and jacfwd refuse empty arrays
    outputs = jax.eval_shape(function, *real)

    @jax.jit
    def jacobians(*real):
        rows = [[jnp.zeros(y.shape + x.shape) for x in real] for y in outputs]
        if full and all(y.size for y in outputs):
            transform = {"reverse": jax.jacrev, "forward": jax.jacfwd}[mode]
            for row, found in zip(rows, transform(function, full)(*real), strict=True):
                for k, value in zip(full, found, strict=True):
                    row[k] = value
        return rows

    return jacobians


@lru_cache(None)
def reference(case, dtype="float64", mode="reverse", draw=0):
    """The dense Jacobians by JAX alone, from the real arguments rounded to `dtype`, computed in float64."""
    real = [x.astype("float64") for x in reals(case, case.values(dtype, draw))]
    return {key: np.asarray(value) for key, value in nested(case, _autodiff(case, mode)(*real)).items()}


# --- the numbers --------------------------------------------------------------------------------------------------


def rule_is_autodiff(case):
    """Shape, dtype and value of every block are those of jacrev and jacfwd."""
    args = case.values()
    table = blocks(case, args)
    for (o, i), j in table.items():
        assert j.shape == case.call(*args)[o].shape + args[i].shape, f"∂y{o}/∂(argument {i}) has shape {j.shape}"
        assert j.dense().dtype == j.dtype == args[i].dtype
    same_blocks(dense(table), reference(case))
    same_blocks(dense(table), reference(case, mode="forward"))


def transform_is_autodiff(case):
    """So are those of `jaxnets.jacobian`."""
    args = case.values()
    found = jaxnets.jacobian(case.function(args), tuple(range(len(case.real))), on_opaque="error")(*reals(case, args))
    same_blocks(dense(nested(case, found)), reference(case))


def finite_differences(case, step=4e-3):
    """Central differences at two steps, extrapolated, of the forward alone."""
    if case.cut:
        return
    args = [np.asarray(a) if i in case.real else a for i, a in enumerate(case.values())]
    table = dense(blocks(case, case.values()))

    def difference(i, at, h):
        moved = [list(args), list(args)]
        for sign, whole in zip((1, -1), moved, strict=True):
            whole[i] = args[i].copy()
            whole[i][at] += sign * h
        return [(np.asarray(a) - np.asarray(b)) / (2 * h) for a, b in zip(*(case.call(*m) for m in moved), strict=True)]

    for i in case.real:
        columns = []
        for at in np.ndindex(args[i].shape):
            coarse, fine = difference(i, at, step), difference(i, at, step / 2)
            columns.append([(4 * f - c) / 3 for f, c in zip(fine, coarse, strict=True)])
        for o in {o for o, _ in table} if columns else ():
            expected = np.stack([column[o] for column in columns], -1).reshape(table[o, i].shape)
            close(table[o, i], expected, 1e-7, f"∂y{o}/∂(argument {i}) by differences")


# --- the structure ------------------------------------------------------------------------------------------------


def structure_is_as_claimed(case):
    """The word of the table; what shares an index is 0 off its diagonal; no more is stored than the dense form has."""
    table = blocks(case, case.values())
    for i, word in enumerate(case.structure):
        found = [j.structure for (_, k), j in table.items() if k == i]
        claimed = list(word) if isinstance(word, tuple) else [word] * len(found) if word else []
        assert found == claimed, f"argument {i}: structure {found}, claimed {word!r}"
    for key, j in table.items():
        whole = reference(case)[key]
        for a, b in shared_axes(j):
            away = np.moveaxis(whole, (a, len(j.out_shape) + b), (0, 1))[~np.eye(j.out_shape[a], dtype=bool)]
            assert not away.any(), f"output axis {a} and input axis {b} share an index, but the Jacobian couples them"
        if j.dense_nbytes > 256:
            assert j.nbytes < j.dense_nbytes, f"stores {j.nbytes} bytes, the dense form has {j.dense_nbytes}"
        assert str(j.nbytes) in repr(j) or "kB" in repr(j)


def shared_axes(j):
    """Pairs of an output axis and an input axis that are one index in every term."""
    return [
        (a, b) for a in range(len(j.out_shape)) for b in range(len(j.in_shape))
        if j.terms and all(t.out[a] and t.out[a] == t.inp[b] for t in j.terms)
    ]  # fmt: skip


def batch_is_shared(case):
    """For batch arguments the first axis is an index that output and input share."""
    for (o, i), j in blocks(case, case.values()).items():
        if i in case.batch:
            assert (0, 0) in shared_axes(j), f"∂y{o}/∂(argument {i}) couples examples: {j.formula}"
            own = np.diagonal(reference(case)[o, i], 0, 0, len(j.out_shape))
            close(j.per_example(), np.moveaxis(own, -1, 0), TIGHT, "per_example")


# --- products -----------------------------------------------------------------------------------------------------


def products_agree(case):
    """J @ v, u @ J, J.T, matrix() and diagonal() are those of the dense array."""
    for key, j in blocks(case, case.values()).items():
        whole = reference(case)[key]
        matrix = whole.reshape(int(np.prod(j.out_shape)), int(np.prod(j.in_shape)))
        u, v = numbers(j.out_shape, 1), numbers(j.in_shape, 2)
        pushed, pulled = j @ v, u @ j
        close(pushed, (matrix @ np.ravel(v)).reshape(j.out_shape), what="J @ v")
        close(pulled, (np.ravel(u) @ matrix).reshape(j.in_shape), what="u @ J")
        close(jnp.vdot(u, pushed), jnp.vdot(pulled, v), what="⟨u, Jv⟩ = ⟨uJ, v⟩")
        close(j.matrix(), matrix, what="matrix")
        close(j.T.matrix(), matrix.T, what="T")
        if j.out_shape == j.in_shape:
            close(j.diagonal(), np.diagonal(matrix).reshape(j.out_shape), what="diagonal")


def compositions_agree(case):
    """Products with full and with diagonal matrices on either side, J.T @ J, and sums."""
    for key, j in blocks(case, case.values()).items():
        whole = reference(case)[key]
        n, m = len(j.out_shape), len(j.in_shape)
        left, right = full((3,), j.out_shape, 3), full(j.in_shape, (2,), 4)
        a, b = np.asarray(left.dense()), np.asarray(right.dense())
        close((j @ right).dense(), np.tensordot(whole, b, m), what="J @ B")
        close((left @ j).dense(), np.tensordot(a, whole, n), what="A @ J")
        close((j.T @ j).dense(), np.tensordot(np.moveaxis(whole, range(n), range(-n, 0)), whole, n), what="J.T @ J")
        close((j + 2 * j - 0.5 * j).reduced().dense(), 2.5 * whole, what="J + 2 J − J/2")
        if m:
            scaled = jaxnets.rules.diagonal(numbers(j.in_shape, 5))(jnp.zeros(j.in_shape), jnp.zeros(j.in_shape))
            close((left @ j @ scaled).dense(), np.tensordot(a, whole, n) * np.asarray(numbers(j.in_shape, 5)), what="A J D")
        if n:
            scaled = jaxnets.rules.diagonal(numbers(j.out_shape, 6))(jnp.zeros(j.out_shape), jnp.zeros(j.out_shape))
            weights = np.asarray(numbers(j.out_shape, 6)).reshape(*j.out_shape, *[1] * m)
            close((scaled @ j @ right).dense(), np.tensordot(whole * weights, b, m), what="D J B")


def full(out_shape, in_shape, seed):
    """A Jacobian that is one array without structure."""
    out, inp = "abcdefg"[: len(out_shape)], "tuvwxyz"[: len(in_shape)]
    rule = jaxnets.rules.einsum(out, inp, (numbers((*out_shape, *in_shape), seed), out + inp))
    return rule(jax.ShapeDtypeStruct(out_shape, "float64"), jax.ShapeDtypeStruct(in_shape, "float64"))


# --- derivatives of the Jacobian, transformations -----------------------------------------------------------------


def second_order(case):
    """`jaxnets.hessian` of a weighted sum of squares of the outputs is `jax.hessian`."""
    args = case.values()
    function, real = case.function(args), reals(case, args)
    if any(x.size == 0 for x in [*real, *function(*real)]):
        return

    def scalar(*real):
        return sum(jnp.sum(numbers(y.shape, 7 + o) * y * y) for o, y in enumerate(function(*real)))

    wrt = tuple(range(len(real)))
    expected = jax.jit(jax.hessian(scalar, wrt))(*real)
    found = jax.jit(lambda *real: jaxnets.dense(jaxnets.hessian(scalar, wrt)(*real)))(*real)
    for i in wrt:
        for k in wrt:
            close(found[i][k], expected[i][k], 1e-9, f"second derivative by arguments {case.real[i]}, {case.real[k]}")


def _dense_jacobians(case, args):
    """A function from the real arguments to the dense Jacobians."""
    wrt = tuple(range(len(case.real)))
    return lambda *real: jaxnets.dense(jaxnets.jacobian(case.function(args), wrt)(*real))


def jit_is_eager(case):
    """And a Jacobian may leave jit in structured form."""
    args = case.values()
    found = jax.jit(jaxnets.jacobian(case.function(args), tuple(range(len(case.real)))))(*reals(case, args))
    same_blocks(dense(nested(case, found)), reference(case), 1e-12)


def vmap_is_loop(case):
    """vmap over a new axis of all real arguments."""
    args = case.values()
    draws = [reals(case, case.values(draw=d)) for d in range(2)]
    stacked = [jnp.stack(column) for column in zip(*draws, strict=True)]
    found = nested(case, jax.jit(jax.vmap(_dense_jacobians(case, args)))(*stacked))
    expected = [reference(case, draw=d) for d in range(2)]
    same_blocks(found, {key: np.stack([e[key] for e in expected]) for key in found}, 1e-12)


def batch_is_loop(case):
    """The batched layer and its Jacobians are those of the examples, one by one."""
    if not case.batch:
        return
    args = case.values()
    outputs, table = case.call(*args), blocks(case, args)
    for b in range(args[case.batch[0]].shape[0]):
        one = [a[b] if i in case.batch else a for i, a in enumerate(args)]
        single = case.call(*one)
        for y, y_one in zip(outputs, single, strict=True):
            close(y[b], y_one, 1e-14, "value")
        direct = case.layer.jacobians(list(single), one, case.full_config) if "axis" not in case.config else None
        for (o, i), j in table.items() if direct else ():
            whole = j.per_example()[b] if i in case.batch else j.dense()[b]
            close(whole, direct[o][i].dense(), 1e-12, f"∂y{o}/∂(argument {i}) of example {b}")


# --- precision ----------------------------------------------------------------------------------------------------


def float32_is_rounded(case):
    """float32 in, float32 out, nothing wider stored, at the accuracy of float32."""
    args = case.values("float32")
    assert all(y.dtype == np.float32 for y in case.call(*args))
    table = blocks(case, args)
    assert all(leaf.dtype != np.float64 for leaf in jax.tree.leaves(table)), "stores float64 for float32 arguments"
    table = dense(table)
    assert all(j.dtype == np.float32 for j in table.values())
    same_blocks(table, reference(case, "float32"), 2e-6)


def half_precision_is_rounded(case):
    """float16 and bfloat16: dtype kept, value and Jacobian within a few units of the rounded double result."""
    for dtype in ("float16", "bfloat16"):
        args = case.values(dtype)
        exact = [a.astype("float64") if i in case.real else a for i, a in enumerate(args)]
        for y, y_exact in zip(case.call(*args), case.call(*exact), strict=True):
            near(y, y_exact, dtype, case, "value")
        for key, j in dense(blocks(case, args)).items():
            near(j, reference(case, dtype)[key], dtype, case, f"∂y{key[0]}/∂(argument {key[1]})")


def near(actual, exact, dtype, case, what):
    assert actual.dtype == dtype, f"{what} has dtype {actual.dtype}, expected {dtype}"
    actual, exact = np.asarray(actual, np.float64), np.asarray(exact)
    if not exact.size:
        return
    info = jnp.finfo(dtype)
    size = np.maximum(np.abs(exact), float(info.tiny))
    unit = float(info.eps) * 2.0 ** np.floor(np.log2(size))
    allowed = case.ulp * unit + case.eps * float(info.eps) * max(1.0, np.abs(exact).max())
    worst = np.max(np.abs(actual - exact) / allowed)
    assert worst <= 1, f"{what} in {dtype}: {worst:.3g} times the allowed error"


# Cheap ones first: the mutation test stops at the first that fails.
PROPERTIES = [
    rule_is_autodiff, structure_is_as_claimed, batch_is_shared, products_agree, compositions_agree, transform_is_autodiff,
    batch_is_loop, float32_is_rounded, half_precision_is_rounded, finite_differences, second_order, vmap_is_loop,
    jit_is_eager,
]  # fmt: skip
