"""How far the neural tangent kernel tells what a network learns: regression with it, beside the network itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...curvature.kernel import ntk as tangent_kernel
from ...learn.data import digits, split
from ...learn.models import Model, mlp
from ...learn.progress import stage
from ..experiments.panels import LinesPanel
from ..experiments.result import Claim, Finding, experiment

NETWORK, AT_START, AFTER = "network", "kernel at the start", "kernel after training"
COLUMNS = ("network (%)", "kernel (%)", "distance of their outputs", "change of the kernel")
CLASSES, MOMENTUM, HELD_OUT = 10, 0.9, 500


@experiment("Does a network learn what its tangent kernel learns?")
def ntk(seeds: int, quick: bool) -> Finding:
    """Accuracy over the number of training digits, and over the width how far the kernel moves.

    The outputs of the first parameters are subtracted, so that network and regression begin at zero.  Both descend on
    squared errors for the same time: a network of infinite width does what regression with its kernel does (Jacot et al.
    2018).
    """
    sizes, widths, steps = ([50, 100], [8, 32], 50) if quick else ([50, 100, 200, 400], [16, 64, 256, 1024], 200)
    width, count = (32, 100) if quick else (256, 100)
    cases = [(size, width) for size in sizes] + [(count, own) for own in widths if own != width]
    found: dict[tuple[int, int], np.ndarray] = {}
    with stage("networks", total=seeds * len(cases), unit="network") as told:
        for size, own in cases:
            model = mlp(own, CLASSES, last=None)
            train = jax.jit(_trained_with_kernels(model, steps))
            scores = []
            for seed in range(seeds):
                told.next_part(f"{own} hidden units, {size} digits")
                training, held_out = split(digits(), HELD_OUT, seed)
                params = model.init(jax.random.key(seed), training.shape, jnp.float32)
                x, y = training.x[:size].astype(np.float32), np.eye(CLASSES, dtype=np.float32)[training.y[:size]] - 0.1
                arrays = train(params, x, y, held_out.x.astype(np.float32))
                scores.append(_scores(arrays, y, held_out.y, steps))
            found[size, own] = np.array(scores)  # [seed, score]
    by_size = np.stack([found[size, width] for size in sizes], 2)  # [seed, score, size]
    by_width = np.stack([found[count, own] for own in widths], 2)
    accuracy = {name: by_size[:, i] for i, name in enumerate((NETWORK, AT_START, AFTER))}
    distance = {name: by_width[:, 3 + i] for i, name in enumerate((AT_START, AFTER))}
    return Finding(
        setting=f"digits, 64-n-10, {steps} steps of full-batch descent with momentum on squared errors; {count} digits, or "
        f"n = {width} hidden units; the kernel is at the start, and of outputs and kernels the distance is relative",
        columns=COLUMNS,
        rows={f"n = {own}": list(by_width[:, [0, 1, 3, 5], i].T) for i, own in enumerate(widths)},
        claims=(
            Claim(COLUMNS[2], "regression with the kernel is nearest to the network for"),
            Claim(COLUMNS[3], "training moves the kernel least for"),
        ),
        panels=(
            LinesPanel("More digits", "training digits", "held-out accuracy (%)", sizes, accuracy, "x"),
            LinesPanel("Wider networks", "hidden units", "distance from the network", widths, distance, "x"),
            LinesPanel("The kernel", "hidden units", "‖change‖ / ‖kernel‖", widths, {NETWORK: by_width[:, 5]}, "xy"),
        ),
    )


def _trained_with_kernels(model: Model, steps: int) -> Callable:
    """A function that trains a network, and returns its outputs at `at` and the kernels at the start and after training.

    Each kernel is that of one output, averaged over all of them: of the training inputs, and of `at` with these.
    """

    def kernels(params, x, at):
        both = tangent_kernel(model.apply, "trace")(params, jnp.concatenate([x, at]), x) / CLASSES
        return both[: len(x)], both[len(x) :]

    def run(first, x, y, at):
        before = kernels(first, x, at)
        rate = len(x) / jnp.linalg.eigvalsh(before[0])[-1]
        optimizer = optax.sgd(rate, MOMENTUM, nesterov=True)
        begin, begin_at = model.apply(first, x), model.apply(first, at)

        def loss(params):
            return jnp.sum(jnp.square(model.apply(params, x) - begin - y)) / (2 * len(x))

        def step(state, _):
            params, memory = state
            change, memory = optimizer.update(jax.grad(loss)(params), memory)
            return (optax.apply_updates(params, change), memory), None

        (params, _), _ = jax.lax.scan(step, (first, optimizer.init(first)), length=steps)
        return model.apply(params, at) - begin_at, *before, *kernels(params, x, at)

    return run


def _scores(arrays, y, labels, steps: int) -> list[float]:
    """Three accuracies in %, the distances of two regressions from the network, and how far the kernel has moved."""
    outputs, first, first_at, last, last_at = map(np.asarray, arrays)
    fits = [regression(kernel, at, y, steps / (1 - MOMENTUM)) for kernel, at in ((first, first_at), (last, last_at))]
    accuracies = [100 * np.mean(own.argmax(1) == labels) for own in (outputs, *fits)]
    far = [np.linalg.norm(own - outputs) / np.linalg.norm(outputs) for own in fits]
    return [*accuracies, *far, np.linalg.norm(last - first) / np.linalg.norm(first)]


def regression(kernel, at, y, time: float) -> np.ndarray:
    """What descent on squared errors has learned after a time with this kernel `[n, n]`, at inputs with kernel `[m, n]`.

    In the eigenvectors of the kernel it is `(1 − exp(−time·λ/λ_max))/λ` times y, and regression without a ridge in the end
    (Lee et al. 2019, arXiv:1902.06720).
    """
    values, vectors = np.linalg.eigh(kernel.astype(np.float64))
    values = np.maximum(values, 1e-12 * values[-1])
    filtered = -np.expm1(-time * values / values[-1]) / values
    return at @ (vectors * filtered) @ (vectors.T @ y)
