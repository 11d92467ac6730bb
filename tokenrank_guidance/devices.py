"""Where a model runs, and in what numbers."""

from __future__ import annotations

import time
from functools import cache

import torch

from tokenrank_guidance.messages import say
from tokenrank_guidance.option_groups import DTYPE_NAMES

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
SIDE, SLOW = 192, 3.0  # of the product by which numbers are timed; how many times float32 is slow


@cache
def warn_of_slow_numbers(dtype: torch.dtype, device: str) -> None:
    """Say, once, if a CPU has no instructions for `dtype`: it then converts every number, back and forth."""
    ratio = slowness(dtype, device)
    if ratio > SLOW:
        say(
            f"warning: this CPU has no instructions for {str(dtype).removeprefix('torch.')} (a product takes "
            f"{ratio:.0f} times as long as in float32): leave --dtype out, or take a GPU"
        )


def slowness(dtype: torch.dtype, device: str) -> float:
    """How many times as long as in float32 a CPU takes in `dtype`; 1 for any other device.

    Measured on one small product, as no question to torch tells it on every kind of CPU: some 0.1 s.
    """
    if device != "cpu" or dtype == torch.float32:
        return 1.0
    return _seconds(dtype) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    matrix, best = torch.ones(SIDE, SIDE, dtype=dtype), float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return best


def usable_device(name: str) -> str:
    """`name`, or for "auto" the GPU where there is one; ValueError for a device that does not work here."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).tolist()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name
