"""Questions asked of a program, by us and by plain JAX, and the costs of their compiled programs: the same on every run."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

SMALL_FLOPS, SMALL_BYTES = 2_000, 32_768  # differences that do not count


def costs(function, *args):
    """The result, the FLOPs and the temporary bytes of a function, compiled.  XLA counts the body of a loop once."""
    program = jax.jit(function).lower(*args).compile()
    counted = program.cost_analysis() or {}
    return program(*args), counted.get("flops", 0.0), program.memory_analysis().temp_size_in_bytes


def per_example_gradients(program):
    def one(p, x, y):
        whole = jax.tree.map(lambda a: a[None], (x, y))
        return program.loss(p, *whole)[0]

    return jax.vmap(jax.grad(one), (None, 0, 0))


def squared_norms(gradients):
    return sum(jnp.sum(g.reshape(len(g), -1) ** 2, 1) for g in jax.tree.leaves(gradients))


def gradient(program):
    def mean(p, x, y):
        return jnp.mean(program.loss(p, x, y))

    return jn.grad(mean), [jax.grad(mean)]


def norms(program):
    each = per_example_gradients(program)
    return jn.per_example_grad_norms(program.loss), [lambda *args: jnp.sqrt(squared_norms(each(*args)))]


def clipped(program):
    each = per_example_gradients(program)

    def theirs(p, x, y):
        gradients = each(p, x, y)
        factor = jnp.minimum(1, 1 / jnp.maximum(jnp.sqrt(squared_norms(gradients)), 1e-30))
        return jax.tree.map(lambda g: jnp.einsum("b,b...->...", factor, g), gradients)

    return (lambda *args: jn.clip_per_example(program.loss, 1.0)(*args)[0]), [theirs]


def jacobian_by_input(program):
    def ours(p, x, y):
        return jn.jacobian(lambda x: program.model(p, x), on_opaque="allow")(x).per_example()

    def by(mode):
        return lambda p, x, y: jax.vmap(mode(lambda v: program.model(p, v[None])[0]))(x)

    modes = [jax.jacrev] if program.name == "custom_vjp" else [jax.jacrev, jax.jacfwd]
    return ours, [by(mode) for mode in modes]


QUESTIONS = {"gradient": gradient, "norms": norms, "clipped": clipped, "jacobian": jacobian_by_input}


def asked(program):
    """The questions that make sense for a program."""
    return ["gradient", *([] if program.scalar else ["norms", "clipped"]), *(["jacobian"] if program.model else [])]


def compared(program, question):
    """Our FLOPs and bytes, and the best of JAX's; AssertionError where the answers differ."""
    ours, theirs = QUESTIONS[question](program)
    args = program.params, program.x, program.y
    found, *own = costs(ours, *args)
    best = [np.inf, np.inf]
    for other in theirs:
        expected, *counts = costs(other, *args)
        best = list(map(min, best, counts))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * max(1e-3, float(jnp.abs(b).max())), err_msg=program.name)
    return own, best
