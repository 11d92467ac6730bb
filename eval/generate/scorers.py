"""A score that the experiments try beside those of `sag.scorers`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def quantiles(score: Float[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """2·(rank + ½)/N, the ranks counted from the lowest score: mean 1, above 2q for the 1 − q highest."""
    count = score.shape[-1]
    ranks = torch.argsort(torch.argsort(score, dim=-1, stable=True), dim=-1)
    return (2 * ranks.to(score.dtype) + 1) / count
