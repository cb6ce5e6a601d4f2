"""Programs that run once, so that most of their time is the compiler's."""

from collections.abc import Callable
from typing import Any

import jax

LIGHT: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def jit_once(function: Callable) -> Any:
    """`jax.jit` for a program that runs once: it is compiled in half of the time, and slower where much is computed."""
    return jax.jit(function, compiler_options=LIGHT)
