"""Counts that add up over images, against loops over every matching and the whole confusion matrix."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.confusion import mean_class_accuracy, mean_iou, pixel_accuracy, totals
from eval.metrics.matching import match_segments, matched_confusion, overlap_matrix
from eval.segmentation import tally
from eval.segmentation.tally import ClassTally, counts, matched_per_image, tallies

TRUTH = np.array([[0, 0, 0, 2], [0, 0, 2, 2], [255, 0, 2, 2]])
SEGMENTS = np.array([[1, 1, 1, 0], [1, 1, 3, 0], [3, 1, 3, 0]])


def test_a_hand_made_map():
    """Class 0 (6 pixels) is segment 1; class 2 (5 pixels) is 0's three, and two more are 3's."""
    image = matched_per_image(overlap_matrix(SEGMENTS, TRUTH, 3))
    assert image == [ClassTally(0, 6, 6, 6, 1.0), ClassTally(2, 5, 3, 3, 0.6)]
    pooled = counts([image], 4).sum(0)
    assert pixel_accuracy(pooled) == pytest.approx(9 / 11)
    assert mean_class_accuracy(pooled) == pytest.approx((1 + 3 / 5) / 2)
    assert mean_iou(pooled) == pytest.approx((1 + 3 / 5) / 2)
    assert tally.mean_best(image) == pytest.approx(0.8)


def test_classes_are_pooled_before_ratios_are_taken():
    small, large = [ClassTally(0, 1, 1, 0, 0.0)], [ClassTally(0, 9, 9, 9, 1.0)]
    pooled = counts([small, large], 1).sum(0)
    assert pixel_accuracy(pooled) == pytest.approx(0.9)
    assert mean_iou(pooled) == pytest.approx(9 / 11)


def test_nothing_is_not_a_number():
    assert np.isnan(mean_iou(counts([[]], 2).sum(0)))
    assert np.isnan(tally.mean_best([]))


maps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 255])), min_size=1, max_size=40)


@given(maps)
def test_equals_the_whole_confusion_matrix(pairs):
    segments, truth = (np.array([side], dtype=np.int64) for side in zip(*pairs, strict=True))
    overlap = overlap_matrix(segments, truth, 3)
    matrix = matched_confusion(overlap, match_segments(overlap))
    image = matched_per_image(overlap)
    pooled = counts([image], 3).sum(0)
    assert pooled.tolist() == totals(matrix).tolist()
    regions = [
        max(((segments == s) & (truth == c)).sum() / ((segments == s) & (truth != 255) | (truth == c)).sum()
            for s in range(4))
        for c in range(3) if (truth == c).any()
    ]  # fmt: skip
    np.testing.assert_allclose(tally.mean_best(image), np.mean(regions) if regions else np.nan)
    right = max(
        sum(overlap[s, c] for c, s in enumerate(order) if s < len(overlap))
        for order in permutations(range(max(len(overlap), 3)), 3)
    )
    assert pooled[2].sum() == right


def test_a_matching_from_elsewhere_counts_what_it_predicts():
    """Under one matching for a data set a class may be predicted where it is absent."""
    overlap = np.array([[4, 0], [2, 0]])
    assert tallies(overlap, np.array([1, 0])) == [
        ClassTally(0, 6, 2, 2, 4 / 6),
        ClassTally(1, 0, 4, 0, 0.0),
    ]
