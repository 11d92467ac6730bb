"""Heat maps as masks: constructed cases, the trap, and average precision against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, jaccard_score

from eval.metrics.average_precision import average_precision, map_average_precision
from eval.metrics.confusion import mean_iou, pixel_accuracy, totals
from eval.metrics.foreground import (
    ca_miou,
    foreground,
    foreground_confusion,
    min_max,
    one_hot_counts,
)


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = (rng.random((6, 5)) < rng.uniform(0.1, 0.9)).astype(np.int64)
    mask[rng.random((6, 5)) < 0.1] = 255
    mask[0, 0] = 1
    return min_max(np.round(rng.random((6, 5)), 1)), mask


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4))
def test_the_published_miou_is_the_accuracy_in_disguise(seeds):
    cases = [case(seed) for seed in seeds]
    matrix = sum(foreground_confusion(foreground(heat), mask) for heat, mask in cases)
    counts = sum(one_hot_counts(foreground(heat), mask) for heat, mask in cases)
    accuracy = pixel_accuracy(totals(matrix))
    assert ca_miou(counts) == pytest.approx(accuracy / (2 - accuracy), abs=1e-15)


def test_the_trap_by_hand():
    """9 background pixels and 1 of the object, all called background: 90 % right, and 0.45 mIoU."""
    mask, predicted = np.array([[0] * 9 + [1]]), np.zeros((1, 10), dtype=bool)
    matrix = foreground_confusion(predicted, mask)
    assert pixel_accuracy(totals(matrix)) == pytest.approx(0.9)
    assert mean_iou(totals(matrix)) == pytest.approx(0.45)
    counts = one_hot_counts(predicted, mask)
    assert counts.tolist() == [9, 11]
    assert ca_miou(counts) == pytest.approx(0.9 / 1.1)


def test_pooled_means_summed_over_images():
    masks = [np.array([[1, 1]]), np.array([[0, 1]])]
    predicted = [np.array([[True, False]]), np.array([[False, True]])]
    matrix = sum(foreground_confusion(p, m) for p, m in zip(predicted, masks, strict=True))
    flat = np.concatenate(masks, 1).ravel(), np.concatenate(predicted, 1).ravel()
    assert mean_iou(totals(matrix)) == pytest.approx(jaccard_score(*flat, average="macro"))
    assert pixel_accuracy(totals(matrix)) == 0.75


def test_foreground_exceeds_the_mean():
    assert foreground(np.array([[0.0, 1.0, 2.0]])).tolist() == [[False, False, True]]
    assert not foreground(np.full((2, 2), 0.3)).any()


def test_min_max():
    assert min_max(np.array([[2.0, 4.0, 3.0]])).tolist() == [[0, 1, 0.5]]
    assert min_max(np.full((1, 2), 7.0)).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="not finite"):
        min_max(np.array([[np.nan, 1.0]]))


@given(st.integers(0, 10_000))
def test_average_precision_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, score = rng.random(30) < 0.4, np.round(rng.random(30), 1)
    truth[0] = True
    assert average_precision(truth, score) == pytest.approx(average_precision_score(truth, score))
    heat, mask = case(seed)
    labelled = mask != 255
    expected = average_precision_score(
        np.stack([mask == 0, mask == 1])[:, labelled].ravel(), np.stack([1 - heat, heat])[:, labelled].ravel()
    )
    assert map_average_precision(heat, mask) == pytest.approx(expected)


def test_a_perfect_map_and_its_opposite():
    mask = np.array([[0, 1, 1, 255]])
    assert map_average_precision(np.array([[0.0, 1.0, 1.0, 0.3]]), mask) == 1
    assert map_average_precision(np.array([[1.0, 0.0, 0.0, 0.3]]), mask) == pytest.approx(0.5)
    assert average_precision(np.array([False]), np.array([0.5])) == 0


@pytest.mark.parametrize(
    ("heat", "mask", "message"),
    [
        ([[0.0, 1.0]], [[0, 1, 1]], "expected the same size"),
        ([[0.0, 1.5]], [[0, 1]], "expected 0 to 1"),
        ([[0.0, float("nan")]], [[0, 1]], "expected 0 to 1"),
        ([[0.0, 1.0]], [[0, 2]], r"got \[0, 2\]"),
        ([[0.0, 1.0]], [[255, 255]], r"got \[\]"),
    ],
)
def test_mistakes(heat, mask, message):
    with pytest.raises(ValueError, match=message):
        map_average_precision(np.array(heat), np.array(mask))
