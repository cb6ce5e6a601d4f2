"""How ranks and dtypes are promoted inside this package."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Promotion as JAX has it by default, for our own code: the flags that a user sets are about the user's code.

    It is a context and a decorator.
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
