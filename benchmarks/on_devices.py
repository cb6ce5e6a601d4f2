"""Every quantity on meshes of 1 to 8 virtual devices: its difference from one device, what devices send, what each stores.

`python -m benchmarks.on_devices NETWORK DEVICES [SHARDINGS [AXES [QUESTIONS]]]`, each with commas between, such as
`mlp 1,8 batch,both Explicit grad,ntk`, prints one row a line, in JSON.  A process starts with its devices, so this is a
process of its own.
"""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, set_mesh
from jax.sharding import PartitionSpec as P

import jaxnets as jn

SHARDINGS = ("batch", "model", "both")
AXES = ("Auto", "Explicit")


class Network(NamedTuple):
    """A model, its parameters, the mesh axes that these are spread over, and a batch."""

    apply: Callable
    params: Any
    specs: Any
    x: Any
    y: Any


def mlp(batch=64, inputs=32, hidden=64, outputs=8) -> Network:
    """Two layers: the first weights are spread by their outputs, the second ones by their inputs."""

    def apply(p, x):
        return jn.linear(jn.tanh(jn.linear(x, p["w1"], p["b1"])), p["w2"], p["b2"])

    shapes = {"w1": (hidden, inputs), "b1": (hidden,), "w2": (outputs, hidden), "b2": (outputs,)}
    specs = {"w1": P("model", None), "b1": P("model"), "w2": P(None, "model"), "b2": P()}
    return _with_numbers(apply, shapes, specs, (batch, inputs), outputs)


def transformer(batch=16, length=4, width=8, heads=2, outputs=4) -> Network:
    """One block on short sequences, then the average over their places: heads and hidden units are spread."""

    def apply(p, x):
        z = jn.layer_norm(x)
        x = x + jn.multi_head_attention(z, z, *(p[name] for name in "qkvo"), heads=heads)
        x = x + jn.linear(jn.gelu(jn.linear(jn.layer_norm(x), p["w1"])), p["w2"])
        return jn.linear(jn.mean(x, axis=1), p["w3"])

    shapes = dict.fromkeys("qkvo", (width, width))
    shapes |= {"w1": (2 * width, width), "w2": (width, 2 * width), "w3": (outputs, width)}
    specs = (
        dict.fromkeys(("q", "k", "v", "w1"), P("model", None)) | dict.fromkeys(("o", "w2"), P(None, "model")) | {"w3": P()}
    )
    return _with_numbers(apply, shapes, specs, (batch, length, width), outputs)


def sentences(batch=16, length=5, words=20, width=6, outputs=4) -> Network:
    """The average of embedded words, whose table is spread by its features."""

    def apply(p, x):
        return jnp.mean(jn.linear(jn.embedding(x, p["table"]), p["w"]), axis=1)

    specs = {"table": P(None, "model"), "w": P(None, "model")}
    made = _with_numbers(apply, {"table": (words, width), "w": (outputs, width)}, specs, (batch, length), outputs)
    return made._replace(x=np.random.default_rng(1).integers(0, words, (batch, length)))


def classes(batch=16, inputs=6, outputs=64) -> Network:
    """One layer whose outputs, the classes of the loss, are spread."""
    return _with_numbers(
        lambda p, x: jn.linear(x, p["w"]), {"w": (outputs, inputs)}, {"w": P("model", None)}, (batch, inputs), outputs
    )


def deep(batch=16, layers=32, width=64, outputs=2) -> Network:
    """A loop over layers, of each of whose weights every device that has a part of the batch stores a part, too."""

    def apply(p, x):
        return jax.lax.scan(lambda h, w: (jn.tanh(jn.linear(h, w)), None), x, p["w"])[0][:, :outputs]

    return _with_numbers(apply, {"w": (layers, width, width)}, {"w": P(None, "batch")}, (batch, width), outputs)


def _with_numbers(apply, shapes, specs, inputs, outputs) -> Network:
    draw = np.random.default_rng(0)
    params = {name: draw.normal(size=shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}
    return Network(apply, params, specs, draw.normal(size=inputs), np.arange(inputs[0]) % outputs)


NETWORKS = {"mlp": mlp, "transformer": transformer, "sentences": sentences, "classes": classes, "deep": deep}


def questions(f) -> dict[str, Callable]:
    """Every quantity as a function of `(params, x, y)`."""

    def loss(p, x, y):
        return jn.cross_entropy(f(p, x), y)

    def mean(p, x, y):
        return jnp.mean(loss(p, x, y))

    def natural_gradient(p, x, y):
        optimizer = jn.natural_gradient(f, jn.cross_entropy, damping=0.1)
        return optimizer.update(jn.grad(mean)(p, x, y), optimizer.init(p), p, x=x, targets=y)[0]

    def ekfac(p, x, y):
        blocks = jn.ekfac_factors(f, jn.cross_entropy)(p, x, y)  # eigenvectors have no sign of their own, products have
        return {name: blocks[name] @ p[name] for name in p}

    def by_input(p, x, y):
        return jn.jacobian(lambda x: f(p, x))(x)

    return {
        "grad": jn.grad(mean),
        "jacobian": by_input,
        "per_example": lambda p, x, y: by_input(p, x, y).per_example(),
        "dense(jacobian)": lambda p, x, y: jn.dense(jn.jacobian(f)(p, x)),
        "per_example_grads": jn.per_example_grads(loss),
        "per_example_grad_norms": jn.per_example_grad_norms(loss),
        "clip_per_example": jn.clip_per_example(loss, 0.1),
        "gradient_variance": jn.gradient_variance(loss),
        "ggn_diagonal": jn.ggn_diagonal(f, jn.cross_entropy),
        "ggn @ v": lambda p, x, y: jn.ggn(f, jn.cross_entropy)(p, x, y) @ p,
        "ggn_vector_product": lambda p, x, y: jn.ggn_vector_product(f, jn.cross_entropy)(p, p, x, y),
        "sampled ggn_diagonal": jn.ggn_diagonal(f, jn.cross_entropy, samples=1, key=jax.random.key(0)),
        "ekfac_factors @ v": ekfac,
        "clipped_grad": jn.clipped_grad(mean, l2_clip_norm=0.1, batch_argnums=(1, 2)),
        "kfac_factors": jn.kfac_factors(f, jn.cross_entropy),
        "ntk": lambda p, x, y: jn.ntk(f)(p, x),
        "ntk trace": lambda p, x, y: jn.ntk(f, "trace")(p, x),
        "ntk in blocks": lambda p, x, y: jn.ntk(f, block_size=len(x) // 8)(p, x),
        "hessian_diagonal": jn.hessian_diagonal(mean),
        "hessian_vector_product": lambda p, x, y: jn.hessian_vector_product(mean)(p, p, x, y),
        "laplacian": lambda p, x, y: jn.laplacian(lambda x: f(p, x))(x),
        "natural_gradient": natural_gradient,
    }


def mesh_of(sharding: str, n: int, axes: str) -> Mesh:
    """The mesh of n devices: all along "batch", all along "model", or for "both" two along "model"."""
    shape = {"batch": (n, 1), "model": (1, n), "both": (n // min(n, 2), min(n, 2))}[sharding]
    return jax.make_mesh(shape, ("batch", "model"), axis_types=(AxisType[axes],) * 2, devices=jax.devices()[:n])


def placed(network: Network, mesh: Mesh):
    """The parameters and the batch on the devices of a mesh."""
    named = {axis for axis, size in mesh.shape.items() if size > 1}

    def put(a, spec):
        used = [entry if entry in named else None for entry in spec]
        return jax.device_put(a, NamedSharding(mesh, P(*used)))

    return {name: put(a, network.specs[name]) for name, a in network.params.items()}, *(
        put(a, P("batch")) for a in (network.x, network.y)
    )


COLLECTIVE = re.compile(r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
ARRAY = re.compile(r"\b[a-z]+(\d+)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, list[int]]:
    """The bytes of what every collective of a compiled program gives each device, by its kind."""
    found: dict[str, list[int]] = {}
    for shapes, kind in COLLECTIVE.findall(text):
        arrays = [(int(bits) // 8, [int(n) for n in sizes.split(",") if n]) for bits, sizes in ARRAY.findall(shapes)]
        found.setdefault(kind, []).append(sum(width * math.prod(sizes) for width, sizes in arrays))
    return found


def compiled_on(network: Network, question: Callable, mesh: Mesh):
    """The answer on a mesh, and the compiled program."""
    with set_mesh(mesh):
        args = placed(network, mesh)
        compiled = jax.jit(question).lower(*args).compile()
        return compiled(*args), compiled


def largest_difference(found, expected) -> float:
    """max |a − b|, relative to the largest number of each array."""
    pairs = [map(np.asarray, pair) for pair in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)]
    return max(float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1)) for a, b in pairs)


def row(network: Network, question: Callable, expected, devices: list[int], sharding: str, axes: str) -> dict:
    """What is to be told of a question: by the number of devices, and the collectives on the most."""
    told: dict[str, Any] = {"difference": {}, "temporary_bytes": {}, "answer_bytes": {}, "sent_bytes": {}}
    for n in devices:
        found, compiled = compiled_on(network, question, mesh_of(sharding, n, axes))
        memory, sent = compiled.memory_analysis(), collectives(compiled.as_text())
        told["difference"][n] = largest_difference(found, expected)
        told["temporary_bytes"][n] = memory.temp_size_in_bytes
        told["answer_bytes"][n] = memory.output_size_in_bytes
        told["sent_bytes"][n] = sum(map(sum, sent.values()))
        told["collectives"] = sent
        told["specs"] = [str(leaf.sharding.spec) for leaf in jax.tree.leaves(found)]
    return told


def rows(network: str, devices: list[int], shardings=SHARDINGS, kinds=AXES, asked=()) -> Iterator[dict]:
    made = NETWORKS[network]()
    for name, question in questions(made.apply).items():
        if asked and name not in asked:
            continue
        expected = jax.jit(question)(made.params, made.x, made.y)
        for axes in kinds:
            for sharding in shardings:
                about = {"network": network, "question": name, "sharding": sharding, "axes": axes}
                yield about | row(made, question, expected, devices, sharding, axes)


def measured(*arguments: str, timeout: float | None = None) -> Iterator[dict]:
    """The rows that a process of its own prints for these arguments.  Raises RuntimeError with its message if it fails."""
    command = [sys.executable, "-m", "benchmarks.on_devices", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise RuntimeError(done.stderr)
    yield from map(json.loads, done.stdout.splitlines())


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_enable_x64", True)
    name, counts, *choices = sys.argv[1:]
    for found in rows(name, list(map(int, counts.split(","))), *(choice.split(",") for choice in choices)):
        print(json.dumps(found), flush=True)
