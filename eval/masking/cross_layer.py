"""One chain through several layers, started at the class token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eval.masking.class_attention import mean_one, rollout
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import mix_heads, stationary_distribution

Records = Sequence[AttentionRecord]
Scores = Float[Tensor, "batch patches"]


def deepest(records: Records, share: float) -> Records:
    """The last layers, `share` of them all, at least one."""
    return records[-max(1, round(share * len(records))) :]


@dataclass(frozen=True)
class LazyWalk:
    """`x A_L ... A_l` from the class token through the last `share` of the layers, `A = s I + (1 - s) P`.

    Attention rollout is the walk with s = 1/2 through all of them. s is how often the walk stays, which is
    what the residual connection does.
    """

    share: float
    staying: float = 0.5

    def __call__(self, records: Records) -> Scores:
        return rollout(deepest(records, self.share), self.staying)


@dataclass(frozen=True)
class ClassTokenRank:
    """TokenRank of the last layers' heads in one chain, with every restart at the class token.

    `x = d x P + (1 - d) e_cls`, P the mean of all heads of the last `share` of the layers, weighted by their
    λ2 if `head_weights` is "lambda2": a walk of on average d / (1 - d) bounces from the class token. Its
    patches are brought to mean 1. Raises ValueError for a model without a class token.
    """

    share: float
    damping: float
    head_weights: Literal["mean", "lambda2"] = "mean"

    def __call__(self, records: Records) -> Scores:
        joint = joined(deepest(records, self.share))
        if joint.class_token is None:
            raise ValueError(f"{joint.module or 'the model'} has no class token to restart at: use tokenrank")
        chain = mix_heads(joint.transition(), self.head_weights)
        restart = torch.zeros(joint.tokens, dtype=chain.dtype, device=chain.device)
        restart[joint.class_token] = 1
        result = stationary_distribution(chain, damping=self.damping, personalization=restart)
        return mean_one(result.value[:, joint.image])


def joined(records: Records) -> AttentionRecord:
    """The heads of several layers as those of one; ValueError for layers of unequal scale or with masks."""
    if any(record.scale != records[0].scale or record.mask is not None for record in records):
        raise ValueError("layers of different scales, or with attention masks, make no common chain")
    q, k = (torch.cat([getattr(record, side) for record in records], 1) for side in ("q", "k"))
    return replace(records[-1], q=q, k=k)
