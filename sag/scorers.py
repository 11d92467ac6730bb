"""Scores that say which tokens matter: each maps a record to (batch, tokens) with mean 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sag.settings import Settings
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import column_sum, tokenrank_score

Scorer = Callable[[AttentionRecord], Float[Tensor, "batch tokens"]]


@dataclass(frozen=True)
class TokenRankScorer:
    """N·π, with π the stationary distribution of the image tokens' damped chain (Erel et al. 2025).

    Raises ValueError for a damping outside (0, 1), and for unknown head weights.
    """

    damping: float = 0.99
    head_weights: Literal["mean", "lambda2"] = "mean"

    def __post_init__(self) -> None:
        Settings(damping=self.damping, head_weights=self.head_weights)

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        chain = record.transition(tokens="image")
        return tokenrank_score(chain, damping=self.damping, head_weights=self.head_weights)


@dataclass(frozen=True)
class ColumnSumScorer:
    """Attention received, Σᵢ Pᵢⱼ of the heads' mean, as in Self-Attention Guidance (Hong et al. 2023)."""

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        return column_sum(record.transition(tokens="image"), head_weights="mean")
