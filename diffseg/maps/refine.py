"""Segments made to fit all maps, not only the anchors'."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def kmeans(maps: Float[Tensor, "n n"], masks: Float[Tensor, "segments n"]) -> Float[Tensor, "segments n"]:
    """Mean maps of the k-means clusters of all maps, started at the merged ones, in their order.

    scikit-learn's Lloyd iteration, Euclidean, on the CPU; a cluster that ends empty keeps its merged map.
    Raises ImportError without scikit-learn. Source: the optional refinement of DiffSeg's code.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise ImportError("refine='kmeans' needs scikit-learn: pip install scikit-learn") from error
    if len(masks) == 1:
        return maps.mean(0, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct maps than segments: a flat image
        start: Any = masks.cpu().numpy()  # its annotations know strings alone
        once: Any = 1
        fitted = KMeans(len(masks), init=start, n_init=once).fit(maps.cpu().numpy())
    clusters = torch.from_numpy(fitted.labels_).long().to(maps.device)
    sizes = clusters.bincount(minlength=len(masks)).unsqueeze(-1)
    sums = torch.zeros_like(masks).index_add_(0, clusters, maps)
    return torch.where(sizes > 0, sums / sizes.clamp_min(1), masks)
