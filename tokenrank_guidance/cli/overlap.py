"""How far TokenRank and SAG agree on which tokens to blur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sag.guidance import SelfAttentionGuidance
from sag.hook import GuidedStep
from sag.mask import salient, score_image
from sag.scorers import ColumnSumScorer, Scorer, TokenRankScorer
from tokenrank_guidance.capture import AttentionRecord

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class StepMasks:
    """Which tokens one guided denoiser call blurred (`own`), and which the other scorer would have.

    Of soft masks: which were blurred by more than half.
    """

    number: int
    timestep: float
    own: Bool[Tensor, "images h w"]
    other: Bool[Tensor, "images h w"]


@dataclass
class PairedScorer:
    """Scores with `own`, and keeps what `other` says of the same attention."""

    own: Scorer
    other: Scorer
    seen: list[tuple[AttentionRecord, Float[Tensor, "batch tokens"]]] = field(default_factory=list)

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        self.seen.append((_outline(record), self.other(record).cpu()))
        return self.own(record)

    def masks(self, steps: Sequence[GuidedStep], threshold: float) -> list[StepMasks]:
        """Both masks of each of `steps`, all those that were scored since this scorer was made."""
        layers = len(self.seen) // max(len(steps), 1)
        return [
            StepMasks(
                step.number,
                step.timestep,
                salient(step.score, threshold).cpu(),
                self._other(slice(i * layers, (i + 1) * layers), threshold),
            )
            for i, step in enumerate(steps)
        ]

    def _other(self, layers: slice, threshold: float) -> Bool[Tensor, "batch h w"]:
        records, scores = zip(*self.seen[layers], strict=True)
        remembered = iter(scores)
        return salient(score_image(records, lambda _: next(remembered)), threshold)


def _outline(record: AttentionRecord) -> AttentionRecord:
    """The record without its numbers: its batch, grid and tokens, in no memory."""
    return replace(record, q=record.q[..., :0].clone(), k=record.k[..., :0].clone(), mask=None)


def paired_scorer(arm: str, guidance: SelfAttentionGuidance) -> PairedScorer:
    """The scorer of arm "sag" or "tokenrank", with the other one watching."""
    received = ColumnSumScorer()
    rank = TokenRankScorer(guidance.damping, guidance.head_weights)
    return PairedScorer(received, rank) if arm == "sag" else PairedScorer(rank, received)


def join(batches: Sequence[Sequence[StepMasks]]) -> list[StepMasks]:
    """The steps of several batches of the same sampling as those of one."""
    return [
        replace(parts[0], own=torch.cat([p.own for p in parts]), other=torch.cat([p.other for p in parts]))
        for parts in zip(*batches, strict=True)
    ]


def intersection_over_union(
    first: Bool[Tensor, "images h w"], second: Bool[Tensor, "images h w"]
) -> Float[Tensor, " images"]:
    """|A ∩ B| / |A ∪ B| of each image's masks; 1 where both are empty."""
    both = (first & second).sum((1, 2)).double()
    either = (first | second).sum((1, 2)).double()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def bootstrap_interval(values: Float[Tensor, " n"], seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile-bootstrap interval of the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    tail = (1 - LEVEL) / 2
    low, high = values[draws].mean(1).quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high
