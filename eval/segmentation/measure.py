"""One picture through every arm, its attention taken once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.maps.aggregate import Grid, aggregate
from diffseg.maps.anchors import AnchorRequest, choose_anchors
from diffseg.maps.kl import symmetric_kl
from diffseg.maps.labels import label_map
from diffseg.maps.merge import average, merge_proposals, neighbours
from diffseg.maps.metastable import count_regions, merge_to
from diffseg.maps.refine import kmeans
from diffseg.passes.images import Rgb
from diffseg.settings import Settings
from eval.segmentation.arms import Arm
from eval.segmentation.attention import Attention, Seen
from tokenrank_guidance.markov import DenseTransition, stationary_distribution

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Segmented:
    """One arm's label map, the τ that it came to, and the seconds that it took without the attention."""

    labels: Int[Tensor, "h w"]
    threshold: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """`attention`: seconds of the pass and of the aggregation, which every arm needs."""

    seen: Seen
    attention: float
    arms: list[Segmented]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Segments a picture by every arm, as `diffseg.segment_chain` does by one.

    The chain, TokenRank and the number of regions are found once. Divergences are computed once for the
    anchors of all arms together; an arm is charged for its share of their rows, and for TokenRank only if its
    anchors depend on it.
    """

    attention: Attention
    arms: Sequence[Arm]
    settings: Settings

    @torch.no_grad()
    def __call__(self, image: Rgb, size: Size) -> Outcome:
        start = time.perf_counter()
        seen = self.attention(image)
        chain = aggregate(seen.maps)[0].to(self.settings.dtype)
        seconds = time.perf_counter() - start
        shared = _Shared(chain, seen.grid, self.settings, tuple(dict.fromkeys(a.anchors for a in self.arms)))
        return Outcome(seen, seconds, [self._segment(arm, shared, size) for arm in self.arms])

    def _segment(self, arm: Arm, shared: _Shared, size: Size) -> Segmented:
        charged = shared.charge(arm)
        start = time.perf_counter()
        masks, threshold = _merged(arm, shared)
        if self.settings.refine == "kmeans":
            masks = kmeans(shared.chain, masks)
        labels = label_map(masks.unflatten(-1, shared.grid), size).cpu()
        return Segmented(labels, threshold, charged + time.perf_counter() - start)


class _Shared:
    """What the arms have in common for one picture."""

    def __init__(
        self, chain: Float[Tensor, "n n"], grid: Grid, settings: Settings, names: Sequence[str]
    ) -> None:
        self.chain, self.grid, self.settings = chain, grid, settings
        start = time.perf_counter()
        rank = stationary_distribution(DenseTransition.trusted(chain), damping=settings.damping).value
        ranked = time.perf_counter()
        self.anchors = {name: self._choose(name, rank) for name in names}
        self._union = torch.cat([*self.anchors.values()]).unique()
        self._divergence = symmetric_kl(chain[self._union], chain)
        self._rank_seconds, self._row_seconds = (
            ranked - start,
            (time.perf_counter() - ranked) / len(self._union),
        )

    @cached_property
    def regions(self) -> tuple[int, float]:
        """How many regions the chain has, and the seconds that this took."""
        start = time.perf_counter()
        return count_regions(self.chain), time.perf_counter() - start

    def divergence(self, name: str) -> Float[Tensor, "anchors n"]:
        return self._divergence[torch.searchsorted(self._union, self.anchors[name])]

    def charge(self, arm: Arm) -> float:
        """The seconds of the arm's share of what was computed once."""
        rank = self._rank_seconds if arm.reads_rank else 0.0
        regions = self.regions[1] if arm.threshold == "auto" else 0.0
        return rank + regions + self._row_seconds * len(self.anchors[arm.anchors])

    def _choose(self, name: str, rank: Float[Tensor, " n"]) -> Int[Tensor, " anchors"]:
        generator = torch.Generator().manual_seed(self.settings.seed)
        return choose_anchors(name, AnchorRequest(rank, self.grid, self.settings.num_anchors, generator))


def _merged(arm: Arm, shared: _Shared) -> tuple[Float[Tensor, "segments n"], float]:
    anchors, merges = shared.anchors[arm.anchors], shared.settings.merges
    divergence = shared.divergence(arm.anchors)
    if arm.threshold == "auto":
        found = merge_to(shared.chain, divergence, anchors, merges, shared.regions[0])
        return found.masks, found.threshold
    near = neighbours(divergence, anchors, arm.threshold)
    return merge_proposals(average(shared.chain, near), [arm.threshold] * (merges - 1)), arm.threshold
