"""Guided sampling: Self-Attention Guidance that ranks tokens by attention received or by TokenRank."""

from sag.degraded import GuidedStep
from sag.guidance import SelfAttentionGuidance
from sag.guider import TokenRankGuider
from sag.scorers import ColumnSumScorer, Scorer, TokenRankScorer

__all__ = [
    "ColumnSumScorer",
    "GuidedStep",
    "Scorer",
    "SelfAttentionGuidance",
    "TokenRankGuider",
    "TokenRankScorer",
]
