"""Float32 or better, whatever the model runs in."""

import torch


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays float64; every other floating dtype is computed in float32."""
    return torch.promote_types(dtype, torch.float32)


def full_precision(device: torch.device) -> torch.autocast:
    """Switch autocast off, which would run the chain's products in the model's half precision."""
    return torch.autocast(device.type, enabled=False)
