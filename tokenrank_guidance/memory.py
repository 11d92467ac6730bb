"""How much memory there is, whether something fits, and how much of it one layer's attention may hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tokenrank_guidance.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

# The size rule, on a CPU. A product with a matrix in memory takes a tenth of the time of one from Q and K; to
# make it takes as long as one or two of these. So a chain holds its matrices as long as they fit in here, and
# of many chains as many at a time as do. That is 8 heads of 2,048 tokens, or one chain of 5,792, such as the
# mixture of any number of heads over FLUX's 4,608 tokens at 1,024 px.
HELD_BYTES = 128 * 2**20
# Of these as many at a time as stay in a core's cache, and then the next: TokenRank of each of 8 heads of
# 1,024 tokens took 117, 162 and 227 ms by 2, 4 and 8 at a time (60 products), and at 2,025 tokens, whose
# matrix is 16 MiB, 357, 500 and 866 by 1, 4 and 8; chains that are done do not wait for the others.
CACHED_BYTES = 8 * 2**20
# On a GPU they may take this part of its memory: FLUX's 24 heads of 4,608 tokens, 1.9 GiB, of 32 GiB. There,
# too, a product from Q and K takes several times as long, and a fused kernel for it is to be compiled first.
HELD_SHARE = 16
GIB = 2**30
# glibc's mallopt: blocks given by mmap, at most; and what may lie free at the heap's end.
M_MMAP_MAX, M_TRIM_THRESHOLD, ALL = -4, -1, 2**31 - 1


def keep_pages() -> bool:
    """Have glibc keep the memory that this process frees, for what it asks for next; whether it does.

    Blocks of over 32 MiB, such as the layers of a batch in float32, else come from the system and go back to
    it each time, and each of their pages is cleared anew: a sixth of the CPU time of 32 images of the
    embedded UNet, and several times it where pages cost more. The process then never shrinks. It is for
    programs: a library leaves it to its user, who has MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
    in the environment.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, ALL)])


def free_bytes(device: str) -> int | None:
    """What can still be had on a device, "cpu" or "cuda:0"; None where that is not known."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    if device != "cpu":
        return None
    import psutil

    return psutil.virtual_memory().available


def held_bytes(device: torch.device) -> int:
    """How many bytes of matrices a chain on this device holds, unless it is told otherwise."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory // HELD_SHARE
    return HELD_BYTES


def chains_at_a_time(matrix_bytes: int, memory: int, device: torch.device) -> int:
    """How many matrices of so many bytes are best in memory together; 0 where it has not room for one."""
    cached = max(1, CACHED_BYTES // matrix_bytes) if device.type == "cpu" else memory
    return min(cached, memory // matrix_bytes)


def check_memory(needed: int, device: str, what: str) -> None:
    """UnsupportedError, with both numbers, where `what` needs more bytes than the device has free."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise UnsupportedError(
            f"{what} need at least {needed / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB are free on {device}: "
            "ask for fewer pixels, or fewer images at once"
        )


def check_square(side: int | None, device: str) -> None:
    """The same of one picture of side × side pixels, in float32; None is a model's own size."""
    if side is not None:
        check_memory(3 * 4 * side * side, device, f"the numbers of a picture of {side}×{side}")
