"""Other libraries as contenders.  One that is not installed is reported as missing."""

import functools
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .harness import Contender, Missing, Program, jitted


def needs_package(package: str, project: str | None = None):
    """A decorator for functions that make a contender of this package.  `project` is its name for pip."""

    def decorate(make):
        @functools.wraps(make)
        def contender(*args, **options) -> Contender | Missing:
            if importlib.util.find_spec(package) is None:
                return Missing(f"missing: {package} (pip install {project or package})")
            return make(*args, **options)

        return contender

    return decorate


@needs_package("torch")
def on_torch(make: Callable, as_numpy: Callable = lambda answer: answer) -> Contender | Missing:
    """A contender in torch, on the kind of device that JAX has chosen.

    `make(*args)` gets tensors of torch and returns the function that is timed.  `as_numpy` gets its answer, with NumPy's
    arrays in place of tensors.
    """
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return Missing("missing: torch with CUDA")

    def prepare(*args):
        torch.backends.cudnn.allow_tf32 = False  # as in JAX here, and as in torch's matrix products by default
        call = make(*jax.tree.map(tensor, args))

        def run():
            answer = call()
            if device == "cuda":
                torch.cuda.synchronize()
            return answer

        return Program(run, rest_seconds=0.02)  # torch's threads look for more work for some milliseconds

    def tensor(a):
        whole = jnp.issubdtype(a.dtype, jnp.integer)  # torch wants labels of 64 bits
        return torch.tensor(np.asarray(a, np.int64 if whole else a.dtype), device=device)

    def arrays(answer):
        return as_numpy(jax.tree.map(lambda a: a.detach().cpu().numpy(), answer))

    return Contender(prepare, arrays, "torch")


def by_torch(network: Callable, mode: str) -> Contender | Missing:
    """vmap(jacrev) or vmap(jacfwd) of torch.func, for a function of (params, x)."""

    def make(params, x):
        import torch

        function = torch.func.vmap(getattr(torch.func, mode)(network, 1), (None, 0))
        return lambda: function(params, x)

    return on_torch(make)


def gradient_by_torch(module: Callable) -> Contender | Missing:
    """The gradient of the summed cross-entropy by the parameters of `module(params)`, from (params, x, labels)."""

    def make(params, x, labels):
        import torch

        network, loss = module(params), torch.nn.CrossEntropyLoss(reduction="sum")
        weights = list(network.parameters())
        return lambda: torch.autograd.grad(loss(network(x), labels), weights)

    return on_torch(make)


@needs_package("backpack", "backpack-for-pytorch")
def by_backpack(
    module: Callable, extension: str, finish: Callable = lambda found: found, as_numpy: Callable = lambda answer: answer
) -> Contender | Missing:
    """What an extension of BackPACK computes for every parameter along with the gradient of the summed cross-entropy.

    The answer is `finish` of the list of these.
    """

    def make(params, x, labels):
        import backpack
        import torch

        network = backpack.extend(module(params))
        loss = backpack.extend(torch.nn.CrossEntropyLoss(reduction="sum"))
        weights, wanted = list(network.parameters()), getattr(backpack.extensions, extension)()

        def call():
            network.zero_grad()
            with backpack.backpack(wanted):
                loss(network(x), labels).backward()
            return finish([getattr(w, wanted.savefield) for w in weights])

        return call

    return on_torch(make, as_numpy)


@needs_package("curvlinops", "curvlinops-for-pytorch")
def ggn_vector_by_curvlinops(module: Callable) -> Contender | Missing:
    """The Gauss-Newton matrix of the summed cross-entropy times v, from (params, v, x, labels)."""

    def make(params, v, x, labels):
        import curvlinops
        import torch

        network, loss = module(params), torch.nn.CrossEntropyLoss(reduction="sum")
        weights, vector = list(network.parameters()), jax.tree.leaves(v)
        matrix = curvlinops.GGNLinearOperator(network, loss, weights, [(x, labels)], check_deterministic=False)
        return lambda: matrix @ vector

    return on_torch(make)


@needs_package("folx")
def laplacian_by_folx(function: Callable, as_numpy: Callable) -> Contender:
    """The forward Laplacian of every example, from (params, x)."""
    import folx

    def of_one(params, x):
        return folx.forward_laplacian(lambda x: function(params, x))(x).laplacian

    return jitted(jax.vmap(of_one, (None, 0)), as_numpy)


@needs_package("asdex")
def by_asdex(function: Callable) -> Contender:
    """The entries of the sparse Jacobian by x, from (params, x).  To prepare it is to find the pattern and colour it."""
    import asdex

    return sparse_entries(lambda params, x: asdex.jacobian(function, params, x, argnums=1))


@needs_package("sparsejac")
def by_sparsejac(function: Callable) -> Contender:
    """The same with sparsejac, which is given the pattern, a diagonal, and colours it when it is prepared."""
    import sparsejac
    from jax.experimental import sparse as patterns

    return sparse_entries(lambda params, x: sparsejac.jacfwd(function, patterns.eye(x.size), argnums=1))


def sparse_entries(make: Callable) -> Contender:
    def prepare(*args):
        jacobian = make(*args)
        return jitted(lambda *args: jacobian(*args).data).prepare(*args)

    return Contender(prepare)


@needs_package("jax_privacy", "jax-privacy")
def by_jax_privacy(loss: Callable, **options) -> Contender | Missing:
    """JAX-Privacy's sum of clipped gradients of a loss of one example."""
    from jax_privacy.clipping import clipped_grad

    return jitted(clipped_grad(loss, **options))
