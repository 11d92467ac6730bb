"""Float32 or better, whatever the model runs in."""

from contextlib import AbstractContextManager, nullcontext

import torch


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
