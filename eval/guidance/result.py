"""What the masks and the images come to, and the images themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from eval.guidance.measure import SCORERS
from eval.guidance.views import LOOKS, MASKS
from eval.metrics.chance import compared
from eval.metrics.interval import DRAWS, bootstrap_mean
from tokenrank_guidance.interval import Interval, difference
from tokenrank_guidance.report import Json

REAL = "real images"


@dataclass(frozen=True)
class GuidanceResult:
    """Records of drawn images, and the looks of real ones; arms are compared with the first."""

    arms: Sequence[str]
    records: Sequence[Json]
    real: Mapping[str, np.ndarray]

    @property
    def n(self) -> int:
        return len(self.records)

    def to_json(self) -> Json:
        """`masks` of each scorer, `results` of each arm, of the reference as well, and `differences`."""
        arms = {arm: {key: (self._values("arms", arm, key), None) for key in LOOKS} for arm in self.arms}
        less = compared(arms, [(arm, self.arms[0]) for arm in self.arms[1:]], DRAWS)
        real = [{"arm": REAL, **{key: bootstrap_mean(self.real[key]) for key in LOOKS}}] if self.real else []
        return {
            "masks": [{"scorer": name, **self._figures("masks", name, MASKS)} for name in SCORERS],
            "results": [{"arm": arm, **self._figures("arms", arm, LOOKS)} for arm in self.arms] + real,
            "differences": [difference(a, b, figures) for (a, b), figures in less.items()],
        }

    def _values(self, part: str, name: str, key: str) -> np.ndarray:
        return np.array([record[part][name][key] for record in self.records])

    def _figures(self, part: str, name: str, keys: Sequence[str]) -> dict[str, Interval]:
        return {key: bootstrap_mean(self._values(part, name, key)) for key in keys}


def rows_figure(drawn: Mapping[str, Sequence[Image.Image]]) -> Figure:
    """A row for each arm, a column for each image."""
    columns = len(next(iter(drawn.values())))
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure((0.9 * columns + 1.7, 0.91 * len(drawn)), layout=tight)
    panels = figure.subplots(len(drawn), columns, squeeze=False)
    for row, (arm, images) in zip(panels, drawn.items(), strict=True):
        row[0].set_ylabel(arm.replace(":", "\n"), rotation=0, ha="right", va="center", fontsize=7)
        for panel, image in zip(row, images, strict=True):
            panel.imshow(image, interpolation="lanczos")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
    return figure
