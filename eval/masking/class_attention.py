"""What the class token attends to: in one layer, and through all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance import markov
from tokenrank_guidance.capture import AttentionRecord


def cls_attention(record: AttentionRecord) -> Float[Tensor, "batch patches"]:
    """Mean over heads of the class token's row of the map, its patches brought to mean 1.

    Raises ValueError for a model without a class token.
    """
    if record.class_token is None:
        raise ValueError(
            f"{record.module or 'the model'} has no class token, so it has no CLS attention: use column_sum, "
            "rollout or tokenrank"
        )
    return mean_one(markov.attention_from(record, record.class_token)[:, record.image])


def rollout(records: Sequence[AttentionRecord], staying: float = 0.5) -> Float[Tensor, "batch patches"]:
    """Attention rollout from the class token, or from all tokens where there is none; mean 1 over patches.

    The registers take part in the walk. See `tokenrank_guidance.markov.rollout`.
    """
    last, start = records[-1], None
    if last.class_token is not None:
        start = torch.zeros(last.batch, last.tokens, device=last.q.device)
        start[:, last.class_token] = 1
    return mean_one(markov.rollout(records, start, staying)[..., last.image].expand(last.batch, -1))


def mean_one(score: Float[Tensor, "batch patches"]) -> Float[Tensor, "batch patches"]:
    """Divided by its mean over patches."""
    return score / score.mean(-1, keepdim=True)
