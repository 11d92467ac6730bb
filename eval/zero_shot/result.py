"""What became of every picture, and what that says of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from eval.metrics.chance import compared
from eval.metrics.confusion import mean_iou, pixel_accuracy, totals
from eval.metrics.foreground import ca_miou
from eval.metrics.interval import Sample, Statistic, intervals
from eval.zero_shot.arms import CURVE, Arm
from eval.zero_shot.tally import Tally
from tokenrank_guidance.interval import Interval, difference
from tokenrank_guidance.report import Json

# Each figure: which field of a tally, and what its sum over pictures comes to; None: the mean over pictures.
MEASURES: Mapping[str, tuple[str, Statistic | None]] = {
    "acc": ("confusion", lambda sums: pixel_accuracy(totals(sums))),
    "miou": ("confusion", lambda sums: mean_iou(totals(sums))),
    "ca_miou": ("one_hot", ca_miou),
    "map": ("precision", None),
}


@dataclass(frozen=True)
class ZeroShotResult:
    """Every picture under every arm; `labels` are the pictures' concepts. Counts are pooled over pictures."""

    arms: Sequence[Arm]
    labels: Sequence[str]
    pictures: Sequence[Sequence[Tally]]  # by picture, then arm

    @property
    def n(self) -> int:
        return len(self.pictures)

    @cached_property
    def shown(self) -> list[int]:
        """The arms that are not points of the curve."""
        return [i for i, arm in enumerate(self.arms) if not arm.name.startswith(CURVE)]

    @property
    def bounces(self) -> list[int]:
        """The arms that are."""
        return [i for i in range(len(self.arms)) if i not in self.shown]

    @cached_property
    def figures(self) -> list[dict[str, Interval]]:
        """Of each arm."""
        return [intervals(self._samples(i)) for i in range(len(self.arms))]

    @cached_property
    def everywhere(self) -> dict[str, Interval]:
        """What calling every pixel foreground gets: a method that is not above it has found nothing."""
        confusion = np.stack([_all_foreground(picture[0]) for picture in self.pictures])
        return intervals({name: (confusion, MEASURES[name][1]) for name in ("acc", "miou")})

    def to_json(self) -> Json:
        """`results`, an entry for each method; their `differences`; each point of the `curve`."""
        arms = {self.arms[i].name: self._samples(i) for i in self.shown}
        pairs = [(a, b) for place, a in enumerate(arms) for b in [*arms][:place]]
        return {
            "results": [self._row(i) for i in self.shown],
            "differences": [difference(a, b, less) for (a, b), less in compared(arms, pairs).items()],
            "curve": [self._point(i) for i in self.bounces],
            "everywhere": self.everywhere,
        }

    def scores(self, index: int) -> Float[np.ndarray, " pictures"]:
        """Each picture's own mIoU under an arm."""
        return mean_iou(totals(self._stack(index, "confusion")))

    def _stack(self, index: int, field: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(picture[index], field)) for picture in self.pictures])

    def _samples(self, index: int) -> dict[str, Sample]:
        return {name: (self._stack(index, field), made) for name, (field, made) in MEASURES.items()}

    def _point(self, index: int) -> Json:
        options = self.arms[index].options
        return {"direction": options.direction, "bounces": options.n, **self.figures[index]}

    def _row(self, index: int) -> Json:
        name = self.arms[index].name
        classes = [self._of_class(index, label) for label in sorted(set(self.labels))]
        return {"arm": name, **self.figures[index], "n": self.n, "per_class": classes}

    def _of_class(self, index: int, label: str) -> Json:
        own = np.array([one == label for one in self.labels])
        values = {
            name: float(parts[own].mean() if made is None else made(parts[own].sum(0)))
            for name, (parts, made) in self._samples(index).items()
        }
        return {"class": label, "images": int(own.sum()), **values}


def _all_foreground(one: Tally) -> np.ndarray:
    truth = one.confusion.sum(1)
    return np.stack([np.zeros(2, dtype=truth.dtype), truth], axis=1)
