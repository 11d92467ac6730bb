"""Masking patches of the picture: what their pixels become."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Images = Float[Tensor, "images channels height width"]
BLUR_SIGMA = 1 / 16  # of the shorter side: 14 pixels at 224, about a patch, so that its content is gone


def zeroed(images: Images) -> Images:
    """0 after normalisation: the processor's mean colour, the same for all images."""
    return torch.zeros_like(images)


def mean_coloured(images: Images) -> Images:
    """The image's own mean colour over all its pixels, masked or not."""
    return images.mean((-2, -1), keepdim=True).expand_as(images)


def blurred(images: Images) -> Images:
    """A Gaussian blur of the whole image, σ = `BLUR_SIGMA` of its shorter side, cut at 3σ, edges repeated.

    Linear, so that it is the same before and after normalisation.
    """
    sigma = BLUR_SIGMA * min(images.shape[-2:])
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images.float(), (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(rows, kernel.mT, groups=images.shape[1]).to(images.dtype)


FILLS: dict[str, Callable[[Images], Images]] = {"zero": zeroed, "mean": mean_coloured, "blur": blurred}


def fill_patches(
    images: Images, fill: Images, masked: Bool[Tensor, "*arms images patches"], grid: tuple[int, int]
) -> Float[Tensor, "*arms images channels height width"]:
    """`images` with the pixels of masked patches replaced by those of `fill`; pixels outside the grid stay.

    Raises ValueError for an image smaller than its grid.
    """
    height, width = images.shape[-2:]
    rows, columns = height // grid[0], width // grid[1]
    if not rows or not columns:
        raise ValueError(f"an image of {height}x{width} pixels does not hold a grid of {grid}")
    where = masked.unflatten(-1, grid).repeat_interleave(rows, -2).repeat_interleave(columns, -1)
    where = F.pad(where, (0, width - where.shape[-1], 0, height - where.shape[-2]))
    return torch.where(where.unsqueeze(-3), fill, images)
