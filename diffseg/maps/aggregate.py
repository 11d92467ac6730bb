"""All self-attention maps of one pass as one chain over the finest grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov.precision import device_for

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ResolutionMap:
    """The mean map of every layer and head that sees the same `grid` of image tokens."""

    grid: Grid
    matrix: Float[Tensor, "batch n n"]


class ResolutionMeans:
    """Running means of attention maps, one for each grid; holds no queries and keys.

    `add` takes a record's image tokens alone, renormalised, in `dtype`. Raises ValueError for a record
    without a grid, for one of more than `max_tokens` image tokens, before any map is made, and for another
    batch.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, max_tokens: int = 9216) -> None:
        self._dtype, self._max_tokens = dtype, max_tokens
        self._sums: dict[Grid, Tensor] = {}
        self._counts: dict[Grid, int] = {}

    def add(self, record: AttentionRecord) -> Grid:
        """Take one layer's map in, and return its grid."""
        image = record.restrict("image")
        if image.plane is None:
            raise ValueError(f"{record.module or 'this record'} has no grid of image tokens")
        if image.tokens > self._max_tokens:
            height, width = image.plane
            raise ValueError(
                f"{record.module or 'this record'} attends over {height}×{width} = {image.tokens} image "
                f"tokens, more than max_tokens={self._max_tokens}; lower resolution, leave the layer out, or "
                "raise max_tokens (memory grows with its square)"
            )
        mean = _head_mean(image, self._dtype)
        if image.plane in self._sums and self._sums[image.plane].shape != mean.shape:
            raise ValueError(f"records of {self._sums[image.plane].shape[0]} and {image.batch} images")
        self._sums[image.plane] = self._sums[image.plane].add_(mean) if image.plane in self._sums else mean
        self._counts[image.plane] = self._counts.get(image.plane, 0) + 1
        return image.plane

    def maps(self) -> list[ResolutionMap]:
        """The means so far, the finest grid first; ValueError where nothing was added."""
        if not self._sums:
            raise ValueError("no attention record was given")
        finest_first = sorted(self._sums, key=lambda grid: grid[0] * grid[1], reverse=True)
        return [ResolutionMap(grid, self._sums[grid] / self._counts[grid]) for grid in finest_first]


def resolution_maps(
    records: Iterable[AttentionRecord], dtype: torch.dtype = torch.float32, max_tokens: int = 9216
) -> list[ResolutionMap]:
    """Average the maps of each resolution over layers and heads; see `ResolutionMeans`."""
    means = ResolutionMeans(dtype, max_tokens)
    for record in records:
        means.add(record)
    return means.maps()


def aggregate(maps: Sequence[ResolutionMap]) -> Float[Tensor, "batch n n"]:
    """One row-stochastic matrix over the finest grid (H, W), n = H·W.

    P = Σ_r w_r · repeat(normalise(upsample(P_r))): the key axes are upsampled bilinearly (half-pixel centres)
    and renormalised, the query axes repeated. w_r is proportional to the side √(h·w) of resolution r, and
    each *resolution* counts once, however many layers it has. Grids need not divide each other: a fine
    query token takes the coarse one that its centre lies in. Source: Tian et al. 2024 (DiffSeg), section 3.2.
    """
    finest = max((part.grid for part in maps), key=lambda grid: grid[0] * grid[1])
    sides = torch.tensor([float(part.grid[0] * part.grid[1]) for part in maps], dtype=torch.float64).sqrt()
    weights = (sides / sides.sum()).tolist()
    n, first = finest[0] * finest[1], maps[0].matrix
    total = first.new_zeros(first.shape[0], n, n)
    for part, weight in zip(maps, weights, strict=True):
        queries = coarse_index(finest, part.grid).to(first.device)
        for row, matrix in zip(total, part.matrix, strict=True):
            row.add_(_upsampled_keys(matrix, part.grid, finest)[queries], alpha=weight)
    return total


def coarse_index(fine: Grid, coarse: Grid) -> Int[Tensor, " n"]:
    """For each token of the fine grid the token of the coarse grid that holds its centre."""
    rows, columns = (
        ((2 * torch.arange(many) + 1) * few).div(2 * many, rounding_mode="floor")
        for many, few in zip(fine, coarse, strict=True)
    )
    return (rows[:, None] * coarse[1] + columns).flatten()


def _upsampled_keys(matrix: Float[Tensor, "m m"], grid: Grid, finest: Grid) -> Float[Tensor, "m n"]:
    if grid == finest:
        return matrix
    keys = matrix.unflatten(-1, grid).unsqueeze(1)
    fine = F.interpolate(keys, finest, mode="bilinear", align_corners=False).flatten(1)
    return fine / fine.sum(-1, keepdim=True)


def _head_mean(image: AttentionRecord, dtype: torch.dtype) -> Float[Tensor, "batch n n"]:
    """One head at a time: all heads of one layer at 64×64 would be half a gigabyte."""
    dtype = torch.promote_types(dtype, torch.float32)
    device = device_for(dtype, image.q.device)
    if device != image.q.device:
        mask = None if image.mask is None else image.mask.to(device)
        image = replace(image, q=image.q.to(device), k=image.k.to(device), mask=mask)
    total = image.q.new_zeros(image.batch, image.tokens, image.tokens, dtype=dtype)
    for index, mean in enumerate(total):
        one = image.select(index)
        for head in range(image.heads):
            mean.add_(_one_head(one, head, dtype).maps()[0, 0], alpha=1 / image.heads)
    return total


def _one_head(record: AttentionRecord, head: int, dtype: torch.dtype) -> AttentionRecord:
    chosen, mask = slice(head, head + 1), record.mask
    if mask is not None and mask.ndim >= 3 and mask.shape[-3] != 1:
        mask = mask[..., chosen, :, :]
    q, k = record.q[:, chosen].to(dtype), record.k[:, chosen].to(dtype)
    return replace(record, q=q, k=k, mask=mask)
