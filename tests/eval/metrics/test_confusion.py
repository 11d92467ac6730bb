"""Confusion matrices against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from eval.metrics.confusion import (
    class_accuracy,
    class_iou,
    confusion_matrix,
    mean_class_accuracy,
    mean_iou,
    pixel_accuracy,
    totals,
)


def maps(seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(classes, size=(2, 9, 7))
    truth[rng.random((9, 7)) < 0.2] = 255
    return truth, predicted


@given(st.integers(0, 1000))
def test_against_scikit_learn(seed):
    truth, predicted = maps(seed)
    labelled = truth != 255
    y, x = truth[labelled], predicted[labelled]
    matrix = confusion_matrix(truth, predicted, (4, 4))
    assert (matrix == metrics.confusion_matrix(y, x, labels=range(4))).all()
    pooled = totals(matrix)
    assert pixel_accuracy(pooled) == pytest.approx(metrics.accuracy_score(y, x))
    assert mean_class_accuracy(pooled) == pytest.approx(metrics.recall_score(y, x, average="macro"))
    assert mean_iou(pooled) == pytest.approx(metrics.jaccard_score(y, x, average="macro"))


def test_by_hand_with_an_absent_class_and_a_column_of_no_class():
    pooled = totals(np.array([[3, 1, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0]]))
    assert pooled.tolist() == [[5, 2, 0], [3, 3, 0], [3, 2, 0]]
    assert pixel_accuracy(pooled) == pytest.approx(5 / 7)
    np.testing.assert_allclose(class_accuracy(pooled), [3 / 5, 1, np.nan])
    np.testing.assert_allclose(class_iou(pooled), [3 / 5, 2 / 3, np.nan])
    assert mean_iou(pooled) == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert mean_class_accuracy(pooled) == pytest.approx(0.8)


def test_many_matrices_at_once():
    matrices = totals(np.stack([confusion_matrix(*maps(i), (4, 4)) for i in range(5)]))
    for measure in (pixel_accuracy, mean_class_accuracy, mean_iou, class_iou):
        np.testing.assert_allclose(measure(matrices), [measure(matrix) for matrix in matrices])


def test_nothing_labelled():
    matrix = confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2), dtype=int), (3, 3))
    assert matrix.sum() == 0
    assert all(
        np.isnan(measure(totals(matrix))) for measure in (pixel_accuracy, mean_class_accuracy, mean_iou)
    )


def test_mistakes():
    truth, predicted = maps(0)
    with pytest.raises(ValueError, match="expected the same size"):
        confusion_matrix(truth, predicted[1:], (4, 4))
    with pytest.raises(ValueError, match="true classes reach from 0 to 3, expected 0 to 2"):
        confusion_matrix(truth, predicted, (3, 4))
    with pytest.raises(ValueError, match="predicted classes reach from -1 to 2, expected 0 to 3"):
        confusion_matrix(truth, predicted - 1, (4, 4))
