"""Confusion matrices of label maps, and what they come to.

A matrix counts pixels: rows are true classes, columns predicted ones. Columns beyond the rows are no class.
Measures need each class's true, predicted and right pixels alone, its `totals`. Both add up over images, and
every function takes any leading axes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

IGNORE = 255
Matrix = Shaped[np.ndarray, "*n classes columns"]
Totals = Shaped[np.ndarray, "*n 3 classes"]


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


def totals(matrix: Matrix) -> Totals:
    """truth_c = Σ_j m_cj, predicted_c = Σ_i m_ic and right_c = m_cc of each class c."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.stack([matrix.sum(-1), matrix.sum(-2)[..., : right.shape[-1]], right], -2)


def pixel_accuracy(pooled: Totals) -> Float[np.ndarray, "*n"]:
    """Σ_c right_c / Σ_c truth_c: the share of labelled pixels that are right; NaN where there are none."""
    return _ratio(pooled[..., 2, :].sum(-1), pooled[..., 0, :].sum(-1))


def class_accuracy(pooled: Totals) -> Float[np.ndarray, "*n classes"]:
    """right_c / truth_c of each class; NaN for a class that has no pixel."""
    return _ratio(pooled[..., 2, :], pooled[..., 0, :])


def mean_class_accuracy(pooled: Totals) -> Float[np.ndarray, "*n"]:
    """The mean of `class_accuracy` over the classes that have pixels."""
    return _mean(class_accuracy(pooled))


def class_iou(pooled: Totals) -> Float[np.ndarray, "*n classes"]:
    """right_c / (truth_c + predicted_c − right_c) of each class; NaN where it is in neither."""
    return _ratio(pooled[..., 2, :], pooled[..., 0, :] + pooled[..., 1, :] - pooled[..., 2, :])


def mean_iou(pooled: Totals) -> Float[np.ndarray, "*n"]:
    """The mean of `class_iou` over the classes that are present or predicted."""
    return _mean(class_iou(pooled))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)


def _mean(values: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n"]:
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1))
