"""Scores that say which tokens matter: each maps a record to (batch, tokens) with mean 1.

`SCORERS` are those that guidance, its guider, the arms of an experiment and the command line know by name.
Nothing here needs torch before a score is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sag.across_layers import AcrossLayers, GradientChainScorer, GradientRolloutScorer, RolloutScorer
from tokenrank_guidance.checks import is_damping, is_one_of, is_whole

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from tokenrank_guidance.capture import AttentionRecord

HEAD_WEIGHTS = ("mean", "lambda2")
DIRECTIONS = ("outgoing", "incoming")


Scorer = Callable[["AttentionRecord"], "Float[Tensor, 'batch tokens']"] | AcrossLayers


@dataclass(frozen=True)
class TokenRankScorer:
    """N·π, with π the stationary distribution of the image tokens' damped chain (Erel et al. 2025).

    `direction`: of the "outgoing" chain P, or of the "incoming" one, P_in[j, i] = P[i, j] / Σ_i P[i, j].
    `stride`: 2 and more rank every stride-th row and column of tokens, and all others by one bounce from
    these (see `sag.strided`), which long videos need. Raises ValueError for a damping outside (0, 1), unknown
    head weights, another direction, and a stride of the incoming chain.
    """

    damping: float = 0.99
    head_weights: Literal["mean", "lambda2"] = "mean"
    direction: Literal["outgoing", "incoming"] = "outgoing"
    stride: int = 1

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("damping", is_damping(self.damping), "a number in (0, 1)"),
            ("head_weights", is_one_of(self.head_weights, HEAD_WEIGHTS), f"one of {HEAD_WEIGHTS}"),
            ("direction", is_one_of(self.direction, DIRECTIONS), "'outgoing' or 'incoming'"),
            (
                "stride",
                is_whole(self.stride) and (self.stride == 1 or self.direction == "outgoing"),
                "a whole number ≥ 1, 1 where the direction is incoming",
            ),
        ):
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        from tokenrank_guidance.markov import IncomingTransition, tokenrank_score

        if self.stride > 1:
            from sag.strided import strided_score

            return strided_score(record, self.stride, self.damping, self.head_weights)
        chain = record.transition(tokens="image")
        if self.direction == "incoming":
            chain = IncomingTransition(chain)
        return tokenrank_score(chain, damping=self.damping, head_weights=self.head_weights)


@dataclass(frozen=True)
class ColumnSumScorer:
    """Attention received, Σᵢ Pᵢⱼ of the heads' mean, as in Self-Attention Guidance (Hong et al. 2023)."""

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        from tokenrank_guidance.markov import column_sum

        return column_sum(record.transition(tokens="image"), head_weights="mean")


def reads_gradients(scorer: Scorer) -> bool:
    """Whether it is given records with gradients, which cost guidance a pass forward and back."""
    return isinstance(scorer, AcrossLayers) and scorer.gradients


class ChainSettings(Protocol):
    """Those of a guidance that a scorer may read."""

    @property
    def damping(self) -> float: ...
    @property
    def head_weights(self) -> Literal["mean", "lambda2"]: ...


@dataclass(frozen=True)
class NamedScorer:
    """A scorer with a name: what pictures call it, how it is made, and which settings it `reads` alone."""

    title: str
    make: Callable[[ChainSettings], Scorer]
    reads: tuple[str, ...] = ()


def _ranked(direction: Any) -> Callable[[ChainSettings], Scorer]:
    return lambda settings: TokenRankScorer(settings.damping, settings.head_weights, direction)


OF_CHAINS = ("damping", "head_weights")
SCORERS: dict[str, NamedScorer] = {
    "tokenrank": NamedScorer("TokenRank", _ranked("outgoing"), OF_CHAINS),
    "sag": NamedScorer("SAG", lambda settings: ColumnSumScorer()),
    "tokenrank-incoming": NamedScorer("TokenRank, incoming", _ranked("incoming"), OF_CHAINS),
    "tokenrank-stride2": NamedScorer(
        "TokenRank of every 2nd row and column",
        lambda settings: TokenRankScorer(settings.damping, settings.head_weights, stride=2),
        OF_CHAINS,
    ),
    "rollout": NamedScorer("rollout", lambda settings: RolloutScorer()),
    "gradient-chain": NamedScorer(
        "TokenRank of the gradient's chain",
        lambda settings: GradientChainScorer(settings.damping),
        ("damping",),
    ),
    "gradient-rollout": NamedScorer("rollout of gradients", lambda settings: GradientRolloutScorer()),
}


def unread_by(name: str) -> list[str]:
    """The settings that other scorers read, and this one does not: they would have no effect."""
    known = dict.fromkeys(setting for scorer in SCORERS.values() for setting in scorer.reads)
    return [setting for setting in known if setting not in SCORERS[name].reads]
