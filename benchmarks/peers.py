"""Other libraries as contenders; one that is not installed is missing, and says so."""

import functools
import importlib.util
from collections.abc import Callable

import jax
import numpy as np

from .harness import Contender, Missing, Program, jitted


def needs(package: str):
    """Decorates a function that makes a contender of this package."""

    def decorate(make):
        @functools.wraps(make)
        def contender(*args, **options) -> Contender | Missing:
            if importlib.util.find_spec(package) is None:
                return Missing(f"missing: {package} (pip install {package})")
            return make(*args, **options)

        return contender

    return decorate


@needs("torch")
def by_torch(network: Callable, mode: str) -> Contender | Missing:
    """torch.func's vmap(jacrev) or vmap(jacfwd) of a function of (params, x), on the kind of device that JAX has chosen."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return Missing("missing: torch with CUDA")

    def prepare(*args):
        params, x = jax.tree.map(lambda a: torch.tensor(np.asarray(a), device=device), args)
        function = torch.func.vmap(getattr(torch.func, mode)(network, 1), (None, 0))

        def run():
            answer = function(params, x)
            if device == "cuda":
                torch.cuda.synchronize()
            return answer

        return Program(run, rest=0.02)  # its threads go on looking for work for some milliseconds

    return Contender(prepare, lambda answer: answer.detach().cpu().numpy())


@needs("asdex")
def by_asdex(function: Callable) -> Contender:
    """The entries of the sparse Jacobian of (params, x) by x; preparing it finds the pattern and colours it."""
    import asdex

    return entries(lambda params, x: asdex.jacobian(function, params, x, argnums=1))


@needs("sparsejac")
def by_sparsejac(function: Callable) -> Contender:
    """The same; the pattern, a diagonal, is told, and preparing colours it."""
    import sparsejac
    from jax.experimental import sparse as patterns

    return entries(lambda params, x: sparsejac.jacfwd(function, patterns.eye(x.size), argnums=1))


def entries(make: Callable) -> Contender:
    def prepare(*args):
        jacobian = make(*args)
        return jitted(lambda *args: jacobian(*args).data).prepare(*args)

    return Contender(prepare)
