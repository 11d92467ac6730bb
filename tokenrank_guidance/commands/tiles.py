"""The pieces of a comparison picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

Size = tuple[int, int]
COLOURS = {"none": (60, 60, 60), "sag": (0, 114, 178), "tokenrank": (213, 94, 0)}  # Okabe and Ito's, by arm
FRAME = (150, 150, 150)
NAMES = {"none": "unguided", "sag": "SAG", "tokenrank": "TokenRank"}


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


def distance(first: Image.Image, second: Image.Image) -> np.ndarray:
    """Mean absolute difference over channels, in [0, 1], shaped (h, w)."""
    pixels = [np.asarray(image.convert("RGB"), dtype=np.float64) / 255 for image in (first, second)]
    return np.abs(pixels[0] - pixels[1]).mean(-1)


def heat(values: np.ndarray, size: Size) -> Image.Image:
    """Values in [0, 1], clipped, from black to yellow; a value stays a square where it is enlarged."""
    colours = matplotlib.colormaps["inferno"](np.clip(values, 0, 1), bytes=True)[..., :3]
    enlarged = size[0] >= values.shape[1]
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, how)


def token_tile(image: Image.Image, own: np.ndarray, other: np.ndarray, arm: str, size: Size) -> Image.Image:
    """`image` in grey, under the colour of `arm` where its mask is, dotted where only the other's is."""
    pale = Image.blend(fitted(image, size).convert("L").convert("RGB"), Image.new("RGB", size, "white"), 0.45)
    mask = Image.fromarray(np.where(own, 150, 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    pale.paste(COLOURS[arm], mask=mask)
    _dot(pale, other & ~own, COLOURS["tokenrank" if arm == "sag" else "sag"])
    ImageDraw.Draw(pale).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=FRAME)
    return pale


def _dot(tile: Image.Image, tokens: np.ndarray, colour: tuple[int, int, int]) -> None:
    width, height = tile.width / tokens.shape[1], tile.height / tokens.shape[0]
    radius = max(0.5, 0.22 * min(width, height))
    draw = ImageDraw.Draw(tile)
    for row, column in np.argwhere(tokens):
        x, y = (column + 0.5) * width, (row + 0.5) * height
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
