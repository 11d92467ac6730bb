"""How far attention maps are from each other."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.precision import full_precision

FLOOR = 1e-30  # below every probability that matters, and a normal number in float32: no log is infinite
BLOCK = 2**22  # entries of `maps` whose logarithms are held at once


@torch.no_grad()
def symmetric_kl(
    anchors: Float[Tensor, "anchors n"], maps: Float[Tensor, "maps n"]
) -> Float[Tensor, "anchors maps"]:
    """½[Σ a(log a − log m) + Σ m(log m − log a)] of every anchor and every map, in nats.

    Two matrix products and two vectors of entropies, never the (anchors, maps, n) cube; in float32 or better.
    Logarithms are floored at `FLOOR` and negative rounding errors are 0. Raises ValueError unless both hold
    finite, non-negative numbers over the same tokens. Source: Tian et al. 2024 (DiffSeg), section 3.2.
    """
    _check(anchors, "anchors")
    _check(maps, "maps")
    if anchors.shape[1] != maps.shape[1]:
        raise ValueError(f"anchors over {anchors.shape[1]} tokens, maps over {maps.shape[1]}")
    dtype = torch.promote_types(torch.promote_types(anchors.dtype, maps.dtype), torch.float32)
    a, log_a = anchors.to(dtype), _log(anchors.to(dtype))
    result = a.new_empty(len(a), len(maps))
    rows = max(1, BLOCK // maps.shape[1])
    with full_precision(a.device):
        for start in range(0, len(maps), rows):
            m = maps[start : start + rows].to(dtype)
            log_m = _log(m)
            cross = torch.addmm(log_a @ m.mT, a, log_m.mT)
            result[:, start : start + rows] = (m * log_m).sum(-1) - cross
    result += (a * log_a).sum(-1, keepdim=True)
    return result.mul_(0.5).clamp_min_(0)


def _log(values: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    return values.clamp_min(FLOOR).log_()


def _check(values: Tensor, name: str) -> None:
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(f"{name}: shape {tuple(values.shape)}, expected (count, tokens), neither of them 0")
    low, high = (end.item() for end in values.aminmax())
    if not (low >= 0 and high < math.inf):
        raise ValueError(f"{name}: entries in [{low:.4g}, {high:.4g}], expected finite, non-negative ones")
