"""How much time, FLOPs and memory do norms and clipped sums of a GPT's gradients take, as multiples of one gradient?"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp

import jaxnets as jn

from . import nanogpt
from .harness import Contender, Missing, Result, measure, reference
from .peers import by_jax_privacy

LIMIT = 1.0
BATCH = 4
QUICK_SIZES = nanogpt.Sizes(words=50, length=8, layers=1, heads=2, width=8)
TOLERANCE = 2e-3  # in float32, where the orders of sums differ


class Multiples(Result):
    """Time, FLOPs and temporary bytes as multiples of those of `jax.grad`."""

    COLUMNS: ClassVar[dict[str, Callable]] = {
        "median ms": lambda r, name: r.milliseconds[name],
        "time": lambda r, name: multiple(vars(r), "milliseconds", name),
        "FLOPs": lambda r, name: multiple(vars(r), "flops", name),
        "temporary bytes": lambda r, name: multiple(vars(r), "temporary_bytes", name),
        "first call s": lambda r, name: r.first_call[name],
    }


def multiple(result: dict, key: str, name: str) -> float:
    return result[key][name] / result[key][result["references"][0]]


def gradients(losses: Callable) -> Callable:
    """The gradient of every text, `[B, *leaf]`, by vmap(jax.grad)."""

    def one(params, *text):
        return losses(params, *(a[None] for a in text))[0]

    return lambda params, *texts: jax.vmap(jax.grad(one), (None, *[0] * len(texts)))(params, *texts)


def norms_of(found) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(g.reshape(len(g), -1)), 1) for g in jax.tree.leaves(found)))


def run(quick: bool, scale: int) -> Iterator[Result]:
    sizes = QUICK_SIZES if quick else nanogpt.sizes(scale)
    losses = functools.partial(nanogpt.losses, heads=sizes.heads)
    args = (nanogpt.params(sizes), *nanogpt.texts(sizes, BATCH))
    each = gradients(losses)

    def loss(params, ids, following):
        """Of a batch of one text, as `clipped_grad` and JAX-Privacy ask for it."""
        return jnp.mean(losses(params, ids, following))

    def clipped(*args):
        found = each(*args)
        factor = jnp.minimum(1, LIMIT / norms_of(found))
        return jax.tree.map(lambda g: jnp.einsum("b,b...->...", factor, g), found)

    def total(*args):
        return jnp.sum(losses(*args))

    one_gradient = {
        "jax.grad, one gradient": reference(jax.grad(total)),
        "jaxnets.grad, one gradient": reference(jn.grad(total)),
    }
    options = {"l2_clip_norm": LIMIT, "batch_argnums": (1, 2)}
    questions: dict[str, dict[str, Callable | Contender | Missing]] = {
        "norms": {
            "jaxnets.per_example_grad_norms": jn.per_example_grad_norms(losses),
            "norms of vmap(jax.grad)": lambda *args: norms_of(each(*args)),
        },
        "clipping": {
            "jaxnets.clipped_grad": jn.clipped_grad(loss, **options),
            "jaxnets.clip_per_example": lambda *args: jn.clip_per_example(losses, LIMIT)(*args)[0],
            "vmap(jax.grad), clipped": clipped,
            "JAX-Privacy clipped_grad": by_jax_privacy(loss, **options),
        },
    }
    shape = f"{sizes.layers}×{sizes.width}, T={sizes.length}, {sizes.words} words, B={BATCH}"
    for name, contenders in questions.items():
        result = measure("clipping", f"{name}, nanoGPT {shape}", contenders | one_gradient, args, quick, TOLERANCE)
        yield Multiples(**{field.name: getattr(result, field.name) for field in dataclasses.fields(Result)})


def guide_table(about: dict, results: list[dict]) -> list[str]:
    """The lines of the guide's table: every contender's time, FLOPs and bytes, as multiples of one gradient's."""
    out = ["| case | contender | time | FLOPs | temporary bytes |", "|---|---|--:|--:|--:|"]
    for result in results:
        for name in result["milliseconds"]:
            figures = " | ".join(
                f"{multiple(result, key, name):.2f}" for key in ("milliseconds", "flops", "temporary_bytes")
            )
            out.append(f"| {result['case']} | {name} | {figures} |")
    return out
