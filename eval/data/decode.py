"""Encoded masks to class indices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from tokenrank_guidance.files.pictures import DEEP_GREY, refusing, upright

MASKS = ("1", "L", "P", *DEEP_GREY)


def decode_mask(data: bytes, size: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
    """The class index of each pixel, 255 = ignore, of an image of `size` (width, height), or of any.

    A palette's indices are taken, not its colours. Raises ValueError for data that is no image, has several
    channels, or another size.
    """
    with refusing():
        mask = upright(data)
        if mask.mode not in MASKS:
            raise ValueError(f"its mask is {mask.mode}; expected one channel of class indices")
        if size is not None and mask.size != size:
            raise ValueError(f"its mask is {mask.size[0]}×{mask.size[1]}, the image {size[0]}×{size[1]}")
        return np.asarray(mask).astype(np.int64)
