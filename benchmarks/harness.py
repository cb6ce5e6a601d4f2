"""Contenders side by side: their answers agree, then they take turns, and medians are compared."""

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Result:
    """One question at one size: for every contender the median, the first call (trace + compile + run) and its memory."""

    question: str
    case: str
    milliseconds: dict[str, float]
    first_call: dict[str, float]
    temporary_bytes: dict[str, int]


def measure(question: str, case: str, contenders: dict[str, Callable], args, rounds: int, tolerance: float = 1e-4) -> Result:
    """Time jitted contenders in turns; ours is the first.  Raises where their answers differ by more than `tolerance`."""
    compiled, first, memory, answers = {}, {}, {}, {}
    for name, function in contenders.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        answers[name] = jax.block_until_ready(compiled[name](*args))
        first[name] = time.perf_counter() - start
        memory[name] = compiled[name].memory_analysis().temp_size_in_bytes
    ours, *others = contenders
    for name in others:
        for a, b in zip(jax.tree.leaves(answers[ours]), jax.tree.leaves(answers[name]), strict=True):
            gap, scale = np.max(np.abs(a - b)), np.max(np.abs(b))
            if not gap <= tolerance * scale:
                raise AssertionError(f"{question}, {case}: {ours} and {name} differ by {gap:.2g} of {scale:.2g}")
    times: dict[str, list[float]] = {name: [] for name in contenders}

    def turn(name):
        start = time.perf_counter()
        jax.block_until_ready(compiled[name](*args))
        times[name].append(time.perf_counter() - start)

    for name in contenders:  # one turn each tells who is slow: these take three turns, apart, so as not to cool the others
        turn(name)
    fast = [name for name in contenders if times[name][0] <= 5 * min(t[0] for t in times.values())]
    for name in set(contenders) - set(fast):
        turn(name), turn(name)
    shuffled = np.random.default_rng(0)
    for _ in range(rounds):
        for i in shuffled.permutation(len(fast)):
            turn(fast[i])
    median = {name: 1e3 * float(np.median(t)) for name, t in times.items()}
    return Result(question, case, median, first, memory)


def environment() -> dict[str, str]:
    """What the figures depend on."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "dtype": "float32",
        **versions,
    }
