"""Functions with `jax.shard_map` in them, on eight devices: as right as without it, and examples stay apart.

`python -m tests.autodiff.on_shard_maps Auto|Explicit`, in a process of its own, because a process starts with its devices.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, reshard, set_mesh
from jax.sharding import PartitionSpec as P

import jaxnets as jn
from jaxnets.errors import OpaqueError
from tests.computing import close

rng = np.random.default_rng(0)
X, WORDS, LABELS = rng.normal(size=(16, 3)), rng.normal(size=(16, 4, 6)), np.arange(16) % 2
LAYERS = {"w1": rng.normal(size=(8, 3)), "b1": rng.normal(size=8), "w2": rng.normal(size=(2, 8))}
LAYER_SPECS = {"w1": P("model", None), "b1": P("model"), "w2": P(None, "model")}
HEADS = {name: rng.normal(size=(8, 6)) / 2 for name in "qkv"} | {"o": rng.normal(size=(6, 8)) / 2}
HEAD_SPECS = dict.fromkeys("qkv", P("model", None)) | {"o": P(None, "model")}


def mlp(p, x):
    """With an activation that has a derivative of its own."""
    return jax.nn.relu(x @ p["w1"].T + p["b1"]) @ p["w2"].T


def attention(p, x):
    """Heads of two features; jax.nn.softmax has a derivative of its own, too."""
    q, k, v = (jnp.einsum("ntc,dc->ntd", x, p[name]).reshape(*x.shape[:2], -1, 2) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k))
    return jnp.einsum("ntd,cd->ntc", jnp.einsum("nhts,nshd->nthd", weights, v).reshape(*x.shape[:2], -1), p["o"])


def block(p, x):
    return jnp.mean(x + attention(p, x), 1)


def block_of_device(p, x):
    return jnp.mean(x + lax.psum(attention(p, x), "model"), 1)


def mlp_of_device(p, x):
    return lax.psum(mlp(p, x), "model")


def with_tanh(p, x):
    return jnp.tanh(x @ p["w1"].T + p["b1"]) @ p["w2"].T


def layers_of_device(p, x):
    return lax.psum(jn.linear(jn.tanh(jn.linear(x, p["w1"], p["b1"])), p["w2"]), "model")


def repeated(p, x):
    for _ in range(3):
        x = jnp.tanh(mlp(p, x) @ jnp.ones((2, 3)))
    return x[:, :2]


def repeated_on_device(p, x):
    def step(h, _):
        return jnp.tanh(lax.psum(mlp(p, h), "model") @ jnp.ones((2, 3))), None

    return lax.scan(step, x, None, length=3)[0][:, :2]


def many_collectives(p, x):
    """Of the hidden units each device numbers its half, and hands it to the other device; the mean is over halves."""
    hidden = jnp.tanh(x @ p["w1"].T + p["b1"]) * jnp.repeat(jnp.arange(1.0, 3.0), 4)
    return (jnp.roll(hidden, 4, 1) @ p["w2"].T) / 2 + hidden.sum(1, keepdims=True)


def many_collectives_of_device(p, x):
    hidden = jnp.tanh(x @ p["w1"].T + p["b1"]) * (1 + lax.axis_index("model"))
    total = lax.all_gather(hidden, "model", axis=1, tiled=True).sum(1, keepdims=True)
    other = lax.ppermute(hidden, "model", [(0, 1), (1, 0)])
    part = lax.psum_scatter(other @ p["w2"].T, "model", scatter_dimension=1, tiled=True)
    return lax.pmean(lax.all_gather(part, "model", axis=1, tiled=True) / 2 + total, "model")


def exchanged(p, x):
    return jnp.tanh(jnp.tile(x, (1, 3))[:, :8] + p["b1"]) @ p["w2"].T


def exchanged_of_device(p, x):
    """Every device has a share of the examples, then of the features of more examples."""
    mine = lax.all_to_all(jnp.tile(x, (1, 3))[:, :8], "model", split_axis=1, concat_axis=0, tiled=True)
    return lax.psum(jnp.tanh(mine + p["b1"]) @ p["w2"].T, "model")


class Case(NamedTuple):
    """`mapped` is given to `jax.shard_map`; `opaque` are the kinds of axes on which it cannot be followed."""

    plain: Callable
    mapped: Callable
    params: dict = LAYERS
    specs: dict = LAYER_SPECS
    x: np.ndarray = X
    spread: P = P("batch")
    result: P = P("batch")
    options: dict = {}  # noqa: RUF012
    through_jit: bool = False
    opaque: tuple = ()


BOTH = P(("batch", "model"))
CASES = {
    "attention over heads": Case(block, block_of_device, HEADS, HEAD_SPECS, WORDS),
    "layers over units": Case(with_tanh, layers_of_device, through_jit=True),
    "batch over both axes": Case(mlp, mlp, specs=dict.fromkeys(LAYERS, P()), spread=BOTH, result=BOTH),
    "one mesh axis alone": Case(
        mlp, mlp_of_device, spread=P(), result=P(), options={"axis_names": {"model"}}, through_jit=True
    ),
    "loop": Case(repeated, repeated_on_device),
    "collectives": Case(many_collectives, many_collectives_of_device, options={"check_vma": False}, opaque=("Explicit",)),
    "exchange": Case(exchanged, exchanged_of_device, spread=BOTH, opaque=("Explicit",)),
    "groups": Case(
        mlp, lambda p, x: lax.psum(mlp(p, x), "model", axis_index_groups=[[0, 1]]), options={"check_vma": False},
        opaque=("Auto", "Explicit"),
    ),
}  # fmt: skip


def asked(f):
    """Norms, clipped gradients, a GGN product and the Jacobian by the input, together."""

    def loss(p, x, y):
        return jn.cross_entropy(f(p, x), y)

    def run(p, x, y):
        return {
            "norms": jn.per_example_grad_norms(loss)(p, x, y),
            "clipped": jn.clip_per_example(loss, 1.0)(p, x, y)[0],
            "product": jn.ggn_vector_product(f, jn.cross_entropy)(p, p, x, y),
            "jacobian": jn.dense(jn.jacobian(lambda x: f(p, x))(x)),
        }

    return run


def check(name, case, mesh, kind):
    def put(a, spec):
        return jax.device_put(a, NamedSharding(mesh, spec))

    f = jax.shard_map(case.mapped, mesh=mesh, in_specs=(case.specs, case.spread), out_specs=case.result, **case.options)
    f = jax.jit(f) if case.through_jit else f
    p = {key: put(a, case.specs[key]) for key, a in case.params.items()}
    x, y = put(case.x, case.spread), put(LABELS, case.result)
    expected = jax.jit(asked(case.plain))(case.params, case.x, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if kind in case.opaque else "error", UserWarning)
        found = jax.jit(asked(f))(p, x, y)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1e-10, name, least=1.0)
    if kind in case.opaque:
        with pytest.raises(OpaqueError, match=r"shard_map \(.+\) at .* has no structured Jacobian rule"):
            jax.eval_shape(jn.jacobian(lambda x: f(p, x), on_opaque="error"), x)
        return
    if case.result:
        assert found["norms"].sharding.spec[0] is not None, f"{name}: what belongs to one example lies on every device"


def check_constraints(mesh, kind):
    """Saying where a value lies changes nothing of its Jacobian."""

    def f(x):
        hidden = jnp.sin(x)
        if kind == "Explicit":
            return jnp.exp(reshard(hidden, P("batch", None)))
        return jnp.exp(lax.with_sharding_constraint(hidden, NamedSharding(mesh, P("batch"))))

    j = jn.jacobian(f, on_opaque="error")(X)
    assert j.structure == "diagonal"
    close(j.per_example(), jax.vmap(jax.jacrev(lambda x: jnp.exp(jnp.sin(x))))(X), 1e-12, "constraint")


def check_inside(mesh):
    """Norms, the clipped sum and a GGN product inside of a `shard_map`, where each device has examples of its own."""

    def loss(p, x, y):
        return jn.cross_entropy(with_tanh(p, x), y)

    def asked(p, x, y):
        clipped, _ = jn.clip_per_example(loss, 1.0)(p, x, y)
        product = jn.ggn_vector_product(with_tanh, jn.cross_entropy)(p, p, x, y)
        return jn.per_example_grad_norms(loss)(p, x, y), clipped, product

    def of_device(p, x, y):
        norms, *sums = asked(lax.pcast(p, ("batch", "model"), to="varying"), x, y)
        return norms, lax.psum(sums, ("batch", "model"))

    whole = dict.fromkeys(LAYERS, P())
    f = jax.shard_map(of_device, mesh=mesh, in_specs=(whole, BOTH, BOTH), out_specs=(BOTH, P()))
    put = functools.partial(jax.device_put, device=NamedSharding(mesh, P()))
    x, y = (jax.device_put(a, NamedSharding(mesh, BOTH)) for a in (X, LABELS))
    found, expected = jax.jit(f)(put(LAYERS), x, y), asked(LAYERS, X, LABELS)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1e-10, "inside of shard_map", least=1.0)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_enable_x64", True)
    kind, *names = sys.argv[1:]
    mesh = jax.make_mesh((4, 2), ("batch", "model"), axis_types=(AxisType[kind],) * 2)
    with set_mesh(mesh):
        check_constraints(mesh, kind)
        check_inside(mesh)
        for name in names or CASES:
            check(name, CASES[name], mesh, kind)
