"""The pictures that went worst and best, with every way to choose anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from diffseg.picture import colours
from eval.metrics.confusion import IGNORE
from eval.metrics.matching import UNMATCHED
from tokenrank_guidance.drawing import edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

SHARE = 0.65
WIDTH, TITLE, TALLEST = 1.9, 0.2, 1.5  # inches, and height over width
GREYS = (0.35, 0.55, 0.75, 0.45, 0.65)
KEY = {"grey: segment without a class": "0.55", "black: ignored in the truth": "black"}


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture, its truth, and of each column the segments, their classes (−1: none) and the mIoU."""

    title: str
    image: Image.Image
    truth: Int[np.ndarray, "h w"]
    segments: Sequence[Int[np.ndarray, "h w"]]
    matched: Sequence[Int[np.ndarray, " segments"]]
    scores: Sequence[float]


def overlays_figure(shown: Sequence[Shown], columns: Sequence[str]) -> Figure:
    """A row for each picture: itself, its truth, and the segments of each column in their classes' colours.

    Segments without a class are grey, ignored pixels of the truth black; white lines part segments.
    """
    from matplotlib.figure import Figure

    heights = [WIDTH * min(one.image.height / one.image.width, TALLEST) + TITLE for one in shown]
    figure = Figure(figsize=(WIDTH * (2 + len(columns)), sum(heights) + 3 * TITLE), layout="constrained")
    panels = figure.subplots(len(shown), 2 + len(columns), squeeze=False, height_ratios=heights)
    for row, one in zip(panels, shown, strict=True):
        _show(row[0], np.asarray(one.image.convert("RGB")) / 255, one.title)
        _show(row[1], _mixed(one, *_of_truth(one.truth)), "")
        parts = zip(row[2:], one.segments, one.matched, one.scores, strict=True)
        for panel, segments, matched, score in parts:
            _show(panel, _mixed(one, segments, _of_classes(matched)), f"mIoU {score:.2f}")
    for panel, name in zip(panels[0, 1:], ("truth", *columns), strict=True):
        panel.set_title(f"{name}\n{panel.get_title()}".strip(), fontsize=8)
    figure.legend(handles=_key(), loc="outside lower center", ncols=len(KEY), fontsize=8, frameon=False)
    return figure


def _key() -> list[Patch]:
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, label=text, edgecolor="0.5") for text, colour in KEY.items()]


def class_colours(count: int) -> Float[np.ndarray, "count 3"]:
    return np.array(colours(count)) / 255


def _of_truth(
    truth: Int[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "classes 3"]]:
    palette = np.zeros((IGNORE + 1, 3))
    palette[:IGNORE] = class_colours(IGNORE)
    return truth, palette


def _of_classes(matched: Int[np.ndarray, " segments"]) -> Float[np.ndarray, "segments 3"]:
    greys = np.array([GREYS[i % len(GREYS)] for i in range(len(matched))])[:, None].repeat(3, 1)
    own = class_colours(IGNORE)[np.maximum(matched, 0)]
    return np.where((matched == UNMATCHED)[:, None], greys, own)


def _mixed(
    one: Shown, labels: Int[np.ndarray, "h w"], palette: Float[np.ndarray, "labels 3"]
) -> Float[np.ndarray, "h w 3"]:
    grey = np.asarray(one.image.convert("L"))[..., None] / 255
    mixed = SHARE * palette[labels] + (1 - SHARE) * grey
    mixed[edges(labels)] = 1
    return mixed


def _show(panel: Axes, pixels: Float[np.ndarray, "h w 3"], title: str) -> None:
    panel.imshow(pixels, interpolation="antialiased")
    panel.set_title(title, fontsize=8)
    panel.set_axis_off()
