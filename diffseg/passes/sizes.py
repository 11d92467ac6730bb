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
    picture, multiple, side = picture_of(pipe), size_multiple(pipe), resolution or native_resolution(pipe)
    most = picture.most(pipe)
    if most is not None and (side / multiple) ** 2 > most:
        raise ValueError(
            f"resolution: got {side}, expected at most {math.isqrt(most) * multiple}: "
            f"{type(pipe).__name__} sees {most} tokens of {multiple}×{multiple} pixels"
        )
    height, width = working_size(size, side, multiple, picture.square)
    while most is not None and height * width > most * multiple**2:  # by rounding
        height, width = (height - multiple, width) if height > width else (height, width - multiple)
    return height, width


def size_multiple(pipe: Any) -> int:
    """Pixels that sides must be a multiple of."""
    return token_side(pipe) * picture_of(pipe).even


def token_side(pipe: Any) -> int:
    """Pixels a side of a token of the coarsest layer."""
    config = config_of(pipe)
    blocks = config.get("down_block_types")
    if blocks:
        return pixels_per_latent(pipe) * 2 ** (len(blocks) - 1)
    patch = config.get("patch_size", picture_of(pipe).patch)
    side = patch if isinstance(patch, int) else patch[-1]
    packing = packing_of(pipe)
    return pixels_per_latent(pipe) * (packing if packing > 1 else side)


def working_size(size: Size, resolution: int, multiple: int, square: bool) -> Size:
    """Height and width that a model sees: about resolution² pixels, in the image's aspect ratio.

    Multiples of `multiple`; a side is at most `MOST_ASPECT` times the other, beyond which the image is
    stretched, and `square` stretches every image.
    """
    aspect = 1.0 if square else min(max(size[0] / size[1], 1 / MOST_ASPECT), MOST_ASPECT)
    sides = (resolution * math.sqrt(aspect), resolution / math.sqrt(aspect))
    height, width = (max(1, round(side / multiple)) * multiple for side in sides)
    return height, width
