"""The picture of `tokenrank explain`: a row for each word, from the image by bounces to the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from torch import Tensor

from diffseg.zero_shot import Options, WordSegmentation
from tokenrank_guidance.drawing import GREY, INK, Size, edges, fitted, font, heat, stretched

CELL, GAP, MARGIN, HEADER, LINE = 150, 10, 16, 44, 20
LEAST_STEP = 124  # what the titles take
BAR = 120  # of colours
EDGE = (0, 220, 80)
ENDS = (0.01, 0.99)  # quantiles of a map that are black and brightest; attention sinks are clipped


@dataclass(frozen=True)
class Column:
    """A way to make a heat map, and how it is headed."""

    title: str
    note: str
    options: Options

    @property
    def of_any_word(self) -> bool:
        return self.options.method == "tokenrank"


def strip(
    image: Image.Image, columns: Sequence[Column], maps: Sequence[WordSegmentation], texts: Sequence[str]
) -> Image.Image:
    """The image, each column's map of each word, and the mask of `found[-1]`, which has no column.

    `texts`: the note on the mask, and the lines below. A map is drawn from its 1 % to its 99 % quantile, as
    the bar below says; one that is the same for every word is drawn once.
    """
    cell, rows = cell_of(image.size), len(maps[-1].concepts)
    step, height = max(cell[0] + GAP, LEAST_STEP), LINE + cell[1] + GAP
    size = (2 * MARGIN + (len(columns) + 2) * step - GAP, HEADER + rows * height + len(texts) * LINE + GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    titles = [(column.title, column.note) for column in columns]
    heads = [("image", f"{image.width}×{image.height}"), *titles, ("mask", texts[0])]
    for i, (title, note) in enumerate(heads):
        draw.text((MARGIN + i * step, 8), title, INK, font(12, "bold"))
        draw.text((MARGIN + i * step, 24), note, GREY, font(10))
    for row, concept in enumerate(maps[-1].concepts):
        top = HEADER + row * height
        draw.text((MARGIN, top), f"“{concept}”", INK, font(12, "bold"))
        for i, panel in enumerate(_panels(image, columns, maps, row, cell)):
            if panel is None:
                draw.text((MARGIN + i * step, top + LINE), "as above", GREY, font(11))
            else:
                canvas.paste(panel, (MARGIN + i * step, top + LINE))
    bottom = HEADER + rows * height + GAP // 2
    colour_bar(canvas, (MARGIN, bottom))
    for i, text in enumerate(texts[1:], 1):
        draw.text((MARGIN, bottom + i * LINE), text, GREY, font(11))
    return canvas


def colour_bar(canvas: Image.Image, corner: Size) -> None:
    """What black and yellow are in a map."""
    draw, x = ImageDraw.Draw(canvas), corner[0]
    low, high = (f"each map by itself: its {ENDS[0]:.0%} quantile", f"its {ENDS[1]:.0%} quantile")
    draw.text((x, corner[1]), low, GREY, font(11))
    x += round(font(11).getlength(low)) + GAP
    canvas.paste(heat(np.linspace(0, 1, BAR)[None], (BAR, 11)), (x, corner[1] + 2))
    draw.text((x + BAR + GAP, corner[1]), high, GREY, font(11))


def mask_image(mask: Bool[Tensor, "h w"]) -> Image.Image:
    """White where the mask is."""
    return Image.fromarray(mask.cpu().numpy())


def cell_of(size: Size) -> Size:
    """What a panel of a picture of `size` takes."""
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _panels(
    image: Image.Image, columns: Sequence[Column], maps: Sequence[WordSegmentation], row: int, cell: Size
) -> list[Image.Image | None]:
    """One word's row; None where the first row has it."""
    pairs = zip(columns, maps, strict=False)
    heats = [
        None if row > 0 and column.of_any_word else _map(one.heats[row].cpu().numpy(), cell)
        for column, one in pairs
    ]
    return [fitted(image, cell), *heats, masked(image, maps[-1].masks[row].cpu().numpy(), cell)]


def _map(values: Float[np.ndarray, "gh gw"], cell: Size) -> Image.Image:
    """On the grid of tokens, smoothly enlarged."""
    scaled = Image.fromarray(stretched(values, ENDS).astype(np.float32))
    return heat(np.asarray(scaled.resize(cell, Image.Resampling.BILINEAR)), cell)


def masked(image: Image.Image, mask: Bool[np.ndarray, "h w"], cell: Size) -> Image.Image:
    """The image, pale outside the mask, whose edge is drawn."""
    shown = np.asarray(Image.fromarray(mask).resize(cell, Image.Resampling.NEAREST))
    sharp = np.asarray(fitted(image, cell))
    pale = np.asarray(fitted(image, cell).convert("L").convert("RGB")) * 0.35 + 0.65 * 255
    pixels = np.where(shown[..., None], sharp, pale)
    pixels[edges(shown)] = EDGE
    return Image.fromarray(pixels.round().astype(np.uint8))
