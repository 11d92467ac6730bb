"""Blurring the chosen tokens of a clean sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tokenrank_guidance.markov.precision import full_precision


def gaussian_kernel(size: int, sigma: float, like: Tensor) -> Float[Tensor, " size"]:
    """Gaussian weights of odd `size` (pixels) and standard deviation `sigma` (pixels), summing to 1."""
    offsets = torch.arange(size, device=like.device, dtype=like.dtype) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    return weights / weights.sum()


def reflected(length: int, pad: int, device: torch.device) -> Int[Tensor, " padded"]:
    """Indices of a signal of `length` mirrored at its ends (edges not doubled), by any `pad`."""
    if length == 1:
        return torch.zeros(1 + 2 * pad, dtype=torch.long, device=device)
    index = torch.arange(-pad, length + pad, device=device) % (2 * (length - 1))
    return torch.minimum(index, 2 * (length - 1) - index)


def gaussian_blur(images: Float[Tensor, "b c h w"], size: int, sigma: float) -> Float[Tensor, "b c h w"]:
    """Separable Gaussian blur with mirrored borders, whatever autocast says; any height and width."""
    height, width = images.shape[-2:]
    channels, pad = images.shape[1], size // 2
    kernel = gaussian_kernel(size, sigma, images)
    with full_precision(images.device):
        rows = images[..., reflected(height, pad, images.device), :]
        rows = F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        both = rows[..., reflected(width, pad, images.device)]
        return F.conv2d(both, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def mask_of_frames(mask: Shaped[Tensor, "b *grid"], images: int) -> Shaped[Tensor, "images h w"]:
    """The mask of each of `images`, which are the frames of videos one after the other where it has frames.

    A token may span several of them, by nearest neighbour.
    """
    if mask.ndim == 3:
        return mask
    frames = images // mask.shape[0]
    own = torch.arange(frames, device=mask.device) * mask.shape[1] // frames
    return mask[:, own].flatten(0, 1)


def blur_tokens(
    clean: Float[Tensor, "b c h w"],
    mask: Bool[Tensor, "b gh gw"] | Float[Tensor, "b gh gw"],
    size: int,
    sigma: float,
) -> Float[Tensor, "b c h w"]:
    """x + w·(blur(x) − x), w being the mask, resized to the sample by nearest neighbour.

    A mask of weights in [0, 1] blurs in proportion; true is 1: blurred, false 0: as it was, both bit for bit
    (Hong et al. 2023, eq. 14).
    """
    weight = F.interpolate(mask.unsqueeze(1).to(clean.dtype), clean.shape[-2:])
    return torch.where(weight > 0, clean.lerp(gaussian_blur(clean, size, sigma), weight), clean)
