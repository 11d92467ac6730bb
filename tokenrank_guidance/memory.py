"""How much memory there is, whether something fits, and how much of it one layer's attention may hold."""

from __future__ import annotations

from tokenrank_guidance.errors import UnsupportedError

# The size rule. A product with a matrix in memory takes a tenth of the time of one from Q and K, and making
# the matrix takes as long as one or two of these: so a chain holds its matrices as long as they fit in here.
# That is 8 heads of 1,448 tokens, or one chain of 4,096, such as the mixture of any number of heads.
HELD_BYTES = 64 * 2**20
GIB = 2**30


def free_bytes(device: str) -> int | None:
    """What can still be had on a device, "cpu" or "cuda:0"; None where that is not known."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    if device != "cpu":
        return None
    import psutil

    return psutil.virtual_memory().available


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
