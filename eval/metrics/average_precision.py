"""Average precision of a heat map against a mask."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from eval.metrics.confusion import IGNORE


def average_precision(truth: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """Σ_k (R_k − R_{k−1}) P_k over the distinct scores, from the highest down; 0 if nothing is true.

    As scikit-learn's `average_precision_score`: no interpolation, ties are taken together.
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    ranks = np.flatnonzero(last_of_tie)
    if len(ranks) == 0 or hits[-1] == 0:
        return 0.0
    hits = hits[ranks]
    return float(np.diff(hits, prepend=0) @ (hits / (ranks + 1)) / hits[-1])


def map_average_precision(
    heat: Float[np.ndarray, "h w"], mask: Int[np.ndarray, "h w"], ignore: int = IGNORE
) -> float:
    """Average precision of [1 − heat, heat] against the mask's two one-hot channels, both taken together.

    `heat` is in [0, 1], the mask 0, 1 or `ignore` (Chefer et al., whose mAP is the mean of this over images).
    Raises ValueError otherwise, and for an image without a labelled pixel.
    """
    if heat.shape != mask.shape:
        raise ValueError(f"the heat map is {heat.shape}, the mask {mask.shape}; expected the same size")
    score, truth = heat[mask != ignore].astype(np.float64), mask[mask != ignore]
    if truth.size == 0 or not np.isin(truth, (0, 1)).all():
        raise ValueError(f"a mask must have pixels of 0 and 1; got {np.unique(truth).tolist()}")
    if not (score.min() >= 0 and score.max() <= 1):
        raise ValueError(f"heat reaches from {score.min()} to {score.max()}, expected 0 to 1")
    return average_precision(np.concatenate([truth == 0, truth == 1]), np.concatenate([1 - score, score]))
