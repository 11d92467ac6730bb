"""What every picture is made of: letters, fitted images, heat maps, outlines and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib import font_manager
from PIL import Image, ImageFont

Size = tuple[int, int]
INK, GREY = (20, 20, 20), (110, 110, 110)  # of letters


@lru_cache
def font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, size)


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """`image` at `size`: smoothly either way, since a decoder's pixels are samples and not squares."""
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def contact_sheet(images: Sequence[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """Images of one size in rows of `columns`, at their own resolution."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def heat(values: Float[np.ndarray, "gh gw"], size: Size) -> Image.Image:
    """Values in [0, 1], clipped, from black to yellow; a value stays a square where it is enlarged."""
    colours = matplotlib.colormaps["inferno"](np.clip(values, 0, 1), bytes=True)[..., :3]
    enlarged = size[0] >= values.shape[1]
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, how)


def stretched(
    values: Float[np.ndarray, "gh gw"], ends: tuple[float, float], least: float = 1e-12
) -> Float[np.ndarray, "gh gw"]:
    """Values scaled so that the two quantiles `ends` are 0 and 1; what lies outside is left to be clipped.

    Where the quantiles are less than `least` apart the values count as equal, and are not blown up.
    """
    low, high = np.quantile(values, ends)
    return (values - low) / max(high - low, least)


def edges(labels: Shaped[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where a label differs from that above it or to its left."""
    found = np.zeros(labels.shape, dtype=bool)
    found[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    found[1:] |= labels[1:] != labels[:-1]
    return found
