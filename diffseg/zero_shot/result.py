"""What a segmentation by words is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

NOTHING = -1


@dataclass(frozen=True, eq=False)
class WordSegmentation:
    """One image's concepts, and where each is.

    steps: a heat map for each timestep, or step of sampling, and concept; draws of noise are averaged.
    size: height and width of the image in pixels; image: the generated one, None for a given image.
    """

    concepts: tuple[str, ...]
    steps: Float[Tensor, "steps concepts gh gw"]
    size: tuple[int, int]
    image: Any = None

    @cached_property
    def heats(self) -> Float[Tensor, "concepts gh gw"]:
        """The mean over steps, on the grid of image tokens."""
        return self.steps.mean(0)

    @cached_property
    def heat_maps(self) -> Float[Tensor, "concepts h w"]:
        """`heats` at the image's own size, bilinear."""
        return F.interpolate(self.heats[None], self.size, mode="bilinear", align_corners=False)[0]

    @cached_property
    def masks(self) -> Bool[Tensor, "concepts h w"]:
        """Where each concept's heat map exceeds its own mean."""
        return self.heat_maps > self.heat_maps.mean((1, 2), keepdim=True)

    @cached_property
    def labels(self) -> Int[Tensor, "h w"]:
        """The concept whose share of heat is largest among those whose mask is on, −1 where none is.

        Each map counts by its share of its own sum, so that no concept wins by receiving more attention.
        """
        shares = self.heat_maps / self.heat_maps.sum((1, 2), keepdim=True).clamp_min(1e-30)
        best = shares.masked_fill(~self.masks, -torch.inf).argmax(0)
        return torch.where(self.masks.any(0), best, NOTHING)


ZeroShot = WordSegmentation  # its name before version 0.2
