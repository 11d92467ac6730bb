"""At which size a pipeline sees a picture."""

from __future__ import annotations

import math
from typing import Any

from tokenrank_guidance.components import config_of, native_resolution, pixels_per_latent
from tokenrank_guidance.families.registry import packing_of, picture_of

Size = tuple[int, int]
MOST_ASPECT = 4


def pass_size(pipe: Any, size: Size, resolution: int | None) -> Size:
    """The size that `pipe` works at for a picture of `size` = (h, w); by default about its own resolution."""
    square = picture_of(pipe).square
    return working_size(size, resolution or native_resolution(pipe), size_multiple(pipe), square)


def size_multiple(pipe: Any) -> int:
    """Pixels that sides must be a multiple of: a token of the coarsest layer."""
    config = config_of(pipe)
    blocks = config.get("down_block_types")
    if blocks:
        return pixels_per_latent(pipe) * 2 ** (len(blocks) - 1)
    patch = config.get("patch_size", picture_of(pipe).patch)
    return pixels_per_latent(pipe) * packing_of(pipe) * patch


def working_size(size: Size, resolution: int, multiple: int, square: bool) -> Size:
    """Height and width that a model sees: about resolution² pixels, in the image's aspect ratio.

    Multiples of `multiple`; a side is at most `MOST_ASPECT` times the other, beyond which the image is
    stretched, and `square` stretches every image.
    """
    aspect = 1.0 if square else min(max(size[0] / size[1], 1 / MOST_ASPECT), MOST_ASPECT)
    sides = (resolution * math.sqrt(aspect), resolution / math.sqrt(aspect))
    height, width = (max(1, round(side / multiple)) * multiple for side in sides)
    return height, width
