"""A heat map as a foreground mask, and how right that is.

Accuracy and mIoU of the two classes are `pixel_accuracy` and `mean_iou` of the sum of all images'
`foreground_confusion` (Chefer et al.). `ca_miou` is the number that ConceptAttention published as mIoU.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from eval.metrics.confusion import IGNORE, confusion_matrix

SIDE = 224  # the protocol's size of image and mask


def min_max(heat: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """(heat − min) / (max − min); zeros where all is equal. Raises ValueError for what is not finite."""
    if not np.isfinite(heat).all():
        raise ValueError("a heat map has values that are not finite")
    span = heat.max() - heat.min()
    return (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)


def foreground(heat: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where the map exceeds its own mean."""
    return heat > heat.mean()


def foreground_confusion(
    predicted: Bool[np.ndarray, "h w"], mask: Int[np.ndarray, "h w"], ignore: int = IGNORE
) -> Int[np.ndarray, "2 2"]:
    """Labelled pixels by truth (row 0 background, row 1 foreground) and prediction."""
    return confusion_matrix(mask, predicted.astype(np.int64), (2, 2), ignore)


def one_hot_counts(
    predicted: Bool[np.ndarray, "h w"], mask: Int[np.ndarray, "h w"], ignore: int = IGNORE
) -> Int[np.ndarray, "2"]:
    """Intersection and union of the two-channel one-hot masks, entries of both channels counted together."""
    labelled = mask != ignore
    ours = _one_hot(predicted[labelled].astype(np.int64))
    true = _one_hot(mask[labelled])
    return np.array([(ours & true).sum(), (ours | true).sum()])


def ca_miou(counts: Shaped[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
    """Intersection / union of `one_hot_counts`, summed over images.

    A wrong pixel is missed in one channel and claimed in the other, a right one counts once in the union: it
    comes to accuracy / (2 − accuracy), and tells nothing that accuracy does not.
    """
    return counts[..., 0] / counts[..., 1]


def _one_hot(labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, "2 n"]:
    return labels == np.arange(2)[:, None]
