"""Arrays that lie on eight devices: what is computed of them is right, and stays spread where every example is by itself.

`python -m tests.autodiff.on_eight_devices Auto|Explicit [every layer]`, in a process of its own, because a process starts
with its devices.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, set_mesh

import jaxnets as jn
from tests.cases import FIRST
from tests.computing import close, reals

rng = np.random.default_rng(0)
X, LABELS = rng.normal(size=(16, 3)), np.arange(16) % 2
PARAMS = [rng.normal(size=shape) for shape in ((8, 3), (8,), (2, 8))]


def net(p, x):
    return jn.linear(jn.tanh(jn.linear(x, p[0], p[1])), p[2])


def loss(p, x, y):
    return jn.cross_entropy(net(p, x), y)


def of_entries(x):
    """Entries that are picked and put together: some numbers of its Jacobian depend on the example, and some do not."""
    return jnp.concatenate([x[:, :1] * x[:, 1:2], x[:, 2:] + x[:, :1], jnp.sin(x[:, 1:])], 1)


# Each gives first what has one part for each example, then what is summed over them.
QUESTIONS = {
    "grad": lambda p, x, y: ((), jn.grad(lambda p: jn.mean(loss(p, x, y)))(p)),
    "jacobian": lambda p, x, y: (jn.jacobian(lambda x: net(p, x))(x).per_example(), ()),
    "jacobian by entries": lambda p, x, y: (jn.jacobian(of_entries)(x).per_example(), ()),
    "laplacian": lambda p, x, y: (jn.laplacian(lambda x: jn.sum(net(p, x), axis=1))(x), ()),
    "per_example_grads": lambda p, x, y: (jn.per_example_grads(loss)(p, x, y), ()),
    "per_example_grad_norms": lambda p, x, y: (jn.per_example_grad_norms(loss)(p, x, y), ()),
    "clip_per_example": lambda p, x, y: jn.clip_per_example(loss, 1.0)(p, x, y)[::-1],
    "ggn": lambda p, x, y: ((), jn.ggn(net, jn.cross_entropy)(p, x, y) @ p),
    "ggn_diagonal": lambda p, x, y: ((), jn.ggn_diagonal(net, jn.cross_entropy)(p, x, y)),
    "kfac_factors": lambda p, x, y: ((), jax.tree.leaves(jn.kfac_factors(net, jn.cross_entropy)(p, x, y))),
    "hessian_diagonal": lambda p, x, y: ((), jn.hessian_diagonal(lambda p: jn.mean(loss(p, x, y)))(p)),
    "ntk": lambda p, x, y: (jn.ntk(net)(p, x), ()),
}
GATHERS = {"ntk"}  # every example meets every other one


def placed(mesh, tree, *spec):
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*spec)))


def same(found, expected, what):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1e-12, what, least=1.0)


def check_questions(kind):
    """Every question, with the examples spread; then with the hidden units spread over a second axis, too."""
    expected = {name: jax.jit(ask)(PARAMS, X, LABELS) for name, ask in QUESTIONS.items()}
    for shape, names in [((8,), ("data",)), ((4, 2), ("data", "model"))]:
        mesh = jax.make_mesh(shape, names, axis_types=(kind,) * len(names))
        with set_mesh(mesh):
            x, y = (placed(mesh, a, "data") for a in (X, LABELS))
            units = names[1:]  # JAX refuses to sum over what lies spread in both factors, so the last weights are not
            p = [placed(mesh, PARAMS[0], *units), placed(mesh, PARAMS[1], *units), placed(mesh, PARAMS[2])]
            for name, ask in QUESTIONS.items():
                compiled = jax.jit(ask).lower(p, x, y).compile()
                found = compiled(p, x, y)
                same(found, expected[name], f"{name} on {shape}")
                for part in jax.tree.leaves(found[0]):
                    assert part.sharding.spec[0] == "data", f"{name}: what belongs to one example lies on every device"
                gathers = "all-gather" in compiled.as_text()
                assert not gathers or name in GATHERS or units, f"{name} gathers what is spread"


def check_layers(kind, some):
    """The gradient and the Jacobians of layers, with their batch spread; where JAX itself refuses, nothing is asked."""
    refused = []
    for case in [case for case in FIRST.values() if case.batch][::some]:
        args = case.values()
        size = args[case.batch[0]].shape[0]
        mesh = jax.make_mesh((size,), ("data",), axis_types=(kind,), devices=jax.devices()[:size])
        with set_mesh(mesh):
            spread = [a if a is None else placed(mesh, a, *["data"] if i in case.batch else []) for i, a in enumerate(args)]
            function, wrt = case.function(spread), tuple(range(len(case.real)))
            real = reals(case, spread)

            def scalar(*real, function=function):
                return sum(jnp.sum(y * y) for y in function(*real))

            try:
                expected = jax.jit(jax.grad(scalar, wrt))(*real)
            except Exception as error:
                if type(error).__name__ != "ShardingTypeError":
                    raise
                refused.append(case.name)
                continue
            same(jax.jit(jn.grad(scalar, wrt))(*real), expected, str(case))
            whole = jax.jit(jax.jacrev(case.function(args), wrt))(*reals(case, args))
            same(jax.jit(lambda *real, f=function, wrt=wrt: jn.dense(jn.jacobian(f, wrt)(*real)))(*real), whole, str(case))
    print("JAX itself refuses:", *refused)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore", message=".*derivative is opaque")
    axis_type = AxisType[sys.argv[1]]
    check_questions(axis_type)
    check_layers(axis_type, int(sys.argv[2]))
