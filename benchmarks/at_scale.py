"""What large models would take on 64 devices, from programs that are compiled at full width and never run.

`python -m benchmarks.at_scale` compiles one and two blocks of each model for 64 virtual devices.  What the second block adds
is taken once for every further block.  The numbers are float32.
"""

import json
import math
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, set_mesh
from jax.sharding import PartitionSpec as P

import jaxnets as jn

from .on_devices import collectives


class Sizes(NamedTuple):
    """A transformer: `words` of a vocabulary, or 0 where the input are patches of `features` numbers."""

    blocks: int
    width: int
    hidden: int
    heads: int
    places: int
    outputs: int
    words: int = 0
    features: int = 0


LANGUAGE = Sizes(blocks=32, width=4096, hidden=11008, heads=32, places=2048, outputs=32000, words=32000)  # as Llama 7B
IMAGES = Sizes(blocks=12, width=384, hidden=1536, heads=6, places=196, outputs=1000, features=768)  # as ViT-S/16


def shapes_and_specs(s: Sizes, blocks: int):
    """The shapes of the parameters, and how they are spread."""
    rows, columns = P("model", None), P(None, "model")
    block = dict.fromkeys(("q", "k", "v"), ((s.width, s.width), rows)) | {"o": ((s.width, s.width), columns)}
    block |= dict.fromkeys(("gate", "up"), ((s.hidden, s.width), rows)) | {"down": ((s.width, s.hidden), columns)}
    found = {f"{name}{i}": made for i in range(blocks) for name, made in block.items()}
    first = (s.words, s.width) if s.words else (s.width, s.features)
    return found | {"first": (first, P()), "last": ((s.outputs, s.width), P())}


def model(s: Sizes, blocks: int):
    def apply(p, x):
        z = jn.embedding(x, p["first"]) if s.words else jn.linear(x, p["first"])
        for i in range(blocks):
            own = {name: p[f"{name}{i}"] for name in ("q", "k", "v", "o", "gate", "up", "down")}
            y = jn.rms_norm(z)
            z = z + jn.multi_head_attention(y, y, *(own[n] for n in "qkvo"), heads=s.heads, causal=bool(s.words))
            y = jn.rms_norm(z)
            z = z + jn.linear(jn.silu(jn.linear(y, own["gate"])) * jn.linear(y, own["up"]), own["down"])
        return jn.linear(jn.rms_norm(z) if s.words else jn.mean(z, axis=1), p["last"])

    return apply


def clipping(s: Sizes, blocks: int, batch: int):
    """The clipped sum of the gradients of sequences, and its arguments' shapes and specs."""
    f = model(s, blocks)

    def loss(p, x, y):
        return jnp.mean(jn.cross_entropy(f(p, x), y), axis=1)

    tokens = ((batch, s.places), P("batch"), jnp.int32)
    return lambda p, x, y: jn.clip_per_example(loss, 1.0)(p, x, y), [tokens, tokens]


def kernel(s: Sizes, blocks: int, batch: int):
    """The kernel of one output between two batches."""
    images = ((batch, s.places, s.features), P("batch"), jnp.float32)
    return lambda p, a, b: jn.ntk(model(s, blocks), 0)(p, a, b), [images, images]


def costs(make, s: Sizes, blocks: int, batch: int, mesh) -> dict[str, Any]:
    """FLOPs and bytes of one device."""
    with set_mesh(mesh):
        function, inputs = make(s, blocks, batch)

        def argument(shape, spec, dtype=jnp.float32):
            return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

        params = {name: argument(*made) for name, made in shapes_and_specs(s, blocks).items()}
        compiled = jax.jit(function).lower(params, *(argument(*given) for given in inputs)).compile()
    memory, sent = compiled.memory_analysis(), collectives(compiled.as_text())
    return {
        "flops": compiled.cost_analysis()["flops"],
        "temporary": memory.temp_size_in_bytes,
        "arguments and answer": memory.argument_size_in_bytes + memory.output_size_in_bytes,
        "sent": sum(map(sum, sent.values())),
        "gathered": sum(sent.get("all-gather", ())),
    }


def extrapolated(make, s: Sizes, batch: int, mesh) -> dict[str, float]:
    one, two = (costs(make, s, blocks, batch, mesh) for blocks in (1, 2))
    return {name: one[name] + (s.blocks - 1) * (two[name] - one[name]) for name in one}


def main(names):
    for name, make, s, batch, shape in (
        ("clipping", clipping, LANGUAGE, 16, (8, 8)),
        ("kernel", kernel, IMAGES, 256, (64, 1)),
    ):
        if not names or name in names:
            mesh = jax.make_mesh(shape, ("batch", "model"), axis_types=(AxisType.Explicit,) * 2)
            params = sum(math.prod(made) for made, _ in shapes_and_specs(s, s.blocks).values())
            found = extrapolated(make, s, batch, mesh)
            print(json.dumps({"name": name, "parameters": params, "batch": batch, "mesh": shape} | found), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 64)
    main(sys.argv[1:])
