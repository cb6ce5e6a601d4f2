"""Functions that `jax.export` writes for batches of any size, which is a symbol while JAX traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxnets as jn

from ..cases import FIRST
from ..computing import close, reals
from ..sweeps import swept

rng = np.random.default_rng(0)
PARAMS = [rng.normal(size=shape) for shape in ((5, 3), (5,), (2, 5))]
X, LABELS = rng.normal(size=(4, 3)), np.arange(4) % 2


def net(p, x):
    return jn.linear(jn.tanh(jn.linear(x, p[0], p[1])), p[2])


def loss(p, x, y):
    return jn.cross_entropy(net(p, x), y)


def loss_of_plain_jax(p, x, y):
    log_p = jax.nn.log_softmax(jnp.tanh(x @ p[0].T + p[1]) @ p[2].T)
    return -jnp.take_along_axis(log_p, y[:, None], 1).mean()


QUESTIONS = {
    "grad": lambda x, y: jn.grad(lambda p: jn.mean(loss(p, x, y)))(PARAMS),
    "grad of plain JAX": lambda x, y: jn.grad(loss_of_plain_jax)(PARAMS, x, y),
    "per_example": lambda x, y: jn.jacobian(lambda x: net(PARAMS, x))(x).per_example(),
    "per_example_grads": lambda x, y: jn.per_example_grads(loss)(PARAMS, x, y),
    "per_example_grad_norms": lambda x, y: jn.per_example_grad_norms(loss)(PARAMS, x, y),
    "clip_per_example": lambda x, y: jn.clip_per_example(loss, 1.0)(PARAMS, x, y),
    "ggn_diagonal": lambda x, y: jn.ggn_diagonal(net, jn.cross_entropy)(PARAMS, x, y),
    "laplacian": lambda x, y: jn.laplacian(lambda x: jn.sum(net(PARAMS, x), axis=1))(x),
    "ntk": lambda x, y: jn.ntk(net)(PARAMS, x),
}


def exported(function, *arrays):
    """The results of the function after it was written for a batch of size b."""
    (b,) = export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((b, *a.shape[1:]), a.dtype) for a in arrays]
    return export.export(jax.jit(function))(*shapes).call(*arrays)


def same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1e-12, least=1.0)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_exported(name):
    same(exported(QUESTIONS[name], X, LABELS), jax.jit(QUESTIONS[name])(X, LABELS))


@pytest.mark.parametrize("case", swept([case for case in FIRST.values() if case.batch], 12), ids=str)
def test_gradients_of_layers_are_exported(case):
    args = case.values()

    def gradient(transform):
        def run(*batches):
            own = dict(zip(case.batch, batches, strict=True))
            given = [own.get(i, a) for i, a in enumerate(args)]
            function, wrt = case.function(given), tuple(range(len(case.real)))
            return transform(lambda *real: sum(jnp.sum(y * y) for y in function(*real)), wrt)(*reals(case, given))

        return run

    batches = [args[i] for i in case.batch]
    same(exported(gradient(jn.grad), *batches), jax.jit(gradient(jax.grad))(*batches))
