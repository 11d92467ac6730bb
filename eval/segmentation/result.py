"""What became of every picture, and what that says of the anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from eval.best import best_of
from eval.metrics.chance import Assessed, compared
from eval.metrics.confusion import class_accuracy, class_iou, mean_class_accuracy, mean_iou, pixel_accuracy
from eval.metrics.interval import Sample, Statistic, intervals
from eval.segmentation import tally
from eval.segmentation.arms import Arm, baseline
from eval.segmentation.store import ImageRecord
from eval.segmentation.tally import ClassTally
from tokenrank_guidance.interval import Interval, difference
from tokenrank_guidance.report import Json

POOLED: Mapping[str, Statistic] = {
    "pixel_accuracy": pixel_accuracy,
    "mean_class_accuracy": mean_class_accuracy,
    "miou": mean_iou,
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
        return [self._counts(self._classes(i)) for i in range(len(self.arms))]

    @cached_property
    def best(self) -> dict[str, int]:
        """For each way to choose anchors its arm of the highest mIoU, the first of equal ones."""
        values = [float(mean_iou(counts.sum(0))) for counts in self.counts]
        return best_of(range(len(values)), lambda i: self.arms[i].anchors, lambda i: values[i])

    @cached_property
    def scores(self) -> Float[np.ndarray, " pictures"]:
        """How well each picture goes: its own mIoU, the mean over the `best` arms."""
        return np.mean([mean_iou(self.counts[i]) for i in self.best.values()], 0)

    @cached_property
    def figures(self) -> list[dict[str, Interval]]:
        """Of each arm."""
        return [intervals(self._samples(i)) for i in range(len(self.arms))]

    @cached_property
    def floor(self) -> dict[str, Interval]:
        """What the whole picture as one segment gets: nothing was found by an arm that is not above it."""
        images = [self._as_one(picture[0].classes) for picture in self.pictures]
        return intervals(_samples(self._counts(images), images))

    @cached_property
    def differences(self) -> dict[tuple[str, str], dict[str, Assessed]]:
        """Of each arm that is compared with a blind one: each figure less that one's."""
        blind = {i: baseline(self.arms, i) for i in range(len(self.arms))}
        pairs = [(self.arms[i].key, self.arms[j].key) for i, j in blind.items() if j is not None]
        return compared({arm.key: self._samples(i) for i, arm in enumerate(self.arms)}, pairs)

    def to_json(self) -> Json:
        """`results`, an entry for each arm; their `differences`; the floor is `one_segment`."""
        return {
            "results": [self._row(i) for i in range(len(self.arms))],
            "differences": [difference(a, b, less) for (a, b), less in self.differences.items()],
            "one_segment": self.floor | {"segments": 1.0, "n": self.n},
            "classes": list(self.class_names),
        }

    def median(self, index: int, field: str) -> float:
        """Of a field of the records under an arm."""
        return float(np.median([getattr(picture[index], field) for picture in self.pictures]))

    def _classes(self, index: int) -> list[list[ClassTally]]:
        return [picture[index].classes for picture in self.pictures]

    def _counts(self, images: Sequence[Sequence[ClassTally]]) -> Int[np.ndarray, "pictures 3 classes"]:
        return tally.counts(images, len(self.class_names))

    def _samples(self, index: int) -> dict[str, Sample]:
        return _samples(self.counts[index], self._classes(index))

    def _as_one(self, image: Sequence[ClassTally]) -> list[ClassTally]:
        overlap = np.zeros((1, len(self.class_names)), dtype=np.int64)
        for one in image:
            overlap[0, one.index] = one.truth
        return tally.matched_per_image(overlap)

    def _row(self, index: int) -> Json:
        arm = self.arms[index]
        return {
            "arm": arm.key,
            "anchors": arm.anchors,
            "kl_threshold": arm.threshold,
            **self.figures[index],
            "segments": self.median(index, "segments"),
            "threshold": self.median(index, "threshold"),
            "seconds_per_image": self.median(index, "total_seconds"),
            "attention_seconds": self.median(index, "attention"),
            "segmentation_seconds": self.median(index, "seconds"),
            "n": self.n,
            "per_class": self._per_class(index),
            "data_set": intervals(_pooled(self._counts(self.data_set[index]))) if self.data_set else None,
        }

    def _per_class(self, index: int) -> list[Json]:
        """Of every class that has pixels."""
        pooled = self.counts[index].sum(0)
        accuracy, iou = class_accuracy(pooled), class_iou(pooled)
        best: dict[int, list[float]] = {}
        for image in self._classes(index):
            for one in image:
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


def _pooled(counts: Int[np.ndarray, "pictures 3 classes"]) -> dict[str, Sample]:
    return {name: (counts, statistic) for name, statistic in POOLED.items()}


def _samples(
    counts: Int[np.ndarray, "pictures 3 classes"], images: Sequence[Sequence[ClassTally]]
) -> dict[str, Sample]:
    return _pooled(counts) | {OVERLAP: (np.array([tally.mean_best(image) for image in images]), None)}
