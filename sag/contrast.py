"""Keeping a guided sample's contrast."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def keep_contrast(
    guided: Float[Tensor, "b c h w"], plain: Float[Tensor, "b c h w"], amount: float
) -> Float[Tensor, "b c h w"]:
    """φ·(σ_plain·(guided − μ_guided)/σ_guided + μ_plain) + (1 − φ)·guided, φ being `amount`.

    μ and σ are each channel's mean and standard deviation over pixels, so that at φ = 1 both stay what they
    are in `plain`. A channel that is constant becomes μ_plain. As Lin et al. (WACV 2024, eq. 15 and 16)
    rescale a classifier-free guided prediction, but for each channel.
    """
    dims = (-2, -1)
    spread, mean = torch.std_mean(guided, dims, correction=0, keepdim=True)
    wanted, middle = torch.std_mean(plain, dims, correction=0, keepdim=True)
    ratio = torch.where(spread > 0, wanted / spread, 0)
    return guided.lerp((guided - mean) * ratio + middle, amount)
