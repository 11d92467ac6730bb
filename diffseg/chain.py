"""From captured attention alone to segments, whatever model it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.maps.aggregate import Grid, ResolutionMap, aggregate, resolution_maps
from diffseg.maps.anchors import AnchorRequest, choose_anchors
from diffseg.maps.kl import symmetric_kl
from diffseg.maps.labels import label_map
from diffseg.maps.merge import merge
from diffseg.maps.metastable import count_regions, merge_to
from diffseg.maps.refine import kmeans
from diffseg.result import Segmentation
from diffseg.settings import Settings
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import DenseTransition, stationary_distribution

Size = tuple[int, int]
DEFAULT = Settings()


def segment_records(
    records: Iterable[AttentionRecord], size: Size, settings: Settings = DEFAULT
) -> list[Segmentation]:
    """Segment every image of captured attention, a ViT's or a denoiser's, with labels at `size` = (h, w).

    Image tokens alone are used (no class, register or text tokens), of all records, so the capture chooses
    the layers. Raises ValueError for records without a grid, or of more than `settings.max_tokens` image
    tokens.
    """
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


def _segmented(chain: Float[Tensor, "n n"], grid: Grid, size: Size, settings: Settings) -> Segmentation:
    chain = chain.to(settings.dtype)
    rank = stationary_distribution(DenseTransition.trusted(chain), damping=settings.damping).value
    generator = torch.Generator().manual_seed(settings.seed)
    request = AnchorRequest(rank, grid, settings.num_anchors, generator)
    anchors = choose_anchors(settings.anchors, request)
    thresholds = settings.thresholds
    if thresholds is None:
        divergence, regions = symmetric_kl(chain[anchors], chain), count_regions(chain)
        merged = merge_to(chain, divergence, anchors, settings.merges, regions)
        masks, thresholds = merged.masks, (merged.threshold,) * settings.merges
    else:
        masks = merge(chain, anchors, thresholds)
    if settings.refine == "kmeans":
        masks = kmeans(chain, masks)
    masks = masks.unflatten(-1, grid)
    return Segmentation(
        labels=label_map(masks, size),
        masks=masks,
        anchors=torch.stack([anchors // grid[1], anchors % grid[1]], -1),
        scores=(len(rank) * rank).view(grid),
        thresholds=thresholds,
    )
