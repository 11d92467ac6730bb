"""Guided sampling: Self-Attention Guidance that ranks tokens by attention received or by TokenRank."""

from typing import TYPE_CHECKING, Any

from sag.degraded import GuidedStep
from sag.guidance import SelfAttentionGuidance
from sag.scorers import ColumnSumScorer, Scorer, TokenRankScorer

if TYPE_CHECKING:
    from sag.guider import TokenRankGuider

__all__ = [
    "ColumnSumScorer",
    "GuidedStep",
    "Scorer",
    "SelfAttentionGuidance",
    "TokenRankGuider",
    "TokenRankScorer",
]


def __getattr__(name: str) -> Any:
    if name == "TokenRankGuider":  # its base class brings diffusers, which nothing else here imports
        from sag.guider import TokenRankGuider

        return TokenRankGuider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
