"""Matching against every possible assignment."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.confusion import mean_iou, pixel_accuracy, totals
from eval.metrics.matching import (
    best_overlap,
    match_segments,
    matched_confusion,
    overlap_matrix,
    total_overlap,
)


def best_by_trying(overlap: np.ndarray) -> int:
    """The most pixels that any one-to-one assignment shares."""
    small = overlap if overlap.shape[0] <= overlap.shape[1] else overlap.T
    columns = permutations(range(small.shape[1]), small.shape[0])
    return max(sum(small[i, j] for i, j in enumerate(chosen)) for chosen in columns)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5))
def test_no_assignment_is_better(seed, segments, classes):
    overlap = np.random.default_rng(seed).integers(0, 20, size=(segments, classes))
    matched = match_segments(overlap)
    used = matched[matched >= 0]
    assert len(set(used.tolist())) == len(used)
    shared = sum(overlap[i, c] for i, c in enumerate(matched) if c >= 0)
    assert shared == best_by_trying(overlap)
    matrix = matched_confusion(overlap, matched)
    assert matrix.shape == (classes, classes + 1)
    assert matrix.sum() == overlap.sum()
    assert np.trace(matrix) == shared


def test_by_hand():
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]])
    segments = np.array([[1, 1, 0, 2], [1, 3, 0, 2]])
    overlap = overlap_matrix(segments, truth, 2)
    assert overlap.tolist() == [[0, 2], [3, 0], [0, 1], [1, 0]]
    matched = match_segments(overlap)
    assert matched.tolist() == [1, 0, -1, -1]
    matrix = matched_confusion(overlap, matched)
    assert matrix.tolist() == [[3, 0, 1], [0, 2, 1]]
    assert pixel_accuracy(totals(matrix)) == pytest.approx(5 / 7)
    assert mean_iou(totals(matrix)) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_the_names_of_segments_do_not_matter():
    rng = np.random.default_rng(1)
    truth, segments = rng.integers(4, size=(8, 8)), rng.integers(6, size=(8, 8))
    renamed = rng.permutation(6)[segments]
    first, second = (
        matched_confusion(o, match_segments(o))
        for o in (overlap_matrix(s, truth, 4) for s in (segments, renamed))
    )
    assert np.trace(first) == np.trace(second)


def test_segments_that_share_nothing_stay_unmatched():
    assert match_segments(np.array([[0, 0], [0, 5]])).tolist() == [-1, 1]


def test_one_matching_for_a_whole_data_set():
    overlaps = [np.array([[5, 0], [0, 3]]), np.array([[1, 4], [2, 0], [0, 9]])]
    total = total_overlap(overlaps)
    assert total.tolist() == [[6, 4], [2, 3], [0, 9]]
    matched = match_segments(total)
    assert matched.tolist() == [0, -1, 1]
    pooled = sum(matched_confusion(overlap, matched) for overlap in overlaps)
    assert pooled.tolist() == [[6, 0, 2], [4, 9, 3]]
    assert (pooled == matched_confusion(total, matched)).all()
    assert matched_confusion(overlaps[1], np.array([0])).tolist() == [[1, 0, 2], [4, 0, 9]]


def test_best_overlap():
    truth = np.array([[0, 0, 1, 1, 255, 255]])

    def best(segments):
        return best_overlap(overlap_matrix(np.array([segments]), truth, 3)).tolist()

    assert best([0, 0, 1, 1, 1, 2]) == [1, 1, 0]
    assert best([0] * 6) == [0.5, 0.5, 0]
    assert best([0, 0, 0, 1, 2, 3]) == pytest.approx([2 / 3, 1 / 2, 0])
    assert not best_overlap(overlap_matrix(np.zeros((1, 2), dtype=int), np.full((1, 2), 255), 3)).any()


def test_mistakes():
    with pytest.raises(ValueError, match="numbered from 0 on"):
        overlap_matrix(np.array([[-1, 0]]), np.array([[0, 0]]), 2)
    with pytest.raises(ValueError, match="true classes reach from 0 to 2"):
        overlap_matrix(np.array([[0, 0]]), np.array([[0, 2]]), 2)
