"""Every public function, with every argument replaced by what it cannot be: it works, or its error says what is wrong.

An error names the function and the argument.  Errors that a function of the user raises itself are passed on as they are.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import jaxnets as jn
from jaxnets.catalogue import example_arguments, example_kinds

from .sweeps import swept

HERE = Path(__file__)
VALUES = {
    "3": 3,
    "None": None,
    "'x'": "x",
    "object()": object(),
    "[]": [],
    "{}": {},
    "ones(3)": np.ones(3, np.float32),
    "True": True,
    "10**30": 10**30,
    "-1": -1,
    "print": print,
}
TYPED = (TypeError, ValueError, MemoryError, FloatingPointError, OSError, ModuleNotFoundError)
ENOUGH = (
    jn.JacobianTooLarge,
    FileNotFoundError,
    jn.CheckpointError,
    jn.SpecError,
)  # they name the limit, the path or the word
UNTYPED = (UnicodeError, OverflowError)  # ValueErrors and the like that say nothing about an argument


@dataclasses.dataclass
class Case:
    """A public function, a call of it and of what it returns, and arguments that fit."""

    name: str
    call: Callable
    arguments: dict[str, Any]
    blamed: tuple[str, ...] = ()  # what an error may name in place of the argument

    def __call__(self, **changed):
        return self.call(**self.arguments | changed)

    def problem(self, argument: str, value) -> str | None:
        """What is wrong with the error for this value of an argument; None if there is none, or the error says enough."""
        try:
            self(**{argument: value})
        except Exception as error:
            return self.fault(error, argument)
        return None

    def fault(self, error: Exception, argument: str) -> str | None:
        told = f"{type(error).__name__}: {str(error)[:150]}"
        if _of_the_user(error) or isinstance(error, ENOUGH):
            return None
        if not isinstance(error, TYPED) or isinstance(error, UNTYPED):
            return f"untyped {told}"
        words = re.findall(r"\w+", str(error))
        blamed = {argument, *self.blamed}
        missing = [*({self.name.split(".")[-1]} - set(words)), *([argument] if not blamed & set(words) else [])]
        return f"without {' and '.join(missing)}: {told}" if missing else None


def _of_the_user(error) -> bool:
    """Whether a function of this file, which was handed over, raised the error."""
    files = []
    frame = error.__traceback__
    while frame:
        files.append(Path(frame.tb_frame.f_code.co_filename))
        frame = frame.tb_next
    inside = next((i for i, file in enumerate(files) if "jaxnets" in file.parts), None)
    return inside is not None and HERE in files[inside:]


# Functions and arrays that fit


def loss(w, x):
    return jnp.sum(jnp.square(x @ w.T), -1)


def scalar(w, x):
    return jnp.mean(loss(w, x))


def network(w, x):
    return x @ w.T


def with_aux(w, x):
    return scalar(w, x), x


def squares(x):
    return jnp.sum(jnp.square(x), -1)


def squared_error(predictions, targets):
    return jnp.sum(jnp.square(predictions - targets), -1)


def scaled(x):
    return 2 * x


W, X, Y = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
SQUARE = np.eye(3, dtype=np.float32)
SPECTRUM = jn.Spectrum(jnp.ones((1, 2)), jnp.full((1, 2), 0.5), 2)
MODEL, DATA = jn.models.mlp(3), jn.data.spiral(points=4)
PARAMS = jax.jit(MODEL.init, static_argnums=1)(jax.random.key(0), (2,))
BLOCK = jn.Kronecker(*jax.device_put((np.eye(2), np.eye(3))), (2, 3))
J, DENSE_J, GGN = jax.jit(
    lambda w, x, y: (
        jn.jacobian(lambda x: x @ jnp.ones((3, 2)))(x),
        jn.jacobian(jn.relu)(x),
        jn.ggn(network, jn.squared_error)(w, x, y),
    )
)(W, X, Y)
GROUPS = jn.rules.fresh_groups((2, 3))
A, B = (jax.ShapeDtypeStruct((3,), jnp.float32) for _ in range(2))


def made(name, call, /, **arguments):
    return Case(name, call, arguments)


def of_windows(name, **config):
    """A function of images, whose errors may name another argument that does not fit."""
    arguments = {"x": np.ones((1, 2, 4, 4), np.float32), **config}
    return Case(name, getattr(jn, name), arguments, tuple(arguments))


def transformed(name, function, made_name=None, **options):
    """A function that makes a function of `(w, x)`."""
    maker = getattr(jn, name)

    def call(w, x, **arguments):
        first = arguments.pop(first_name)
        return maker(first, **arguments)(w, x)

    first_name = next(iter(inspect.signature(maker).parameters))
    return Case(name, call, {first_name: function, "w": W, "x": X, **options})


def quantity(name, function, *args, **options):
    maker = getattr(jn, name)
    first_name = next(iter(inspect.signature(maker).parameters))
    return Case(name, lambda **arguments: maker(**arguments)(*args), {first_name: function, **options})


def blaming(other, case):
    """The case, whose errors may name something else than the argument."""
    return dataclasses.replace(case, blamed=(other,))


def run(name, function, parameters, *options):
    """The function that a public one makes, with the names of its own arguments."""
    return Case(
        name,
        lambda **arguments: getattr(jn, name)(function, *options)(*arguments.values()),
        parameters,
        ("loss", "f", "params", "w", "v"),
    )


FIT = {
    "model": MODEL,
    "loss": jn.nll,
    "data": DATA,
    "optimizer": optax.sgd(0.1),
    "epochs": 0,
    "batch_size": None,
    "validation": None,
    "key": None,
    "params": None,
    "gradient": "autodiff",
    "penalty": None,
    "shuffle": True,
    "patience": None,
    "log": None,
    "progress": False,
    "checkpoint": None,
    "save_every": None,
    "keep": 3,
    "resume": False,
    "mesh": None,
    "config": None,
    "after_epoch": None,
}
LIKE = {"argnums": 0, "has_aux": False}
JACOBIAN = {"argnums": 0, "has_aux": False, "on_opaque": "allow", "order": "auto", "chunk_size": None, "on_nonfloat": "skip"}
CLIPPED = {
    "argnums": 0,
    "has_aux": False,
    "l2_clip_norm": 1.0,
    "rescale_to_unit_norm": False,
    "normalize_by": 1.0,
    "batch_argnums": 1,
    "keep_batch_dim": True,
    "microbatch_size": None,
    "nan_safe": True,
    "dtype": None,
}
HISTORY = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
CASES = [
    # autodiff
    transformed("jacobian", loss, **JACOBIAN),
    transformed("value_and_jacobian", loss, **JACOBIAN),
    transformed("grad", scalar, **LIKE, on_nonfloat="skip"),
    transformed("value_and_grad", scalar, **LIKE, on_nonfloat="skip"),
    transformed("hessian", scalar, argnums=0, on_opaque="allow", on_nonfloat="skip"),
    transformed("with_rules", scalar),
    made("dense", jn.dense, tree=DENSE_J, limit=None),
    made(
        "loss_hessian",
        lambda predictions, **given: jn.loss_hessian(given.pop("loss"), predictions, Y, **given),
        loss=squared_error,
        predictions=Y,
        root=False,
    ),
    # curvature
    quantity("clip_per_example", loss, W, X, max_norm=1.0),
    quantity("clipped_grad", scalar, W, X, **CLIPPED, return_values=False, return_grad_norms=False),
    quantity("value_and_clipped_grad", scalar, W, X, **CLIPPED),
    made("gaussian_privatizer", lambda **given: jn.gaussian_privatizer(**given).init(W), stddev=1.0, key=jax.random.key(0)),
    quantity("divergence", scaled, X),
    quantity("per_example_grads", loss, W, X, limit=None),
    quantity("per_example_grad_norms", loss, W, X),
    quantity("gradient_variance", loss, W, X),
    quantity("gradient_noise_scale", loss, W, X),
    blaming("function", quantity("hessian_diagonal", scalar, W, X)),
    quantity("hessian_vector_product", scalar, W, W, X),
    quantity("laplacian", squares, X, limit=None),
    quantity("logdet", scaled, X),
    quantity("jacobian_norm", scaled, X, kind="spectral", layers=False, iterations=3),
    quantity("jacobian_norm", scaled, X, keep=1),
    quantity("ggn", network, W, X, Y, loss=squared_error, scale=1.0),
    quantity("ggn_diagonal", network, W, X, Y, loss=squared_error, scale=1.0),
    quantity("ggn_vector_product", network, W, W, X, Y, loss=squared_error, scale=1.0),
    quantity("fisher", network, W, X, Y, loss=squared_error, kind="empirical", scale=1.0),
    quantity("kfac_factors", network, W, X, Y, loss=jn.squared_error, curvature="ggn", sharing="expand", scale=1.0),
    quantity("ekfac_factors", network, W, X, Y, loss=jn.squared_error, curvature="ggn", sharing="expand", scale=1.0),
    quantity("influence", network, W, X, X, Y, loss=squared_error, damping=0.1, structure="full"),
    quantity("laplace", network, W, X, Y, loss=squared_error, prior_precision=1.0, scale=1.0, structure="full", subset=True),
    made("auroc", jn.auroc, scores=np.arange(3.0), positive=np.arange(3) > 1),
    made("expected_calibration_error", jn.expected_calibration_error, predictions=Y, labels=np.zeros(len(Y), int), bins=3),
    quantity("ntk", network, W, X, outputs="full", block_size=None, limit=None),
    quantity("ntk_vector_product", network, W, Y, X),
    quantity("self_influence", network, W, X, Y, loss=squared_error, damping=0.1, structure="full", scale=1.0),
    quantity("saliency", scaled, X, output=None),
    quantity("gradient_times_input", scaled, X, output=None),
    quantity("smooth_gradient", scaled, X, output=None, noise=1.0, samples=2, key=jax.random.key(0)),
    quantity("integrated_gradients", scaled, X, output=None, baseline=0.0, steps=2),
    run("per_example_grads", loss, {"w": W, "x": X}),
    run("per_example_grad_norms", loss, {"w": W, "x": X}),
    run("clip_per_example", loss, {"w": W, "x": X}, 1.0),
    run("gradient_variance", loss, {"w": W, "x": X}),
    run("gradient_noise_scale", loss, {"w": W, "x": X}),
    run("hessian_diagonal", scalar, {"params": W, "x": X}),
    run("hessian_vector_product", scalar, {"params": W, "v": W, "x": X}),
    run("ggn", network, {"w": W, "x": X}, lambda y: y**2),
    run("ggn_vector_product", network, {"params": W, "v": W, "x": X, "targets": Y}, squared_error),
    run("ntk", network, {"w": W, "x1": X, "x2": X}),
    run("ntk_vector_product", network, {"params": W, "v": Y, "x1": X, "x2": X}),
    run("laplacian", squares, {"x": X}),
    run("divergence", scaled, {"x": X}),
    run("logdet", scaled, {"x": X}),
    run("saliency", scaled, {"x": X}),
    run("jacobian_norm", scaled, {"x": X}),
    made(
        "natural_gradient",
        lambda **given: jn.natural_gradient(**given).init(W),
        f=network,
        loss=squared_error,
        learning_rate=1.0,
        damping=1.0,
        curvature="ggn",
    ),
    made(
        "natural_gradient",
        lambda gradient, state, params, x, targets: jn.natural_gradient(network, squared_error).update(
            gradient, state, params, x=x, targets=targets
        ),
        gradient=W,
        state=jn.natural_gradient(network, jn.squared_error).init(W),
        params=W,
        x=X,
        targets=Y,
    ),
    made(
        "kfac",
        lambda **given: jn.kfac(**given).init(W),
        f=network,
        loss=jn.squared_error,
        like=(X, Y),
        learning_rate=0.1,
        momentum=0.9,
        damping=1.0,
        min_damping=0.1,
        adapt_every=5,
        decay=0.95,
        every=10,
        factors_every=1,
        kl_clip=1.0,
        curvature="ggn",
        sharing="expand",
        samples=None,
        largest=10,
    ),
    made(
        "gauss_newton_cg",
        lambda **given: jn.gauss_newton_cg(**given).init(W),
        f=network,
        loss=jn.squared_error,
        learning_rate=0.1,
        damping=1.0,
        min_damping=0.1,
        adapt=True,
        iterations=5,
        tolerance=0.1,
        warm_start=0.9,
        preconditioner=None,
        curvature="ggn",
        samples=None,
    ),
    made("Kronecker", jn.Kronecker, first=jax.device_put(np.eye(2)), last=jax.device_put(np.eye(3)), shape=(2, 3)),
    made("matrix", BLOCK.matrix, order="row"),
    made("solve", BLOCK.solve, v=W, damping=1.0),
    made("matrix", GGN.matrix, limit=None),
    made("solve", GGN.solve, v=W, damping=1.0),
    made("logdet", GGN.logdet, damping=1.0),
    # algebra
    made("J", lambda v: J @ v, v=X),
    made("J", lambda u: u @ J, u=Y),
    made("J", lambda scale: J * scale, scale=2.0),
    made("corner", J.corner, rows=3, columns=3),
    made("dense", J.dense, limit=None),
    made("matrix", J.matrix, limit=None),
    made("per_example", J.per_example, limit=None),
    made("diagonal", DENSE_J.diagonal, axes=None),
    made("trace", DENSE_J.trace, axes=None),
    made(
        "rules.einsum",
        lambda out, inp, factors, scale: jn.rules.einsum(out, inp, factors, scale=scale)(B, A),
        out="o",
        inp="i",
        factors=(SQUARE, "oi"),
        scale=1.0,
    ),
    made("rules.identity", jn.rules.identity, y=A, x=B),
    made("rules.zero", jn.rules.zero, y=A, x=B),
    made("rules.regroup", jn.rules.regroup, y=A, x=B),
    made(
        "rules.diagonal",
        lambda **given: jn.rules.diagonal(**given)(A, B),
        derivative=np.ones(3, np.float32),
        name="h'",
        meaning="",
    ),
    made("rules.scaled", lambda **given: jn.rules.scaled(**given)(A, B), scale=1.0),
    made("rules.transposed", lambda **given: jn.rules.transposed(**given)(A, B), order=(0,)),
    made("rules.rearranged", lambda **given: jn.rules.rearranged(**given)(A, B), rule=jn.rules.identity, out=(0,), inp=(0,)),
    made("rules.total", lambda rules: jn.rules.total(rules)(A, B), rules=jn.rules.identity),
    made("rules.window", jn.rules.window, y=A, x=B, starts={0: (0, 1)}),
    made("rules.sliced", lambda **given: jn.rules.sliced(**given)(A, B), starts={0: (0, 1)}),
    made("rules.placed", lambda **given: jn.rules.placed(**given)(A, B), starts={0: (0, 1)}),
    made("rules.axis_names", jn.rules.axis_names, count=2, last="i"),
    made("rules.first_largest", jn.rules.first_largest, x=W),
    made("rules.fresh_groups", jn.rules.fresh_groups, shape=(2, 3), names=(), start=0),
    made("rules.named_tensor", jn.rules.named_tensor, array=W, axes=GROUPS, name="A", meaning="weights"),
    made(
        "rules.from_groups",
        lambda out, inp, factors, scale: jn.rules.from_groups(out, inp, factors, scale=scale)(A, B),
        out=GROUPS[1:],
        inp=GROUPS[1:],
        factors=jn.rules.named_tensor(np.ones(3, np.float32), GROUPS[1:]),
        scale=1.0,
    ),
    made("rules.from_groups", jn.rules.from_groups(GROUPS[1:], GROUPS[1:]), y=A, x=B),
    # layers
    made("layer", jn.layer, forward=squares),
    made("layer", lambda **given: jn.layer(**given)(squares), plain=False, example=None),
    made("Layer", jn.Layer, forward=squares, plain=False, example=None),
    of_windows("max_pool_indices", kernel_size=2, stride=None, padding=0, dilation=1, ceil_mode=False),
    of_windows("adaptive_max_pool_indices", output_size=2),
    made("reduce", jn.reduce, loss=np.ones(3, np.float32), reduction="mean", weights=None, where=None),
    made(
        "embedding_bag",
        jn.embedding_bag,
        indices=np.array([[0, 1]]),
        table=W,
        weights=None,
        mode="sum",
        padding_index=None,
        max_norm=None,
        norm_type=2.0,
    ),
    made("one_hot", jn.one_hot, labels=np.array([0, 2]), classes=3, axis=-1, dtype=None),
    Case("power_iteration", jn.power_iteration, {"w": W, "u": W[:, 0], "iterations": 1, "axis": 0}, blamed=("axis", "u")),
    made("effective_rank", jn.effective_rank, kernel=np.eye(3, dtype=np.float32)),
    made("kernel_alignment", jn.kernel_alignment, kernel=np.eye(3, dtype=np.float32), targets=Y[:3], centred=True),
    made("spectrum", jn.spectrum, product=lambda v: 2.0 * v, like=X[0], key=jax.random.key(0), steps=2, samples=1),
    made("Spectrum.density", SPECTRUM.density, at=np.ones(2, np.float32), width=0.1),
    # learn
    made("fit", jn.fit, **FIT),
    made("predict", jn.predict, model=MODEL, params=PARAMS, x=DATA.x, batch_size=4),
    made("evaluate", jn.evaluate, model=MODEL, params=PARAMS, data=DATA, loss=None, bins=10),
    made("parse", jn.parse, text="relu"),
    made("restore", jn.restore, path="nothing"),
    made("export", jn.export, model=MODEL, params=PARAMS, path="model.safetensors", like=(2,)),
    made("Encoding", jn.Encoding, kind="table", shape=(2,), target=None, classes=None, resized=False),
    made("Encoding.answers", jn.Encoding("arrays", (3,), classes=("a", "b")).answers, predictions=Y),
    made("Encoding.from_json", jn.Encoding.from_json, found=jn.Encoding("arrays", (3,)).to_json()),
    made("Dataset", jn.data.Dataset, x=X, y=np.zeros(4, int), name="Dataset", classes=3, encoding=None),
    made("data.Statistics.of", jn.data.Statistics.of, x=X),
    made("data.Statistics.standardize", jn.data.Statistics.of(DATA.x).standardize, dataset=DATA, eps=1e-8),
    made("data.batches", jn.data.batches, key=jax.random.key(0), epoch=0, examples=6, batch_size=2),
    made("data.order", jn.data.order, key=jax.random.key(0), epoch=0, examples=6),
    made("data.cubic", jn.data.cubic, points=3, noise=0.1, seed=0),
    made("data.spiral", jn.data.spiral, points=3, classes=2, noise=0.1, seed=0),
    made("data.circles", jn.data.circles, points=3, noise=0.1, inner=0.5, seed=0),
    made("data.moons", jn.data.moons, points=3, noise=0.1, seed=0),
    made("data.xor", jn.data.xor, points=3, noise=0.1, seed=0),
    made("data.characters", jn.data.characters, text="abcdef", length=2),
    made("data.load", jn.data.load, path="nothing", classes=None, target=None, like=None, size=None),
    made("data.mnist", jn.data.mnist, seed=0),
    made("data.one_hot", jn.data.one_hot, labels=[0, 2], classes=3),
    made("data.split", jn.data.split, dataset=DATA, held_out=3, seed=0),
    made("data.table", jn.data.table, name="iris"),
    made("initializers.gain", jn.initializers.gain, nonlinearity="leaky_relu", slope=0.01),
    made(
        "initializers.kaiming_normal", jn.initializers.kaiming_normal, nonlinearity="leaky_relu", slope=0.01, mode="fan_in"
    ),
    made(
        "initializers.kaiming_uniform", jn.initializers.kaiming_uniform, nonlinearity="leaky_relu", slope=0.01, mode="fan_in"
    ),
    made("initializers.xavier_normal", jn.initializers.xavier_normal, scale=1.0),
    made("initializers.xavier_uniform", jn.initializers.xavier_uniform, scale=1.0),
    made("initializers.orthogonal", jn.initializers.orthogonal, scale=1.0),
    made("initializers.kaiming_normal", jn.initializers.kaiming_normal(), key=jax.random.key(0), shape=(2, 3), dtype=float),
    made(
        "models.Model",
        jn.models.Model,
        name="m",
        init=MODEL.init,
        apply=MODEL.apply,
        output_shape=MODEL.output_shape,
        parts=(),
    ),
    made("models.linear", jn.models.linear, features=3, bias=True, weights=None),
    made("models.embedding", jn.models.embedding, count=5, features=3),
    made("models.rnn", jn.models.rnn, features=3),
    made("models.lstm", jn.models.lstm, features=3),
    made("models.gru", jn.models.gru, features=3),
    made("models.conv", jn.models.conv, channels=3, size=3),
    made("models.plain", jn.models.plain, name="relu"),
    made("models.max_pool", jn.models.max_pool, size=2),
    made("models.dropout", jn.models.dropout, rate=0.5),
    made("models.serial", lambda models: jn.models.serial(models), models=MODEL),
    made("models.each_step", lambda models: jn.models.each_step(models), models=MODEL),
    made("models.residual", lambda models: jn.models.residual(models), models=MODEL),
    made(
        "models.mlp",
        lambda features, **given: jn.models.mlp(2, features, **given),
        features=3,
        activation="relu",
        last=None,
        weights=None,
    ),
    made("models.convnet", jn.models.convnet, channels=(2,), hidden=3, classes=2, rate=0.0),
    made(
        "models.autoencoder",
        lambda features, hidden, **given: jn.models.autoencoder(features, hidden, **given),
        features=3,
        hidden=2,
        activation="tanh",
        last=None,
    ),
    made("models.residual_mlp", jn.models.residual_mlp, width=2, depth=1, features=2, activation="relu", last=None),
    made("models.nearest_neighbour", jn.models.nearest_neighbour, count=3),
    made("init", jn.models.plain("relu").init, key=jax.random.key(0), input_shape=(2,), dtype=float),
    made("regularizers.l1", jn.regularizers.l1, params=W),
    made("regularizers.l2", jn.regularizers.l2, params=W),
    # show
    made("compare", lambda function, **given: jn.compare(function, X, **given), function=squares, title=None, timed=False),
    made(
        "check_rule",
        lambda my_layer, jacobian: jn.check_rule(my_layer, np.ones(2), jacobian=jacobian),
        my_layer=jnp.tanh,
        jacobian=lambda x: jnp.diag(1 - jnp.tanh(x) ** 2),
    ),
    made(
        "explain_plan",
        lambda function, **given: jn.explain_plan(function, X, **given),
        function=squares,
        argnums=0,
        order="auto",
        abstract=True,
    ),
    made("tabulate", lambda function, **given: jn.tabulate(function, X, **given), function=squares, abstract=True),
]


def drawn(name, call, /, **arguments):
    """A function of `jn.plots` that draws on the axes of a new figure."""
    return made(f"plots.{name}", lambda **given: call(**{"axes": Figure().subplots()} | given), **arguments)


def on_figure(name, call, /, **arguments):
    """A function of `jn.plots` that draws on a new figure."""
    return made(f"plots.{name}", lambda **given: call(**{"figure": Figure()} | given), **arguments)


def draw_nothing(figure, frame):
    return None


POINTS, KINDS, SIDES = np.eye(2), np.arange(2), (0, 1, 0, 1)
SHARES = np.full((4, 2), 0.5)
PLOTS = [
    on_figure("save", jn.plots.save, path="a.png", dpi=10),
    made("plots.save", jn.plots.save, figure=Figure((1, 1)), path="a.png"),
    made(
        "plots.save_animation",
        jn.plots.save_animation,
        frames=[1, 2],
        draw=draw_nothing,
        path="a.gif",
        size=(1.0, 1.0),
        milliseconds=10,
        rest=10,
        dpi=10,
    ),
    made("plots.jacobian", jn.plots.jacobian, j=J, title="", rows=3, columns=3),
    made(
        "plots.graph",
        lambda function, **given: jn.plots.graph(function, X, **given),
        function=squares,
        abstract=True,
        title="",
    ),
    made("plots.spectrum", jn.plots.spectrum, found=SPECTRUM, width=0.1, title=""),
    made("plots.plane", jn.plots.plane, x=POINTS, size=3, margin=0.1),
    made("plots.position_colours", jn.plots.position_colours, x=POINTS),
    drawn("points", jn.plots.points, x=POINTS, y=KINDS, size=3.0),
    made("plots.points", jn.plots.points, axes=Figure().subplots(), x=POINTS, y=KINDS),
    drawn("regions", jn.plots.regions, probabilities=SHARES, extent=SIDES),
    made("plots.regions", jn.plots.regions, axes=Figure().subplots(), probabilities=SHARES, extent=SIDES),
    made(
        "plots.decision_regions", jn.plots.decision_regions, x=POINTS, y=KINDS, extent=SIDES, panels={"a": SHARES}, title=""
    ),
    on_figure("draw_regions", jn.plots.draw_regions, x=POINTS, y=KINDS, extent=SIDES, probabilities=SHARES, title=""),
    on_figure(
        "draw_stretched",
        jn.plots.draw_stretched,
        lines=POINTS[None],
        x=POINTS,
        y=KINDS,
        extent=SIDES,
        title="",
        probabilities=SHARES,
    ),
    made(
        "plots.clouds",
        jn.plots.clouds,
        panels=[("x", POINTS)],
        colours=["red", "blue"],
        columns=1,
        title="",
        basis=POINTS[None],
        limits=[None],
    ),
    made("plots.learning_curves", jn.plots.learning_curves, history=HISTORY, title=""),
    made("plots.confusion", jn.plots.confusion, counts=np.eye(2, dtype=int), title=""),
    made("plots.calibration", jn.plots.calibration, bins=np.ones((2, 3)), title=""),
    made(
        "plots.mistakes",
        jn.plots.mistakes,
        images=np.ones((2, 3, 3)),
        labels=KINDS,
        predictions=KINDS,
        confidence=np.ones(2),
        columns=6,
        title="",
    ),
    blaming(
        "panels",
        made("plots.ensemble", jn.plots.ensemble, x=KINDS, panels={"a": POINTS}, data=POINTS, interval=(0, 1), title=""),
    ),
    blaming(
        "variances",
        made("plots.variance", jn.plots.variance, x=KINDS, variances={"a": np.ones(2)}, interval=(0, 1), title=""),
    ),
]


def layer_case(name) -> Case:
    layer = getattr(jn, name)
    arrays = jax.jit(lambda: example_arguments(layer, jax.random.key(0))[0])()
    config = example_kinds(layer)[1]
    names = layer.argument_names(len(arrays))

    def call(**given):
        arguments = [given.pop(n) for n in names]
        return layer.of_arrays(given)(*arguments)

    arguments = dict(zip(names, arrays, strict=True)) | config
    return Case(name, call, arguments, tuple(arguments))


LAYERS = [name for name in dir(jn) if isinstance(getattr(jn, name), jn.Layer) and getattr(jn, name).name == name]


def problems(case: Case) -> list[str]:
    """The call of a case with one argument replaced, and what is wrong with its error, for every argument and value."""
    return [
        f"{case.name}({argument}={text}): {found}"
        for argument in case.arguments
        for text, value in VALUES.items()
        if (found := case.problem(argument, value))
    ]


@pytest.fixture(autouse=True)
def leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a path may be "x"
    known = dict(jn.LAYERS)
    yield
    jn.LAYERS.clear()  # `layer(print)` makes a layer
    jn.LAYERS.update(known)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case",
    [*swept(CASES, 3), *swept(PLOTS, 5)],
    ids=lambda case: f"{case.name} {next(iter(case.arguments))}",
)
def test_an_error_names_the_function_and_the_argument(case):
    assert not problems(case)


SWEPT = ("relu", "softmax", "conv", "attention", "dropout", "layer_norm", "cross_entropy", "einsum", "max_pool", "embedding")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n if n in SWEPT else pytest.param(n, marks=pytest.mark.sweep) for n in LAYERS])
def test_an_error_of_a_layer_names_it_and_an_argument(name):
    assert not problems(layer_case(name))


def test_every_public_function_has_a_case():
    modules = [name for name in dir(jn) if isinstance(getattr(jn, name), ModuleType)]
    inside = {f"{m}.{n}" for m in modules for n, v in vars(getattr(jn, m)).items() if _is_public(n, v, getattr(jn, m))}
    public = {n for n in jn.__all__ if inspect.isfunction(getattr(jn, n))} | inside
    told = {case.name for case in [*CASES, *PLOTS]}
    assert public - told - WITHOUT_CASE == set()


WITHOUT_CASE = {
    "data.digits",  # has no arguments
    "multi_head_attention",  # checks its arguments as the layers that it calls
}  # fmt: skip


def _is_public(name: str, value, module: ModuleType) -> bool:
    if not inspect.isfunction(value):
        return False
    own = f"{value.__module__}.".startswith(f"{module.__name__}.") and not value.__name__.startswith("_")
    return name in module.__all__ if hasattr(module, "__all__") else own


CALLED = [  # what was silent
    (lambda: jn.laplacian(squares, limit={}), TypeError, "laplacian: limit"),
    (lambda: jn.models.plain(3), TypeError, "plain: name"),
    (lambda: jn.models.plain("x"), ValueError, "plain: name"),
    (lambda: jn.models.serial([]), TypeError, r"serial: models\[0\]"),
    (lambda: jn.Kronecker(jnp.eye(2), jnp.eye(3), [2, 3]), TypeError, "Kronecker: shape"),
    (lambda: jn.Kronecker((0, 0), jnp.eye(3), (2, 3)), TypeError, r"Kronecker: first .*\(0, 0\)"),
    (lambda: jn.Kronecker(jnp.eye(2), print, (2, 3)), TypeError, "Kronecker: last"),
    (
        lambda: jn.Kronecker(jnp.ones((0, 0)), jnp.eye(3), (2, 3)),
        jn.ShapeError,
        r"Kronecker: first \(0, 0\) and last \(3, 3\)",
    ),
    (lambda: jn.Kronecker(jnp.eye(2), jnp.ones((3, 2)), (2, 3)), jn.ShapeError, r"Kronecker: .*last \(3, 2\)"),
    (lambda: jax.tree.map(lambda a: a[None], BLOCK).matrix(), jn.ShapeError, r"matrix: first \(1, 2, 2\)"),
    (lambda: jn.rules.named_tensor(X, GROUPS), jn.ShapeError, r"named_tensor: axes .*\(2, 3\).*array.*\(4, 3\)"),
    (lambda: jn.rules.from_groups(GROUPS, GROUPS[1:])(A, B), jn.ShapeError, r"from_groups: out .*\(2, 3\), y.*\(3,\)"),
    (lambda: jn.rules.from_groups(GROUPS[1:], GROUPS)(A, B), jn.ShapeError, r"from_groups: inp .*\(2, 3\), x.*\(3,\)"),
    (lambda: jn.plots.points(Figure().subplots(), POINTS, np.arange(3)), jn.ShapeError, r"points: y .*\(3,\).*\(2,\)"),
    (lambda: jn.plots.points(Figure().subplots(), POINTS, np.ones(2)), jn.DTypeError, "points: y"),
    (lambda: jn.plots.regions(Figure().subplots(), POINTS[:1].repeat(3, 0), SIDES), jn.ShapeError, r"regions: .*\(3, 2\)"),
    (lambda: jn.plots.confusion(np.ones((2, 3))), jn.ShapeError, r"confusion: counts .*\(2, 3\).*\(2, 2\)"),
    (lambda: jn.plots.learning_curves([{"loss": 1.0}]), ValueError, r"learning_curves: history\[0\]"),
    (lambda: jn.plots.graph(print, X), TypeError, "graph: function"),
    (lambda: jn.plots.variance([0, 1], {"a": np.ones(3)}, (0, 1)), jn.ShapeError, r"variance: variances\['a'\] .*\(3,\)"),
    (lambda: jn.compare(squares, X, title=True), TypeError, "compare: title"),
    (lambda: jn.grad(scalar, has_aux=True)(W, X), TypeError, "grad: with has_aux"),
    (lambda: jn.data.spiral(points=2**63), ValueError, "spiral: points"),
    (lambda: jn.data.spiral(points=2**31 - 1, classes=2**31 - 1), MemoryError, "spiral: .* points"),
    (lambda: jn.fit(**FIT | {"checkpoint": b"x"}), TypeError, "fit: checkpoint"),
    (lambda: jn.fit(**FIT | {"checkpoint": "a\0b"}), ValueError, "fit: checkpoint"),
    (lambda: jn.initializers.kaiming_normal()(jax.random.key(0), ()), jn.ShapeError, "kaiming_normal: shape"),
    (lambda: jn.initializers.kaiming_normal()(jax.random.key(0), (-1, 2)), jn.ShapeError, "kaiming_normal: shape"),
    (lambda: J @ 10**30, jn.DTypeError, "J @ v: v"),
    (lambda: jn.per_example_grads(lambda w: w)(1.0), jn.ShapeError, "per_example_grads: the loss"),
    (lambda: jn.per_example_grads(lambda w: jnp.ones(3))({}), jn.ShapeError, "per_example_grads: params"),
    (lambda: jn.tanh(X, 3), TypeError, "tanh"),
    (lambda: jn.softmax(X, axis=True), TypeError, "softmax: axis"),
    (lambda: jn.clipped_grad(scalar, clip=1.0), TypeError, "clipped_grad: .* 'clip'; did you mean 'l2_clip_norm'"),
    (lambda: jn.value_and_clipped_grad(scalar, l2_norm_clip=1.0), TypeError, "'l2_norm_clip'; did you mean 'l2_clip_norm'"),
    (
        lambda: jn.laplace(network, squared_error, prior=1.0),
        TypeError,
        "laplace: .* 'prior'; did you mean 'prior_precision'",
    ),
    (lambda: jn.linear(X, bias=W), TypeError, "linear: .* 'bias'; known: x, w, b"),
    (lambda: jn.clipped_grad(scalar), TypeError, "clipped_grad: missing a required argument: 'l2_clip_norm'"),
]


@pytest.mark.parametrize("call, error, message", CALLED, ids=[message for *_, message in CALLED])
def test_nonsense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_fits_an_annotation_in_another_form_is_taken():
    """NumPy's numbers, arrays without axes, lists for tuples, and integers for numbers."""
    assert jn.data.spiral(points=np.int32(3), noise=np.float32(0)).size == 9
    assert jn.jacobian(loss, argnums=[0, 1])(W, X)[0].shape == (4, 2, 3)
    jn.clip_per_example(loss, max_norm=jnp.ones(()))(W, X)
    jn.clip_per_example(loss, max_norm=2)(W, X)
    jn.ggn(network, jn.squared_error, scale=10**20)(W, X, Y)
    keys = jax.random.PRNGKey(0), jax.random.key(0)
    assert len({float(jn.models.linear(2).init(key, [3])["w"].sum()) for key in keys}) == 1
