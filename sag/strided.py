"""TokenRank of a part of the tokens, and one bounce to the others: for videos, whose chains are long."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import mix_heads, stationary_distribution
from tokenrank_guidance.markov.heads import lambda2_head_weights
from tokenrank_guidance.markov.precision import full_precision

CHUNK_BYTES = 32 * 2**20


def strided_score(
    record: AttentionRecord, stride: int, damping: float, head_weights: Literal["mean", "lambda2"]
) -> Float[Tensor, "batch tokens"]:
    """N·(π_S P), π_S TokenRank of the chain over every `stride`-th row and column of tokens, S.

    That chain costs stride⁴ times less a product, and the bounce stride² times less than one over all tokens;
    frames are all taken. At stride 1 it is one bounce more than N·π. Nothing of the size of a map is held.
    """
    image = record.restrict("image")
    chosen = every(record.grid, stride, image.tokens).to(image.q.device)
    part = image.transition().restrict(chosen)
    weights = lambda2_head_weights(part) if head_weights == "lambda2" else None
    rank = stationary_distribution(mix_heads(part, "mean" if weights is None else weights), damping=damping)
    even = torch.full((image.batch, image.heads), 1 / image.heads, device=image.q.device)
    return image.tokens * bounced(image, chosen, rank.value, even if weights is None else weights)


def every(grid: tuple[int, ...] | None, stride: int, tokens: int) -> Int[Tensor, " chosen"]:
    """The tokens in every `stride`-th row and column of a grid, from the middle of the first ones on.

    A side shorter than that is taken by its middle alone. ValueError without a grid.
    """
    if grid is None:
        raise ValueError(f"a stride of {stride} needs a grid of tokens, and {tokens} tokens have none")
    index = torch.arange(tokens).view(-1, *grid[-2:])
    rows, columns = (torch.arange(min(stride, side) // 2, side, stride) for side in grid[-2:])
    return index[:, rows][:, :, columns].flatten()


def bounced(
    image: AttentionRecord,
    chosen: Int[Tensor, " chosen"],
    start: Float[Tensor, "batch chosen"],
    head_weights: Float[Tensor, "batch heads"],
) -> Float[Tensor, "batch tokens"]:
    """``start @ P`` of the heads' mixture, from the chosen tokens alone, in chunks of them."""
    total = torch.zeros(image.batch, image.tokens, dtype=start.dtype, device=start.device)
    size = max(1, CHUNK_BYTES // (image.batch * image.heads * image.tokens * start.element_size()))
    shares = head_weights.to(start.dtype)[..., None] * start[:, None]
    with full_precision(start.device):
        for place in torch.arange(len(chosen), device=chosen.device).split(size):
            rows = image.rows(chosen[place]).to(start.dtype)
            total += (shares[..., None, place] @ rows).squeeze(-2).sum(1)
    return total
