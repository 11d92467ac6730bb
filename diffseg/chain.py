"""From captured attention alone to segments, whatever model it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.maps.aggregate import Grid, ResolutionMap, aggregate, resolution_maps
from diffseg.maps.anchors import AnchorRequest, choose_anchors
from diffseg.maps.kl import symmetric_kl
from diffseg.maps.labels import label_map
from diffseg.maps.merge import merge_near
from diffseg.maps.metastable import count_regions, merge_to
from diffseg.maps.refine import kmeans
from diffseg.result import Segmentation
from diffseg.settings import Settings
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import DenseTransition, stationary_distribution
from tokenrank_guidance.markov.precision import device_for

Size = tuple[int, int]
DEFAULT = Settings()


def segment_records(
    records: Iterable[AttentionRecord] | AttentionRecord, size: Size, settings: Settings = DEFAULT
) -> list[Segmentation]:
    """Segment every image of captured attention, a ViT's or a denoiser's, with labels at `size` = (h, w).

    Image tokens alone are used (no class, register or text tokens), of all records, so the capture chooses
    the layers; one record may stand alone. Raises ValueError for records without a grid, or of more than
    `settings.max_tokens` image tokens, and for another size.
    """
    records = (records,) if isinstance(records, AttentionRecord) else records
    return segment_maps(resolution_maps(records, settings.dtype, settings.max_tokens), size, settings)


@torch.no_grad()
def segment_maps(
    maps: Sequence[ResolutionMap], size: Size, settings: Settings = DEFAULT
) -> list[Segmentation]:
    """Segment every image of a pass, given its mean map at each resolution."""
    finest = max((part.grid for part in maps), key=lambda grid: grid[0] * grid[1])
    return [_segmented(chain, finest, size, settings) for chain in aggregate(maps)]


@torch.no_grad()
def segment_chain(
    chain: Float[Tensor, "n n"], grid: Grid, size: Size, settings: Settings = DEFAULT
) -> Segmentation:
    """From one aggregated, row-stochastic matrix over a grid to labels at `size` = (h, w).

    Raises ValueError for a matrix that is not one over the grid's tokens, or whose rows do not sum to 1.
    """
    DenseTransition(chain)  # for its checks
    if tuple(chain.shape) != 2 * (grid[0] * grid[1],):
        raise ValueError(f"chain: shape {tuple(chain.shape)}, expected (n, n) with n = {grid[0]}·{grid[1]}")
    return _segmented(chain, grid, size, settings)


@dataclass(frozen=True, eq=False)
class ChainParts:
    """A chain over a grid, and what all segmentations of it share, found when it is first asked for."""

    chain: Float[Tensor, "n n"]
    grid: Grid
    damping: float

    @cached_property
    def rank(self) -> Float[Tensor, " n"]:
        """TokenRank π, sum 1."""
        return stationary_distribution(DenseTransition.trusted(self.chain), damping=self.damping).value

    @cached_property
    def regions(self) -> int:
        """How many metastable regions the chain has."""
        return count_regions(self.chain)

    def anchors(self, settings: Settings) -> Int[Tensor, " anchors"]:
        """The tokens that merging starts from."""
        generator = torch.Generator().manual_seed(settings.seed)
        request = AnchorRequest(self.rank, self.grid, settings.num_anchors, generator)
        return choose_anchors(settings.anchors, request)

    def divergence(self, anchors: Int[Tensor, " anchors"]) -> Float[Tensor, "anchors n"]:
        """KL, in nats, of each anchor's map and every map."""
        return symmetric_kl(self.chain[anchors], self.chain)

    def segment(
        self,
        anchors: Int[Tensor, " anchors"],
        divergence: Float[Tensor, "anchors n"],
        size: Size,
        settings: Settings,
    ) -> Segmentation:
        """From these anchors and their rows of the divergence to labels at `size` = (h, w)."""
        thresholds = settings.thresholds
        if thresholds is None:
            merged = merge_to(self.chain, divergence, anchors, settings.merges, self.regions)
            masks, thresholds = merged.masks, (merged.threshold,) * settings.merges
        else:
            masks = merge_near(self.chain, divergence, anchors, thresholds)
        if settings.refine == "kmeans":
            masks = kmeans(self.chain, masks)
        masks = masks.unflatten(-1, self.grid)
        return Segmentation(
            labels=label_map(masks, size),
            masks=masks,
            anchors=torch.stack([anchors // self.grid[1], anchors % self.grid[1]], -1),
            scores=(len(self.rank) * self.rank).view(self.grid),
            thresholds=thresholds,
        )


def _segmented(chain: Float[Tensor, "n n"], grid: Grid, size: Size, settings: Settings) -> Segmentation:
    chain = chain.to(device_for(settings.dtype, chain.device)).to(settings.dtype)
    parts = ChainParts(chain, grid, settings.damping)
    anchors = parts.anchors(settings)
    return parts.segment(anchors, parts.divergence(anchors), size, settings)
