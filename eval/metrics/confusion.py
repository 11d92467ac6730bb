"""Confusion matrices of label maps, and what they come to.

A matrix counts pixels: rows are true classes, columns predicted ones. Columns beyond the rows are no class.
Matrices of several images add up, and each measure takes any leading axes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

IGNORE = 255
Matrix = Shaped[np.ndarray, "*n classes columns"]


def confusion_matrix(
    truth: Int[np.ndarray, "h w"],
    predicted: Int[np.ndarray, "h w"],
    shape: tuple[int, int],
    ignore: int = IGNORE,
) -> Int[np.ndarray, "classes columns"]:
    """Labelled pixels by true and predicted class, in a matrix of `shape` (classes, columns).

    Pixels whose truth is `ignore` do not count. Raises ValueError for maps of different sizes, and indices
    outside the matrix.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"the truth is {truth.shape}, the prediction {predicted.shape}; expected the same size"
        )
    labelled = truth != ignore
    rows, columns = truth[labelled].astype(np.int64), predicted[labelled].astype(np.int64)
    for name, values, count in (("true", rows, shape[0]), ("predicted", columns, shape[1])):
        if values.size and not (values.min() >= 0 and values.max() < count):
            raise ValueError(
                f"{name} classes reach from {values.min()} to {values.max()}, expected 0 to {count - 1}"
            )
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def pixel_accuracy(matrix: Matrix) -> Float[np.ndarray, "*n"]:
    """Σ_c m_cc / Σ m: the share of labelled pixels that are right; NaN where there are none."""
    return _ratio(_diagonal(matrix).sum(-1), matrix.sum((-1, -2)))


def class_accuracy(matrix: Matrix) -> Float[np.ndarray, "*n classes"]:
    """m_cc / Σ_j m_cj of each class; NaN for a class that has no pixel."""
    return _ratio(_diagonal(matrix), matrix.sum(-1))


def mean_class_accuracy(matrix: Matrix) -> Float[np.ndarray, "*n"]:
    """The mean of `class_accuracy` over the classes that have pixels."""
    return _mean(class_accuracy(matrix))


def class_iou(matrix: Matrix) -> Float[np.ndarray, "*n classes"]:
    """m_cc / (Σ_j m_cj + Σ_i m_ic − m_cc) of each class; NaN for one neither present nor predicted."""
    right = _diagonal(matrix)
    predicted = matrix.sum(-2)[..., : right.shape[-1]]
    return _ratio(right, matrix.sum(-1) + predicted - right)


def mean_iou(matrix: Matrix) -> Float[np.ndarray, "*n"]:
    """The mean of `class_iou` over the classes that are present or predicted."""
    return _mean(class_iou(matrix))


def _diagonal(matrix: Matrix) -> Shaped[np.ndarray, "*n classes"]:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)


def _mean(values: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n"]:
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1))
