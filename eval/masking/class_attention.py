"""What the class token attends to: in one layer, and through all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov.precision import compute_dtype, full_precision


def cls_attention(record: AttentionRecord) -> Float[Tensor, "batch patches"]:
    """Mean over heads of the class token's row of the map, its patches brought to mean 1.

    Only that row is computed. Raises ValueError for a model without a class token.
    """
    if record.class_token is None:
        raise ValueError(
            f"{record.module or 'the model'} has no class token, so it has no CLS attention: use column_sum, "
            "rollout or tokenrank"
        )
    return _mean_one(_row(record, record.class_token).mean(1)[:, record.image])


def rollout(records: Sequence[AttentionRecord], staying: float = 0.5) -> Float[Tensor, "batch patches"]:
    """Attention rollout, `x A_L ... A_1` with `A = s I + (1 - s) P`, P the heads' mean; mean 1 over patches.

    x is the class token, or uniform over all tokens where there is none (the column mean of the product). As
    a row vector goes through the layers from the last to the first, no product of two maps is ever made. The
    registers take part in the walk. Source: Abnar and Zuidema 2020, arXiv 2005.00928.
    """
    last = records[-1]
    x = torch.full((last.batch, last.tokens), 1 / last.tokens, dtype=compute_dtype(last.q.dtype))
    x = x.to(last.q.device)
    if last.class_token is not None:
        x = torch.zeros_like(x)
        x[:, last.class_token] = 1
    for record in reversed(records):
        attended = record.transition().apply(x.unsqueeze(1)).mean(1)
        x = staying * x + (1 - staying) * attended
    return _mean_one(x[:, last.image])


def _row(record: AttentionRecord, token: int) -> Float[Tensor, "batch heads tokens"]:
    """One row of every head's map."""
    if record.mask is not None:
        return record.maps()[:, :, token]
    dtype = compute_dtype(record.q.dtype)
    with full_precision(record.q.device):
        query = record.q[:, :, token : token + 1].to(dtype) * record.scale
        return (query @ record.k.to(dtype).mT).squeeze(2).softmax(-1)


def _mean_one(score: Float[Tensor, "batch patches"]) -> Float[Tensor, "batch patches"]:
    return score / score.mean(-1, keepdim=True)
