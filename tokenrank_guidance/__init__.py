"""Attention as a Markov chain: capture it, rank its tokens, bounce through it."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tokenrank_guidance.lazy import lazy

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
    "__version__",
    "capture",
    "column_sum",
    "multi_bounce",
    "second_eigenvalue",
    "stationary_distribution",
    "tokenrank",
    "tokenrank_score",
]

if TYPE_CHECKING:
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
    from tokenrank_guidance.version import __version__
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "tokenrank_guidance.capture": "AttentionRecord AttentionTap capture",
            "tokenrank_guidance.errors": "CaptureError ConvergenceError TokenRankError UnsupportedError",
            "tokenrank_guidance.markov": (
                "AttentionTransition DenseTransition MixtureTransition TransitionOperator column_sum "
                "multi_bounce second_eigenvalue stationary_distribution tokenrank tokenrank_score"
            ),
            "tokenrank_guidance.version": "__version__",
        },
    )


class _Package(ModuleType):
    """`capture` is the function, whoever imports the subpackage of that name, and whenever."""

    @property
    def capture(self) -> Any:
        return import_module(f"{__name__}.capture").capture

    @capture.setter
    def capture(self, module: ModuleType) -> None:
        """What Python does with a subpackage once it is imported: let it be."""


sys.modules[__name__].__class__ = _Package
