"""How ranks and dtypes are promoted inside this package."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

_narrowest: ContextVar[Any] = ContextVar("narrowest", default=jnp.float32)


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Promotion as JAX has it by default, for our own code: the flags that a user sets are about the user's code.

    It is a context and a decorator.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@contextlib.contextmanager
def numbers_of(*dtypes) -> Iterator[None]:
    """Numbers that multiply entries 0 and 1, which have no precision of their own, are as wide as these dtypes.

    A third of a selection is a third in float64 only if it is made in float64.
    """
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    with usual_promotion():
        token = _narrowest.set(jnp.result_type(jnp.float32, *floating))
    try:
        yield
    finally:
        _narrowest.reset(token)


def narrowest_number():
    """The dtype that `numbers_of` asks for: float32 or wider."""
    return _narrowest.get()
