"""Contracts on the primitives of JAX: their names and parameters, in the table PRIMITIVES."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import sparse

from .contracts import inner_equations, only_equation, relied_on_by, traced


@dataclasses.dataclass
class Made:
    """A program that makes a primitive, and what its parameters then are: at least these, or exactly these."""

    program: Callable
    args: tuple
    params: dict = dataclasses.field(default_factory=dict)
    exactly: bool = False
    since: tuple[int, int] = (0, 10)


A = np.full((3, 4), 0.5, np.float32)
ROW = np.ones(4, np.float32)
CUBE = np.ones((2, 3, 4), np.float32)
WINDOW = {
    "window_dimensions": (1, 2), "window_strides": (1, 2), "padding": ((0, 0), (0, 0)), "base_dilation": (1, 1),
    "window_dilation": (1, 1),
}  # fmt: skip


def elementwise(name, count=1):
    return Made(getattr(lax, name), (A,) * count)


def window(init, op):
    return Made(lambda x: lax.reduce_window(x, init, op, (1, 2), (1, 2), "VALID"), (A,), WINDOW, exactly=True)


def cumulative(name):
    return Made(lambda x: getattr(lax, name)(x, 1), (A,), {"axis": 1})


def symmetric(x):
    return x @ x.mT + 3 * jnp.eye(x.shape[-1], dtype=x.dtype)


SQUARE = np.full((2, 3, 3), 0.5, np.float32)


def matrices(function):
    return Made(lambda x: function(symmetric(x)), (SQUARE,))


def sparse_array(data):
    return sparse.BCOO((data, jnp.asarray([[0, 1], [2, 3], [1, 1], [1, 0]])), shape=(3, 4))


def scattered(how):
    """What `.at` makes, for rows at two places."""
    return Made(
        lambda x, i, u: getattr(x.at[i], how)(u, mode="drop", unique_indices=True),
        (A, np.array([0, 2], np.int32), A[:2]),
        {"dimension_numbers": lax.ScatterDimensionNumbers(
            update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,),
            operand_batching_dims=(), scatter_indices_batching_dims=()),
         "mode": lax.GatherScatterMode.FILL_OR_DROP},
    )  # fmt: skip


ON_ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
ON_ONE_EXPLICIT_DEVICE = jax.sharding.NamedSharding(
    jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,), devices=jax.devices()[:1]),
    jax.sharding.PartitionSpec(),
)
PRIMITIVES = {
    **{name: elementwise(name) for name in (
        "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "cos", "cosh",
        "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "is_finite", "lgamma", "log", "log1p",
        "logistic", "neg", "optimization_barrier", "round", "rsqrt", "sign", "sin", "sinh", "sqrt", "square",
        "stop_gradient", "tan", "tanh",
    )},
    **{name: elementwise(name, 2) for name in (
        "add", "atan2", "div", "igamma", "igammac", "max", "min", "mul", "nextafter", "polygamma", "pow", "rem", "sub",
        "zeta",
    )},
    "add_any": Made(jax.grad(lambda x: jnp.sum(lax.sin(x) * lax.cos(x))), (A,)),
    "betainc": elementwise("betainc", 3),
    "broadcast_in_dim": Made(lambda x: lax.broadcast_in_dim(x, (2, 4), (1,)), (ROW,), {"broadcast_dimensions": (1,)}),
    "cholesky": matrices(jnp.linalg.cholesky),
    "clamp": elementwise("clamp", 3),
    "concatenate": Made(lambda x, y: lax.concatenate([x, y], 1), (A, A), {"dimension": 1}, exactly=True),
    "conv_general_dilated": Made(
        lambda x, w: lax.conv_general_dilated(
            x, w, (2,), [(1, 0)], (1,), (3,), ("NWC", "OIW", "NCW"), feature_group_count=2),
        (np.ones((2, 9, 4), np.float32), np.ones((6, 2, 2), np.float32)),
        {"window_strides": (2,), "padding": ((1, 0),), "lhs_dilation": (1,), "rhs_dilation": (3,),
         "dimension_numbers": ((0, 2, 1), (0, 1, 2), (0, 1, 2)), "feature_group_count": 2, "batch_group_count": 1},
    ),
    "convert_element_type": Made(lambda x: lax.convert_element_type(x, np.float16), (A,)),
    "copy": Made(jnp.copy, (A,)),
    "device_put": Made(lambda x: jax.device_put([x, x])[0], (A,)),
    "cumlogsumexp": cumulative("cumlogsumexp"),
    "cummax": cumulative("cummax"),
    "cummin": cumulative("cummin"),
    "cumprod": cumulative("cumprod"),
    "cumsum": cumulative("cumsum"),
    "dot_general": Made(
        lambda x, y: lax.dot_general(x, y, (((2,), (1,)), ((0,), (0,)))), (CUBE, CUBE.transpose(0, 2, 1)),
        {"dimension_numbers": (((2,), (1,)), ((0,), (0,)))},
    ),
    "dynamic_update_slice": Made(lambda x, u, i: lax.dynamic_update_slice(x, u, (i, 0)), (A, A[:2], 1), exactly=True),
    "eigh": matrices(lambda x: jnp.linalg.eigh(x, symmetrize_input=False)),
    "lu": matrices(lambda x: jax.scipy.linalg.lu_factor(x)[0]),
    "qr": matrices(lax.linalg.qr),
    "scatter": scattered("set"),
    "sharding_constraint": Made(lambda x: lax.with_sharding_constraint(x, ON_ONE_DEVICE), (A,)),
    "reshard": Made(lambda x: jax.sharding.reshard(x, ON_ONE_EXPLICIT_DEVICE), (A,)),
    "scatter-add": scattered("add"),
    "scatter-max": scattered("max"),
    "scatter-min": scattered("min"),
    "scatter-mul": scattered("multiply"),
    "svd": matrices(lambda x: lax.linalg.svd(x)),
    "bcoo_dot_general": Made(
        lambda d, x: sparse_array(d) @ x,
        (ROW, A[0][:, None]),
        {"dimension_numbers": (((1,), (0,)), ((), ())), "lhs_spinfo": sparse.bcoo.SparseInfo((3, 4))},
    ),
    "bcoo_todense": Made(lambda d: sparse_array(d).todense(), (ROW,)),
    "bcoo_transpose": Made(lambda d: sparse_array(d).T.data, (ROW,)),
    "top_k": Made(lambda x: lax.top_k(x, 2), (A,), {"axis": 1}),
    "triangular_solve": Made(lambda x: lax.linalg.triangular_solve(x, x, lower=True), (SQUARE,)),
    "tridiagonal_solve": Made(lambda x: lax.linalg.tridiagonal_solve(x, x, x, x[..., None]), (A,)),
    "dynamic_slice": Made(lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 4)), (A, 1), {"slice_sizes": (2, 4)}),
    "gather": Made(
        lambda x, i: jnp.take_along_axis(x, i, 1, mode="clip"), (A, np.zeros((3, 1), np.int32)),
        {"dimension_numbers": lax.GatherDimensionNumbers(
            offset_dims=(), collapsed_slice_dims=(1,), start_index_map=(1,), operand_batching_dims=(0,),
            start_indices_batching_dims=(0,)),
         "slice_sizes": (1, 1), "mode": lax.GatherScatterMode.CLIP},
    ),
    "integer_pow": Made(lambda x: lax.integer_pow(x, 3), (A,)),
    "log2": Made(jnp.log2, (A,), since=(0, 12)),
    "name": Made(lambda x: checkpoint_name(x, "hidden"), (A,)),
    "one_minus_square": Made(jax.grad(lambda x: lax.tanh(x).sum()), (A,), since=(0, 12)),
    "pad": Made(lambda x: lax.pad(x, np.float32(0), ((1, 2, 3),)), (ROW,), {"padding_config": ((1, 2, 3),)}, exactly=True),
    "psum": Made(
        jax.vmap(lambda x: lax.psum(x, "b"), axis_name="b"), (A,), {"axes": (0,), "axis_index_groups": None}),
    "real": Made(lax.real, (A.astype(np.complex64),)),
    "reduce_max": Made(lambda x: x.max(1), (A,), {"axes": (1,)}),
    "reduce_min": Made(lambda x: x.min(1), (A,), {"axes": (1,)}),
    "reduce_precision": Made(lambda x: lax.reduce_precision(x, 8, 7), (A,)),
    "reduce_prod": Made(lambda x: x.prod(1), (A,), {"axes": (1,)}),
    "reduce_sum": Made(lambda x: x.sum(1), (A,), {"axes": (1,)}),
    "reduce_window_max": window(-np.inf, lax.max),
    "reduce_window_min": window(np.inf, lax.min),
    "reduce_window_sum": window(0.0, lax.add),
    "reshape": Made(lambda x: lax.reshape(x, (2, 6), (1, 0)), (A,), {"dimensions": (1, 0)}),
    "rev": Made(lambda x: lax.rev(x, (1,)), (A,), {"dimensions": (1,)}, exactly=True),
    "select_n": Made(lax.select_n, (A > 0, A, A)),
    "slice": Made(
        lambda x: lax.slice(x, (1, 0), (3, 4), (1, 2)), (A,), {"start_indices": (1, 0), "strides": (1, 2)}),
    "sort": Made(lambda x: lax.sort(x, dimension=0), (A,), {"dimension": 0, "is_stable": True, "num_keys": 1}, exactly=True),
    "split": Made(lambda x: lax.split(x, (1, 3), 1), (A,), {"sizes": (1, 3), "axis": 1}, exactly=True),
    "squeeze": Made(lambda x: lax.squeeze(x, (0,)), (A[:1],)),
    "stack": Made(lambda x, y: jnp.stack([x, y], 1), (A, A), {"axis": 1}, exactly=True),
    "tile": Made(lambda x: jnp.tile(x, (2, 3)), (A,), {"reps": (2, 3)}, exactly=True),
    "transpose": Made(lambda x: lax.transpose(x, (1, 0)), (A,), {"permutation": (1, 0)}, exactly=True),
    "unstack": Made(lambda x: jnp.unstack(x, axis=1), (A,), {"axis": 1}, exactly=True),
}  # fmt: skip
PRIMITIVES["regularized_incomplete_beta"] = PRIMITIVES.pop("betainc")
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])


PRESENT = {name: ", ".join(made.params) or "none" for name, made in PRIMITIVES.items() if made.since <= VERSION}


@pytest.mark.parametrize(("name", "parameters"), PRESENT.items(), ids=PRESENT)
@relied_on_by("autodiff/primitives.py: rules_for")
def test_names_and_parameters_of_primitives(name, parameters):
    """JAX has a primitive {name}, and these of its parameters are read as the table PRIMITIVES shows them: {parameters}."""
    made = PRIMITIVES[name]
    found = [e for e in inner_equations(traced(made.program, *made.args)) if e.primitive.name == name]
    assert found, "no primitive of this name"
    params = found[0].params
    assert {key: params[key] for key in made.params} == made.params
    assert not made.exactly or set(params) == set(made.params)


@relied_on_by("autodiff/unmixed.py: _of_linear_solve")
def test_a_linear_solve_tells_what_its_operands_are_for():
    """The parameter `const_lengths` of the primitive custom_linear_solve counts the operands of `matvec`, `vecmat`, `solve`
    and `transpose_solve`, in this order before those of the right-hand side."""

    def solve(a, s, b):
        return lax.custom_linear_solve(lambda x: a * x, b, lambda _, y: y / s, lambda _, y: y / s / s)

    equation = only_equation(solve, 2.0, 3.0, 4.0)
    assert equation.primitive.name == "custom_linear_solve"
    lengths = equation.params["const_lengths"]
    assert (lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve) == (1, 1, 1, 1)
    a, also_a, s, also_s, b = equation.invars
    assert (a, s) == (also_a, also_s) and len({a, s, b}) == 3
    assert len(equation.params["jaxprs"].matvec.jaxpr.invars) == 2  # what it is made of, then what it is applied to


@relied_on_by("autodiff/graph.py: WITHOUT_DERIVATIVE")
def test_what_leaves_jax_has_names():
    """Calls out of JAX are the primitives pure_callback, io_callback and ffi_call."""
    from jax.experimental import io_callback

    calls = {
        "pure_callback": lambda x: jax.pure_callback(np.sin, x, x),
        "io_callback": lambda x: io_callback(np.sin, x, x),
        "ffi_call": lambda x: jax.ffi.ffi_call("anything", x)(x),
    }
    for name, call in calls.items():
        assert name in {e.primitive.name for e in inner_equations(traced(call, np.ones(3, np.float32)))}


@relied_on_by("autodiff/unmixed.py: _of_scan")
def test_a_scan_tells_constants_carries_and_elements():
    """The primitive scan has its body in `jaxpr`; before jax 0.12 `num_consts` and `num_carry` count the operands, from then
    on `ft_in`, of which `unpack()` gives three parts: constants, carries and elements."""
    equation = only_equation(lambda w, c, x: lax.scan(lambda c, x: (w * c + x, c), c, x), 2.0, 1.0, np.ones(3))
    params = equation.params
    assert len(getattr(params["jaxpr"], "jaxpr", params["jaxpr"]).invars) == 3
    if VERSION >= (0, 12):
        assert [len(part) for part in params["ft_in"].unpack()] == [1, 1, 1]
    else:
        assert (params["num_consts"], params["num_carry"]) == (1, 1)


@relied_on_by("autodiff/unmixed.py: _of_while", "autodiff/unmixed.py: _of_cond")
def test_loops_and_branches_tell_their_functions():
    """The primitive while counts in `cond_nconsts` and `body_nconsts` the operands that come before the carries, and has its
    body in `body_jaxpr`; the primitive cond has its `branches`, whose operands follow the index."""
    loop = only_equation(lambda w, n: lax.while_loop(lambda c: c < n, lambda c: c * w, 1.0), 2.0, 9.0)
    assert (loop.params["cond_nconsts"], loop.params["body_nconsts"], len(loop.invars)) == (1, 1, 3)
    assert len(getattr(loop.params["body_jaxpr"], "jaxpr", loop.params["body_jaxpr"]).invars) == 2
    branch = inner_equations(traced(lambda x: lax.cond(x > 0, lax.sin, lax.cos, x), 1.0))
    (branch,) = [e for e in branch if e.primitive.name == "cond"]
    assert (len(branch.params["branches"]), len(branch.invars)) == (2, 2)


@relied_on_by("autodiff/primitives.py: _elementwise_rule", "autodiff/opaque.py: BoundPrimitive")
def test_a_primitive_binds_with_its_parameters_to_what_it_gave():
    """primitive.bind(*operands, **params) runs a primitive again, gives a list where `multiple_results`, and JAX
    differentiates it."""
    power, split = (only_equation(PRIMITIVES[name].program, A) for name in ("integer_pow", "split"))
    assert (power.primitive.multiple_results, split.primitive.multiple_results) == (False, True)
    _, slope = jax.jvp(lambda x: power.primitive.bind(x, **power.params), (2.0,), (1.0,))
    assert slope == 12
    assert [part.shape for part in split.primitive.bind(A, **split.params)] == [(3, 1), (3, 3)]


@relied_on_by("autodiff/graph.py: read_graph", "layers/marker.py: with_weak_type")
def test_a_dtype_can_be_weak_and_a_conversion_can_make_it_so():
    """typeof(x).weak_type tells whether the dtype of x gives way to others; convert_element_type_p with weak_type=True makes
    it so, and JAX differentiates that."""

    def weak(x):
        return lax.convert_element_type_p.bind(x, new_dtype=x.dtype, weak_type=True, sharding=None)

    strong = jnp.asarray(2.0, jnp.float32)
    assert (jax.typeof(jnp.asarray(2.0)).weak_type, jax.typeof(strong).weak_type) == (True, False)
    assert jax.typeof(weak(strong)).weak_type and weak(strong) == 2
    assert (weak(strong) * jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
    assert jax.grad(lambda x: weak(x) ** 2)(strong) == 4
