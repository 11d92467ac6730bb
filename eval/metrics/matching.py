"""Segments without names against a labelled truth: Hungarian matching, and best overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from eval.metrics.confusion import IGNORE, confusion_matrix

UNMATCHED = -1


def overlap_matrix(
    segments: Int[np.ndarray, "h w"], truth: Int[np.ndarray, "h w"], classes: int, ignore: int = IGNORE
) -> Int[np.ndarray, "segments classes"]:
    """Labelled pixels that each segment shares with each class; one row for each id up to the largest."""
    if segments.size == 0 or segments.min() < 0:
        raise ValueError("segments must be numbered from 0 on, and not empty")
    return confusion_matrix(truth, segments, (classes, int(segments.max()) + 1), ignore).T


def total_overlap(
    overlaps: Sequence[Int[np.ndarray, "_ classes"]],
) -> Int[np.ndarray, "segments classes"]:
    """The overlaps of all images of a data set, for segments whose numbers mean the same in all of them."""
    rows = max(len(overlap) for overlap in overlaps)
    return np.sum([np.pad(overlap, ((0, rows - len(overlap)), (0, 0))) for overlap in overlaps], axis=0)


def match_segments(overlap: Int[np.ndarray, "segments classes"]) -> Int[np.ndarray, " segments"]:
    """The class of each segment under the one-to-one matching that shares the most pixels; −1 for none.

    Each segment gets at most one class and each class at most one segment, so of unequal numbers the surplus
    stays unmatched; so does a pair that shares no pixel. (Kuhn's Hungarian method, by SciPy.)
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(overlap, maximize=True)
    shared = overlap[rows, columns] > 0
    matched = np.full(len(overlap), UNMATCHED)
    matched[rows[shared]] = columns[shared]
    return matched


def matched_confusion(
    overlap: Int[np.ndarray, "segments classes"], matched: Int[np.ndarray, " _"]
) -> Int[np.ndarray, "classes columns"]:
    """Confusion matrix (classes, classes + 1) of segments that took the names of their classes.

    Pixels of unmatched segments are in the last column: missed by their own class, claimed by no other.

    DiffSeg's and PiCIE's measures come from it: accuracy = Σ TP / all labelled pixels and the NaN-mean of the
    classes' IoU, both over the sum of all images' matrices. Per image (DiffSeg):
    `matched_confusion(o, match_segments(o))`. Per data set (PiCIE, whose clusters are those of every
    image): `matched_confusion(o, match_segments(total_overlap(all)))`; one beyond `matched` is unmatched.
    """
    classes = overlap.shape[1]
    names = np.full(len(overlap), UNMATCHED)
    names[: len(matched)] = matched[: len(overlap)]
    matrix = np.zeros((classes, classes + 1), dtype=np.int64)
    np.add.at(matrix.T, np.where(names == UNMATCHED, classes, names), overlap)
    return matrix


def best_overlap(overlap: Int[np.ndarray, "segments classes"]) -> Float[np.ndarray, " classes"]:
    """The best IoU that any segment has with each class; 0 for a class without pixels.

    A segment may serve several classes. Only labelled pixels count.
    """
    union = overlap.sum(1, keepdims=True) + overlap.sum(0) - overlap
    return np.divide(overlap, union, out=np.zeros(overlap.shape), where=union > 0).max(0)
