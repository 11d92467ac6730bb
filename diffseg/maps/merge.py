"""From anchors to segments: iterative merging of attention maps that are close in divergence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffseg.maps.kl import symmetric_kl
from tokenrank_guidance.markov.precision import full_precision


def merge(
    maps: Float[Tensor, "n n"], anchors: Int[Tensor, " anchors"], thresholds: Sequence[float]
) -> Float[Tensor, "segments n"]:
    """Merge maps into segments, once for each threshold (nats).

    First every anchor averages all n maps with KL < τ. Each later time, in order, a proposal that is not yet
    matched averages *all* proposals with KL < τ, those already matched by an earlier one too, and they count
    as matched. Source: Tian et al. 2024 (DiffSeg), section 3.2, in the order of its code.
    """
    return merge_near(maps, symmetric_kl(maps[anchors], maps), anchors, thresholds)


def merge_near(
    maps: Float[Tensor, "n n"],
    divergence: Float[Tensor, "anchors n"],
    anchors: Int[Tensor, " anchors"],
    thresholds: Sequence[float],
) -> Float[Tensor, "segments n"]:
    """The same, given the anchors' rows of the divergence."""
    return merge_proposals(average(maps, neighbours(divergence, anchors, thresholds[0])), thresholds[1:])


def neighbours(
    divergence: Float[Tensor, "anchors n"], anchors: Int[Tensor, " anchors"], threshold: float
) -> Bool[Tensor, "anchors n"]:
    """Which maps each anchor averages in the first merge: its own among them, whatever rounding says."""
    near = divergence < threshold
    near[torch.arange(len(anchors), device=near.device), anchors] = True
    return near


def merge_proposals(
    proposals: Float[Tensor, "proposals n"], thresholds: Sequence[float]
) -> Float[Tensor, "segments n"]:
    """The later merges; a threshold that can change nothing any more costs nothing."""
    settled = 0.0  # all proposals are at least this far apart
    for threshold in thresholds:
        if threshold <= settled:
            continue
        near = symmetric_kl(proposals, proposals) < threshold
        near.fill_diagonal_(True)
        if int(near.sum()) == len(near):
            settled = threshold
            continue
        proposals, settled = average(proposals, near[leaders(near)]), 0.0
    return proposals


def leaders(near: Bool[Tensor, "m m"]) -> Int[Tensor, " segments"]:
    """The proposals that no earlier one has matched by the time it is their turn."""
    table = near.cpu().numpy()
    matched, chosen = table[0] & False, []
    for index, members in enumerate(table):
        if not matched[index]:
            chosen.append(index)
            matched |= members
    return torch.tensor(chosen, device=near.device)


def average(maps: Float[Tensor, "m n"], members: Bool[Tensor, "k m"]) -> Float[Tensor, "k n"]:
    """The mean of each row's members, as one matrix product."""
    with full_precision(maps.device):
        return (members.to(maps.dtype) @ maps) / members.sum(-1, keepdim=True)
