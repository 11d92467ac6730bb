"""From merged maps to a label for every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_whole

HELD = 2**23  # upsampled values held at once: 32 MiB in float32, whatever the image's size


@torch.no_grad()
def label_map(masks: Float[Tensor, "segments gh gw"], size: tuple[int, int]) -> Int[Tensor, "h w"]:
    """argmax over segments of the masks, upsampled bilinearly (half-pixel centres) to `size` = (h, w).

    Of equal values the first segment has the pixel. Works in strips of rows, so that no more than `HELD`
    upsampled values exist at once. DiffSeg upsamples by 8, which is what this does at 512×512 from 64×64.
    """
    if not isinstance(size, Sequence) or len(size) != 2 or not all(is_whole(side) for side in size):
        raise ValueError(f"size: got {size!r}, expected a height and a width of at least 1")
    height, width = size
    upper, lower, down = _between(masks.shape[1], height, masks)
    left, right, across = _between(masks.shape[2], width, masks)
    labels = torch.empty(height, width, dtype=torch.long, device=masks.device)
    rows = max(1, HELD // (len(masks) * max(width, masks.shape[2])))
    for start in range(0, height, rows):
        strip = slice(start, start + rows)
        lines = torch.lerp(masks[:, upper[strip]], masks[:, lower[strip]], down[strip, None])
        labels[strip] = torch.lerp(lines[..., left], lines[..., right], across).argmax(0)
    return labels


def _between(
    few: int, many: int, like: Tensor
) -> tuple[Int[Tensor, " many"], Int[Tensor, " many"], Float[Tensor, " many"]]:
    """For `many` pixels the two of `few` tokens that each lies between, and how far towards the second."""
    places = (torch.arange(many, dtype=torch.float64) + 0.5) * few / many - 0.5
    places = places.clamp(0, few - 1)
    first = places.floor().long()
    share = (places - first).to(like.device, like.dtype)
    return first.to(like.device), (first + 1).clamp(max=few - 1).to(like.device), share
