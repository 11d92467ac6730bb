"""Scores that the experiments try beside those of `sag.scorers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sag.settings import Settings
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.checks import is_one_of
from tokenrank_guidance.markov import DenseTransition, tokenrank_score


@dataclass(frozen=True)
class TokenRankAlong:
    """N·π of the outgoing chain P, or of the incoming one, P_in[j, i] = P[i, j] / Σ_i P[i, j]."""

    direction: Literal["outgoing", "incoming"] = "outgoing"
    damping: float = 0.99
    head_weights: Literal["mean", "lambda2"] = "mean"

    def __post_init__(self) -> None:
        if not is_one_of(self.direction, ("outgoing", "incoming")):
            raise ValueError(f"direction is {self.direction!r}; expected outgoing or incoming")
        Settings(damping=self.damping, head_weights=self.head_weights)

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        chain = record.transition(tokens="image")
        if self.direction == "incoming":
            received = chain.to_dense().transpose(-1, -2)
            chain = DenseTransition(received / received.sum(-1, keepdim=True))
        return tokenrank_score(chain, damping=self.damping, head_weights=self.head_weights)


def quantiles(score: Float[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """2·(rank + ½)/N, the ranks counted from the lowest score: mean 1, above 2q for the 1 − q highest."""
    count = score.shape[-1]
    ranks = torch.argsort(torch.argsort(score, dim=-1, stable=True), dim=-1)
    return (2 * ranks.to(score.dtype) + 1) / count
