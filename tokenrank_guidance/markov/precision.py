"""Float32 or better, whatever the model runs in."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays float64; every other floating dtype is computed in float32."""
    return torch.promote_types(dtype, torch.float32)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off, which would run the chain's products in the model's half precision.

    TF32 is the caller's choice: products of float32 take it on a GPU where torch is told to (it is not by
    default), which leaves three digits.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64 at all: Apple's GPUs do not, nor do some of Intel's."""
    return device.type in ("cpu", "cuda", "meta") or _computes_in_float64(device)


@cache
def _computes_in_float64(device: torch.device) -> bool:
    try:
        return bool(torch.ones((), dtype=torch.float64, device=device).add(1) == 2)
    except (TypeError, RuntimeError):
        return False


def float64_on_cpu(values: Shaped[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """A copy on the CPU in float64, converted there: see `has_float64`."""
    return values.detach().cpu().double()


def capable(device: torch.device) -> torch.device:
    """This device, or the CPU in place of one without float64, for which torch has not every operator."""
    return device if has_float64(device) else torch.device("cpu")


def device_for(dtype: torch.dtype, device: torch.device) -> torch.device:
    """This device, or the CPU for float64 that it does not have."""
    return capable(device) if dtype == torch.float64 else device
