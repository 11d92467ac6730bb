"""Attention as a Markov chain: capture it, rank its tokens, bounce through it."""

from tokenrank_guidance.capture import AttentionRecord, AttentionTap, capture
from tokenrank_guidance.errors import CaptureError, ConvergenceError, TokenRankError, UnsupportedError
from tokenrank_guidance.markov import (
    AttentionTransition,
    DenseTransition,
    MixtureTransition,
    TransitionOperator,
    column_sum,
    multi_bounce,
    second_eigenvalue,
    stationary_distribution,
    tokenrank,
    tokenrank_score,
)

__all__ = [
    "AttentionRecord",
    "AttentionTap",
    "AttentionTransition",
    "CaptureError",
    "ConvergenceError",
    "DenseTransition",
    "MixtureTransition",
    "TokenRankError",
    "TransitionOperator",
    "UnsupportedError",
    "capture",
    "column_sum",
    "multi_bounce",
    "second_eigenvalue",
    "stationary_distribution",
    "tokenrank",
    "tokenrank_score",
]
