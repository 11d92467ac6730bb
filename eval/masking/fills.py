"""What the pixels of masked patches become, by name: `FILLS`. Nothing here needs torch before it is used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tokenrank_guidance.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor
else:
    torch = LazyModule("torch")

Images: TypeAlias = "Float[Tensor, 'images channels height width']"
Fill = Callable[[Images], Images]
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
    padded = torch.nn.functional.pad(images.float(), (radius,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, kernel, groups=images.shape[1])
    return torch.nn.functional.conv2d(rows, kernel.mT, groups=images.shape[1]).to(images.dtype)


FILLS: dict[str, Fill] = {"zero": zeroed, "mean": mean_coloured, "blur": blurred}
