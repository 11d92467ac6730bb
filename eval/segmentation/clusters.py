"""Matching segments to classes once for a whole data set.

Segments have numbers of their own in each picture, so that there is nothing to match over a data set until it
is known which segments of different pictures are alike. Here the segments of all pictures are clustered by
their tokens' mean attention keys, k-means with as many clusters as there are classes, and the clusters are
matched. Sources: the matching is PiCIE's; clusters of segments' keys are those of Melas-Kyriazi et al., CVPR
2022. FLUX's keys hold their place as well, by their rotary embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from eval.metrics.matching import match_segments, total_overlap
from eval.segmentation.store import Described
from eval.segmentation.tally import ClassTally, tallies

STARTS = 5


def matched_per_data_set(pictures: Sequence[Described], seed: int) -> list[list[ClassTally]]:
    """Every picture's classes under one matching of clusters; overlaps are by the data set's classes."""
    clusters = _clusters(pictures, seed)
    overlaps = [_joined(one.overlap, own) for one, own in zip(pictures, clusters, strict=True)]
    matched = match_segments(total_overlap(overlaps))
    return [tallies(overlap, matched) for overlap in overlaps]


def _clusters(pictures: Sequence[Described], seed: int) -> list[Int[np.ndarray, " segments"]]:
    from sklearn.cluster import KMeans

    vectors = np.concatenate([one.vectors for one in pictures])
    classes = int(np.sum([one.overlap.sum(0) for one in pictures], 0).astype(bool).sum())
    count = min(classes, len(np.unique(vectors, axis=0)))
    found = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(vectors)  # pyright: ignore[reportArgumentType]
    return np.split(found, np.cumsum([len(one.vectors) for one in pictures])[:-1])


def _joined(
    overlap: Int[np.ndarray, "segments classes"], clusters: Int[np.ndarray, " segments"]
) -> Int[np.ndarray, "clusters classes"]:
    joined = np.zeros((int(clusters.max()) + 1, overlap.shape[1]), dtype=np.int64)
    np.add.at(joined, clusters, overlap)
    return joined
