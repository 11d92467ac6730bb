"""Guided sampling: Self-Attention Guidance that ranks tokens by attention received or by TokenRank."""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = [
    "SCORERS",
    "AcrossLayers",
    "ColumnSumScorer",
    "GradientChainScorer",
    "GradientRolloutScorer",
    "GuidanceSettings",
    "GuidedStep",
    "RolloutScorer",
    "Scorer",
    "SelfAttentionGuidance",
    "TokenRankGuider",
    "TokenRankScorer",
    "guidance_of",
]

if TYPE_CHECKING:
    from sag.across_layers import AcrossLayers, GradientChainScorer, GradientRolloutScorer, RolloutScorer
    from sag.degraded import GuidedStep
    from sag.guidance import SelfAttentionGuidance, guidance_of
    from sag.guider import TokenRankGuider
    from sag.scorers import SCORERS, ColumnSumScorer, Scorer, TokenRankScorer
    from sag.settings import GuidanceSettings
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "sag.degraded": "GuidedStep",
            "sag.guidance": "SelfAttentionGuidance guidance_of",
            "sag.guider": "TokenRankGuider",
            "sag.settings": "GuidanceSettings",
            "sag.across_layers": "AcrossLayers GradientChainScorer GradientRolloutScorer RolloutScorer",
            "sag.scorers": "SCORERS ColumnSumScorer Scorer TokenRankScorer",
        },
    )
