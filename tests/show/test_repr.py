"""What objects say of themselves in one line: also while JAX traces, and without a look at their numbers."""

import dataclasses
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import jaxnets as jn
from jaxnets.autodiff.graph import read_graph
from jaxnets.catalogue import catalogue
from jaxnets.curvature.rows import outputs_and_rows
from jaxnets.learn.presets import find_preset, make_problem
from jaxnets.show.diagram import diagram

MODEL = jn.parse("linear(3) tanh linear(2)")


def data():
    return MODEL.init(jax.random.key(0), (2,)), jnp.ones((4, 2)), jnp.zeros((4, 2))


def of_arrays(params, x, y):
    """Objects that hold arrays."""
    loss = jn.squared_error
    jacobian = jn.jacobian(lambda x: jn.max_pool(jn.softmax(MODEL.apply(params, x))[None], kernel_size=2))(x)
    term = jacobian.terms[0]
    graph = read_graph(lambda x: [MODEL.apply(params, x)], [x], ["x"])
    return {
        "Jacobian": jacobian,
        "Term": term,
        **{type(f).__name__: f for f in term.factors},
        "GaussNewton": jn.ggn(MODEL.apply, loss)(params, x, y),
        "Kronecker": jn.kfac_factors(MODEL.apply, loss)(params, x, y)[0]["w"],
        "Posterior": jn.laplace(MODEL.apply, loss, prior_precision=1.0)(params, x, y),
        "Rows": outputs_and_rows("rows", MODEL.apply, params, x)[2],
        "NaturalGradientState": jn.natural_gradient(MODEL.apply, loss).init(params),
        "GaussNewtonCGState": jn.gauss_newton_cg(MODEL.apply, loss).init(params),
        "KFACState": jn.kfac(MODEL.apply, loss, (x, y)).init(params),
        "Graph": graph,
        "Node": graph.outputs[0],
        "Edge": graph.outputs[0].edges[0],
    }


def plain():
    params, x, y = data()
    return {
        "Model": MODEL,
        "Dataset": jn.data.spiral(10),
        "Preset": find_preset("spiral", None),
        "Problem": make_problem("linear(3) tanh"),
        "Tabulation": jn.tabulate(MODEL.apply, params, x),
        "Comparison": jn.compare(jn.tanh, jnp.ones(3), timed=False),
        "Explanation": jn.explain_plan(MODEL.apply, params, x),
        "Contractions": jn.explain_plan(jn.ntk(MODEL.apply), params, x),
        "Diagram": diagram(MODEL.apply, params, x),
        "Catalogue": catalogue(),
        "Layer": jn.tanh,
        "Example": jn.LAYERS["prelu"].example,
    }


EXPECTED = {
    "GaussNewton": "GaussNewton([17×17] through 8 outputs, 312 B of 1.16 kB)",
    "Kronecker": "Kronecker([3, 3] ⊗ [2, 2] for [3, 2], 52 B of 144 B)",
    "Model": "Model(linear(3) tanh linear(2))",
    "Dataset": "Dataset(a spiral with 3 arms: x [30, 2], y [30], labels of 3 classes)",
    "Comparison": "Comparison(tanh: 1 of 1 Jacobians agree in float64)",
    "Tabulation": "Tabulation(3 layers, [2×3]·[3×3]·[3×2])",
    "Example": "Example(Real(shape=(4, 5)), Real(shape=(5,)))",
}


def check(name, thing):
    text = repr(thing)
    assert "\n" not in text and len(text) < 700 and " at 0x" not in text and "Array(" not in text, text
    assert name in text or name == "Layer", text
    return text


def test_objects_say_in_a_line_what_they_are():
    for name, thing in plain().items():
        assert check(name, thing) == EXPECTED.get(name, repr(thing))


def test_no_number_is_looked_at():
    """Arrays whose memory was given back, and tracers, have none."""
    found = jax.jit(lambda *args: of_arrays(*args) and jn.ggn(MODEL.apply, jn.squared_error)(*args))(*data())
    assert repr(found).startswith("GaussNewton(")
    things = of_arrays(*data())
    leaves = [leaf for leaf in jax.tree.leaves(things) if isinstance(leaf, jax.Array)]
    for leaf in leaves:
        leaf.delete()
    for name, thing in things.items():
        assert check(name, thing) == EXPECTED.get(name, repr(thing))


def test_objects_say_what_they_are_while_jax_traces():
    def run(*args):
        for name, thing in of_arrays(*args).items():
            check(name, thing)
        return args

    jax.eval_shape(run, *data())


WINGS = ("algebra", "layers", "losses", "autodiff", "curvature", "learn", "show")


def records():
    """Every class of the wings that holds data and that people may meet."""
    for module in pkgutil.walk_packages(jn.__path__, "jaxnets."):
        if module.name.split(".")[1] in (*WINGS, "catalogue") and not module.name.startswith("jaxnets.show.plots"):
            for name, found in vars(importlib.import_module(module.name)).items():
                mine = inspect.isclass(found) and found.__module__ == module.name and not name.startswith("_")
                if mine and (dataclasses.is_dataclass(found) or issubclass(found, tuple)):
                    yield found


@pytest.mark.parametrize("record", list(records()), ids=lambda record: record.__name__)
def test_every_record_has_a_repr(record):
    assert record.__repr__ is not object.__repr__


def test_printing_a_table_in_a_notebook_shows_nothing_but_the_text(monkeypatch):
    displayed: list[str] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda segments, text: displayed.append(text))
    assert "relu" in str(jn.tabulate(jn.relu, jnp.ones(3)))
    assert displayed == []
