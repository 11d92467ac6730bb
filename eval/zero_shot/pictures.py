"""What a run looked like: heat maps of the worst and best pictures, and the curve over bounces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from eval.metrics.confusion import IGNORE
from eval.metrics.foreground import foreground, min_max

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, TITLE = 1.5, 0.25  # inches
LABELS = {"acc": "accuracy", "miou": "mIoU", "map": "mAP"}


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture in [0, 1], its mask, and each method's heat map and mIoU there."""

    title: str
    image: Float[np.ndarray, "side side 3"]
    mask: Int[np.ndarray, "side side"]
    heats: Sequence[Float[np.ndarray, "side side"]]
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
        for panel, heat, score in zip(row[1:], one.heats, one.scores, strict=True):
            panel.imshow(min_max(heat), cmap="magma", vmin=0, vmax=1)
            _outline(panel, foreground(heat), "white")
            _outline(panel, (one.mask == 1) & (one.mask != IGNORE), "lime")
            _title(panel, f"mIoU {score:.2f}")
    for panel, name in zip(panels[0, 1:], columns, strict=True):
        _title(panel, f"{name}\n{panel.get_title()}")
    return figure


def curve_figure(curve: Sequence[dict[str, Any]], n: int) -> Figure:
    """Accuracy, mIoU and mAP by the number of bounces, with 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    bounces = [point["n"] for point in curve]
    for name, label in LABELS.items():
        low, high = np.array([point[f"{name}_ci"] for point in curve], dtype=float).T
        (line,) = axes.plot(bounces, [point[name] for point in curve], marker="o", markersize=3, label=label)
        axes.fill_between(bounces, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("bounces")
    axes.set_ylabel(f"{n} pictures, 95 % intervals")
    axes.set_xticks(bounces)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _outline(panel: Axes, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask.astype(float), [0.5], colors=colour, linewidths=0.8)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, fontsize=8)
    panel.set_axis_off()
