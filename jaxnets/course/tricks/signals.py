"""What reaches the other end of a deep network: gradients on the way back, and signals on the way forward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...autodiff.transforms import grad, jacobian
from ...catalogue import LAYERS
from ...learn.initializers import kaiming_normal
from ...learn.models import Model, mlp
from ...show.formats import subscript
from ..experiments.panels import LinesPanel, PointsPanel
from ..experiments.result import Claim, Finding, experiment
from ..experiments.training import ACCURACY, LOSS, curves_panel, make_starts, standardized_digits, train_at_best_rate
from ..experiments.words import numbers_text

WIDTH = 32
NLL = LAYERS["nll"]


@experiment("Which non-linearity lets a gradient through many layers?")
def activations(seeds: int, quick: bool) -> Finding:
    """The norms of the gradients and of every layer's Jacobian at the start, and how well the deepest network then trains.

    Weights are normal, with the gain that `initializers` has for the non-linearity.
    """
    depths = (2, 4, 8) if quick else (4, 8, 16)
    epochs, rates = (8, (0.1,)) if quick else (15, (0.01, 0.03, 0.1))
    deepest = depths[-1]
    splits = standardized_digits(seeds)
    gradients: dict = {depth: {} for depth in depths}
    factors, rows = {}, {}
    for name, activation in (("ReLU", "relu"), ("tanh", "tanh"), ("sigmoid", "sigmoid")):
        for depth in depths:
            model = mlp(*[WIDTH] * depth, 10, activation=activation, weights=kaiming_normal(activation))
            begin = make_starts(model, splits)
            measure = jax.jit(functools.partial(layer_norms, model))
            found = [measure(start.params, *(array[:64] for array in start.arrays[:2])) for start in begin]
            gradients[depth][name] = np.array([by_state / by_state[-1] for _, by_state in found])
            factors[name] = np.array([factor for factor, _ in found])
        runs = train_at_best_rate(model, NLL, {name: begin}, optax.sgd, rates, epochs=epochs, batch_size=64)[name]
        reached = [gradients[depth][name][:, 0] for depth in depths]
        rows[name] = [factors[name].mean(1), *reached, np.abs(np.log10(reached[-1])), *runs.final(ACCURACY)]
    last = subscript(deepest)
    change = f"powers of ten from z{last} to z₁"
    trained = f"training accuracy, {deepest} layers (%)"
    panels = [
        LinesPanel(
            f"{depth} hidden layers",
            "layer k",
            r"$\|\partial\,loss\,/\,\partial z_k\|$, the last layer's = 1",
            range(1, depth + 1),
            gradients[depth],
            "y",
        )
        for depth in depths
    ]
    by_layer = LinesPanel(
        f"Jacobian of each of {deepest} layers",
        "layer k",
        r"$\|\partial z_k\,/\,\partial z_{k-1}\|\,/\,\sqrt{n}$",
        range(1, deepest + 1),
        factors,
    )
    return Finding(
        setting=f"digits, 64-{WIDTH}-…-{WIDTH}-10 with {', '.join(map(str, depths))} hidden layers, states z_k of size n; "
        f"training: {epochs} epochs of SGD, the best rate of {numbers_text(rates)}",
        columns=(
            "‖∂z_k/∂z_(k−1)‖ / √n",
            *(f"gradient at z₁ : at z{subscript(depth)}" for depth in depths),
            change,
            trained,
        ),
        rows=rows,
        claims=(
            Claim(change, f"over {deepest} layers the gradient changes by the fewest powers of ten with"),
            Claim(trained, "training then reaches the highest training accuracy with", least=False),
        ),
        panels=(*panels, by_layer),
    )


def layer_norms(model: Model, params, x, labels):
    """Two norms for every layer k of `mlp(..., last="log_softmax")`, whose state z_k is the output of its non-linearity.

    The first is ‖∂z_k/∂z_{k−1}‖ / √n, averaged over the examples, with n the size of z_{k−1}: the factor by which a gradient
    of random direction shrinks or grows from z_k to z_{k−1}.  The second is ‖∂loss/∂z_k‖ of the average loss.
    """
    blocks, output = _blocks(model, params)
    z, factors, shifts = x, [], []
    for block in blocks:
        by_input = jacobian(lambda z, block=block: _apply_block(block, z))(z).per_example()
        factors.append(jnp.mean(jnp.linalg.norm(by_input, axis=(1, 2))) / np.sqrt(z.shape[1]))
        z = _apply_block(block, z)
        shifts.append(jnp.zeros_like(z))

    def loss(shifts):
        """The loss after every z_k is moved by a shift.  Its derivative by the shift is its derivative by z_k."""
        z = x
        for shift, block in zip(shifts, blocks, strict=True):
            z = _apply_block(block, z) + shift
        return LAYERS["mean"](NLL(_apply_block(output, z), labels))

    return jnp.stack(factors), jnp.stack([jnp.linalg.norm(g) for g in grad(loss)(shifts)])


def state_sizes(model: Model, params, x):
    """The root mean square of every state z_k, k = 1, 2, …"""
    sizes = []
    for block in _blocks(model, params)[0]:
        x = _apply_block(block, x)
        sizes.append(jnp.sqrt(jnp.mean(jnp.square(x))))
    return jnp.stack(sizes)


def _blocks(model, params):
    """The two parts of every hidden layer with their parameters, and the last two parts with theirs."""
    pairs = list(zip(model.parts, params, strict=True))
    return [pairs[i : i + 2] for i in range(0, len(pairs) - 2, 2)], pairs[-2:]


def _apply_block(block, z):
    for part, params in block:
        z = part.apply(params, z)
    return z


@experiment("How large should the first weights of a deep network be?")
def initialisation(seeds: int, quick: bool) -> Finding:
    """The size of the signal in every layer of a ReLU network at the start, and how training goes on from there."""
    shallow, deep = (2, 8) if quick else (4, 16)
    epochs, rates = (8, (0.01, 0.1)) if quick else (20, (1e-6, 1e-4, 0.01, 0.03, 0.1, 0.3))
    factors = {"Kaiming's weights": 1.0, "half of Kaiming's": 0.5, "twice Kaiming's": 2.0}
    splits = standardized_digits(seeds)
    sizes: dict = {}
    rows: dict = {name: [] for name in factors}
    for depth in (shallow, deep):
        model = mlp(*[WIDTH] * depth, 10)
        contenders = {
            name: [
                start._replace(params=jax.tree.map(lambda w, c=factor: c * w, start.params))
                for start in make_starts(model, splits)
            ]
            for name, factor in factors.items()
        }
        runs = train_at_best_rate(model, NLL, contenders, optax.sgd, rates, epochs=epochs, batch_size=64)
        measure = jax.jit(functools.partial(state_sizes, model))
        for name, own in contenders.items():
            sizes[name] = np.array([measure(start.params, start.arrays[0]) for start in own])
            rows[name] += [sizes[name][:, -1], *runs[name].final(ACCURACY)]
    columns = [
        f"root mean square of z{subscript(shallow)}",
        f"training accuracy, {shallow} layers (%)",
        f"root mean square of z{subscript(deep)}",
        f"training accuracy, {deep} layers (%)",
    ]
    signal = LinesPanel(
        f"The signal through {deep} layers", "layer k", "root mean square of $z_k$", range(1, deep + 1), sizes, "y"
    )
    return Finding(
        setting=f"digits, 64-{WIDTH}-…-{WIDTH}-10 with {shallow} or {deep} hidden layers of ReLU, states z_k; "
        f"{epochs} epochs of SGD, the best rate of {numbers_text(rates)}",
        columns=tuple(columns),
        rows=rows,
        claims=(
            Claim(columns[1], f"{shallow} layers reach the highest training accuracy with", least=False),
            Claim(columns[3], f"{deep} layers reach it with", least=False),
        ),
        panels=(
            signal,
            curves_panel(f"Training, {deep} layers", runs, LOSS),
            PointsPanel(f"After {epochs} epochs, {shallow} layers", columns[1]),
            PointsPanel(f"After {epochs} epochs, {deep} layers", columns[3]),
        ),
    )
