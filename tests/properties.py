"""What must hold for every layer: one function a property, over one line of cases.py; AssertionError where it does not."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets

from .computing import (
    TIGHT,
    blocks,
    by_rule,
    close,
    compiled,
    dense,
    nested,
    numbers,
    reals,
    reference,
    references,
    same_blocks,
    whole_blocks,
)

# --- the numbers --------------------------------------------------------------------------------------------------


def rule_is_autodiff(case):
    """Shape, dtype and value of every block are those of jacrev."""
    args = case.values()
    outputs, table, whole, _ = by_rule(case)
    for (o, i), j in table.items():
        assert j.shape == outputs[o].shape + args[i].shape, f"∂y{o}/∂(argument {i}) has shape {j.shape}"
        assert whole[o, i].dtype == j.dtype == args[i].dtype
    same_blocks(whole, reference(case))


def rule_is_forward_autodiff(case):
    """Its values are those of jacfwd, too."""
    same_blocks(by_rule(case)[2], references(case, transform=jax.jacfwd)[1])


def _dense_jacobians(case, args):
    """A function from the real arguments to the dense Jacobians."""
    wrt = tuple(range(len(case.real)))
    return lambda *real: jaxnets.dense(jaxnets.jacobian(case.function(args), wrt, on_opaque="error")(*real))


def transform_is_autodiff(case):
    """So are those of `jaxnets.jacobian`."""
    args = case.values()
    same_blocks(nested(case, jax.jit(_dense_jacobians(case, args))(*reals(case, args))), reference(case))


def finite_differences(case, step=4e-3):
    """Central differences at two steps, extrapolated, of the forward alone."""
    if case.cut:
        return
    args = [np.asarray(a) if i in case.real else a for i, a in enumerate(case.values())]
    forward = jax.jit(case.function(args))
    table = by_rule(case)[2]

    def difference(i, at, h):
        moved = [list(args), list(args)]
        for sign, whole in zip((1, -1), moved, strict=True):
            whole[i] = args[i].copy()
            whole[i][at] += sign * h
        ends = (forward(*reals(case, whole)) for whole in moved)
        return [(np.asarray(a) - np.asarray(b)) / (2 * h) for a, b in zip(*ends, strict=True)]

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
    table = by_rule(case)[1]
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
    _, table, _, apart = by_rule(case)
    for (o, i), own in apart.items():
        j = table[o, i]
        assert (0, 0) in shared_axes(j), f"∂y{o}/∂(argument {i}) couples examples: {j.formula}"
        diagonal = np.diagonal(reference(case)[o, i], 0, 0, len(j.out_shape))
        close(own, np.moveaxis(diagonal, -1, 0), TIGHT, "per_example")


# --- products -----------------------------------------------------------------------------------------------------


def products_agree(case):
    """J @ v, u @ J, J.T, matrix() and diagonal() are those of the dense array."""

    def products(j, whole):
        u, v = numbers(j.out_shape, 1), numbers(j.in_shape, 2)
        matrix = whole.reshape(u.size, v.size)
        pushed, pulled = j @ v, u @ j
        table = {
            "J @ v": (pushed, (matrix @ np.ravel(v)).reshape(j.out_shape)),
            "u @ J": (pulled, (np.ravel(u) @ matrix).reshape(j.in_shape)),
            "⟨u, Jv⟩ = ⟨uJ, v⟩": (jnp.vdot(u, pushed), jnp.vdot(pulled, v)),
            "matrix": (j.matrix(), matrix),
            "T": (j.T.matrix(), matrix.T),
        }
        if j.out_shape == j.in_shape:
            table["diagonal"] = (j.diagonal(), np.diagonal(matrix).reshape(j.out_shape))
        return table

    same_pairs(case, products)


def compositions_agree(case):
    """Products with full and with diagonal matrices on either side, J.T @ J, and sums."""

    def compositions(j, whole):
        n, m = len(j.out_shape), len(j.in_shape)
        a, b = numbers((3, *j.out_shape), 3), numbers((*j.in_shape, 2), 4)
        left, right = full(a, (3,), j.out_shape), full(b, j.in_shape, (2,))
        table = {
            "J @ B": ((j @ right).dense(), np.tensordot(whole, b, m)),
            "A @ J": ((left @ j).dense(), np.tensordot(a, whole, n)),
            "J.T @ J": ((j.T @ j).dense(), np.tensordot(np.moveaxis(whole, range(n), range(-n, 0)), whole, n)),
            "J + 2 J − J/2": ((j + 2 * j - 0.5 * j).reduced().dense(), 2.5 * whole),
        }
        if m:
            scale = numbers(j.in_shape, 5)
            scaled = jaxnets.rules.diagonal(scale)(scale, scale)
            table["A J D"] = (left @ j @ scaled).dense(), np.tensordot(a, whole, n) * scale
        if n:
            scale = numbers(j.out_shape, 6)
            scaled = jaxnets.rules.diagonal(scale)(scale, scale)
            table["D J B"] = (scaled @ j @ right).dense(), np.tensordot(whole * scale.reshape(*j.out_shape, *[1] * m), b, m)
        return table

    same_pairs(case, compositions)


def same_pairs(case, pairs):
    """pairs(Jacobian, its dense values) gives {what: (actual, expected)} for every block, here computed under one jit."""
    expected = reference(case)

    def table(case, args):
        return {key: pairs(j, expected[key]) for key, j in blocks(case, args).items()}

    for key, found in compiled(case, table).items():
        for what, pair in found.items():
            close(*pair, what=f"∂y{key[0]}/∂(argument {key[1]}): {what}")


def full(values, out_shape, in_shape):
    """A Jacobian that is one array without structure."""
    out, inp = "abcdefg"[: len(out_shape)], "tuvwxyz"[: len(in_shape)]
    rule = jaxnets.rules.einsum(out, inp, (values, out + inp))
    return rule(jax.ShapeDtypeStruct(out_shape, "float64"), jax.ShapeDtypeStruct(in_shape, "float64"))


# --- derivatives of the Jacobian, transformations -----------------------------------------------------------------


def second_order(case):
    """`jaxnets.hessian` of a weighted sum of squares of the outputs is `jax.hessian`."""
    args = case.values()
    function, real = case.function(args), reals(case, args)
    if any(x.size == 0 for x in [*real, *jax.eval_shape(function, *real)]):
        return

    def scalar(*real):
        return sum(jnp.sum(numbers(y.shape, 7 + o) * y * y) for o, y in enumerate(function(*real)))

    wrt = tuple(range(len(real)))

    @jax.jit
    def both(*real):
        return jaxnets.dense(jaxnets.hessian(scalar, wrt)(*real)), jax.hessian(scalar, wrt)(*real)

    found, expected = both(*real)
    for i in wrt:
        for k in wrt:
            close(found[i][k], expected[i][k], 1e-9, f"second derivative by arguments {case.real[i]}, {case.real[k]}")


def eager_is_jit(case):
    """The rule without jit, operation by operation."""
    same_blocks(dense(blocks(case, case.values())), reference(case), 1e-12)


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

    def pairs(case, args):
        outputs, table = case.call(*args), blocks(case, args)
        values, derivatives = [], {}
        for b in range(args[case.batch[0]].shape[0]):
            one = [a[b] if i in case.batch else a for i, a in enumerate(args)]
            single = case.call(*one)
            values += [(y[b], y_one) for y, y_one in zip(outputs, single, strict=True)]
            if "axis" in case.config:  # another axis of an example
                continue
            direct = case.layer.jacobians(list(single), one, case.full_config)
            for (o, i), j in table.items():
                whole = j.per_example()[b] if i in case.batch else j.dense()[b]
                derivatives[o, i, b] = whole, direct[o][i].dense()
        return values, derivatives

    values, derivatives = compiled(case, pairs)
    for pair in values:
        close(*pair, 1e-14, "value")
    for (o, i, b), pair in derivatives.items():
        close(*pair, 1e-12, f"∂y{o}/∂(argument {i}) of example {b}")


# --- curvature ----------------------------------------------------------------------------------------------------


def curvature_is_dense(case):
    """Norms, kernels of outputs, the diagonal of a Gauss-Newton matrix and the Laplacian are those of dense arrays.

    By the rule and, for the layer as a function of a tuple of its real arguments, by the public functions.
    """

    def quantities(case, args):
        function, params, outputs = case.function(args), tuple(reals(case, args)), case.call(*args)
        kernels = {key: j @ j.T for key, j in blocks(case, args).items()}
        losses, zeros = (jaxnets.squared_error,) * len(outputs), tuple(map(jnp.zeros_like, outputs))
        apart = outputs[0].ndim > 0

        def by_first(x):
            return function(x, *params[1:])

        return (
            outputs,
            {key: kernel.diagonal(tuple(range(1, len(kernel.out_shape)))) for key, kernel in kernels.items()},
            jaxnets.per_example_grad_norms(lambda params: function(*params)[0])(params) if apart else None,
            jaxnets.ggn_diagonal(lambda params, _: function(*params), losses)(params, None, zeros),
            jaxnets.laplacian(by_first)(params[0]),
            traces_of_hessians(by_first, params[0]),
        )

    outputs, diagonals, norms, squares, laplacians, traces = compiled(case, quantities)
    rows = {}  # [first axis, other axes, input]
    for (o, i), whole in reference(case).items():
        shape = outputs[o].shape
        rows[o, i] = whole.reshape(*shape[:1] or (1,), math.prod(shape[1:]), math.prod(whole.shape[len(shape) :]))
        kernel = np.einsum("akp,bkp->abk", rows[o, i], rows[o, i])
        close(diagonals[o, i], kernel.reshape(shape[:1] * 2 + shape[1:]), what=f"diagonal of J Jᵀ, argument {i}")
    whole = np.concatenate([rows[0, i] for i in case.real], -1)
    if norms is not None:
        close(
            norms, np.linalg.norm(whole.sum(1), axis=-1), what="per_example_grad_norms", least=np.abs(whole).max(initial=0)
        )
    for i, found in zip(case.real, squares, strict=True):
        whole = sum(2 * (rows[o, i] ** 2).sum((0, 1)) for o in range(len(outputs)))
        close(found, whole.reshape(found.shape), what=f"ggn_diagonal, argument {i}")
    for found, exact in zip(laplacians, traces, strict=True):
        close(found, exact, what="laplacian", least=1e-3)


def traces_of_hessians(function, x):
    """Σ_i ∂²f/∂x_i² by JAX alone, direction by direction."""

    def along(v):
        return jax.jvp(lambda x: jax.jvp(function, (x,), (v,))[1], (x,), (v,))[1]

    return [jnp.sum(each, 0) for each in jax.vmap(along)(jnp.eye(x.size).reshape(x.size, *x.shape))]


# --- precision ----------------------------------------------------------------------------------------------------


def float32_is_rounded(case):
    """float32 in, float32 out, nothing wider stored, at the accuracy of float32."""
    outputs, table, whole, _ = compiled(case, whole_blocks, "float32")
    assert all(y.dtype == np.float32 for y in outputs)
    assert all(leaf.dtype != np.float64 for leaf in jax.tree.leaves(table)), "stores float64 for float32 arguments"
    assert all(j.dtype == np.float32 for j in whole.values())
    same_blocks(whole, reference(case, "float32"), 2e-6)


def float32_stays_float32(case):
    """No result and nothing that is stored is wider: from shapes alone, which compiles nothing."""
    args = case.values("float32")
    outputs, table, whole, _ = jax.eval_shape(lambda *real: whole_blocks(case, case.whole(args, real)), *reals(case, args))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((outputs, whole))} <= {"float32"}
    assert all(leaf.dtype != np.float64 for leaf in jax.tree.leaves(table)), "stores float64 for float32 arguments"


def half_precision_is_rounded(case, dtypes=("float16", "bfloat16")):
    """float16 and bfloat16: dtype kept, value and Jacobian within a few units of the rounded double result."""
    for dtype in dtypes:
        outputs, _, table, _ = compiled(case, whole_blocks, dtype)
        exact, expected = references(case, dtype)
        for y, y_exact in zip(outputs, exact, strict=True):
            near(y, y_exact, dtype, case, "value")
        for key, j in table.items():
            near(j, expected[key], dtype, case, f"∂y{key[0]}/∂(argument {key[1]})")


def float16_is_rounded(case):
    """The same for float16 alone."""
    half_precision_is_rounded(case, ("float16",))


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
    rule_is_autodiff, structure_is_as_claimed, batch_is_shared, float32_stays_float32, products_agree, compositions_agree,
    transform_is_autodiff, batch_is_loop, float32_is_rounded, float16_is_rounded, half_precision_is_rounded,
    rule_is_forward_autodiff, finite_differences, second_order, vmap_is_loop, eager_is_jit, curvature_is_dense,
]  # fmt: skip
# What the short suite tries: the first on every line of the table, for they share what is compiled; then, with those before,
# on the first line of every structure, of every word for a structure, and of some structures.
ON_EVERY_LINE = [rule_is_autodiff, structure_is_as_claimed, batch_is_shared, float32_stays_float32]
ON_EVERY_STRUCTURE = [
    *ON_EVERY_LINE,
    float16_is_rounded,
    transform_is_autodiff,
    batch_is_loop,
]
ON_EVERY_WORD = [*ON_EVERY_STRUCTURE, products_agree, compositions_agree]
ON_SOME_STRUCTURES = [
    *ON_EVERY_WORD, finite_differences, second_order, vmap_is_loop, eager_is_jit, rule_is_forward_autodiff,
    curvature_is_dense,
]  # fmt: skip
