"""What a run looked like: heat maps of the worst and best pictures, and the curve over bounces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from eval.metrics.foreground import foreground, min_max
from eval.report import COLOURS, plain_axes
from eval.zero_shot.arms import DIRECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eval.zero_shot.result import ZeroShotResult

WIDTH, TITLE = 1.5, 0.25  # inches
LABELS = {"miou": "mIoU", "map": "mAP"}


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
            _outline(panel, one.mask == 1, "lime")
            _title(panel, f"mIoU {score:.2f}")
    for panel, name in zip(panels[0, 1:], columns, strict=True):
        _title(panel, f"{name}\n{panel.get_title()}")
    return figure


def curve_figure(result: ZeroShotResult) -> Figure:
    """mIoU and mAP by the number of bounces, for each direction; dashed: the methods that do not bounce.

    Shaded: 95 % intervals.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    most = max(result.arms[i].options.n for i in result.bounces)
    for panel, name in zip(figure.subplots(1, len(LABELS)), LABELS, strict=True):
        for colour, direction in zip(COLOURS, DIRECTIONS, strict=False):
            _band(panel, result, name, direction, colour)
        _peers(panel, result, name)
        panel.set(xlabel="bounces", ylabel=f"{LABELS[name]} (%)", xticks=range(1, most + 1))
        plain_axes(panel, 0.3)
    figure.suptitle(f"{result.n} pictures, shaded: 95 % intervals", fontsize=10)
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _band(panel: Axes, result: ZeroShotResult, name: str, direction: str, colour: str) -> None:
    own = [i for i in result.bounces if result.arms[i].options.direction == direction]
    bounces = [result.arms[i].options.n for i in own]
    figures = [result.figures[i][name] for i in own]
    low, high = (100 * np.array(ends) for ends in zip(*((one.low, one.high) for one in figures), strict=True))
    heights = [100 * one.value for one in figures]
    label = f"{direction} bounces, λ2"
    panel.plot(bounces, heights, "o-", markersize=4, color=colour, label=label)
    panel.fill_between(bounces, low, high, alpha=0.18, color=colour, linewidth=0)


def _peers(panel: Axes, result: ZeroShotResult, name: str) -> None:
    peers = [i for i in result.shown if result.arms[i].options.method != "bounce"]
    for place, (colour, i) in enumerate(zip(COLOURS[len(DIRECTIONS) :], peers, strict=False)):
        style = (5 * place, (5, 5))  # shifted, so that equal lines show both
        height = 100 * result.figures[i][name].value
        panel.axhline(height, color=colour, linestyle=style, linewidth=1.3, label=result.arms[i].name)


def _outline(panel: Axes, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask.astype(float), [0.5], colors=colour, linewidths=0.8)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, fontsize=8)
    panel.set_axis_off()
