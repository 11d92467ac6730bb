"""Masking patches of the picture: putting other pixels in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Images = Float[Tensor, "images channels height width"]


@dataclass(frozen=True)
class Grid:
    """`shape` = (rows, columns) of patches of `side` = (h, w) pixels, from the top left corner on."""

    shape: tuple[int, int]
    side: tuple[int, int]

    def check(self, size: Sequence[int]) -> None:
        """ValueError unless images of `size` = (h, w) hold just these patches, the last maybe cut off."""
        fits = [
            pixels // side <= count <= -(-pixels // side)
            for pixels, count, side in zip(size, self.shape, self.side, strict=True)
        ]
        if not all(fits):
            (height, width), (rows, columns), side = size, self.shape, self.side
            raise ValueError(
                f"an image of {height}×{width} pixels does not hold a grid of {rows}×{columns} patches of "
                f"{side[0]}×{side[1]} pixels"
            )

    def pixels(
        self, patches: Shaped[Tensor, "*batch patches"], size: Sequence[int]
    ) -> Shaped[Tensor, "*batch height width"]:
        """Each patch's value at all of its pixels, 0 beyond the grid."""
        self.check(size)
        values = patches.unflatten(-1, self.shape)
        values = values.repeat_interleave(self.side[0], -2).repeat_interleave(self.side[1], -1)
        return F.pad(values, (0, size[1] - values.shape[-1], 0, size[0] - values.shape[-2]))


def fill_patches(
    images: Images, fill: Images, masked: Bool[Tensor, "*arms images patches"], grid: Grid
) -> Float[Tensor, "*arms images channels height width"]:
    """`images` with the pixels of masked patches replaced by those of `fill`; pixels outside the grid stay.

    Raises ValueError for an image of another size than its grid's.
    """
    return torch.where(grid.pixels(masked, images.shape[-2:]).unsqueeze(-3), fill, images)
