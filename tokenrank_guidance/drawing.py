"""What every picture is made of: letters, fitted images, heat maps, outlines and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

Size = tuple[int, int]
INK, GREY = (20, 20, 20), (110, 110, 110)  # of letters
LINE, LEAST = 18, 320  # a line's height, and how wide a sheet with words is at least


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


def labelled_sheet(
    images: Sequence[Image.Image], columns: int, title: str, rows: Sequence[str]
) -> Image.Image:
    """Images of one size in rows of `columns`, under a title, each row under a line of its own."""
    sheets = [
        contact_sheet(images[i * columns : (i + 1) * columns], min(columns, len(images)))
        for i in range(len(rows))
    ]
    width, step = max(sheets[0].width, LEAST), LINE + sheets[0].height + LINE // 2
    canvas = Image.new("RGB", (width, LINE + len(rows) * step), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((2, 2), shortened(title, width - 4, 12), INK, font(12, "bold"))
    for i, (text, sheet) in enumerate(zip(rows, sheets, strict=True)):
        draw.text((2, LINE + i * step + 2), shortened(text, width - 4, 11), GREY, font(11))
        canvas.paste(sheet, (0, 2 * LINE + i * step))
    return canvas


def shortened(text: str, width: int, size: int = 14) -> str:
    """As much of a text as takes `width` pixels in bold letters of that size, and a dot for the rest."""
    while font(size, "bold").getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


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
