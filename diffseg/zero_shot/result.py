"""What a segmentation by words is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.brief import brief

NOTHING = -1


@dataclass(frozen=True, eq=False)
class WordSegmentation:
    """One image's or video's concepts, and where each is.

    The `grid` of image tokens is (gh, gw), a video's (gt, gh, gw), of its frames of latents; the `size` is
    (h, w) in pixels, a video's (frames, h, w). Of a video all frames together count as one image.

    steps: a heat map for each timestep, or step of sampling, and concept; draws of noise are averaged.
    image: the generated one; frames: those of the generated video. Neither where the image was given.
    """

    concepts: tuple[str, ...]
    steps: Float[Tensor, "steps concepts *grid"]
    size: tuple[int, ...]
    image: Any = None
    frames: tuple[Any, ...] = ()

    @cached_property
    def heats(self) -> Float[Tensor, "concepts *grid"]:
        """The mean over steps, on the grid of image tokens."""
        return self.steps.mean(0)

    @cached_property
    def heat_maps(self) -> Float[Tensor, "concepts *size"]:
        """`heats` at the image's own size, bilinear; in time linear from the first frame to the last."""
        return enlarged(self.heats, self.size)

    @cached_property
    def masks(self) -> Bool[Tensor, "concepts *size"]:
        """Where each concept's heat map exceeds its own mean."""
        return self.heat_maps > _each(self.heat_maps.flatten(1).mean(1), self.size)

    @cached_property
    def labels(self) -> Int[Tensor, "*size"]:
        """The concept whose share of heat is largest among those whose mask is on, −1 where none is.

        Each map counts by its share of its own sum, so that no concept wins by receiving more attention.
        """
        sums = self.heat_maps.flatten(1).sum(1).clamp_min(1e-30)
        shares = self.heat_maps / _each(sums, self.size)
        best = shares.masked_fill(~self.masks, -torch.inf).argmax(0)
        return torch.where(self.masks.any(0), best, NOTHING)

    def __repr__(self) -> str:
        return brief(self)


def enlarged(
    heats: Float[Tensor, "concepts *grid"], size: tuple[int, ...]
) -> Float[Tensor, "concepts *size"]:
    """Heat maps at a size in pixels: a token is a square of them, and a frame of latents a moment."""
    if len(size) == 3:
        moments = (size[0], *heats.shape[2:])
        heats = F.interpolate(heats[None], moments, mode="trilinear", align_corners=True)[0]
    planes = heats.flatten(0, -3)[None]
    return F.interpolate(planes, size[-2:], mode="bilinear", align_corners=False)[0].view(len(heats), *size)


def _each(values: Float[Tensor, " concepts"], size: tuple[int, ...]) -> Float[Tensor, "concepts *ones"]:
    """A number for each concept's map."""
    return values.view(-1, *(1,) * len(size))


ZeroShot = WordSegmentation  # its name before version 0.2
