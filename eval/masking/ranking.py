"""From scores to the patches that are masked."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Order = Literal["descending", "ascending"]


def masked_count(fraction: float, patches: int) -> int:
    """round(fraction · patches); ValueError for a fraction outside [0, 1]."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of masked patches is in [0, 1], got {fraction}")
    return round(fraction * patches)


def ranks(scores: Float[Tensor, "*arms patches"], order: Order) -> Int[Tensor, "*arms patches"]:
    """Place of each patch in the order in which patches are masked, 0 first; ties go by position.

    "descending" masks the highest score first. Raises ValueError for scores that are not finite.
    """
    if order not in get_args(Order):
        raise ValueError(f"order: got {order!r}, expected 'descending' or 'ascending'")
    if not torch.isfinite(scores).all():
        raise ValueError("a scorer returned values that are not finite")
    places = scores.argsort(dim=-1, descending=order == "descending", stable=True)
    return torch.empty_like(places).scatter_(
        -1, places, torch.arange(places.shape[-1], device=places.device).expand_as(places)
    )


def masks(places: Int[Tensor, "*arms patches"], fraction: float) -> Bool[Tensor, "*arms patches"]:
    """True for the patches masked at `fraction`, as many in every row."""
    return places < masked_count(fraction, places.shape[-1])
