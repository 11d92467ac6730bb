"""What became of every picture, and what that says of the anchors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eval.metrics.interval import Interval, bootstrap_mean, bootstrap_statistic, paired_difference
from eval.metrics.interval import paired_statistic as paired
from eval.segmentation import tally
from eval.segmentation.arms import Arm, baseline
from eval.segmentation.store import ImageRecord
from eval.segmentation.table import table
from eval.segmentation.tally import ClassTally

Json = dict[str, Any]
DRAWS = 4000
POOLED: dict[str, Callable[[Any], Any]] = {
    "pixel_accuracy": tally.pixel_accuracy,
    "mean_class_accuracy": tally.mean_class_accuracy,
    "miou": tally.miou,
}
OVERLAP = "best_overlap"


@dataclass(frozen=True)
class SegmentationResult:
    """Every picture under every arm, its tallies by the data set's classes.

    `data_set` has the tallies under one matching for the whole data set, () where that was not asked for.
    Counts are pooled over pictures before ratios are taken; intervals are over pictures.
    """

    arms: Sequence[Arm]
    class_names: tuple[str, ...]
    pictures: Sequence[Sequence[ImageRecord]]  # by picture, then arm
    data_set: Sequence[Sequence[Sequence[ClassTally]]] = ()  # by arm, then picture

    @property
    def n(self) -> int:
        return len(self.pictures)

    @cached_property
    def counts(self) -> list[Int[np.ndarray, "pictures 3 classes"]]:
        """Of each arm: every picture's true, predicted and right pixels."""
        return [self._counts([one[i].classes for one in self.pictures]) for i in range(len(self.arms))]

    @cached_property
    def overlaps(self) -> list[Float[np.ndarray, " pictures"]]:
        """Of each arm: every picture's mean best overlap."""
        return [
            np.array([tally.mean_best(one[i].classes) for one in self.pictures])
            for i in range(len(self.arms))
        ]

    @cached_property
    def best(self) -> dict[str, int]:
        """For each way to choose anchors its arm of the highest mIoU, the first of equal ones."""
        best: dict[str, int] = {}
        values = [float(tally.miou(counts.sum(0))) for counts in self.counts]
        for i, arm in enumerate(self.arms):
            if arm.anchors not in best or values[i] > values[best[arm.anchors]]:
                best[arm.anchors] = i
        return best

    @cached_property
    def scores(self) -> Float[np.ndarray, " pictures"]:
        """How well each picture goes: its own mIoU, the mean over the `best` arms."""
        return np.mean([tally.miou(self.counts[i]) for i in self.best.values()], 0)

    @cached_property
    def rows(self) -> list[Json]:
        """One entry per arm, for JSON."""
        return [self._row(i) for i in range(len(self.arms))]

    @cached_property
    def floor(self) -> Json:
        """What the whole picture as one segment gets: nothing was found by an arm that is not above it."""
        images = [self._as_one(picture[0].classes) for picture in self.pictures]
        overlaps = np.array([tally.mean_best(image) for image in images])
        intervals = measured(self._counts(images)) | {OVERLAP: bootstrap_mean(overlaps, draws=DRAWS)}
        return _spread(intervals) | {"segments": 1.0, "n": self.n}

    def to_json(self) -> Json:
        return {"results": self.rows, "one_segment": self.floor, "classes": list(self.class_names)}

    def markdown(self) -> str:
        """One line per arm, in the order in which they were asked for, and one for the floor."""
        return table([*self.rows, self.floor])

    def _counts(self, images: Sequence[Sequence[ClassTally]]) -> Int[np.ndarray, "pictures 3 classes"]:
        return tally.counts(images, len(self.class_names))

    def _as_one(self, image: Sequence[ClassTally]) -> list[ClassTally]:
        overlap = np.zeros((1, len(self.class_names)), dtype=np.int64)
        for one in image:
            overlap[0, one.index] = one.truth
        return tally.matched_per_image(overlap)

    def _row(self, index: int) -> Json:
        arm, records = self.arms[index], [one[index] for one in self.pictures]
        intervals = measured(self.counts[index]) | {
            OVERLAP: bootstrap_mean(self.overlaps[index], draws=DRAWS)
        }
        return {
            "anchors": arm.anchors,
            "kl_threshold": arm.threshold,
            **_spread(intervals),
            "segments": float(np.median([one.segments for one in records])),
            "threshold": float(np.median([one.threshold for one in records])),
            "seconds_per_image": float(np.median([one.attention + one.seconds for one in records])),
            "attention_seconds": float(np.median([one.attention for one in records])),
            "segmentation_seconds": float(np.median([one.seconds for one in records])),
            "n": self.n,
            "differences": self._differences(index),
            "per_class": self._per_class(index),
            "data_set": _spread(measured(self._counts(self.data_set[index]))) if self.data_set else None,
        }

    def _differences(self, index: int) -> Json:
        """This arm less the blind one; a difference whose interval holds 0 is none."""
        other = baseline(self.arms, index)
        if other is None:
            return {}
        intervals = {
            name: paired(self.counts[index], self.counts[other], statistic, DRAWS)
            for name, statistic in POOLED.items()
        } | {OVERLAP: paired_difference(self.overlaps[index], self.overlaps[other], DRAWS)}
        values = {name: {"value": one.value, "ci": [one.low, one.high]} for name, one in intervals.items()}
        blind = self.arms[other]
        return {blind.anchors: {"kl_threshold": blind.threshold, **values}}

    def _per_class(self, index: int) -> list[Json]:
        """Of every class that has pixels."""
        pooled = self.counts[index].sum(0)
        accuracy, iou = tally.class_accuracy(pooled), tally.class_iou(pooled)
        best: dict[int, list[float]] = {}
        for picture in self.pictures:
            for one in picture[index].classes:
                best.setdefault(one.index, []).append(one.best)
        return [
            {
                "class": self.class_names[i],
                "images": len(best[i]),
                "pixels": int(pooled[0, i]),
                "accuracy": float(accuracy[i]),
                "iou": float(iou[i]),
                OVERLAP: float(np.mean(best[i])),
            }
            for i in sorted(best)
        ]


def measured(counts: Int[np.ndarray, "pictures 3 classes"]) -> dict[str, Interval]:
    """The pooled measures with their intervals."""
    return {name: bootstrap_statistic(counts, statistic, DRAWS) for name, statistic in POOLED.items()}


def _spread(intervals: dict[str, Interval]) -> Json:
    flat: Json = {}
    for name, one in intervals.items():
        flat |= {name: one.value, f"{name}_ci": [one.low, one.high]}
    return flat
