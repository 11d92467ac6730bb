"""Pictures of the patches that each scorer calls most and least influential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from eval.masking.pixels import Grid
from eval.masking.ranking import Order, masked_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eval.masking.arms import Arm

SHARE = 0.25
FADED = 0.85


@dataclass(frozen=True)
class Shown:
    """A few pictures, in [0, 1], and every arm's ranking of their patches (0: masked first)."""

    pixels: Float[np.ndarray, "images height width 3"]
    places: Int[np.ndarray, "arms images patches"]
    grid: Grid
    names: Sequence[str]


def tokens_figure(shown: Shown, arms: Sequence[Arm], chosen: Sequence[int], order: Order) -> Figure:
    """Two rows per picture: all but the `SHARE` most influential patches faded, and all but the least.

    One column for the picture, one for each of the `chosen` arms.
    """
    from matplotlib.figure import Figure

    rows, columns = 2 * len(shown.pixels), 1 + len(chosen)
    height = 1.6 * shown.pixels.shape[1] / shown.pixels.shape[2]
    figure = Figure(figsize=(1.6 * columns + 0.4, height * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for image in range(len(shown.pixels)):
        _show(
            panels[2 * image, 0], shown.pixels[image], shown.names[image] if image < len(shown.names) else ""
        )
        panels[2 * image + 1, 0].set_axis_off()
        for column, arm in enumerate(chosen, 1):
            most, least = extremes(shown.places[arm, image], order)
            for row, kept in ((2 * image, most), (2 * image + 1, least)):
                _show(panels[row, column], faded(shown.pixels[image], kept, shown.grid), "")
    for column, arm in enumerate(chosen, 1):
        panels[0, column].set_title(arms[arm].title.replace(" (", "\n("), fontsize=8)
    _label_rows(panels[:, 1:2])
    return figure


def extremes(
    places: Int[np.ndarray, " patches"], order: Order
) -> tuple[Bool[np.ndarray, " patches"], Bool[np.ndarray, " patches"]]:
    """The `SHARE` of patches with the highest scores, and that with the lowest."""
    count = masked_count(SHARE, len(places))
    first, last = places < count, places >= len(places) - count
    return (first, last) if order == "descending" else (last, first)


def faded(
    pixels: Float[np.ndarray, "height width 3"], kept: Bool[np.ndarray, " patches"], grid: Grid
) -> Float[np.ndarray, "height width 3"]:
    """The picture with all patches but `kept` nearly white."""
    sharp = grid.pixels(torch.from_numpy(kept), pixels.shape[:2]).numpy()
    return np.where(sharp[..., None], pixels, FADED + (1 - FADED) * pixels)


def _show(panel: Axes, pixels: Float[np.ndarray, "height width 3"], title: str) -> None:
    panel.imshow(pixels, interpolation="nearest")
    panel.set_title(title, fontsize=8)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _label_rows(panels: np.ndarray) -> None:
    for row, panel in enumerate(panels[:, 0]):
        panel.set_ylabel(f"{'most' if row % 2 == 0 else 'least'} {SHARE:.0%}", fontsize=8)
