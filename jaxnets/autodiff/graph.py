"""Reads a function into a graph: nodes are values, edges are local Jacobians.

The function runs once, on its real arguments, under a JAX trace that records every primitive.  So Python control flow may
look at values, and the graph is that of this call.  Only this file and marker.py use JAX's semi-public modules.
"""

import functools
import re

import jax
import jax.numpy as jnp
from jax import core
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import set_current_trace, take_current_trace
from jax.extend.source_info_util import current_name_stack
from jax.interpreters import ad

from ..algebra.promotion import usual_promotion
from ..algebra.rules import identity
from ..checks import is_floating
from ..errors import MutableStateError
from ..layers.marker import bind, layer_p, product_p, with_absent_arguments, with_rules
from .complex_parts import InRealParts, real_parts, unmixed_in_parts
from .control_flow import FOLLOWED
from .jaxprs import JaxprFunction, body_and_constants, evaluated, jaxpr_evaluator, one_way_of, with_replaced
from .loops import Loop
from .nodes import Edge, Graph, LocalFunction, Node
from .opaque import BoundPrimitive, opaque_rules
from .primitives import rules_for
from .pullbacks import in_pullback, is_in_pullback
from .ramps import Ramps, knowing
from .shard_maps import mapped_over_devices, why_not_followed
from .sources import user_line
from .unmixed import AxisMap, Table, agreed, axis_map, composed, same_axes

SPLIT_STATE = (
    "The function changes a model of Flax outside of it, as BatchNorm and Dropout do in training.  State that changes "
    "cannot be traced.  Split it off: graph, params, state = nnx.split(model, nnx.Param, ...), then differentiate "
    "lambda params: nnx.merge(graph, params, state, copy=True)(x); or call model.eval() first."
)
INLINED = {"jit", "remat2", "eval_jaxpr"}  # calls of a jaxpr; before jax 0.12 some reach `process_call`
WITHOUT_DERIVATIVE = {"pure_callback", "io_callback", "ffi_call"}  # JAX can only call these


def read_graph(function, values, names, on_node=None, second_order=False, of_scalar=False, every_value=False) -> Graph:
    """Run `function(*values)` (flat arrays to flat arrays) and record what depends on the values.

    `on_node(node)` is called for every node as it is made, so that the caller sees those before an error.  With
    `second_order` the nodes also hold what their second derivatives need.  `of_scalar` says that the output is one
    number: of a part of the function it may be enough to pull one row back.  With `every_value`, values in the
    bodies of loops have nodes also where entries are passed on one by one.
    """
    inputs = [Node(name, x.shape, x.dtype) for name, x in zip(names, values, strict=True)]
    try:
        found = _traced_outputs(function, values, inputs, on_node, second_order, of_scalar, every_value)
    except _ComplexValueError:
        found = _opaque_outputs(function, values, inputs)
    except Exception as error:
        if type(error).__name__ == "TraceContextError":  # of Flax, which is not imported here
            raise MutableStateError(f"{error}\n{SPLIT_STATE}") from error
        raise
    weakly_typed = [jax.typeof(x).weak_type for x in values]
    return Graph(inputs, [node for _, node in found], [value for value, _ in found], weakly_typed)


def _traced_outputs(function, values, inputs, on_node, second_order, of_scalar, every_value):
    """Each output with its node, from a run of the function under the trace."""
    with take_current_trace() as parent:
        trace = _GraphTrace(parent, on_node, second_order, of_scalar, every_value)
        with set_current_trace(trace):
            outputs = function(*(_GraphTracer(trace, x, node) for x, node in zip(values, inputs, strict=True)))
        found = [trace.value_and_node(x) for x in outputs]
        _connect(trace.loops, [node for _, node in found if node is not None])
        if any(node is not None and jnp.iscomplexobj(x) for x, node in found):
            raise _ComplexValueError
        return found


def _connect(loops, outputs: list[Node]):
    """Connect the results of loops that the outputs depend on with what the loops, in their order, were run on."""
    reached, waiting = set(outputs), list(outputs)
    for loop in reversed(loops):
        while waiting:
            new = {edge.parent for edge in waiting.pop().edges} - reached
            reached |= new
            waiting += new
        loop.connect(reached)
        waiting += [*loop.ends.values(), *loop.stacked.values()]


def _opaque_outputs(function, values, inputs):
    """Each output with one opaque node for the whole function: complex numbers inside it have no real Jacobians."""

    def call(*xs):
        return [jnp.asarray(y) for y in function(*xs)]

    outputs, operands = call(*values), list(values)
    try:
        closed = jax.make_jaxpr(call)(*values)
    except jax.errors.ConcretizationTypeError:
        pass  # control flow looks at values: keep the function with what it closes over
    else:
        call, operands = JaxprFunction(closed.jaxpr, len(closed.consts)), [*closed.consts, *values]
    skipped = len(operands) - len(values)
    rules = opaque_rules("complex", call, operands, outputs, "", [[{}] * len(operands)] * len(outputs))
    found: list[tuple] = []
    for o, (y, row) in enumerate(zip(outputs, rules, strict=True)):
        edges = [
            Edge(parent, parent.name, functools.partial(rule, y, x))
            for rule, x, parent in zip(row[skipped:], values, inputs, strict=True)
            if rule is not None
        ]
        local = _local_function(lambda *xs, o=o: call(*operands[:skipped], *xs)[o], values, inputs)
        found.append((y, Node("complex", y.shape, y.dtype, edges, local=local) if is_floating(y) else None))
    return found


def _local_function(function, values, nodes) -> LocalFunction:
    """What is needed for second derivatives of a function of these values, some of which have nodes."""
    places = [i for i, node in enumerate(nodes) if node is not None]

    def forward(*point):
        return function(*with_replaced(values, places, point))

    def push(point, tangents):
        return jax.jvp(with_rules(forward), tuple(point), tuple(tangents))[1]

    return LocalFunction(push, forward, [nodes[i] for i in places], [jnp.asarray(values[i]) for i in places])


def unmixed_axes(function, operands) -> Table:
    """Along which axes nothing mixes in a function from operands to a list of outputs, of which the shapes are known.

    The function, or jaxpr without constants, is read as any other, and the rules of what it calls are followed.
    """
    if not callable(function):
        function = functools.partial(evaluated, *body_and_constants(function))
    moving = [i for i, x in enumerate(operands) if is_floating(x)]
    table: Table = []

    def run(*xs):
        names = [""] * len(moving)
        graph = read_graph(lambda *some: function(*with_replaced(xs, moving, some)), [xs[i] for i in moving], names)
        known: dict[Node, dict[Node, AxisMap]] = {x: {x: same_axes(len(x.shape))} for x in graph.inputs}
        for node in graph.topological_nodes():
            if node not in known:
                steps = [(known[edge.parent], axis_map(edge.jacobian())) for edge in node.edges]
                known[node] = {x: agreed(*(composed(m, before.get(x)) for before, m in steps)) for x in graph.inputs}
        inputs = dict(zip(moving, graph.inputs, strict=True))
        for output in graph.outputs:
            maps = known[output] if output else {}
            table.append([maps.get(inputs[i]) if i in inputs else None for i in range(len(operands))])

    jax.eval_shape(run, *operands)
    return table


def _custom_jvp_push(rule, values, places, output):
    """The derivative of one output by the rule of a custom_jvp, as `LocalFunction.push`."""

    def push(point, tangents):
        return rule(with_replaced(values, places, point), list(tangents))[output]

    return push


class _ComplexValueError(Exception):
    """A complex value depends on the inputs where it cannot be followed."""


class _GraphTracer(core.Tracer):
    __slots__ = ["node", "value"]

    def __init__(self, trace, value, node):
        super().__init__(trace, jax.typeof(value))
        self.value, self.node = value, node

    def full_lower(self):
        return self

    def to_concrete_value(self):
        value = self.value
        return value.to_concrete_value() if isinstance(value, core.Tracer) else value


class _GraphTrace(core.Trace):
    def __init__(self, parent, on_node, second_order, of_scalar, every_value):
        super().__init__()
        self.of_scalar, self.every_value = of_scalar, every_value
        self.parent, self.on_node, self.second_order, self.requires_low = parent, on_node, second_order, False
        self.ramps = Ramps()
        self.loops: list[Loop] = []
        self.tracks_tangents = False  # inside the rule of a custom_jvp, which is a linear function of what is tracked there

    def value_and_node(self, x):
        """The value and its node; None for a value that is not tracked."""
        return (x.value, x.node) if isinstance(x, _GraphTracer) and x._trace is self else (x, None)

    def values_and_nodes(self, tracers) -> tuple[list, list[Node | None]]:
        """The same for several values: all values, and all nodes."""
        pairs = list(map(self.value_and_node, tracers))
        return [value for value, _ in pairs], [node for _, node in pairs]

    def stage_value(self, x):
        value, node = self.value_and_node(x)
        return self.parent.stage_value(value) if node is None else x

    def process_primitive(self, primitive, tracers, params, /):
        values, nodes = self.values_and_nodes(tracers)
        if not any(nodes):
            with set_current_trace(self.parent):
                out = primitive.bind(*values, **params)
            self.ramps.follow(primitive, values, out if primitive.multiple_results else [out], params)
            return out
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        follow = FOLLOWED.get(primitive.name)
        if follow and (made := follow(self, primitive, tracers, values, nodes, params)) is not None:
            return made
        if primitive.name in INLINED and inner is not None:
            with set_current_trace(self):
                return evaluated(*body_and_constants(inner), *tracers)
        with set_current_trace(self.parent):
            out = primitive.bind(*values, **params)
        outputs = list(out) if primitive.multiple_results else [out]
        if primitive is layer_p:
            made = self.layer_nodes(nodes, values, outputs, **params)
        elif primitive is product_p and not any(nodes[1:]) and not params["maps"]:
            j = jax.tree.unflatten(params["tree"], values[1:])
            call = BoundPrimitive(primitive, params)
            made = self.make_nodes(
                primitive.name, nodes, outputs, lambda: [[j.T if params["pull"] else j]], None, call, values
            )
        elif any(map(jnp.iscomplexobj, [*values, *outputs])):
            made = self.nodes_of_parts(primitive, nodes, values, outputs, params)
        else:
            made = self.primitive_nodes(primitive, nodes, values, outputs, params)
        return made if primitive.multiple_results else made[0]

    def read(self, function, values, names) -> Graph:
        """A function inside of this one, as the body of a loop, read as this one is."""
        return read_graph(function, values, names, every_value=self.every_value)

    def unmixed_axes(self, function, operands) -> Table:
        """See the function of this name."""
        return unmixed_axes(function, operands)

    def noted(self, node: Node) -> Node:
        """The node, of which the caller was told."""
        if self.on_node:
            self.on_node(node)
        return node

    def inside(self):
        """A context in which what is computed belongs to this trace."""
        return set_current_trace(self)

    def outside(self):
        """A context in which what is computed belongs to the trace below."""
        return set_current_trace(self.parent)

    def tracked(self, value, node: Node | None):
        """The value, tracked by its node if it has one."""
        return value if node is None else _GraphTracer(self, value, node)

    def process_call(self, primitive, function, tracers, params, /):
        with set_current_trace(self):
            return function.call_wrapped(*tracers)

    def process_custom_jvp_call(self, primitive, function, jvp, tracers, /, *, symbolic_zeros):
        """The author's rule is a linear function of tangents, so its graph is the graph of the derivative."""
        values, nodes = zip(*map(self.value_and_node, tracers), strict=True)
        if not any(nodes):
            return self.rebind(primitive, values, subfuns=(function, jvp), symbolic_zeros=symbolic_zeros)

        def tangent(value, node):
            moves = jnp.issubdtype(jnp.result_type(value), jnp.inexact)
            zero = jnp.zeros(jnp.shape(value), jnp.result_type(value) if moves else jax.dtypes.float0)
            return SymbolicZero(jax.typeof(value).to_tangent_aval()) if symbolic_zeros and node is None else zero

        places = [i for i, node in enumerate(nodes) if node is not None]

        def rule(values, moving):
            return jvp.call_wrapped(*values, *with_replaced(tangents, places, moving))

        with set_current_trace(self.parent):
            tangents = [tangent(value, node) for value, node in zip(values, nodes, strict=True)]
            if self.second_order:  # the rule can be called once only, but is needed again
                closed = jax.make_jaxpr(rule)(values, [tangents[i] for i in places])
                rule = jaxpr_evaluator(closed)
        outside, self.tracks_tangents = self.tracks_tangents, True
        with set_current_trace(self):
            out = rule(values, [_GraphTracer(self, tangents[i], nodes[i]) for i in places])
        self.tracks_tangents = outside
        # A call inside of the rule, as of a loop, has nodes for all of its outputs, also for those that no tangent moves.
        primals = [self.value_and_node(p)[0] for p in out[: len(out) // 2]]
        moved = [self.value_and_node(t)[1] for t in out[len(out) // 2 :]]
        if self.second_order:
            point, parents = [values[i] for i in places], [nodes[i] for i in places]
            for o, node in enumerate(moved):
                if node is not None:
                    push = _custom_jvp_push(rule, values, places, len(primals) + o)
                    edge = Edge(node, "t", functools.partial(identity, node, node))
                    moved[o] = Node(
                        "custom_jvp", node.shape, node.dtype, [edge], local=LocalFunction(push, None, parents, point)
                    )
        return [p if node is None else _GraphTracer(self, p, node) for p, node in zip(primals, moved, strict=True)]

    def process_custom_vjp_call(self, primitive, function, fwd, bwd, tracers, /, *, out_trees, symbolic_zeros):
        """Only products with the author's pullback are known, so it becomes an opaque edge."""
        values, nodes = zip(*map(self.value_and_node, tracers), strict=True)
        if any(map(jnp.iscomplexobj, values)):
            raise _ComplexValueError
        if not any(nodes):
            subfuns = (function, fwd, bwd)
            return self.rebind(primitive, values, subfuns=subfuns, out_trees=out_trees, symbolic_zeros=symbolic_zeros)
        if is_in_pullback():
            with set_current_trace(self):
                return function.call_wrapped(*tracers)
        with set_current_trace(self.parent):
            pairs = zip(values, nodes, strict=True)
            found = fwd.call_wrapped(*(x for value, node in pairs for x in (value, node is not None)))
        _, tree, forwarded = out_trees()
        stored = tree.num_leaves - sum(i is not None for i in forwarded)
        rest, outputs = iter(found[:stored]), found[stored:]
        residuals = [next(rest) if i is None else values[i] for i in forwarded]
        count = len(residuals), len(outputs)
        pull = getattr(bwd, "call_wrapped", bwd)

        @jax.custom_vjp
        def call(*operands):
            return list(operands[count[0] : sum(count)])

        def products(residuals, cotangents):
            pulled = pull(*residuals, *cotangents)
            pulled = pulled[0] if isinstance(pulled[0], (list, tuple)) else pulled  # from jax 0.12 on logs come with it
            return [None if _is_symbolic_zero(x) else x for x in pulled]

        def call_bwd(operands, cotangents):
            return (*[None] * sum(count), *products(operands[: count[0]], cotangents))

        def pulled_back(*cotangents):
            return [jnp.zeros(()) if x is None else x for x in products(residuals, cotangents)]

        call.defvjp(lambda *operands: (call(*operands), operands), call_bwd)
        operands = [*residuals, *outputs, *values]
        all_nodes = [*[None] * sum(count), *nodes]

        @functools.cache
        def table():
            with in_pullback():
                of_arguments = _transposed(unmixed_axes(pulled_back, outputs), len(outputs))
            axes: Table = [[*[None] * sum(count), *row] for row in of_arguments]
            rules = opaque_rules("custom_vjp", call, operands, outputs, "pull", axes)
            return self.jacobians(rules, operands, outputs, all_nodes)

        return self.make_nodes("custom_vjp", all_nodes, outputs, table, call=call, values=operands)

    def process_shard_map(self, primitive, function, tracers, /, **params):
        """The function is staged together with what it closes over, so that it can run again."""
        trees = []

        def call(*xs):
            trees.append(primitive.bind(*xs, subfuns=(function,), **params))
            return list(trees[-1])

        closed = jax.make_jaxpr(call)(*(self.value_and_node(x)[0] for x in tracers))
        made = iter(self.over_devices(primitive, closed, [*closed.consts, *tracers]))
        return trees[0].map(lambda _: next(made))

    def over_devices(self, primitive, closed, operands) -> list:
        """The outputs of a jaxpr that calls `shard_map`: followed, or else an opaque map, whose name says why."""
        values, nodes = self.values_and_nodes(operands)
        reason = why_not_followed(closed.jaxpr)
        if any(nodes) and not reason:
            try:
                with set_current_trace(self):
                    return mapped_over_devices(closed.jaxpr, operands)
            except Exception as error:
                if type(error).__name__ != "ShardingTypeError":
                    raise
                reason = "JAX asks how its values are spread"
        program = JaxprFunction(closed.jaxpr, len(closed.consts))
        with set_current_trace(self.parent):
            outputs = program(*values)
        if not any(nodes):
            return outputs
        name = f"{primitive.name} ({reason})"

        @functools.cache
        def table():
            axes: Table = [[{}] * len(values)] * len(outputs)
            rules = opaque_rules(name, program, values, outputs, one_way_of({"jaxpr": closed}), axes)
            return self.jacobians(rules, values, outputs, nodes)

        return self.make_nodes(name, nodes, outputs, table, call=program, values=values)

    def rebind(self, primitive, values, **params):
        """A call with its own derivative rule and without tracked arguments, which is left to the trace below."""
        return primitive.bind_with_trace(self.parent, values, tuple(jax.typeof(x) for x in values), params)

    def layer_nodes(self, nodes, values, outputs, *, layer, present, config):
        args = with_absent_arguments(values, present)
        places = [i for i, there in enumerate(present) if there]
        table = functools.cache(lambda: [[row[i] for i in places] for row in layer.jacobians(outputs, args, config)])
        every = layer.argument_names(len(args))
        names = [every[i] for i in places]

        def call(*xs):
            return bind(layer, xs, present, config)

        return self.make_nodes(layer.name, nodes, outputs, table, names, call, values, layer)

    def primitive_nodes(self, primitive, nodes, values, outputs, params):
        one_way = "call" if self.tracks_tangents and primitive.name in WITHOUT_DERIVATIVE else one_way_of(params)

        @functools.cache
        def table():
            arrays = [jnp.asarray(value) for value in values]
            with usual_promotion(), knowing(self.ramps):
                rules = rules_for(primitive, params, arrays, outputs, one_way, unmixed_axes)
                return self.jacobians(rules, arrays, outputs, nodes)

        return self.make_nodes(primitive.name, nodes, outputs, table, call=BoundPrimitive(primitive, params), values=values)

    def nodes_of_parts(self, primitive, nodes, values, outputs, params):
        """What computes with complex values, as a function of their real parts."""
        with set_current_trace(self.parent):
            values = list(map(jnp.asarray, values))  # some are Python numbers
            parts, made_of = (list(map(real_parts, side)) for side in (values, outputs))
        call = InRealParts(BoundPrimitive(primitive, params), values)

        @functools.cache
        def table():
            with usual_promotion():
                axes = unmixed_in_parts(primitive, params, values, outputs)
                rules = opaque_rules(primitive.name, call, parts, made_of, one_way_of(params), axes)
                return self.jacobians(rules, parts, made_of, nodes)

        made = self.make_nodes(primitive.name, nodes, made_of, table, call=call, values=parts)
        return [
            _GraphTracer(self, y, m.node) if isinstance(m, _GraphTracer) else y for m, y in zip(made, outputs, strict=True)
        ]

    def jacobians(self, rules, values, outputs, nodes):
        """∂output/∂value for every output and every tracked value."""
        return [
            [None if rule is None or node is None else rule(y, x) for rule, x, node in zip(row, values, nodes, strict=True)]
            for y, row in zip(outputs, rules, strict=True)
        ]

    def make_nodes(self, name, parents, outputs, table, arguments=None, call=None, values=(), layer=None):
        """A tracer for every real output, with an edge to every tracked parent.  `call(*values)` gave the outputs."""
        arguments = arguments or [f"x{i + 1}" for i in range(len(parents))]
        made, source, module = [], user_line(), _current_scope()
        for o, y in enumerate(outputs):
            if not is_floating(y):
                made.append(y)
                continue
            edges = [
                Edge(parent, argument, functools.partial(lambda o, i: table()[o][i], o, i))
                for i, (parent, argument) in enumerate(zip(parents, arguments, strict=True))
                if parent is not None
            ]
            local = _local_function(lambda *xs, o=o: call(*xs)[o], values, parents) if self.second_order and call else None
            node = Node(name, y.shape, y.dtype, edges, source, local, layer, module)
            made.append(self.tracked(y, self.noted(node)))
        return made


def _transposed(table: Table, outputs: int) -> Table:
    """The table of a function from that of its pullback, whose operands are the function's outputs."""

    def turned(axes: AxisMap) -> AxisMap:
        return None if axes is None else {a: b for b, a in axes.items()}

    return [[turned(row[o]) for row in table] for o in range(outputs)]


def _is_symbolic_zero(x) -> bool:
    return isinstance(x, (SymbolicZero, ad.Zero))


def _current_scope() -> str:
    """The names of the scopes around, as `Net/Dense_0`, without the transformations among them."""
    scopes, before = str(current_name_stack()), ""
    while scopes != before:
        scopes, before = re.sub(r"\w+\(([^()]*)\)", r"\1", scopes), scopes
    return "/".join(filter(None, scopes.split("/")))
