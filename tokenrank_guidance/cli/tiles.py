"""The pieces of a comparison picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tokenrank_guidance.cli.sample_options import other_of
from tokenrank_guidance.drawing import Size, fitted

COLOURS = {"none": (60, 60, 60), "sag": (0, 114, 178), "tokenrank": (213, 94, 0)}  # Okabe and Ito's, by arm
FRAME = (150, 150, 150)


def distance(first: Image.Image, second: Image.Image) -> np.ndarray:
    """Mean absolute difference over channels, in [0, 1], shaped (h, w)."""
    pixels = [np.asarray(image.convert("RGB"), dtype=np.float64) / 255 for image in (first, second)]
    return np.abs(pixels[0] - pixels[1]).mean(-1)


def token_tile(image: Image.Image, own: np.ndarray, other: np.ndarray, arm: str, size: Size) -> Image.Image:
    """`image` in grey, under the colour of `arm` where its mask is, dotted where only the other's is."""
    pale = Image.blend(fitted(image, size).convert("L").convert("RGB"), Image.new("RGB", size, "white"), 0.45)
    mask = Image.fromarray(np.where(own, 150, 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    pale.paste(COLOURS[arm], mask=mask)
    _dot(pale, other & ~own, COLOURS[other_of(arm)])
    ImageDraw.Draw(pale).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=FRAME)
    return pale


def _dot(tile: Image.Image, tokens: np.ndarray, colour: tuple[int, int, int]) -> None:
    width, height = tile.width / tokens.shape[1], tile.height / tokens.shape[0]
    radius = max(0.5, 0.22 * min(width, height))
    draw = ImageDraw.Draw(tile)
    for row, column in np.argwhere(tokens):
        x, y = (column + 0.5) * width, (row + 0.5) * height
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
