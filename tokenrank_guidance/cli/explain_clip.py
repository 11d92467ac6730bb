"""The picture of `tokenrank explain` of a video's words: a row of frames for each walk and each mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image, ImageDraw

from diffseg.zero_shot import WordSegmentation
from tokenrank_guidance.cli.explain_strip import (
    GAP,
    LINE,
    MARGIN,
    Column,
    cell_of,
    colour_bar,
    mask_image,
    masked,
)
from tokenrank_guidance.cli.explain_video import blended, scaled, spread
from tokenrank_guidance.drawing import GREY, INK, Size, contact_sheet, fitted, font

LEAST_WIDTH = 760  # what the longest text takes
Row = tuple[str, str, list[Image.Image]]  # a title, a note, and a cell for each frame


def shown(found: WordSegmentation) -> dict[int, int]:
    """Of the frames of latents that are shown, which frame of the video stands for each."""
    count, last = found.heats.shape[1], len(found.frames) - 1
    return {i: round(i * last / max(count - 1, 1)) for i in spread(count)}


def clip_strip(
    columns: Sequence[Column], maps: Sequence[WordSegmentation], texts: Sequence[str]
) -> Image.Image:
    """The frames, then each word's: every column's map over them, and the mask of `maps[-1]`.

    `texts`: the note on the mask, and the lines below. One scale for all frames of a map, as in `strip`.
    """
    found = maps[-1]
    cell = cell_of(found.frames[0].size)
    rows = list(_rows(columns, maps, texts[0], cell))
    step, height = cell[0] + GAP, cell[1] + LINE + GAP
    width = max(LEAST_WIDTH, 2 * MARGIN + len(rows[0][2]) * step - GAP)
    canvas = Image.new("RGB", (width, len(rows) * height + len(texts) * LINE + 2 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (title, note, cells) in enumerate(rows):
        top = GAP + place * height
        draw.text((MARGIN, top), title, INK, font(12, "bold"))
        draw.text((MARGIN + font(12, "bold").getlength(title) + GAP, top + 1), note, GREY, font(10))
        for i, panel in enumerate(cells):
            canvas.paste(panel, (MARGIN + i * step, top + LINE))
    bottom = GAP + len(rows) * height
    colour_bar(canvas, (MARGIN, bottom))
    for i, text in enumerate(texts[1:], 1):
        draw.text((MARGIN, bottom + i * LINE), text, GREY, font(11))
    return canvas


def _rows(
    columns: Sequence[Column], maps: Sequence[WordSegmentation], note: str, cell: Size
) -> Iterator[Row]:
    found, moments = maps[-1], shown(maps[-1])
    frames = [fitted(found.frames[at], cell) for at in moments.values()]
    numbers = ", ".join(map(str, moments.values()))
    yield "frames", f"{numbers} of {len(found.frames)}", frames
    for row, concept in enumerate(found.concepts):
        for column, one in zip(columns, maps, strict=False):
            if row == 0 or not column.of_any_word:
                values = scaled(one.heats[row])
                cells = [blended(frame, values[i]) for i, frame in zip(moments, frames, strict=True)]
                yield f"“{concept}”, {column.title}", column.note, cells
        masks = found.masks[row].cpu().numpy()
        cells = [masked(found.frames[at], masks[at], cell) for at in moments.values()]
        yield f"“{concept}”, mask", note, cells


def frame_sheet(found: WordSegmentation) -> Image.Image:
    """The shown frames side by side, at their own size."""
    frames = [found.frames[at] for at in shown(found).values()]
    return contact_sheet(frames, len(frames), gap=0)


def mask_sheets(found: WordSegmentation) -> list[Image.Image]:
    """The same of each concept's mask."""
    order = list(shown(found).values())
    return [mask_image(torch.cat([mask[at] for at in order], -1)) for mask in found.masks]
