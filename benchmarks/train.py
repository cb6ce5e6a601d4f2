"""How long does a whole training on images of MNIST take, compared with the same in Flax with optax and in plain JAX?"""

import ctypes
import dataclasses
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxnets as jn
from jaxnets import data, models
from jaxnets.course.practicum import RECIPES
from jaxnets.learn.train import fit

from .harness import Disagreement, Missing, Result
from .networks import affine
from .peers import needs_package

RECIPE = RECIPES["mnist"]  # its sizes, but without dropout, which libraries draw differently
TRIAL_EPOCHS = 2  # to compare losses and to choose between loops
COMPARED_STEPS = 4  # so many steps lead to equal losses up to rounding; later ones are chaotic


class Task(NamedTuple):
    """A training: a model of convolutions with ReLU and max-pooling, then weighted sums with ReLU between them; its data."""

    name: str
    model: models.Model
    channels: tuple[int, ...]
    features: tuple[int, ...]
    data: data.Dataset
    batch: int
    epochs: int

    @property
    def params(self):
        return self.model.init(jax.random.key(1), self.data.shape)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return RECIPE.optimizer(RECIPE.learning_rate, self.epochs * (self.data.size // self.batch))

    def batches(self, epoch: int) -> np.ndarray:
        """The indices of the examples in every batch, as `fit` takes them with its default key."""
        _, shuffling, _ = jax.random.split(jax.random.key(0), 3)
        return np.asarray(data.batches(shuffling, epoch, self.data.size, self.batch))


class Training(NamedTuple):
    """The average loss of every epoch, and the seconds from the start until that epoch was done."""

    losses: list[float]
    seconds: list[float]


def convnet(images: data.Dataset, channels: tuple[int, ...], hidden: int, batch: int, epochs: int) -> Task:
    model, features = models.convnet(channels, hidden, images.classes), (hidden, images.classes)
    name = f"convnet {'-'.join(map(str, channels + features))}, {images.size} images, B={batch}"
    return Task(name, model, channels, features, images, batch, epochs)


def mlp(images: data.Dataset, hidden: tuple[int, ...], batch: int, epochs: int) -> Task:
    flat, features = dataclasses.replace(images, x=images.x.reshape(images.size, -1)), (*hidden, images.classes)
    name = f"MLP {'-'.join(map(str, flat.shape + features))}, {images.size} images, B={batch}"
    return Task(name, models.mlp(*features), (), features, flat, batch, epochs)


Train = Callable[[int], Training]  # trains for a number of epochs


# Contenders


def by_fit(task: Task, gradient: str) -> Train:
    params = task.params

    def train(epochs):
        start, seconds = time.perf_counter(), []
        result = fit(
            task.model,
            jn.nll,
            task.data,
            task.optimizer,
            epochs=epochs,
            batch_size=task.batch,
            params=params,
            gradient=gradient,
            after_epoch=lambda *_: seconds.append(time.perf_counter() - start),
        )
        return Training([metrics["loss"] for metrics in result.history], seconds)

    return train


def by_hand_written_loop(task: Task, scores: Callable, params, x: np.ndarray, scan: bool) -> Train:
    """The loop that people write by hand: a compiled step per batch, or a scan per epoch; `scores(params, x)` are logits."""
    optimizer = task.optimizer

    def loss(params, x, labels):
        logits = scores(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    def step(state, x, labels, places):
        params, moments, total, right = state
        x, labels = x[places], labels[places]
        (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params, x, labels)
        updates, moments = optimizer.update(gradient, moments, params)
        right = right + jnp.sum(logits.argmax(1) == labels)
        return optax.apply_updates(params, updates), moments, total + value, right

    def whole(state, x, labels, places):
        return lax.scan(lambda state, places: (step(state, x, labels, places), None), state, places)[0]

    def train(epochs):
        start, out = time.perf_counter(), Training([], [])
        run = jax.jit(whole if scan else step, donate_argnums=0)
        inputs, labels = jnp.asarray(x, jnp.float32), jnp.asarray(task.data.y, jnp.int32)
        state = jax.tree.map(jnp.array, params), optimizer.init(params)
        for epoch in range(epochs):
            places = task.batches(epoch)
            state = *state, jnp.zeros(()), jnp.zeros((), jnp.int32)
            for some in [places] if scan else places:
                state = run(state, inputs, labels, some)
            *state, total, right = state
            out.losses.append(float(total) / len(places))
            out.seconds.append(time.perf_counter() - start)
        return out

    return train


def by_jax(task: Task, scan: bool) -> Train:
    """In plain JAX."""

    def scores(params, x):
        *inner, last = filter(None, params)
        for p in inner:
            if p["w"].ndim == 4:
                x = jax.nn.relu(lax.conv_general_dilated(x, p["w"], (1, 1), "SAME") + p["b"][:, None, None])
                x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            else:
                x = jax.nn.relu(affine(x.reshape(len(x), -1), **p))
        return affine(x.reshape(len(x), -1), **last)

    return by_hand_written_loop(task, scores, task.params, task.data.x, scan)


@needs_package("flax")
def by_flax(task: Task, scan: bool, reshapes: bool = False) -> Train | Missing:
    """The training in flax.linen, whose images have their channels last.  Jitted functions of flax.nnx take as long.

    With `reshapes`, pooling is not linen.max_pool, whose gradient is slow on CPUs, but the maximum of two axes of size 2.
    """
    from flax import linen

    def pool(x):
        if not reshapes:
            return linen.max_pool(x, (2, 2), (2, 2))
        batch, height, width, channels = x.shape
        return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            for channels in task.channels:
                x = pool(linen.relu(linen.Conv(channels, (3, 3))(x)))
            x = x.reshape(len(x), -1)
            for features in task.features[:-1]:
                x = linen.relu(linen.Dense(features)(x))
            return linen.Dense(task.features[-1])(x)

    x = np.moveaxis(task.data.x, 1, -1) if task.channels else task.data.x
    return by_hand_written_loop(task, Network().apply, to_flax(task.params), x, scan)


def to_flax(params):
    """The same parameters for Flax: kernels [height, width, in, out] and [in, out], for images with their channels last."""
    out: dict[str, dict] = {}
    count: Counter[str] = Counter()
    channels = 1
    for p in filter(None, params):
        w = p["w"]
        if w.ndim == 4:
            kind, kernel, channels = "Conv", w.transpose(2, 3, 1, 0), len(w)
        else:
            kind, kernel, channels = "Dense", w.reshape(len(w), channels, -1).swapaxes(1, 2).reshape(w.shape).T, 1
        out[f"{kind}_{count[kind]}"] = {"kernel": kernel, "bias": p["b"]}
        count[kind] += 1
    return {"params": out}


# Figures


def make_contenders(
    task: Task, scans: dict[str, bool]
) -> tuple[dict[str, Train], dict[str, dict[str, Train]], dict[str, str]]:
    """Our contenders, those of each library, and the reasons why libraries are missing."""
    ours = {f"jaxnets.fit, {gradient}": by_fit(task, gradient) for gradient in ("manual", "autodiff")}
    theirs, missing = {}, {}
    makers: dict[str, Callable] = {"Flax + optax": by_flax, "plain JAX + optax": by_jax}
    if task.channels:
        makers["Flax + optax, pooling by reshape"] = functools.partial(by_flax, reshapes=True)
    for library, make in makers.items():
        loops = {f"{library}, {name}": make(task, scan) for name, scan in scans.items()}
        if absent := [train for train in loops.values() if isinstance(train, Missing)]:
            missing[library] = absent[0]
        else:
            theirs[library] = loops
    return ours, theirs, missing


def try_contenders(
    task: Task, contenders: dict[str, Train], tolerance: float
) -> tuple[dict[str, Training], dict[str, float]]:
    """Short trainings, and the difference between the loss of the first epoch and that of the first contender."""
    trials = {name: train(TRIAL_EPOCHS) for name, train in contenders.items()}
    first = next(iter(trials))
    gap = {name: abs(trial.losses[0] - trials[first].losses[0]) for name, trial in trials.items()}
    for name in gap:
        if not gap[name] <= tolerance:
            raise Disagreement(f"train, {task.name}: the losses of {first} and {name} differ by {gap[name]:.2g}")
    return trials, gap


def compare_trainings(task: Task, rounds: int, scans: dict[str, bool]) -> Iterator[Result]:
    """Compare our trainings with the faster loop of each library, as a trial finds it; each training compiles anew."""
    few = task._replace(data=task.data.take(slice(COMPARED_STEPS * task.batch)))
    for part, tolerance in ((few, 1e-5), (task, 1e-3))[: 2 if rounds else 1]:
        ours, theirs, missing = make_contenders(part, scans)
        everyone = {**ours, **{name: train for loops in theirs.values() for name, train in loops.items()}}
        trials, gap = try_contenders(part, everyone, tolerance)
    contenders = dict(ours)
    for loops in theirs.values():
        another = {name: float(np.mean(np.diff(trials[name].seconds))) for name in loops}
        expected = {name: trials[name].seconds[0] + (task.epochs - 1) * another[name] for name in loops}
        best = min(expected, key=expected.__getitem__)
        contenders[best] = loops[best]
        missing |= {name: f"slower: {another[name]:.2g} s an epoch" for name in loops if name != best}
    found = train_in_turns(task, contenders, rounds) if rounds else {name: [trials[name]] for name in contenders}

    def medians(figure: Callable[[Training], float]) -> dict[str, float]:
        return {name: float(np.median([figure(training) for training in runs])) for name, runs in found.items()}

    epochs = len(next(iter(found.values()))[0].seconds)
    common = {"gap": {name: gap[name] for name in contenders}, "missing": missing}
    whole = medians(lambda t: 1e3 * t.seconds[-1])
    yield Result("train", f"{task.name}: compiling and {epochs} epochs", whole, medians(lambda t: t.seconds[0]), **common)
    another = medians(lambda t: 1e3 * float(np.median(np.diff(t.seconds))))
    yield Result("train", f"{task.name}: another epoch", another, **common)


def train_in_turns(task: Task, contenders: dict[str, Train], rounds: int) -> dict[str, list[Training]]:
    """Whole trainings, in random order within a round.  The time of each includes tracing and compiling."""
    found: dict[str, list[Training]] = {name: [] for name in contenders}
    shuffled = np.random.default_rng(0)
    for _ in range(rounds):
        for name in shuffled.permutation(list(contenders)):
            jax.clear_caches()
            found[str(name)].append(contenders[str(name)](task.epochs))
    return found


def keep_memory():
    """Tell glibc to keep memory that is freed; otherwise steps with temporary arrays above 32 MB, as in Flax, take twice as
    long."""
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def run(quick: bool, scale: int) -> Iterator[Result]:
    keep_memory()
    batch = (RECIPE.batch_size or 1) * scale
    try:
        images = data.digits() if quick else data.mnist()
    except ModuleNotFoundError as error:
        print(f"train: not measured, {error}", file=sys.stderr)
        return
    scans = {"a step per batch": False}
    if quick:
        small = dataclasses.replace(images, x=images.x.reshape(-1, 1, 8, 8)).take(slice(COMPARED_STEPS * batch))
        yield from compare_trainings(convnet(small, (4,), 8, batch, TRIAL_EPOCHS), 0, scans)
        return
    scans["a scan per epoch"] = True
    yield from compare_trainings(convnet(images, (16, 32), 128, batch, RECIPE.epochs), 3, scans)
    yield from compare_trainings(mlp(images, (512, 512), batch, RECIPE.epochs), 9, scans)
