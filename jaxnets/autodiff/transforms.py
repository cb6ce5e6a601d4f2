"""`jacobian`, `grad` and the like: used as JAX's functions of the same names, but with hand-written rules inside."""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from ..algebra.jacobian import Jacobian
from ..checks import as_array, checked, show_value
from ..errors import DTypeError, RuleError, ShapeError
from ..layers.layer import Layer, args_at_least_float32, sixteen_bit_dtype
from ..layers.marker import with_weak_type
from .eliminate import eliminate
from .graph import read_graph
from .plan import ORDERS

ON_OPAQUE = ("warn", "allow", "error")
ON_NONFLOAT = ("skip", "error")


def is_jacobian(x) -> bool:
    return isinstance(x, Jacobian)


@checked
def dense(tree, limit: float | None = None):
    """Every `Jacobian` of a pytree as an array: `dense(jacobian(f)(x))` is what `jax.jacrev(f)(x)` gives.

    Raises JacobianTooLarge if an array exceeds `limit` bytes (default: half of the free memory), as `Jacobian.dense` does.

    >>> jn.dense(jn.jacobian(jn.relu)(jnp.array([1.0, -2.0])))
    Array([[1., 0.],
           [0., 0.]], dtype=float32)
    """

    def array(j):
        if not is_jacobian(j):
            raise TypeError(f"dense: the tree has a leaf of type {type(j).__name__}, expected a Jacobian")
        return j.dense(limit)

    return jax.tree.map(array, tree, is_leaf=is_jacobian)


def _prepare(name, function, argnums, args, kwargs, on_nonfloat):
    """The function of the floating leaves of the chosen arguments, these leaves, their names and their tree structure.

    Other leaves, as integers and the activation functions in a model of Equinox, are passed through, and have None in their
    places in the tree; without a floating leaf the first of them is an error.
    """
    if on_nonfloat not in ON_NONFLOAT:
        raise ValueError(f"{name}: on_nonfloat must be one of {ON_NONFLOAT}, got {on_nonfloat!r}")
    if not callable(function):
        raise TypeError(f"{name}: function must be callable, got {type(function).__name__}")
    single, chosen = chosen_arguments(name, argnums, len(args))
    tree = args[chosen[0]] if single else tuple(args[i] for i in chosen)
    paths, treedef = tree_flatten_with_path(tree)
    label = parameter_names(function, args, chosen)
    whole = [leaf for _, leaf in paths]
    leaves, names, skipped = {}, [], []
    for i, (path, leaf) in enumerate(paths):
        where = label[0] + keystr(path) if single else label[path[0].idx] + keystr(path[1:])
        try:
            leaves[i] = _floating_array(f"{name}: argument {where}", leaf)
            names.append(where)
        except _NonFloatingLeaf as error:
            skipped.append(error)
    if skipped and (on_nonfloat == "error" or not leaves):
        raise DTypeError(str(skipped[0]))

    def call(new_leaves):
        known = dict(zip(leaves, new_leaves, strict=True))
        tree = tree_unflatten(treedef, [known.get(i, leaf) for i, leaf in enumerate(whole)])
        changed = dict(zip(chosen, (tree,) if single else tree, strict=True))
        return function(*(changed.get(i, arg) for i, arg in enumerate(args)), **kwargs)

    floating = tree_unflatten(treedef, [leaves.get(i) for i in range(len(whole))]) if skipped else None
    return call, list(leaves.values()), names, jax.tree.structure(floating) if skipped else treedef


def by_floating_leaves(name, function, params) -> tuple[Callable, Any]:
    """The function of the floating leaves of its argument alone, in their tree, and this tree, which has None for others."""
    call, leaves, _, tree = _prepare(name, lambda params: function(params), 0, (params,), {}, "skip")
    return lambda floating: call(jax.tree.leaves(floating)), tree_unflatten(tree, leaves)


class _NonFloatingLeaf(Exception):
    """A leaf by which nothing is differentiated; the message says why."""


def _floating_array(what: str, leaf) -> jax.Array:
    """A real floating leaf as an array.  _NonFloatingLeaf for integers and for what is no array, DTypeError for complex
    numbers, and for what claims to be an array and raises."""
    claims = hasattr(leaf, "__array__") or hasattr(leaf, "__jax_array__")
    try:
        array = as_array(what, leaf)
    except DTypeError as error:
        if claims and not isinstance(leaf, (np.ndarray, np.generic)):
            raise
        raise _NonFloatingLeaf(str(error)) from error
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    text = f"{what} has dtype {array.dtype}; a derivative needs a real floating dtype"
    raise DTypeError(text) if jnp.issubdtype(array.dtype, jnp.complexfloating) else _NonFloatingLeaf(text)


def _as_gradient(jacobian, weak: bool):
    """The Jacobian of a scalar as an array, of which the dtype is weak if that of the argument is, as a Python number's."""
    gradient = jacobian.dense(math.inf)  # as large as the argument
    return with_weak_type(gradient) if weak else gradient


def chosen_arguments(name, argnums, count, argument="argnums") -> tuple[bool, tuple[int, ...]]:
    """Whether `argnums` is one number, and the arguments it chooses, counted from the first; errors name `argument`."""
    numbers: tuple[int, ...]
    try:
        single, numbers = True, (operator.index(argnums),)
    except TypeError:
        try:
            single, numbers = False, tuple(map(operator.index, argnums))
        except TypeError:
            raise TypeError(f"{name}: {argument} must be an integer or a tuple of integers, got {argnums!r}") from None
    if any(not -count <= i < count for i in numbers):
        raise ValueError(f"{name}: {argument} {argnums} out of range for {count} positional arguments")
    chosen = tuple(i % count for i in numbers)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{name}: {argument} must name each argument once, and one at least, got {argnums}")
    return single, chosen


def parameter_names(function, args, chosen) -> list[str]:
    try:
        names = list(inspect.signature(function).bind(*args).signature.parameters)
    except (TypeError, ValueError):
        names = []
    return [names[i] if i < len(names) else f"arg{i}" for i in chosen]


def trace_graph(
    name,
    function,
    argnums,
    args,
    kwargs,
    has_aux=False,
    second_order=False,
    on_nonfloat="skip",
    of_scalar=False,
    every_value=False,
):
    """The graph of a call of the function, the trees of inputs and outputs, the outputs' names and the auxiliary output."""
    call, leaves, names, in_tree = _prepare(name, function, argnums, args, kwargs, on_nonfloat)
    out_tree: Any = None
    aux_tree: Any = None
    out_names: list[str] = []

    def flat(*leaves):
        nonlocal out_tree, aux_tree, out_names
        out, aux = _output_and_aux(name, call(leaves)) if has_aux else (call(leaves), None)
        paths, out_tree = tree_flatten_with_path(out)
        out_names = ["y" + keystr(path) for path, _ in paths]
        aux, aux_tree = tree_flatten(aux)
        return [*(x for _, x in paths), *aux]

    graph = read_graph(flat, leaves, names, second_order=second_order, of_scalar=of_scalar, every_value=every_value)
    count = out_tree.num_leaves
    aux = tree_unflatten(aux_tree, graph.values[count:])
    graph.outputs, graph.values = (
        graph.outputs[:count],
        [as_array(f"{name}: output {out_names[i]}", y) for i, y in enumerate(graph.values[:count])],
    )
    for y, where in zip(graph.values, out_names, strict=True):
        if not jnp.issubdtype(y.dtype, jnp.floating):
            raise DTypeError(f"{name}: output {where} has dtype {y.dtype}; a derivative needs a real floating dtype")
    return graph, in_tree, out_tree, out_names, aux


def _output_and_aux(name: str, returned) -> tuple:
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise TypeError(f"{name}: with has_aux the function must return (output, aux), got {show_value(returned)}")
    return tuple(returned)


def _differentiate(
    name,
    function,
    argnums,
    has_aux=False,
    on_opaque="allow",
    scalar=False,
    order="auto",
    chunk_size: int | None = None,
    on_nonfloat="skip",
    sum_where_smaller=True,
):
    """A function of the arguments that returns `(value, aux, jacobians)`, with gradients for Jacobians of a scalar."""
    if on_opaque not in ON_OPAQUE:
        raise ValueError(f"{name}: on_opaque must be one of {ON_OPAQUE}, got {on_opaque!r}")
    if order not in ORDERS:
        raise ValueError(f"{name}: order must be one of {ORDERS}, got {order!r}")
    if chunk_size is not None and (not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1):
        raise ValueError(f"{name}: chunk_size must be a positive integer or None, got {chunk_size!r}")

    def run(*args, **kwargs):
        graph, in_tree, out_tree, out_names, aux = trace_graph(
            name, function, argnums, args, kwargs, has_aux, on_nonfloat=on_nonfloat, of_scalar=scalar
        )
        shapes = [y.shape for y in graph.values]
        if scalar and (shapes != [()] or out_tree != jax.tree.structure(0)):
            got = ", ".join(f"{where} of shape {shape}" for where, shape in zip(out_names, shapes, strict=True))
            raise ShapeError(
                f"{name}: the function must return one scalar, got {got or 'no array'}; use jacobian, or take a mean"
            )
        found = eliminate(graph, on_opaque, order, chunk_size, sum_where_smaller)
        rows = [
            tree_unflatten(in_tree, [replace(j, names=(y, x.name)) for j, x in zip(row, graph.inputs, strict=True)])
            for row, y in zip(found, out_names, strict=True)
        ]
        if scalar:
            rows = [
                jax.tree.map(_as_gradient, row, tree_unflatten(in_tree, graph.weakly_typed), is_leaf=is_jacobian)
                for row in rows
            ]
        return tree_unflatten(out_tree, graph.values), aux, tree_unflatten(out_tree, rows)

    return run


@checked
def value_and_jacobian(
    function: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    on_opaque: str = "warn",
    order: str = "auto",
    chunk_size: int | None = None,
    on_nonfloat: str = "skip",
) -> Callable:
    """A function that returns `(function(...), jacobian(function)(...))` from one evaluation; see `jacobian`.

    >>> y, J = jn.value_and_jacobian(jn.tanh)(jnp.zeros((4, 3)))
    >>> y.shape, J.shape, J.structure
    ((4, 3), (4, 3, 4, 3), 'diagonal')
    """
    run = _differentiate(
        "value_and_jacobian",
        function,
        argnums,
        has_aux,
        on_opaque,
        order=order,
        chunk_size=chunk_size,
        on_nonfloat=on_nonfloat,
    )

    return _returning(function, run, lambda value, aux, jacobians: ((value, aux) if has_aux else value, jacobians))


def _returning(function, run, select) -> Callable:
    """A function with the name and signature of `function` that returns `select` of the results of `run`."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return select(*run(*args, **kwargs))

    return wrapped


@checked
def jacobian(
    function: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    on_opaque: str = "warn",
    order: str = "auto",
    chunk_size: int | None = None,
    on_nonfloat: str = "skip",
) -> Callable:
    """The structured Jacobian of any pure JAX function, multiplied in the cheapest order.

    It is used as `jax.jacrev`: arguments and outputs may be pytrees, `argnums` is an index or a tuple of indices, and
    `has_aux=True` is for a function that returns `(output, aux)`.  The result has the output's tree, in each of its leaves
    the input's tree, and in each leaf of that a `Jacobian`; `dense` turns it into exactly what `jax.jacrev` returns.  It
    works on batched functions (no B×B array arises), inside and outside of `jit`, and with Python control flow that looks at
    values.

    `on_opaque` says what to do at a primitive without a rule, whose derivative is right but has no structure: "warn",
    "allow" or "error" (OpaqueError).  `order` is "auto" for the cheapest order, which `explain_plan` shows, or "forward" or
    "reverse".  `chunk_size` bounds memory: intermediate products hold that many rows of the Jacobian at a time, at least 2,
    along the longest output axis that examples do not share; in forward order they hold columns.

    Leaves of arguments that are not floating, as integers and the activation functions in a model of Equinox, are passed
    through and have None in their places in the result; `on_nonfloat="error"` refuses them.  Raises DTypeError if no leaf of
    the arguments is floating, if one is complex, or if an output is not real floating, ValueError for an unknown option.

    >>> J = jn.jacobian(jn.softmax)(jnp.ones((64, 10)))
    >>> J.formula, J.structure
    ('∂y[b,i]/∂x[b,j] = p[b,i]·(δ(i,j) − p[b,j])', 'rank-1 update')
    >>> J.per_example().shape
    (64, 10, 10)
    """
    run = _differentiate(
        "jacobian", function, argnums, has_aux, on_opaque, order=order, chunk_size=chunk_size, on_nonfloat=on_nonfloat
    )

    return _returning(function, run, lambda _, aux, jacobians: (jacobians, aux) if has_aux else jacobians)


def jacobian_for(name: str, function: Callable, sum_where_smaller: bool = True) -> Callable:
    """`jacobian(function, on_opaque="allow")`, whose errors begin with the name of the function that needs it.

    `sum_where_smaller` is that of `eliminate`.
    """
    run = _differentiate(name, function, 0, sum_where_smaller=sum_where_smaller)
    return _returning(function, run, lambda _, aux, jacobians: jacobians)


def gradient_for(name: str, function: Callable) -> Callable:
    """`grad(function)`, whose errors begin with the name of the function that needs it."""
    run = _differentiate(name, function, 0, scalar=True)
    return _returning(function, run, lambda value, aux, gradients: gradients)


@checked
def value_and_grad(
    function: Callable, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, on_nonfloat: str = "skip"
) -> Callable:
    """`(value, gradient)` of a scalar function, used as `jax.value_and_grad`, with hand-written rules.

    The gradient is an array of the argument's shape.  Leaves that are not floating have None, as in `jacobian`.  Raises
    ShapeError if the output is not a scalar.

    >>> jn.value_and_grad(lambda x: jnp.sum(jn.relu(x)))(jnp.array([1.0, -2.0]))
    (Array(1., dtype=float32), Array([1., 0.], dtype=float32))
    """
    run = _differentiate("value_and_grad", function, argnums, has_aux, scalar=True, on_nonfloat=on_nonfloat)

    def select(value, aux, gradients):
        return ((value, aux) if has_aux else value), gradients

    return _returning(function, run, select)


@checked
def grad(
    function: Callable, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, on_nonfloat: str = "skip"
) -> Callable:
    """The gradient of a scalar function, used as `jax.grad`, with hand-written rules; see `value_and_grad`.

    >>> jn.grad(lambda x: jnp.sum(jn.relu(x)))(jnp.array([1.0, -2.0]))
    Array([1., 0.], dtype=float32)
    """
    run = _differentiate("grad", function, argnums, has_aux, scalar=True, on_nonfloat=on_nonfloat)

    return _returning(function, run, lambda value, aux, gradients: (gradients, aux) if has_aux else gradients)


@checked
def hessian(
    function: Callable, argnums: int | tuple[int, ...] = 0, *, on_opaque: str = "allow", on_nonfloat: str = "skip"
) -> Callable:
    """The Hessian, used as `jax.hessian`: `dense(hessian(f)(x))` is what `jax.hessian(f)(x)` gives.

    Every leaf is a `Jacobian` whose output is the first derivative, of shape `(*y, *x1)`, and whose input is x2.

    >>> jn.hessian(lambda x: jnp.sum(jn.squared_error(x, jnp.zeros(3))))(jnp.ones(3)).structure
    'scaled identity'
    """
    first = _differentiate("hessian", function, argnums, False, on_opaque, on_nonfloat=on_nonfloat)

    slopes = _returning(function, first, lambda value, aux, jacobians: dense(jacobians))
    second = _differentiate("hessian", slopes, argnums, False, on_opaque, on_nonfloat=on_nonfloat)

    return _returning(function, second, lambda value, aux, jacobians: jacobians)


def without_partial(function: Callable) -> tuple[Callable, dict]:
    """The function inside a `functools.partial` of keywords, and these keywords."""
    if isinstance(function, functools.partial) and not function.args:
        inner, config = without_partial(function.func)
        return inner, config | function.keywords
    return function, {}


@checked
def loss_hessian(loss: Callable, predictions, *others, root: bool = False, **config) -> Jacobian:
    """The Hessian of the sum of all losses by the predictions, block diagonal over the examples.

    `loss(predictions, *others, **config)` is a loss of `LAYERS` or any function.  If it has no hand-written Hessian, its
    hand-written gradient is differentiated.  The result has the shape `(*predictions, *predictions)`; with `root` it is a
    matrix S of the same shape with S @ S.T equal to the Hessian.  Raises RuleError if no root is known.

    >>> H = jn.loss_hessian(jn.cross_entropy, jnp.zeros((2, 3)), jnp.array([0, 1]))
    >>> H.formula
    '∂g[b,i]/∂predictions[b,j] = p[b,i]·(δ(i,j) − p[b,j])'
    >>> H.per_example().shape
    (2, 3, 3)
    """
    return hessian_of_loss("loss_hessian", loss, predictions, *others, root=root, **config)


def hessian_of_loss(name: str, loss: Callable, predictions, *others, root: bool = False, **config) -> Jacobian:
    """`loss_hessian`, whose errors begin with the name of the function that needs it."""
    loss, known = without_partial(loss)
    config = known | config
    predictions = as_array(f"{name}: predictions", predictions)
    argument = parameter_names(loss, (predictions, *others), [0])[0]
    if isinstance(loss, Layer) and loss.hessian_rule is not None:
        y = loss(predictions, *others, **config)
        args, whole = loss.arguments(predictions, *others, **config)
        with loss.promotion():
            if sixteen_bit_dtype(args):  # the rule gets everything before rounding
                args = args_at_least_float32(args)
                y = loss.forward(*args, **dict(whole))
            rule = loss.hessian_rule(y, *args, **dict(whole))[root]
        if rule is not None:
            return replace(rule(predictions, predictions), names=("g", "r" if root else argument))
    else:

        def total(predictions):
            return jnp.sum(as_array(f"{name}: the value of loss", loss(predictions, *others, **config)))

        found = replace(jacobian_for(name, gradient_for(name, total))(predictions), names=("g", argument))
        if not root or not found.terms:  # 0 is its own root
            return found
    raise RuleError(f"{name}: no root of the Hessian of '{getattr(loss, '__name__', loss)}' is known")
