"""One image's segments against its truth, in numbers that add up over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from eval.metrics.confusion import totals
from eval.metrics.matching import best_overlap, match_segments, matched_confusion

Overlap = Int[np.ndarray, "segments classes"]


@dataclass(frozen=True)
class ClassTally:
    """Pixels of one class in one image: its own, those predicted, those of both; and its best overlap."""

    index: int
    truth: int
    predicted: int
    right: int
    best: float


def matched_per_image(overlap: Overlap) -> list[ClassTally]:
    """Every class that the image has, under the matching of its segments that shares the most pixels.

    Source: DiffSeg's protocol (PiCIE's, image by image): one segment for a class and one class for a segment.
    """
    return tallies(overlap, match_segments(overlap))


def tallies(overlap: Overlap, matched: Int[np.ndarray, " _"]) -> list[ClassTally]:
    """Every class that the image has or that `matched` gives to a segment with pixels."""
    truth, predicted, right = totals(matched_confusion(overlap, matched))
    best = best_overlap(overlap)
    return [
        ClassTally(int(i), int(truth[i]), int(predicted[i]), int(right[i]), float(best[i]))
        for i in np.flatnonzero(truth + predicted)
    ]


def counts(images: Sequence[Sequence[ClassTally]], classes: int) -> Int[np.ndarray, "images 3 classes"]:
    """True, predicted and right pixels of every image and class."""
    table = np.zeros((len(images), 3, classes), dtype=np.int64)
    for row, image in zip(table, images, strict=True):
        for one in image:
            row[:, one.index] = one.truth, one.predicted, one.right
    return table


def mean_best(image: Sequence[ClassTally]) -> float:
    """The mean best overlap of one image's regions, one for each class that it has; NaN without any."""
    values = [one.best for one in image if one.truth]
    return float(np.mean(values)) if values else float("nan")
