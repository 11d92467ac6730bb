"""One image's segments against its truth, in numbers that add up over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from eval.metrics.matching import match_segments, matched_confusion

Counts = Shaped[np.ndarray, "*n 3 classes"]
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
    matrix = matched_confusion(overlap, matched)
    classes = overlap.shape[1]
    truth, predicted, right = matrix.sum(1), matrix.sum(0)[:classes], matrix.diagonal()
    best = _best_overlap(overlap)
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


def pixel_accuracy(pooled: Counts) -> Float[np.ndarray, "*n"]:
    """Σ_c TP_c / all labelled pixels; NaN where there are none."""
    return _ratio(pooled[..., 2, :].sum(-1), pooled[..., 0, :].sum(-1))


def class_accuracy(pooled: Counts) -> Float[np.ndarray, "*n classes"]:
    """TP_c / truth_c of each class; NaN for one without pixels."""
    return _ratio(pooled[..., 2, :], pooled[..., 0, :])


def class_iou(pooled: Counts) -> Float[np.ndarray, "*n classes"]:
    """TP_c / (truth_c + predicted_c − TP_c) of each class; NaN for one neither present nor predicted."""
    return _ratio(pooled[..., 2, :], pooled[..., 0, :] + pooled[..., 1, :] - pooled[..., 2, :])


def mean_class_accuracy(pooled: Counts) -> Float[np.ndarray, "*n"]:
    """The mean of `class_accuracy` over the classes that have pixels."""
    return _mean(class_accuracy(pooled))


def miou(pooled: Counts) -> Float[np.ndarray, "*n"]:
    """The mean of `class_iou` over the classes that are present or predicted."""
    return _mean(class_iou(pooled))


def mean_best(image: Sequence[ClassTally]) -> float:
    """The mean best overlap of one image's regions, one for each class that it has; NaN without any."""
    values = [one.best for one in image if one.truth]
    return float(np.mean(values)) if values else float("nan")


def _best_overlap(overlap: Overlap) -> Float[np.ndarray, " classes"]:
    """The best IoU that any segment has with each class."""
    union = overlap.sum(1, keepdims=True) + overlap.sum(0) - overlap
    return _ratio(overlap, union, empty=0.0).max(0)


def _ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), empty), where=np.asarray(below) > 0)


def _mean(values: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n"]:
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1))
