"""Peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_extra_mib(work: Callable[[], object], device: torch.device) -> float | None:
    """MiB that ``work`` holds at most beyond what is held before: device memory, or on a CPU resident memory.

    ``None`` where the system cannot tell.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that is still resident would hide new
        CLEAR.write_text("5")  # the peak starts anew
        before = _kib("VmRSS")
    except OSError:
        work()
        return None
    work()
    return (_kib("VmHWM") - before) / 2**10


def _kib(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])
