"""Questions asked of a program, by us and by plain JAX, and the costs of their compiled programs: the same on every run."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnets as jn

from .programs import mlp

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


def modes(program):
    """JAX's ways to a Jacobian by an input of a program's model."""
    return [jax.jacrev] if program.name == "custom_vjp" else [jax.jacrev, jax.jacfwd]


def jacobian_by_input(program):
    def ours(p, x, y):
        return jn.jacobian(lambda x: program.model(p, x), on_opaque="allow")(x).per_example()

    def by(mode):
        return lambda p, x, y: jax.vmap(mode(lambda v: program.model(p, v[None])[0]))(x)

    return ours, [by(mode) for mode in modes(program)]


def per_example_jacobians(modes, model):
    """By every mode of JAX, a function that gives an array [B, outputs, parameters] for every array of parameters."""

    def by(mode):
        def one(p, x):
            jacobian = mode(lambda p: jnp.ravel(model(p, jax.tree.map(lambda a: a[None], x))))(p)
            return [j.reshape(len(j), -1) for j in jax.tree.leaves(jacobian)]

        return jax.vmap(one, (None, 0))

    return [by(mode) for mode in modes]


def ggn_diagonal(program):
    def theirs(jacobians):
        def diagonal(p, x, y):
            z = program.model(p, x)
            hessians = jax.vmap(jax.hessian(lambda z, y: program.cost(z[None], y[None])[0]))(z, y)
            rows = jacobians(p, x)
            hessians = hessians.reshape(len(z), rows[0].shape[1], -1)
            found = [jnp.sum(j * jnp.einsum("bcd,bdp->bcp", hessians, j), (0, 1)) for j in rows]
            leaves, tree = jax.tree.flatten(p)
            return jax.tree.unflatten(tree, [a.reshape(leaf.shape) for a, leaf in zip(found, leaves, strict=True)])

        return diagonal

    return jn.ggn_diagonal(program.model, program.cost), list(
        map(theirs, per_example_jacobians(modes(program), program.model))
    )


def ntk_trace(program):
    """The kernel of the outputs; of the losses where there are none, or where the outputs are those of many programs."""
    of_losses = program.model in (None, mlp)

    def outputs(p, given):
        return program.loss(p, *given) if of_losses else program.model(p, given[0])

    def theirs(jacobians):
        return lambda p, x, y: sum(jnp.einsum("bcp,dcp->bd", j, j) for j in jacobians(p, (x, y)))

    def ours(p, x, y):
        return jn.ntk(outputs, "trace")(p, (x, y))

    return ours, list(map(theirs, per_example_jacobians([jax.jacrev] if of_losses else modes(program), outputs)))


QUESTIONS = {
    "gradient": gradient,
    "norms": norms,
    "clipped": clipped,
    "jacobian": jacobian_by_input,
    "ggn_diagonal": ggn_diagonal,
    "ntk": ntk_trace,
}


def asked(program):
    """The questions that make sense for a program."""
    by_example = [] if program.scalar else ["norms", "clipped", "ntk"]
    by_input = program.model and np.issubdtype(program.x.dtype, np.floating)
    return ["gradient", *by_example, *(["jacobian"] if by_input else []), *(["ggn_diagonal"] if program.model else [])]


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
