"""Guided sampling: Self-Attention Guidance that ranks tokens by attention received or by TokenRank."""

from sag.guidance import SelfAttentionGuidance
from sag.hook import GuidedStep
from sag.scorers import ColumnSumScorer, Scorer, TokenRankScorer

__all__ = ["ColumnSumScorer", "GuidedStep", "Scorer", "SelfAttentionGuidance", "TokenRankScorer"]
