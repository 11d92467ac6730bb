"""What a run looked like: heat maps of the worst and best pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, TITLE = 1.5, 0.25  # inches


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture in [0, 1], its mask, and each method's heat map with its own mask, and mIoU there."""

    title: str
    image: Float[np.ndarray, "side side 3"]
    mask: Int[np.ndarray, "side side"]
    heats: Sequence[tuple[Float[np.ndarray, "side side"], Bool[np.ndarray, "side side"]]]
    scores: Sequence[float]


def grid_figure(shown: Sequence[Shown], columns: Sequence[str]) -> Figure:
    """A row for each picture: itself with its mask's outline, and each method's heat map.

    White is the mask that the map comes to, green the true one.
    """
    from matplotlib.figure import Figure

    size = (WIDTH * (1 + len(columns)), (WIDTH + TITLE) * len(shown) + TITLE)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(shown), 1 + len(columns), squeeze=False)
    for row, one in zip(panels, shown, strict=True):
        row[0].imshow(one.image)
        _outline(row[0], one.mask == 1, "lime")
        _title(row[0], one.title)
        for panel, (heat, predicted), score in zip(row[1:], one.heats, one.scores, strict=True):
            panel.imshow(heat, cmap="magma", vmin=0, vmax=1)
            _outline(panel, predicted, "white")
            _outline(panel, one.mask == 1, "lime")
            _title(panel, f"mIoU {score:.2f}")
    for panel, name in zip(panels[0, 1:], columns, strict=True):
        _title(panel, f"{name}\n{panel.get_title()}")
    return figure


def _outline(panel: Axes, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask.astype(float), [0.5], colors=colour, linewidths=0.8)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, fontsize=8)
    panel.set_axis_off()
