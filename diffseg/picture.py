"""Segments, TokenRank and anchors beside the image they belong to."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageDraw
from torch import Tensor

from diffseg.result import Segmentation
from tokenrank_guidance.drawing import GREY, INK, edges, fitted, font, heat, stretched
from tokenrank_guidance.messages import counted

Colour = tuple[int, int, int]
CELL, GAP, MARGIN, TITLE, LINE = 420, 14, 20, 34, 20
MARK = (86, 180, 233)
MOST_LABELS = 256
ENDS = (0.005, 0.995)  # quantiles of the scores that are black and brightest; outliers are clipped


def colours(count: int) -> list[Colour]:
    """Distinct colours: hues a golden angle apart, in three tones."""
    tones = ((0.62, 0.95), (0.75, 0.72), (0.4, 0.9))
    made = (colorsys.hsv_to_rgb(0.58 + i * 0.618034, *tones[i % 3]) for i in range(count))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in made]


def label_image(labels: Int[Tensor, "h w"]) -> Image.Image:
    """The label map as an indexed image: the index of a pixel is its segment; ValueError for over 256."""
    count = int(labels.max()) + 1
    if count > MOST_LABELS:
        raise ValueError(
            f"{count} segments are too many for an indexed picture of {MOST_LABELS}; raise kl_threshold"
        )
    picture = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    picture.putpalette([part for colour in colours(count) for part in colour])
    return picture


def overlay(image: Image.Image, result: Segmentation, caption: str) -> Image.Image:
    """The image, its segments with their names, and TokenRank with the anchors, side by side."""
    width, height = image.size
    cell = (CELL, max(1, round(CELL * height / width)))
    if cell[1] > CELL:
        cell = (max(1, round(CELL * width / height)), CELL)
    step = max(cell[0], 240) + GAP
    canvas = Image.new("RGB", (2 * MARGIN + 3 * step - GAP, TITLE + cell[1] + 2 * LINE + 24), "white")
    draw = ImageDraw.Draw(canvas)
    count = len(result.labels.unique())
    panels = (
        ("image", f"{width}×{height}", fitted(image, cell)),
        (
            "segments",
            f"{counted(count, 'segment')}, merged at τ = {_thresholds(result.thresholds)}",
            _segments(image, result, cell),
        ),
        ("TokenRank and anchors", _ranked(result), _rank(result, cell)),
    )
    for i, (title, note, panel) in enumerate(panels):
        x = MARGIN + i * step
        draw.text((x, 10), title, INK, font(14, "bold"))
        canvas.paste(panel, (x, TITLE))
        draw.text((x, TITLE + cell[1] + 6), note, GREY, font(12))
    draw.text((MARGIN, TITLE + cell[1] + 6 + LINE + 4), caption, GREY, font(11))
    return canvas


def _thresholds(thresholds: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in dict.fromkeys(thresholds))


def _ranked(result: Segmentation) -> str:
    height, width = result.grid
    low, high = (end.item() for end in result.scores.aminmax())
    return f"{height}×{width} tokens, {counted(len(result.anchors), 'anchor')}, N·π {low:.2f} to {high:.2f}"


def _segments(image: Image.Image, result: Segmentation, cell: tuple[int, int]) -> Image.Image:
    """Colour over the image's grey, white lines between segments, names where a segment is deepest."""
    labels = result.labels.cpu().numpy()
    shown = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(cell, Image.Resampling.NEAREST))
    palette = np.array(colours(len(result)), dtype=np.float32)
    grey = np.asarray(fitted(image, cell).convert("L"), dtype=np.float32)[..., None]
    mixed = 0.58 * palette[shown] + 0.42 * grey
    mixed[edges(shown)] = 255
    panel = Image.fromarray(mixed.round().astype(np.uint8))
    for segment, name in enumerate(result.names or ()):
        if name is not None and (shown == segment).any():
            _write(panel, name, _deepest(shown == segment))
    return panel


def _deepest(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of a pixel that outlasts as much erosion as any."""
    rest = mask
    while True:
        padded = np.pad(rest, 1)
        eroded = rest & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
        if not eroded.any():
            places = np.argwhere(rest)
            y, x = places[len(places) // 2]
            return int(x), int(y)
        rest = eroded


def _write(panel: Image.Image, text: str, place: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(panel)
    half = font(13, "bold").getlength(text) / 2 + 3
    x = min(max(place[0], half), max(half, panel.width - half))
    y = min(max(place[1], 9), max(9, panel.height - 9))
    draw.text((x, y), text, "white", font(13, "bold"), anchor="mm", stroke_width=2, stroke_fill=INK)


def _rank(result: Segmentation, cell: tuple[int, int]) -> Image.Image:
    panel = heat(stretched(result.scores.cpu().numpy(), ENDS, 1e-6), cell)
    draw = ImageDraw.Draw(panel)
    height, width = result.grid
    radius = max(1.5, min(3.0, 0.28 * min(cell[0] / width, cell[1] / height)))
    for row, column in result.anchors.tolist():
        x, y = (column + 0.5) * cell[0] / width, (row + 0.5) * cell[1] / height
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=MARK)
    return panel
