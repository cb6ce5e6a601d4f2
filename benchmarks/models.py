"""How much do gradient norms, clipping and curvature of reference models take, as multiples of one gradient?"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp

import jaxnets as jn

from .ggn import random_vector_like
from .harness import Contender, Missing, Result, jitted, measure
from .model_curvature import factors, products, split
from .peers import by_jax_privacy
from .reference_models import TINY, Model, reference_models
from .torch_peers import curvature_by_torch, gradient_by_torch, norms_by_torch

LIMIT = 1.0
SECONDS = 6  # for all rounds of a question, of which there are four for every model
TOLERANCE = 2e-3  # in float32, where the orders of sums differ
FIGURES = {"time": "milliseconds", "FLOPs": "flops", "temporary bytes": "temporary_bytes"}


class Multiples(Result):
    """Time, FLOPs and temporary bytes as multiples of those of one gradient in the same framework."""

    COLUMNS: ClassVar[dict[str, Callable]] = {
        "median ms": lambda r, name: r.milliseconds[name],
        **{
            title: lambda r, name, figure=figure: multiple(vars(r), figure, name) for title, figure in FIGURES.items()
        },
    }  # fmt: skip


def multiple(result: dict, figure: str, name: str) -> float:
    return result[figure][name] / result[figure][result["unit"][name]]


def gradients(model: Model) -> Callable:
    """The gradient of every example, `[B, *leaf]`, by vmap(jax.grad)."""

    def one(params, *example):
        return model.losses(params, *(a[None] for a in example))[0]

    return jax.vmap(jax.grad(one), (None, 0, 0))


def norms_of(found) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(g.reshape(len(g), -1)), 1) for g in jax.tree.leaves(found)))


def one_gradient(model: Model) -> dict[str, Contender | Missing]:
    """The references.  Each is compiled once for all questions, whose arguments they do not take."""

    def total(*args):
        return jnp.sum(model.losses(*args))

    ways = {"jax.grad, one gradient": jitted(jax.grad(total)), "jaxnets.grad, one gradient": jitted(jn.grad(total))}
    return {name: prepared_once(way, model.args) for name, way in (ways | gradient_by_torch(model)).items()}


def prepared_once(contender: Contender | Missing, args) -> Contender | Missing:
    if isinstance(contender, Missing):
        return contender
    programs: list = []

    def prepare(*_):
        if not programs:
            programs.append(contender.prepare(*args))
        return programs[0]

    return dataclasses.replace(contender, prepare=prepare, reference=True)


def in_order(contenders: dict, references: dict) -> dict:
    """The rivals, then the gradients, which are the units, then what else cannot be compared."""
    others = {name: c for name, c in contenders.items() if isinstance(c, Contender) and c.reference}
    return {name: c for name, c in contenders.items() if name not in others} | references | others


def questions(model: Model) -> dict[str, tuple[dict, tuple]]:
    """The contenders for every question, and their arguments."""
    each = gradients(model)

    def loss(*args):
        """Of a batch of one example, as `clipped_grad` and JAX-Privacy ask for it."""
        return jnp.mean(model.losses(*args))

    def clipped(*args):
        found = each(*args)
        factor = jnp.minimum(1, LIMIT / norms_of(found))
        return jax.tree.map(lambda g: jnp.einsum("b,b...->...", factor, g), found)

    options = {"l2_clip_norm": LIMIT, "batch_argnums": (1, 2)}
    norms = {
        "jaxnets.per_example_grad_norms": jn.per_example_grad_norms(model.losses),
        "norms of vmap(jax.grad)": lambda *args: norms_of(each(*args)),
    }
    clipping = {
        "jaxnets.clipped_grad": jn.clipped_grad(loss, **options),
        "vmap(jax.grad), clipped": clipped,
        "JAX-Privacy clipped_grad": by_jax_privacy(loss, **options),
    }
    product, kfac = curvature_by_torch(model)
    vector = random_vector_like(model.params)
    return {
        "norms": (norms | norms_by_torch(model), model.args),
        "clipping": (clipping, model.args),
        "Gauss-Newton product": (products(model) | product, (model.params, vector, model.inputs, model.targets)),
        "K-FAC, one sample": (factors(model) | kfac, (*split(model.params), model.inputs, model.targets)),
    }


def run(quick: bool, scale: int) -> Iterator[Result]:
    for make in (TINY if quick else reference_models(scale)).values():
        model = make()
        references = one_gradient(model)
        for name, (contenders, args) in questions(model).items():
            result = measure(
                "models", f"{name}, {model.name}", in_order(contenders, references), args, quick, TOLERANCE, SECONDS
            )
            fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(Result)}
            yield Multiples(**fields | ({"flops": {}} if model.loops else {}))  # XLA counts one step of a loop


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table: every contender's time, FLOPs and bytes, as multiples of one gradient's."""
    out = ["| case | contender | time | FLOPs | temporary bytes |", "|---|---|--:|--:|--:|"]
    for result in results:
        for name in result["milliseconds"]:
            if name != result["unit"][name]:
                known = [f"{multiple(result, f, name):.2f}" if name in result[f] else "–" for f in FIGURES.values()]
                out.append(f"| {result['case']} | {name} | {' | '.join(known)} |")
    missing = dict.fromkeys(f"{name}: {reason}" for r in results for name, reason in r.get("missing", {}).items())
    return out + (["", *(f"- Not measured, {text}." for text in missing)] if missing else [])
